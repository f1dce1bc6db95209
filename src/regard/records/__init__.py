"""The narrow waist: versioned run files, written atomically, read without torch.

Everything that trains, evaluates or watches writes a run folder; everything that judges or draws reads one. This room
imports only ``regard._errors`` and never torch, so that a saved run opens on any machine.
"""

from regard.records.atomic import atomic_path, write_bytes, write_json
from regard.records.book import ALIGNMENT_COLUMNS, Book, BookSegment
from regard.records.checks import CHECKS_VERSION, CheckCase, CheckedRule, Checks, CheckVerdict
from regard.records.heads import HEAD_COLUMNS, HeadTable
from regard.records.run import SCHEMA_VERSION, Run
from regard.records.schema import (
    Evidence,
    Finding,
    Interval,
    ModelScore,
    ReadinessItem,
    RunInfo,
    Severity,
    Status,
    Verdict,
)
from regard.records.writer_lock import LOCK_NAME, one_writer

__all__ = [
    "ALIGNMENT_COLUMNS",
    "CHECKS_VERSION",
    "HEAD_COLUMNS",
    "LOCK_NAME",
    "SCHEMA_VERSION",
    "Book",
    "BookSegment",
    "CheckCase",
    "CheckVerdict",
    "CheckedRule",
    "Checks",
    "Evidence",
    "Finding",
    "HeadTable",
    "Interval",
    "ModelScore",
    "ReadinessItem",
    "Run",
    "RunInfo",
    "Severity",
    "Status",
    "Verdict",
    "atomic_path",
    "one_writer",
    "write_bytes",
    "write_json",
]
