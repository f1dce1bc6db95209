"""The job of a language model, from a text to a report."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regard.records import Run, Status, Verdict
from regard.train import configure, make_job
from regard.train.language.task import LanguageTask
from regard.train.loop import BatchLoss

Command = Callable[..., tuple[int, str, str]]
TEXT = "".join(f"the {'abc'[number % 3]} of line {number} comes before {'bca'[number % 3]}\n" for number in range(400))
TRACE = [
    3.484655, 3.401504, 3.386364, 3.383627, 3.221928, 3.186106, 3.090219, 3.090853, 2.988986, 2.913028,
    2.925887, 2.881386, 2.83869, 2.782254, 2.707562, 2.729322, 2.733821, 2.652081, 2.690401, 2.610707,
]  # fmt: skip
"""Losses of the first steps on ``TEXT``, before there were other tokens than characters."""


@pytest.fixture(scope="module")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def arguments(path: Path, *more: str) -> list[str]:
    values = [
        f"data.path={path}",
        "data.window=16",
        "model.num_layers=1",
        "model.embed_dim=16",
        "model.num_heads=2",
        "optim.epochs=2",
        *more,
    ]
    return ["train", "language-model", *(part for value in values for part in ("--set", value))]


def test_every_stage_writes_its_part(regard_command: Command, text_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, out, err = regard_command(*arguments(text_file), "--out", folder)
    assert code == 0, err
    run = Run.open(folder)
    assert (run.info.status, run.info.task) == (Status.FINISHED, "language modelling")
    assert {path.name for path in (folder / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [model["kind"] for model in metrics["models"]] == ["model", "baseline", "baseline"]
    assert list(metrics["models"][0]["metrics"]) == ["loss", "perplexity", "bits_per_byte", "word_perplexity"]
    assert metrics["comparison"]["metric"] == "loss"
    verdicts = {item.id: item.verdict for item in run.readiness()}
    assert verdicts["attention.laws"] is verdicts["data.test_untouched"] is verdicts["data.disjoint"] is Verdict.PASS
    assert "data.every_class" not in verdicts
    assert "Nats per token" in (folder / "report.html").read_text()
    assert "nats per token" in out
    code, out, err = regard_command("generate", folder, "the b", "--tokens", "40", "--seed", "3")
    assert code == 0, err
    assert len(out) >= len("the b") + 40 + 1  # a token that stands for an unknown character is longer than one
    assert regard_command("generate", folder, "the b", "--tokens", "40", "--seed", "3")[1] == out
    assert out.startswith("the b")
    assert regard_command("generate", folder, "the b", "--tokens", "40", "--seed", "4")[1] != out
    code, _, err = regard_command("predict", folder, "the b")
    assert (code, "a run of a classifier, got one of language modelling" in err) == (1, True)
    code, _, err = regard_command("generate", folder, "")
    assert (code, "must hold a character or more" in err) == (1, True)
    code, out, _ = regard_command(*arguments(text_file), "--out", folder)
    assert (code, "this run, finished" in " ".join(out.split())) == (0, True)


def test_the_recipe_says_what_it_needs(regard_command: Command, tmp_path: Path) -> None:
    code, _, err = regard_command("train", "language-model", "--out", tmp_path / "none")
    assert code == 1
    assert "data.path must name a text file or a folder of them: --set data.path=FILE" in err
    code, out, _ = regard_command("recipes", "language-model")
    assert (code, json.loads(out)["optim"]["schedule"]) == (0, "cosine")
    code, _, err = regard_command(*arguments(tmp_path / "no.txt"), "--out", tmp_path / "none")
    assert code == 1
    assert "got no file at" in err


@pytest.mark.parametrize("tokens", ["subwords", "words"])
def test_subwords_and_words_are_the_same_job(
    regard_command: Command, text_file: Path, tmp_path: Path, tokens: str
) -> None:
    test_file = tmp_path / "held out.txt"
    test_file.write_text("".join(f"the {'ab'[number % 2]} of another line\n" for number in range(90)), encoding="utf-8")
    folder = tmp_path / "run"
    more = [f"data.tokens={tokens}", "data.vocab_size=280", f"data.test_path={test_file}", "watch.interval=5"]
    code, out, err = regard_command(*arguments(text_file, *more), "--out", folder)
    assert code == 0, err
    assert f"kinds ({tokens})" in out
    assert "files of their own: test" in out
    run = Run.open(folder)
    metrics = run.read("metrics")
    unknown = run.read("audit")["splits"]["test"]["num_unknown"]
    of_bytes = ["bits_per_byte"] if tokens == "subwords" else []
    assert list(metrics["models"][0]["metrics"]) == ["loss", *of_bytes, "word_perplexity", "perplexity"]
    assert (unknown > 0) == ("with <unk>" in metrics["titles"]["word_perplexity"]) == (tokens == "words")
    assert ("not in the vocabulary" in metrics["method"]) == (tokens == "words")
    verdicts = {item.id: item for item in run.readiness()}
    for name in ("attention.laws", "data.test_untouched", "data.disjoint", "data.audited"):
        assert verdicts[name].verdict is Verdict.PASS, verdicts[name]
    assert "test is a file of its own" in verdicts["data.disjoint"].evidence
    assert next(run.events("step"))["tokens"] == 8 * 16
    watched = run.heads.query("SELECT DISTINCT statistic FROM heads")["statistic"]
    assert {"entropy", "max_weight"} <= set(watched.tolist())
    assert "Perplexity per word" in (folder / "report.html").read_text()
    code, out, err = regard_command("generate", folder, "the b of", "--tokens", "30", "--seed", "3")
    assert code == 0, err
    assert out.startswith("the b of")
    assert len(out) > len("the b of") + 15
    for command in ("diagnose", "ready"):
        assert regard_command(command, folder)[0] in (0, 1)


def test_a_run_of_subwords_that_stopped_goes_on_to_the_same_end(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = arguments(text_file, "data.tokens=subwords", "data.vocab_size=280", "checkpoint_every_s=0")
    config = configure("language-model", [value for value in values[2:] if value != "--set"])
    whole, stopped = (
        Run.create(tmp_path / name, recipe=config.recipe, task=config.task, config=config.to_dict())
        for name in ("whole", "stopped")
    )

    def trained(run: Run) -> None:
        job = make_job(config, Run.open(run.folder))
        job.prepare()
        job.train()

    trained(whole)
    loss, left = LanguageTask.loss, iter(range(5))

    def interrupted(task: LanguageTask, batch: list[int]) -> BatchLoss:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return loss(task, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageTask, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(stopped)
    trained(stopped)
    assert any(stopped.events("resume"))
    losses = [{event["step"]: event["loss"] for event in run.events("step")} for run in (whole, stopped)]
    assert losses[0] == losses[1]
    for file in ("model.safetensors", "tokenizer.json"):
        kept = [(run.folder / "model" / file).read_bytes() for run in (whole, stopped)]
        assert kept[0] == kept[1]


def test_the_loss_of_characters_is_what_it_was(regard_command: Command, text_file: Path, tmp_path: Path) -> None:
    """Twenty steps of the defaults on the CPU; a change that moves them is no refactor."""
    folder = tmp_path / "run"
    code, _, err = regard_command(
        *arguments(text_file, "check=false", "precision=float32", "device=cpu"), "--out", folder
    )
    assert code == 0, err
    losses = [event["loss"] for event in Run.open(folder).events("step")][:20]
    assert losses == pytest.approx(TRACE, rel=1e-5)
