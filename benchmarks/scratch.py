"""How long does a small BERT take from scratch to 0.95 accuracy on Reuters R8, and what does a step of equal work cost?

`learn`: every peer is trained once, in a process of its own, from the same seed on the same documents and vocabulary.
The time is that of the steps; the validation accuracy is looked at eight times an epoch while the clock stands still.
Ours is the recipe `from-scratch` as `regard train` runs it, watched and with its records.

`step`: forward, backward and AdamW of transformers' model and ours on the same batches of similar length, with the same
dropout places, under autocast.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from learning import GOAL, OF_REGARD, OF_TRANSFORMERS, Learnt, learn
from measure import MAX_WAITING, collect, compare, timed
from report import Plain, Report, Table, parser
from small_bert import SmallBert
from torch import nn
from torch.nn import functional as F

from regard.data import LengthGroupedBatches, collate
from regard.evaluate import accuracy, f1, linear_baseline, macro, tally
from regard.functional import ROW_STATISTICS
from regard.functional.impl.native_region import Region
from regard.functional.replacement import native_available
from regard.observe import watch
from regard.train import choose_hardware

__all__ = ["main"]

_CASES = ("step", "learn")
_THEIRS = "transformers"
_THEIR_DROPOUT = "transformers, dropout 0.1"
_NUM_BATCHES = 3
_STEP_NOTE = (
    "Attention dropout 0 but where named. PyTorch's kernel runs ours in float32 unless named, which `auto` chooses. "
    "Goals against transformers: 1/1.15 = 0.870 on PyTorch's kernel, 1/1.4 = 0.714 native with all statistics."
)
_LEARN_NOTE = (
    "Defaults: learning rate 5e-5 without warm-up, batches of 8 in random order, float32, attention dropout 0.1. "
    "Our settings: learning rate, warm-up, weight decay, batch size, precision and no attention dropout, as ours."
)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        if options.learn:
            found = learn(options.learn, Path(folder), quick=options.quick, limit_s=options.limit)
            print(json.dumps(found.to_dict()))
            return
        hardware = choose_hardware("cpu", "auto")
        report = Report((__doc__ or "").splitlines()[0], options, facts=[hardware.reason])
        small = SmallBert(Path(folder), quick=options.quick)
        if "step" in options.case:
            _step(small, options, report)
        if "learn" in options.case:
            _learn(small, options, report, Path(folder))
    report.write()


def _options() -> argparse.Namespace:
    made = parser(__doc__ or "", rounds=7)
    made.add_argument("--case", nargs="*", default=_CASES, choices=_CASES, help="only one of the two questions")
    made.add_argument("--peers", nargs="*", default=_learners(), choices=_learners(), help="of `learn`: only these")
    made.add_argument("--records", type=Path, metavar="FOLDER", help="keep trainings there, and take those that are")
    made.add_argument(
        "--limit", type=float, default=math.inf, metavar="S", help="of `learn`: stop each after S seconds"
    )
    made.add_argument("--learn", metavar="PEER", help="only train one peer in this process and print what came of it")
    return made.parse_args()


def _learners() -> list[str]:
    return [*OF_TRANSFORMERS, *(OF_REGARD if native_available() else OF_REGARD[:1])]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One way to run a step; ``statistics`` are watched."""

    model: nn.Module
    statistics: Sequence[str] = ()


def _step(small: SmallBert, options: argparse.Namespace, report: Report) -> None:
    """Measure a step over a few batches, short and long."""
    batches = _batches(small)
    peers = _peers(small)
    steps = {name: partial(timed, Step(small, peer, batches)) for name, peer in peers.items()}
    rounds, most = (1, None) if options.quick else (options.rounds, options.rounds + 3)
    samples = collect(steps, rounds=rounds, most_rounds=most, tell=report.tell)
    lengths = [len(small.corpus.splits["train"].ids[index]) for batch in batches for index in batch]
    for against in (_THEIRS, _THEIR_DROPOUT):
        report.add(
            Table(
                title=f"{len(batches)} training steps of up to {small.config.optim.batch_size} documents, "
                f"{min(lengths)} to {max(lengths)} tokens",
                comparisons=compare({against: samples[against], **samples}, against=against),
                tokens=sum(lengths),
                note=_STEP_NOTE,
            )
        )


def _batches(small: SmallBert) -> list[list[int]]:
    """Return batches of the first epoch from the shortest to the longest, as they are there."""
    lengths = [len(ids) for ids in small.corpus.splits["train"].ids]
    optim = small.config.optim
    batches = LengthGroupedBatches(lengths, batch_size=optim.batch_size, seed=small.config.seed).batches(0)
    batches.sort(key=lambda batch: max(lengths[index] for index in batch))
    number = min(_NUM_BATCHES, len(batches))
    return [batches[(2 * place + 1) * len(batches) // (2 * number)] for place in range(number)]


def _peers(small: SmallBert) -> dict[str, Peer]:
    peers = {
        _THEIRS: Peer(model=small.theirs_of_equal_work(attention_dropout_p=0.0)),
        _THEIR_DROPOUT: Peer(model=small.theirs_of_equal_work(attention_dropout_p=0.1)),
        "regard, PyTorch's kernel": Peer(model=small.ours(attention_dtype=torch.float32, impl="sdpa")),
        "regard, PyTorch's kernel, bfloat16": Peer(model=small.ours(impl="sdpa")),
    }
    if native_available():
        peers["regard, native"] = Peer(model=small.ours(impl="native"))
        peers["regard, native, all statistics"] = Peer(
            model=small.ours(impl="native"), statistics=tuple(ROW_STATISTICS)
        )
    return peers


class Step:
    """A training step on each of some batches; a watched peer is watched at every one."""

    def __init__(self, small: SmallBert, peer: Peer, batches: Sequence[Sequence[int]]) -> None:
        split = small.corpus.splits["train"]
        self._batches = [
            (*collate(split.ids, batch, small.pad_id), torch.tensor([split.targets[index] for index in batch]))
            for batch in batches
        ]
        self._model = peer.model.train()
        self._optimizer = torch.optim.AdamW(peer.model.parameters(), lr=small.config.optim.lr, fused=True)
        self._watching: AbstractContextManager[object] = nullcontext()
        if peer.statistics:
            self._watching = watch(peer.model, peer.statistics)

    def __call__(self) -> None:
        """Run the steps."""
        with self._watching:
            for input_ids, attention_mask, targets in self._batches:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    logits = self._model(input_ids, attention_mask=attention_mask)
                F.cross_entropy(logits.float(), targets).backward()
                self._optimizer.step()
                self._optimizer.zero_grad()


def _learn(small: SmallBert, options: argparse.Namespace, report: Report, folder: Path) -> None:
    """Train every peer, or take what is kept of it, and compare."""
    records = options.records or folder / "records"
    records.mkdir(parents=True, exist_ok=True)
    learnt: dict[str, Learnt] = {}
    for peer in _learners():
        path = records / f"{peer}.json"
        if not path.exists() and peer in options.peers:
            report.tell(peer)
            path.write_text(json.dumps(_in_own_process(peer, folder, options)), encoding="utf-8")
        if path.exists():
            learnt[peer] = Learnt.from_dict(json.loads(path.read_text(encoding="utf-8")))
    epochs = small.config.optim.epochs
    title = f"From scratch on Reuters R8, {epochs} epoch{'s' if epochs > 1 else ''}"
    report.add(_outcome(small, learnt, f"{title}: when validation accuracy reached {GOAL}, and where it ended"))
    report.add(_curves(learnt, f"{title}: training seconds and validation accuracy"))


def _in_own_process(peer: str, folder: Path, options: argparse.Namespace) -> object:
    """Train ``peer`` in a fresh process, ours on the kernels that its name says."""
    environment = dict(os.environ)
    # `regard train` does so for itself; given to all, it spares each of them alike on a busy machine.
    environment.setdefault("GOMP_SPINCOUNT", "1000")
    if peer == OF_REGARD[0]:
        never = folder / "never.json"
        Region(forward={}, training={}, decode={}).save(never)
        environment["REGARD_REGION"] = str(never)
    quick = ["--quick"] if options.quick else []
    command = [sys.executable, __file__, *quick, "--limit", str(options.limit), "--learn", peer]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _outcome(small: SmallBert, learnt: Mapping[str, Learnt], title: str) -> Plain:
    """Return when each peer got there and where it ended, with the tuned linear model beside them."""
    first = next(iter(learnt))
    rows = [
        [peer, _seconds(found), _crossing_ratio(found, learnt[first]), *_speed(small, found), *_scores(found)]
        for peer, found in learnt.items()
    ]
    linear = _linear(small)
    rows.append(["TF-IDF + linear model, tuned", "", "", "", "", "", *(f"{value:.4f}" for value in linear)])
    return Plain(
        title=title,
        columns=["peer", f"time to {GOAL}", "ratio", "epochs", "real tokens/s", "validation", "test", "macro F1"],
        rows=rows,
        values={peer: {"crossing_s": found.crossing_s, **found.to_dict()} for peer, found in learnt.items()},
        note=f"{_LEARN_NOTE} The goal for regard is at most 0.25 of {first}. One seed each.",
    )


def _speed(small: SmallBert, found: Learnt) -> tuple[str, str]:
    return f"{found.epochs:.2f}", f"{found.epochs * small.num_tokens / found.seconds:,.0f}"


def _scores(found: Learnt) -> list[str]:
    return [f"{value:.4f}" for value in (found.validation_accuracy, found.test_accuracy, found.test_macro_f1)]


def _linear(small: SmallBert) -> tuple[float, float]:
    """Return test accuracy and macro F1 of the linear model that ``regard train`` puts beside its own."""
    train, validation, test = (small.corpus.splits[name] for name in ("train", "validation", "test"))
    texts = (train.documents.texts, train.targets, validation.documents.texts, validation.targets)
    predicted = linear_baseline(*texts, test.documents.texts, seed=small.config.seed).predicted
    counts = tally(np.asarray(test.targets), predicted, num_classes=len(small.corpus.labels))
    return float(accuracy(counts)), float(macro(f1(counts)))


def _seconds(found: Learnt) -> str:
    disturbed = ", disturbed" if (found.waiting or 0.0) > MAX_WAITING else ""
    time = f"not in {found.seconds:.1f} s" if found.crossing_s is None else f"{found.crossing_s:.1f} s"
    return time + disturbed


def _crossing_ratio(found: Learnt, other: Learnt) -> str:
    """Return how the crossings compare; where the other has none, its whole training is a bound."""
    if found is other:
        return "1"
    if found.crossing_s is None:
        return "none"
    if other.crossing_s is None:
        return f"below {found.crossing_s / other.seconds:.3f}"
    return f"{found.crossing_s / other.crossing_s:.3f}"


def _curves(learnt: Mapping[str, Learnt], title: str) -> Plain:
    """Return one row a look, at the same share of an epoch for all, but for the step that looks must fall on."""
    longest = max(len(found.curve) for found in learnt.values())
    rows = [[str(number + 1), *(_point(found, number) for found in learnt.values())] for number in range(longest)]
    mean = statistics.fmean(found.seconds / len(found.curve) for found in learnt.values())
    return Plain(
        title=title,
        columns=["look", *learnt],
        rows=rows,
        values={peer: found.curve for peer, found in learnt.items()},
        note=f"A look every eighth of an epoch and one at the end, {mean:.1f} s apart on average.",
    )


def _point(found: Learnt, number: int) -> str:
    if number >= len(found.curve):
        return ""
    seconds, accuracy = found.curve[number]
    return f"{seconds:.1f} s {accuracy:.4f}"


if __name__ == "__main__":
    main()
