"""The native kernels: a shared library and the structures that its functions take.

This package knows nothing of tensors. ``regard.functional.impl.native`` checks what people give and fills it.
"""

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_uint64, c_void_p
from pathlib import Path

__all__ = [
    "BFLOAT16",
    "FLOAT16",
    "FLOAT32",
    "STATISTICS",
    "Call",
    "LinearCall",
    "Side",
    "Tensor",
    "forced_instruction_set",
    "instruction_set",
    "instruction_sets",
    "run",
]

FLOAT32, BFLOAT16, FLOAT16 = range(3)
"""Types of numbers, as call.h counts them."""

STATISTICS = (
    "entropy",
    "collision",
    "max_weight",
    "max_score",
    "min_score",
    "score_spread",
    "first_mass",
    "self_mass",
    "previous_mass",
    "distance",
    "expected_position",
    "mass",
    "contribution",
    "first_contribution",
)
"""Statistics of a row in the order of ``Call.statistics``."""


class Tensor(ctypes.Structure):
    """A tensor (batch, heads, len, width) whose last axis is contiguous; strides count elements."""

    _fields_ = [("data", c_void_p), ("dtype", c_int64), ("batch", c_int64), ("head", c_int64), ("row", c_int64)]


class Side(ctypes.Structure):
    """A mask or a bias over (batch, heads, q_len, kv_len); stride 0 where an axis is shared."""

    _fields_ = [*Tensor._fields_, ("key", c_int64)]


class Call(ctypes.Structure):
    """One attention call; call.h says what each field means."""

    _fields_ = [
        *[(name, c_int64) for name in ("size", "batch", "heads", "kv_heads", "q_len", "kv_len")],
        *[(name, c_int64) for name in ("head_dim", "value_dim", "threads")],
        ("scale", c_double),
        ("softcap", c_double),
        ("window_left", c_int64),
        ("window_right", c_int64),
        ("positions", c_void_p),
        ("position_batch", c_int64),
        ("position_row", c_int64),
        ("num_sequences", c_int64),
        ("q_offsets", c_void_p),
        ("kv_offsets", c_void_p),
        ("mask", Side),
        ("bias", Side),
        ("slopes", c_void_p),
        ("seed", c_uint64),
        ("drop_below", c_uint64),
        ("drop_scale", c_double),
        *[(name, Tensor) for name in ("query", "key", "value", "output")],
        ("lse", c_void_p),
        ("statistics", c_void_p * len(STATISTICS)),
        ("key_weights", c_void_p),
        ("value_norms", c_void_p),
        ("grad_output", Tensor),
        ("grad_lse", c_void_p),
        *[(name, Tensor) for name in ("grad_query", "grad_key", "grad_value")],
        ("row_weights", c_void_p),
        ("received", c_void_p),
    ]

    def __init__(self) -> None:
        super().__init__(size=ctypes.sizeof(Call), window_left=-1, window_right=-1)


class LinearCall(ctypes.Structure):
    """A linear layer for few rows; call.h says what each field means."""

    _fields_ = [
        *[(name, c_int64) for name in ("size", "rows", "in_features", "out_features", "dtype", "threads")],
        ("input", c_void_p),
        ("input_row", c_int64),
        ("weight", c_void_p),
        ("weight_row", c_int64),
        ("bias", c_void_p),
        ("output", c_void_p),
    ]

    def __init__(self) -> None:
        super().__init__(size=ctypes.sizeof(LinearCall))


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that this processor and this library have, the fastest first."""
    names: list[str] = []
    while (name := _library().regard_isa(len(names))) is not None:
        names.append(name.decode())
    return tuple(names)


def run(kernel: str, call: Call | LinearCall) -> None:
    """Run ``"forward"``, ``"backward"``, ``"columns"`` or ``"linear"``, which takes a ``LinearCall``, on its tensors.

    Raises:
        RuntimeError: the library was built for another version of the structure.
    """
    forced = forced_instruction_set()
    name = None if forced is None else forced.encode()  # None: the library takes the fastest one for this call
    code = getattr(_library(), f"regard_{kernel}")(ctypes.byref(call), name)
    if code:
        raise RuntimeError(f"regard_native and its library must be of one version, got code {code}; install it again.")


@functools.cache
def forced_instruction_set() -> str | None:
    """Return the instruction set that REGARD_ISA names, or None.

    Raises:
        RuntimeError: REGARD_ISA names none of ``instruction_sets()``.
    """
    wanted = os.environ.get("REGARD_ISA") or None
    names = instruction_sets()
    if wanted is not None and wanted not in names:
        raise RuntimeError(f"REGARD_ISA must be one of {', '.join(names)} on this machine, got {wanted!r}.")
    return wanted


def instruction_set() -> str:
    """Return the instruction set that is used: the one that REGARD_ISA names, else the fastest one.

    Where none is named, a call with few queries may run on another one of ``instruction_sets()``.

    Raises:
        RuntimeError: REGARD_ISA names none of ``instruction_sets()``.
    """
    return forced_instruction_set() or instruction_sets()[0]


@functools.cache
def _library() -> ctypes.CDLL:
    import torch  # noqa: F401 - its OpenMP runtime has to be there first, so that this library shares it

    named = os.environ.get("REGARD_NATIVE")
    path = named or str(Path(__file__).with_name("libregard_native.so"))
    try:
        library = ctypes.CDLL(path)
        library.regard_isa.argtypes, library.regard_isa.restype = [c_int], c_char_p
        for kernel in ("forward", "backward", "columns", "linear"):
            function = getattr(library, f"regard_{kernel}")
            arguments = LinearCall if kernel == "linear" else Call
            function.argtypes, function.restype = [POINTER(arguments), c_char_p], c_int
    except (OSError, AttributeError) as error:
        wanted, remedy = ("REGARD_NATIVE", "unset it") if named else ("regard_native", "install regard-native again")
        raise OSError(f"{wanted} needs the library of the native kernels at {path}, got {error}; {remedy}.") from error
    return library
