"""The whole job of a text classifier as data."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from regard.train.config import JobConfig, OptimConfig, Settings

__all__ = ["ClassifierConfig", "ClassifierOptim", "DataConfig", "EncoderConfig", "ModelConfig"]


class DataConfig(Settings):
    """Where the documents come from and how they are split and cut."""

    source: Literal["table", "hub", "reuters-r8", "reuters-r52", "20newsgroups"] = "table"
    path: Path | None = Field(None, description="CSV, TSV, JSONL or Parquet file (source=table)")
    test_path: Path | None = Field(None, description="test file; without it a share of `path` is held out")
    name: str | None = Field(None, description="hub name or local folder (source=hub)")
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    split: str = Field("train", description="split of the hub's set to train on")
    test_split: str | None = Field(None, description="split of the hub's set to test on, else a share is held out")
    text: str = "text"
    label: str = "label"
    validation_share: float = Field(0.1, gt=0, lt=0.5)
    test_share: float = Field(0.2, gt=0, lt=0.5, description="held out for testing where the source has no test set")
    max_len: int = Field(256, ge=8, le=512, description="tokens; longer documents are cut, the audit counts them")
    max_train: int | None = Field(None, ge=16, description="use only this many training documents, chosen by the seed")
    max_test: int | None = Field(None, ge=16, description="use only this many test documents, chosen by the seed")
    seed: int | None = Field(None, description="of the splits; the run's own if not given, so that runs can share one")

    @model_validator(mode="after")
    def _source_is_given(self) -> "DataConfig":
        if self.source == "table" and self.path is None:
            raise ValueError("data.path must name a CSV, TSV, JSONL or Parquet file: --set data.path=FILE")
        if self.source == "hub" and self.name is None:
            raise ValueError("data.name must be a hub name or local folder: --set data.name=NAME")
        for field, source in (("path", "table"), ("test_path", "table"), ("name", "hub")):
            if getattr(self, field) is not None and self.source != source:
                raise ValueError(
                    f"data.{field} is for data.source={source}, got data.source={self.source}; set both or leave it out"
                )
        return self


_FROM_SCRATCH = {"num_layers": 4, "embed_dim": 256, "num_heads": 4, "vocab_size": 8000}
"""Sizes of a model that starts from scratch, where they are not given."""


class EncoderConfig(Settings):
    """The encoder that a head sits on, pretrained or from scratch."""

    pretrained: Path | Literal["minilm", "none"] = Field(
        "minilm", description="folder in Hugging Face layout, 'minilm', or 'none' for a model from scratch"
    )
    architecture: Literal["transformer", "lstm", "gru"] = Field(
        "transformer", description="a recurrent network starts from scratch, with a Transformer's parameter count"
    )
    num_layers: int | None = Field(None, ge=1, description="layers (pretrained=none), 4 if not given")
    embed_dim: int | None = Field(None, ge=1, description="width (pretrained=none), 256 if not given")
    num_heads: int | None = Field(None, ge=1, description="heads a layer (pretrained=none), 4 if not given")
    vocab_size: int | None = Field(
        None,
        ge=100,
        description="most tokens to learn from the training documents (pretrained=none), 8000 if not given",
    )
    recurrent_layers: int = Field(2, ge=1, description="layers of a recurrent network, which reads both ways")
    hidden_dim: int | None = Field(
        None,
        ge=1,
        description="width of a recurrent network's state; if not given, the one that makes as many parameters as a "
        "Transformer of num_layers, embed_dim and num_heads has",
    )
    dropout_p: float = Field(0.1, ge=0, lt=1)
    attention_dropout_p: float = Field(0.0, ge=0, lt=1, description="above 0 a CPU leaves the fused kernel")
    attention_dtype: Literal["auto", "float32", "autocast"] = Field(
        "auto", description="precision of the attention core under autocast; 'auto' is float32 on a CPU (faster there)"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_sizes(cls, values: Any) -> Any:
        """Give a model from scratch its sizes here, so that they are printed and recorded."""
        if not isinstance(values, dict) or values.get("pretrained") != "none":
            return values
        given = {name: value for name, value in values.items() if value is not None}
        return _FROM_SCRATCH | given

    @model_validator(mode="after")
    def _sizes_fit(self) -> "EncoderConfig":
        given = [name for name in _FROM_SCRATCH if getattr(self, name) is not None]
        if self.pretrained != "none" and given:
            raise ValueError(
                f"model.{given[0]} belongs to a model from scratch, got model.pretrained={self.pretrained}; "
                "leave it out or set model.pretrained=none"
            )
        if self.architecture != "transformer" and self.pretrained != "none":
            raise ValueError(
                f"model.architecture={self.architecture} needs model.pretrained=none, got {self.pretrained}"
            )
        if self.architecture == "transformer" and self.hidden_dim is not None:
            raise ValueError("model.hidden_dim belongs to a recurrent network; leave it out or set model.architecture")
        if self.embed_dim is not None and self.num_heads is not None and self.embed_dim % self.num_heads:
            raise ValueError(
                f"model.embed_dim must be a multiple of model.num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        return self


class ModelConfig(EncoderConfig):
    """The classifier: its encoder, and how its tokens become one vector."""

    pooling: Literal["mean", "first"] = "mean"

    @model_validator(mode="after")
    def _pooling_fits(self) -> "ModelConfig":
        if self.architecture != "transformer" and self.pooling != "mean":
            raise ValueError(f"model.architecture={self.architecture} needs model.pooling=mean, got {self.pooling}")
        return self


class ClassifierOptim(OptimConfig):
    """The optimizer of a classifier, whose new head learns faster than its encoder."""

    head_lr: float = Field(1e-3, gt=0)


class ClassifierConfig(JobConfig):
    """The recipe of a text classifier."""

    task: ClassVar[str] = "text classification"

    recipe: str = "text-classifier"
    data: DataConfig
    model: ModelConfig = ModelConfig()
    optim: ClassifierOptim = ClassifierOptim()

    @property
    def source(self) -> str:
        """Return the file, the name on the hub, or the name of the published set."""
        return str(self.data.path or self.data.name or self.data.source)
