"""The whole job of pretraining on masked words as data."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from regard.train.config import JobConfig, OptimConfig, Settings

__all__ = ["MaskedConfig", "MaskedData", "MaskedModel", "MaskedOptim"]


class MaskedData(Settings):
    """The text, how it is cut, and how much of it is hidden."""

    path: Path | None = Field(None, description="a text file, or a folder of .txt files; .gz, .bz2 and .xz too")
    window: int = Field(128, ge=16, le=512, description="tokens that the model sees at once, [CLS] and [SEP] too")
    vocab_size: int = Field(8000, ge=100, description="most word pieces to learn from the training part")
    mask_share: float = Field(0.15, gt=0, lt=1, description="share of tokens to be guessed")
    validation_share: float = Field(0.05, gt=0, lt=0.5, description="of the text, before the test share")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="of the text, at its end")

    @model_validator(mode="after")
    def _path_is_given(self) -> "MaskedData":
        if self.path is None:
            raise ValueError("data.path must name a text file or a folder of them: --set data.path=FILE")
        return self


class MaskedModel(Settings):
    """A BERT from scratch."""

    num_layers: int = Field(4, ge=1)
    embed_dim: int = Field(256, ge=8)
    num_heads: int = Field(4, ge=1)
    dropout_p: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "MaskedModel":
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"model.embed_dim must be a multiple of model.num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        return self


class MaskedOptim(OptimConfig):
    """AdamW as encoders from scratch are used to."""

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(5e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.98)
    schedule: Literal["linear", "cosine", "inverse_sqrt"] = "linear"


class MaskedConfig(JobConfig):
    """The recipe of pretraining."""

    task: ClassVar[str] = "masked language modelling"

    recipe: str = "masked-words"
    data: MaskedData
    model: MaskedModel = MaskedModel()
    optim: MaskedOptim = MaskedOptim()

    @property
    def source(self) -> str:
        """Return the file or folder."""
        return str(self.data.path)
