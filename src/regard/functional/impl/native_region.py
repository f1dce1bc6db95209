"""Where the native kernels are faster than PyTorch's: what ``impl="auto"`` goes by.

The table holds, for each type, the least work for which they were, as measured by ``regard doctor --tune``; what that
measures on a machine takes the place of the built-in figures there. On a processor that nobody measured, such as one
whose matrix units PyTorch uses and these kernels do not, they are not chosen.
"""

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from regard._errors import ArgumentError
from regard.functional.impl.native import instruction_set, native_obstacle
from regard.functional.impl.torch_private import constant_when_compiled, has_amx

__all__ = ["Region", "load_region", "native_wins", "region_path", "this_machine"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """The least work, batch · heads · q_len · kv_len · head_dim, from which the native kernels win; None for never.

    Keys are types of PyTorch by name; ``forward`` is a call without gradients, ``training`` one with.
    """

    forward: dict[str, int | None]
    training: dict[str, int | None]

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


_MEASURED = {
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
        return Region(forward=dict(held["forward"]), training=dict(held["training"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{path} must hold what `regard doctor --tune` wrote, got {error}; remove it or measure again."
        ) from None


def native_wins(query: Tensor, key: Tensor, value: Tensor, attn_bias: Tensor | None, trains: bool) -> bool:
    """Return whether the native kernels can run this call and are the fastest at it."""
    if native_obstacle(query, key, value, attn_bias) is not None:
        return False
    region = this_machine()
    least = (region.training if trains else region.forward).get(str(query.dtype).removeprefix("torch."))
    return least is not None and query.numel() * key.shape[2] >= least


@constant_when_compiled
def this_machine() -> Region:
    """Return the figures that hold on this machine."""
    return _read_once()


@cache
def _read_once() -> Region:
    path = region_path()
    if path.exists():
        return load_region(path)
    return _NEVER if has_amx() else _MEASURED.get(instruction_set(), _NEVER)
