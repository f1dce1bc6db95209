"""Which module is calling? Read from the interpreter's own call stack.

Forward hooks would be simpler and are what most tools use, but PyTorch looks for hooks before it takes the fast path of
``nn.TransformerEncoderLayer`` and ``nn.MultiheadAttention``: a hook changes the kernel, hence the bits. Reading the
stack changes nothing and leaves nothing behind, also after an exception.
"""

import sys
from collections.abc import Mapping
from types import FrameType

from torch import nn

__all__ = ["calling_module"]


def calling_module(names: Mapping[nn.Module, str]) -> str | None:
    """Return the dotted name of the innermost module of ``names`` whose method is running, or None.

    Args:
        names: modules of the watched model and their dotted names.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_argcount and code.co_varnames[0] == "self":
            module = frame.f_locals.get("self")
            if isinstance(module, nn.Module) and module in names:
                return names[module]
        frame = frame.f_back
    return None
