"""A trained classifier, opened from its run folder and asked."""

from collections.abc import Sequence
from pathlib import Path

import torch

from regard._errors import RecordError
from regard.data import Tokenizer, collate, load_tokenizer, sorted_batches
from regard.models import RecurrentForSequenceClassification, load_classifier
from regard.models.own_checkpoint import recurrent_in
from regard.records import Run
from regard.train.classification.model import ClassifierModel

__all__ = ["Classifier", "open_classifier"]

_BATCH_SIZE = 16


class Classifier:
    """Texts in, class probabilities out, in float32 on the CPU.

    Example:
        >>> classifier = Classifier.open(Run.open("runs/demo"))  # doctest: +SKIP
        >>> classifier.predict(["oil prices rose after opec met"])  # doctest: +SKIP
        [{'acq': 0.001, 'crude': 0.995, ...}]

    Args:
        model: the classifier.
        tokenizer: the one that it was trained with.
        labels: class names in the order of the model's outputs.
        max_len: tokens; longer texts are cut as they were in training.
    """

    def __init__(self, model: ClassifierModel, tokenizer: Tokenizer, *, labels: Sequence[str], max_len: int) -> None:
        self.model = model.eval()
        self._tokenizer = tokenizer
        self.labels = list(labels)
        self._max_len = max_len

    @classmethod
    def open(cls, run: Run) -> "Classifier":
        """Open the model that ``run`` trained.

        Raises:
            RecordError: the run is of another task, or has not written its model yet.
        """
        if run.info.task != "text classification":
            raise RecordError(f"Predicting classes needs a run of a classifier, got one of {run.info.task}.")
        folder = run.folder / "model"
        if next(run.events("trained"), None) is None:
            raise RecordError(f"A trained model is needed, got a run without one in {run.folder}; train it to its end.")
        labels = run.read("labels")
        max_len = int(run.info.config["data"]["max_len"])
        return cls(open_classifier(folder), load_tokenizer(folder), labels=labels, max_len=max_len)

    def predict(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return for each text the probability of each class, which sum to 1."""
        ids = self._tokenizer.encode(texts, self._max_len).ids
        batches, inverse = sorted_batches([len(one) for one in ids], batch_size=_BATCH_SIZE)
        rows: list[list[float]] = []
        with torch.inference_mode():
            for batch in batches:
                input_ids, attention_mask = collate(ids, batch, self._tokenizer.pad_id)
                rows += self.model(input_ids, attention_mask=attention_mask).double().softmax(-1).tolist()
        return [dict(zip(self.labels, rows[place], strict=True)) for place in inverse]


def open_classifier(folder: Path, *, attention_dtype: torch.dtype | None = None) -> ClassifierModel:
    """Load the classifier of a model folder, a Transformer or a recurrent one.

    Args:
        folder: what a run of a classifier wrote.
        attention_dtype: see ``regard.models.Bert``.

    Raises:
        RecordError: the folder does not hold a whole classifier.
    """
    recurrent = recurrent_in(folder, RecurrentForSequenceClassification)
    return load_classifier(folder, attention_dtype=attention_dtype) if recurrent is None else recurrent
