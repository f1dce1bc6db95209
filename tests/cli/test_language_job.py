"""The job of a language model, from a text to a report."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from regard.records import Run, Status, Verdict

Command = Callable[..., tuple[int, str, str]]
TEXT = "".join(f"the {'abc'[number % 3]} of line {number} comes before {'bca'[number % 3]}\n" for number in range(400))


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
    assert list(metrics["models"][0]["metrics"]) == ["loss", "perplexity", "bits_per_byte"]
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
