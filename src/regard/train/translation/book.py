"""Translate a whole book: block by block, with context, resumable, each segment with where the model looked."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from regard._errors import ArgumentError
from regard.data import BookColumns, SourceSegment, Tokenizer, book_digest, encode_with_contexts, read_book
from regard.records import ALIGNMENT_COLUMNS, Book, BookSegment, one_writer
from regard.train.hardware import peak_bytes
from regard.train.interruption import Interruption
from regard.train.progress import Progress, Silent
from regard.train.translation.alignments import SparseAlignment, alignment_layer, alignment_maps, sparse_alignments
from regard.train.translation.inference import Translator
from regard.train.translation.writing import WrittenTokens, write_tokens

__all__ = ["BookSource", "translate_book"]

_BLOCK = 128
_TOP = 4

_Block = list[tuple[SourceSegment, tuple[str, ...]]]
"""Segments with the texts before each, the nearest first."""


@dataclass(frozen=True, kw_only=True)
class BookSource:
    """What is translated.

    Attributes:
        path: a table or a plain text; see ``read_book``.
        columns: of a table; None for plain text.
        documents: translate these alone; empty for all.
    """

    path: Path
    columns: BookColumns | None = None
    documents: tuple[str, ...] = ()


def translate_book(
    translator: Translator,
    source: BookSource,
    folder: Path | str,
    *,
    model_folder: Path,
    block: int = _BLOCK,
    layer: int | None = None,
    top: int = _TOP,
    progress: Progress | None = None,
) -> Book:
    """Translate every segment of ``source`` into the folder of a book, or go on where an earlier process stopped.

    Each segment is read with the ``data.context`` ones before it in its document, as the model was trained to. Of the
    book no more is held than a block, and of its file what ``read_book`` holds.

    Args:
        translator: writes as its ``writing`` says.
        source: the book.
        folder: of ``book.json``, ``segments.jsonl`` and ``alignments.parquet``; made if absent.
        model_folder: of the files of the model, whose digest a book that goes on must find again.
        block: segments that are written to disk at once.
        layer: of the decoder, whose cross-attention is kept; None for the last but one.
        top: how many source tokens to keep for each token that was written.
        progress: told what happens.

    Returns:
        The book, finished.

    Raises:
        RecordError: the folder holds a book of another source, model or settings, or another process writes there.
        DataError: the source cannot be read.
        ArgumentError: a number out of range, or columns that do not belong to the file.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the block that was being translated is written first.
    """
    if block < 1 or top < 1:
        raise ArgumentError(f"block and top must be at least 1, got {block} and {top}.")
    progress = progress or Silent()
    layer = alignment_layer(translator.model, layer)
    info = {
        "source": {"path": str(source.path), "name": source.path.name},
        "source_sha256": book_digest(source.path),
        "model_folder": str(model_folder),
        "model_sha256": _model_digest(model_folder),
        "settings": _settings(translator, source, block=block, layer=layer, top=top),
        "seconds": 0.0,
        "peak_bytes": 0,
    }
    with one_writer(folder, what="translated book", tell=progress.say):
        return _translate_alone(translator, source, Path(folder), info, progress)


def _translate_alone(
    translator: Translator, source: BookSource, folder: Path, info: dict[str, Any], progress: Progress
) -> Book:
    if not (folder / "book.json").exists():
        # Before anything is written: a source that cannot be read leaves no folder behind.
        progress.say("Counting the segments …")
        info["num_segments"] = sum(1 for _ in _segments(translator, source))
    book = Book.begin(folder, info)
    if book.finished:
        progress.say(f"{book.folder} holds this book, whole.")
        return book
    total, done = book.info["num_segments"], book.count()
    if done:
        progress.say(f"Going on behind segment {done:,} of {total:,}.")
    progress.start("translating", total, done)
    try:
        _work(translator, source, book, done=done, progress=progress)
    finally:
        progress.stop()
    assert book.count() == total, "the same file has the same segments"
    book.finish()
    return book


def _work(translator: Translator, source: BookSource, book: Book, *, done: int, progress: Progress) -> None:
    """Translate what comes behind the segments that are done."""
    settings = book.info["settings"]
    number, began = done, time.perf_counter()
    before: float = book.info["seconds"]
    with Interruption() as interruption:
        for block in _blocks(translator, source, size=settings["block"], context=settings["context"], skip=done):
            segments, alignments = _translated(translator, block, first=number, settings=settings)
            book.append(segments, alignments)
            number += len(block)
            spent = before + time.perf_counter() - began
            book.update(seconds=round(spent, 1), peak_bytes=max(book.info["peak_bytes"], peak_bytes() or 0))
            progress.advance(len(block))
            if interruption.requested:
                raise KeyboardInterrupt


def _translated(
    translator: Translator, block: _Block, *, first: int, settings: dict[str, Any]
) -> tuple[list[BookSegment], dict[str, list[Any]]]:
    """Return the segments of a block, numbered from ``first``, and the columns of their alignments."""
    tokenizer, data = translator.tokenizer, translator.data
    texts = [segment.text for segment, _ in block]
    contexts = [context for _, context in block]
    sources = encode_with_contexts(tokenizer, texts, contexts, max_len=data.max_len, context_len=data.context_len)
    written = write_tokens(translator.model, sources, writing=translator.writing, max_len=data.max_len)
    maps = alignment_maps(translator.model, sources.ids, [one.ids for one in written], layer=settings["layer"])
    columns: dict[str, list[Any]] = {name: [] for name in ALIGNMENT_COLUMNS}
    for place, aligned in enumerate(sparse_alignments(maps, sources.lengths, top=settings["top"])):
        read = _read_spans(tokenizer, texts[place], contexts[place], context_len=data.context_len)
        _add_rows(columns, first + place, aligned, written[place], read, tokenizer)
    segments = [
        BookSegment(
            id=first + place,
            document=segment.document,
            row=segment.row,
            label=segment.label,
            piece=segment.piece,
            pieces=segment.pieces,
            start=segment.start,
            end=segment.end,
            source=segment.text,
            translation=tokenizer.decode(one.ids),
            ended=one.ended,
            reference=segment.reference,
        )
        for place, ((segment, _), one) in enumerate(zip(block, written, strict=True))
    ]
    return segments, columns


def _read_spans(
    tokenizer: Tokenizer, text: str, context: Sequence[str], *, context_len: int
) -> list[tuple[int, int, int]]:
    """Return for each token that the encoder read how many segments back it is from, and its characters there."""
    own, *others = ([(back, *span) for span in tokenizer.read_spans(one)] for back, one in enumerate((text, *context)))
    return [*own, *[span for other in others for span in other][:context_len]]


def _add_rows(
    columns: dict[str, list[Any]],
    segment: int,
    aligned: SparseAlignment,
    written: WrittenTokens,
    read: Sequence[tuple[int, int, int]],
    tokenizer: Tokenizer,
) -> None:
    """Add a row for each token of a text to the columns, save the one that ends it."""
    spans = tokenizer.written_spans(written.ids)
    count = len(spans) - written.ended
    places, weights, own = (tensor[:count].tolist() for tensor in (aligned.places, aligned.weights, aligned.own))
    for token in range(count):
        where = [read[place] for place in places[token]]
        row = {
            "segment": segment,
            "token": token,
            "start": spans[token][0],
            "stop": spans[token][1],
            "sources": places[token],
            "backs": [back for back, _, _ in where],
            "starts": [start for _, start, _ in where],
            "stops": [stop for _, _, stop in where],
            "weights": weights[token],
            "covered": sum(weights[token]),
            "own": own[token],
        }
        for name, value in row.items():
            columns[name].append(value)


def _blocks(translator: Translator, source: BookSource, *, size: int, context: int, skip: int) -> Iterator[_Block]:
    """Yield the blocks behind the first ``skip`` segments, of which only what is context is looked at."""
    before: dict[str, tuple[str, ...]] = {}

    def with_context() -> Iterator[tuple[SourceSegment, tuple[str, ...]]]:
        for segment in _segments(translator, source):
            known = before.get(segment.document, ())
            yield segment, known
            before[segment.document] = (segment.text, *known)[:context]

    segments = islice(with_context(), skip, None)
    while block := list(islice(segments, size)):
        yield block


def _segments(translator: Translator, source: BookSource) -> Iterator[SourceSegment]:
    longest = translator.data.max_len

    def fits(text: str) -> bool:
        return translator.tokenizer.encode([text], longest).lengths[0] <= longest

    return read_book(source.path, source.columns, fits=fits, documents=source.documents)


def _settings(translator: Translator, source: BookSource, **chosen: int) -> dict[str, Any]:
    writing, data = translator.writing, translator.data
    return {
        "columns": None if source.columns is None else asdict(source.columns),
        "documents": list(source.documents),
        "beams": writing.beams,
        "length_penalty": writing.length_penalty,
        "max_len": data.max_len,
        "context": data.context,
        "context_len": data.context_len,
        **chosen,
    }


def _model_digest(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of a model's files."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        digest.update(f"{name} {book_digest(folder / name)}\n".encode())
    return digest.hexdigest()
