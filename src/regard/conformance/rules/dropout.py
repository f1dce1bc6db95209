"""Dropout is off in evaluation mode."""

import torch

from regard.conformance.bench import Bench, distance
from regard.conformance.outcome import NotApplicableError, Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.private_copy import dropout_raised
from regard.conformance.subjects.subject import Subject

__all__ = ["Dropout"]

_PROBABILITY = 0.5


class Dropout(Rule):
    """Raises every dropout probability to a half, so that a forgotten mode cannot hide behind a small one."""

    id = "dropout"
    title = "Dropout is off in evaluation mode"
    law = "in evaluation mode no dropout probability changes the output"
    why = (
        "Srivastava et al. 2014; torch.nn.functional.scaled_dot_product_attention documents that it applies "
        "dropout_p always."
    )
    method = (
        "Every dropout probability of a private copy is set to 0.5; in evaluation mode nothing may change, in "
        "training mode something must."
    )
    tolerance = "none: nothing is dropped or something is"
    meaning = "a functional dropout or a kernel gets its probability without a look at self.training"
    remedy = "write F.dropout(x, p, training=self.training) and dropout_p=self.p if self.training else 0.0"
    kinds = ("module", "model")
    first = True

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Compare evaluation runs with and without dropout probabilities."""
        assert subject.copy is not None
        worst = 0.0
        with dropout_raised(subject.copy, 0.0):
            plain = [stream.run(bench.tokens(stream)).tokens for stream in subject.streams]
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
        return passed(f"{number} dropout probabilities have no effect in evaluation mode", measured=0.0, tolerance=0.0)


def _reproduction(subject: Subject) -> str:
    text = subject.streams[0].text.replace("{tokens}", "tokens").replace("{keep}", "")
    compared = f"print(({text} - {text}).abs().max())  # must be 0"
    return f"{subject.setup()}\n# with its dropout probabilities set to 0.5, in eval mode\n{compared}"
