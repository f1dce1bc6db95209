"""Whole architectures, built from ``modules``: now BERT, with heads for masked words and for classes.

A model unpacks its config; the layers below never see one. Hugging Face's names live in ``_hf.py`` alone. This room may
import modules, functional and records; it must not import ``observe``, ``data`` or anything above.
"""

from regard.models.bert import Bert
from regard.models.budget import count_parameters, width_for
from regard.models.checkpoint import (
    load_bert,
    load_classifier,
    load_masked_lm,
    save_bert,
    save_classifier,
    save_masked_lm,
)
from regard.models.config import BertConfig
from regard.models.heads import BertForMaskedLM, BertForSequenceClassification
from regard.models.pretrained import minilm_folder
from regard.models.recurrent import Recurrent, RecurrentForCausalLM, RecurrentForSequenceClassification
from regard.models.recurrent_config import RecurrentConfig, RecurrentTranslatorConfig
from regard.models.recurrent_translator import RecurrentMemory, RecurrentTranslator

__all__ = [
    "Bert",
    "BertConfig",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "Recurrent",
    "RecurrentConfig",
    "RecurrentForCausalLM",
    "RecurrentForSequenceClassification",
    "RecurrentMemory",
    "RecurrentTranslator",
    "RecurrentTranslatorConfig",
    "count_parameters",
    "load_bert",
    "load_classifier",
    "load_masked_lm",
    "minilm_folder",
    "save_bert",
    "save_classifier",
    "save_masked_lm",
    "width_for",
]
