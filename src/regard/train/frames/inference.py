"""A trained model of frames, opened from its run folder and asked."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import ArgumentError, DataError, RecordError
from regard.data import FrameSequences, Standardizer
from regard.models import FrameModel, load_frame_model
from regard.records import Run, write_json
from regard.train.frames.config import CLASSIFICATION, REGRESSION, FramesData
from regard.train.frames.dataset import FramesCorpus, read_sequences
from regard.train.frames.task import outputs_of

__all__ = ["SequencePredictor", "write_meaning"]

_FILE = "frames.json"


def write_meaning(corpus: FramesCorpus, folder: Path) -> None:
    """Write ``frames.json`` beside a model: what its channels and outputs mean, and the scale of each.

    Raises:
        RecordError: the file cannot be written.
    """
    numbers = corpus.numbers
    scale = None if numbers is None else {"mean": float(numbers.mean[0]), "scale": float(numbers.scale[0])}
    channels = {"mean": corpus.scaler.mean.tolist(), "scale": corpus.scaler.scale.tolist()}
    write_json(
        folder / _FILE, {"channels": list(corpus.channels), **channels, "labels": corpus.labels, "numbers": scale}
    )


class SequencePredictor:
    """Sequences of frames in, class probabilities or numbers out, in float32 on the CPU.

    Example:
        >>> predictor = SequencePredictor.open(Run.open("runs/vowels"))  # doctest: +SKIP
        >>> predictor.predict([frames])  # (frames, channels) in their own units  # doctest: +SKIP
        [{'1': 0.98, '2': 0.001, ...}]

    Args:
        model: of frames.
        meaning: content of ``frames.json``.
        data: how files are read.
    """

    def __init__(self, model: FrameModel, meaning: dict[str, Any], *, data: FramesData) -> None:
        self.model = model.eval()
        self.channels: list[str] = meaning["channels"]
        self.labels: list[str] | None = meaning["labels"]
        self._scaler = Standardizer(mean=np.array(meaning["mean"]), scale=np.array(meaning["scale"]))
        self._numbers: dict[str, float] | None = meaning["numbers"]
        self._data = data

    @classmethod
    def open(cls, run: Run) -> "SequencePredictor":
        """Open the model that ``run`` trained.

        Raises:
            RecordError: the run is of another task, or has not written its model yet.
        """
        if run.info.task not in (CLASSIFICATION, REGRESSION):
            raise RecordError(f"A run of the recipe frames is needed, got one of {run.info.task} in {run.folder}.")
        if next(run.events("trained"), None) is None:
            raise RecordError(f"A trained model is needed, got a run without one in {run.folder}; train it to its end.")
        path = run.folder / "model" / _FILE
        try:
            meaning = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RecordError(f"{path} must say what the model's channels mean, but cannot be read: {error}") from error
        data = FramesData.model_validate(run.info.config["data"])
        return cls(load_frame_model(path.parent), meaning, data=data)

    def read(self, path: Path | str) -> FrameSequences:
        """Read a file as the training data were read; classes or numbers that stand in it are not looked at.

        Raises:
            DataError: the file cannot be used, or has other channels than the model was trained on.
        """
        chosen = self._data.model_copy(update={"channels": tuple(self.channels)}) if self._data.is_table else self._data
        found = read_sequences(chosen, Path(path), target=None)
        if len(found.channels) != len(self.channels):
            raise DataError(f"This model reads {len(self.channels)} channels, got {len(found.channels)} in {path}.")
        return found

    def predict(self, frames: Sequence[npt.NDArray[np.floating]]) -> list[dict[str, float]] | list[float]:
        """Return for each sequence the probability of each class, which sum to 1, or its number.

        Args:
            frames: (frames, channels) each, in the units that the model was trained on.

        Raises:
            ArgumentError: there is no sequence, or one has another shape.
            DataError: a value is not finite.
        """
        for number, one in enumerate(frames):
            if one.ndim != 2 or not len(one) or one.shape[1] != len(self.channels):
                raise ArgumentError(
                    f"Each sequence must be (frames, {len(self.channels)}) with a frame or more, got {one.shape} at "
                    f"number {number}."
                )
            if not np.isfinite(one).all():
                raise DataError(f"Each value must be finite, got NaN or infinity in sequence {number}.")
        if not len(frames):
            raise ArgumentError("A sequence or more must be given, got none.")
        scaled = [self._scaler.apply(one.astype(np.float64)).astype(np.float32) for one in frames]
        outputs = outputs_of(self.model, scaled)
        if self._numbers is not None:
            return [float(one) for one in outputs[:, 0] * self._numbers["scale"] + self._numbers["mean"]]
        assert self.labels is not None, "frames.json has labels or numbers"
        probabilities = np.exp(outputs - np.logaddexp.reduce(outputs, axis=1, keepdims=True))
        return [dict(zip(self.labels, row, strict=True)) for row in probabilities.tolist()]
