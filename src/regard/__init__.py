"""regard: see self-attention, prove it right, build with it, ship it.

Public names are loaded on first use, so that ``import regard`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regard._errors import RegardError

if TYPE_CHECKING:
    from regard.conformance import check
    from regard.functional import attention
    from regard.observe import guard, watch

__version__ = "0.1.0"

_LAZY = {
    "attention": "regard.functional",
    "check": "regard.conformance",
    "guard": "regard.observe",
    "watch": "regard.observe",
}
_ROOMS = (
    "cli",
    "conformance",
    "cost",
    "data",
    "diagnose",
    "evaluate",
    "functional",
    "logs",
    "models",
    "modules",
    "observe",
    "readiness",
    "records",
    "train",
    "viewer",
)

__all__ = ["RegardError", "__version__", "attention", "check", "guard", "watch"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return import_module(f"regard.{name}")
    raise AttributeError(f"module 'regard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_ROOMS})
