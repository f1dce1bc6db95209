"""What a model costs: operations counted, memory predicted, time measured.

Takes any ``nn.Module``. It may import ``models``, ``modules``, ``functional``, ``observe`` and ``records``; it must not
import ``train``, ``evaluate``, ``conformance`` or anything above. Nothing here changes the model that it looks at.
"""

from regard.cost.account import Account, Share
from regard.cost.attention_work import AttentionWork
from regard.cost.calling import Arguments, Inputs, call_of
from regard.cost.count import count
from regard.cost.drawing import Curve, Mark, draw_curves
from regard.cost.footprint import Holding
from regard.cost.operation import Operation
from regard.cost.parts import Part, Phase
from regard.cost.scaling import Growth, Scaling, crossover, scaling

__all__ = [
    "Account",
    "Arguments",
    "AttentionWork",
    "Curve",
    "Growth",
    "Holding",
    "Inputs",
    "Mark",
    "Operation",
    "Part",
    "Phase",
    "Scaling",
    "Share",
    "call_of",
    "count",
    "crossover",
    "draw_curves",
    "scaling",
]
