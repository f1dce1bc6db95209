"""Soft cap: scores are capped by cap · tanh(score / cap) where a model declares it."""

import math

import torch

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard

__all__ = ["Softcap"]

_EXACT = 1e-9


class Softcap(Rule):
    """Computes the capped scores of each call again."""

    id = "softcap"
    title = "Scores are capped as declared"
    law = "scores are cap · tanh(scale · q·k / cap), before the mask"
    why = (
        "Gemma 2, arXiv:2408.00118, section 2. Kernels without a cap ignore it in silence, and the model that was "
        "trained with it drifts."
    )
    method = "Scores of each call against the capped and the plain products of its own queries and keys."
    tolerance = "1e-9 in float64"
    meaning = "the cap does not reach this layer's kernel"
    remedy = "use an attention implementation that takes a soft cap (eager or flex attention)"
    kinds = ("model",)
    after = ("scale",)

    def applies(self, subject: Subject) -> None:
        """Only models that declare a cap."""
        super().applies(subject)
        if subject.traits.softcap is None:
            raise NotApplicableError("it declares no soft cap")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compute scores again."""
        assert subject.traits.softcap is not None
        cap, worst, number = subject.traits.softcap, 0.0, 0
        for stream in subject.streams:
            for heard in bench.trace(stream).calls:
                found = _errors(heard, cap, subject.traits.scale)
                if found is None:
                    continue
                capped, plain, after_mask = found
                case = Case(length=bench.length, stream=stream.name, layer=heard.layer)
                if after_mask:
                    return failed(
                        f"{heard.layer}: masked scores are capped as well and become -{cap:g}, so that hidden "
                        "keys have weight",
                        measured=cap,
                        tolerance=_EXACT,
                        case=case,
                        meaning="the cap is applied after the mask and makes finite numbers of -inf",
                        remedy="cap the scaled products, and mask afterwards",
                    )
                if capped > _EXACT and plain <= _EXACT:
                    return failed(
                        f"{heard.layer}: scores are not capped, though a cap of {cap:g} is declared",
                        measured=capped,
                        tolerance=_EXACT,
                        case=case,
                    )
                if capped <= _EXACT < plain:
                    number += 1
                    worst = max(worst, capped)
        if not number:
            raise NotTestedError("its scores could not be heard, or are too small for the cap to show")
        return passed(
            f"scores of {number} calls are capped at {cap:g}",
            measured=worst,
            tolerance=_EXACT,
            ways=("each score computed again",),
        )


def _errors(heard: Heard, cap: float, scale: float | None) -> tuple[float, float, bool] | None:
    """Return how far the scores are from the capped and from the plain products, and whether the mask is capped."""
    if heard.query is None or heard.key is None:
        return None
    factor = 1 / math.sqrt(heard.query.shape[-1]) if scale is None else scale
    group = heard.query.shape[1] // heard.key.shape[1]
    products = factor * heard.query.double() @ heard.key.double().repeat_interleave(group, 1).mT
    scores = heard.scores
    seen = scores.isfinite()
    capped = cap * torch.tanh(products / cap)
    at_cap = seen & ((scores + cap).abs() <= _EXACT) & ((capped + cap).abs() > _EXACT)
    errors = (float(torch.where(seen & ~at_cap, scores - one, 0.0).abs().max()) for one in (capped, products))
    return next(errors), next(errors), bool(at_cap.any())
