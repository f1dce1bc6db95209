"""Remedies that a profile may call for: each can be tried, measured beside the model as it is, and taken back."""

from regard.cost.remedies.attention import AttentionDropout, DropMask, FusedKernel, NativeKernels
from regard.cost.remedies.machine import Compile, InPrecision, Threads
from regard.cost.remedies.remedy import Advice, Remedy
from regard.cost.remedies.shape import CutPadding, QuickDropout

__all__ = ["Advice", "Remedy", "remedies"]


def remedies() -> dict[str, Remedy]:
    """Return every remedy by name."""
    every: list[Remedy] = [
        FusedKernel(),
        AttentionDropout(),
        NativeKernels(),
        DropMask(),
        CutPadding(),
        QuickDropout(),
        InPrecision("bfloat16"),
        InPrecision("float32"),
        Threads(),
        Compile(),
    ]
    return {remedy.name: remedy for remedy in every}
