"""Watch a live model: exact statistics of every attention call, with its kernel and its bits kept.

``watch`` takes any ``nn.Module``; it does not know our own models. This room may import functional and records; the
files that it writes are read by ``diagnose`` and ``viewer``, which never import it.
"""

from regard.observe.coverage import Coverage, merge_coverage
from regard.observe.moments import Moments
from regard.observe.recorder import HeadRecorder
from regard.observe.view import STATISTICS, View
from regard.observe.watch import watch

__all__ = ["STATISTICS", "Coverage", "HeadRecorder", "Moments", "View", "merge_coverage", "watch"]
