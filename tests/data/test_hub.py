import sys

import pytest

from regard._errors import DataError, MissingDependencyError
from regard.data import load_hub


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    module = pytest.importorskip("datasets", reason="needs the extra regard[hf]")
    patch = pytest.MonkeyPatch()
    patch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    module.disable_progress_bars()
    yield module
    module.enable_progress_bars()
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of files as a data set on the hub has them."""
    folder = tmp_path_factory.mktemp("reviews")
    (folder / "train.csv").write_text("body,topic\na cat,pet\na rose,plant\n", encoding="utf-8")
    (folder / "test.csv").write_text("body,topic\na dog,pet\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def saved(datasets, tmp_path_factory):
    """Return a folder that ``save_to_disk`` wrote, with class numbers as labels; the last one is hidden."""
    features = datasets.Features(
        {"body": datasets.Value("string"), "topic": datasets.ClassLabel(names=["plant", "pet"])}
    )
    whole = datasets.Dataset.from_dict({"body": ["a cat", None, "?"], "topic": [1, 0, -1]}, features=features)
    folder = tmp_path_factory.mktemp("saved")
    datasets.DatasetDict({"train": whole.select([0, 1]), "hidden": whole}).save_to_disk(folder / "many")
    whole.select([0, 1]).save_to_disk(folder / "one")
    return folder


pytestmark = pytest.mark.usefixtures("datasets")


def test_local_folder_of_files_loads_without_network(folder):
    documents = load_hub(str(folder), split="train", text="body", label="topic")

    assert documents.texts == ["a cat", "a rose"]
    assert documents.labels == ["pet", "plant"]
    assert documents.where(1) == f"{folder} train row 2"


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_local_json_and_parquet_load_too(suffix, tmp_path, datasets):
    rows = datasets.Dataset.from_dict({"body": ["a cat"], "topic": ["pet"]})
    path = tmp_path / f"train.{suffix}"
    rows.to_parquet(path) if suffix == "parquet" else rows.to_json(path)

    assert load_hub(str(tmp_path), text="body", label="topic").texts == ["a cat"]


@pytest.mark.parametrize(("name", "split"), [("many", "train"), ("one", None)])
def test_class_numbers_become_names_and_null_text_is_empty(saved, name, split):
    documents = load_hub(str(saved / name), split=split, text="body", label="topic")

    assert documents.labels == ["pet", "plant"]
    assert documents.texts == ["a cat", ""]


def test_hidden_label_is_refused_with_its_row(saved):
    with pytest.raises(DataError, match=r"none in column 'topic' at .* row 3"):
        load_hub(str(saved / "many"), split="hidden", text="body", label="topic")


def test_unknown_split_lists_the_splits(folder):
    with pytest.raises(DataError, match="the split 'tran', got 'train', 'test'; did you mean 'train'"):
        load_hub(str(folder), split="tran", text="body", label="topic")


def test_other_split_than_the_one_that_was_saved_is_refused(datasets, folder, tmp_path):
    datasets.load_dataset(str(folder), split="test").save_to_disk(tmp_path / "test")

    assert load_hub(str(tmp_path / "test"), split="test", text="body", label="topic").texts == ["a dog"]
    with pytest.raises(DataError, match="the split 'train', got only 'test'; name that one"):
        load_hub(str(tmp_path / "test"), split="train", text="body", label="topic")


def test_split_must_be_named_where_there_are_several(folder):
    with pytest.raises(DataError, match="has the splits 'train', 'test'; say with split="):
        load_hub(str(folder), text="body", label="topic")


def test_unknown_column_lists_the_columns(folder):
    with pytest.raises(DataError, match="column 'text', got the columns 'body', 'topic'"):
        load_hub(str(folder), split="train", text="text", label="topic")


def test_text_column_of_numbers_is_refused(saved):
    with pytest.raises(DataError, match=r"Column 'topic' must hold text, got int at .* row 1"):
        load_hub(str(saved / "one"), text="topic", label="topic")


def test_hub_out_of_reach_says_what_to_do():
    with pytest.raises(DataError, match=r"hub must be reachable to load 'owner/reviews', .* path of a local copy"):
        load_hub("owner/reviews", split="train", text="body", label="topic")


def test_missing_folder_is_not_taken_for_a_hub_name(tmp_path):
    with pytest.raises(DataError, match=r"got no folder at .*nowhere; check the path"):
        load_hub(str(tmp_path / "nowhere"), text="body", label="topic")


def test_folder_without_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be a data set on the hub or a folder of data files"):
        load_hub(str(tmp_path), text="body", label="topic")


def test_broken_file_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"body": "a", \n', encoding="utf-8")

    with pytest.raises(DataError, match="must be a data set that `datasets` can open"):
        load_hub(str(tmp_path), text="body", label="topic")


def test_absent_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)

    with pytest.raises(MissingDependencyError, match=r"regard\[hf\]"):
        load_hub("owner/reviews", text="body", label="topic")
