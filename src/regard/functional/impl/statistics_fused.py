"""Statistics of query rows from fused kernels alone, by identities that need no matrix.

With p the weights, s the scores and lse their log-sum-exp:

- entropy = lse - E_p[s], and E_p[s] = scale · q · (Σ p k) + E_p[bias]: attention with value := key
- collision Σ p² = exp(lse(2 s) - 2 lse(s)): the log-sum-exp of doubled scores
- the weight on key j = exp(s_ij - lse_i): a dot product
- expected position: attention with value := position; causal distance = own position - expected position

Inputs in half precision go to float32 first: rounding Σ p k to bfloat16 costs up to 0.1 nats where a head collapses.
"""

from collections.abc import Set

import torch
import torch.nn.functional as F
from torch import Tensor

from regard.functional.impl.blocks import positions_of
from regard.functional.impl.picking import pick_entries, pick_rows
from regard.functional.impl.rows_call import RowsCall
from regard.functional.impl.sdpa import sdpa
from regard.functional.impl.torch_private import flash_with_lse
from regard.functional.masks import as_bias

__all__ = ["NAMED_KEYS", "by_identities", "fused_obstacle", "weight_on"]

NAMED_KEYS = ("first_mass", "self_mass", "previous_mass")
_WIDTH = 16  # kernels work on multiples of this many columns


def fused_obstacle(call: RowsCall, statistic: str) -> str | None:
    """Return what ``statistic`` would need in order to be computed by identities, or None."""
    if statistic in NAMED_KEYS and call.lse is not None:
        return None
    if statistic not in _IDENTITIES:
        return "a pass over all scores, which no identity replaces"
    if any(part is not None for part in (call.softcap, call.attn_bias, call.window, call.alibi_slopes)):
        return "scores without bias, softcap, window and slopes"
    square = isinstance(call.positions, range) and len(call.positions) == call.key.shape[2]
    if call.causal and (call.attn_mask is not None or not square):
        return "a call that is causal or masked but not both, and causal with all rows and equal lengths"
    if statistic == "distance" and not call.causal:
        return "a causal call, where no key lies after the query"
    if call.key.device.type != "cpu" and (call.lse is None or statistic == "collision"):
        return "the log-sum-exp of the kernel that ran, which only the CPU kernel gives for any call"
    return None


def by_identities(call: RowsCall, wanted: Set[str]) -> dict[str, Tensor]:
    """Return the ``wanted`` statistics and ``lse``, each (batch, heads, rows); rows without keys are not defined."""
    call = call.upcast()
    found: dict[str, Tensor] = {}
    if wanted & _BY_VALUES or call.lse is None:
        found |= _by_values(call, wanted)
    lse = found["lse"] if call.lse is None else call.lse.to(call.query.dtype)
    if "collision" in wanted:
        _, doubled = _flash(call, call.key, scale=2.0 * call.scale)
        found["collision"] = torch.exp(doubled - 2.0 * lse)
    found |= {name: weight_on(call, lse, name) for name in NAMED_KEYS if name in wanted}
    return {name: found[name] for name in wanted} | {"lse": lse}


def _by_values(call: RowsCall, wanted: Set[str]) -> dict[str, Tensor]:
    """Run attention once with what is to be averaged as values: the keys for the entropy, their positions beside."""
    batch, kv_heads, kv_len, head_dim = call.key.shape
    columns = [call.key] if "entropy" in wanted else []
    by_position = bool(wanted & {"expected_position", "distance"})
    if by_position:
        positions = torch.arange(kv_len, dtype=call.key.dtype, device=call.key.device)
        columns.append(positions[:, None].expand(batch, kv_heads, kv_len, 1))
    value = torch.cat(columns, -1) if columns else call.key
    averaged, lse = _attend(call, value)
    found = {"lse": lse}
    if "entropy" in wanted:
        expected_score = call.scale * torch.linalg.vecdot(call.query, averaged[..., :head_dim])
        found["entropy"] = (lse - expected_score).clamp_min_(0.0)
    if by_position:
        found["expected_position"] = averaged[..., value.shape[-1] - 1]
        found["distance"] = call.position_tensor - found["expected_position"]
    return found


def _attend(call: RowsCall, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ p · value, and the log-sum-exp: the kernel's own where it gives it, else the given one."""
    if call.key.device.type == "cpu":
        return _flash(call, value, scale=call.scale)
    assert call.lse is not None, "checked by fused_obstacle"
    averaged = sdpa(call.query, call.key, value, attn_mask=call.attn_mask, causal=call.causal, scale=call.scale)
    return averaged, call.lse.to(averaged.dtype)


def _flash(call: RowsCall, value: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
    width = -(-max(call.key.shape[-1], value.shape[-1]) // _WIDTH) * _WIDTH
    query, key, values = (F.pad(tensor, (0, width - tensor.shape[-1])) for tensor in (call.query, call.key, value))
    bias = None if call.attn_mask is None else as_bias(_all_keys(call.attn_mask, call.key), call.query.dtype)
    return flash_with_lse(query, key, values, attn_bias=bias, causal=call.causal, scale=scale)


def _all_keys(mask: Tensor, key: Tensor) -> Tensor:
    return mask.expand(*mask.shape[:3], key.shape[2])


def weight_on(call: RowsCall, lse: Tensor, name: str) -> Tensor:
    """Return the weight on one key per row, exp(s_ij - lse_i); where there is no such key the value is not defined."""
    own = positions_of(call.positions, call.key.device)
    keys = {"first_mass": torch.zeros_like(own), "self_mass": own}.get(name, own - 1)
    at = keys.clamp(0, call.key.shape[2] - 1)
    grouped = call.query.unflatten(1, (call.key.shape[1], -1))
    picked = call.key[:, :, :1] if name == "first_mass" else pick_rows(call.key, at)
    scores = torch.linalg.vecdot(grouped, picked[:, :, None]).flatten(1, 2) * call.scale
    if call.softcap is not None:
        scores = call.softcap * torch.tanh(scores / call.softcap)
    if call.attn_bias is not None:
        scores = scores + pick_entries(call.attn_bias, at)
    if call.alibi_slopes is not None:
        scores = scores - call.alibi_slopes.to(scores.dtype)[:, None] * _broadcast(own - keys).abs()
    if call.window is not None:
        scores = scores.masked_fill(_broadcast(own - keys).abs() >= call.window, -torch.inf)
    if call.attn_mask is not None:
        scores = scores.masked_fill(~pick_entries(call.attn_mask, at), -torch.inf)
    return torch.exp(scores - lse)


def _broadcast(numbers: Tensor) -> Tensor:
    """Turn (rows,) or (batch, rows) into what broadcasts to (batch, heads, rows)."""
    return numbers if numbers.ndim == 1 else numbers[:, None]


_BY_VALUES = {"entropy", "expected_position", "distance"}
_IDENTITIES = {*_BY_VALUES, "collision", *NAMED_KEYS}
