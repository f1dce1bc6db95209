"""Statistics of query rows from the log-sum-exp of FlexAttention alone, whatever shapes the scores.

With L(a) the log-sum-exp of scores times a:

- collision Σ p² = exp(L(2) - 2 L(1)): exact
- entropy = L(1) - L'(1), the derivative from a central difference: its error is a sixth of e² times the third cumulant
  of the scores, e the step, beside rounding
- the weight on key j = exp(s_ij - L(1)): a dot product, exact
- the largest score, which the kernel returns on a GPU: exact

Inputs in half precision go to float32 first. The scores are divided after softcap and bias, so that both are in.
"""

from collections.abc import Set

from torch import Tensor

from regard.functional.impl.flex import flex_attend, flex_obstacle
from regard.functional.impl.rows_call import RowsCall
from regard.functional.impl.statistics_fused import NAMED_KEYS, weight_on

__all__ = ["STEP", "by_flex", "flex_statistics_obstacle"]

STEP = 0.01
"""Of the difference: rounding of float32 and the cumulant then err alike, by 1e-5 nats for scores of unit spread."""
_NAMES = {"entropy", "collision", "max_score", *NAMED_KEYS}


def flex_statistics_obstacle(call: RowsCall, statistic: str) -> str | None:
    """Return what ``statistic`` would need in order to come from FlexAttention, or None."""
    if statistic not in _NAMES:
        return "a pass over all scores, which the log-sum-exp does not replace"
    if not isinstance(call.positions, range):
        return "all rows of the call"
    if statistic == "max_score" and call.key.device.type == "cpu":
        return "a GPU, where FlexAttention returns the largest scores"
    return flex_obstacle(call.query, call.key, call.key)


def by_flex(call: RowsCall, wanted: Set[str]) -> dict[str, Tensor]:
    """Return the ``wanted`` statistics and ``lse``, each (batch, heads, rows); rows without keys are not defined."""
    call = call.upcast()
    found: dict[str, Tensor] = {}
    lse, largest = _lse(call, 1.0, wants_max="max_score" in wanted)
    if largest is not None and "max_score" in wanted:
        found["max_score"] = largest
    if "entropy" in wanted:
        (above, _), (below, _) = (_lse(call, factor) for factor in (1.0 + STEP, 1.0 - STEP))
        found["entropy"] = (lse - (above - below) / (2.0 * STEP)).clamp_min(0.0)
    if "collision" in wanted:
        found["collision"] = (_lse(call, 2.0)[0] - 2.0 * lse).exp()
    found |= {name: weight_on(call, lse, name) for name in NAMED_KEYS if name in wanted}
    return found | {"lse": lse}


def _lse(call: RowsCall, factor: float, *, wants_max: bool = False) -> tuple[Tensor, Tensor | None]:
    """Return the log-sum-exp of the scores times ``factor``, and the largest of them where it is wanted."""
    _, lse, largest = flex_attend(
        call.query,
        call.key,
        call.key[..., :1],
        attn_mask=call.attn_mask,
        attn_bias=call.attn_bias,
        causal=call.causal,
        window=call.window,
        alibi_slopes=call.alibi_slopes,
        scale=call.scale,
        softcap=call.softcap,
        temperature=1.0 / factor,
        wants_max=wants_max,
    )
    assert lse is not None, "asked for"
    return lse, largest
