"""One long text: read whole, cut into consecutive splits, and read on in windows that miss nothing."""

import gzip
from pathlib import Path

import pytest

from regard import RegardError
from regard.data import WindowBatches, consecutive_windows, load_running_text, split_text


def test_a_file_and_a_folder_are_read_whole(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("zwei\n", encoding="utf-8")
    with gzip.open(tmp_path / "a.txt.gz", "wt", encoding="utf-8") as file:
        file.write("eins ä\n")
    (tmp_path / "notes.md").write_text("no", encoding="utf-8")
    assert load_running_text(tmp_path / "a.txt.gz").text == "eins ä\n"
    found = load_running_text(tmp_path)
    assert (found.text, found.name) == ("eins ä\nzwei\n", tmp_path.name)
    assert [Path(file).name for file in found.files] == ["a.txt.gz", "b.txt"]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegardError, match=r"files that end in \.txt, got none"):
        load_running_text(tmp_path)
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(RegardError, match="nothing but white space"):
        load_running_text(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("eins\nübel".encode("latin-1"))
    with pytest.raises(RegardError, match="UTF-8 text, got other bytes in line 2"):
        load_running_text(tmp_path / "latin.txt")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"a long text" * 99)[:-9])
    with pytest.raises(RegardError, match="whole compressed file, got a damaged one"):
        load_running_text(tmp_path / "cut.txt.gz")
    with pytest.raises(RegardError, match=r"got no file at .*emty\.txt; did you mean"):
        load_running_text(tmp_path / "emty.txt")


def test_the_splits_are_the_text_in_its_order() -> None:
    text = "".join(chr(97 + number % 26) for number in range(1000))
    splits = split_text(text, validation_share=0.05, test_share=0.1)
    assert "".join(splits[name] for name in ("train", "validation", "test")) == text
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [850, 50, 100]
    with pytest.raises(RegardError, match=r"train, validation and test, got 0\.5 and 0\.5 of 1000"):
        split_text(text, validation_share=0.5, test_share=0.5)


@pytest.mark.parametrize(
    ("validation", "test", "lengths"),
    [
        (0.0, 0.1, {"train": 900, "test": 100}),
        (0.1, 0.0, {"train": 900, "validation": 100}),
        (0.0, 0.0, {"train": 1000}),
    ],
)
def test_a_part_without_a_share_is_left_to_the_others(validation: float, test: float, lengths: dict[str, int]) -> None:
    splits = split_text("x" * 1000, validation_share=validation, test_share=test)
    assert {name: len(part) for name, part in splits.items()} == lengths


@pytest.mark.parametrize("shares", [(0.6, 0.6), (-0.1, 0.2), (1.0, 0.0)])
def test_shares_that_leave_a_part_empty_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(RegardError, match="must leave characters for train, validation and test"):
        split_text("x" * 1000, validation_share=shares[0], test_share=shares[1])


@pytest.mark.parametrize(("num_tokens", "window", "batch_size"), [(100, 10, 4), (107, 10, 4), (33, 16, 1)])
def test_windows_of_an_epoch_meet_no_token_twice_and_stay_inside(num_tokens: int, window: int, batch_size: int) -> None:
    batches = WindowBatches(num_tokens, window=window, batch_size=batch_size, seed=3)
    places = set()
    for epoch in range(8):
        found = batches.batches(epoch)
        assert found == batches.batches(epoch)
        assert len(found) == len(batches.batches(0))
        starts = [start for batch in found for start in batch]
        tokens = [token for start in starts for token in range(start, start + window)]
        assert len(set(tokens)) == len(tokens)
        assert min(tokens) >= 0
        assert max(tokens) + 1 < num_tokens  # each has a token to predict
        assert len(tokens) > num_tokens - 2 * window - 1
        places.add(min(starts) % window)
    assert len(places) > 1


def test_consecutive_windows_predict_every_token_but_the_first_once() -> None:
    for num_tokens, window in ((100, 10), (101, 10), (5, 16), (2, 1)):
        windows = consecutive_windows(num_tokens, window)
        predicted = [token + 1 for first, last in windows for token in range(first, last)]
        assert predicted == list(range(1, num_tokens))
    with pytest.raises(RegardError, match="two tokens or more to be predicted, got 1"):
        consecutive_windows(1, 4)


def test_windows_that_cannot_be_are_refused() -> None:
    with pytest.raises(RegardError, match="at least 1, got 0 and 4"):
        WindowBatches(100, window=0, batch_size=4)
    with pytest.raises(RegardError, match="two windows of 50 tokens and one more, got 100"):
        WindowBatches(100, window=50, batch_size=4)
