"""Determinism: the same input gives the same output."""

import torch

from regard.conformance.bench import Bench, distance
from regard.conformance.outcome import Outcome, failed, passed
from regard.conformance.rule import Rule
from regard.conformance.subjects.subject import Subject

__all__ = ["Determinism"]


class Determinism(Rule):
    """Runs everything twice from different states of the random generator."""

    id = "determinism"
    title = "The same input gives the same output"
    law = "in evaluation mode the output is a function of the input and the weights"
    why = "A random output makes every comparison of runs meaningless; torch.nn.Module.eval, PyTorch documentation."
    method = "Two runs from different random states, for each input."
    tolerance = "none: the same operations on the same numbers give the same bits on one machine"
    meaning = "something draws random numbers in evaluation mode, most often dropout that does not look at the mode"
    remedy = "pass training=self.training to every functional dropout, and dropout_p=0.0 to kernels outside of training"
    after = ("dropout",)
    first = True

    def test(self, subject: Subject, bench: Bench) -> Outcome:
        """Run twice, and tell the bench if nothing can be compared."""
        worst = 0.0
        for stream in subject.streams:
            tokens, before = bench.plain(stream)
            torch.manual_seed(bench.seed + 12_345)
            again = stream.run(tokens)
            worst = max(worst, distance(before.tokens, again.tokens))
        if worst > 0:
            bench.random = True
            return failed(f"two runs on the same input differ by {worst:.2g}", measured=worst, tolerance=0.0)
        return passed("two runs from different random states have the same bits", measured=worst, tolerance=0.0)
