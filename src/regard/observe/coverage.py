"""What was seen and what was not: never a silent gap."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from regard.observe.calls import AttentionCall

__all__ = ["Coverage", "kernels_of", "merge_coverage", "uncovered_reason"]


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
        shapes: lengths, heads and types of the calls: number of calls.
        by_order: whether its calls came out of compiled code, and are this layer's by their order only.
        missing: statistic -> why it was not taken.
        reason: why it was not seen or not measured; None if it was.
        last: the last call in plain values.
    """

    layer: str
    calls: int = 0
    rows: int = 0
    kernels: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    masks: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    by_order: bool = False
    missing: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    last: dict[str, Any] = field(default_factory=dict)

    @property
    def seen(self) -> bool:
        """Whether at least one call was seen."""
        return self.calls > 0

    @property
    def last_kind(self) -> str | None:
        """``self``, ``cross`` or ``decode``: the last call."""
        return self.last.get("kind")

    def count(self, call: AttentionCall, *, crosses: bool | None) -> None:
        """Note one call; ``crosses`` as ``Layers.crosses`` tells it."""
        shape = _shape(call)
        known = self.shapes[shape] > 0 and self.last.get("shape") == shape
        self.last = {
            "layer": self.layer,
            "kind": kind_of(call, crosses),
            "mask": self.last["mask"] if known else mask_kind(call),
            "kernel": call.kernel,
            "shape": shape,
            "batch": call.num_sequences,
            "heads": call.num_heads,
            "kv_heads": call.num_kv_heads,
            "q_len": call.q_len,
            "kv_len": call.kv_len,
            "dtype": str(call.dtype).removeprefix("torch."),
        }
        self.calls += 1
        for counter, name in ((self.kernels, "kernel"), (self.kinds, "kind"), (self.masks, "mask")):
            counter[self.last[name]] += 1
        self.shapes[shape] += 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``run.json``."""
        return {
            "layer": self.layer,
            "seen": self.seen,
            "calls": self.calls,
            "rows": self.rows,
            "kernel": _joined(self.kernels),
            "kind": _joined(self.kinds),
            "mask": _joined(self.masks),
            "shapes": len(self.shapes),
            "last_shape": self.last.get("shape"),
            "by_order": self.by_order,
            "missing": dict(self.missing),
            "reason": self.reason,
        }


def kind_of(call: AttentionCall, crosses: bool | None) -> str:
    """Return ``self``, ``cross`` or ``decode`` (few queries that follow many cached keys).

    Where neither the layer's name nor its class says whether it looks at another sequence, equal lengths are taken for
    self-attention, one query for decoding and anything else for cross-attention.
    """
    if crosses:
        return "cross"
    if call.q_len == call.kv_len:
        return "self"
    one_each = call.q_len == (1 if call.offsets is None else call.num_sequences)
    return "decode" if one_each or (crosses is False and call.q_len < call.kv_len) else "cross"


def mask_kind(call: AttentionCall) -> str:
    """Return what restricts or biases the scores: ``none``, or names joined by ``+``.

    Kernels take a mask as a bias of 0 and -inf, which is called a mask here. Scores that a model made itself tell only
    whether some are forbidden.
    """
    if call.scores is not None:
        return "in the scores"
    is_mask = call.attn_bias is not None and _only_forbids(call.attn_bias)
    kinds = {
        "causal": call.causal,
        "window": call.window is not None,
        "pattern": call.pattern is not None,
        "slopes": call.alibi_slopes is not None,
        "mask": call.attn_mask is not None or is_mask,
        "bias": call.attn_bias is not None and not is_mask,
        "packed": call.offsets is not None,
    }
    return "+".join(name for name, present in kinds.items() if present) or "none"


def uncovered_reason(module: nn.Module, seen: Iterable[str]) -> str:
    """Say why no call of ``module`` was seen."""
    if not list(seen):
        return "no attention call was seen at all: the model did not run while watched, or " + _HIDDEN
    return "it did not run while watched, or " + _HIDDEN


_HIDDEN = (
    "its kernel is not PyTorch's (a kernel of another package, or code that torch.compile generated); "
    "an adapter can show it, see docs/watch.md"
)


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


def _shape(call: AttentionCall) -> str:
    heads = f"{call.num_heads}" if call.num_heads == call.num_kv_heads else f"{call.num_heads}/{call.num_kv_heads}"
    sequences = f"{call.batch}" if call.offsets is None else f"{call.num_sequences} packed"
    return f"{sequences} × {heads} heads × {call.q_len} × {call.kv_len}"


def _only_forbids(bias: Tensor) -> bool:
    return bool(((bias == 0) | (bias == -float("inf"))).all())


def _joined(names: Mapping[str, int]) -> str | None:
    return ", ".join(sorted(names)) or None


def _union(one: str | None, other: str | None) -> str | None:
    names = {name for part in (one, other) if part for name in part.split(", ")}
    return ", ".join(sorted(names)) or None
