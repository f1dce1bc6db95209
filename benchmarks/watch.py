"""What does watching attention cost: a step of MiniLM on real news, watched or not, and the eager route to the same?

Each case is one precision, one length and a training step (forward, backward, fused AdamW) or inference. Attention
dropout is 0 for every peer, so that all of them may use the fused kernel; other dropout is 0.1. The batch holds real
documents of about that length with the padding that they bring.
"""

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from measure import collect, compare, timed
from memory import in_fresh_process, peak_bytes, unmeasurable
from minilm import Batch, TransformersClassifier, our_model, transformers_model
from report import Report, Table, add_peer_option, only, parser
from torch import Tensor, nn
from torch.nn import functional as F

from regard.functional import ROW_STATISTICS
from regard.functional.replacement import native_available
from regard.observe import watch
from regard.train import choose_hardware

__all__ = ["main"]

_QUESTION = "What does watching attention cost, and what does the eager route to the same numbers cost?"
_TINY = 8  # tokens of the step that makes the optimizer's state before memory is measured


@dataclass(frozen=True, kw_only=True)
class Case:
    """One setting in which peers are compared."""

    family: str
    trains: bool
    num_tokens: int
    batch_size: int
    precision: torch.dtype

    @property
    def name(self) -> str:
        """What the case is called in tables and on the command line."""
        kind = "training step" if self.trains else "inference"
        precision = str(self.precision).removeprefix("torch.")
        return f"{self.family}, {kind}, {self.batch_size} × {self.num_tokens} tokens, {precision}"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to run the model.

    Attributes:
        statistics: what ``watch`` takes: ``"default"`` or names; none for a model that is not watched.
        rows: query rows that it looks at.
        kernel: ``"native"`` where the native kernels take the place of the model's.
        eager: whether attention makes its n by n weights, layer by layer.
        maps: whether the weights of all layers are returned.
        entropy: whether the mean entropy of every head is computed from them.
    """

    statistics: Literal["default"] | tuple[str, ...] = ()
    rows: Literal["all"] | int = "all"
    kernel: str = "own"
    eager: bool = False
    maps: bool = False
    entropy: bool = False


_MASSES = ("entropy", "collision", "first_mass", "self_mass", "padding_mass")
_WATCHED = {
    "off": Peer(),
    "watch, default statistics": Peer(statistics="default"),
    "watch, entropy only": Peer(statistics=("entropy",)),
    "watch, entropy, collision and masses": Peer(statistics=_MASSES),
    "watch, all of rows": Peer(statistics=tuple(ROW_STATISTICS)),
    "watch, 64 sampled rows": Peer(statistics="default", rows=64),
}
_EAGER = {
    "eager": Peer(eager=True),
    "eager, with maps": Peer(eager=True, maps=True),
    "eager, with maps and entropy": Peer(eager=True, maps=True, entropy=True),
}
if native_available():
    _WATCHED["native kernels, entropy, collision and masses"] = Peer(statistics=_MASSES, kernel="native")
_PEERS = {"MiniLM in transformers": {**_WATCHED, **_EAGER}, "MiniLM in regard": _WATCHED}
_QUICK_PEAKS = ("off", "eager, with maps and entropy")


def main() -> None:
    """Run the benchmark."""
    options = _options()
    found = _cases(options)
    if options.peak:
        print(_peak(next(case for case in found if case.name == options.peak[0]), options.peak[1]))
        return
    chosen = [case for case in found if all(word in case.name for word in options.case)]
    if not chosen:
        raise SystemExit(f"--case must be part of a case's name, got {options.case}; there are:\n" + _listed(found))
    hardware = choose_hardware("cpu", "auto")
    report = Report(_QUESTION, options, facts=[hardware.reason, "attention dropout 0, other dropout 0.1"])
    reason = unmeasurable()
    if reason:
        report.say(f"Memory is not measured: {reason}.")
    for case in chosen:
        report.tell(case.name)
        report.add(_table(case, options, report, with_memory=reason is None))
    report.write()


def _options() -> argparse.Namespace:
    made = parser(__doc__ or "", rounds=9)
    made.add_argument("--case", nargs="*", default=[], metavar="WORD", help="only cases whose names hold every WORD")
    add_peer_option(made)
    made.add_argument("--peak", nargs=2, metavar=("CASE", "PEER"), help="only print one peer's peak memory, in bytes")
    return made.parse_args()


def _cases(options: argparse.Namespace) -> list[Case]:
    precision = choose_hardware("cpu", "auto").precision
    precisions = dict.fromkeys([torch.float32, precision])
    sizes = [(32, 2)] if options.quick else [(128, 16), (512, 4)]
    every = [
        Case(family=family, trains=trains, num_tokens=num_tokens, batch_size=batch_size, precision=precision)
        for family in _PEERS
        for trains in (True, False)
        for num_tokens, batch_size in sizes
        for precision in precisions
    ]
    return [every[0], every[-1]] if options.quick else every


def _listed(cases: Sequence[Case]) -> str:
    return "\n".join(f"  {case.name}" for case in cases)


def _table(case: Case, options: argparse.Namespace, report: Report, *, with_memory: bool) -> Table:
    peers = only(_PEERS[case.family], options.peer)
    batch = Batch.read(case.num_tokens, case.batch_size)
    models = {eager: _model(case, eager=eager) for eager in {peer.eager for peer in peers.values()}}
    steps = {name: partial(timed, Step(case, peer, models[peer.eager], batch)) for name, peer in peers.items()}
    rounds, most = (1, None) if options.quick else (options.rounds, 2 * options.rounds)
    samples = collect(steps, rounds=rounds, most_rounds=most, tell=report.tell)
    measured = _QUICK_PEAKS if options.quick and case.trains else () if options.quick else tuple(peers)
    quick = ["--quick"] if options.quick else []
    report.tell("peak memory")
    peaks = {name: in_fresh_process(__file__, [*quick, "--peak", case.name, name]) for name in measured if with_memory}
    return Table(
        title=case.name,
        comparisons=compare(samples),
        peaks=peaks,
        note=f"{batch.padding_share:.1%} of the batch is padding. Peak memory is that of a step beyond weights "
        "and optimizer state.",
    )


class Step:
    """One step of a peer; a watched one is watched as in a training loop, with one view over all steps."""

    def __init__(self, case: Case, peer: Peer, model: nn.Module, batch: Batch) -> None:
        self._case = case
        self._peer = peer
        self._model = model.train(case.trains)
        self._batch = batch
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        self._watching = self._watch()

    def __call__(self) -> None:
        """Run the step."""
        self.run(self._batch)

    def run(self, batch: Batch) -> None:
        """Run the step on another batch."""
        with self._watching, torch.set_grad_enabled(self._case.trains):
            loss = self._loss(batch)
            if self._case.trains:
                loss.backward()
                self._optimizer.step()
                self._optimizer.zero_grad()

    def _watch(self) -> AbstractContextManager[object]:
        if not self._peer.statistics:
            return nullcontext()
        if self._peer.statistics == "default":
            return watch(self._model, rows=self._peer.rows)
        return watch(self._model, self._peer.statistics, rows=self._peer.rows, kernel=self._peer.kernel)

    def _loss(self, batch: Batch) -> Tensor:
        precision = self._case.precision
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            if isinstance(self._model, TransformersClassifier):
                logits, maps = self._model(batch.input_ids, batch.attention_mask, maps=self._peer.maps)
                if self._peer.entropy:
                    _entropies(maps)
            else:
                logits = self._model(batch.input_ids, attention_mask=batch.attention_mask)
            return F.cross_entropy(logits.float(), batch.labels)


@torch.no_grad()
def _entropies(maps: Sequence[Tensor]) -> Tensor:
    """Return the mean entropy (layers, heads) in nats, as people compute it from the weights."""
    return torch.stack([torch.special.entr(weights.float()).sum(dim=-1).mean(dim=(0, 2)) for weights in maps])


def _model(case: Case, *, eager: bool) -> nn.Module:
    if case.family == "MiniLM in regard":
        return our_model(case.precision)
    return transformers_model("eager" if eager else "sdpa")


def _peak(case: Case, name: str) -> int:
    """Return the peak of two steps of one peer; weights and the optimizer's state are there before."""
    peer, batch = _PEERS[case.family][name], Batch.read(case.num_tokens, case.batch_size)
    step = Step(case, peer, _model(case, eager=peer.eager), batch)
    step.run(batch.cut(_TINY))

    def two_steps() -> None:
        step()
        step()

    return peak_bytes(two_steps)


if __name__ == "__main__":
    main()
