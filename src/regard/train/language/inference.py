"""A trained language model, opened from its run folder and asked to write on."""

import torch

from regard._errors import ArgumentError, RecordError
from regard.data import Tokenizer, encode_running, load_tokenizer
from regard.models import Decoder, Sampling, generate
from regard.records import Run
from regard.train.language.model import LanguageNetwork, open_language_model

__all__ = ["Writer"]


class Writer:
    """A beginning in, what follows out, in float32 on the CPU.

    Example:
        >>> writer = Writer.open(Run.open("runs/language-model"))  # doctest: +SKIP
        >>> writer.write("ROMEO:", max_new_tokens=100)  # doctest: +SKIP

    Args:
        model: the decoder, or a recurrent network.
        tokenizer: the one that it was trained with.
    """

    def __init__(self, model: LanguageNetwork, tokenizer: Tokenizer) -> None:
        self.model = model.eval()
        self._tokenizer = tokenizer

    @classmethod
    def open(cls, run: Run) -> "Writer":
        """Open the model that ``run`` trained.

        Raises:
            RecordError: the run is of another task, or has not written its model yet.
        """
        if run.info.task != "language modelling":
            raise RecordError(f"Writing needs a run of a language model, got one of {run.info.task} in {run.folder}.")
        if next(run.events("trained"), None) is None:
            raise RecordError(f"A trained model is needed, got a run without one in {run.folder}; train it to its end.")
        folder = run.folder / "model"
        return cls(open_language_model(folder), load_tokenizer(folder))

    def write(self, beginning: str, *, max_new_tokens: int = 200, sampling: Sampling | None = None) -> str:
        """Return what the model writes behind ``beginning``, which is read as far back as the model can see.

        A model from scratch sees as many tokens as a window of its training; longer texts are written window by window,
        each behind the second half of the one before. A decoder that was given with tokens that end a text ends there.

        Args:
            beginning: not empty.
            max_new_tokens: how many tokens to write at most.
            sampling: how tokens are drawn; None for the likeliest at each step.

        Raises:
            ArgumentError: an empty beginning, or a number of tokens below 1.
        """
        if not beginning:
            raise ArgumentError("A beginning must hold a character or more, got none; a line end will do.")
        ids = encode_running(self._tokenizer, beginning).ids.tolist()
        if not ids:
            raise ArgumentError(f"A beginning must have a token that the model knows, got none in {beginning!r}.")
        # What a recurrent network remembers has no end.
        window = self.model.config.max_len if isinstance(self.model, Decoder) else len(ids) + max_new_tokens
        ends = self.model.config.eos_ids if isinstance(self.model, Decoder) else ()
        written: list[int] = []
        while len(written) < max_new_tokens and not {*written[-1:]} & {*ends}:
            # Half a window is left free, so that the context is never shorter than the other half.
            seen = [*ids, *written][-max(1, window - min(window // 2, max_new_tokens - len(written))) :]
            room = min(window - len(seen), max_new_tokens - len(written))
            drawn = None if sampling is None else _reseeded(sampling, len(written))
            session = self.model.session()
            found = generate(session, torch.tensor([seen]), max_new_tokens=room, sampling=drawn, stop=ends)
            written += found.rows()[0]
        return self._continuation(ids, written)

    def _continuation(self, ids: list[int], written: list[int]) -> str:
        """Return the text of ``written``, with the blank that some tokenizers leave out where a text begins."""
        whole, known = self._tokenizer.decode([*ids, *written]), self._tokenizer.decode(ids)
        return whole.removeprefix(known) if whole.startswith(known) else self._tokenizer.decode(written)


def _reseeded(sampling: Sampling, written: int) -> Sampling:
    """Return other random numbers for each window, which follow from the seed."""
    return Sampling(
        temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p, seed=sampling.seed + written
    )
