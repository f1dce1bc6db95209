"""From tensors to the numbers that the rules judge: of a call that failed, and of one that did not."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from regard.functional import row_statistics, statistics_of_scores
from regard.functional.call import checked_call
from regard.observe import taps
from regard.observe.calls import AttentionCall
from regard.observe.guarding.causes import Evidence
from regard.observe.guarding.ears import Factors, Heard

__all__ = ["Numbers", "bad_heads", "evidence_of", "is_finite", "numbers_of"]

_AT_ONCE = 1 << 20  # products that are computed at a time
_LONGEST = 4  # queries a head that are compared with all keys
_ROWS = 16
_SEQUENCES = 4
_FEWEST_ROWS = 8
_SINK = 0.5


def is_finite(heard: Heard) -> bool:
    """Return whether what goes into a call and what comes out is finite: sums, which NaN and infinity both spoil.

    The output alone would not do: with fewer than 16 keys, PyTorch's fused kernel on a CPU gives a finite output for
    queries of NaN. A sum may also overflow by itself; ``bad_heads`` then finds nothing.
    """
    call, factors = heard.call, heard.factors
    sums = [each.sum(dtype=_wide(each)) for each in (*_outputs(heard), *_inputs(factors))]
    if call.lse is not None and call.lse.numel():
        sums.append(call.lse.amax().clamp_min(0.0).to(sums[0].dtype))  # -inf of an empty row is as it should be
    return bool(torch.stack([each.to(sums[0].dtype) for each in sums]).isfinite().all())


def bad_heads(heard: Heard) -> list[int]:
    """Return the heads into or out of which comes what is not finite; all where only the module's output shows it."""
    num_heads = heard.call.num_heads
    if heard.projected is not None and not bool(_flat(heard.projected).isfinite().all()):
        return list(range(num_heads))
    looked = [*_inputs(heard.factors)] if heard.projected is not None else [*_outputs(heard), *_inputs(heard.factors)]
    bad = [(~each.isfinite()).transpose(0, 1).flatten(1).any(1) for each in looked]
    if heard.call.lse is not None:
        lse = heard.call.lse
        bad.append((lse.isnan() | (lse == torch.inf)).transpose(0, 1).flatten(1).any(1))
    spread = [each.repeat_interleave(num_heads // len(each)) for each in bad]
    found: list[int] = torch.stack(spread).any(0).nonzero()[:, 0].tolist()
    return found


def _inputs(factors: Factors | None) -> tuple[Tensor, ...]:
    return () if factors is None else (factors.query, factors.key)


def _outputs(heard: Heard) -> tuple[Tensor, ...]:
    """Return what the heads give, or what stands for it where it was not seen; heads are the second axis."""
    call = heard.call
    if heard.projected is not None:
        return (_flat(heard.projected),)
    if call.output is not None:
        return (call.output,)
    return () if call.scores is None else (_largest_scores(call),)


def _flat(output: Tensor) -> Tensor:
    values: Tensor = output.values() if output.is_nested else output
    return values


def evidence_of(heard: Heard, head: int) -> Evidence:
    """Look closely at one head of a call that is not finite."""
    call, factors = heard.call, heard.factors
    tensors = {"value": call.value}
    if factors is not None:
        tensors = {"query": factors.query, "key": factors.key, **tensors}
    of_head = {name: _of_head(tensor, head, call.num_heads) for name, tensor in tensors.items() if tensor is not None}
    nan = tuple(name for name, tensor in of_head.items() if bool(tensor.isnan().any()))
    infinite = tuple(name for name, tensor in of_head.items() if bool(tensor.isinf().any()))
    comparable = factors is not None and not {"query", "key"} & {*nan, *infinite}
    product = _largest_product(of_head["query"], of_head["key"]) if comparable else None
    limit = torch.finfo(call.dtype).max if factors is None else factors.limit
    overflows = product is not None and product > limit
    return Evidence(
        nan=nan,
        infinite=infinite,
        product=product,
        limit=limit,
        bias=None if nan or infinite or overflows else _bad_bias(call, head),
        empty_rows=0 if nan or infinite or overflows else _num_empty_rows(call, head),
        num_bad=sum(int((~tensor.isfinite()).sum()) for tensor in of_head.values()),
    )


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a finite call tells, one number a head.

    Attributes:
        product: largest |query·key| of the longest queries, or None where they were not seen.
        score: largest |score|.
        saturated: share of saturated rows.
        query_norm: length of the longest query, or None.
        key_norm: length of the longest key, or None.
    """

    product: list[float] | None
    score: list[float]
    saturated: list[float]
    query_norm: list[float] | None
    key_norm: list[float] | None

    @classmethod
    def largest(cls, found: Sequence["Numbers"], num_heads: int) -> "Numbers":
        """Return the largest of each number over calls that all brought their queries along; 0 where there is none."""
        names = [field.name for field in fields(cls)]
        rows = {name: [getattr(one, name) for one in found] or [[0.0] * num_heads] for name in names}
        return cls(**{name: [max(heads) for heads in zip(*of_name, strict=True)] for name, of_name in rows.items()})


def numbers_of(heard: Heard, jacobian: float, look: int = 0) -> Numbers:
    """Look at a call that is finite: linear in the lengths, at up to four of its sequences.

    The largest product is looked for among the longest queries of each sequence, against every key, masked ones too:
    what overflows there is NaN before a mask is added. Saturation is looked at in rows that lie evenly.

    Args:
        heard: the call.
        jacobian: 1 − Σ p² below which a row is saturated.
        look: the how-manieth look this is; each takes the next sequences.
    """
    start = look * _SEQUENCES % max(1, heard.call.num_sequences - _SEQUENCES + 1)
    if heard.call.offsets is not None:
        some = heard.sequences()[start : start + _SEQUENCES] or heard.sequences()[:_SEQUENCES]
        return Numbers.largest([numbers_of(one, jacobian) for one in some], heard.call.num_heads)
    heard = heard.select_sequences(start, start + _SEQUENCES)
    call, factors = heard.call, heard.factors
    product = query_norm = key_norm = None
    if factors is not None:
        lengths = [torch.linalg.vector_norm(each, dim=-1, dtype=_wide(each)) for each in (factors.query, factors.key)]
        query_norm, key_norm = (length.amax((0, 2)) for length in lengths)
        key_norm = key_norm.repeat_interleave(call.num_heads // len(key_norm))
        product = _product_of_longest(factors, lengths[0])
    score, saturated = _softmax_of_some(call, jacobian)
    if product is not None and factors is not None and factors.scale is not None:
        score = product * abs(factors.scale)
        score = score if call.softcap is None else score.clamp_max(call.softcap)
    told = [each for each in (product, query_norm, key_norm) if each is not None]
    score_list, saturated_list, *lists = torch.stack(
        [score.float(), saturated.float(), *map(Tensor.float, told)]
    ).tolist()
    product_list, query_list, key_list = lists or (None, None, None)
    return Numbers(
        product=product_list, score=score_list, saturated=saturated_list, query_norm=query_list, key_norm=key_list
    )  # fmt: skip


def _product_of_longest(factors: Factors, lengths: Tensor) -> Tensor:
    """Return the largest |query·key| of each head, (heads,)."""
    query, key = factors.query, factors.key
    longest = lengths.topk(min(_LONGEST, lengths.shape[2]), dim=2).indices
    picked = query.gather(2, longest[..., None].expand(-1, -1, -1, query.shape[3])).to(_wide(query))
    batch, heads, count, width = picked.shape
    rows = picked.reshape(batch, key.shape[1], -1, width)
    largest = (rows @ key.to(rows.dtype).mT).abs().amax(-1)
    return largest.reshape(batch, heads, count).amax((0, 2))


def _softmax_of_some(call: AttentionCall, jacobian: float) -> tuple[Tensor, Tensor]:
    """Return the largest |score| and the share of saturated rows, (heads,), of some rows."""
    names = ["collision", "first_mass", "max_score", "min_score"]
    rows = torch.linspace(0, call.q_len - 1, min(_ROWS, call.q_len), device=call.device).round().long()
    if call.scores is not None:
        found = statistics_of_scores(call.scores.index_select(2, rows), statistics=names)
    else:
        assert call.query is not None, "a call has queries or scores"
        assert call.key is not None, "a call with queries has keys"
        found = row_statistics(call.query, call.key, statistics=names, lse=call.lse, rows=rows, **call.masking)
    counted = (found.num_keys > 1).expand_as(found.values["collision"])
    is_sink = (found.values["first_mass"] > _SINK) & counted
    is_sharp = (1 - found.values["collision"] < jacobian) & counted & ~is_sink
    num_sinks, number = is_sink.sum((0, 2)), (counted & ~is_sink).sum((0, 2))
    saturated = (is_sharp.sum((0, 2)) / number.clamp_min(_FEWEST_ROWS)).masked_fill(num_sinks > number, 0.0)
    ends = torch.stack([found.values["max_score"], found.values["min_score"]]).abs()
    return ends.nan_to_num(nan=0.0, posinf=0.0).amax((0, 1, 3)), saturated


def _largest_scores(call: AttentionCall) -> Tensor:
    """Return the largest score of each row, (batch, heads, q_len): NaN or +inf there is NaN in the weights.

    So is -inf, but for PyTorch's safe softmax, which gives zeros.
    """
    assert call.scores is not None, "asked of scores only"
    largest = call.scores.amax(-1)
    return largest.masked_fill(largest == -torch.inf, 0.0) if call.kernel == taps.MATH else largest


def _largest_product(query: Tensor, key: Tensor) -> float:
    """Return the largest |query·key|, exactly: in float32 of half precision, else in float64."""
    wide = torch.float32 if query.dtype in (torch.float16, torch.bfloat16) else torch.float64
    key = key.to(wide).mT
    step = max(1, _AT_ONCE // max(1, key.shape[0] * key.shape[2]))
    return max(float((part.to(wide) @ key).abs().max()) for part in query.split(step, dim=1))


def _bad_bias(call: AttentionCall, head: int) -> str | None:
    """Return what a bias did to the scores of a head whose products are finite."""
    looked = call.attn_bias if call.scores is None else call.scores
    if looked is None:
        return None
    of_head = looked[:, head if looked.shape[1] > 1 else 0]
    if bool(of_head.isnan().any()):
        return "NaN"
    return "inf" if bool((of_head == torch.inf).any()) else None


def _num_empty_rows(call: AttentionCall, head: int) -> int:
    if call.scores is not None:
        return int((call.scores[:, head].amax(-1) == -torch.inf).sum())
    one = call.select_heads([head])
    assert one.query is not None, "a call has queries or scores"
    assert one.key is not None, "a call with queries has keys"
    asked = checked_call(one.query, one.key, **one.masking, lse=None)
    return int((asked.num_keys == 0).expand(call.batch, -1, -1).sum())


def _of_head(tensor: Tensor, head: int, num_heads: int) -> Tensor:
    return tensor[:, head // (num_heads // tensor.shape[1])]


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
