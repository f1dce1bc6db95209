"""Labelled texts from a data set that the ``datasets`` library opens: a hub name or a local copy."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from regard._errors import DataError, MissingDependencyError
from regard.data._cells import as_label, as_text
from regard.data._suggest import listed, suggestion
from regard.data.documents import Documents

__all__ = ["load_hub"]


def load_hub(
    name: str,
    *,
    text: str,
    label: str,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> Documents:
    """Load one split of a data set with the ``datasets`` library.

    Args:
        name: hub name such as ``"owner/reviews"``, a folder of CSV, JSON or Parquet files, or a folder that
            ``save_to_disk`` wrote.
        text: column of the documents.
        label: column of the class names; the numbers of a ``ClassLabel`` become their names.
        split: such as ``"train"``; may be left out where there is only one.
        config: configuration of a data set that has several.
        revision: branch, tag or commit on the hub.

    Returns:
        The documents, numbered by row from 1.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
        DataError: the data set, split or column does not exist, the hub cannot be reached, or a row has no label.
    """
    try:
        datasets = import_module("datasets")
    except ImportError as error:
        raise MissingDependencyError(
            "Data sets by name need the library datasets, which is not installed; run `pip install 'regard[hf]'`."
        ) from error
    table = _split(_opened(datasets, name, config, revision), name, split)
    for column in (text, label):
        if column not in table.column_names:
            raise DataError(
                f"{name} must have a column {column!r}, got the columns {listed(table.column_names)}; "
                f"{suggestion(column, table.column_names)}"
            )
    origin = f"{name}@{revision}" if revision else name
    names = getattr(table.features[label], "names", None)
    classes = [_class_name(value, names) for value in table[label]]
    return Documents(
        texts=[as_text(value, text, f"{name} row {number}") for number, value in enumerate(table[text], start=1)],
        labels=[as_label(value, label, f"{name} row {number}") for number, value in enumerate(classes, start=1)],
        name=f"{origin} {split}" if split else origin,
        rows=list(range(1, len(table) + 1)),
        unit="row",
        files=(origin,),
    )


def _opened(datasets: Any, name: str, config: str | None, revision: str | None) -> Any:
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and not folder.exists():
        raise DataError(f"A data set is needed, got no folder at {name}; check the path.")
    try:
        if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(str(folder) if folder.exists() else name, config, revision=revision)
    except ConnectionError as error:
        raise DataError(
            f"The hub must be reachable to load {name!r}, got no connection ({error}); "
            "connect, or give the path of a local copy."
        ) from error
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError) as error:
        raise DataError(f"{name!r} must be a data set on the hub or a folder of data files, got: {error}") from error
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        cause = error.__cause__ or error
        raise DataError(f"{name!r} must be a data set that `datasets` can open, got: {cause}") from error


def _split(opened: Any, name: str, split: str | None) -> Any:
    if not isinstance(opened, Mapping):
        if split is not None and str(opened.split or split) != split:
            raise DataError(f"{name} must have the split {split!r}, got only {str(opened.split)!r}; name that one.")
        return opened
    if split is None and len(opened) == 1:
        return next(iter(opened.values()))
    if split is None:
        raise DataError(f"{name} has the splits {listed(opened)}; say with split= which one to load.")
    if split not in opened:
        raise DataError(f"{name} must have the split {split!r}, got {listed(opened)}; {suggestion(split, opened)}")
    return opened[split]


def _class_name(value: object, names: list[str] | None) -> object:
    if names is None or not isinstance(value, int):
        return value
    # The hub's convention for a hidden label, as in published test splits, is -1.
    return None if value < 0 else names[value]
