"""A Hugging Face model that lies in a folder, to read texts with; the network is never asked."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regard._errors import ArgumentError, MissingDependencyError, RecordError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LocalModel", "load_architecture", "load_module"]

_BOTH = "a model and a tokenizer"
_OWN = {"local_files_only": True, "trust_remote_code": False}

_NO_LIMIT = 10**9  # tokenizers without a limit of their own name a number of this size or larger


@dataclass(frozen=True, kw_only=True)
class LocalModel:
    """A model with its tokenizer.

    Attributes:
        name: of its class.
        module: the model, in evaluation mode.
        tokenizer: of ``transformers``.
        random: names of weights that the folder lacks, and that are therefore random; a pooler's do not count.
    """

    name: str
    module: "nn.Module"
    tokenizer: Any
    random: Sequence[str]

    @classmethod
    def open(cls, name: str) -> "LocalModel":
        """Load ``"minilm"``, which comes as a package, or the model in the folder ``name``.

        Raises:
            ArgumentError: there is no such folder.
            MissingDependencyError: ``transformers``, or a package that this model needs, is not installed.
            RecordError: the folder holds no model that ``transformers`` can load, or no tokenizer.
        """
        folder = _folder(name)
        with _loading(folder, _BOTH):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, **_OWN)
        module, random = load_module(folder, _BOTH)
        return cls(name=type(module).__name__, module=module, tokenizer=tokenizer, random=random)

    @property
    def max_tokens(self) -> int | None:
        """How many tokens the model can read at once; None where nothing limits it."""
        limits = (self.tokenizer.model_max_length, getattr(self._config, "max_position_embeddings", None))
        return min((limit for limit in limits if limit and limit < _NO_LIMIT), default=None)

    @property
    def _config(self) -> Any:
        return self.module.config

    def read(self, text: str) -> tuple[int, bool]:
        """Run the model on one text; return how many tokens it read and whether the text was cut to them."""
        import torch

        limit = self.max_tokens
        inputs = self.tokenizer(text, return_tensors="pt", truncation=limit is not None, max_length=limit)
        taken = inspect.signature(self.module.forward).parameters
        given = {name: value for name, value in inputs.items() if name in taken}
        ids = inputs["input_ids"]
        if getattr(self._config, "is_encoder_decoder", False):
            start = ids.new_full((1, 1), self._config.decoder_start_token_id)
            given["decoder_input_ids"] = torch.cat((start, ids[:, :-1]), dim=1)
        with torch.no_grad():
            self.module(**given)
        return ids.shape[1], limit is not None and len(self.tokenizer(text)["input_ids"]) > limit


def load_module(folder: Path, what: str = "a model") -> tuple["nn.Module", list[str]]:
    """Load the model in ``folder``, without a head, in evaluation mode; ``what`` a message says that is needed there.

    Returns:
        The model, and the names of weights that the folder lacks and that are therefore random; a pooler's do not
        count, as it comes after every layer: no head sees whether it is random.

    Raises:
        MissingDependencyError: ``transformers``, or a package that this model needs, is not installed.
        RecordError: the folder holds no model that ``transformers`` can load.
    """
    with _loading(folder, what):
        from transformers import AutoModel

        module, told = AutoModel.from_pretrained(folder, output_loading_info=True, **_OWN)
    return module.eval(), sorted(weight for weight in told["missing_keys"] if not weight.startswith("pooler."))


def load_architecture(folder: Path, *, weights: bool) -> "nn.Module":
    """Load the model in ``folder`` with the head that its config names; without ``weights`` on the ``meta`` device.

    Raises:
        MissingDependencyError: ``transformers``, or a package that this model needs, is not installed.
        RecordError: the folder holds no model that ``transformers`` can load.
    """
    with _loading(folder, "a model"):
        import torch
        import transformers

        config = transformers.AutoConfig.from_pretrained(folder, **_OWN)
        names = config.architectures or []
        found = next((getattr(transformers, name) for name in names if hasattr(transformers, name)), None)
        if weights:
            return (found or transformers.AutoModel).from_pretrained(folder, **_OWN)  # type: ignore[no-any-return]
        with torch.device("meta"):
            return found(config) if found else transformers.AutoModel.from_config(config)  # type: ignore[no-any-return, no-untyped-call]


@contextmanager
def _loading(folder: Path, what: str) -> Iterator[None]:
    """Keep ``transformers`` quiet, and turn what it cannot load into one sentence."""
    try:
        from transformers.utils.logging import disable_progress_bar, set_verbosity_error
    except ImportError as error:
        raise MissingDependencyError(
            'transformers is needed to load a model, which is not installed; run `pip install "regard[hf]"`.'
        ) from error
    from safetensors import SafetensorError

    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]  # what it would warn of is told in `random`
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(f"The model in {folder} needs another package: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise RecordError(
            f"A folder with {what} that transformers can load is needed, got {folder}: {_first_line(error)}"
        ) from error


def _folder(name: str) -> Path:
    if name == "minilm":
        from regard.models import minilm_folder

        return minilm_folder()
    if not (Path(name) / "config.json").is_file():
        raise ArgumentError(
            f'The model must be "minilm" or a local folder with config.json, weights and tokenizer, got {name!r}; '
            "models are never downloaded."
        )
    return Path(name)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
