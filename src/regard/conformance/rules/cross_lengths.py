"""Cross-attention: any number of queries and keys, and each side goes where it should."""

import torch
from torch import Tensor

from regard.conformance.bench import Bench
from regard.conformance.outcome import Case, NotApplicableError, NotTestedError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.stream import Stream, calling
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.module_subject import ModuleSubject
from regard.conformance.subjects.subject import Subject
from regard.functional import reference

__all__ = ["CrossLengths"]

_EXACT = 1e-9


class CrossLengths(Rule):
    """Attends from one sequence to another of another length."""

    id = "cross_lengths"
    title = "Queries and keys may be differently many"
    law = "each query sees every token of the other sequence, the order of that sequence aside, and no other query"
    why = (
        "Vaswani et al., arXiv:1706.03762, section 3.2.3: the decoder attends to the encoder. Code that takes q_len"
        " for kv_len fails first here."
    )
    method = "More and fewer queries than keys against the oracle or under changes of one token on either side."
    tolerance = "1e-9 in float64 for functions and modules, twice the float32 error for models"
    meaning = "the length of the queries is used for the keys, or the two inputs are exchanged"
    remedy = "take kv_len from the key and make key and value of the context"
    after = ("softmax", "scale")

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Attend to another sequence."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        if isinstance(subject, ModuleSubject):
            return _of_module(subject, bench)
        return _of_model(subject, bench)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    if subject.traits.causal:
        raise NotApplicableError("it is causal by itself")
    worst = 0.0
    for q_len, kv_len in ((3, 7), (7, 3), (1, 5)):
        query, key, value = subject.draw(bench.generator(), q_len, kv_len, batch=2)
        expected = reference.attention(query, key, value, scale=subject.traits.scale)
        error = float((subject.attend(query, key, value) - expected).abs().max())
        worst = max(worst, error)
        if not error <= _EXACT:
            return failed(
                f"with {q_len} queries and {kv_len} keys the output is off by {error:.2g} from the formula",
                measured=error,
                tolerance=_EXACT,
                case=Case(length=kv_len),
            )
    return passed(
        "3 to 7, 7 to 3 and 1 to 5 tokens equal the formula", measured=worst, tolerance=_EXACT, ways=("float64 oracle",)
    )


def _of_module(subject: ModuleSubject, bench: Bench) -> Outcome:
    cross = subject.adapter.cross
    if cross is None:
        raise NotApplicableError("it attends to its own sequence alone")
    x, context = (
        torch.randn(1, n, subject.adapter.embed_dim, generator=bench.generator(n), dtype=torch.float64) for n in (3, 6)
    )
    other_x, other = x.clone(), context.clone()
    other_x[:, 0] *= -2
    other[:, 2] *= -2

    def run(one: Tensor, two: Tensor) -> Tensor:
        with torch.no_grad(), calling("with a context of another length"):
            return cross(subject.copy, one, two)

    before = run(x, context)
    if not subject.by_person and torch.equal(run(x, -2 * context), before):
        raise NotTestedError(
            "it takes a context and does not look at it, so it may be meant for one sequence alone; if it is not, say "
            "so with cross= of regard.conformance.AttentionModule"
        )
    turned = float((run(x, context.flip(1)) - before).abs().max())
    seen = (run(x, other) - before).abs().amax((0, 2))
    others = float((run(other_x, context) - before)[:, 1:].abs().max())
    if turned > _EXACT or others > _EXACT or not bool((seen > _EXACT).all()):
        return failed(
            f"the order of the context changes outputs by {turned:.2g}, another query by {others:.2g}, "
            f"and a token of the context reaches {int((seen > _EXACT).sum())} of 3 queries",
            measured=max(turned, others),
            tolerance=_EXACT,
            case=Case(length=6),
        )
    return passed(
        "3 queries see all of 6 tokens of a context, and not each other",
        measured=max(turned, others),
        tolerance=_EXACT,
        ways=("order of the context", "one token of either side"),
    )


def _of_model(subject: Subject, bench: Bench) -> Outcome:
    encoder = next((stream for stream in subject.streams if stream.name == "encoder"), None)
    if encoder is None:
        raise NotApplicableError("it has one sequence")
    if not encoder.sequential:
        raise NotTestedError("its encoder's input is no sequence of tokens")
    tokens = bench.tokens(encoder, 1)
    before = encoder.run(tokens)
    if before.other is None:
        raise NotTestedError("its decoder's output was not found")
    floor = bench.floor(encoder)
    for place in range(tokens.shape[1]):
        changed = tokens.clone()
        changed[:, place] = bench.tokens(encoder, 1, offset=3)[:, place]
        if torch.equal(changed, tokens):
            continue
        after = encoder.run(changed)
        assert after.other is not None
        moved = (after.other - before.other).abs().amax((0, 2))
        if not bool((moved > 0).all()):
            query = int((moved == 0).nonzero()[0])
            return failed(
                f"token {place} of the encoder does not reach token {query} of the decoder",
                measured=0.0,
                tolerance=floor,
                case=Case(length=tokens.shape[1], stream="encoder", query=query, key=place),
            )
    hidden = _hidden_across(encoder, bench)
    if hidden is not None:
        return hidden
    return passed(
        "every token of the encoder reaches every token of the decoder",
        ways=("one token at a time", "keys of each call from decoder to encoder"),
    )


def _hidden_across(encoder: Stream, bench: Bench) -> Outcome | None:
    """Return the failure of a call from decoder to encoder that hides keys: the encoder mixes them, so outputs move."""
    for heard in bench.trace(encoder).calls:
        if heard.call.kv_len != bench.length or heard.call.q_len == bench.length:
            continue
        hidden = heard.hidden.any(0)
        if bool(hidden.any()):
            head, query, key = hidden.nonzero()[0].tolist()
            return failed(
                f"{heard.layer}, head {head}: token {query} of the decoder does not see token {key} of the encoder",
                measured=float(hidden.sum()),
                tolerance=0.0,
                case=Case(length=bench.length, stream=encoder.name, layer=heard.layer, head=head, query=query, key=key),
                ways=("keys of each call from decoder to encoder",),
                meaning="a causal mask or a window for the decoder's own tokens reaches its cross-attention",
                remedy="give the cross-attention the mask of the encoder's real tokens and no causal flag",
            )
    return None
