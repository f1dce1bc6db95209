"""Window: a windowed layer sees exactly its last keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import traced

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
            with traced(subject.copy) as trace:
                stream.run(bench.tokens(stream, 1, length))
        places = torch.arange(length)
        before = places[:, None] - places
        inside = (before >= 0) & (before < window)
        windowed, layers = 0, 0
        for heard in trace.calls:
            if heard.call.q_len != length or heard.call.kv_len != length:
                continue
            layers += 1
            seen = ~heard.hidden[0].to(inside.device)
            if bool((seen == (before >= 0)).all()):
                continue
            windowed += 1
            if not bool((seen == inside).all()):
                return _failed(seen, inside, heard.layer, window, length)
        if not layers:
            raise NotTestedError("no attention call over its tokens could be heard")
        if not windowed:
            return failed(
                f"a window of {subject.traits.window} is declared, and none of {layers} layers has one",
                case=Case(length=length),
            )
        return passed(
            f"{windowed} of {layers} layers see exactly the last {window} keys",
            ways=("keys that each layer leaves",),
        )


def _failed(seen: Tensor, inside: Tensor, layer: str, window: int, length: int) -> Outcome:
    head, query, key = (seen != inside).nonzero()[-1].tolist()
    number = int(seen[head, -1].sum())
    return failed(
        f"{layer}, head {head}: the last query sees {number} keys, not {window}",
        measured=float(number),
        tolerance=float(window),
        case=Case(length=length, layer=layer, head=head, query=query, key=key),
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
