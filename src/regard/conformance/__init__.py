"""The laws that attention must obey: which hold, to what tolerance, and which one is broken.

``check`` takes any function, ``nn.Module`` or model; it does not know our own. This room may import functional, observe
and records, and works on private copies only. Each law is one file of ``rules``; ``subjects`` knows how things are
called.
"""

from regard.conformance.adapters import AttentionModule, Model
from regard.conformance.bench import Bench
from regard.conformance.check import check
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome
from regard.conformance.report import Checked, Report
from regard.conformance.rule import Rule
from regard.conformance.rules import RULES
from regard.conformance.stream import Output, Stream
from regard.conformance.subjects.recognise import recognise
from regard.conformance.subjects.subject import Subject
from regard.conformance.traits import Traits

__all__ = [
    "RULES",
    "AttentionModule",
    "Bench",
    "Case",
    "Checked",
    "Model",
    "NotApplicableError",
    "NotTestedError",
    "Outcome",
    "Output",
    "Report",
    "Rule",
    "Stream",
    "Subject",
    "Traits",
    "check",
    "recognise",
]
