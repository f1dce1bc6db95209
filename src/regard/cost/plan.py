"""What a step will need, before anything is run: operations, memory at its peak, and the longest batch that fits."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from regard._errors import ArgumentError, UnsupportedError
from regard.cost.account import Account
from regard.cost.calling import Arguments
from regard.cost.count import account_of, imagined, refuse_compiled, tensors_of
from regard.cost.estimate import Estimate, measured_rates, short_lengths
from regard.cost.footprint import Holding
from regard.cost.imaginary import Imagination
from regard.cost.workload import Step, Workload

__all__ = ["Plan", "estimated", "is_recurrent", "largest_that_fits", "max_length", "plan"]

_LONGEST = 1 << 24
_POSITIONS = ("max_position_embeddings", "n_positions", "max_len", "max_seq_len")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one step of a workload needs.

    Attributes:
        workload: what was planned.
        account: operations of one step, and the memory in use meanwhile; the optimizer's state is there before it.
        map_bytes: what the attention maps of all layers would take at once, were attention not fused.
        time: how long a step is expected to take; None where nothing was measured.
        longest: tokens of a sequence that fit at this batch; None without a limit, or where the model takes one length.
        most: sequences that fit at this length; None likewise.
        limit_bytes: of memory for the tensors; None for none.
        notes: what must be known.
    """

    workload: Workload
    account: Account
    map_bytes: int
    time: Estimate | None = None
    longest: int | None = None
    most: int | None = None
    limit_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """The largest sum of all tensors and known workspaces at a time, weights included."""
        return self.account.peak_bytes

    @property
    def fits(self) -> bool | None:
        """Whether the peak lies within the limit; None without one."""
        return None if self.limit_bytes is None else self.peak_bytes <= self.limit_bytes

    def held(self, holding: Holding) -> int:
        """Return the bytes that were held for something at the peak."""
        return self.account.at_peak.get(holding, 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        workload = self.workload
        return {
            "schema_version": 1,
            "model": workload.name,
            "batch": workload.batch,
            "length": workload.length,
            "trains": workload.trains,
            "precision": workload.precision,
            **self.account.to_dict(),
            "kv_bytes": self.account.kv_bytes,
            "map_bytes": self.map_bytes,
            "time": None if self.time is None else self.time.to_dict(),
            "limit_bytes": self.limit_bytes,
            "fits": self.fits,
            "longest": self.longest,
            "most": self.most,
            "notes": list(self.notes),
        }


def plan(workload: Workload) -> Plan:
    """Return what a step of ``workload`` needs; nothing is computed and no memory is taken.

    The step runs on shapes alone, with the optimizer's state in place if it trains. What is in use at each moment is
    what PyTorch would have in use then: the same operators run, tensors live as long, and autograd keeps the same ones.
    What kernels allocate for themselves is added where it is known. Memory that the allocator holds back, and that of
    the process itself, is not in it.

    Raises:
        UnsupportedError: the model decides by numbers, or is compiled.
        ArgumentError: the length is more than the model has positions.

    Example:
        >>> from regard.cost import Workload, call_of
        >>> layer = nn.Linear(1000, 1000, bias=False)
        >>> found = plan(Workload(model=layer, inputs=call_of(layer), length=1000))
        >>> found.peak_bytes  # weights, input and output in float32
        12000000
    """
    refuse_compiled(workload.model)
    most = max_length(workload.model)
    if most is not None and workload.length > most:
        raise ArgumentError(
            f"The length must be within the {most} positions that {workload.name or 'the model'} has, got "
            f"{workload.length}; give a shorter one, or a model with more."
        )
    imagination = Imagination()
    model = imagination.module(workload.model)
    drawn = workload.arguments()
    arguments = Arguments(positional=imagined(drawn.positional, imagination), named=imagined(drawn.named, imagination))
    step = Step(replace(workload, model=model), arguments)
    with imagination():
        state = step.make_state()
    account = account_of(model, step, tensors_of([arguments.positional, arguments.named]), imagination, state=state)
    return Plan(
        workload=workload,
        account=account,
        map_bytes=sum(work.map_bytes for work in account.attention),
        notes=_notes(workload),
    )


def estimated(found: Plan) -> Estimate:
    """Measure two short steps of one sequence each, and return how long the planned step will take.

    The attention core and everything else get a rate each, so that both may grow as they do.

    Raises:
        UnsupportedError: the model has no weights to measure with.
    """
    workload = replace(found.workload, batch=1)
    if any(parameter.is_meta for parameter in workload.model.parameters()):
        raise UnsupportedError("A time needs a model with weights, got one on the meta device; load them first.")
    one = plan(workload).account
    lengths = short_lengths(one, workload.length)
    short, longer = (plan(replace(workload, length=length)).account for length in lengths)
    return measured_rates(workload, (short, longer), lengths).of(found.account)


def largest_that_fits(workload: Workload, limit_bytes: int, *, vary: str, most: int | None = None) -> int:
    """Return the largest length, or batch, at which the peak of ``workload`` lies within ``limit_bytes``; 0 for none.

    Args:
        workload: its other sizes stay.
        limit_bytes: for all tensors.
        vary: ``"length"`` or ``"batch"``.
        most: beyond which the model cannot go; None for no such limit.

    Raises:
        ArgumentError: another ``vary``.
    """
    if vary not in ("length", "batch"):
        raise ArgumentError(f'vary must be "length" or "batch", got {vary!r}.')
    known: dict[int, int] = {}

    def peak(size: int) -> int:
        if size not in known:
            sized = replace(workload, length=size) if vary == "length" else replace(workload, batch=size)
            known[size] = plan(sized).peak_bytes
        return known[size]

    first = workload.length if vary == "length" else workload.batch
    return _largest(peak, limit_bytes, first, most or _LONGEST)


def max_length(model: nn.Module) -> int | None:
    """Return how many positions ``model`` has; None where nothing says that they are limited."""
    for name in _POSITIONS:
        # The config of a head without one is that of the model inside it.
        found = [getattr(getattr(module, "config", None), name, None) for module in model.modules()]
        known = [one for one in found if isinstance(one, int) and 0 < one < 10**9]
        if known:
            return min(known)
    found_in = [getattr(module, "max_len", None) for module in model.modules()]
    return min((one for one in found_in if isinstance(one, int)), default=None)


def is_recurrent(model: nn.Module) -> bool:
    """Return whether ``model`` has recurrent layers, whose steps are counted one by one: long sequences take long."""
    return any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in model.modules())


def _largest(peak: Callable[[int], int], limit: int, first: int, most: int) -> int:
    """Return the largest size whose peak is within ``limit``, by guessing along the line through the last two."""
    low, high = 0, min(first, most)
    while peak(high) <= limit:
        if high == most:
            return most
        low, high = high, min(most, high * 2)
    if low == 0:
        if peak(1) > limit:
            return 0
        low = 1
    while high - low > max(1, high // 256):
        slope = (peak(high) - peak(low)) / (high - low)
        guess = low + int((limit - peak(low)) / slope) if slope > 0 else (low + high) // 2
        margin = max(1, (high - low) // 32)  # a curve is no line: keep off its ends, so that both close in
        middle = min(max(guess, low + margin), high - margin)
        low, high = (middle, high) if peak(middle) <= limit else (low, middle)
    return low


def _notes(workload: Workload) -> tuple[str, ...]:
    limit = max_length(workload.model)
    found = [workload.assumed] if workload.assumed else []
    if limit is not None and workload.length > limit:
        found.append(f"The model has {limit:,} positions, fewer than {workload.length:,} tokens.")
    return tuple(found)
