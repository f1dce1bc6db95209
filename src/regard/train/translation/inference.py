"""A trained translator, opened from its run folder and asked."""

from collections.abc import Callable, Sequence

from regard._errors import RecordError
from regard.data import Tokenizer, load_tokenizer
from regard.records import Run
from regard.train.translation.config import PairsConfig, TranslatorConfig, WritingConfig
from regard.train.translation.model import TranslationNetwork, open_translator
from regard.train.translation.writing import write_texts

__all__ = ["Translator"]


class Translator:
    """Texts in, texts out, in float32 on the CPU.

    Example:
        >>> translator = Translator.open(Run.open("runs/translator"))  # doctest: +SKIP
        >>> translator.translate(["A dog runs across the street."])  # doctest: +SKIP
        ['Ein Hund läuft über die Straße.']

    Args:
        model: the encoder–decoder.
        tokenizer: the one that it was trained with.
        writing: beams and length penalty.
        data: what it was trained on; longer texts are cut as they were there.
    """

    def __init__(
        self, model: TranslationNetwork, tokenizer: Tokenizer, *, writing: WritingConfig, data: PairsConfig
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.writing = writing
        self.data = data

    @classmethod
    def open(cls, run: Run) -> "Translator":
        """Open the model that ``run`` trained, to write as its recipe says.

        Raises:
            RecordError: the run is of another task, or has not written its model yet.
        """
        if run.info.task != TranslatorConfig.task:
            raise RecordError(f"A run of a translator is needed, got one of {run.info.task} in {run.folder}.")
        if next(run.events("trained"), None) is None:
            raise RecordError(f"A trained model is needed, got a run without one in {run.folder}; train it to its end.")
        config = TranslatorConfig.model_validate(run.info.config)
        folder = run.folder / "model"
        return cls(open_translator(folder), load_tokenizer(folder), writing=config.write, data=config.data)

    def translate(
        self,
        texts: Sequence[str],
        *,
        contexts: Sequence[Sequence[str]] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Return what the model writes for each text, the likeliest that beam search finds.

        Args:
            texts: sources.
            contexts: per text those before it in its document, the nearest first; None where each stands alone.
            progress: called now and then with the number of texts done and of all.
        """
        if not texts:
            return []
        return write_texts(
            self.model,
            self.tokenizer,
            texts,
            contexts=contexts,
            writing=self.writing,
            max_len=self.data.max_len,
            context_len=self.data.context_len,
            progress=progress,
        )
