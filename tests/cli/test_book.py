"""`regard translate --book` and `regard book`, as a person uses them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regard.data import word_tokenizer
from regard.models import Transformer, TransformerConfig, save_transformer
from regard.records import Book, Run
from regard.train import configure

Command = Callable[..., tuple[int, str, str]]
ROWS = [
    {"ref": f"{document} {number}", "en": f"the moon {number} sees", "es": f"la luna {number} ve"}
    for document in ("A", "B")
    for number in range(3)
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "verses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def run(tmp_path: Path, table: Path) -> Run:
    """A run whose model has seeded weights."""
    settings = [
        "source_column=en",
        "target_column=es",
        "document_column=ref",
        r"document_pattern=(\w+) \d+",
        "max_len=8",
    ]
    config = configure(
        "translator",
        [
            f"data.path={table}",
            *(f"data.{one}" for one in settings),
            "write.beams=1",
            "write.room=2",
            "model.tokens=words",
        ],
    )
    run = Run.create(tmp_path / "run", recipe="translator", task="translation", config=config.to_dict())
    tokenizer = word_tokenizer([text for row in ROWS for text in (row["en"], row["es"])])
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "feed_forward_dim": 16}
    save_transformer(
        Transformer(TransformerConfig(vocab_size=tokenizer.vocab_size, max_len=80, **sizes)), run.folder / "model"
    )
    tokenizer.save(run.folder / "model")
    run.write("split", {"test": {"num_rows": 3, "rows": [[4, 6]], "documents": ["B"]}})
    run.event("trained", steps=0)
    return run


def test_a_book_from_file_to_page(run: Run, table: Path, tmp_path: Path, regard_command: Command) -> None:
    out = tmp_path / "book"
    code, told, err = regard_command("translate", run.folder, "--book", table, "--out", out)

    assert (code, Book.open(out).finished) == (0, True), err
    assert "6 of 6" in told
    assert "the whole" in told
    assert (out / "book.html").exists()
    code, told, err = regard_command("book", out, "--page", 2, "--page-len", 4)
    assert (code, told.strip()) == (0, str(out / "pages" / "page-00002.html")), err
    code, told, _ = regard_command("book", out, "--page", 2, "--page-len", 4, "--text")
    assert (code, "the moon 2 sees" in told) == (0, True)
    code, told, _ = regard_command("book", out, "--all")
    assert (code, "the whole" in told) == (0, True)
    code, told, _ = regard_command("translate", run.folder, "--book", table, "--out", out)
    assert (code, "holds this book, whole" in told) == (0, True)


def test_only_what_was_held_out_is_translated_when_asked(
    run: Run, table: Path, tmp_path: Path, regard_command: Command
):
    code, _, err = regard_command("translate", run.folder, "--book", table, "--out", tmp_path / "book", "--held-out")

    assert code == 0, err
    assert {one.document for one in Book.open(tmp_path / "book").segments()} == {"B"}


def test_plain_text_says_that_it_has_no_reference(run: Run, tmp_path: Path, regard_command: Command) -> None:
    (tmp_path / "novel.txt").write_text("The moon sees. The moon!\n")

    code, told, err = regard_command("translate", run.folder, "--book", tmp_path / "novel.txt", "--out", tmp_path / "b")

    assert code == 0, err
    assert "no translation by a person to compare with, so nothing is scored" in " ".join(told.split())


def test_an_empty_target_column_leaves_the_references_out(
    run: Run, table: Path, tmp_path: Path, regard_command: Command
):
    options = ("--target-column", "", "--document-column", "")
    code, told, err = regard_command("translate", run.folder, "--book", table, "--out", tmp_path / "b", *options)

    assert code == 0, err
    assert "nothing is scored" in told
    assert {one.document for one in Book.open(tmp_path / "b").segments()} == {"verses.jsonl"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--book", "TABLE"], "A book needs a folder to be written to, got none; name it: --out FOLDER."),
        (["--out", "b"], "These options are for a book, got no --book"),
        (["a text", "--book", "TABLE", "--out", "b"], "Either texts or a book can be translated, got both 'a text'"),
        (["--book", "none.tsv", "--out", "b"], "A data file is needed, got no file at none.tsv"),
        (["--book", "TABLE", "--out", "b", "--source-column", "fr"], "must have the key 'fr', got the keys"),
        (["--book", "TABLE", "--out", "b", "--layer", "3"], "layer of the alignments must lie in 0 to 0, got 3"),
    ],
)
def test_wrong_requests_are_one_sentence(
    run: Run, table: Path, regard_command: Command, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    given = [str(table) if one == "TABLE" else one for one in arguments]

    code, _, err = regard_command("translate", run.folder, *given)

    assert code == 1
    assert message in err
    assert err.startswith("regard: ")
    assert not Path("b").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text"], "--text shows one page, got none; name it: --page N."),
        (["--page", "1", "--all"], "Either one page or all can be made, got --page 1 and --all"),
        ([], "A folder of a translated book with book.json is needed, got no file"),
    ],
)
def test_wrong_looks_are_one_sentence(tmp_path: Path, regard_command: Command, arguments: list[str], message: str):
    folder = tmp_path / "book"
    if arguments:
        Book.begin(folder, {"source_sha256": "a", "model_sha256": "b", "settings": {"block": 4}})

    code, _, err = regard_command("book", folder, *arguments)

    assert (code, message in err) == (1, True), err


def test_a_run_that_held_out_no_documents_says_so(
    run: Run, table: Path, tmp_path: Path, regard_command: Command
) -> None:
    run.write("split", {"test": {"num_rows": 3, "rows": [[4, 6]]}})

    code, _, err = regard_command("translate", run.folder, "--book", table, "--out", tmp_path / "b", "--held-out")

    assert code == 1
    assert "The run must have held out documents" in err
