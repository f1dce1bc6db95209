"""What the guard remembers of a model, and what it makes of each call."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from regard.observe.guarding.alarms import Alarms
from regard.observe.guarding.bad_gradients import BadGradients
from regard.observe.guarding.causes import Evidence, GuardLimits, Reading, Verdict, fault_of, warnings_of
from regard.observe.guarding.ears import Heard
from regard.observe.guarding.evidence import Numbers, bad_heads, evidence_of, numbers_of
from regard.observe.guarding.finding import Finding, where
from regard.observe.guarding.origin import bad_parameter, origin_of
from regard.observe.guarding.sentences import Circumstances, say
from regard.observe.guarding.trends import Trend

__all__ = ["Judge"]


class Judge:
    """Judges the calls of one model.

    Args:
        model: without wrappers.
        limits: where warnings begin.
    """

    def __init__(self, model: nn.Module, limits: GuardLimits) -> None:
        self._model = model
        self._limits = limits
        self._alarms = Alarms()
        self._trends: dict[str, dict[str, Trend]] = {}
        self._looks: Counter[str] = Counter()
        self._saturated: dict[str, list[float]] = {}
        self._arguments: Mapping[str, Any] = {}
        self._last_finite: str | None = None
        self._has_fault = False

    def begin_forward(self, arguments: Mapping[str, Any]) -> None:
        """Note what the model's forward begins with."""
        self._arguments = arguments
        self._last_finite = None
        self._has_fault = False

    def end_forward(self) -> None:
        """Forget what it began with."""
        self._arguments = {}

    # what is not finite

    def fault(self, step: int, heard: Heard) -> list[Finding]:
        """Judge a call whose output may not be finite, and return what is news; of packed sequences the first such."""
        heard = next((one for one in heard.sequences() if bad_heads(one)), heard)
        heads = bad_heads(heard)
        if not heads:
            self.finite(heard.layer)
            return []
        evidence = {head: evidence_of(heard, head) for head in heads}
        verdicts = {head: fault_of(of_head) for head, of_head in evidence.items()}
        if heard.projected is not None and any(each.cause != "unexplained" for each in verdicts.values()):
            # Only the module's output was seen: the heads to blame are those in which something is wrong.
            verdicts = {head: each for head, each in verdicts.items() if each.cause != "unexplained"}
        found = []
        for cause in dict.fromkeys(each.cause for each in verdicts.values()):
            alike = [head for head, each in verdicts.items() if each.cause == cause]
            worst = max(alike, key=_by_value(verdicts))
            if not (self._has_fault and _came_in(evidence[worst])):
                found += self._tell_fault(step, heard, verdicts[worst], alike, evidence[worst])
        self._has_fault = True
        return found

    def finite(self, layer: str) -> None:
        """Note that the output of ``layer`` was finite."""
        self._last_finite = layer
        self._alarms.pass_by(layer)

    def _tell_fault(
        self, step: int, heard: Heard, verdict: Verdict, heads: Sequence[int], evidence: Evidence
    ) -> list[Finding]:
        layer, origin = heard.layer, None
        if _came_in(evidence):
            bad = bad_parameter(self._model, layer, self._last_finite)
            if bad is None:
                origin = origin_of(self._arguments, self._last_finite)
            else:
                origin = f"the parameter {bad.name}"
                verdict = Verdict(cause="parameter", value=float(bad.num_bad), limit=0.0)
        dtype = heard.call.dtype if heard.factors is None else heard.factors.dtype
        around = Circumstances(dtype=_name(dtype), evidence=evidence, origin=origin)
        return self._news(step, layer, verdict, heads, around)

    # what will not stay so

    def warnings(self, step: int, heard: Heard) -> list[Finding]:
        """Judge a finite call by what it and those before it tell, and return what is news."""
        layer = heard.layer
        self._looks[layer] += 1
        numbers = numbers_of(heard, self._limits.jacobian, self._looks[layer])
        trends = self._remember(step, layer, numbers)
        before = self._saturated.get(layer, [0.0] * len(numbers.score))
        self._saturated[layer] = numbers.saturated
        limit = torch.finfo(heard.call.dtype if heard.factors is None else heard.factors.dtype).max
        showing: dict[str, dict[int, Verdict]] = {}
        for head, score in enumerate(numbers.score):
            product = None if numbers.product is None else numbers.product[head]
            reading = Reading(
                product=product,
                limit=limit,
                score=score,
                growth=trends["score"].growth(head) if self._matters(product, limit, score) else 1.0,
                saturated=min(numbers.saturated[head], before[head] if head < len(before) else 0.0),
            )
            for verdict in warnings_of(reading, self._limits):
                showing.setdefault(verdict.cause, {})[head] = verdict
        found = []
        for cause in ("headroom", "growing_scores", "saturated_softmax"):
            of_cause = showing.get(cause, {})
            if not of_cause:
                self._alarms.look(layer, cause, ())
                continue
            worst = max(of_cause, key=_by_value(of_cause))
            around = Circumstances(
                dtype=_name(heard.call.dtype if heard.factors is None else heard.factors.dtype),
                growth=trends["score"].growth(worst),
                norms=_change(trends, worst),
            )
            found += self._news(step, layer, of_cause[worst], list(of_cause), around)
        return found

    def _matters(self, product: float | None, limit: float, score: float) -> bool:
        """Return whether growth would be told; a line through the past costs more than all else."""
        near = product is not None and product > self._limits.headroom * limit
        return near or score > self._limits.max_score

    def _remember(self, step: int, layer: str, numbers: Numbers) -> dict[str, Trend]:
        trends = self._trends.setdefault(layer, {name: Trend() for name in ("score", "query", "key")})
        for name, values in (("score", numbers.score), ("query", numbers.query_norm), ("key", numbers.key_norm)):
            if values is not None:
                trends[name].add(step, values)
        return trends

    # gradients

    def gradients(self, pending: Sequence[BadGradients]) -> list[Finding]:
        """Judge what came back since the last optimizer step, in the order in which it came; return what is news.

        The first is told; gradients of the layers before it follow from it.
        """
        if not pending:
            for layer in self._trends:
                self._alarms.look(layer, "gradient", ())
            return []
        first = pending[0]
        came = "the layers after this one" if first.came_in else "the backward pass of this layer itself"
        return self._news(first.step, first.layer, _GRADIENT, first.heads, Circumstances(origin=came))

    def _news(
        self, step: int, layer: str, verdict: Verdict, heads: Sequence[int], around: Circumstances
    ) -> list[Finding]:
        news = self._alarms.look(layer, verdict.cause, heads)
        if not news:
            return []
        sentence = say(where(step, layer, news), verdict, around)
        finding = Finding(
            step=step,
            layer=layer,
            heads=news,
            cause=verdict.cause,
            value=verdict.value,
            limit=verdict.limit,
            sentence=sentence,
            origin=around.origin,
        )
        return [finding]


_GRADIENT = Verdict(cause="gradient", value=float("nan"), limit=float("inf"))


def _came_in(evidence: Evidence) -> bool:
    """Return whether query, key or value were not finite before attention began."""
    return bool(evidence.nan or evidence.infinite)


def _by_value(verdicts: Mapping[int, Verdict]) -> Callable[[int], float]:
    """Return the order of heads by the number that shows the cause; NaN comes first."""
    return lambda head: -math.inf if math.isnan(verdicts[head].value) else verdicts[head].value


def _change(trends: Mapping[str, Trend], head: int) -> str | None:
    """Say by what factors the lengths of queries and keys have changed."""
    changes = []
    for name, plural in (("query", "queries"), ("key", "keys")):
        values = trends[name].of(head)
        if len(values) > 1 and values[0] > 0:
            changes.append(f"the longest {plural} ×{values[-1] / values[0]:.2g}")
    return ", ".join(changes) or None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
