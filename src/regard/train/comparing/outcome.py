"""What one run of a comparison came to, read from its folder."""

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from regard.cost import count
from regard.models import count_parameters, load_forecaster, load_frame_model
from regard.records import Interval, ModelScore, Run
from regard.train.classification.inference import open_classifier
from regard.train.language.model import open_language_model
from regard.train.tagging.model import open_tagger
from regard.train.translation.model import open_translator

__all__ = ["Look", "Outcome", "Rows", "read_outcome"]

_FRAMES = ("sequence classification", "sequence regression")
_OF_ANY_EVENT = ("time", "level", "event", "step", "epoch")

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The first metric of a model row by row: the sum of ``totals`` over that of ``counts``.

    Attributes:
        totals: (rows,).
        counts: (rows,).
        block_len: rows of a stretch of the bootstrap; 1 where rows are independent.
        lengths: tokens of each row, or None where rows are alike.
    """

    totals: _Floats
    counts: _Floats
    block_len: int
    lengths: _Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at the validation set while training.

    Attributes:
        step: after how many steps.
        tokens: that were read in training until then.
        seconds: that those steps took, looking not counted.
        metrics: name -> value.
    """

    step: int
    tokens: int
    seconds: float
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run.

    Attributes:
        model: the architecture.
        seed: of the run.
        folder: where it is.
        scores: of the trained model, then of the baselines.
        metrics: content of ``metrics.json`` without the models.
        rows: name of a model -> its rows; empty where the first metric is no mean.
        parameters: of the trained model.
        flops: of the whole training, in matrix products.
        row_flops: of the forward pass of one row of mean length.
        seconds: of training, without looking at attention.
        cpu_seconds: of the process while it trained.
        tokens: that were read in training.
        peak_bytes: largest memory of the process until it had trained; None where the system does not tell.
        looks: at the validation set, in order.
    """

    model: str
    seed: int
    folder: str
    scores: list[ModelScore]
    metrics: dict[str, Any]
    rows: dict[str, Rows]
    parameters: int
    flops: float
    row_flops: float
    seconds: float
    cpu_seconds: float
    tokens: int
    peak_bytes: int | None
    looks: list[Look] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        """Speed of training."""
        return self.tokens / self.seconds

    def metric(self, name: str) -> Interval:
        """Return a metric of the trained model."""
        return self.scores[0].metrics[name]


def read_outcome(run: Run, *, model: str, seed: int) -> Outcome:
    """Read a finished run.

    Raises:
        RecordError: a file is absent or damaged.
    """
    content = dict(run.read("metrics"))
    scores = [ModelScore.model_validate(row) for row in content.pop("models")]
    trained = next(run.events("trained"))
    network, inputs = _network(run)
    per_row = count(network.eval(), *inputs, real=True).flops
    per_step = count(network.train(), *inputs, backward=True, real=True).flops
    return Outcome(
        model=model,
        seed=seed,
        folder=str(run.folder),
        scores=scores,
        metrics=content,
        rows=_rows(run),
        parameters=count_parameters(network),
        flops=per_step / _tokens(run, inputs) * trained["tokens"],
        row_flops=float(per_row),
        seconds=trained["wall_s"] - trained["watch_s"],
        cpu_seconds=trained["cpu_s"],
        tokens=trained["tokens"],
        peak_bytes=trained.get("peak_bytes"),
        looks=_looks(run),
    )


def _looks(run: Run) -> list[Look]:
    steps = [(event["step"], event["tokens"], event["tokens"] / event["tokens_per_s"]) for event in run.events("step")]
    numbers = [step for step, _, _ in steps]
    tokens = np.cumsum([count for _, count, _ in steps])
    seconds = np.cumsum([each for _, _, each in steps])
    found = []
    for event in run.events("validation"):
        last = bisect_right(numbers, event["step"]) - 1
        metrics = {
            name: float(value) for name, value in event.items() if name not in _OF_ANY_EVENT and value is not None
        }
        found.append(Look(step=event["step"], tokens=int(tokens[last]), seconds=float(seconds[last]), metrics=metrics))
    return found


def _network(run: Run) -> tuple[nn.Module, list[torch.Tensor]]:
    """Return the trained model and one row of mean length, or of either side's."""
    folder, config = run.folder / "model", run.info.config
    if run.info.task == "forecasting":
        model = load_forecaster(folder)
        return model, [torch.zeros(1, model.config.input_len, len(run.read("audit")["channels"]))]
    if run.info.task in _FRAMES:
        frames = load_frame_model(folder)
        length = round(run.read("audit")["splits"]["train"]["length"]["mean"])
        return frames, [torch.zeros(1, max(1, length), frames.config.num_channels)]
    if run.info.task == "language modelling":
        return open_language_model(folder), [_ids(config["data"]["window"])]
    if run.info.task == "translation":
        train = run.read("audit")["splits"]["train"]
        return open_translator(folder), [_ids(round(train[side]["mean"])) for side in ("length", "target_length")]
    steps = [event for event in run.events("step") if event.get("tokens")]
    rows = config["optim"]["batch_size"]
    length = max(1, round(float(np.mean([event["tokens"] / rows for event in steps]))))
    inputs = [_ids(min(length, config["data"]["max_len"]))]
    return (open_tagger if run.info.task == "token tagging" else open_classifier)(folder), inputs


def _ids(length: int) -> torch.Tensor:
    return torch.ones(1, max(1, length), dtype=torch.int64)


def _tokens(run: Run, inputs: list[torch.Tensor]) -> int:
    """Return how many tokens the job counts for this row."""
    if run.info.task in _FRAMES:
        return load_frame_model(run.folder / "model").config.num_patches(inputs[0].shape[1])
    if run.info.task != "forecasting":
        return sum(one.shape[1] for one in inputs)
    return load_forecaster(run.folder / "model").config.num_patches * inputs[0].shape[2]


def _rows(run: Run) -> dict[str, Rows]:
    if not run.has("rows"):
        return {}
    content = run.read("rows")
    lengths = content.get("lengths")
    return {
        name: Rows(
            totals=np.asarray(one["totals"], dtype=np.float64),
            counts=np.asarray(one["counts"], dtype=np.float64),
            block_len=content["block_len"],
            lengths=None if lengths is None else np.asarray(lengths, dtype=np.float64),
        )
        for name, one in content["models"].items()
    }
