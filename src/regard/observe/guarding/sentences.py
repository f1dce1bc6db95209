"""What a colleague would say of a cause: what, the number, what it leads to, what to do."""

from dataclasses import dataclass

from regard.observe.guarding.causes import Evidence, Verdict

__all__ = ["Circumstances", "say"]


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a sentence may mention besides cause and number.

    Attributes:
        dtype: the type that holds query·key.
        limit: its largest number.
        evidence: of a fault.
        origin: see ``Finding``.
        growth: factor a step of the score.
        norms: how the lengths of queries and keys changed over the steps remembered, such as "queries ×3.1".
    """

    dtype: str = ""
    limit: float = 0.0
    evidence: Evidence | None = None
    origin: str | None = None
    growth: float = 1.0
    norms: str | None = None


def say(place: str, verdict: Verdict, around: Circumstances) -> str:
    """Return the sentence on ``verdict``; ``place`` is its beginning."""
    return f"{place}: {_SENTENCES[verdict.cause](verdict, around)}"


def _score_overflow(verdict: Verdict, around: Circumstances) -> str:
    return (
        f"the scores overflow {around.dtype}: |query·key| reaches {_number(verdict.value)} where the type ends at "
        f"{_number(verdict.limit)}, so the softmax meets inf - inf and gives NaN; "
        f"divide the query by √head_dim before the product, normalise queries and keys (QK-norm), or {_wider(around)}."
    )


def _empty_row(verdict: Verdict, around: Circumstances) -> str:
    return (
        f"{_count(verdict.value, 'query row')} may attend to nothing: every score is -inf, and the softmax of that is "
        "NaN, which the next layers spread to every token; let such rows see at least one key, or use a kernel that "
        "gives 0 for them (regard.attention, scaled_dot_product_attention)."
    )


def _inf_minus_inf(verdict: Verdict, around: Circumstances) -> str:
    evidence = around.evidence
    assert evidence is not None, "a fault has evidence"
    if not evidence.infinite:
        what = "the scores hold NaN" if evidence.bias == "NaN" else "the scores hold +inf"
        product = ""
        if evidence.product is not None:
            product = f", though |query·key| is at most {_number(evidence.product)}"
        return (
            f"{what}{product}: a bias or mask brings an infinity (0 · inf in the making of a mask is NaN, too) and the "
            "softmax makes inf - inf = NaN of it; build masks with where or masked_fill and -inf, never by a product, "
            "and give no key a bias of +inf."
        )
    holders = " and ".join(evidence.infinite)
    hold = "hold" if len(evidence.infinite) > 1 else "holds"
    return (
        f"{holders} {hold} {_number(verdict.value)} × inf, so the softmax meets inf - inf and gives NaN"
        f"{_from(around)}; what makes {holders} overflowed {around.dtype or 'its type'}: "
        f"normalise what enters it, or {_wider(around)}."
    )


def _upstream(verdict: Verdict, around: Circumstances) -> str:
    assert around.evidence is not None, "a fault has evidence"
    holders = {*around.evidence.nan, *around.evidence.infinite}
    names = " and ".join(name for name in ("query", "key", "value") if name in holders)
    return (
        f"{names} already held {_count(verdict.value, 'number')} not finite, so this attention is not the cause"
        f"{_from(around)}; regard.observe.first_nonfinite(model, ...) with the same batch names the module."
    )


def _parameter(verdict: Verdict, around: Circumstances) -> str:
    return (
        f"{around.origin} holds {_count(verdict.value, 'number')} not finite, as an optimizer step leaves them "
        "whose gradient was not finite; go back to the last checkpoint, clip gradients or skip steps whose gradient is "
        "not finite, and look at the finding before this one."
    )


def _gradient(verdict: Verdict, around: Circumstances) -> str:
    return (
        f"the gradient of query, key or value is not finite (it comes from {around.origin}) and the optimizer is about "
        "to take its step with it; skip this step, clip gradients or lower the learning rate, and in float16 "
        "scale the loss (torch.amp.GradScaler)."
    )


def _unexplained(verdict: Verdict, around: Circumstances) -> str:
    return (
        f"the output is not finite, while query, key, value, mask and |query·key| are; "
        f"what is left is the sum over the values in {around.dtype or 'the type'}, or a kernel that is broken: "
        "compare with regard.attention(..., impl='reference')."
    )


def _headroom(verdict: Verdict, around: Circumstances) -> str:
    growing = f", growing by {_percent(around.growth)} a step" if around.growth > 1 else ""
    return (
        f"|query·key| reaches {_number(verdict.value)}{growing}, and {around.dtype} ends at {_number(verdict.limit)}: "
        "beyond it the output is NaN; divide the query by √head_dim before the product, normalise queries and keys "
        f"(QK-norm), or {_wider(around)}."
    )


def _growing_scores(verdict: Verdict, around: Circumstances) -> str:
    growing = f" and grows by {_percent(around.growth)} a step" if around.growth > 1 else ""
    norms = f" ({around.norms} over the steps remembered)" if around.norms else ""
    return (
        f"the largest |score| is {_number(verdict.value)}, above {_number(verdict.limit)}{growing}{norms}: such scores "
        "end in a saturated softmax or an overflow; normalise queries and keys (QK-norm), clip their weights "
        "(QK-clip), or lower the learning rate of the query and key projections."
    )


def _saturated_softmax(verdict: Verdict, around: Circumstances) -> str:
    return (
        f"{_percent(1 + verdict.value)} of the rows put all weight on one key (1 - Σ p² is 0 to four digits), so "
        "queries and keys get no gradient any more; lower the scale of the scores, normalise queries and keys "
        "(QK-norm), or go back to before they grew."
    )


_SENTENCES = {
    "score_overflow": _score_overflow,
    "empty_row": _empty_row,
    "inf_minus_inf": _inf_minus_inf,
    "upstream": _upstream,
    "parameter": _parameter,
    "gradient": _gradient,
    "unexplained": _unexplained,
    "headroom": _headroom,
    "growing_scores": _growing_scores,
    "saturated_softmax": _saturated_softmax,
}


def _from(around: Circumstances) -> str:
    return "" if around.origin is None else f" (they come from {around.origin})"


def _wider(around: Circumstances) -> str:
    return "compute in bfloat16" if around.dtype == "float16" else "compute in a wider type"


def _number(value: float) -> str:
    return f"{value:,.0f}" if 100 <= abs(value) < 1e7 or value == int(value) < 1e7 else f"{value:.3g}"


def _count(value: float, what: str) -> str:
    return f"1 {what}" if value == 1 else f"{_number(value)} {what}s"


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):.2g} %"
