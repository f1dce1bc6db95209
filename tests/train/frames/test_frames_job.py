"""The job of a model of frames: it learns, stands beside its baselines, goes on where it stopped, and can be asked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from regard import RegardError
from regard.diagnose import diagnose
from regard.evaluate import LINEAR_SUMMARIES, MAJORITY, NEAREST_CENTROID, NEAREST_NEIGHBOUR, TRAINING_MEAN
from regard.models import load_frame_model
from regard.readiness import judge
from regard.records import Run
from regard.train import RECIPES, SequencePredictor, configure, make_job
from regard.train.comparing.outcome import read_outcome
from regard.viewer import write_report

SMALL = ["model.embed_dim=16", "model.num_heads=2", "model.num_layers=1", "model.feed_forward_dim=32"]


def waves(count: int, seed: int) -> tuple[list[npt.NDArray[np.float64]], list[int]]:
    """Return noisy sweeps of unlike length that rise or fall: their mean frames tell nothing, their order does."""
    generator = np.random.default_rng(seed)
    classes = [index % 2 for index in range(count)]
    frames = []
    for rises in classes:
        length = int(generator.integers(6, 14))
        sweep = np.linspace(-1, 1, length) * (1 if rises else -1)
        frames.append(
            np.stack([sweep, generator.normal(size=length)], axis=1) + 0.1 * generator.normal(size=(length, 2))
        )
    return frames, classes


def write_ts(path: Path, count: int, *, seed: int, numbers: bool = False) -> Path:
    frames, classes = waves(count, seed)
    lines = ["@problemName waves", "@timeStamps false", "@univariate false", "@dimensions 2"]
    lines += ["@targetLabel true" if numbers else "@classLabel true fall rise", "@data"]
    for one, rises in zip(frames, classes, strict=True):
        target = f"{100 + 10 * (one[-1, 0] - one[0, 0]):.6f}" if numbers else ("fall", "rise")[rises]
        lines.append(":".join([*(",".join(f"{value:.6f}" for value in channel) for channel in one.T), target]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained(folder: Path, values: list[str]) -> Run:
    config = configure("frames", values)
    run = Run.create(folder, recipe=config.recipe, task=config.task, config=config.to_dict(), seeds={"seed": 0})
    job = make_job(config, run)
    job.prepare()
    job.train()
    job.evaluate()
    job.check()
    job.finish()
    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("waves")
    return {
        "train": write_ts(folder / "train.ts", 80, seed=0),
        "test": write_ts(folder / "test.ts", 40, seed=1),
        "numbers": write_ts(folder / "numbers.ts", 100, seed=2, numbers=True),
    }


def of_classes(files: dict[str, Path], *more: str) -> list[str]:
    given = [f"data.path={files['train']}", f"data.test_path={files['test']}", "optim.epochs=12", "optim.lr=1e-2"]
    return [*given, *SMALL, *more]


def of_numbers(files: dict[str, Path], *more: str) -> list[str]:
    given = [f"data.path={files['numbers']}", "model.target=number", "optim.epochs=12", "optim.lr=5e-3"]
    return [*given, *SMALL, *more]


@pytest.fixture(scope="module")
def classes(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("runs") / "classes", of_classes(files))


@pytest.fixture(scope="module")
def numbers(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("runs") / "numbers", of_numbers(files))


def values(run: Run) -> dict[str, dict[str, Any]]:
    return {
        model["name"]: {name: one["value"] for name, one in model["metrics"].items()}
        for model in run.read("metrics")["models"]
    }


def test_what_the_order_tells_is_learnt_and_mean_frames_do_not_know_it(classes: Run) -> None:
    found = values(classes)

    assert list(found) == [
        "Transformer of 1 layer and width 16", LINEAR_SUMMARIES, NEAREST_NEIGHBOUR, NEAREST_CENTROID, MAJORITY
    ]  # fmt: skip
    assert found["Transformer of 1 layer and width 16"]["accuracy"] >= 0.95
    assert found[NEAREST_CENTROID]["accuracy"] <= 0.75
    assert found[MAJORITY]["accuracy"] == 0.5
    metrics = classes.read("metrics")
    assert (metrics["task"], metrics["unit"], metrics["num_rows"]) == ("sequence classification", "sequences", 40)
    assert len(metrics["confusion"]) == 2


def test_numbers_are_said_in_their_own_unit(numbers: Run) -> None:
    found = values(numbers)
    ours = found["Transformer of 1 layer and width 16"]

    assert list(found)[1:] == [LINEAR_SUMMARIES, TRAINING_MEAN]
    assert found[TRAINING_MEAN]["rmse"] == pytest.approx(20, rel=0.2)  # numbers are about 80 or 120
    assert ours["rmse"] < 8
    assert ours["r2"] > 0.8 > 0.1 > found[TRAINING_MEAN]["r2"]
    assert numbers.read("metrics")["task"] == "sequence regression"


@pytest.mark.parametrize("name", ["classes", "numbers"])
def test_a_run_is_watched_checked_judged_and_drawn(name: str, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(name)
    losses = [event["loss"] for event in run.events("step")]

    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert {layer["layer"] for layer in run.info.coverage} == {"encoder.layer.0.attention"}
    assert run.checks().ok
    assert {rule.rule for rule in run.checks().rules if rule.verdict == "pass"} >= {"padding", "scale", "positions"}
    assert diagnose(run).judged
    items = {item.id: item for item in judge(run)}
    assert items["data.exact_leaks"].verdict == items["data.disjoint"].verdict == "pass"
    assert ("model.beats_majority" in items, "model.beats_naive" in items) == (name == "classes", name == "numbers")
    text = write_report(run).read_text(encoding="utf-8")
    assert "Sequence length in frames" in text
    assert "encoder.layer.0" in text


def test_what_was_answered_is_answered_again(classes: Run, numbers: Run, files: dict[str, Path]) -> None:
    predictor = SequencePredictor.open(classes)
    answers = predictor.predict(predictor.read(files["test"]).frames)
    said = [max(one, key=lambda label: one[label]) for one in answers if isinstance(one, dict)]
    right = [("fall", "rise")[rises] for rises in waves(40, 1)[1]]
    accuracy = np.mean([one == other for one, other in zip(said, right, strict=True)])

    assert accuracy == values(classes)["Transformer of 1 layer and width 16"]["accuracy"]
    assert all(sum(one.values()) == pytest.approx(1) for one in answers if isinstance(one, dict))
    other = SequencePredictor.open(numbers)
    [low, high] = other.predict([waves(2, 9)[0][0], waves(2, 9)[0][1]])
    assert 60 < low < 95 < 105 < high < 140


def test_a_sequence_is_answered_alone_as_among_others(classes: Run, files: dict[str, Path]) -> None:
    predictor = SequencePredictor.open(classes)
    frames = predictor.read(files["test"]).frames
    together = predictor.predict(frames)
    for index in (0, 7, 39):
        [alone] = predictor.predict([frames[index]])
        assert alone == pytest.approx(together[index], abs=1e-6)


def test_the_scale_is_that_of_the_training_frames(classes: Run) -> None:
    meaning = json.loads((classes.folder / "model" / "frames.json").read_text(encoding="utf-8"))
    everything = np.concatenate(waves(80, 0)[0])

    assert meaning["labels"] == ["fall", "rise"]
    assert meaning["numbers"] is None
    # 72 of the 80 sequences; the test frames, which are others, have no part in it.
    np.testing.assert_allclose(meaning["scale"], everything.std(0), rtol=0.1)


def test_a_run_that_stopped_goes_on_to_the_same_end(files: dict[str, Path], tmp_path: Path) -> None:
    config = configure("frames", of_classes(files, "optim.epochs=2", "checkpoint_every_s=0"))
    runs = []
    for name, stops in (("whole", False), ("stopped", True)):
        run = Run.create(tmp_path / name, recipe=config.recipe, task=config.task, config=config.to_dict())
        job = make_job(config, run)
        job.prepare()
        if stops:
            task = job._task
            job._task = lambda model, task=task: _Stops(task(model), after=4)  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                job.train()
            job = make_job(config, Run.open(tmp_path / name))
            job.prepare()
        job.train()
        runs.append(load_frame_model(tmp_path / name / "model").state_dict())

    assert all(torch.equal(value, runs[1][key]) for key, value in runs[0].items())


class _Stops:
    """A task whose process is interrupted after some losses."""

    def __init__(self, task: Any, after: int) -> None:
        self._task, self._left = task, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(self, batch: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        return self._task.loss(batch)


@pytest.mark.parametrize("architecture", ["gru", "lstm"])
def test_a_recurrent_network_takes_the_same_job(architecture: str, files: dict[str, Path], tmp_path: Path) -> None:
    run = trained(
        tmp_path / "run", of_classes(files, f"model.architecture={architecture}", "optim.epochs=1", "model.patch_len=2")
    )
    outcome = read_outcome(run, model=architecture, seed=0)

    assert outcome.scores[0].name == f"{architecture.upper()} of 1 layer"
    assert outcome.flops > 0
    assert outcome.row_flops > 0
    assert len(outcome.rows[MAJORITY].totals) == 40
    assert [set(look.metrics) for look in outcome.looks] == [{"loss", "accuracy", "macro_f1"}]


def table(path: Path, *, split: bool = False) -> Path:
    frames, classes = waves(60, 4)
    rows = ["take,speaker,step,x,noise,word,part"]
    for index, (one, rises) in enumerate(zip(frames, classes, strict=True)):
        part = "test" if index >= 48 else "train"
        rows += [
            f"{index},s{index // 6},{step},{x},{noise},{'rise' if rises else 'fall'},{part if split else 'none'}"
            for step, (x, noise) in enumerate(one)
        ]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


COLUMNS = [
    "data.sequence=take",
    "data.label=word",
    "data.time=step",
    "data.group=speaker",
    'data.channels=["x","noise"]',
]


def prepared(folder: Path, values: list[str]) -> dict[str, Any]:
    config = configure("frames", values)
    run = Run.create(folder, recipe=config.recipe, task=config.task, config=config.to_dict())
    return make_job(config, run).prepare()


def test_a_table_is_split_by_group_and_asked_without_targets(tmp_path: Path) -> None:
    path = table(tmp_path / "takes.csv")
    run = trained(tmp_path / "run", [f"data.path={path}", *COLUMNS, *SMALL, "optim.epochs=1"])
    audit = run.read("audit")

    assert sum(split["num_groups"] for split in audit["splits"].values()) == 10
    assert audit["channels"] == ["x", "noise"]
    asked = tmp_path / "asked.csv"
    asked.write_text("take,step,noise,x\nnew,0,0.1,-1\nnew,1,0.2,1\n", encoding="utf-8")
    predictor = SequencePredictor.open(run)
    found = predictor.read(asked)
    assert (found.names, found.frames[0].tolist()) == (("new",), [[-1, 0.1], [1, 0.2]])
    assert len(predictor.predict(found.frames)) == 1


def test_splits_that_the_file_names_are_taken(tmp_path: Path) -> None:
    path = table(tmp_path / "takes.csv", split=True)
    audit = prepared(tmp_path / "run", [f"data.path={path}", *COLUMNS, "data.split=part"])

    assert {name: split["num_rows"] for name, split in audit["splits"].items()} == {
        "train": 42, "validation": 6, "test": 12
    }  # fmt: skip
    mixed = path.read_text(encoding="utf-8").replace("50,s8,", "50,s1,")
    path.write_text(mixed, encoding="utf-8")
    with pytest.raises(RegardError, match=r"A group must stand on one side, got 's1' in .* and in test"):
        prepared(tmp_path / "mixed", [f"data.path={path}", *COLUMNS, "data.split=part"])


def test_wrong_settings_and_data_are_refused_in_a_sentence(files: dict[str, Path], tmp_path: Path) -> None:
    for settings, message in (
        ([], "data.path must name a .ts, CSV, TSV or Parquet file"),
        (["data.path=a.ts", "data.group=who"], "data.group is a column of a table, got a.ts"),
        (
            ["data.path=a.csv", "data.split=p", "data.test_path=b.csv"],
            "both name the test sequences",
        ),
        (
            ["data.path=a.ts", "model.embed_dim=30"],
            "model.embed_dim must be a multiple of model.num_heads, got 30 and 4",
        ),
        (["data.path=a.ts", "model.hidden_dim=8"], "model.hidden_dim belongs to a recurrent network"),
    ):
        with pytest.raises(RegardError, match=message):
            configure("frames", settings)
    with pytest.raises(RegardError, match="must hold the number of each sequence, got a class"):
        prepared(tmp_path / "a", of_classes(files, "model.target=number"))
    with pytest.raises(RegardError, match="must hold the class of each sequence, got a number"):
        prepared(tmp_path / "b", of_numbers(files, "model.target=class"))


def test_only_a_run_of_frames_is_asked(classes: Run, files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RegardError, match="A run of the recipe frames is needed, got one of translation"):
        SequencePredictor.open(Run.create(tmp_path / "other", recipe="translator", task="translation"))
    with pytest.raises(RegardError, match="A trained model is needed"):
        SequencePredictor.open(Run.create(tmp_path / "new", recipe="frames", task="sequence regression"))
    predictor = SequencePredictor.open(classes)
    with pytest.raises(RegardError, match=r"must be \(frames, 2\) with a frame or more, got \(3, 1\) at number 0"):
        predictor.predict([np.zeros((3, 1))])
    with pytest.raises(RegardError, match="NaN or infinity in sequence 0"):
        predictor.predict([np.full((3, 2), np.nan)])
    with pytest.raises(RegardError, match="A sequence or more must be given"):
        predictor.predict([])
    one = tmp_path / "one.ts"
    one.write_text("@univariate true\n@classLabel false\n@data\n1,2,3\n", encoding="utf-8")
    with pytest.raises(RegardError, match="This model reads 2 channels, got 1 in "):
        predictor.read(one)


@pytest.mark.parametrize(
    ("name", "is_table"),
    [("a.ts", False), ("a.ts.gz", False), ("A.TS", False), ("a.csv", True), ("a.ts.csv.xz", True), ("a.v2.ts", False)],
)
def test_a_file_is_read_as_its_suffix_says(name: str, is_table: bool) -> None:
    assert configure("frames", [f"data.path={name}"]).data.is_table == is_table  # type: ignore[attr-defined]


def test_the_recipe_says_what_it_needs() -> None:
    assert RECIPES["frames"].needs == "data.path=FILE"
    assert [configure("frames", ["data.path=a.ts", f"model.target={one}"]).task for one in ("class", "number")] == [
        "sequence classification",
        "sequence regression",
    ]
