"""The parts of a text: of one file one behind the other, or of files of their own that do not share a text."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from regard import RegardError
from regard.records import Run
from regard.train import Silent
from regard.train.language.config import LanguageData
from regard.train.language.corpus import build_language_corpus
from regard.train.language.texts import load_parts

LINES = [f"line {number} of a text that is long enough to be told from any other line of it\n" for number in range(300)]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    places = {"train": slice(0, 200), "validation": slice(200, 240), "test": slice(240, 300)}
    for name, place in places.items():
        with gzip.open(tmp_path / f"{name}.txt.gz", "wt", encoding="utf-8") as file:
            file.write("".join(LINES[place]))
    return {name: tmp_path / f"{name}.txt.gz" for name in places}


def settings(files: dict[str, Path], *own: str, **more: Any) -> LanguageData:
    paths = {f"{name}_path": files[name] for name in own}
    return LanguageData(path=files["train"], **paths, **more)


def test_each_part_is_its_own_file_and_the_rest_is_cut_from_the_text(files: dict[str, Path]) -> None:
    both = load_parts(settings(files, "validation", "test"))
    assert list(both.texts) == ["train", "validation", "test"]
    assert [text.count("\n") for text in both.texts.values()] == [200, 40, 60]
    assert both.apart == ["validation", "test"]
    one = load_parts(settings(files, "test", validation_share=0.25))
    whole = "".join(LINES[:200])
    assert one.texts["train"] + one.texts["validation"] == whole
    assert len(one.texts["validation"]) == pytest.approx(len(whole) / 4, abs=1)
    assert one.texts["test"] == "".join(LINES[240:])
    assert load_parts(settings(files)).apart == []


@pytest.mark.parametrize("own", [(), ("test",), ("validation",), ("validation", "test")])
def test_the_record_tells_places_within_the_files_of_each_part(
    files: dict[str, Path], own: tuple[str, ...], tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", recipe="language-model")
    corpus = build_language_corpus(settings(files, *own, window=16), run=run, progress=Silent())
    rows = run.read("split")

    assert {name: rows[name]["files"] for name in own} == {name: [str(files[name])] for name in own}
    assert all(rows[name]["rows"][0][0] == 1 for name in ("train", *own))
    for name, part in corpus.parts.items():
        assert rows[name]["rows"][0][1] - rows[name]["rows"][0][0] + 1 == rows[name]["num_rows"]
        assert rows[name]["num_rows"] == part.num_bytes.sum()
    told = f"files of their own: {', '.join(own)}"
    assert (told in corpus.audit["summary"][1]) == bool(own)
    assert ("follow each other" in corpus.audit["summary"][1]) == (len(own) < 2)
    assert corpus.audit["source"]["files"] == [str(files[name]) for name in ("train", *own)]


@pytest.mark.parametrize("tokens", ["subwords", "words"])
def test_the_vocabulary_is_that_of_the_training_part(files: dict[str, Path], tokens: str, tmp_path: Path) -> None:
    with gzip.open(files["test"], "at", encoding="utf-8") as file:
        file.write("zwölf zwölf zwölf <unk>\n" * 9)
    found = {}
    for name, own in (("own", ("validation", "test")), ("alone", ("validation",))):
        run = Run.create(tmp_path / name, recipe="language-model")
        config = settings(files, *own, window=8, tokens=tokens, vocab_size=300, test_share=1e-2)
        found[name] = build_language_corpus(config, run=run, progress=Silent())

    assert "zwölf" not in {found["own"].tokenizer.decode([one]) for one in range(found["own"].tokenizer.vocab_size)}
    if tokens == "words":
        assert found["own"].num_unknown("test") >= 4 * 9
        [told] = [line for line in found["own"].audit["warnings"] if " of test " in line]
        assert "are not in the vocabulary; 9 stand in the text as <unk>." in told
    else:
        assert found["own"].num_unknown("test") == 0
        assert found["own"].audit["warnings"] == []
    assert "Words between white space" in found["own"].audit["summary"][2]


def test_a_part_that_is_another_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RegardError, match=r"data\.path and data\.test_path must be different texts"):
        load_parts(LanguageData(path=files["train"], test_path=files["train"]))
    copy = tmp_path / "copy.txt"
    copy.write_text("".join(LINES[200:240]), encoding="utf-8")
    with pytest.raises(RegardError, match=r"data\.validation_path and data\.test_path must be different texts"):
        load_parts(LanguageData(path=files["train"], validation_path=files["validation"], test_path=copy))
    with pytest.raises(RegardError, match=r"data\.path and data\.test_path must be different texts, got .*share one"):
        load_parts(LanguageData(path=tmp_path, test_path=files["test"]))


def test_long_lines_that_stand_in_two_parts_are_counted(files: dict[str, Path]) -> None:
    with gzip.open(files["test"], "at", encoding="utf-8") as file:
        file.write("".join(LINES[:3]) + "= a heading =\n")
    with gzip.open(files["train"], "at", encoding="utf-8") as file:
        file.write("= a heading =\n")
    found = load_parts(settings(files, "validation", "test")).warnings()

    assert found == [
        "3 of 63 lines of test with 60 characters or more stand word for word in train: what is learnt there is known "
        "here."
    ]
    assert load_parts(settings(files)).warnings() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab_size": 500}, "data.vocab_size is for data.tokens=subwords or words, got data.tokens=characters"),
        ({"tokens": "subwords", "vocab_size": 256}, "data.vocab_size must be at least 257 for subwords, got 256"),
        ({"tokens": "words", "vocab_size": 2}, "data.vocab_size must be at least 3 for words, got 2"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageData(path=Path("a.txt"), **values)
