"""Make this process a good neighbour and a fast one, before torch is imported.

Only the command line calls this: a library must not change the process of the program that imports it.
"""

import ctypes
import os
import sys

__all__ = ["keep_freed_memory", "wait_briefly"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def wait_briefly() -> None:
    """Let OpenMP's threads spin only shortly while they wait for each other, unless the environment says otherwise.

    Threads that spin long take the core from the very thread that they wait for: with one other busy process on two
    cores a training step takes many times as long. GNU's OpenMP reads this once, when torch loads it; others ignore it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> bool:
    """Tell glibc to serve large blocks from its heap and not to trim it; return whether it does.

    By default each large tensor is mapped anew and its pages are cleared at first touch, at every training step.
    Without glibc nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
