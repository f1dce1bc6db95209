"""A tagger on the command line: trained, reported, judged, compared, and asked."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from regard.records import Run, Verdict

Command = Callable[..., tuple[int, str, str]]
SIZES = ["model.pretrained=none", "model.num_layers=1", "model.embed_dim=32", "model.num_heads=2",
         "model.vocab_size=120", "optim.batch_size=8", "optim.lr=0.005"]  # fmt: skip


def settings(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    chooser = random.Random(0)
    lines = []
    for _ in range(150):
        who, where = chooser.choice(["ann", "bob", "paris"]), chooser.choice(["rome", "paris"])
        lines.append(f"{who} B-PER\n{chooser.choice(['sleeps', 'works'])} O\nin O\n{where} B-LOC\n")
    path = tmp_path / "news.conll"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("Ann sleeps, Bob works in Rome. " * 200, encoding="utf-8")
    return path


def test_a_tagger_is_trained_judged_and_asked(
    regard_command: Command, columns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    values = settings(f"data.path={columns}", *SIZES, "optim.epochs=4")
    code, out, err = regard_command("train", "token-tagger", *values, "--out", folder)
    assert code == 0, err
    assert "most frequent tag of each word" in out

    items = {item.id: item for item in Run.open(folder).readiness()}
    assert items["model.beats_naive"].verdict == Verdict.PASS, items["model.beats_naive"].evidence
    assert items["data.truncation"].verdict == Verdict.PASS
    assert "span_f1" in items["evaluation.complete"].evidence
    assert "model.beats_majority" not in items

    page = (folder / "report.html").read_text()
    assert "By tag" in page
    assert "By type of span" in page
    assert "sentences with 4 tags" not in page  # B-LOC, B-PER and O
    assert "sentences with 3 tags" in page
    assert "not probabilities" not in page

    code, out, err = regard_command("predict", folder, "paris works in paris", "bob sleeps")
    assert code == 0, err
    assert out == "paris\tB-PER\nworks\tO\nin\tO\nparis\tB-LOC\n\nbob\tB-PER\nsleeps\tO\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("bob sleeps\n\nann works\n"))
    assert regard_command("predict", folder)[1] == "bob\tB-PER\nsleeps\tO\n\nann\tB-PER\nworks\tO\n"


def test_a_tagger_of_punctuation_prints_the_text(regard_command: Command, book: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    values = settings("data.source=punctuation", f"data.path={book}", "data.window=15", *SIZES, "optim.epochs=8")
    code, _, err = regard_command("train", "token-tagger", *values, "--set", "check=false", "--out", folder)
    assert code == 0, err

    code, out, err = regard_command("predict", folder, "ann sleeps bob works in rome")
    assert code == 0, err
    assert out.splitlines()[0] == "Ann sleeps, Bob works in Rome."
    assert out.splitlines()[1:3] == ["ann\tCapital", "sleeps\tlower,"]
    code, _, err = regard_command("predict", folder, "...")
    assert (code, "must hold a word, got '...'" in err) == (1, True)


def test_taggers_are_compared_sentence_by_sentence(
    regard_command: Command, columns: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from regard.cli import compare
    from regard.cli.job import run_job
    from regard.train import configure

    def finished(command: list[str], log: io.BufferedWriter) -> int:
        words = command[command.index("train") + 1 :]
        chosen = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
        run_job(configure(words[0], chosen), Path(words[-1]))
        return 0

    monkeypatch.setattr(compare, "_finished", finished)
    values = settings(f"data.path={columns}", *SIZES[1:], "optim.epochs=1")
    code, out, err = regard_command(
        "compare", "token-tagger", "--models", "transformer,gru,linear", *values, "--target", "accuracy=0.3",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["against"][0]["paired"] is True
    assert abs(content["parameters"]["gru"] / content["parameters"]["transformer"] - 1) < 0.05
    assert "most frequent tag of each word" in content["quality"][0]["models"]
    assert "Token accuracy of transformer less that of gru" in out
