"""Watch a live model: exact statistics of every attention call, with its kernel and its bits kept.

``watch`` takes any ``nn.Module``; it does not know our own models. This room may import functional and records; the
files that it writes are read by ``diagnose`` and ``viewer``, which never import it.
"""

from regard.observe.adapters import Adapter
from regard.observe.calls import AttentionCall
from regard.observe.changes import ChangeScores
from regard.observe.coverage import Coverage, merge_coverage
from regard.observe.explanation import Explanation, PairWeights
from regard.observe.guard import Guard, guard
from regard.observe.guarding.causes import FAULTS, WARNINGS, GuardLimits
from regard.observe.guarding.finding import Finding
from regard.observe.guarding.first_nonfinite import first_nonfinite
from regard.observe.kept import Kept, TopKey
from regard.observe.moments import Moments
from regard.observe.recorders import (
    HeadRecorder,
    LogRecorder,
    PlotJugglerRecorder,
    PrometheusRecorder,
    Recorder,
    TensorBoardRecorder,
    TrackerRecorder,
)
from regard.observe.table import Table
from regard.observe.view import STATISTICS, View
from regard.observe.watch import Watch, watch
from regard.observe.words import Word

__all__ = [
    "FAULTS",
    "STATISTICS",
    "WARNINGS",
    "Adapter",
    "AttentionCall",
    "ChangeScores",
    "Coverage",
    "Explanation",
    "Finding",
    "Guard",
    "GuardLimits",
    "HeadRecorder",
    "Kept",
    "LogRecorder",
    "Moments",
    "PairWeights",
    "PlotJugglerRecorder",
    "PrometheusRecorder",
    "Recorder",
    "Table",
    "TensorBoardRecorder",
    "TopKey",
    "TrackerRecorder",
    "View",
    "Watch",
    "Word",
    "first_nonfinite",
    "guard",
    "merge_coverage",
    "watch",
]
