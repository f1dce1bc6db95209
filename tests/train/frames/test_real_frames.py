"""Real frames: the vowels of nine speakers, and a number for each curve, as the package aeon carries them."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from regard.data import load_ts
from regard.evaluate import MAJORITY, NEAREST_CENTROID
from regard.records import Run
from regard.train import SequencePredictor, configure, make_job

FOUND = find_spec("aeon")
DATA = [Path(folder) / "datasets" / "data" for folder in (FOUND.submodule_search_locations or ())] if FOUND else []
pytestmark = pytest.mark.skipif(
    not DATA, reason="needs the files that the package aeon 1.6.0 carries: pip install aeon"
)


def file(name: str, part: str) -> Path:
    return DATA[0] / name / f"{name}_{part}.ts"


@pytest.mark.parametrize(
    ("name", "target", "counts", "lengths", "channels"),
    [
        ("JapaneseVowels", "class", (270, 370), (7, 29), 12),
        ("Covid3Month", "number", (140, 61), (84, 84), 1),
    ],
)
def test_published_counts_are_found(
    name: str, target: str, counts: tuple[int, int], lengths: tuple[int, int], channels: int
) -> None:
    parts = [load_ts(file(name, part), target=target) for part in ("TRAIN", "TEST")]

    assert tuple(map(len, parts)) == counts
    assert {len(part.channels) for part in parts} == {channels}
    found = [length for part in parts for length in part.lengths]
    assert (min(found), max(found)) == lengths


def test_speakers_are_told_apart_better_than_by_the_nearest_centroid(tmp_path: Path) -> None:
    paths = [f"data.path={file('JapaneseVowels', 'TRAIN')}", f"data.test_path={file('JapaneseVowels', 'TEST')}"]
    config = configure("frames", [*paths, "optim.epochs=15", "check=false"])
    run = Run.create(
        tmp_path / "run", recipe=config.recipe, task=config.task, config=config.to_dict(), seeds={"seed": 0}
    )
    job = make_job(config, run)
    job.prepare()
    job.train()
    models = {model["name"]: model["metrics"]["accuracy"] for model in job.evaluate()["models"]}

    ours = next(iter(models.values()))
    assert ours["low"] > models[NEAREST_CENTROID]["high"] > 0.9
    assert models[MAJORITY]["value"] < 0.1
    predictor = SequencePredictor.open(run)
    test = load_ts(file("JapaneseVowels", "TEST"), target="class")
    said = [max(one, key=lambda label: one[label]) for one in predictor.predict(test.frames) if isinstance(one, dict)]
    assert sum(a == b for a, b in zip(said, test.labels or (), strict=True)) / 370 == pytest.approx(ours["value"])
