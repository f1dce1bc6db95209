"""Which module is calling? Read from the interpreter's own call stack.

Forward hooks would be simpler and are what most tools use, but PyTorch looks for hooks before it takes the fast path of
``nn.TransformerEncoderLayer`` and ``nn.MultiheadAttention``: a hook changes the kernel, hence the bits. Reading the
stack changes nothing and leaves nothing behind, also after an exception.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType

from torch import nn

__all__ = ["Caller", "arguments_of", "calling_module"]

_RUNTIME = "_functorch/_aot_autograd"  # runs what torch.compile made
_GRAPH = "<eval_with_key>"  # file name of a graph that is run as Python


@dataclass(frozen=True)
class Caller:
    """The innermost watched module that is running.

    Attributes:
        name: its dotted name.
        compiled: whether the call came out of code that ``torch.compile`` made of it, where modules within it no
            longer exist.
    """

    name: str
    compiled: bool


def calling_module(names: Mapping[nn.Module, str]) -> Caller | None:
    """Return the innermost module of ``names`` whose method is running, or None.

    Args:
        names: modules of the watched model and their dotted names.
    """
    compiled = False
    for frame in _frames():
        path = frame.f_code.co_filename
        compiled = compiled or _RUNTIME in path or path.startswith(_GRAPH)
        module = _self_of(frame)
        if module is not None and module in names:
            return Caller(names[module], compiled)
    return None


def arguments_of(module: nn.Module) -> dict[str, object]:
    """Return the local variables of the running ``forward`` of ``module``, empty where it is not running."""
    for frame in _frames():
        if frame.f_code.co_name == "forward" and _self_of(frame) is module:
            return dict(frame.f_locals)
    return {}


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _self_of(frame: FrameType) -> nn.Module | None:
    code = frame.f_code
    if code.co_argcount and code.co_varnames[0] == "self":
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module):
            return module
    return None
