"""Whole architectures, built from ``modules``: BERT, decoder, Transformer, recurrent networks, models of numbers.

A model unpacks its config; the layers below never see one. Hugging Face's names live in ``_hf`` alone. This room may
import modules, functional and records; it must not import ``observe``, ``data`` or anything above.
"""

from regard.models._hf.attention import attention_from_hf
from regard.models.bert import Bert
from regard.models.budget import count_parameters, width_for
from regard.models.checkpoint import (
    load_bert,
    load_classifier,
    load_masked_lm,
    load_token_classifier,
    save_bert,
    save_classifier,
    save_masked_lm,
    save_token_classifier,
)
from regard.models.config import BertConfig
from regard.models.decoder import Decoder
from regard.models.decoder_checkpoint import load_decoder, save_decoder
from regard.models.decoder_config import DecoderConfig
from regard.models.forecaster import Forecaster
from regard.models.forecaster_config import ForecasterConfig
from regard.models.frame_config import FrameConfig
from regard.models.frame_model import FrameModel
from regard.models.generation import Beams, Generated, Sampling, Session, beam_search, generate, length_penalty
from regard.models.gguf import load_gguf
from regard.models.heads import BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification
from regard.models.own_checkpoint import (
    load_forecaster,
    load_frame_model,
    load_recurrent,
    save_forecaster,
    save_frame_model,
    save_recurrent,
)
from regard.models.pretrained import minilm_folder, smollm2_file
from regard.models.recurrent import (
    Recurrent,
    RecurrentForCausalLM,
    RecurrentForSequenceClassification,
    RecurrentForTokenClassification,
)
from regard.models.recurrent_config import RecurrentConfig, RecurrentTranslatorConfig
from regard.models.recurrent_translator import RecurrentMemory, RecurrentTranslator
from regard.models.torch_transformer import transformer_from_torch
from regard.models.transformer import Transformer
from regard.models.transformer_checkpoint import load_transformer, save_transformer
from regard.models.transformer_config import TransformerConfig

__all__ = [
    "Beams",
    "Bert",
    "BertConfig",
    "BertForMaskedLM",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "Decoder",
    "DecoderConfig",
    "Forecaster",
    "ForecasterConfig",
    "FrameConfig",
    "FrameModel",
    "Generated",
    "Recurrent",
    "RecurrentConfig",
    "RecurrentForCausalLM",
    "RecurrentForSequenceClassification",
    "RecurrentForTokenClassification",
    "RecurrentMemory",
    "RecurrentTranslator",
    "RecurrentTranslatorConfig",
    "Sampling",
    "Session",
    "Transformer",
    "TransformerConfig",
    "attention_from_hf",
    "beam_search",
    "count_parameters",
    "generate",
    "length_penalty",
    "load_bert",
    "load_classifier",
    "load_decoder",
    "load_forecaster",
    "load_frame_model",
    "load_gguf",
    "load_masked_lm",
    "load_recurrent",
    "load_token_classifier",
    "load_transformer",
    "minilm_folder",
    "save_bert",
    "save_classifier",
    "save_decoder",
    "save_forecaster",
    "save_frame_model",
    "save_masked_lm",
    "save_recurrent",
    "save_token_classifier",
    "save_transformer",
    "smollm2_file",
    "transformer_from_torch",
    "width_for",
]
