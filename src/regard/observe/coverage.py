"""What was seen and what was not: never a silent gap."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["Coverage", "attention_modules", "kernels_of", "merge_coverage", "uncovered_reason"]


@dataclass(kw_only=True)
class Coverage:
    """One attention module of the watched model.

    Attributes:
        layer: dotted module name.
        calls: attention calls seen.
        rows: query rows whose statistics were taken.
        kernels: kernel that ran: number of calls.
        kinds: ``self``, ``cross`` or ``decode``: number of calls.
        masks: what restricted the scores: number of calls.
        reason: why it was not seen or not measured; None if it was.
    """

    layer: str
    calls: int = 0
    rows: int = 0
    kernels: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    masks: Counter[str] = field(default_factory=Counter)
    reason: str | None = None

    @property
    def seen(self) -> bool:
        """Whether at least one call was seen."""
        return self.calls > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``run.json``."""
        return {
            "layer": self.layer,
            "seen": self.seen,
            "calls": self.calls,
            "rows": self.rows,
            "kernel": ", ".join(sorted(self.kernels)) or None,
            "kind": ", ".join(sorted(self.kinds)) or None,
            "mask": ", ".join(sorted(self.masks)) or None,
            "reason": self.reason,
        }


def attention_modules(model: nn.Module) -> list[str]:
    """Return the dotted names of modules that look like attention: the innermost whose class says so."""
    found = [name for name, module in model.named_modules() if _looks_like_attention(module)]
    return [name for name in found if not any(other.startswith(_prefix(name)) for other in found if other != name)]


def uncovered_reason(module: nn.Module, seen: Iterable[str]) -> str:
    """Say why no call of ``module`` was seen."""
    config: Any = getattr(module, "config", None)
    implementation = getattr(config, "_attn_implementation", None)
    if implementation not in (None, "sdpa"):
        return (
            f"its attention implementation is {implementation!r}, which computes its own softmax; "
            'call model.set_attn_implementation("sdpa") before watching'
        )
    if isinstance(module, nn.MultiheadAttention):
        return (
            "nn.MultiheadAttention hides its fused call, and with need_weights=True or on its fast path makes none; "
            "regard.modules.MultiHeadAttention.from_torch gives the same layer, watched"
        )
    if not list(seen):
        return "no attention call was seen at all: the model did not run while watched, or it computes its own softmax"
    return "it did not run while watched, or it computes its own softmax"


def kernels_of(coverage: Mapping[str, Coverage]) -> dict[str, int]:
    """Return how often each kernel ran, over all modules."""
    total: Counter[str] = Counter()
    for entry in coverage.values():
        total.update(entry.kernels)
    return dict(total)


def merge_coverage(before: Iterable[Mapping[str, Any]], now: Iterable[Coverage]) -> list[dict[str, Any]]:
    """Return the coverage list of a run that went on in another process.

    Args:
        before: what ``Coverage.to_dict`` gave in the processes before.
        now: the coverage of this process.
    """
    earlier = {entry["layer"]: entry for entry in before}
    merged = []
    for entry in (coverage.to_dict() for coverage in now):
        old = earlier.get(entry["layer"])
        if old is not None:
            calls, rows = entry["calls"] + old["calls"], entry["rows"] + old["rows"]
            names = {name: _union(entry[name], old[name]) for name in ("kernel", "kind", "mask")}
            reason = None if None in (entry["reason"], old["reason"]) else entry["reason"]
            entry |= {"calls": calls, "rows": rows, "seen": calls > 0, "reason": reason, **names}
        merged.append(entry)
    return merged


def _union(one: str | None, other: str | None) -> str | None:
    names = {name for part in (one, other) if part for name in part.split(", ")}
    return ", ".join(sorted(names)) or None


def _looks_like_attention(module: nn.Module) -> bool:
    return "attention" in type(module).__name__.lower()


def _prefix(name: str) -> str:
    return f"{name}." if name else ""
