"""The production checklist, executable: each item passes, fails or is not done, with its evidence.

This room reads a run folder through ``records`` and nothing else, so a verdict can be given again years later from the
files. It may import ``regard.records`` and never torch. One file per section of the checklist; an item is a function
from the facts of a run to a verdict and the number behind it. What was not measured is "not done", never "pass".
"""

from regard.readiness.gate import checklist, judge, verdict
from regard.readiness.item import Answer, Item

__all__ = ["Answer", "Item", "checklist", "judge", "verdict"]
