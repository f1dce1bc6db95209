"""A trained tagger, opened from its run folder and asked."""

from collections.abc import Sequence

import torch

from regard._errors import ArgumentError, RecordError
from regard.data import (
    Tokenizer,
    collate,
    encode_words,
    ends_sentence,
    load_tokenizer,
    restored,
    sorted_batches,
    spoken_words,
)
from regard.records import Run
from regard.train.tagging.model import TaggingModel, open_tagger
from regard.train.tagging.task import tags_of_windows, word_places

__all__ = ["Tagger"]

_BATCH_SIZE = 16


class Tagger:
    """Texts in, words with their tags out, in float32 on the CPU.

    Example:
        >>> tagger = Tagger.open(Run.open("runs/token-tagger"))  # doctest: +SKIP
        >>> tagger.tag(["Ann left Rome"])  # doctest: +SKIP
        [[('Ann', 'B-PER'), ('left', 'O'), ('Rome', 'B-LOC')]]

    Args:
        model: the tagger.
        tokenizer: the one that it was trained with.
        labels: names of the tags in the order of the model's outputs.
        max_len: tokens; longer texts are read in several windows as they were in training.
        window: words that a model reads at once which was trained to restore case and punctuation; None for another.
    """

    def __init__(
        self,
        model: TaggingModel,
        tokenizer: Tokenizer,
        *,
        labels: Sequence[str],
        max_len: int,
        window: int | None = None,
    ) -> None:
        self.model = model.eval()
        self._tokenizer = tokenizer
        self.labels = list(labels)
        self._max_len = max_len
        self._window = window

    @classmethod
    def open(cls, run: Run) -> "Tagger":
        """Open the model that ``run`` trained.

        Raises:
            RecordError: the run is of another task, or has not written its model yet.
        """
        if run.info.task != "token tagging":
            raise RecordError(f"Tagging words needs a run of a tagger, got one of {run.info.task}.")
        if next(run.events("trained"), None) is None:
            raise RecordError(f"A trained model is needed, got a run without one in {run.folder}; train it to its end.")
        folder, data = run.folder / "model", run.info.config["data"]
        return cls(
            open_tagger(folder),
            load_tokenizer(folder),
            labels=run.read("labels"),
            max_len=int(data["max_len"]),
            window=int(data["window"]) if data["source"] == "punctuation" else None,
        )

    @property
    def restores(self) -> bool:
        """Whether it was trained to restore case and punctuation."""
        return self._window is not None

    def words(self, text: str) -> list[str]:
        """Return the words of ``text`` as the model reads them: those between white space.

        Of a model that restores case and punctuation they are lower-cased and without marks.
        """
        return spoken_words(text) if self.restores else text.split()

    def tag(self, texts: Sequence[str | Sequence[str]]) -> list[list[tuple[str, str]]]:
        """Return for each text, or sequence of words, its words with their tags.

        Raises:
            ArgumentError: a text without a word.
        """
        sentences = [self.words(text) if isinstance(text, str) else list(text) for text in texts]
        if empty := [text for text, words in zip(texts, sentences, strict=True) if not words]:
            raise ArgumentError(f"Each text to tag must hold a word, got {empty[0]!r}; leave it out.")
        tags = self._read(sentences) if self._window is None else self._read_on(sentences, self._window)
        return [list(zip(words, found, strict=True)) for words, found in zip(sentences, tags, strict=True)]

    def restore(self, texts: Sequence[str]) -> list[str]:
        """Return each text with its case and punctuation as the model would write them.

        Raises:
            ArgumentError: the model was trained for other tags, or a text has no word.
        """
        if not self.restores:
            raise ArgumentError("Restoring needs a tagger that was trained with data.source=punctuation, got another.")
        return [restored(*zip(*pairs, strict=True)) for pairs in self.tag(texts)]

    def _read_on(self, sentences: Sequence[Sequence[str]], window: int) -> list[list[str]]:
        """Return the tags of texts of any length, read as in training: from where a sentence begins, so many words.

        What is kept of a window ends where its last sentence does; the next window begins there.
        """
        tags: list[list[str]] = [[] for _ in sentences]
        while left := [index for index, words in enumerate(sentences) if len(tags[index]) < len(words)]:
            begun = [sentences[index][len(tags[index]) :] for index in left]
            for index, rest, found in zip(left, begun, self._read([one[:window] for one in begun]), strict=True):
                ends = [place for place, tag in enumerate(found, start=1) if ends_sentence(tag)]
                tags[index] += found[: ends[-1]] if ends and len(rest) > window else found
        return tags

    def _read(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        windows = encode_words(self._tokenizer, sentences, self._max_len)
        batches, inverse = sorted_batches([len(ids) for ids in windows.ids], batch_size=_BATCH_SIZE)
        named: list[list[int]] = []
        with torch.inference_mode():
            for batch in batches:
                input_ids, attention_mask = collate(windows.ids, batch, self._tokenizer.pad_id)
                rows, places = word_places(windows, batch)
                best = self.model(input_ids, attention_mask=attention_mask)[rows, places].argmax(-1)
                named += [one.tolist() for one in best.split([len(windows.first_pieces[index]) for index in batch])]
        return tags_of_windows(windows, [named[place] for place in inverse], self.labels)
