"""One layer's attention, cut into chunks of other sizes and spread over other numbers of threads: memory and time.

Chunks save memory, not operations: each row still meets each key. Memory is what tensors take beyond query, key and
value at the largest moment, heard operator by operator; of fused kernels, what their workspace is known to take too.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regard._errors import ArgumentError
from regard.cost.attention_calls import fused_call
from regard.cost.attention_work import AttentionWork
from regard.cost.footprint import Footprint, Holding
from regard.cost.products import product_flops
from regard.cost.remedies.machine import num_cores
from regard.cost.timing import Timing, in_turn
from regard.cost.workspace import workspace_bytes
from regard.functional import attention
from regard.functional.chunks import chunked_attention
from regard.functional.replacement import native_available

__all__ = ["AttentionCurves", "Way", "attention_curves", "core_numbers"]

MATERIALISED = "products and softmax, all at once"
OWN_CHUNKS = "chunked, in blocks that fit the cache"
_MOST_BYTES = 1 << 31
_FEWEST_ROWS = 16

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to compute the same attention.

    Attributes:
        name: what a person reads.
        rows: queries of a chunk of all heads; None where the size is no choice.
        peak_bytes: of tensors beyond query, key and value, the output included.
        flops: operations in products that it was heard to do.
        difference: largest distance of the output from that in float64.
        timings: number of threads -> how long it takes.
    """

    name: str
    rows: int | None
    peak_bytes: int
    flops: int
    difference: float
    timings: Mapping[int, Timing]


@dataclass(frozen=True, kw_only=True)
class AttentionCurves:
    """What chunk sizes and threads do to one layer's attention.

    Attributes:
        work: the call, by its sizes.
        causal: whether it was taken as causal.
        ways: those that were measured; of chunks the smallest first.
        threads: numbers of threads that ways without a choice of chunk were measured with.
        left_out: way -> why it was not run.
    """

    work: AttentionWork
    causal: bool
    ways: Sequence[Way]
    threads: Sequence[int]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        work = self.work
        return {
            "schema_version": 1,
            "layer": work.module,
            "streams": work.streams,
            "q_len": work.q_len,
            "kv_len": work.kv_len,
            "head_dim": work.head_dim,
            "causal": self.causal,
            "threads": list(self.threads),
            "left_out": dict(self.left_out),
            "ways": [
                {
                    "name": way.name,
                    "rows": way.rows,
                    "peak_bytes": way.peak_bytes,
                    "flops": way.flops,
                    "difference": way.difference,
                    "by_threads": {str(number): timing.to_dict() for number, timing in way.timings.items()},
                }
                for way in self.ways
            ],
        }


def attention_curves(
    work: AttentionWork,
    *,
    rows: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    rounds: int = 5,
    budget_s: float = 20.0,
    most_bytes: int = _MOST_BYTES,
) -> AttentionCurves:
    """Measure attention of the sizes of ``work``, in float32 without gradients, by chunk size and number of threads.

    Args:
        work: one call, as ``count`` tells of it; it is taken as causal where half of its pairs are needed.
        rows: queries of a chunk; by default 16, 64, 256, … up to all of them.
        threads: numbers to measure with; 1, 2, 4, … up to the cores by default. Chunk sizes are measured with the most.
        rounds: how often each is measured at most.
        budget_s: no round begins after this time, but three are always taken.
        most_bytes: ways that would take more are left out.

    Raises:
        ArgumentError: a number below 1.

    Example:
        >>> from regard.cost import count
        >>> layer = torch.nn.TransformerEncoderLayer(64, 4, dropout=0.0, batch_first=True)
        >>> found = attention_curves(count(layer, torch.zeros(1, 256, 64)).attention[0], rows=[64], rounds=3)
        >>> [way.name for way in found.ways][:2]
        ['chunks of 64 rows', 'products and softmax, all at once']
    """
    numbers = sorted(set(threads or core_numbers()))
    sizes = sorted(set(rows or _sizes(work.q_len)))
    if min(*numbers, *sizes) < 1:
        raise ArgumentError(f"threads and rows must be at least 1, got {numbers} and {sizes}.")
    causal = work.q_len > 1 and work.needed == work.streams * _triangle(work)
    inputs = _inputs(work)
    ways, left_out = _ways(work, sizes, causal, most_bytes)
    with torch.no_grad():
        exact = chunked_attention(*(one.double() for one in inputs), rows=_fitting(work), causal=causal)
        heard = {name: _heard(attend, inputs, exact) for name, (_, attend) in ways.items()}
        timings = _timed(ways, inputs, numbers, rounds, budget_s)
    found = [
        Way(name=name, rows=size, **heard[name], timings=timings[name]) for name, (size, _) in ways.items()
    ]  # fmt: skip
    return AttentionCurves(work=work, causal=causal, ways=found, threads=numbers, left_out=left_out)


def core_numbers() -> list[int]:
    """Return 1, 2, 4, … and the number of cores."""
    cores = num_cores()
    return sorted({*(1 << power for power in range(cores.bit_length()) if 1 << power <= cores), cores})


def _triangle(work: AttentionWork) -> int:
    """Return the pairs of one causal head."""
    return work.q_len * work.kv_len - work.q_len * (work.q_len - 1) // 2


def _sizes(q_len: int) -> list[int]:
    found = [_FEWEST_ROWS * 4**power for power in range(12)]
    return [size for size in found if size < q_len] or [q_len]


def _fitting(work: AttentionWork) -> int:
    """Return rows of a chunk whose scores are few in float64."""
    return max(1, (1 << 22) // max(1, work.streams * work.kv_len))


def _inputs(work: AttentionWork) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    width = (work.head_dim + work.value_dim) * work.element_bytes
    kv_heads = max(1, work.kv_bytes // max(1, work.kv_len * width))
    kv_heads = kv_heads if work.streams % kv_heads == 0 else work.streams
    shapes = (
        (1, work.streams, work.q_len, work.head_dim),
        (1, kv_heads, work.kv_len, work.head_dim),
        (1, kv_heads, work.kv_len, work.value_dim),
    )
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _ways(
    work: AttentionWork, sizes: Sequence[int], causal: bool, most_bytes: int
) -> tuple[dict[str, tuple[int | None, Attend]], dict[str, str]]:
    """Return name -> chunk size and what computes it, and why others are left out."""
    found: dict[str, tuple[int | None, Attend]] = {}
    left_out: dict[str, str] = {}
    for size in (*sizes, work.q_len):
        whole = size >= work.q_len
        name = MATERIALISED if whole else f"chunks of {size:,} rows"
        needed = 8 * work.streams * min(size, work.q_len) * work.kv_len
        if needed > most_bytes:
            left_out[name] = f"would take {needed / 2**30:,.1f} GiB"
        elif whole:
            found[name] = work.q_len, lambda q, k, v: _materialised(q, k, v, causal)
        else:
            found[name] = size, _chunks_of(size, causal)
    impls = {OWN_CHUNKS: "chunked", "PyTorch's fused kernel": "sdpa", "native kernel": "native"}
    for name, impl in impls.items():
        if impl == "native" and not native_available():
            left_out[name] = "needs the package regard-native"
        else:
            found[name] = None, _by(impl, causal)
    return found, left_out


def _chunks_of(size: int, causal: bool) -> Attend:
    return lambda query, key, value: chunked_attention(query, key, value, rows=size, causal=causal)


def _by(impl: str, causal: bool) -> Attend:
    return lambda query, key, value: attention(query, key, value, impl=impl, causal=causal)


def _materialised(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """Return attention as people write it: the whole map of scores, its softmax, its product with the values."""
    group = query.shape[1] // key.shape[1]
    key, value = (one if group == 1 else one.repeat_interleave(group, 1) for one in (key, value))
    scores = (query / math.sqrt(query.shape[3])) @ key.mT
    if causal:
        rows, keys = scores.shape[2:]
        hidden = torch.arange(keys) > torch.arange(rows)[:, None] + (keys - rows)
        scores.masked_fill_(hidden, -torch.inf)
    return scores.softmax(-1) @ value


class _Heard(TorchDispatchMode):
    """Counts products and the memory of tensors."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0
        self.footprint = Footprint(lambda key: None)
        for tensor in inputs:
            self.footprint.see(tensor, Holding.INPUTS)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [one for one in torch.utils._pytree.tree_leaves(result) if isinstance(one, Tensor)]
        for tensor in made:
            self.footprint.see(tensor, Holding.TEMPORARIES)
        name = func._schema.name.partition("::")[2]
        arguments = dict(zip((one.name for one in func._schema.arguments), args, strict=False)) | dict(kwargs or {})
        call = fused_call(name, arguments, "")
        if call is not None:
            self.flops += call.work.forward_flops[0]
        else:
            self.flops += product_flops(func, args, kwargs or {}, result) or 0
        self.footprint.mark(name, workspace_bytes(name, arguments))
        return result


def _heard(attend: Attend, inputs: Sequence[Tensor], exact: Tensor) -> dict[str, Any]:
    heard = _Heard(inputs)
    before = sum(one.numel() * one.element_size() for one in inputs)
    with heard:
        output = attend(*inputs)
    difference = float((output.double() - exact).abs().max())
    return {"peak_bytes": heard.footprint.peak - before, "flops": heard.flops, "difference": difference}


def _timed(
    ways: Mapping[str, tuple[int | None, Attend]],
    inputs: Sequence[Tensor],
    numbers: Sequence[int],
    rounds: int,
    budget_s: float,
) -> dict[str, dict[int, Timing]]:
    actions: dict[tuple[str, int], Callable[[], object]] = {}
    for name, (size, attend) in ways.items():
        for number in numbers if size is None or size == inputs[0].shape[2] else numbers[-1:]:
            actions[name, number] = _with_threads(number, attend, inputs)
    before = torch.get_num_threads()
    try:
        named = {f"{number} {name}": action for (name, number), action in actions.items()}
        timings = in_turn(named, rounds=rounds, budget_s=budget_s, warm_ups=1)
    finally:
        torch.set_num_threads(before)
    found: dict[str, dict[int, Timing]] = {name: {} for name in ways}
    for name, number in actions:
        found[name][number] = timings[f"{number} {name}"]
    return found


def _with_threads(number: int, attend: Attend, inputs: Sequence[Tensor]) -> Callable[[], object]:
    def run() -> object:
        torch.set_num_threads(number)
        return attend(*inputs)

    return run
