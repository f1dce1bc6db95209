import json
import random

import pytest

from regard._errors import ArgumentError
from regard.data import audit, split_documents
from regard.records import Run

VOCABULARY = [f"word{number}" for number in range(300)]


@pytest.fixture
def clean(make_documents):
    """Return two splits of two labels in which nothing is wrong."""
    generator = random.Random(0)

    def split(count, name):
        texts = [" ".join(generator.choices(VOCABULARY, k=generator.randint(5, 50))) for _ in range(count)]
        return make_documents(texts, ["x", "y"] * (count // 2), name=name)

    return {"train": split(200, "train.csv"), "test": split(100, "test.csv")}


def lengths_of(splits):
    return {name: [len(text.split()) + 2 for text in documents.texts] for name, documents in splits.items()}


def warned(splits, **options):
    return " ".join(audit(splits, **options)["warnings"])


def test_clean_data_gives_four_lines_and_no_warning(clean):
    report = audit(clean, lengths=lengths_of(clean), max_len=60, source="words")

    assert report["warnings"] == []
    assert [line.split(":")[0] for line in report["summary"]] == [
        "Documents", "Labels", "Length", "Leaks (word for word + nearly)"
    ]  # fmt: skip
    assert report["summary"][0] == ("Documents: train 200, test 100; 2 labels; no empty, none repeated within a split.")
    assert report["summary"][3].endswith("0 + 0 of 100 test in train (0.0 %).")


def test_every_field_of_the_file_is_there(clean):
    report = audit(clean, lengths=lengths_of(clean), max_len=30, source="words")

    assert set(report) == {
        "schema_version", "source", "splits", "leaks", "label_shift", "conflicts", "max_len", "summary", "warnings"
    }  # fmt: skip
    assert report["schema_version"] == 1
    assert report["source"] == {"name": "words", "files": []}
    assert set(report["splits"]["test"]) == {
        "num_rows", "num_empty", "num_repeated", "labels", "length", "truncated_share"
    }  # fmt: skip
    assert report["splits"]["test"]["labels"] == {"x": 50, "y": 50}
    assert report["max_len"] == 30


def test_audit_is_json_of_a_run(clean, tmp_path):
    report = audit(clean, lengths=lengths_of(clean), max_len=30)
    run = Run.create(tmp_path / "run", recipe="test")
    run.write("audit", report)

    assert run.read("audit") == json.loads(json.dumps(report)) == report


def test_lengths_and_truncation_are_measured(make_documents):
    report = audit({"train": make_documents("abcd")}, lengths={"train": [4, 10, 6, 80]}, max_len=9)
    split = report["splits"]["train"]

    assert split["truncated_share"] == 0.5
    assert (split["length"]["mean"], split["length"]["median"], split["length"]["max"]) == (25.0, 8.0, 80)
    assert split["length"]["unit"] == "tokens"
    assert "cut at 9: train 50.0 %" in report["summary"][2]
    assert "50.0 % of train is longer than 9 tokens" in " ".join(report["warnings"])


def test_length_histogram_holds_every_document(clean):
    report = audit(clean, lengths=lengths_of(clean))

    for name, documents in clean.items():
        histogram = report["splits"][name]["length"]["histogram"]
        assert sum(histogram["counts"]) == len(documents)
        assert len(histogram["edges"]) == len(histogram["counts"]) + 1
        assert histogram["edges"] == sorted(set(histogram["edges"]))


def test_words_are_counted_where_tokens_are_not_known(clean):
    report = audit(clean)

    assert report["splits"]["train"]["length"]["unit"] == "words"
    assert report["splits"]["train"]["truncated_share"] is None
    assert "words" in report["summary"][2]


def test_planted_leak_reaches_summary_and_warnings(clean):
    copied = clean["train"].take([5, 9])
    clean["test"] = type(copied)(
        texts=[*clean["test"].texts[:-2], *copied.texts],
        labels=[*clean["test"].labels[:-2], *copied.labels],
        name="test.csv",
        rows=clean["test"].rows,
    )

    report = audit(clean)

    assert report["leaks"]["exact"][0]["count"] == 2
    assert report["leaks"]["exact"][0]["share_of_test"] == 0.02
    assert "2 + 0 of 100 test in train (2.0 %)" in report["summary"][3]
    assert "Of 100 documents of test, 2 are in train word for word; up to 2.0 points" in " ".join(report["warnings"])


def test_one_split_has_nothing_to_leak_into(clean):
    report = audit({"train": clean["train"]})

    assert report["summary"][3] == "Leaks: there is one split only, so nothing to compare."
    assert report["leaks"] == {"exact": [], "near": []}


def test_empty_texts_are_counted_and_warned_of(make_documents):
    report = audit({"train": make_documents(["a", "", " "])})

    assert report["splits"]["train"]["num_empty"] == 2
    assert "Of 3 documents of train, 2 are empty; drop them." in report["warnings"]
    assert "2 empty" in report["summary"][0]


def test_only_empty_texts_can_be_audited(make_documents):
    assert audit({"train": make_documents(["", ""])})["splits"]["train"]["num_empty"] == 2


def test_strong_imbalance_and_rare_labels_are_warned_of(make_documents):
    warnings = warned({"train": make_documents([str(number) for number in range(103)], ["x"] * 100 + ["y"] * 3)})

    assert "out of balance 33 to 1" in warnings
    assert "Labels with fewer than 10 documents in train can hardly be learnt or judged: y (3)." in warnings


def test_single_label_is_warned_of(make_documents):
    assert "one label 'x', so there is nothing to learn" in warned({"train": make_documents("ab")})


def test_label_absent_from_training_is_warned_of(make_documents):
    splits = {"train": make_documents("ab", ["x", "y"]), "test": make_documents("cd", ["x", "z"])}

    assert "test has labels that train does not: 'z'" in warned(splits)


def test_labels_that_differ_in_case_are_warned_of(make_documents):
    assert "'Pet', 'pet' differ only in case or spaces" in warned({"train": make_documents("ab", ["Pet", "pet"])})


def test_shift_of_the_label_mix_is_warned_of_only_where_it_is_large_and_sure(make_documents):
    def splits(count, num_x):
        train = make_documents([f"train {number}" for number in range(200)], ["x", "y"] * 100)
        test = make_documents([f"test {number}" for number in range(count)], ["x"] * num_x + ["y"] * (count - num_x))
        return {"train": train, "test": test}

    assert "label mix of test differs from that of train (PSI 0." in warned(splits(200, 160))
    assert "label mix" not in warned(splits(200, 105))  # sure or not, it is small
    assert "label mix" not in warned(splits(4, 3))  # large by chance


def test_conflicting_labels_are_warned_of_with_an_example(make_documents):
    report = audit({"train": make_documents(["a", "a", "b"], ["x", "y", "y"])})

    assert report["conflicts"] == {"count": 1, "examples": [["made row 1 (x)", "made row 2 (y)"]]}
    assert "Texts with more than one label: 1, such as made row 1 (x) and made row 2 (y)" in " ".join(
        report["warnings"]
    )


def test_uncompared_pairs_are_admitted(make_documents):
    template = " ".join(VOCABULARY)

    assert "lower bound" in warned({"train": make_documents([f"{template} {number}" for number in range(120)])})


def test_no_split_is_refused():
    with pytest.raises(ArgumentError, match="at least one split"):
        audit({})


@pytest.mark.parametrize(("lengths", "given"), [({}, 0), ({"train": [1]}, 1)])
def test_lengths_that_do_not_fit_are_refused(make_documents, lengths, given):
    with pytest.raises(ArgumentError, match=f"one length per document of 'train', got {given} of 2"):
        audit({"train": make_documents("ab")}, lengths=lengths)


def test_max_len_without_lengths_is_refused(make_documents):
    with pytest.raises(ArgumentError, match="max_len counts tokens and needs lengths"):
        audit({"train": make_documents("ab")}, max_len=5)


@pytest.mark.data
def test_reuters_audit_finds_what_is_there(reuters):
    train, validation = split_documents(reuters[0], share=0.1, seed=0)

    report = audit({"train": train, "validation": validation, "test": reuters[1]}, source="Reuters R8")
    whole = audit({"train": reuters[0], "test": reuters[1]})

    assert report["leaks"]["exact"][0]["count"] == 0
    assert (whole["leaks"]["exact"][0]["count"], whole["leaks"]["near"][0]["count"]) == (4, 5)
    assert whole["conflicts"]["count"] == 4
    assert "out of balance 69 to 1" in " ".join(report["warnings"])
    assert len(report["summary"]) == 4
