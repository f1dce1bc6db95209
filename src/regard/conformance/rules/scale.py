"""Scale: dot products are multiplied by 1 / √head_dim, or by what the model declares."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.locate import named
from regard.conformance.outcome import Case, NotTestedError, Outcome, failed, passed
from regard.conformance.projections import origin_by_norm
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import HEADS, FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard, Trace

__all__ = ["Scale", "fitted"]

_TOLERANCE = 1e-3  # relative; the nearest wrong factors are far from it


class Scale(Rule):
    """Measures the factor between the dot products and the scores."""

    id = "scale"
    title = "Scores are scaled by 1 / √head_dim"
    law = (
        "scores are dot products times 1 / √head_dim, the width of one head, or times the factor that the model "
        "declares"
    )
    why = (
        "Vaswani et al., arXiv:1706.03762, section 3.2.1: without it scores grow as √head_dim and the softmax stops"
        " learning."
    )
    method = (
        "The factor is fitted to logarithms of weights (functions), or measured in each head from what the "
        "projections made to the scores that entered the softmax (modules)."
    )
    tolerance = "0.1 % of the factor; rounding is far below, and so is the distance to every usual mistake above"
    meaning = "the factor is missing, applied twice, or made of another width"
    remedy = (
        "scale by head_dim ** -0.5 once, and pass scale= to a kernel that scales by itself; a factor on purpose is "
        "told by assume={'scale': …}"
    )
    after = ("softmax",)

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Measure the factor."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    worst, widths = 0.0, (16,) if bench.fast else (16, 64)
    for width in widths:
        expected = 1 / math.sqrt(width) if subject.traits.scale is None else subject.traits.scale
        for given in (None, 0.3) if "scale" in subject.options else (None,):
            query, key, _ = subject.draw(bench.generator(width), 6, head_dim=width)
            found = fitted(torch.einsum("bhqd,bhkd->bhqk", query, key), subject.weights(query, key, scale=given))
            wanted = expected if given is None else given
            error = abs(found / wanted - 1)
            worst = max(worst, error)
            if error > _TOLERANCE:
                said = "" if given is None else f" though scale={given} was given"
                return failed(
                    f"scores are dot products times {found:.4g}{said}, not {wanted:.4g}{_named(found, width, HEADS)}",
                    measured=error,
                    tolerance=_TOLERANCE,
                    ways=("logarithms of weights",),
                    reproduction=_reproduction(subject, width, wanted),
                )
    ways = tuple(f"logarithms of weights, head_dim {width}" for width in widths)
    argument = ", and scale= is heeded" if "scale" in subject.options else ""
    return passed(f"the factor is 1/√head_dim{argument}", measured=worst, tolerance=_TOLERANCE, ways=ways)


def fitted(products: Tensor, weights: Tensor) -> float:
    """Return the factor between dot products and the logarithms of weights, both (batch, heads, q_len, kv_len).

    Raises:
        NotTestedError: the weights are not a softmax of scaled products.
    """
    seen = weights > 0
    logs = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
    count = seen.sum(-1, keepdim=True).clamp_min(1)
    centred = [(one * seen - (one * seen).sum(-1, keepdim=True) / count) * seen for one in (products, logs)]
    if not float(centred[0].square().sum()) > 0:
        raise NotTestedError("its weights show no scores")
    factor = float((centred[0] * centred[1]).sum() / centred[0].square().sum())
    rest = float((centred[1] - factor * centred[0]).abs().max())
    if rest > 1e-6 * max(float(centred[1].abs().max()), 1.0):
        raise NotTestedError("its weights are no softmax of dot products times one factor")
    return factor


def _named(found: float, width: int, heads: int) -> str:
    """Return what the wrong factor looks like, in words."""
    usual = {
        "it is not scaled at all": 1.0,
        "that is 1/head_dim": 1 / width,
        "that is √head_dim: multiplied instead of divided": math.sqrt(width),
        "that is 1/√embed_dim, the width of all heads": 1 / math.sqrt(width * heads),
        "that is the square root of the right one": width**-0.25,
        "that is 1/√num_heads": 1 / math.sqrt(heads),
        "that is 1/embed_dim": 1 / (width * heads),
    }
    name = next((name for name, value in usual.items() if abs(found / value - 1) < 1e-2), None)
    return "" if name is None else f"; {name}"


def _reproduction(subject: FunctionSubject, width: int, wanted: float) -> str:
    return (
        f"{subject.setup()}\nquery, key = torch.randn(2, 1, 1, 6, {width}, dtype=torch.float64)\n"
        f"weights = {subject.name}(query, key, torch.eye(6, {width}, dtype=torch.float64)[None, None])[..., :6]\n"
        f"print((weights - ({wanted:.6g} * query @ key.mT).softmax(-1)).abs().max())  # must be 0"
    )


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    worst, heads, why_not = 0.0, 0, "no attention call could be heard"
    for stream in subject.streams:
        trace = bench.trace(stream)
        # A kernel tells its factor; where a module holds its scores itself, it takes a second run to fit it.
        holds = any(heard.call.scores is not None for heard in trace.calls)
        second = bench.trace(stream, offset=1) if holds else trace
        for heard, twin in zip(trace.calls, second.calls, strict=False):
            learnt = _learnt(subject, heard)
            found = learnt or _factors(trace, heard, twin, subject.traits.softcap)
            if isinstance(found, str):
                why_not = f"{heard.layer}: {found}"
                continue
            width = heard.query.shape[-1] if heard.query is not None else 1
            wanted = 1 / math.sqrt(width) if subject.traits.scale is None else subject.traits.scale
            error, wanted = _nearest(found, wanted, subject.traits.attention_factors)
            if not bool((error >= 0).any()):
                why_not = f"{heard.layer}: its queries or keys are zeros"
                continue
            heads += int((error >= 0).sum())
            worst = max(worst, float(error.max()))
            if worst > _TOLERANCE:
                heads_off = (error > _TOLERANCE).nonzero()[:, 0].tolist()
                factor = float(found[heads_off[0]])
                return failed(
                    f"{heard.layer}, {named(heads_off, len(error))}: scores are dot products times {factor:.4g}, "
                    f"not {wanted:.4g}{_named(factor, width, heard.call.num_heads)}",
                    measured=worst,
                    tolerance=_TOLERANCE,
                    case=Case(length=bench.length, stream=stream.name, layer=heard.layer, head=heads_off[0]),
                    ways=("from the projections to the softmax of each head",),
                )
    if not heads:
        raise NotTestedError(why_not)
    declared = "1/√head_dim" if subject.traits.scale is None else f"{subject.traits.scale:.4g}, as declared,"
    if subject.traits.attention_factors is not None:
        squares = " or ".join(f"{one:.4g}²" for one in subject.traits.attention_factors)
        declared += f" times {squares}, the declared attention factor of its positions,"
    return passed(
        f"the factor is {declared} in {heads} heads",
        measured=worst,
        tolerance=_TOLERANCE,
        ways=("from the projections to the softmax of each head",),
    )


def _nearest(found: Tensor, scale: float, attention_factors: Sequence[float] | None) -> tuple[Tensor, float]:
    """Return the relative error of each head's factor, -1 for a head of zeros, and the right factor nearest to them."""
    wanted = [scale * one * one for one in attention_factors or (1.0,)]
    errors = [(found / one - 1).abs().nan_to_num(nan=-1.0) for one in wanted]
    return min(zip(errors, wanted, strict=True), key=lambda one: float(one[0].max()))


def _learnt(subject: Subject, heard: Heard) -> str | None:
    """Return that the layer learns its scale, or None."""
    assert subject.copy is not None
    layers = dict(subject.copy.named_modules())
    layer = layers.get(heard.layer, subject.copy if subject.kind == "module" else None)
    for name, parameter in [] if layer is None else layer.named_parameters():
        if ("scale" in name or "temperature" in name) and parameter.numel() in (1, heard.call.num_heads):
            return f"it learns a scale, {name}"
    return None


def _factors(trace: Trace, heard: Heard, twin: Heard, softcap: float | None) -> Tensor | str:
    """Return the factor of each head, (heads,), or why it could not be measured."""
    if heard.query is None or heard.key is None:
        return "the product of queries and keys was not heard"
    query, key = (origin_by_norm(trace, heard, one) for one in (heard.query, heard.key))
    if query is None or key is None:
        return "its queries and keys are not what a projection made, turned and scaled"
    group = heard.query.shape[1] // heard.key.shape[1]
    factor = _kernel_factor(heard, twin, softcap)
    if factor is None:
        return "its products are the same for other tokens"
    return query[1] * key[1].repeat_interleave(group) * factor


def _kernel_factor(heard: Heard, twin: Heard, softcap: float | None) -> Tensor | None:
    """Return the factor between the kernel's products and the scores, (heads,) or one for all; None if it is unseen."""
    call = heard.call
    assert heard.query is not None
    assert heard.key is not None
    if call.scores is None:
        scale = 1 / math.sqrt(heard.query.shape[-1]) if call.scale is None else call.scale
        return torch.tensor([scale], dtype=torch.float64)
    # What is added to the scores, such as a relative position bias, is the same in a second run, and cancels.
    scores = [_uncapped(one.scores, softcap) for one in (heard, twin)]
    products = [_products(one) for one in (heard, twin)]
    seen = scores[0].isfinite() & scores[1].isfinite()
    moved = torch.where(seen, scores[0] - scores[1], 0.0)
    change = torch.where(seen, products[0] - products[1], 0.0)
    power = change.square().sum((0, 2, 3))  # 0 for a pruned head, whose factor is NaN
    return (moved * change).sum((0, 2, 3)) / power if bool((power > 0).any()) else None


def _uncapped(scores: Tensor, softcap: float | None) -> Tensor:
    return scores if softcap is None else softcap * torch.atanh((scores / softcap).clamp(-1, 1))


def _products(heard: Heard) -> Tensor:
    assert heard.query is not None
    assert heard.key is not None
    group = heard.query.shape[1] // heard.key.shape[1]
    return heard.query.double() @ heard.key.double().repeat_interleave(group, 1).mT
