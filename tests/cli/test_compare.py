"""`regard compare` from a file to a table: ordinary runs, resumed, and nothing claimed without an interval."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from regard.cli import compare
from regard.records import Run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Train in this process: six fresh ones would spend a minute on imports."""
    from regard.cli.job import run_job
    from regard.train import configure

    trained: list[list[str]] = []

    def finished(command: list[str], log: io.BufferedWriter) -> int:
        trained.append(command)
        words = command[command.index("train") + 1 :]
        settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        run_job(configure(words[0], settings), Path(words[-1]))
        return 0

    monkeypatch.setattr(compare, "_finished", finished)
    return trained


@pytest.fixture
def arguments(news_file: Path, tmp_path: Path) -> list[Any]:
    values = [
        f"data.path={news_file}", "data.text=body", "data.label=topic", "data.max_len=32", "model.num_layers=1",
        "model.embed_dim=32", "model.num_heads=2", "model.vocab_size=150", "optim.epochs=1",
    ]  # fmt: skip
    chosen = [part for value in values for part in ("--set", value)]
    return ["compare", "text-classifier", "--models", "transformer,gru,linear", *chosen, "--out", tmp_path / "out"]


@pytest.mark.parametrize(("width", "tables"), [(40, 3), (60, 2), (200, 1)])
def test_no_number_is_broken_however_narrow_the_terminal(width: int, tables: int) -> None:
    models = ["transformer", "lstm", "linear map", "seasonal naive", "repeat last"]
    rows = [[name, f"0.{number}94 (0.{number}32–0.{number}56)"] for number, name in enumerate(models)]
    rows = [[*row, "12,840 (9,840–15,564)" if number < 2 else ""] for number, row in enumerate(rows)]
    drawn = io.StringIO()
    console = Console(file=drawn, width=width)
    compare._show_table(console, "forecasting", ["model", "MSE", "Tokens/s"], rows)
    lines = drawn.getvalue().splitlines()
    words = drawn.getvalue().split()
    assert max(map(len, lines)) <= width
    assert lines.count("") == tables - 1
    for row in rows:
        for number in row[1].removesuffix(")").split(" ("):
            assert words.count(number) == 1
    assert words.count("12,840") == words.count("9,840–15,564") == 2
    assert words.count("Tokens/s") == 1, "a figure that none of a table's models has is left out"


def test_one_command_makes_one_table(
    regard_command: Command, in_process: list[list[str]], arguments: list[Any], tmp_path: Path
) -> None:
    code, out, err = regard_command(*arguments)
    assert code == 0, err
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert len(in_process) == 6
    assert (content["models"], content["seeds"]) == (["transformer", "gru"], [0, 1, 2])
    assert abs(content["parameters"]["gru"] / content["parameters"]["transformer"] - 1) < 0.05
    assert list(content["quality"][0]["models"]) == ["transformer", "gru", "TF-IDF + linear model", "majority class"]
    assert content["against"][0]["paired"] is True
    assert {cost["name"] for cost in content["cost"]} == {"cpu_seconds", "seconds", "tokens_per_s", "peak_bytes"}
    assert len(content["regions"]) == 3
    assert "Accuracy of transformer less that of gru" in out
    assert "majority class" in (tmp_path / "out" / "comparison.md").read_text()
    splits = {
        json.dumps(Run.open(tmp_path / "out" / f"{model}-seed{seed}").read("split"), sort_keys=True)
        for model in ("transformer", "gru")
        for seed in (0, 1, 2)
    }
    assert len(splits) == 1

    again = regard_command(*arguments)
    assert again[0] == 0
    assert len(in_process) == 6
    assert again[1].count("finished before") == 6


def test_the_way_to_a_target_at_three_lengths(
    regard_command: Command, in_process: list[list[str]], arguments: list[Any], tmp_path: Path
) -> None:
    arguments[arguments.index("transformer,gru,linear")] = "gru"
    way = ["--vary", "data.max_len=8,16,32", "--target", "loss=3", "--set", "optim.validate_every=2"]
    code, out, err = regard_command(*arguments, *way)
    assert code == 0, err
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["models"] == ["max_len=8", "max_len=16", "max_len=32"]
    assert [one["steps"]["value"] for one in content["convergence"]["models"].values()] == [2, 2, 2]
    assert "The way to a validation loss 3" in out
    assert (tmp_path / "out" / "convergence.svg").read_text().startswith("<svg")

    early = json.loads((tmp_path / "out" / "comparison.json").read_text())
    for one in early["convergence"]["models"].values():
        one["each"] = [each | {"steps": each["steps"] / 2} for each in one["each"]]
    (tmp_path / "before.json").write_text(json.dumps(early))
    code, out, err = regard_command(*arguments, *way, "--before", tmp_path / "before.json")
    assert code == 1
    assert out.count("slower than before by more than 20%") == 3

    way[way.index("loss=3")] = "loss=2"
    code, _, err = regard_command(*arguments, *way, "--set", "seed=9", "--before", tmp_path / "before.json")
    assert code == 1
    assert "must have the same target, loss=2, got loss=3" in err
    assert len(in_process) == 9  # nothing was trained for it


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--target", "perplexity=3"], "must be one of loss, accuracy, macro_f1"),
        (["--before", "before.json"], "--before needs the --target"),
        (["--target", "loss=1", "--before", "nowhere.json"], "must be the comparison.json of an earlier comparison"),
    ],
)
def test_wrong_targets_cost_no_training(
    regard_command: Command, in_process: list[list[str]], arguments: list[Any], more: list[str], message: str
) -> None:
    code, _, err = regard_command(*arguments, *more)
    assert code == 1
    assert message in err
    assert not in_process


def test_wrong_seeds_are_one_sentence(regard_command: Command, arguments: list[Any]) -> None:
    code, _, err = regard_command(*arguments, "--seeds", "0,one,2")
    assert code == 1
    assert "--seeds takes whole numbers separated by commas, got '0,one,2'" in err


def test_a_run_that_fails_is_named(
    regard_command: Command, arguments: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(command: list[str], log: io.BufferedWriter) -> int:
        log.write(b"first\nno such column\n")
        return 1

    monkeypatch.setattr(compare, "_finished", failing)
    code, _, err = regard_command(*arguments)
    assert code == 1
    assert "transformer-seed0 must train to its end, got: no such column" in err
