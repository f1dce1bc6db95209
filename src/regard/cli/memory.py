"""Keep freed memory for the next step instead of giving it back to the system."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and not to trim it; return whether it does.

    By default each large tensor is mapped anew and its pages are cleared at first touch, at every training step. Only a
    process that regard owns is changed, never one that imports regard. Elsewhere than with glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
