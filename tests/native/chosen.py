"""Run the native kernels on one instruction set with a number of threads, whatever the processor would take."""

from collections.abc import Iterator
from contextlib import contextmanager

import regard_native

__all__ = ["chosen"]


@contextmanager
def chosen(instruction_set: str, threads: int) -> Iterator[None]:
    """Let every call of a kernel run on ``instruction_set`` with ``threads``; PyTorch's own threads stay as they are.

    That keeps the threads of the kernels apart from those of PyTorch, which a sanitizer must not see.
    """
    run, choose = regard_native.run, regard_native.forced_instruction_set

    def with_threads(kernel: str, call: regard_native.Call | regard_native.LinearCall) -> None:
        call.threads = threads
        run(kernel, call)

    regard_native.run, regard_native.forced_instruction_set = with_threads, lambda: instruction_set
    try:
        yield
    finally:
        regard_native.run, regard_native.forced_instruction_set = run, choose
