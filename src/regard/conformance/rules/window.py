"""Window: a windowed layer sees exactly its last keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, traced

__all__ = ["Window"]

_SHORT = 4


class Window(Rule):
    """Counts the keys that each query of a windowed layer sees."""

    id = "window"
    title = "A window has the declared width"
    law = "a query of a windowed layer sees itself and the window - 1 keys before it, and no other"
    why = (
        "Jiang et al., Mistral 7B, arXiv:2310.06825. A window that is off by one, or lost, shows at lengths that no"
        " unit test has."
    )
    method = (
        "Which keys each layer leaves, at a sequence longer than the window (on the copy, long windows are "
        "shortened to 4)."
    )
    tolerance = "a key is hidden or not"
    meaning = (
        "the window is off by one (i - j < window against <=), counts from the wrong end, or does not reach this layer"
    )
    remedy = "let query i see j with 0 <= i - j < window"
    kinds = ("model",)
    after = ("causality", "mask_sense")

    def applies(self, subject: Subject) -> None:
        """Only models that declare a window and can be given sequences."""
        super().applies(subject)
        if subject.traits.window is None or not subject.sequences:
            raise NotApplicableError("it declares no window")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Count keys."""
        assert subject.copy is not None
        assert subject.traits.window is not None
        stream = subject.sequences[-1]
        with _shortened(subject.copy, subject.traits.window) as window:
            length = window + 4
            calls = _calls(subject.copy, stream, bench, length)
            if not calls:
                raise NotTestedError("no attention call over its tokens could be heard")
            windowed = [heard for heard in calls if not bool((_seen(heard) == _back(length)).all())]
            wrong = next((heard for heard in windowed if not _right(heard, window)), None)
            if wrong is not None:
                return _failed(subject.copy, stream, bench, wrong, window)
        if not windowed:
            return failed(
                f"a window of {subject.traits.window} is declared, and none of {len(calls)} layers has one",
                case=Case(length=window + 1, query=window, key=0),
            )
        return passed(
            f"{len(windowed)} of {len(calls)} layers see exactly the last {window} keys",
            ways=("keys that each layer leaves",),
        )


def _calls(module: nn.Module, stream: Stream, bench: Bench, length: int) -> list[Heard]:
    """Return the calls from all tokens to all tokens."""
    with traced(module) as trace:
        stream.run(bench.tokens(stream, 1, length))
    return [heard for heard in trace.calls if heard.call.q_len == heard.call.kv_len == length]


def _seen(heard: Heard) -> Tensor:
    """Return which keys the layer leaves, (heads, len, len)."""
    return ~heard.hidden[0].cpu()


def _back(length: int, window: int | None = None) -> Tensor:
    """Return which keys a query may see: the last ``window`` ones, or all that are not later."""
    places = torch.arange(length)
    before = places[:, None] - places
    return (before >= 0) & (before < (length if window is None else window))


def _right(heard: Heard, window: int) -> bool:
    return bool((_seen(heard) == _back(heard.call.kv_len, window)).all())


def _failed(module: nn.Module, stream: Stream, bench: Bench, wrong: Heard, window: int) -> Outcome:
    """Find the shortest sequence whose last query sees other keys."""
    for length in range(2, wrong.call.kv_len):
        shorter = next((one for one in _calls(module, stream, bench, length) if one.layer == wrong.layer), None)
        if shorter is not None and not _right(shorter, window):
            wrong = shorter
            break
    length = wrong.call.kv_len
    head, query, key = (_seen(wrong) != _back(length, window)).nonzero()[0].tolist()
    number, wanted = int(_seen(wrong)[head, query].sum()), min(query + 1, window)
    return failed(
        f"{wrong.layer}, head {head}: query {query} of {length} tokens sees {number} keys, not {wanted}",
        measured=float(number),
        tolerance=float(wanted),
        case=Case(length=length, stream=stream.name, layer=wrong.layer, head=head, query=query, key=key),
        ways=("keys that each layer leaves",),
    )


@contextmanager
def _shortened(module: Any, window: int) -> Iterator[int]:
    """Have every window of ``module`` 4 keys wide meanwhile, if it is wide; yields the width."""
    if window <= 4 * _SHORT:
        yield window
        return
    holders = [
        one
        for one in (*module.modules(), getattr(module, "config", None))
        if getattr(one, "sliding_window", None) == window
    ]
    for one in holders:
        one.sliding_window = _SHORT
    try:
        yield _SHORT
    finally:
        for one in holders:
            one.sliding_window = window
