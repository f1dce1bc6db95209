"""Watch a live model: exact statistics of every attention call, with its kernel and its bits kept.

``watch`` takes any ``nn.Module``; it does not know our own models. This room may import functional and records; the
files that it writes are read by ``diagnose`` and ``viewer``, which never import it.
"""

from regard.observe.adapters import Adapter
from regard.observe.calls import AttentionCall
from regard.observe.coverage import Coverage, merge_coverage
from regard.observe.moments import Moments
from regard.observe.recorders import HeadRecorder, Recorder
from regard.observe.view import STATISTICS, View
from regard.observe.watch import Watch, watch

__all__ = [
    "STATISTICS",
    "Adapter",
    "AttentionCall",
    "Coverage",
    "HeadRecorder",
    "Moments",
    "Recorder",
    "View",
    "Watch",
    "merge_coverage",
    "watch",
]
