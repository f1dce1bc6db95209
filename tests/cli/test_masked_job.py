"""BERT is pretrained on masked words, and a classifier goes on from it."""

import json
from collections.abc import Callable
from pathlib import Path

from regard.records import Run, Status, Verdict

Command = Callable[..., tuple[int, str, str]]
COLOURS = ("red", "green", "blue")
TEXT = "".join(f"the {COLOURS[n % 3]} car stood before the {COLOURS[n % 3]} house number {n % 7}\n" for n in range(600))


def test_pretraining_beats_counting_and_fine_tuning_goes_on_from_it(
    regard_command: Command, news_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    values = [
        f"data.path={tmp_path / 'text.txt'}",
        "data.window=32",
        "data.vocab_size=200",
        "model.num_layers=1",
        "model.embed_dim=32",
        "model.num_heads=2",
        "model.dropout_p=0",
        "optim.epochs=30",
        "optim.batch_size=8",
        "optim.lr=5e-3",
    ]
    settings = [part for value in values for part in ("--set", value)]
    folder = tmp_path / "words"
    code, _, err = regard_command("train", "masked-words", *settings, "--out", folder)
    assert code == 0, err
    run = Run.open(folder)
    assert (run.info.status, run.info.task) == (Status.FINISHED, "masked language modelling")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["comparison"]["low"] > 0  # the colour stands in two places: pairs of tokens cannot know it
    verdicts = {item.id: item.verdict for item in run.readiness()}
    assert (
        verdicts["attention.laws"] is verdicts["model.beats_naive"] is verdicts["data.test_untouched"] is Verdict.PASS
    )
    tuned = [f"data.path={news_file}", "data.text=body", "data.label=topic", f"model.pretrained={folder / 'model'}"]
    tuned += ["data.max_len=32", "optim.epochs=1", "check=false"]
    settings = [part for value in tuned for part in ("--set", value)]
    code, _, err = regard_command("train", "text-classifier", *settings, "--out", tmp_path / "tuned")
    assert code == 0, err
