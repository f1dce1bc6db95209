"""A small book, and a translator with seeded weights that was never taught: what it writes is nonsense, and always the
same nonsense, which is all that the laws of a book are about."""

import json
import random
from pathlib import Path

import pytest
import torch

from regard.data import train_subwords
from regard.models import Transformer, TransformerConfig, save_transformer
from regard.records import Run
from regard.train import Translator, configure

NUM_VERSES = 10
WORDS = {"sun": "sol", "moon": "luna", "sees": "ve", "the": "la", "old": "vieja", "sea": "mar", "sings": "canta"}


def verses(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Return verses of three documents of unlike lengths, some of them too long for the model."""
    chooser = random.Random(seed)
    rows = []
    for number in range(count):
        words = chooser.choices(list(WORDS), k=chooser.randint(1, 6) if number % 10 else 20)
        document = "ABC"[min(2, 3 * number // count)]
        rows.append(
            {"ref": f"{document} {number}", "en": " ".join(words), "es": " ".join(WORDS[word] for word in words)}
        )
    return rows


@pytest.fixture(scope="session")
def book_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in verses(NUM_VERSES)), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def translator_run(tmp_path_factory: pytest.TempPathFactory, book_file: Path) -> Run:
    """The folder of a run whose model has seeded weights."""
    settings = [
        f"data.path={book_file}",
        "data.source_column=en",
        "data.target_column=es",
        "data.document_column=ref",
        r"data.document_pattern=(\w+) \d+",
        "data.context=1",
        "data.context_len=6",
        "data.max_len=16",
        "write.beams=1",
        "write.room=3",
    ]
    config = configure("translator", settings)
    run = Run.create(
        tmp_path_factory.mktemp("runs") / "run", recipe="translator", task="translation", config=config.to_dict()
    )
    rows = verses(NUM_VERSES)
    tokenizer = train_subwords([text for row in rows for text in (row["en"], row["es"])], vocab_size=290)
    torch.manual_seed(0)
    sizes = {"embed_dim": 32, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 2, "feed_forward_dim": 32}
    # Embeddings of their own and a norm behind each layer: what is written is nonsense of many words, not of one.
    model = Transformer(TransformerConfig(vocab_size=tokenizer.vocab_size, max_len=96, tied_embeddings="none", **sizes))
    save_transformer(model, run.folder / "model")
    tokenizer.save(run.folder / "model")
    run.write("split", {"test": {"num_rows": 3, "rows": [[8, 10]], "documents": ["C"]}})
    run.event("trained", steps=0)
    return run


@pytest.fixture
def translator(translator_run: Run) -> Translator:
    return Translator.open(translator_run)
