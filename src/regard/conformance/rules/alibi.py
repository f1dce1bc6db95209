"""Linear biases (ALiBi): what is near gets more than what is far."""

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.locate import named
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import HEADS, FunctionSubject
from regard.conformance.subjects.subject import Subject
from regard.conformance.trace import Heard

__all__ = ["Alibi"]

_EXACT, _ROUNDING = 1e-9, 1e-6  # of weights; of the largest score: some models build their bias in float32


class Alibi(Rule):
    """Fits what is added to scores to the distance between query and key."""

    id = "alibi"
    title = "Linear biases favour what is near"
    law = "a score gets -slope · |i - j| with a positive slope for each head, so that weight falls with the distance"
    why = (
        "Press et al., ALiBi, arXiv:2108.12409, section 3: the bias is a penalty. With the other sign each token "
        "attends to the farthest ones, trains all the same, and fails at the first longer sequence."
    )
    method = (
        "Modules: a factor of the products, a slope for the distance and a number for each row are fitted to the "
        "scores of each head; what they do not describe is no linear bias. Functions: weights with slopes and without."
    )
    tolerance = "the sign of the slope; a bias is linear if 1e-6 of the largest score is left of it"
    meaning = "the distance enters as query - key instead of key - query, or slopes were made negative once too often"
    remedy = "add slope · (key - query) for keys before the query, which is negative: -slope · |query - key|"
    after = ("scale", "softmax")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Fit slopes."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        return _of_module(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    if "alibi" not in subject.options:
        raise NotApplicableError("it takes no slopes")
    query, key, _ = subject.draw(bench.generator(), 6)
    slopes = torch.tensor([0.5, 0.25][:HEADS], dtype=query.dtype)
    options = {"causal": True} if "causal" in subject.options else {}
    plain = subject.weights(query, key, **options).clamp_min(1e-300)
    expected = (plain.log() - slopes[:, None, None] * _distances(6)).softmax(-1)
    found = subject.weights(query, key, alibi=slopes, **options)
    error = float((found - expected).abs().max())
    if error <= _EXACT:
        return passed(
            "weights fall with slope · distance", measured=error, tolerance=_EXACT, ways=("weights with slopes",)
        )
    turned = (plain.log() + slopes[:, None, None] * _distances(6)).softmax(-1)
    grow = float((found - turned).abs().max()) <= _EXACT
    return failed(
        "weights grow with the distance: slopes have the wrong sign"
        if grow
        else f"weights with slopes are off by {error:.2g} from those of -slope · distance",
        measured=error,
        tolerance=_EXACT,
        case=Case(length=6),
        ways=("weights with slopes",),
    )


def _of_module(subject: Subject, bench: Bench) -> Outcome:
    linear, heads, why_not = 0, [], "no attention call could be heard with its products"
    for stream in subject.streams:
        for heard in bench.trace(stream).calls:
            if heard.query is None or heard.key is None or heard.call.q_len != heard.call.kv_len:
                continue
            slopes = _slopes(heard)
            if slopes is None:
                why_not = ""
                continue
            linear += 1
            heads = slopes.tolist()
            wrong = (slopes < 0).nonzero()[:, 0].tolist()
            if wrong:
                return failed(
                    f"{heard.layer}, {named(wrong, len(heads))}: scores grow with the distance, by "
                    f"{-heads[wrong[0]]:.4g} for each token",
                    measured=heads[wrong[0]],
                    tolerance=0.0,
                    case=Case(length=bench.length, stream=stream.name, layer=heard.layer, head=wrong[0]),
                    ways=("slopes fitted to the scores",),
                )
    if not linear:
        if why_not:
            raise NotTestedError(why_not)
        raise NotApplicableError("nothing that is linear in the distance is added to its scores")
    return passed(
        f"in {counted(linear, 'attention call')} scores fall with the distance, by slopes of "
        f"{', '.join(f'{one:.3g}' for one in heads)}",
        ways=("slopes fitted to the scores",),
    )


def _slopes(heard: Heard) -> Tensor | None:
    """Return how fast each head's scores fall with the distance, (heads,); None if no linear bias is added."""
    call = heard.call
    if call.scores is None and call.attn_bias is None and call.alibi_slopes is None:
        return None
    scores, products = heard.scores[0], _products(heard)[0]
    length = scores.shape[-1]
    distance = _distances(length).to(scores.dtype)[..., None]
    rows = torch.eye(length, dtype=scores.dtype)[:, None].expand(-1, length, -1)
    found = []
    for wanted, product in zip(scores, products, strict=True):
        seen = wanted.isfinite()
        columns = torch.cat((product[..., None], -distance, rows), -1)[seen]
        fitted = torch.linalg.lstsq(columns, wanted[seen][:, None]).solution
        rest = float((columns @ fitted - wanted[seen][:, None]).abs().max())
        allowed = _ROUNDING * max(float(wanted[seen].abs().max()), 1e-30)
        if rest > allowed or abs(float(fitted[1])) <= allowed:
            return None
        found.append(fitted[1, 0])
    return torch.stack(found)


def _products(heard: Heard) -> Tensor:
    assert heard.query is not None
    assert heard.key is not None
    group = heard.query.shape[1] // heard.key.shape[1]
    return heard.query.double() @ heard.key.double().repeat_interleave(group, 1).mT


def _distances(length: int) -> Tensor:
    places = torch.arange(length)
    return (places[:, None] - places).abs()
