"""Measure where the native kernels are faster than PyTorch's on this machine: what ``regard doctor --tune`` runs.

Both run in turn over a ladder of sizes, and a ratio is taken within a round before the median over the rounds, so that
a slow moment of the machine slows both. The time that this takes is limited: on a slow machine the longest sizes are
left out.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.impl.native_region import MOST_DECODED, Region

__all__ = ["DTYPES", "LADDERS", "PEERS", "Ladder", "Rung", "Size", "Timer", "Trial", "Tuning", "seconds_of", "tune"]

PEERS = ("native", "sdpa")
"""Values of ``impl`` that are measured against each other."""

DTYPES = ("float32", "bfloat16", "float16")
"""Types that the native kernels take, by name."""
_SAMPLE_S = 2e-3  # a sample repeats its call until it takes this long: shorter ones measure the clock
_ROUND_LIMITS = 3, 15
_SHARE = 0.08  # of a ladder's time that one size may take, unless its fewest rounds take longer


@dataclass(frozen=True, kw_only=True)
class Size:
    """The shape of one call, of one sequence."""

    heads: int = 12
    q_len: int
    kv_len: int
    head_dim: int = 64

    @property
    def work(self) -> int:
        """Return what regions are measured in: heads · q_len · kv_len · head_dim."""
        return self.heads * self.q_len * self.kv_len * self.head_dim


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Sizes of growing work, for one of the mappings of ``Region``.

    Attributes:
        mode: ``"forward"``, ``"training"`` or ``"decode"``.
        sizes: what is measured, the least work first.
        weight: its part of the time, relative to that of the others.
    """

    mode: str
    sizes: tuple[Size, ...]
    weight: int


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One call that a timer runs: ``impl`` on tensors of this size and type, with gradients in training."""

    impl: str
    mode: str
    dtype: str
    size: Size
    run: Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What was measured at one size.

    Attributes:
        mode: which mapping of ``Region`` it is for.
        dtype: type of PyTorch by name.
        size: shape of the call.
        native_s: median time of the native kernels.
        sdpa_s: median time of PyTorch's.
        ratio: median over the rounds of native time / PyTorch's time; below 1 the native kernels are faster.
        upper_ratio: the upper quartile of the same; a size is won where this is below 1, so that noise wins none.
        num_rounds: rounds that were measured.
    """

    mode: str
    dtype: str
    size: Size
    native_s: float
    sdpa_s: float
    ratio: float
    upper_ratio: float
    num_rounds: int


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a machine was found to be.

    Attributes:
        rungs: each size that was measured, in the order of the ladders.
        num_left_out: sizes that would have taken longer than there was time.
        region: where the native kernels win.
    """

    rungs: tuple[Rung, ...]
    num_left_out: int
    region: Region


Timer = Callable[[Trial, int], float]
"""Runs a trial so many times and returns the seconds that all of them took."""


def _alike(*lengths: int, heads: int = 12) -> tuple[Size, ...]:
    return tuple(Size(heads=heads, q_len=length, kv_len=length) for length in lengths)


def _decoding(*lengths: int) -> tuple[Size, ...]:
    return tuple(Size(q_len=1, kv_len=length) for length in lengths)


# Work grows by about two from size to size, from 2¹⁴ on; the smallest need fewer heads to be more than a few queries.
_LENGTHS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
_SHORT = _alike(8, MOST_DECODED)
LADDERS = (
    Ladder(mode="decode", sizes=(*_SHORT, *_decoding(512, 1024, 2048, 4096, 8192)), weight=1),
    Ladder(mode="forward", sizes=(*_alike(20, heads=1), *_alike(24, heads=3), *_alike(*_LENGTHS)), weight=3),
    Ladder(mode="training", sizes=(*_alike(16, heads=1), *_SHORT, *_alike(*_LENGTHS)), weight=8),
)
"""What ``tune`` measures for each type."""


def seconds_of(trial: Trial, repeats: int) -> float:
    """Run ``trial`` ``repeats`` times; return the seconds that took."""
    run = trial.run
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    return time.perf_counter() - began


def tune(
    *,
    ladders: Sequence[Ladder] = LADDERS,
    dtypes: Sequence[str] = DTYPES,
    limit_s: float = 45.0,
    timer: Timer = seconds_of,
    tell: Callable[[Ladder, str, Size], None] | None = None,
) -> Tuning:
    """Measure ``impl="native"`` against ``impl="sdpa"`` over each ladder in each type.

    Args:
        ladders: what to measure.
        dtypes: types of PyTorch by name.
        limit_s: seconds that the measured calls may take, about; time that a ladder leaves goes to those after it.
        timer: what runs and times the calls.
        tell: told each size before it is measured or left out.

    Returns:
        The sizes that were measured, and the region that follows from them.

    Raises:
        ArgumentError: a limit that is not above 0.
    """
    if not limit_s > 0:
        raise ArgumentError(f"limit_s must be above 0, got {limit_s}.")
    stages = [(ladder, dtype) for ladder in ladders for dtype in dtypes]
    weight_left = sum(ladder.weight for ladder, _ in stages)
    rungs: list[Rung] = []
    for ladder, dtype in stages:
        watch = _Watch(timer, limit_s * ladder.weight / weight_left)
        rungs += _climb(ladder, dtype, watch, tell or _say_nothing)
        weight_left -= ladder.weight
        limit_s = max(limit_s - watch.spent_s, 0.0)
    asked = sum(len(ladder.sizes) for ladder, _ in stages)
    return Tuning(rungs=tuple(rungs), num_left_out=asked - len(rungs), region=_region(rungs))


def _say_nothing(ladder: Ladder, dtype: str, size: Size) -> None:
    pass


class _Watch:
    """A timer that adds up what it measured and knows how much may be spent."""

    def __init__(self, timer: Timer, limit_s: float) -> None:
        self._timer = timer
        self.limit_s, self.spent_s = limit_s, 0.0

    def __call__(self, trial: Trial, repeats: int = 1) -> float:
        seconds = self._timer(trial, repeats)
        self.spent_s += seconds
        return seconds / repeats

    @property
    def left_s(self) -> float:
        return self.limit_s - self.spent_s


def _climb(ladder: Ladder, dtype: str, watch: _Watch, tell: Callable[[Ladder, str, Size], None]) -> Iterator[Rung]:
    """Measure a ladder from its least size up; from the first for which there is no time on, leave all out."""
    expected_s, work, ended = 0.0, 1, False
    for size in ladder.sizes:
        tell(ladder, dtype, size)
        # Two to warm up and the fewest rounds, at the speed of the size before.
        ended = ended or expected_s * size.work / work * (_ROUND_LIMITS[0] + 2) > watch.left_s
        if ended:
            continue
        rung = _measure(ladder.mode, dtype, size, watch)
        expected_s, work = rung.native_s + rung.sdpa_s, size.work
        yield rung


def _measure(mode: str, dtype: str, size: Size, watch: _Watch) -> Rung:
    trials = _trials(mode, dtype, size)
    repeats, rounds = _plan(trials, watch)
    taken: dict[str, list[float]] = {impl: [] for impl in PEERS}
    for number in range(rounds):
        # Each round begins with the other one, so that neither always follows the same.
        for trial in trials if number % 2 == 0 else reversed(trials):
            taken[trial.impl].append(watch(trial, repeats[trial.impl]))
    native, sdpa = (taken[impl] for impl in PEERS)
    ratios = [one / other for one, other in zip(native, sdpa, strict=True)]
    return Rung(
        mode=mode,
        dtype=dtype,
        size=size,
        native_s=statistics.median(native),
        sdpa_s=statistics.median(sdpa),
        ratio=statistics.median(ratios),
        upper_ratio=statistics.quantiles(ratios, n=4, method="inclusive")[2],
        num_rounds=rounds,
    )


def _plan(trials: Sequence[Trial], watch: _Watch) -> tuple[dict[str, int], int]:
    """Warm up; return how often a sample repeats each call, and how many rounds to measure."""
    repeats, round_s = {}, 0.0
    for trial in trials:
        watch(trial)  # the first call of a size also allocates
        single_s = watch(trial)
        repeats[trial.impl] = max(1, math.ceil(_SAMPLE_S / max(single_s, 1e-7)))
        round_s += single_s * repeats[trial.impl]
    fewest, most = _ROUND_LIMITS
    return repeats, min(max(int(watch.limit_s * _SHARE / max(round_s, 1e-7)), fewest), most)


def _trials(mode: str, dtype: str, size: Size) -> list[Trial]:
    """Return the call of each peer on the same tensors."""
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> Tensor:
        return torch.randn(1, size.heads, length, size.head_dim, generator=generator).to(getattr(torch, dtype))

    tensors = draw(size.q_len), draw(size.kv_len), draw(size.kv_len)
    grad_output = draw(size.q_len)
    call = _trained if mode == "training" else _inferred
    return [Trial(impl=impl, mode=mode, dtype=dtype, size=size, run=call(impl, tensors, grad_output)) for impl in PEERS]


def _inferred(impl: str, tensors: tuple[Tensor, ...], _: Tensor) -> Callable[[], object]:
    from regard.functional.attention import attention  # which goes by the region, so that it cannot be known above

    query, key, value = tensors

    def run() -> Tensor:
        with torch.no_grad():
            return attention(query, key, value, impl=impl)

    return run


def _trained(impl: str, tensors: tuple[Tensor, ...], grad_output: Tensor) -> Callable[[], object]:
    from regard.functional.attention import attention

    query, key, value = (tensor.clone().requires_grad_() for tensor in tensors)

    def run() -> tuple[Tensor, ...]:
        with torch.enable_grad():
            output = attention(query, key, value, impl=impl)
        return torch.autograd.grad(output, (query, key, value), grad_output)

    return run


def _region(rungs: Sequence[Rung]) -> Region:
    figures: dict[str, dict[str, int | None]] = {"forward": {}, "training": {}, "decode": {}}
    for mode, dtype in dict.fromkeys((rung.mode, rung.dtype) for rung in rungs):
        measured = [rung for rung in rungs if (rung.mode, rung.dtype) == (mode, dtype)]
        figures[mode][dtype] = _least_work(measured)
    return Region(forward=figures["forward"], training=figures["training"], decode=figures["decode"])


def _least_work(rungs: Sequence[Rung]) -> int | None:
    """Return the least work from which the native kernels win at every size, or None where they lose at the largest."""
    lost = max((rung.size.work for rung in rungs if not rung.upper_ratio < 1), default=0)
    return min((rung.size.work for rung in rungs if rung.size.work > lost), default=None)
