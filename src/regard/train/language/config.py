"""The whole job of a language model as data."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from regard.train.config import JobConfig, OptimConfig, Settings

__all__ = ["LanguageConfig", "LanguageData", "LanguageModel"]


class LanguageData(Settings):
    """The text, and how it is cut."""

    path: Path | None = Field(None, description="a text file, or a folder of .txt files; .gz, .bz2 and .xz too")
    tokens: Literal["characters"] = "characters"
    window: int = Field(256, ge=8, description="tokens that the model sees at once")
    validation_share: float = Field(0.05, gt=0, lt=0.5, description="of the text, before the test share")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="of the text, at its end")

    @model_validator(mode="after")
    def _path_is_given(self) -> "LanguageData":
        if self.path is None:
            raise ValueError("data.path must name a text file or a folder of them: --set data.path=FILE")
        return self


class LanguageModel(Settings):
    """A decoder from scratch, or a recurrent network of its parameter count."""

    architecture: Literal["transformer", "lstm", "gru"] = "transformer"
    recurrent_layers: int = Field(2, ge=1, description="layers of a recurrent network")
    hidden_dim: int | None = Field(
        None,
        ge=1,
        description="width of a recurrent network's state; if not given, the one that makes as many parameters as the "
        "decoder of these sizes has",
    )
    num_layers: int = Field(4, ge=1)
    embed_dim: int = Field(160, ge=8)
    num_heads: int = Field(5, ge=1)
    num_kv_heads: int | None = Field(None, ge=1, description="heads of keys and values; as many as heads if not given")
    activation: Literal["gelu", "relu", "swiglu"] = "swiglu"
    positions: Literal["rotary", "learned"] = "rotary"
    dropout_p: float = Field(0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "LanguageModel":
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"model.embed_dim must be a multiple of model.num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        if self.architecture == "transformer" and self.hidden_dim is not None:
            raise ValueError("model.hidden_dim belongs to a recurrent network; leave it out or set model.architecture")
        return self


class LanguageOptim(OptimConfig):
    """AdamW as language models from scratch are used to; small steps, so that a million characters make many."""

    epochs: int = Field(6, ge=1)
    batch_size: int = Field(8, ge=1)
    lr: float = Field(3e-3, gt=0)
    schedule: Literal["linear", "cosine", "inverse_sqrt"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.1, ge=0)
    warmup_share: float = Field(0.05, ge=0, lt=1)


class LanguageConfig(JobConfig):
    """The recipe of a language model."""

    task: ClassVar[str] = "language modelling"

    recipe: str = "language-model"
    data: LanguageData
    model: LanguageModel = LanguageModel()
    optim: LanguageOptim = LanguageOptim()

    @property
    def source(self) -> str:
        """Return the file or folder."""
        return str(self.data.path)
