"""A tiny pretrained model and a small labelled file, so that the whole job runs in seconds."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regard.data import train_wordpiece
from regard.models import Bert, BertConfig, save_bert

TOPICS = {
    "grain": ["wheat", "corn", "harvest", "bushels", "farm", "crop", "tonnes", "soybean"],
    "money": ["bank", "rate", "dollar", "yen", "currency", "loan", "credit", "treasury"],
    "oil": ["crude", "barrel", "opec", "pipeline", "refinery", "gas", "drilling", "well"],
}
FILLER = ["the", "of", "and", "a", "said", "in", "to", "it", "was", "will", "on", "for", "by", "from", "with"]


def rows(number: int, seed: int) -> list[tuple[str, str]]:
    """Return documents of 8 to 40 words, of which a third name their topic."""
    chooser = random.Random(seed)
    found = []
    for index in range(number):
        topic = sorted(TOPICS)[index % 3]
        words = [
            chooser.choice(TOPICS[topic] if chooser.random() < 0.3 else FILLER) for _ in range(chooser.randint(8, 40))
        ]
        found.append((topic, " ".join(words)))
    return found


@pytest.fixture(scope="session")
def tiny_pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Hugging Face layout: two layers, two heads, random weights, its own tokenizer."""
    folder = tmp_path_factory.mktemp("pretrained") / "tiny-bert"
    tokenizer = train_wordpiece([text for _, text in rows(120, 1)], vocab_size=120)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.vocab_size, embed_dim=32, num_heads=2, num_layers=2, feed_forward_dim=64, max_len=64
    )
    save_bert(Bert(config), folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def news_file(tmp_path: Path) -> Path:
    """A CSV file with columns body and topic."""
    path = tmp_path / "news.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["topic", "body"])
        writer.writerows(rows(120, 2))
    return path


@pytest.fixture
def regard_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; return its exit code, stdout and stderr."""
    from regard.cli.main import run

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["regard", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run()
        captured = capsys.readouterr()
        code = stopped.value.code
        return code if isinstance(code, int) else 1, captured.out, captured.err

    return command
