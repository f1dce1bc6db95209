"""Float64 answers of one attention call, and how far kernels that sum up in float32 may be from each.

A budget is no tolerance picked by hand but the error that rounding can cause, element by element: a score is a sum of
``head_dim`` rounded products, a weight moves by the errors of its score and of its row's log-sum-exp, is rounded to the
inputs' type before it meets the values, and so on down to the gradients. Where a large bias takes the digits of a score
away, the budget grows with it; where a weight is 0, it is 0.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from regard.functional import ROW_STATISTICS, reference

__all__ = ["Answer", "Dense"]

_UNIT = 2.0**-24  # largest relative error of one rounding to float32
_TINY = 1e-30  # what underflows is lost
_MOST = 60.0  # of an exponent: beyond, a weight may be anything


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is exact, in float64, and how far each element may be from it."""

    exact: Tensor
    budget: Tensor

    def mismatch(self, found: Tensor) -> str | None:
        """Return how ``found`` differs by more than the budget, or None."""
        if found.shape != self.exact.shape:
            return f"shape {tuple(found.shape)}, expected {tuple(self.exact.shape)}"
        found = found.detach().double()
        error = (found - self.exact).abs()
        same = (found == self.exact) | (found.isnan() & self.exact.isnan())
        within = same | (found.isfinite() & (error <= self.budget)) | (self.exact.isinf() & (self.budget == math.inf))
        if bool(within.all()):
            return None
        excess = torch.where(within, 0.0, (error / self.budget).nan_to_num(math.inf, math.inf))
        at = tuple(int(index) for index in torch.unravel_index(excess.argmax(), excess.shape))
        values = f"found {found[at]:.7g}, exact {self.exact[at]:.7g}, budget {self.budget[at]:.1e}"
        return f"{int((~within).sum())} of {within.numel()} differ, most at {list(at)}: {values}"


class Dense:
    """One attention call: tensors as given to the kernels, and ``masking``, the arguments that shape the scores."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, masking: dict[str, Any]) -> None:
        bias = masking.get("attn_bias")
        self.masking = {**masking, "attn_bias": None if bias is None else bias.double()}
        self.dtype = query.dtype
        self.group = query.shape[1] // key.shape[1]
        self.query = query.detach().double()
        self.key, self.value = (
            tensor.detach().double().repeat_interleave(self.group, dim=1) for tensor in (key, value)
        )
        self.given_value = value.detach()
        self.unit = torch.finfo(self.dtype).eps / 2
        scale = masking.get("scale")
        self.scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        self.kv_len = key.shape[2]

    @cached_property
    def scores(self) -> Tensor:
        """Masked scores."""
        return reference.scores(self.query, self.key, **self.masking)

    @cached_property
    def visible(self) -> Tensor:
        """Whether a query may see a key."""
        return self.scores > -torch.inf

    @cached_property
    def raw_error(self) -> Tensor:
        """How far a scaled product may be off."""
        sizes = self.query.abs() @ self.key.abs().mT * abs(self.scale)
        return _sum_error(self.query.shape[-1]) * sizes

    @cached_property
    def score_error(self) -> Tensor:
        """How far a score may be off; 0 where it is hidden."""
        error = self.raw_error + 4 * _UNIT * self.scores.abs()
        bias = self.masking["attn_bias"]
        error = error if bias is None else error + 4 * _UNIT * bias.abs()
        return torch.where(self.visible, error, 0.0)

    @cached_property
    def weights(self) -> Tensor:
        """The softmax of the scores."""
        return reference.weights(self.scores)

    @cached_property
    def lse_error(self) -> Tensor:
        """How far the log-sum-exp may be off."""
        if self.kv_len == 0:
            return torch.zeros(self.scores.shape[:3], dtype=torch.float64)
        exact, most = self.scores.logsumexp(-1), self.scores.amax(-1)
        moved = (self.scores + self.score_error).logsumexp(-1) - exact
        return (moved + 4 * _UNIT * (exact.abs() + most.abs()) + _sum_error(self.kv_len)).nan_to_num(0.0, 0.0, 0.0)

    @cached_property
    def weight_error(self) -> Tensor:
        """How far a weight may be off before it is rounded."""
        exponent = self.score_error + self.lse_error[..., None] + _sum_error(self.kv_len)
        error = self.weights * exponent.clamp_max(_MOST).expm1()
        # A row of biases of -1e9 alone: whatever a weight is, it may come out as any other.
        return torch.where(self.visible & (exponent > _MOST), 1.0, error)

    def lse(self) -> Answer:
        """Return the log-sum-exp of each row, -inf where it has no key."""
        return Answer(exact=reference.lse(self.scores), budget=self.lse_error + _TINY)

    def output(self) -> Answer:
        """Return the output."""
        return self._rounded(self.weights @ self.value, self._output_error())

    def _output_error(self) -> Tensor:
        relative = self.unit + _sum_error(self.kv_len, alike=self.given_value.stride(2) == 0)
        return (self.weight_error * (1 + self.unit) + relative * self.weights) @ self.value.abs()

    def _rounded(self, exact: Tensor, error: Tensor) -> Answer:
        """Return the answer where it is stored in the inputs' type."""
        smallest = torch.finfo(self.dtype).smallest_normal * self.unit if self.dtype == torch.float16 else 0.0
        return Answer(exact=exact, budget=error * (1 + self.unit) + self.unit * exact.abs() + smallest + _TINY)

    def gradients(self, direction: Tensor, lse_direction: Tensor) -> dict[str, Answer]:
        """Return the gradients of Σ output · ``direction`` + Σ lse · ``lse_direction``, rows without keys left out.

        Args:
            direction: of the output, in numbers of the inputs' type.
            lse_direction: of the log-sum-exp, in float32 numbers.
        """
        given, sizes = direction.double(), direction.double().abs()
        output = self.output()
        inner = (given * output.exact).sum(-1) - lse_direction
        summed = _sum_error(given.shape[-1])
        inner_error = (sizes * output.budget).sum(-1) + summed * (sizes * output.exact.abs()).sum(-1)
        inner_error += 4 * _UNIT * lse_direction.abs()
        apart = given @ self.value.mT - inner[..., None]
        apart_error = summed * (sizes @ self.value.abs().mT) + inner_error[..., None]
        apart_error += 4 * _UNIT * apart.abs()
        slope, slope_error = self._slope()
        weights, weight_error = self.weights, self.weight_error
        grads = weights * apart * slope
        errors = weight_error * (apart.abs() + apart_error) * slope + weights * apart_error * slope
        errors = errors + (weights + weight_error) * apart.abs() * slope_error
        errors = errors * (1 + self.unit) + self.unit * grads.abs()
        value_error = weight_error * (1 + self.unit) + self.unit * weights
        return {
            "grad_query": self._product(grads, errors, self.key, self.scale, grouped=False),
            "grad_key": self._product(grads.mT, errors.mT, self.query, self.scale, grouped=True),
            "grad_value": self._product(weights.mT, value_error.mT, given, 1.0, grouped=True),
        }

    def _slope(self) -> tuple[Tensor | float, Tensor | float]:
        """Return the derivative of the softcap and how far it may be off."""
        softcap = self.masking.get("softcap")
        if softcap is None:
            return 1.0, 0.0
        slope = 1 - torch.tanh(self.query @ self.key.mT * (self.scale / softcap)).square()
        return slope, (16 * _UNIT + 2 * self.raw_error / softcap).clamp_max(1.0)

    def _product(self, factors: Tensor, errors: Tensor, others: Tensor, scale: float, *, grouped: bool) -> Answer:
        """Return scale · factors · others, summed over the heads that share a key head where they are ``grouped``."""
        exact = factors @ others * scale
        count = factors.shape[-1] * self.group
        error = (errors + _sum_error(count) * factors.abs()) @ others.abs() * abs(scale)
        if grouped:
            exact, error = (part.unflatten(1, (-1, self.group)).sum(2) for part in (exact, error))
        return self._rounded(exact, error)

    def received(self, counted: Tensor | None) -> Answer:
        """Return the weight that each key receives from the queries that are ``counted``, bool (batch, q_len)."""
        rows = torch.ones(self.scores.shape[0], self.scores.shape[2]) if counted is None else counted
        rows = rows.double()[:, None, :, None]
        exact = (self.weights * rows).sum(2)
        error = (self.weight_error * rows).sum(2)
        return Answer(exact=exact, budget=error + _sum_error(self.scores.shape[2]) * (exact + error) + _TINY)

    def key_mass(self, keys: Tensor) -> Answer:
        """Return the weight on the set ``keys``, bool (batch, kv_len); NaN where a row has no key."""
        return self._expected(keys.double()[:, None, None, :])

    def _expected(self, factors: Tensor) -> Answer:
        """Return Σ weight · factor, factors at least 0."""
        exact = (self.weights * factors).sum(-1)
        error = (self.weight_error * factors).sum(-1)
        error = error + _sum_error(self.kv_len) * (exact + error) + _TINY
        return Answer(exact=exact.masked_fill(~self.visible.any(-1), torch.nan), budget=error)

    def statistic(self, name: str) -> Answer:
        """Return the statistic ``name`` of every row."""
        if self.kv_len == 0:
            nothing = torch.full(self.scores.shape[:3], torch.nan, dtype=torch.float64)
            return Answer(exact=nothing, budget=torch.zeros_like(nothing))
        extra = {"value": self.given_value} if "contribution" in name else {}
        extra |= {"dtype": self.dtype} if name == "headroom" else {}
        exact = ROW_STATISTICS[name].reference(self.scores, **extra).double()
        budget = self._statistic_budget(name, exact)
        return Answer(exact=exact, budget=budget.nan_to_num(math.inf, math.inf) + 8 * _UNIT * exact.abs() + _TINY)

    def _statistic_budget(self, name: str, exact: Tensor) -> Tensor:
        found = getattr(self, f"_{name}", None)
        return self.weight_error.amax(-1) if found is None else found(exact)

    def _entropy(self, _: Tensor) -> Tensor:
        logs = (self.scores - reference.lse(self.scores)[..., None]).abs().nan_to_num(0.0, 0.0, 0.0)
        error = self.weight_error + _sum_error(self.kv_len) * self.weights
        return (error * (1 + torch.where(self.weights > 0, logs, 0.0))).sum(-1)

    def _normalized_entropy(self, exact: Tensor) -> Tensor:
        return self._entropy(exact) / self.visible.sum(-1).double().log() + 8 * _UNIT

    def _effective_keys(self, exact: Tensor) -> Tensor:
        return exact * self._entropy(exact).clamp_max(_MOST).expm1()

    def _collision(self, exact: Tensor) -> Tensor:
        error = self.weight_error
        return (2 * self.weights * error + error.square()).sum(-1) + _sum_error(self.kv_len) * exact

    def _max_score(self, exact: Tensor) -> Tensor:
        upper, lower = ((self.scores + sign * self.score_error).amax(-1) for sign in (1, -1))
        return torch.maximum(upper - exact, exact - lower)

    def _min_score(self, exact: Tensor) -> Tensor:
        ends = (self.scores + sign * self.score_error for sign in (1, -1))
        upper, lower = (torch.where(self.visible, end, torch.inf).amin(-1) for end in ends)
        return torch.maximum(upper - exact, exact - lower)

    def _score_spread(self, _: Tensor) -> Tensor:
        mean_square = self.score_error.square().sum(-1) / self.visible.sum(-1)
        return (4 + math.sqrt(self.kv_len) / 8) * mean_square.sqrt()

    def _headroom(self, _: Tensor) -> Tensor:
        sizes = torch.where(self.visible, self.scores.abs(), 0.0)
        largest = sizes.amax(-1)
        error = (sizes + self.score_error).amax(-1) - largest
        # Both logarithms are rounded where they are large, as their difference may not be.
        return -(1 - (error / largest).clamp_max(1.0)).log2() + 256 * _UNIT

    def _first_mass(self, _: Tensor) -> Tensor:
        return self.weight_error[..., 0]

    def _distance(self, _: Tensor) -> Tensor:
        own = torch.arange(self.scores.shape[2]) + self.kv_len - self.scores.shape[2]
        return self._expected((own[:, None] - torch.arange(self.kv_len)).abs().double()).budget

    def _expected_position(self, _: Tensor) -> Tensor:
        return self._expected(torch.arange(self.kv_len).double()).budget

    def _saturated_share(self, _: Tensor) -> Tensor:
        largest = self.weights.amax(-1)
        near = (largest - reference.SATURATION).abs() <= self.weight_error.amax(-1) + 8 * _UNIT
        return near.double()

    @cached_property
    def _norms(self) -> Tensor:
        return torch.linalg.vector_norm(self.value, dim=-1)[:, :, None]

    def _contribution(self, exact: Tensor) -> Tensor:
        return self._expected(self._norms).budget + _sum_error(self.value.shape[-1]) * exact

    def _first_contribution(self, exact: Tensor) -> Tensor:
        total = (self.weights * self._norms).sum(-1)
        total_error = self._contribution(total)
        first_error = (self.weight_error * self._norms)[..., 0] + _sum_error(self.value.shape[-1]) * exact * total
        return (first_error + exact * total_error) / (total - total_error).clamp_min(0.0)


def _sum_error(count: int, *, alike: bool = False) -> float:
    """Return the relative error of a sum of ``count`` products: errors partly cancel, so that it grows as √count.

    Those of ``alike`` products, as of one value for all keys, are the same again and again: it grows as the count.
    """
    return (3 + (count if alike else math.sqrt(count)) / 2) * _UNIT
