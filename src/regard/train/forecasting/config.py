"""The whole job of a forecaster as data."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from regard.train.config import JobConfig, Settings

__all__ = ["ForecasterModel", "ForecastingConfig", "SeriesConfig"]


class SeriesConfig(Settings):
    """Where the series comes from and how it is split, by time and by nothing else."""

    path: Path | None = Field(
        None, description="CSV or TSV file, compressed or not, whose first line names the columns"
    )
    time: str | None = Field(None, description="column of the times, dates or numbers; the first one if not given")
    columns: tuple[str, ...] | None = Field(None, description="the channels; all other columns if not given")
    split: str | None = Field(
        None, description="column that names the split of each row; a split that is not one of time is refused"
    )
    sizes: tuple[int, int, int] | None = Field(
        None, description="rows of train, validation and test, from the first row on; shares decide if not given"
    )
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="of the rows, before those of the test")
    test_share: float = Field(0.2, gt=0, lt=0.5, description="of the rows, the last ones")
    season: int | None = Field(
        None,
        ge=1,
        description="rows of a season, for MASE and the seasonal baseline; guessed if not given",
    )

    @model_validator(mode="after")
    def _path_is_given(self) -> "SeriesConfig":
        if self.path is None:
            raise ValueError("data.path must name a CSV or TSV file with a column of times: --set data.path=FILE")
        return self


class ForecasterModel(Settings):
    """The forecaster: what it reads, what it says, and its sizes."""

    architecture: Literal["transformer", "gru", "lstm"] = "transformer"
    input_len: int = Field(336, ge=2, description="rows that are read")
    horizon: int = Field(96, ge=1, description="rows that are forecast")
    patch_len: int = Field(16, ge=1, description="rows in a patch, the token of this model")
    stride: int = Field(16, ge=1, description="rows between the beginnings of two patches")
    num_layers: int = Field(2, ge=1)
    embed_dim: int = Field(32, ge=1, description="width of a patch")
    hidden_dim: int | None = Field(
        None,
        ge=1,
        description="width of a recurrent network's state; if not given, the one that makes as many parameters as the "
        "Transformer of these sizes has",
    )
    num_heads: int = Field(4, ge=1, description="attention heads a layer")
    feed_forward_dim: int = Field(64, ge=1)
    affine: bool = Field(False, description="learn a factor and a shift for each channel in the reversible norm")
    dropout_p: float = Field(0.3, ge=0, lt=1)
    attention_dropout_p: float = Field(0.0, ge=0, lt=1, description="above 0 a CPU leaves the fused kernel")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ForecasterModel":
        if self.patch_len > self.input_len:
            raise ValueError(f"model.patch_len must be at most model.input_len, got {self.patch_len}, {self.input_len}")
        if self.architecture == "transformer" and self.embed_dim % self.num_heads:
            raise ValueError(
                f"model.embed_dim must be a multiple of model.num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        if self.architecture == "transformer" and self.hidden_dim is not None:
            raise ValueError("model.hidden_dim belongs to a recurrent network; leave it out or set model.architecture")
        return self


class ForecastingConfig(JobConfig):
    """The recipe of a forecaster of numeric series."""

    task: ClassVar[str] = "forecasting"

    recipe: str = "forecaster"
    data: SeriesConfig
    model: ForecasterModel = ForecasterModel()

    @property
    def source(self) -> str:
        """Where the data comes from, in a few words."""
        return str(self.data.path)
