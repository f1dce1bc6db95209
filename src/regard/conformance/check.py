"""``check``: put every law of attention to the test on a function, a module or a model."""

import gc
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from regard._errors import ArgumentError
from regard.conformance.adapters import AttentionModule, Model
from regard.conformance.bench import Bench
from regard.conformance.outcome import NotApplicableError, NotTestedError, Outcome, Verdict
from regard.conformance.report import Checked, Report
from regard.conformance.rule import Rule
from regard.conformance.rules import RULES
from regard.conformance.subjects.recognise import recognise
from regard.conformance.subjects.subject import Subject
from regard.conformance.traits import meant

__all__ = ["check", "chosen"]

_SMALL = 5_000_000  # parameters


def check(
    subject: Callable[..., Any] | nn.Module | AttentionModule | Model,
    *,
    fast: bool = False,
    rules: Sequence[str] | None = None,
    assume: Mapping[str, Any] | None = None,
    seed: int = 0,
    origin: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Prove the laws of attention on ``subject``, and name the ones that are broken.

    Everything runs on a private copy in float64, on short sequences: the subject, its gradients, its mode, and the
    states of the random generators are afterwards what they were.

    Args:
        subject: a function with the signature of ``scaled_dot_product_attention`` or part of it; an attention module
            (``nn.MultiheadAttention``, one with projections called query, key, value and output, or an
            ``AttentionModule``); or a whole model (of ``transformers``, with a forward that takes ids or vectors, or a
            ``Model``).
        fast: fewer and shorter cases, for about a third of the time.
        rules: ids of the rules to test; None for all.
        assume: corrections of what was found out about the subject, such as ``{"causal": True}``; see ``Traits``.
        seed: of what is drawn.
        origin: Python that gives ``subject``, imports and an expression on its last line, for reproductions.
        progress: called with the title of each rule before it is tested.

    Returns:
        The report; ``print`` it.

    Raises:
        ArgumentError: something that cannot be called, an unknown rule or trait.

    Example:
        >>> from torch.nn.functional import scaled_dot_product_attention
        >>> report = regard.check(scaled_dot_product_attention, fast=True)
        >>> report.ok
        True
        >>> def unscaled(query, key, value):
        ...     return (query @ key.mT).softmax(-1) @ value
        >>> regard.check(unscaled, fast=True).failed[0]
        'scale'
    """
    wanted = chosen(rules)
    began = time.perf_counter()
    with _random_states_kept(), _few_threads(subject), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the subject warns of is not what is asked here
        known = recognise(subject, assume)
        known.origin = origin
        bench = Bench(known, seed=seed, fast=fast)
        found = {}
        for rule in sorted(wanted, key=lambda one: not one.first):
            if progress is not None:
                progress(rule.title)
            found[rule.id] = _checked(rule, known, bench)
    report = Report(
        subject=known.name,
        kind=known.kind,
        checked=[found[rule.id] for rule in wanted],
        assumptions=known.traits.lines(),
        notes=known.notes,
        seed=seed,
        fast=fast,
        seconds=time.perf_counter() - began,
    )
    is_large = _size(subject) >= _SMALL
    del known, bench
    if is_large:
        gc.collect()  # what hears a copy and the copy know each other
    return report


def chosen(wanted: Sequence[str] | None) -> list[Rule]:
    """Return the rules whose ids are ``wanted``, in the order of ``RULES``; all for None.

    Raises:
        ArgumentError: an unknown rule.
    """
    names = [rule.id for rule in RULES]
    unknown = sorted(set(wanted or ()) - set(names))
    if unknown:
        raise ArgumentError(f"rules may be {', '.join(names)}, got {', '.join(unknown)}{meant(unknown[0], names)}")
    return [rule for rule in RULES if wanted is None or rule.id in wanted]


def _checked(rule: Rule, subject: Subject, bench: Bench) -> Checked:
    began = time.perf_counter()
    try:
        rule.applies(subject)
        if bench.random and not rule.first:
            raise NotTestedError("its outputs are random, so nothing can be compared; see the first broken rule")
        outcome = rule.test(subject, bench)
    except NotApplicableError as reason:
        outcome = Outcome(verdict=Verdict.NOT_APPLICABLE, summary=str(reason))
    except NotTestedError as reason:
        outcome = Outcome(verdict=Verdict.NOT_TESTED, summary=str(reason))
    return Checked(rule=rule, outcome=outcome, seconds=time.perf_counter() - began)


def _size(subject: Any) -> int:
    """Return how many parameters the subject has."""
    module = subject if isinstance(subject, nn.Module) else getattr(subject, "module", None)
    return sum(one.numel() for one in module.parameters()) if isinstance(module, nn.Module) else 0


@contextmanager
def _few_threads(subject: Any) -> Iterator[None]:
    """Compute small subjects in one thread: on short sequences threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    if _size(subject) < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Put back the states of the random generators of PyTorch and Python."""
    state = random.getstate()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    finally:
        random.setstate(state)
