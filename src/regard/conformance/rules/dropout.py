"""Dropout is off in evaluation mode, and keeps the mean where it is on."""

import torch

from regard.conformance.bench import Bench, distance
from regard.conformance.outcome import NotApplicableError, NotTestedError, Outcome, counted, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.function_subject import FunctionSubject
from regard.conformance.subjects.private_copy import dropout_raised
from regard.conformance.subjects.subject import Subject

__all__ = ["Dropout"]

_PROBABILITY = 0.5
_OF_FUNCTION = 0.25  # p, 1/p, 1 - p and 1/(1 - p) are all different
_EXACT = 1e-9


class Dropout(Rule):
    """Raises every dropout probability to a half, so that a forgotten mode cannot hide behind a small one."""

    id = "dropout"
    title = "Dropout is off in evaluation mode"
    law = (
        "in evaluation mode no dropout probability changes the output; a function that drops weights scales those "
        "that it keeps by 1 / (1 - p)"
    )
    why = (
        "Srivastava et al. 2014; torch.nn.functional.scaled_dot_product_attention documents that it applies "
        "dropout_p always."
    )
    method = (
        "Modules: every dropout probability of a private copy is set to 0.5, and in evaluation mode nothing may "
        "change. Functions: their weights, read off unit values, with dropout of 0.25 against those without."
    )
    tolerance = "none: nothing is dropped or something is; 1e-9 in float64 for the factor"
    meaning = "a functional dropout or a kernel gets its probability without a look at self.training"
    remedy = "write F.dropout(x, p, training=self.training) and dropout_p=self.p if self.training else 0.0"
    first = True

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compare evaluation runs with and without dropout probabilities."""
        if isinstance(subject, FunctionSubject):
            return _of_function(subject, bench)
        assert subject.copy is not None
        worst = 0.0
        plain = [bench.plain(stream)[1].tokens for stream in subject.streams]
        with dropout_raised(subject.copy, _PROBABILITY) as number:
            for stream, before in zip(subject.streams, plain, strict=True):
                torch.manual_seed(bench.seed + 1)
                worst = max(worst, distance(before, stream.run(bench.tokens(stream)).tokens))
        if number == 0:
            raise NotApplicableError("it has no dropout")
        if worst > 0:
            return failed(
                f"with dropout probabilities of {_PROBABILITY} an evaluation run changes by {worst:.2g}",
                measured=worst,
                tolerance=0.0,
                reproduction=_reproduction(subject),
            )
        probabilities = counted(number, "dropout probability", "dropout probabilities")
        return passed(f"no effect of {probabilities} in evaluation mode", measured=0.0, tolerance=0.0)


def _of_function(subject: FunctionSubject, bench: Bench) -> Outcome:
    if "dropout" not in subject.options:
        raise NotApplicableError("it takes no dropout probability")
    query, key, _ = subject.draw(bench.generator(), 8, batch=4)
    torch.manual_seed(bench.seed)
    with torch.no_grad():
        whole, again = subject.weights(query, key), subject.weights(query, key)
        left = subject.weights(query, key, dropout=_OF_FUNCTION)
    if not torch.equal(whole, again):
        dropped = float((whole == 0).double().mean())
        if dropped == 0:
            raise NotTestedError("its outputs are random, and not because weights are dropped")
        return failed(f"a share of {dropped:.2g} of its weights is dropped without being asked for", measured=dropped)
    kept = left != 0
    factor = 1 / (1 - _OF_FUNCTION)
    error = float(((left - factor * whole) * kept).abs().max())
    share = float(1 - kept.double().mean())
    if share == 0:
        return failed(f"dropout of {_OF_FUNCTION:g} drops no weight", measured=0.0, tolerance=_OF_FUNCTION)
    if error > _EXACT:
        found = float((left[kept] / whole[kept]).median())
        return failed(
            f"with dropout of {_OF_FUNCTION:g} the weights that are kept are those without it times {found:.4g}, not "
            f"{factor:.4g}",
            measured=error,
            tolerance=_EXACT,
            ways=("weights read off unit values",),
            meaning="weights are dropped without scaling the others up, so that training and evaluation differ",
            remedy="divide the kept weights by 1 - p, as torch.nn.functional.dropout does",
        )
    return passed(
        f"with dropout of {_OF_FUNCTION:g} a share of {share:.2g} is dropped and the rest is scaled by {factor:.4g}",
        measured=error,
        tolerance=_EXACT,
        ways=("weights read off unit values",),
    )


def _reproduction(subject: Subject) -> str:
    text = subject.streams[0].text.replace("{tokens}", "tokens").replace("{keep}", "")
    compared = f"print(({text} - {text}).abs().max())  # must be 0"
    return f"{subject.setup()}\n# with its dropout probabilities set to 0.5, in eval mode\n{compared}"
