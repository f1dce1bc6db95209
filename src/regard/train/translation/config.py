"""The whole job of a translator as data."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from regard.train.config import JobConfig, OptimConfig, Settings

__all__ = ["PairsConfig", "TranslatorConfig", "TranslatorModel", "TranslatorOptim", "WritingConfig"]


class PairsConfig(Settings):
    """Where the pairs of texts come from and how they are split and cut."""

    source: Literal["table", "lines", "scan"] = Field(
        "table", description="two columns of a file, two files line for line, or SCAN's files"
    )
    path: Path | None = Field(None, description="CSV, TSV, JSONL or Parquet file; of lines, those of the source")
    target_path: Path | None = Field(None, description="lines of the target (source=lines)")
    validation_path: Path | None = Field(None, description="without it a share of `path` is held out")
    validation_target_path: Path | None = None
    test_path: Path | None = Field(None, description="without it a share of `path` is held out")
    test_target_path: Path | None = None
    source_column: str = Field("source", description="column of what is read (source=table)")
    target_column: str = Field("target", description="column of what is written (source=table)")
    header: bool = Field(True, description='whether CSV and TSV name their columns; else they are "1", "2", …')
    document_column: str | None = Field(
        None, description="column that names the document of a pair; then whole documents are held out"
    )
    document_pattern: str | None = Field(
        None, description=r"regular expression whose first group is the document's name, such as (.+) \d+:\d+"
    )
    context: int = Field(
        0, ge=0, description="sources before a pair in its document that are read with it; needs document_column"
    )
    context_len: int = Field(64, ge=1, description="most tokens of the context; the farthest are left out")
    validation_documents: tuple[str, ...] = Field((), description="hold out these documents instead of a share")
    test_documents: tuple[str, ...] = Field((), description="hold out these documents instead of a share")
    validation_share: float = Field(0.05, gt=0, lt=0.5)
    test_share: float = Field(0.1, gt=0, lt=0.5)
    max_len: int = Field(128, ge=8, description="tokens of either side; longer texts are cut, the audit counts them")
    max_train: int | None = Field(None, ge=16, description="use only this many training pairs, chosen by the seed")
    max_test: int | None = Field(None, ge=16, description="use only this many test pairs, chosen by the seed")

    @model_validator(mode="after")
    def _files_are_given(self) -> "PairsConfig":
        if self.path is None:
            raise ValueError("data.path must name the file to learn from: --set data.path=FILE")
        for name in ("", "validation_", "test_"):
            source, target = getattr(self, f"{name}path"), getattr(self, f"{name}target_path")
            if self.source == "lines" and (source is None) != (target is None):
                absent = f"{name}{'path' if source is None else 'target_path'}"
                raise ValueError(f"data.{absent} must name the other side's lines: --set data.{absent}=FILE")
            if self.source != "lines" and target is not None:
                raise ValueError(f"data.{name}target_path is for data.source=lines, got data.source={self.source}")
        return self

    @model_validator(mode="after")
    def _documents_are_named(self) -> "PairsConfig":
        if self.document_column is not None and self.source != "table":
            raise ValueError(f"data.document_column is for data.source=table, got data.source={self.source}")
        if self.document_column is None:
            for name in ("document_pattern", "context", "validation_documents", "test_documents"):
                if getattr(self, name):
                    raise ValueError(f"data.{name} needs data.document_column, the column that names documents")
        for name in ("validation", "test"):
            if getattr(self, f"{name}_path") is not None and getattr(self, f"{name}_documents"):
                raise ValueError(f"data.{name}_documents are of data.path, got data.{name}_path as well; give one")
        if both := sorted(set(self.validation_documents) & set(self.test_documents)):
            raise ValueError(f"a document must be in one split, got {both[0]!r} for validation and for test")
        return self

    @property
    def longest_source(self) -> int:
        """Most tokens that are read at once: a text and its context."""
        return self.max_len + (self.context_len if self.context else 0)


class TranslatorModel(Settings):
    """The encoder–decoder and its vocabulary: a Transformer, or a recurrent network of its parameter count."""

    architecture: Literal["transformer", "gru", "lstm"] = "transformer"
    recurrent_layers: int = Field(1, ge=1, description="layers of either side of a recurrent network")
    hidden_dim: int | None = Field(
        None,
        ge=1,
        description="width of a recurrent network's state; if not given, the one that makes as many parameters as the "
        "Transformer of these sizes has",
    )
    attention: Literal["additive", "none"] = Field(
        "additive",
        description="how a recurrent network looks back: at each word of the source, or at one vector of all",
    )
    tokens: Literal["subwords", "words"] = Field(
        "subwords", description="byte-pair tokens, or whole words where the language is made of tokens"
    )
    vocab_size: int = Field(4000, ge=260, description="most subwords to learn from both sides of the training pairs")
    embed_dim: int = Field(256, ge=2)
    num_heads: int = Field(4, ge=1)
    num_encoder_layers: int = Field(3, ge=1)
    num_decoder_layers: int = Field(3, ge=1)
    feed_forward_dim: int = Field(512, ge=1)
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    norm: Literal["pre", "post"] = "pre"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    tied_embeddings: Literal["all", "target", "none"] = "all"
    dropout_p: float = Field(0.2, ge=0, lt=1)
    attention_dropout_p: float = Field(0.0, ge=0, lt=1, description="above 0 a CPU leaves the fused kernel")

    @model_validator(mode="after")
    def _heads_fit(self) -> "TranslatorModel":
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"model.embed_dim must be a multiple of model.num_heads, got {self.embed_dim} and {self.num_heads}"
            )
        if self.architecture == "transformer":
            for name in ("hidden_dim", "attention", "recurrent_layers"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"model.{name} belongs to a recurrent network; leave it out or set model.architecture"
                    )
        return self


class TranslatorOptim(OptimConfig):
    """The optimizer of a translator, whose batches are cut by tokens."""

    epochs: int = Field(10, ge=1)
    tokens_per_batch: int = Field(2000, ge=8, description="most tokens of a batch on either side, padding included")
    lr: float = Field(2e-3, gt=0, description="the highest rate, reached at the end of warm-up")
    weight_decay: float = Field(0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target that is spread over all tokens")

    @model_validator(mode="after")
    def _batches_are_cut_by_tokens(self) -> "TranslatorOptim":
        default = OptimConfig.model_fields["batch_size"].default
        if self.batch_size != default:
            raise ValueError(
                f"optim.batch_size is not used, as batches are cut by tokens, got {self.batch_size}; "
                "set optim.tokens_per_batch"
            )
        return self


class WritingConfig(Settings):
    """How the trained model writes."""

    beams: int = Field(4, ge=1, description="sequences that are followed; 1 takes the likeliest token each time")
    length_penalty: float = Field(0.6, ge=0, description="α of ((5 + length) / 6)^α; 0 prefers short texts")
    room: int = Field(50, ge=0, description="tokens that a text may have beyond twice those of its source")


class TranslatorConfig(JobConfig):
    """The recipe of a translator."""

    task: ClassVar[str] = "translation"

    recipe: str = "translator"
    data: PairsConfig
    model: TranslatorModel = TranslatorModel()
    optim: TranslatorOptim = TranslatorOptim()
    write: WritingConfig = WritingConfig()

    @property
    def source(self) -> str:
        """Return the file or files of the training pairs."""
        target = self.data.target_path
        return str(self.data.path) if target is None else f"{self.data.path} and {target.name}"
