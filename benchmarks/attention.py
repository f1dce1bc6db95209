"""How fast are the native kernels beside PyTorch's fused attention, with every statistic of every row?

Each case is one shape and precision. Forward: PyTorch's ``scaled_dot_product_attention``, the native kernel, the same
with five statistics of each row, and the statistics alone, which is what watching costs beside a kept kernel. Training:
forward and backward, PyTorch's without statistics against the native ones with. Padding is a mask over keys, for
lengths from a fifth to all of the longest. Decoding reads a cache from memory, so it stands beside a copy of as many
bytes.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measure import Sample, collect, compare, timed
from memory import in_fresh_process, peak_bytes, unmeasurable
from report import Report, Table, parser
from torch import Tensor
from torch.nn import functional as F

from regard.functional import row_statistics
from regard.functional.impl.native import native_available
from regard.functional.impl.native_attention import native_with_lse

__all__ = ["main"]

_QUESTION = "How fast are the native kernels, with statistics, beside PyTorch's without?"
_NAMES = ("entropy", "max_score", "max_weight", "distance", "first_mass")
_CACHED_BYTES = 1 << 28  # decoding walks through caches larger than the processor's
Step = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One shape: keys are as many as queries unless ``kv_len`` says otherwise."""

    batch: int
    heads: int
    length: int
    width: int = 64
    kv_heads: int | None = None
    kv_len: int | None = None
    precision: torch.dtype = torch.float32
    kind: str = "forward"
    mask: str = "plain"

    @property
    def name(self) -> str:
        """What the case is called in tables and on the command line."""
        heads = f"{self.heads}" if self.kv_heads is None else f"{self.heads} over {self.kv_heads}"
        lengths = f"{self.length:,}" if self.kv_len is None else f"{self.length} on {self.kv_len:,}"
        shape = f"{self.batch} × {heads} heads × {lengths} × {self.width}"
        return f"{self.kind}, {self.mask}, {shape}, {str(self.precision).removeprefix('torch.')}"

    def tensors(self, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, heads innermost as models have them; a cache is in order of its heads."""
        generator = torch.Generator().manual_seed(seed)
        kv_heads, kv_len = self.kv_heads or self.heads, self.kv_len or self.length
        shapes = [(self.heads, self.length), (kv_heads, kv_len), (kv_heads, kv_len)]
        drawn = [torch.randn(self.batch, length, heads, self.width, generator=generator) for heads, length in shapes]
        query, key, value = (tensor.to(self.precision).transpose(1, 2) for tensor in drawn)
        return (query, key, value) if self.kv_len is None else (query, key.contiguous(), value.contiguous())

    def keep(self) -> Tensor | None:
        """Return the mask of padding, True = a real key, or None."""
        if self.mask != "padding":
            return None
        lengths = torch.linspace(0.2, 1.0, self.batch).mul(self.length).long()
        return (torch.arange(self.length) < lengths[:, None])[:, None, None, :]


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "", rounds=9)
    made.add_argument("--case", nargs="*", default=[], metavar="WORD", help="only cases whose names hold every WORD")
    made.add_argument("--peak", nargs=2, metavar=("CASE", "PEER"), help="only print one peer's peak memory, in bytes")
    options = made.parse_args()
    if not native_available():
        raise SystemExit("This benchmark needs the package regard-native; install it with `make native`.")
    cases = _cases(options.quick)
    if options.peak:
        print(_peak(next(case for case in cases if case.name == options.peak[0]), options.peak[1]))
        return
    report = Report(_QUESTION, options, facts=["statistics: " + ", ".join(_NAMES)])
    for case in cases:
        if all(word in case.name for word in options.case):
            report.tell(case.name)
            report.add(_table(case, options, report))
    report.write()


def _cases(quick: bool) -> list[Case]:
    if quick:
        tiny = [Case(batch=1, heads=2, length=32, kind=kind) for kind in ("forward", "training")]
        return [*tiny, Case(batch=1, heads=2, length=1, kv_len=64, kind="decoding")]
    shapes = [(4, 12, 512), (16, 12, 128), (1, 12, 2048), (1, 12, 8192)]
    types = (torch.float32, torch.bfloat16)
    square = [
        Case(batch=batch, heads=heads, length=length, precision=precision, kind=kind, mask=mask)
        for kind in ("forward", "training")
        for batch, heads, length in shapes
        for precision in types
        for mask in ("plain", "causal")
        if kind == "forward" or length < 8192
    ]
    padded = [
        Case(batch=batch, heads=12, length=length, precision=precision, kind=kind, mask="padding")
        for kind in ("forward", "training")
        for batch, length in ((16, 256), (32, 128))
        for precision in types
    ]
    caches = [(12, 12, 64, 4096, 1), (12, 12, 64, 8192, 4), (12, 12, 64, 8192, 16), (32, 8, 128, 8192, 1)]
    decoding = [
        Case(
            batch=1, heads=heads, kv_heads=kv_heads, width=width, length=length, kv_len=kv_len,
            precision=precision, kind="decoding",
        )
        for heads, kv_heads, width, kv_len, length in caches
        for precision in types
    ]  # fmt: skip
    long = [Case(batch=1, heads=1, length=131_072, precision=precision) for precision in types]
    return [*square, *padded, *decoding, *long]


def _peers(case: Case) -> dict[str, Step]:
    if case.kind == "decoding":
        return _decoding(case)
    query, key, value = case.tensors()
    keep, causal = case.keep(), case.mask == "causal"
    if case.kind == "training":
        return _training(query, key, value, keep, causal)
    options = {"attn_mask": keep, "causal": causal}
    return {
        "sdpa": lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=keep, is_causal=causal),
        "native": lambda: native_with_lse(query, key, value, **options),
        "native + statistics": lambda: native_with_lse(query, key, value, statistics=_NAMES, **options),
        "statistics alone": lambda: row_statistics(query, key, statistics=_NAMES, route="native", **options),
    }


def _training(query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, causal: bool) -> dict[str, Step]:
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    direction = torch.randn(query.shape, generator=torch.Generator().manual_seed(1)).to(query.dtype)

    def both(output: Tensor) -> object:
        return torch.autograd.grad(output, leaves, direction)

    return {
        "sdpa": lambda: both(F.scaled_dot_product_attention(*leaves, attn_mask=keep, is_causal=causal)),
        "native + statistics": lambda: both(
            native_with_lse(*leaves, attn_mask=keep, causal=causal, statistics=_NAMES)[0]
        ),
    }


def _decoding(case: Case) -> dict[str, Step]:
    """Each step reads many caches, one after the other, so that none is still in the processor's own memory."""
    first = case.tensors()
    number = 2 if case.kv_len == 64 else max(2, _CACHED_BYTES // (2 * first[1].nbytes))
    caches = [case.tensors(seed) for seed in range(number)]
    source = torch.cat([tensor.flatten() for _, key, value in caches for tensor in (key, value)])
    target = torch.empty_like(source)
    grouped = case.kv_heads != case.heads
    return {
        "sdpa": lambda: [F.scaled_dot_product_attention(*cache, enable_gqa=grouped) for cache in caches],
        "native": lambda: [native_with_lse(*cache, causal=True) for cache in caches],
        "native + statistics": lambda: [native_with_lse(*cache, causal=True, statistics=_NAMES) for cache in caches],
        "copy of the caches": lambda: target.copy_(source),
    }


def _table(case: Case, options: argparse.Namespace, report: Report) -> Table:
    def measured(step: Step) -> Callable[[], Sample]:
        def run() -> Sample:
            with torch.set_grad_enabled(case.kind == "training"):
                return timed(step)

        return run

    steps = {name: measured(step) for name, step in _peers(case).items()}
    is_long = case.length > 10_000
    rounds, most = (1, None) if options.quick else (3, 6) if is_long else (options.rounds, 2 * options.rounds)
    samples = collect(steps, rounds=rounds, most_rounds=most, warm_ups=1, tell=report.tell)
    peaks: dict[str, int] = {}
    if is_long and unmeasurable() is None:
        report.tell("peak memory")
        peaks = {name: in_fresh_process(__file__, ["--peak", case.name, name]) for name in steps}
    return Table(title=case.name, comparisons=compare(samples), peaks=peaks)


def _peak(case: Case, name: str) -> int:
    with torch.no_grad():
        return peak_bytes(_peers(case)[name])


if __name__ == "__main__":
    main()
