"""The job of a translator, from two files to a report, and what the trained model then writes."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regard.records import Run, Status, Verdict

Command = Callable[..., tuple[int, str, str]]
WORDS = {"red": "rot", "old": "alt", "big": "groß", "dog": "hund", "cat": "katze", "man": "mann", "runs": "läuft"}


def pairs(number: int, seed: int) -> list[tuple[str, str]]:
    chooser = random.Random(seed)
    drawn = [chooser.choices(list(WORDS), k=chooser.randint(2, 6)) for _ in range(number)]
    return [(" ".join(words), " ".join(WORDS[word] for word in reversed(words))) for words in drawn]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pairs")
    found = {}
    for seed, (prefix, name, number) in enumerate(
        (("", "train", 200), ("validation_", "val", 30), ("test_", "test", 40))
    ):
        rows = pairs(number, seed)
        for side, (setting, language) in enumerate((("path", "en"), ("target_path", "de"))):
            path = folder / f"{name}.{language}"
            path.write_text("".join(f"{row[side]}\n" for row in rows), encoding="utf-8")
            found[prefix + setting] = path
    return found


def arguments(files: dict[str, Path], *more: str) -> list[str]:
    values = [
        "data.source=lines",
        *(f"data.{name}={path}" for name, path in files.items()),
        "model.tokens=words",
        "model.embed_dim=32",
        "model.feed_forward_dim=64",
        "model.num_encoder_layers=1",
        "model.num_decoder_layers=1",
        "optim.epochs=2",
        "optim.tokens_per_batch=100",
        *more,
    ]
    return ["train", "translator", *(part for value in values for part in ("--set", value))]


@pytest.fixture(scope="module")
def finished(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = [sys.executable, "-m", "regard", *arguments(files), "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


def test_every_stage_writes_its_part(finished: Path) -> None:
    run = Run.open(finished)

    assert (run.info.status, run.info.task) == (Status.FINISHED, "translation")
    metrics = run.read("metrics")
    assert [model["kind"] for model in metrics["models"]] == ["model", "baseline"]
    verdicts = {item.id: item.verdict for item in run.readiness()}
    for item in ("attention.laws", "data.test_untouched", "data.disjoint", "data.no_empty_rows", "data.truncation"):
        assert verdicts[item] is Verdict.PASS, item
    report = (finished / "report.html").read_text()
    assert "Exact match" in report
    assert "word by word (IBM model 1)" in report


def test_the_model_of_a_run_translates_texts_and_lines(finished: Path, regard_command: Command) -> None:
    code, out, err = regard_command("translate", finished, "red dog", "old man runs")

    assert (code, len(out.splitlines())) == (0, 2), err
    lines = subprocess.run(
        [sys.executable, "-m", "regard", "translate", str(finished)],
        input="red dog\n\nold man runs\n",
        text=True,
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout.split("\n")
    assert lines == [out.splitlines()[0], "", out.splitlines()[1], ""]


def test_a_run_of_another_task_is_refused(regard_command: Command, tmp_path: Path) -> None:
    Run.create(tmp_path / "other", recipe="demo", task="text classification")

    code, _, err = regard_command("translate", tmp_path / "other", "a dog")

    assert code == 1
    assert "A run of a translator is needed, got one of text classification" in err


def test_an_unfinished_run_and_nothing_to_translate_are_refused(regard_command: Command, tmp_path: Path) -> None:
    Run.create(tmp_path / "new", recipe="translator", task="translation")

    code, _, err = regard_command("translate", tmp_path / "new", "a dog")
    assert (code, "train it to its end" in err) == (1, True)


def test_the_recipe_says_what_it_needs(regard_command: Command, tmp_path: Path) -> None:
    code, _, err = regard_command("train", "translator", "--out", tmp_path / "none")
    assert code == 1
    assert "data.path must name the file to learn from: --set data.path=FILE" in err
    code, out, _ = regard_command("recipes", "translator")
    assert (code, json.loads(out)["write"]["beams"]) == (0, 4)
