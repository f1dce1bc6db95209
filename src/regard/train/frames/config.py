"""The whole job of a model of numeric frames as data."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from regard.data.text_files import COMPRESSED
from regard.train.config import JobConfig, Settings

__all__ = ["CLASSIFICATION", "REGRESSION", "FramesConfig", "FramesData", "FramesModel"]

CLASSIFICATION = "sequence classification"
REGRESSION = "sequence regression"
_OF_TABLES = ("time", "channels", "group", "split")


class FramesData(Settings):
    """Where the sequences come from and how they are split: by sequence, or by group."""

    path: Path | None = Field(None, description=".ts file, or CSV, TSV or Parquet file with a row a frame")
    test_path: Path | None = Field(None, description="test file; without it a share of `path` is held out")
    sequence: str = Field("sequence", description="column that names the sequence of a frame (tables)")
    label: str = Field(
        "label", description="column of the class or number, the same in all rows of a sequence (tables)"
    )
    time: str | None = Field(None, description="column that rises within a sequence; the order of rows if not given")
    channels: tuple[str, ...] | None = Field(None, description="columns of the values; all others if not given")
    group: str | None = Field(
        None, description="column of what must not stand on two sides, such as who spoke; nothing if not given"
    )
    split: str | None = Field(None, description="column that says train, validation or test")
    validation_share: float = Field(0.1, gt=0, lt=0.5, description="held out of the training sequences")
    test_share: float = Field(0.2, gt=0, lt=0.5, description="held out where no test file or column is given")
    seed: int | None = Field(None, description="of the splits; the run's own if not given, so that runs can share one")

    @property
    def is_table(self) -> bool:
        """Whether the files are tables, not ``.ts`` files."""
        if self.path is None:
            return False
        return [suffix for suffix in self.path.suffixes if suffix.lower() not in COMPRESSED][-1:] not in (
            [".ts"],
            [".TS"],
        )

    @model_validator(mode="after")
    def _files_fit(self) -> "FramesData":
        if self.path is None:
            raise ValueError("data.path must name a .ts, CSV, TSV or Parquet file: --set data.path=FILE")
        given = [name for name in _OF_TABLES if getattr(self, name) is not None]
        if given and not self.is_table:
            raise ValueError(f"data.{given[0]} is a column of a table, got {self.path.name}; leave it out")
        if self.split is not None and self.test_path is not None:
            raise ValueError("data.split and data.test_path both name the test sequences; leave one out")
        return self


class FramesModel(Settings):
    """What is asked of a sequence, what reads it, and its sizes."""

    target: Literal["class", "number"] = Field("class", description="what each sequence is to be given")
    architecture: Literal["transformer", "gru", "lstm"] = "transformer"
    patch_len: int = Field(1, ge=1, description="frames in a patch, the token of this model; long sequences want more")
    positions: Literal["sinusoidal", "rotary", "none"] = "sinusoidal"
    num_layers: int = Field(2, ge=1)
    embed_dim: int = Field(64, ge=1, description="width of a patch")
    hidden_dim: int | None = Field(
        None,
        ge=1,
        description="width of a recurrent network's state in one direction; if not given, the one that makes as many "
        "parameters as the Transformer of these sizes has",
    )
    num_heads: int = Field(4, ge=1, description="attention heads a layer")
    feed_forward_dim: int = Field(128, ge=1)
    dropout_p: float = Field(0.2, ge=0, lt=1)
    attention_dropout_p: float = Field(0.0, ge=0, lt=1, description="above 0 a CPU leaves the fused kernel")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "FramesModel":
        if self.architecture == "transformer" and self.embed_dim % self.num_heads:
            raise ValueError(
                f"model.embed_dim must be a multiple of model.num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        turned = self.embed_dim if self.positions == "sinusoidal" else self.embed_dim // self.num_heads
        if self.architecture == "transformer" and self.positions != "none" and turned % 2:
            raise ValueError(
                f"model.positions={self.positions} needs an even width, got {turned}; change model.embed_dim"
            )
        if self.architecture == "transformer" and self.hidden_dim is not None:
            raise ValueError("model.hidden_dim belongs to a recurrent network; leave it out or set model.architecture")
        return self


class FramesConfig(JobConfig):
    """The recipe of a model of numeric frames."""

    recipe: str = "frames"
    data: FramesData
    model: FramesModel = FramesModel()

    @property
    def task(self) -> str:  # type: ignore[override]  # one recipe, two tasks: what is asked decides
        """What the job does, as ``run.json`` and the report say it."""
        return CLASSIFICATION if self.model.target == "class" else REGRESSION

    @property
    def source(self) -> str:
        """Return the name of the file."""
        return str(self.data.path)
