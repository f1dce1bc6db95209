"""Formula: all at once, a function equals the float64 oracle."""

import torch

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.functional import reference

__all__ = ["Formula"]

_EXACT = 1e-9


class Formula(Rule):
    """Compares outputs with the oracle, with and without masks, at several sizes."""

    id = "formula"
    title = "The output is softmax(scale · q·k) · v"
    law = "the output equals the formula, computed densely in float64"
    why = (
        "Vaswani et al., arXiv:1706.03762, equation 1. The other rules each look at one property; this one leaves "
        "none out."
    )
    method = "Random inputs of several sizes, plain, causal and masked, against the oracle."
    tolerance = "1e-9 in float64"
    meaning = "no single property that was tested is broken, and yet the function is another one"
    remedy = "compare it with regard.attention(..., impl='reference') on the failing case"
    kinds = ("function",)
    after = (
        "softmax",
        "scale",
        "mask_sense",
        "causality",
        "causal_corner",
        "grouped_heads",
        "head_merge",
        "roles",
        "empty_rows",
        "cross_lengths",
    )

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compare with the oracle."""
        assert isinstance(subject, FunctionSubject)
        worst = 0.0
        for length in (1, 2, 5, 9):
            query, key, value = subject.draw(bench.generator(length), length, batch=2)
            keep = torch.rand(2, 1, length, length, generator=bench.generator(length)) < 0.7
            keep |= torch.eye(length, dtype=torch.bool)
            for causal, mask in ((False, None), (True, None), (False, keep)):
                if causal and not (subject.traits.causal or "causal" in subject.options):
                    continue
                if mask is not None and "mask" not in subject.options:
                    continue
                option = {"causal": True} if causal and "causal" in subject.options else {}
                output = subject.attend(query, key, value, mask=mask, **option)
                expected = reference.attention(
                    query,
                    key,
                    value,
                    attn_mask=mask,
                    causal=causal or bool(subject.traits.causal),
                    scale=subject.traits.scale,
                )
                error = float((output - expected).abs().max().nan_to_num(nan=torch.inf))
                worst = max(worst, error)
                if not error <= _EXACT:
                    what = "causal" if causal else "masked" if mask is not None else "plain"
                    return failed(
                        f"{what}, at {length} tokens, the output is off by {error:.2g}",
                        measured=error,
                        tolerance=_EXACT,
                        case=Case(length=length),
                    )
        return passed(
            "outputs equal the formula at 1 to 9 tokens", measured=worst, tolerance=_EXACT, ways=("float64 oracle",)
        )
