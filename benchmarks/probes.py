"""How far back do attention and recurrent networks of the same parameter count reach? Accuracy against distance."""

import argparse
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from probe_chart import draw_accuracy
from probe_nets import ARCHITECTURES, Settings, accuracy, make, sensitivity, train
from report import Plain, Report, parser

from regard.data import PROBES, Probe
from regard.evaluate import mean_interval
from regard.models import count_parameters
from regard.records import Interval, write_json

DISTANCES = (16, 25, 50, 100, 200)
RATES = {"attention": 2e-3, "lstm": 3e-3, "gru": 3e-3}
"""Peak rates. Of an LSTM that copies, 3e-3 was the better of two: after 500 steps 0.62 were right, with 1e-3 0.10."""
STEPS = {"associative recall": 3_000}
"""Where more than the usual steps are given: within 1,200, whose distances grow sooner, one of three attention networks
learnt which values there were and not whose they are."""
CHANCE = {"copy": 1 / 62, "associative recall": 1 / 31, "adding": 0.078, "needle": 1 / 62}
"""What a network gets right that knows the alphabet and nothing else; of sums, one that always says 1."""
ROWS = 512


def run(probe: str, architecture: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one network and measure it at every distance; a record of it is not made twice."""
    folder = options.records
    path = folder / f"{probe.replace(' ', '-')}-{architecture}-{seed}.json" if folder else None
    settings = Settings(steps=STEPS.get(probe, Settings().steps))
    if options.quick:
        settings = Settings(max_distance=24, rows=8, steps=4, warmup=2, check_every=2)
    made_with = asdict(settings) | {"lr": RATES[architecture]}
    if path is not None and path.exists():
        known: dict[str, Any] = json.loads(path.read_text())
        if known.get("settings") != made_with:
            raise SystemExit(
                f"{path} must be of a training with {made_with}, got {known.get('settings')}; "
                "name another folder for --records, or remove the file."
            )
        return known
    trained = train(architecture, probe, lr=RATES[architecture], seed=seed, settings=settings)
    distances = [distance for distance in DISTANCES if distance <= settings.max_distance]
    rows = 16 if options.quick else ROWS
    held = {distance: PROBES[probe](rows, distance=distance, seed=(2**31, distance)) for distance in distances}
    fresh = make(architecture, numeric=probe == "adding")
    record = {
        "probe": probe,
        "architecture": architecture,
        "seed": seed,
        "settings": made_with,
        "parameters": count_parameters(trained.model),
        "steps": trained.steps,
        "seconds": trained.seconds,
        "solved": trained.solved,
        "curve": trained.curve,
        "accuracy": {distance: accuracy(trained.model, batch).tolist() for distance, batch in held.items()},
        "gradient": {
            when: {distance: root_mean_square(model, batch) for distance, batch in held.items()}
            for when, model in (("fresh", fresh), ("trained", trained.model))
        },
    }
    if path is not None:
        write_json(path, record)
        return json.loads(path.read_text())  # type: ignore[no-any-return]
    return json.loads(json.dumps(record))  # type: ignore[no-any-return]


def root_mean_square(model: Any, batch: Probe) -> float:
    """Return the Frobenius norm of the derivative of the state at the answer by what is asked for, over the rows."""
    return float(sensitivity(model, batch).square().mean().sqrt())


def accuracy_of(records: Sequence[dict[str, Any]], distance: str) -> Interval:
    """Return the mean over seeds of the share of right answers; rows vary and seeds do."""
    rows = np.array([record["accuracy"][distance] for record in records])
    shared = rows.mean(0)  # each row's mean over seeds
    # With one more right and one more wrong row than there were: from rows that are all right no certainty follows.
    smoothed = (shared.sum() + 1) / (len(shared) + 2)
    variance = max(shared.var(ddof=1), smoothed * (1 - smoothed)) if shared.std() == 0 else shared.var(ddof=1)
    return mean_interval(rows.mean(1), row_variance=float(variance / len(shared)), low=0.0, high=1.0)


def table(probe: str, records: dict[str, list[dict[str, Any]]]) -> Plain:
    """Return accuracy against distance, one row for each architecture."""
    distances = list(next(iter(records.values()))[0]["accuracy"])
    rows, values = [], {}
    for architecture, found in records.items():
        scores = {distance: accuracy_of(found, distance) for distance in distances}
        steps = [f"{one['steps']:,}{'' if one['solved'] else '+'}" for one in found]
        rows.append(
            [
                architecture,
                f"{found[0]['parameters']:,}",
                *(f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})" for one in scores.values()),
                ", ".join(steps),
                f"{np.mean([one['seconds'] for one in found]):.0f} s",
            ]
        )
        values[architecture] = {distance: one.model_dump() for distance, one in scores.items()}
    return Plain(
        title=f"{probe}: share of right answers by distance",
        columns=["architecture", "parameters", *distances, "steps of each seed", "time"],
        rows=rows,
        values=values,
        note="95 % intervals over seeds and rows; + had not solved the longest distance when its steps were over",
    )


def gradients(probe: str, records: dict[str, list[dict[str, Any]]]) -> Plain:
    """Return the gradient from the answer to what it asks for, against distance."""
    distances = list(next(iter(records.values()))[0]["accuracy"])
    rows = [
        [
            f"{architecture}, {when}",
            *(f"{np.exp(np.mean([np.log(one['gradient'][when][d]) for one in found])):.2g}" for d in distances),
        ]
        for architecture, found in records.items()
        for when in ("fresh", "trained")
    ]
    return Plain(
        title=f"{probe}: |∂ state at the answer / ∂ embedding asked for| by distance",
        columns=["architecture", *distances],
        rows=rows,
        values={name: cells for name, *cells in rows},
        note="Frobenius norm, root mean square over rows, geometric mean over seeds",
    )


def draw(probe: str, records: dict[str, list[dict[str, Any]]]) -> str:
    """Return the accuracy of one probe against distance as SVG."""
    distances = list(next(iter(records.values()))[0]["accuracy"])
    curves = {name: [accuracy_of(found, distance) for distance in distances] for name, found in records.items()}
    title = f"{probe}: share of right answers"
    return draw_accuracy(title, [int(distance) for distance in distances], curves, CHANCE[probe])


def main() -> None:
    """Train what was asked for and print the tables."""
    made = parser(__doc__ or "", rounds=1)
    made.add_argument("--probe", nargs="*", default=list(PROBES), choices=list(PROBES), help="some of the probes")
    made.add_argument("--architecture", nargs="*", default=["attention", "lstm"], choices=ARCHITECTURES)
    made.add_argument("--seeds", type=int, default=3, help="trainings of each (default 3, at least 2)")
    made.add_argument("--seed", type=int, help="train this seed alone, into --records, and tell nothing")
    made.add_argument("--records", type=Path, metavar="FOLDER", help="keep each training, and do none twice")
    made.add_argument("--svg", type=Path, metavar="FOLDER", help="draw accuracy against distance")
    options = made.parse_args()
    torch.set_num_threads(1)
    if options.seed is not None:
        for probe, architecture in itertools.product(options.probe, options.architecture):
            run(probe, architecture, options.seed, options)
        return
    report = Report(__doc__ or "", options, facts=["one thread", f"learning rates {RATES}"])
    everything: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for probe in options.probe:
        found: dict[str, list[dict[str, Any]]] = {}
        for architecture in options.architecture:
            for seed in range(options.seeds):
                report.tell(f"{probe}, {architecture}, seed {seed}")
                found.setdefault(architecture, []).append(run(probe, architecture, seed, options))
        everything[probe] = found
        report.add(table(probe, found))
        report.add(gradients(probe, found))
    if options.svg:
        options.svg.mkdir(parents=True, exist_ok=True)
        for probe, found in everything.items():
            (options.svg / f"probe-{probe.replace(' ', '-')}.svg").write_text(draw(probe, found), encoding="utf-8")
    report.write()


if __name__ == "__main__":
    main()
