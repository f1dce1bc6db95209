"""The whole job of a tagger as data."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from regard.train.classification.config import ClassifierOptim, EncoderConfig
from regard.train.config import JobConfig, Settings

__all__ = ["TaggerConfig", "TaggerModel", "TaggingData"]


class TaggingData(Settings):
    """Where the tagged sentences come from and how they are split and cut."""

    source: Literal["conll", "punctuation"] = Field(
        "conll",
        description="columns with one word a line, or any text, whose case and marks are to be restored",
    )
    path: Path | None = Field(None, description="the file; of punctuation also a folder of .txt files")
    validation_path: Path | None = Field(None, description="without it a share of `path` is held out")
    test_path: Path | None = Field(None, description="without it a share of `path` is held out")
    word_column: int = Field(1, description="column of the words, from 1, or from -1 at the end (source=conll)")
    tag_column: int = Field(-1, description="column of the tags, counted likewise (source=conll)")
    window: int = Field(64, ge=2, description="words that are read at once (source=punctuation)")
    validation_share: float = Field(0.1, gt=0, lt=0.5)
    test_share: float = Field(0.1, gt=0, lt=0.5)
    max_len: int = Field(
        128, ge=8, le=512, description="tokens; longer sentences are read in several windows, the audit counts them"
    )
    max_train: int | None = Field(None, ge=16, description="use only this many training sentences, chosen by the seed")
    max_test: int | None = Field(None, ge=16, description="use only this many test sentences, chosen by the seed")
    seed: int | None = Field(None, description="of the splits; the run's own if not given, so that runs can share one")

    @model_validator(mode="after")
    def _path_is_given(self) -> "TaggingData":
        if self.path is None:
            raise ValueError("data.path must name the file to learn from: --set data.path=FILE")
        if 0 in (self.word_column, self.tag_column) or self.word_column == self.tag_column:
            raise ValueError(
                "data.word_column and data.tag_column must be two different columns, counted from 1 or, at the end, "
                f"from -1; got {self.word_column} and {self.tag_column}"
            )
        if self.source == "punctuation" and (self.word_column, self.tag_column) != (1, -1):
            raise ValueError("data.word_column and data.tag_column are for data.source=conll, got punctuation")
        if self.source == "conll" and self.window != type(self).model_fields["window"].default:
            raise ValueError("data.window is for data.source=punctuation, got conll")
        return self


class TaggerModel(EncoderConfig):
    """The tagger: its encoder, with a linear layer over the first piece of each word."""

    lowercase: bool = Field(
        False, description="fold case and strip accents, where the vocabulary is learnt (pretrained=none)"
    )


class TaggerConfig(JobConfig):
    """The recipe of a tagger."""

    task: ClassVar[str] = "token tagging"

    recipe: str = "token-tagger"
    data: TaggingData
    model: TaggerModel = TaggerModel()
    optim: ClassifierOptim = ClassifierOptim()

    @property
    def source(self) -> str:
        """Return the file."""
        return str(self.data.path)
