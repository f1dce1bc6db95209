"""Where the native kernels are faster than PyTorch's: what ``impl="auto"`` goes by.

The table holds, for each type, the least work for which they were, as measured by ``regard doctor --tune``; what that
measures on a machine takes the place of the built-in figures there, for as long as PyTorch, the number of threads and
the instruction set are those that it was measured under. On a processor that nobody measured they are not chosen; such
are all with matrix units (AMX), which both these kernels and PyTorch's use.
"""

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.impl.native import instruction_set, native_available, native_obstacle
from regard.functional.impl.torch_private import constant_when_compiled, has_amx

__all__ = [
    "MOST_DECODED",
    "Conditions",
    "Region",
    "load_region",
    "native_trains",
    "native_wins",
    "outdated_region",
    "region_origin",
    "region_path",
    "this_machine",
]

MOST_DECODED = 16
"""Queries of a sequence up to which a call without gradients counts as decoding."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What times depend on beside the processor.

    Attributes:
        torch: version of PyTorch.
        threads: how many PyTorch uses.
        instruction_set: of the native kernels.
    """

    torch: str
    threads: int
    instruction_set: str

    @classmethod
    def now(cls) -> "Conditions":
        """Return those of this process.

        Raises:
            UnsupportedError: ``regard-native`` is not installed.
        """
        return cls(torch=torch.__version__, threads=torch.get_num_threads(), instruction_set=instruction_set())

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"torch {self.torch}, {threads} and {self.instruction_set}"


@dataclass(frozen=True, kw_only=True)
class Region:
    """The least work, batch · heads · q_len · kv_len · head_dim, from which the native kernels win; None for never.

    Keys are types of PyTorch by name; a type that is missing is never won.

    Attributes:
        forward: for calls without gradients.
        training: for calls with gradients.
        decode: for calls without gradients and with at most ``MOST_DECODED`` queries, whose time goes into reading keys
            and values; None where they were not judged by themselves, then ``forward`` holds for them.
        linear: the most rows up to which the native linear layer wins without gradients; a type that is missing is
            never won. None where it was not measured.
        conditions: what it was measured under; None where that is not known.

    Raises:
        ArgumentError: a figure that is neither None nor a whole number above 0.
    """

    forward: dict[str, int | None]
    training: dict[str, int | None]
    decode: dict[str, int | None] | None = None
    linear: dict[str, int | None] | None = None
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        for name in ("forward", "training", "decode", "linear"):
            for dtype, least in (getattr(self, name) or {}).items():
                if least is not None and (type(least) is not int or least < 1):
                    raise ArgumentError(f"{name} of {dtype} must be a whole number above 0 or None, got {least!r}.")

    def least_work(self, dtype: torch.dtype, *, trains: bool, q_len: int) -> int | None:
        """Return the least work from which the native kernels win at such calls, or None for never."""
        figures = self.training if trains else self.forward
        if not trains and q_len <= MOST_DECODED and self.decode is not None:
            figures = self.decode
        return figures.get(str(dtype).removeprefix("torch."))

    def most_rows(self, dtype: torch.dtype) -> int:
        """Return the most rows up to which the native linear layer wins, 0 for never."""
        return (self.linear or {}).get(str(dtype).removeprefix("torch.")) or 0

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


_MEASURED = {
    "avx512": Region(
        forward={"float32": 1 << 28, "bfloat16": 1 << 24},
        training={"float32": 1 << 20, "bfloat16": 1 << 16, "float16": 1 << 16},
        decode={"float32": 1 << 22},
        linear={"float32": 8, "bfloat16": 8},
    ),
    "avx512_bf16": Region(
        forward={"float32": 1 << 20, "bfloat16": 1 << 18, "float16": 1 << 20},
        training={"float32": 1 << 20, "bfloat16": 1 << 18, "float16": 1 << 20},
    ),
}
"""By instruction set, on processors without matrix units (AMX)."""
_NEVER = Region(forward={}, training={})


def region_path() -> Path:
    """Return where the figures of this machine are kept: REGARD_REGION, or ``regard/region.json`` among its caches."""
    given = os.environ.get("REGARD_REGION")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else caches / "regard" / "region.json"


def load_region(path: Path) -> Region:
    """Read figures that ``Region.save`` wrote.

    Raises:
        ArgumentError: the file does not hold them.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        decode, linear = (held.get(name) for name in ("decode", "linear"))  # files older than these lack them
        conditions = held.get("conditions")
        return Region(
            forward=dict(held["forward"]),
            training=dict(held["training"]),
            decode=None if decode is None else dict(decode),
            linear=None if linear is None else dict(linear),
            conditions=None if conditions is None else Conditions(**conditions),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(
            f"{path} must hold what `regard doctor --tune` wrote, got something else ({str(error).rstrip('.')}); "
            "remove it or measure again."
        ) from None


def native_wins(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    trains: bool,
    attn_bias: Tensor | None = None,
    window: int | None = None,
    alibi_slopes: Tensor | None = None,
) -> bool:
    """Return whether the native kernels can run this call and are the fastest at it.

    Of a window only the work within counts, though the other kernels compute all of it.
    """
    if native_obstacle(query, key, value, attn_bias, alibi_slopes) is not None:
        return False
    least = _least_work(query.dtype, trains, query.shape[2] <= MOST_DECODED)
    seen = key.shape[2] if window is None else min(window, key.shape[2])
    return least is not None and query.numel() * seen >= least


def native_trains(dtype: torch.dtype) -> bool:
    """Return whether ``impl="auto"`` trains attention of ``dtype`` on the native kernels where there is enough work."""
    return native_available() and this_machine().least_work(dtype, trains=True, q_len=MOST_DECODED + 1) is not None


@constant_when_compiled
def _least_work(dtype: torch.dtype, trains: bool, decodes: bool) -> int | None:
    """Return a number, which compiled code can hold; a region it cannot."""
    return this_machine().least_work(dtype, trains=trains, q_len=1 if decodes else MOST_DECODED + 1)


def this_machine() -> Region:
    """Return the figures that hold on this machine, with as many threads as PyTorch uses now.

    Raises:
        ArgumentError: a file that does not hold what ``regard doctor --tune`` wrote.
    """
    return _read_once(torch.get_num_threads())


@cache
def _read_once(threads: int) -> Region:
    held = _held()
    if held is not None and _holds(held):
        return held
    return _MEASURED[instruction_set()] if _is_built_in() else _NEVER


def region_origin() -> str:
    """Return where the figures come from: a file (``"measured"``), regard (``"built in"``) or nowhere (``"none"``).

    Raises:
        ArgumentError: as for ``this_machine``.
    """
    held = _held()
    if held is not None and _holds(held):
        return "measured"
    return "built in" if _is_built_in() else "none"


def outdated_region() -> str | None:
    """Return in one sentence why figures that were measured are not used here; None where they are, or none were.

    Raises:
        ArgumentError: as for ``this_machine``.
    """
    held = _held()
    if held is None or _holds(held):
        return None
    under = "what is not known" if held.conditions is None else str(held.conditions)
    return (
        f"{region_path()} must have been measured under {Conditions.now()} to be used, got {under}; "
        "measure again: `regard doctor --tune`."
    )


def _held() -> Region | None:
    path = region_path()
    return load_region(path) if path.exists() else None


def _holds(region: Region) -> bool:
    return region.conditions == Conditions.now()


def _is_built_in() -> bool:
    return instruction_set() in _MEASURED and not has_amx()
