"""What a model costs: operations counted, memory predicted, time measured.

Takes any ``nn.Module``. It may import ``models``, ``modules``, ``functional``, ``observe`` and ``records``; it must not
import ``train``, ``evaluate``, ``conformance`` or anything above. Nothing here changes the model that it looks at.
"""

from regard.cost.account import Account, Share
from regard.cost.advise import Outcome, advice, notes, thread_curve, try_remedy
from regard.cost.attention_work import AttentionWork
from regard.cost.calling import Arguments, Inputs, call_of
from regard.cost.count import count
from regard.cost.curves import AttentionCurves, Way, attention_curves
from regard.cost.drawing import Curve, Mark, draw_curves, one_above_the_other
from regard.cost.estimate import Estimate, Rates, measured_rates
from regard.cost.footprint import Holding
from regard.cost.operation import Operation
from regard.cost.parts import Part, Phase
from regard.cost.plan import Plan, estimated, is_recurrent, largest_that_fits, max_length, plan
from regard.cost.profile import Profile, Row, profile
from regard.cost.remedies import Advice, Remedy, remedies
from regard.cost.scaling import Growth, Scaling, crossover, scaling
from regard.cost.timing import Timing
from regard.cost.workload import Workload

__all__ = [
    "Account",
    "Advice",
    "Arguments",
    "AttentionCurves",
    "AttentionWork",
    "Curve",
    "Estimate",
    "Growth",
    "Holding",
    "Inputs",
    "Mark",
    "Operation",
    "Outcome",
    "Part",
    "Phase",
    "Plan",
    "Profile",
    "Rates",
    "Remedy",
    "Row",
    "Scaling",
    "Share",
    "Timing",
    "Way",
    "Workload",
    "advice",
    "attention_curves",
    "call_of",
    "count",
    "crossover",
    "draw_curves",
    "estimated",
    "is_recurrent",
    "largest_that_fits",
    "max_length",
    "measured_rates",
    "notes",
    "one_above_the_other",
    "plan",
    "profile",
    "remedies",
    "scaling",
    "thread_curve",
    "try_remedy",
]
