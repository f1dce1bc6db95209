"""`regard predict` asks each run for what its model reads, and says it where something else is given."""

from collections.abc import Callable
from pathlib import Path

import pytest

from regard.records import Run

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("task", "words", "said"),
    [
        ("sequence classification", ["some text"], "reads sequences of frames; give them as --file FILE, and no texts"),
        ("sequence regression", [], "reads sequences of frames; give them as --file FILE"),
        ("sequence regression", ["--file", "a.ts"], "A trained model is needed"),
        ("text classification", ["--file", "a.ts"], "--file is for models of frames, got a run of text classification"),
    ],
)
def test_what_a_model_does_not_read_is_refused(
    task: str, words: list[str], said: str, tmp_path: Path, regard_command: Command
) -> None:
    Run.create(tmp_path / "run", recipe="some", task=task)

    code, out, err = regard_command("predict", tmp_path / "run", *words)

    assert (code, out) == (1, "")
    assert said in " ".join(err.split())
