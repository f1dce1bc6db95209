"""A whole book: every segment once, the same bytes after an interruption, and no other file, model or settings."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from regard._errors import ArgumentError, RecordError
from regard.data import BookColumns
from regard.records import ALIGNMENT_COLUMNS, LOCK_NAME, Book, Run, one_writer
from regard.train import BookSource, Translator, judge_book, translate_book
from regard.train.translation import book as book_module
from regard.train.translation.alignments import alignment_maps

COLUMNS = BookColumns(source="en", target="es", document="ref", pattern=r"(\w+) \d+")
FILES = ("segments.jsonl", "alignments.parquet")
NOVEL = "Chapter 1\n\nThe sun sees the moon. The old sea sings!\n\n\n" + "the old moon sees " * 4 + "\n"


def translated(run, file, folder, *, columns=COLUMNS, **options):
    return translate_book(
        Translator.open(run),
        BookSource(path=file, columns=columns),
        folder,
        model_folder=run.folder / "model",
        **{"block": 4, **options},
    )


@pytest.fixture(scope="module")
def whole(translator_run, book_file, tmp_path_factory):
    return translated(translator_run, book_file, tmp_path_factory.mktemp("whole") / "book")


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_every_source_is_mapped_exactly_once_and_in_order(whole, book_file):
    segments = list(whole.segments())

    assert [one.id for one in segments] == list(range(len(segments)))
    by_row = {}
    for one in segments:
        by_row.setdefault(one.row, []).append(one)
    for number, row in enumerate(rows_of(book_file), start=1):
        pieces = by_row.pop(number)
        assert "".join(row["en"][one.start : one.end] for one in pieces) == row["en"]
        assert [(one.piece, one.pieces) for one in pieces] == [(n + 1, len(pieces)) for n in range(len(pieces))]
        assert [one.reference for one in pieces] == [row["es"], *[None] * (len(pieces) - 1)]
        assert {one.label for one in pieces} == {row["ref"]}
    assert not by_row
    assert max(one.pieces for one in segments) > 1, "the book holds a verse that is too long for the model"


def test_every_character_of_a_plain_text_is_mapped(translator_run, tmp_path):
    (tmp_path / "novel.txt").write_text(NOVEL)

    book = translated(translator_run, tmp_path / "novel.txt", tmp_path / "book", columns=None)

    assert "".join(NOVEL[one.start : one.end] for one in book.segments()) == NOVEL
    assert judge_book(book)["scores"] is None
    assert "no translation by a person to compare with" in book.info["no_scores"]


def test_the_model_reads_what_stood_before_in_the_document(whole, translator):
    segments = list(whole.segments())
    chosen = [
        number for number in range(1, len(segments)) if segments[number].document == segments[number - 1].document
    ]

    for number in chosen[:3]:
        found = translator.translate([segments[number].source], contexts=[[segments[number - 1].source]])
        assert found == [segments[number].translation]


def test_alignments_are_the_largest_weights_of_the_exact_map(whole, translator):
    segments = list(whole.segments(0, 6))
    for number, segment in enumerate(segments):
        context = [segments[number - 1].source] if number and segments[number - 1].document == segment.document else []
        source = [
            token for text in (segment.source, *context) for token in translator.tokenizer.encode([text], 99).ids[0]
        ]
        own = len(translator.tokenizer.encode([segment.source], 99).ids[0])
        source = source[: own + translator.data.context_len]
        rows = whole.alignments(number, number + 1)
        written = written_ids(translator, segment, context)
        weights = alignment_maps(translator.model, [source], [written], layer=whole.info["settings"]["layer"])[0]
        for row, token in enumerate(rows["token"]):
            exact = weights[token]
            kept = torch.tensor(np.array(rows["weights"][row]))
            torch.testing.assert_close(kept, exact.topk(len(kept)).values, rtol=0, atol=1e-5)
            torch.testing.assert_close(exact[rows["sources"][row].tolist()], kept, rtol=0, atol=1e-5)
            assert rows["covered"][row] == pytest.approx(float(kept.sum()), abs=1e-5)
            assert rows["own"][row] == pytest.approx(float(exact[:own].sum()), abs=1e-5)
            assert rows["backs"][row].tolist() == [int(place >= own) for place in rows["sources"][row]]


def written_ids(translator, segment, context):
    """The tokens that were written, which the text alone does not tell."""
    from regard.data import encode_with_contexts
    from regard.train.translation.writing import write_tokens

    data = translator.data
    encoded = encode_with_contexts(
        translator.tokenizer, [segment.source], [context], max_len=data.max_len, context_len=data.context_len
    )
    return write_tokens(translator.model, encoded, writing=translator.writing, max_len=data.max_len)[0].ids


def test_each_written_token_knows_its_characters(whole):
    found = whole.alignments()
    texts = {one.id: one.translation for one in whole.segments()}

    assert set(found) == set(ALIGNMENT_COLUMNS)
    for segment, text in texts.items():
        chosen = found["segment"] == segment
        covered = {
            place
            for start, stop in zip(found["start"][chosen], found["stop"][chosen], strict=True)
            for place in range(start, stop)
        }
        assert {place for place, character in enumerate(text) if not character.isspace()} <= covered


def test_a_book_that_was_killed_in_the_middle_ends_in_the_same_bytes(translator_run, book_file, whole, tmp_path):
    """SIGKILL while a block is being written: what is on disk is whole, and going on gives what one run gives."""
    code = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from regard.data import BookColumns
from regard.records import Book, Run
from regard.train import BookSource, Translator, translate_book
append, blocks = Book.append, []
def killed(self, segments, alignments):
    blocks.append(segments)
    if len(blocks) == 3:
        with (self.folder / "segments.jsonl").open("ab") as file:
            file.write(segments[0].model_dump_json().encode() + b"\\n" + b'{{"id": 9, "docu')
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, segments, alignments)
Book.append = killed
run = Run.open({str(translator_run.folder)!r})
columns = BookColumns(source="en", target="es", document="ref", pattern=r"(\\w+) \\d+")
translate_book(
    Translator.open(run), BookSource(path=Path({str(book_file)!r}), columns=columns),
    {str(tmp_path / "book")!r}, model_folder=run.folder / "model", block=4)
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300, check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    torn = Book.open(tmp_path / "book")
    assert (torn.finished, torn.count(), len(list(torn.segments()))) == (False, 9, 9)

    book = translated(translator_run, book_file, tmp_path / "book")

    assert book.finished
    assert [(book.folder / name).read_bytes() for name in FILES] == [
        (whole.folder / name).read_bytes() for name in FILES
    ]


def test_a_second_process_is_refused_while_the_first_one_writes(translator_run, book_file, whole, tmp_path):
    with (
        one_writer(tmp_path / "book", what="translated book", tell=print),
        pytest.raises(RecordError, match=r"One process writes a translated book at a time, got .* is writing"),
    ):
        translated(translator_run, book_file, tmp_path / "book")
    assert not (tmp_path / "book").exists()
    assert not (whole.folder / LOCK_NAME).exists()


def test_an_interruption_keeps_the_block_and_is_gone_on_with(translator_run, book_file, whole, tmp_path, monkeypatch):
    translate, asked = book_module._translated, []

    def interrupted(*arguments, **options):
        asked.append(options["first"])
        if len(asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return translate(*arguments, **options)

    monkeypatch.setattr(book_module, "_translated", interrupted)
    with pytest.raises(KeyboardInterrupt):
        translated(translator_run, book_file, tmp_path / "book")
    assert Book.open(tmp_path / "book").count() == 8

    translated(translator_run, book_file, tmp_path / "book")

    assert asked == list(range(0, whole.count(), 4))
    assert (tmp_path / "book" / FILES[0]).read_bytes() == (whole.folder / FILES[0]).read_bytes()


def test_a_finished_book_is_not_translated_again(translator_run, book_file, whole, monkeypatch):
    monkeypatch.setattr(book_module, "_translated", None)

    assert translated(translator_run, book_file, whole.folder).finished


def test_another_file_is_refused(translator_run, book_file, whole, tmp_path):
    other = tmp_path / book_file.name
    other.write_bytes(book_file.read_bytes() + b'{"ref": "C 99", "en": "sun", "es": "sol"}\n')

    with pytest.raises(RecordError, match="go on with the file that it began with, got one with SHA-256"):
        translated(translator_run, other, whole.folder)


def test_other_weights_are_refused(translator_run, book_file, whole, tmp_path):
    run = Run.open(shutil.copytree(translator_run.folder, tmp_path / "run"))
    weights = run.folder / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    with pytest.raises(RecordError, match="go on with the model that it began with"):
        translated(run, book_file, whole.folder)


def test_other_settings_are_refused_by_name(translator_run, book_file, whole):
    with pytest.raises(RecordError, match="the settings that it began with, got layer 1 for 0 in"):
        translated(translator_run, book_file, whole.folder, layer=1)


def test_numbers_out_of_range_are_refused(translator_run, book_file, tmp_path):
    with pytest.raises(ArgumentError, match="at least 1, got 0 and 4"):
        translated(translator_run, book_file, tmp_path / "book", block=0)
    assert not (tmp_path / "book").exists()


def test_scores_and_totals_are_those_of_the_rows(whole, book_file):
    pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install 'regard[translation]'")
    from sacrebleu.metrics import CHRF

    content = judge_book(whole)

    texts = {}
    for one in whole.segments():
        texts[one.row] = " ".join((texts.get(one.row, ""), one.translation)).strip()
    references = [row["es"] for row in rows_of(book_file)]
    assert content["scores"]["whole"]["chrf"]["value"] == pytest.approx(
        CHRF().corpus_score(list(texts.values()), [references]).score, abs=1e-6
    )
    assert sum(part["num_rows"] for part in content["scores"]["by_position"]) == len(references)
    assert sum(part["num_rows"] for part in content["scores"]["by_length"]) == len(references)
    assert content["totals"]["source_words"] == sum(len(row["en"].split()) for row in rows_of(book_file))
    assert content["totals"]["cut"] == sum(not one.ended for one in whole.segments())
    assert 0 < content["totals"]["covered"] <= 1 + 1e-6


def test_a_book_that_is_not_whole_is_not_judged(whole, tmp_path):
    folder = Path(shutil.copytree(whole.folder, tmp_path / "book"))
    Book.open(folder).update(status="running")

    with pytest.raises(RecordError, match="translated to its end to be judged"):
        judge_book(Book.open(folder))
