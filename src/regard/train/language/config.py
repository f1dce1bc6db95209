"""The whole job of a language model as data."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from regard.train.config import JobConfig, OptimConfig, Settings

__all__ = ["LanguageConfig", "LanguageData", "LanguageModel", "LanguageOptim"]

_VOCABULARY = 8000
_LEAST = {"subwords": 257, "words": 3}  # padding and all bytes; padding, unknown words and a word
_OF_SCRATCH = (
    "architecture",
    "recurrent_layers",
    "hidden_dim",
    "num_layers",
    "embed_dim",
    "num_heads",
    "num_kv_heads",
    "activation",
    "positions",
    "tied_embeddings",
)
"""Settings of ``model`` that a decoder that is given has answered already."""
_GENTLE_LR = 5e-5  # for weights that know something already


class LanguageData(Settings):
    """The text, and how it is cut."""

    path: Path | None = Field(None, description="a text file, or a folder of .txt files; .gz, .bz2 and .xz too")
    validation_path: Path | None = Field(None, description="without it a share of `path` is held out")
    test_path: Path | None = Field(None, description="without it a share of `path` is held out")
    tokens: Literal["characters", "subwords", "words", "own"] = Field(
        "characters", description="what the text is cut into; 'own' are those of model.pretrained"
    )
    vocab_size: int | None = Field(
        None, description=f"most subwords or words to learn from the training part, {_VOCABULARY} if not given"
    )
    window: int = Field(256, ge=8, description="tokens that the model sees at once")
    validation_share: float = Field(0.05, gt=0, lt=0.5, description="of the text, before the test share")
    test_share: float = Field(0.1, gt=0, lt=0.5, description="of the text, at its end")

    @model_validator(mode="after")
    def _path_is_given(self) -> "LanguageData":
        if self.path is None:
            raise ValueError("data.path must name a text file or a folder of them: --set data.path=FILE")
        return self

    @model_validator(mode="after")
    def _vocabulary_fits(self) -> "LanguageData":
        least = _LEAST.get(self.tokens)
        if self.vocab_size is not None and least is None:
            raise ValueError(
                f"data.vocab_size is for data.tokens=subwords or words, got data.tokens={self.tokens}; leave it out"
            )
        if self.vocab_size is not None and least is not None and self.vocab_size < least:
            raise ValueError(f"data.vocab_size must be at least {least} for {self.tokens}, got {self.vocab_size}")
        return self

    @property
    def most_tokens(self) -> int:
        """Return how many subwords or words to learn."""
        return _VOCABULARY if self.vocab_size is None else self.vocab_size


class LanguageModel(Settings):
    """A decoder from scratch or one that is given, or a recurrent network of its parameter count."""

    pretrained: Path | Literal["smollm2", "none"] = Field(
        "none",
        description="folder of a decoder with its tokenizer, GGUF file, 'smollm2', or 'none' for one from scratch",
    )
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
    tied_embeddings: bool | None = Field(
        None, description="whether a decoder's output layer is its table of tokens; if not given, unless characters"
    )
    dropout_p: float = Field(0.15, ge=0, lt=1, description="0 if not given with model.pretrained")

    @model_validator(mode="after")
    def _heads_divide(self) -> "LanguageModel":
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"model.embed_dim must be a multiple of model.num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        if self.architecture == "transformer" and self.hidden_dim is not None:
            raise ValueError("model.hidden_dim belongs to a recurrent network; leave it out or set model.architecture")
        if self.architecture != "transformer" and self.tied_embeddings is not None:
            raise ValueError("model.tied_embeddings belongs to a decoder: a recurrent network ties them; leave it out")
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

    @model_validator(mode="before")
    @classmethod
    def _given_decoder_decides(cls, values: Any) -> Any:
        """Set what another default suits better where a decoder is given."""
        model = values.get("model") if isinstance(values, dict) else None
        if not isinstance(model, dict) or model.get("pretrained", "none") == "none":
            return values
        better: dict[str, dict[str, Any]] = {
            "data": {"tokens": "own"},
            "model": {"dropout_p": 0.0},
            "optim": {"lr": _GENTLE_LR},
        }
        parts = {name: values.get(name, {}) for name in better}
        return values | {
            name: {**better[name], **part} if isinstance(part, dict) else part for name, part in parts.items()
        }

    @model_validator(mode="after")
    def _tokens_are_the_models(self) -> "LanguageConfig":
        given = self.model.pretrained != "none"
        if given != (self.data.tokens == "own"):
            raise ValueError(
                "data.tokens=own and model.pretrained belong together, since a decoder that is given has its own "
                f"tokenizer, got data.tokens={self.data.tokens} and model.pretrained={self.model.pretrained}; leave "
                "data.tokens out"
            )
        refused = [name for name in _OF_SCRATCH if name in self.model.model_fields_set]
        if given and refused:
            raise ValueError(
                f"model.{refused[0]} is for a model from scratch: model.pretrained has its own sizes; leave one out"
            )
        return self

    @property
    def source(self) -> str:
        """Return the file or folder."""
        return str(self.data.path)
