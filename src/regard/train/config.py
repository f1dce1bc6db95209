"""What the configs of all jobs share: frozen pydantic models that validate on construction and survive JSON."""

import re
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["JobConfig", "OptimConfig", "Settings", "WatchConfig"]


class Settings(BaseModel):
    """A part of a config: frozen, without room for a field that it does not know; a number may stand for a text."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class OptimConfig(Settings):
    """AdamW, its learning rate over time, and what a step is made of."""

    epochs: int = Field(2, ge=1)
    batch_size: int = Field(16, ge=1)
    lr: float = Field(1e-4, gt=0, description="the highest rate, reached at the end of warm-up")
    schedule: Literal["linear", "cosine", "inverse_sqrt"] = Field(
        "linear", description="decay after warm-up: to 0 linearly or along a cosine, or as 1/√step (Noam)"
    )
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)
    accumulate: int = Field(1, ge=1, description="batches whose gradients make one step")
    validate_every: int = Field(
        0, ge=0, description="steps between two looks at the validation set within an epoch; 0 looks at its end alone"
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of the weights that is validated and kept; 0 for none"
    )


class WatchConfig(Settings):
    """What ``watch`` records while training: some statistics at every step, all of them now and then."""

    every_step: tuple[str, ...] = ("entropy", "normalized_entropy", "first_mass", "padding_mass", "output_norm")
    sometimes: tuple[str, ...] = (
        "effective_keys",
        "collision",
        "max_weight",
        "max_score",
        "self_mass",
        "previous_mass",
        "distance",
        "saturated_share",
        "residual_diversity",
    )
    interval: int = Field(10, ge=1, description="steps between two looks at `sometimes`, at quantiles and at gradients")
    rows: Literal["all"] | int = "all"
    guard: Literal["off", "warn", "raise"] = Field(
        "off", description="also guard the numbers of attention: log what is not finite or about to be, or end there"
    )
    tensorboard: bool = Field(False, description="also write tensorboard/ in the run folder")
    plotjuggler: bool | str = Field(
        False, description="also write plotjuggler/ in the run folder; HOST:PORT streams there too, as 127.0.0.1:9870"
    )

    @field_validator("plotjuggler")
    @classmethod
    def _address_has_a_port(cls, value: bool | str) -> bool | str:
        if isinstance(value, str) and not re.fullmatch(r".+:\d{1,5}", value):
            raise ValueError("watch.plotjuggler must be true, false or HOST:PORT, such as 127.0.0.1:9870")
        return value


class JobConfig(Settings):
    """What every job has; each adds its ``data`` and ``model``."""

    task: ClassVar[str]
    """What the job does, as ``run.json`` and the report say it."""

    recipe: str
    seed: int = 0
    device: str = Field("auto", description="'auto', 'cpu', 'cuda', 'cuda:1', …")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_every_s: float = Field(60.0, ge=0, description="seconds between checkpoints; 0 for every step")
    compile: bool = Field(False, description="compile the model; pays on GPUs, on CPUs seldom")
    recompute: bool = Field(
        False, description="keep only the inputs of blocks for the backward pass: less memory, a third more time"
    )
    check: bool = Field(True, description="prove the laws of attention on the trained model; takes some seconds")
    optim: OptimConfig = OptimConfig()
    watch: WatchConfig = WatchConfig()

    @property
    @abstractmethod
    def source(self) -> str:
        """Where the data comes from, in a few words."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return self.model_dump(mode="json")
