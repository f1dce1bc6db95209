"""From one attention call to the summary of its statistics."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional import (
    COLUMN_STATISTICS,
    ROW_STATISTICS,
    attention,
    column_statistics,
    column_statistics_of_scores,
    key_mass,
    row_statistics,
    statistics_of_scores,
)
from regard.observe.calls import AttentionCall
from regard.observe.capture import Gradients
from regard.observe.moments import Moments
from regard.observe.plan import GRADIENT_STATISTICS, SEQUENCE_STATISTICS
from regard.observe.sampling import RowSample, draw

__all__ = ["Measured", "Surroundings", "measure", "measure_gradients"]

_BLOCK_SCORES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is known of a call besides itself.

    Attributes:
        padded_rows: bool (batch, q_len), True = the query is padding, or None where the input does not say.
        padded_keys: bool (batch, kv_len), likewise.
        residual: (batch, q_len, embed_dim) that enters the block around the layer, or None where it was not seen.
        is_self: whether queries and keys are the same sequence, position by position.
    """

    padded_rows: Tensor | None = None
    padded_keys: Tensor | None = None
    residual: Tensor | None = None
    is_self: bool = False


@dataclass(kw_only=True)
class Measured:
    """Statistics of one call.

    Attributes:
        groups: names of statistics, and their summary, each (statistics, heads).
        num_rows: query rows that were looked at.
        missing: statistic -> why it could not be taken.
    """

    groups: list[tuple[tuple[str, ...], Moments]] = field(default_factory=list)
    num_rows: int = 0
    missing: dict[str, str] = field(default_factory=dict)


def measure(
    call: AttentionCall,
    statistics: Sequence[str],
    surroundings: Surroundings,
    *,
    rows: int | None = None,
    seed: int = 0,
    heads: Sequence[int] | None = None,
    quantiles: bool = False,
) -> Measured:
    """Take ``statistics`` of ``call``; those of the backward pass are left out.

    Args:
        call: what the kernel saw.
        statistics: names from ``STATISTICS``.
        surroundings: padding and residual stream.
        rows: how many query rows to draw; None for all.
        seed: of the draw.
        heads: head indices, or None for all; nothing is counted for the others.
        quantiles: also take quantiles over the rows.

    Raises:
        ArgumentError: a layout that statistics cannot take.
    """
    if call.scores is None and (call.query is None or call.query.ndim != 4):
        got = "none" if call.query is None else f"the shape {tuple(call.query.shape)}"
        raise ArgumentError(f"query must be (batch, heads, len, head_dim), got {got}.")
    found = Measured()
    if call.num_sequences == 0 and call.offsets is not None:
        return found
    looked = _Look(call if heads is None else call.select_heads(heads), surroundings)
    by_row = [name for name in statistics if name not in SEQUENCE_STATISTICS and name not in GRADIENT_STATISTICS]
    by_sequence = [name for name in statistics if name in SEQUENCE_STATISTICS]
    if by_row:
        _measure_rows(looked, by_row, found, rows=rows, seed=seed, quantiles=quantiles)
    if by_sequence:
        _measure_sequences(looked, by_sequence, found)
    if heads is not None:
        found.groups = [(names, moments.spread(heads, call.num_heads)) for names, moments in found.groups]
    return found


def measure_gradients(
    gradients: Gradients, statistics: Sequence[str], heads: Sequence[int] | None = None
) -> tuple[tuple[str, ...], Moments]:
    """Take the statistics of the backward pass; a head with few keys for many queries shares their gradient.

    References:
        Importance of a head: Michel et al., Are sixteen heads really better than one?, arXiv:1905.10650, equation 2.
    """
    names = tuple(name for name in statistics if name in GRADIENT_STATISTICS)
    values = [_gradient_values(sequence) for sequence in gradients.sequences()]
    stacked = torch.stack([torch.cat([some[name] for some in values]) for name in names])
    if heads is None:
        return names, _moments_of_sequences(stacked)
    return names, _moments_of_sequences(stacked[:, :, list(heads)]).spread(heads, stacked.shape[2])


def _gradient_values(gradients: Gradients) -> dict[str, Tensor]:
    """Return statistic -> (batch, heads)."""
    wide = _wide(gradients.output)
    output = gradients.output.to(wide)
    num_heads = output.shape[1]
    norms = {}
    for name in ("query", "key", "value"):
        squares = getattr(gradients, name).to(wide).square().sum((2, 3))
        group = num_heads // squares.shape[1]
        norms[name] = squares if group == 1 else squares.repeat_interleave(group, dim=1) / group
    qk = (norms["query"] + norms["key"]).sqrt()
    vo = (norms["value"] + output.square().sum((2, 3))).sqrt()
    return {
        "qk_gradient": qk,
        "vo_gradient": vo,
        "gradient_ratio": qk / vo,
        "head_importance": (output * gradients.forward_output.to(wide)).sum((2, 3)).abs(),
    }


class _Look:
    """A call and what several statistics need of it, computed at most once."""

    def __init__(self, call: AttentionCall, surroundings: Surroundings) -> None:
        self.call = call
        self.padded_keys = surroundings.padded_keys
        self.residual = surroundings.residual
        self._surroundings = surroundings
        self._padded_rows = surroundings.padded_rows
        self._is_self = surroundings.is_self

    @property
    def sequences(self) -> "list[_Look]":
        """Each packed sequence by itself; a usual batch is one, which must not hold itself: see ``_parts``."""
        return [self] if self.call.offsets is None else self._parts

    @cached_property
    def _parts(self) -> "list[_Look]":
        """The packed sequences; a cycle would keep all tensors of the call until Python looks for such."""
        around, found = self._surroundings, []
        for index, call in enumerate(self.call.sequences()):
            queries, keys = self.call.query_slice(index), self.call.key_slice(index)
            own = Surroundings(
                padded_rows=None if around.padded_rows is None else around.padded_rows[:, queries],
                padded_keys=None if around.padded_keys is None else around.padded_keys[:, keys],
                residual=None if around.residual is None else around.residual[:, queries],
                is_self=around.is_self,
            )
            found.append(_Look(call, own))
        return found

    @cached_property
    def real(self) -> Tensor:
        """Bool (batch, q_len), True = a real token asks."""
        call = self.call
        if self._padded_rows is not None:
            return ~self._padded_rows
        keys = _keys_seen_by_all(call) if self._is_self else None
        if keys is not None:
            return keys.expand(call.batch, -1)
        return torch.ones(call.batch, call.q_len, dtype=torch.bool, device=call.device)

    @cached_property
    def output(self) -> Tensor | None:
        """The heads' output, computed where the kernel kept it to itself."""
        call = self.call
        if call.output is not None or call.query is None or call.key is None or call.value is None:
            return call.output
        return attention(call.query, call.key, call.value, **call.masking)


def _keys_seen_by_all(call: AttentionCall) -> Tensor | None:
    """Return bool (batch or 1, kv_len) where one mask holds for every row, as one of padding does; else None.

    It stands in for the padding of a model whose input does not tell it.
    """
    if call.attn_mask is not None:
        keep = call.attn_mask
    elif call.attn_bias is not None:
        keep = call.attn_bias > -torch.inf
    elif call.scores is not None:
        keep = call.scores[:, :1] > torch.finfo(call.scores.dtype).min / 2
    else:
        return None
    if call.causal or keep.shape[3] != call.kv_len or not bool((keep == keep[:, :1, :1]).all()):
        return None
    return keep[:, 0, 0]


def _measure_rows(
    look: _Look, names: Sequence[str], found: Measured, *, rows: int | None, seed: int, quantiles: bool
) -> None:
    call = look.call
    sample = None if rows is None else draw(look.real, rows, seed)
    values, num_keys = _row_values(look, names, sample, found)
    for name, taken in _observed_values(look, names, sample, found):
        values[name] = taken
    if not values:
        return
    taken_names = tuple(name for name in names if name in values)
    counted = look.real[:, None, :] if sample is None else sample.valid.to(call.device)
    stacked, empty = torch.stack([values[name] for name in taken_names]), num_keys == 0
    options: dict[str, Any] = {"num_all": int(look.real.sum()), "quantiles": quantiles}
    if call.offsets is None:
        moments = Moments.of(stacked, counted, empty, **options)
    else:
        lengths = [len(rows) for rows in _rows_of_sequences(call, sample)]
        moments = Moments.of_packed(stacked, counted, empty, lengths=lengths, **options)
    found.groups.append((taken_names, moments))
    found.num_rows = int(counted.sum())


def _row_values(
    look: _Look, names: Sequence[str], sample: RowSample | None, found: Measured
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the values (batch, heads, rows) of the statistics of weights, and how many keys each row may see."""
    call = look.call
    wanted = [name for name in names if name in ROW_STATISTICS]
    if call.value is None:
        for name in [name for name in wanted if name in ("contribution", "first_contribution")]:
            found.missing[name] = "the values of this call were not seen"
            wanted.remove(name)
    if call.offsets is None:
        return _weight_values(call, wanted, sample)
    parts = [
        _weight_values(one, wanted, None if sample is None else RowSample(rows=rows[None], valid=rows[None, None] >= 0))
        for one, rows in zip(call.sequences(), _rows_of_sequences(call, sample), strict=True)
    ]
    values = {name: torch.cat([taken[name] for taken, _ in parts], -1) for name in wanted}
    return values, torch.cat([num_keys for _, num_keys in parts], -1)


def _rows_of_sequences(call: AttentionCall, sample: RowSample | None) -> list[Tensor]:
    """Return which rows of each packed sequence are looked at, counted from its own first."""
    assert call.offsets is not None, "asked of packed sequences"
    bounds = call.offsets[0]
    rows = torch.arange(call.q_len) if sample is None else sample.rows[0]
    cuts = torch.searchsorted(rows, bounds).tolist()
    return [rows[at:to] - first for (at, to), first in zip(pairwise(cuts), bounds.tolist()[:-1], strict=True)]


def _weight_values(
    call: AttentionCall, wanted: Sequence[str], sample: RowSample | None
) -> tuple[dict[str, Tensor], Tensor]:
    value = call.value if any("contribution" in name for name in wanted) else None
    if call.scores is None:
        assert call.query is not None, "checked by measure"
        assert call.key is not None, "a call with queries has keys"
        rows = None if sample is None else sample.rows.to(call.device)
        taken = row_statistics(
            call.query,
            call.key,
            value=value,
            statistics=wanted,
            lse=call.lse,
            rows=rows,
            known=call.statistics,
            **call.masking,
        )
    else:
        positions = None if sample is None else sample.rows.to(call.device) + (call.kv_len - call.q_len)
        scores = call.scores if sample is None else sample.pick(call.scores)
        taken = statistics_of_scores(scores, statistics=wanted, positions=positions, value=value)
    return dict(taken.values), taken.num_keys


def _observed_values(
    look: _Look, names: Sequence[str], sample: RowSample | None, found: Measured
) -> Iterator[tuple[str, Tensor]]:
    """Yield the statistics of rows that need more than the weights."""
    if "padding_mass" in names:
        mass = torch.cat([_padding_mass(one) for one in look.sequences], -1)
        yield "padding_mass", mass if sample is None else sample.pick(mass)
    if "output_norm" in names or "residual_share" in names:
        norm = _output_norm(look, sample)
        if norm is None:
            asked = [name for name in ("output_norm", "residual_share") if name in names]
            found.missing |= dict.fromkeys(asked, "the heads' outputs of this call were not seen")
            return
        if "output_norm" in names:
            yield "output_norm", norm
        if "residual_share" in names:
            residual = _residual_norm(look, sample)
            if residual is None:
                found.missing["residual_share"] = "what enters the block around this layer was not seen"
            else:
                yield "residual_share", norm / residual


def _padding_mass(look: _Look) -> Tensor:
    """Weight on keys of padding, (batch, heads, q_len): computed only where the kernel's mask lets it be above zero."""
    call, padding = look.call, look.padded_keys
    nothing = torch.zeros(call.batch, call.num_heads, call.q_len, device=call.device)
    if padding is None or not padding.any():
        return nothing
    keys = padding[:, None, None, :]
    if call.attn_mask is not None and not (call.attn_mask & keys).any():
        return nothing
    if call.attn_bias is not None and not ((call.attn_bias > -torch.inf) & keys).any():
        return nothing
    if call.scores is not None:
        return _mass_of_scores(call.scores, keys)
    assert call.query is not None, "checked by measure"
    assert call.key is not None, "a call with queries has keys"
    return key_mass(call.query, call.key, keys=padding, lse=call.lse, **call.masking)


def _mass_of_scores(scores: Tensor, keys: Tensor) -> Tensor:
    """Return the weight on ``keys`` (batch, 1, 1, kv_len) of each row, a block of rows at a time."""
    step = max(1, _BLOCK_SCORES // max(1, scores[:, :, 0].numel()))
    parts = [part.float().softmax(-1).mul_(keys).sum(-1) for part in scores.split(step, dim=2)]
    return torch.cat(parts, dim=2)


def _output_norm(look: _Look, sample: RowSample | None) -> Tensor | None:
    if look.output is None:
        return None
    output = look.output if sample is None else sample.pick(look.output)
    norm: Tensor = torch.linalg.vector_norm(output, dim=-1, dtype=_wide(output))
    return norm


def _residual_norm(look: _Look, sample: RowSample | None) -> Tensor | None:
    """Return the norm of each row that enters the block, (batch, 1, rows)."""
    residual = look.residual
    if residual is None or residual.shape[:2] != (look.call.batch, look.call.q_len):
        return None
    rows = residual[:, None] if sample is None else sample.pick(residual[:, None])
    norm: Tensor = torch.linalg.vector_norm(rows, dim=-1, dtype=_wide(rows))
    return norm


def _wide(tensor: Tensor) -> torch.dtype:
    """Return the type that sums over ``tensor`` are made in."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _measure_sequences(look: _Look, names: Sequence[str], found: Measured) -> None:
    """Take the statistics that have one value a sequence and head."""
    parts = [_sequence_values(one, names, found) for one in look.sequences]
    taken_names = tuple(name for name in names if name in parts[0])
    if taken_names:
        stacked = torch.stack([torch.cat([values[name] for values in parts]) for name in taken_names])
        found.groups.append((taken_names, _moments_of_sequences(stacked)))


def _sequence_values(look: _Look, names: Sequence[str], found: Measured) -> dict[str, Tensor]:
    """Return statistic -> (batch, heads)."""
    call = look.call
    values: dict[str, Tensor] = {}
    columns = [name for name in names if name in COLUMN_STATISTICS]
    if columns and call.query is not None and call.key is not None:
        values |= column_statistics(
            call.query, call.key, statistics=columns, query_mask=look.real, lse=call.lse, **call.masking
        )
    elif columns and call.scores is not None:
        values |= column_statistics_of_scores(call.scores, statistics=columns, query_mask=look.real)
    for name, tensor in (("output_diversity", look.output), ("residual_diversity", look.residual)):
        if name not in names:
            continue
        if tensor is None:
            found.missing[name] = f"{name.removesuffix('_diversity')} of this call was not seen"
            continue
        tokens = tensor[:, None] if tensor.ndim == 3 else tensor
        values[name] = _diversity(tokens, look.real).expand(call.batch, call.num_heads)
    return values


def _diversity(tokens: Tensor, real: Tensor) -> Tensor:
    """Return how far the rows (batch, heads, len, width) are from all being one, 0 to 1, (batch, heads).

    References:
        Dong et al., Attention is not all you need: pure attention loses rank doubly exponentially with depth,
        arXiv:2103.03404, the residual of section 2, in the Frobenius norm.
    """
    if real.shape[1] != tokens.shape[2]:
        return torch.full(tokens.shape[:2], torch.nan, device=tokens.device)
    weight = real[:, None, :, None].to(_wide(tokens))
    kept = tokens.to(_wide(tokens)) * weight
    mean = kept.sum(2, keepdim=True) / weight.sum(2, keepdim=True)
    away = torch.linalg.vector_norm((kept - mean) * weight, dim=(2, 3))
    diversity: Tensor = away / torch.linalg.vector_norm(kept, dim=(2, 3))
    return diversity


def _moments_of_sequences(values: Tensor) -> Moments:
    """Summarise values (statistics, batch, heads), one a sequence."""
    batch = values.shape[1]
    everyone = torch.ones(batch, 1, 1, dtype=torch.bool, device=values.device)
    return Moments.of(values[..., None], everyone, ~everyone, num_all=batch)
