"""A file is what it was before or what it should be, never something in between."""

from pathlib import Path

import pytest

from regard.records import atomic_path, write_bytes, write_json


def test_content_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.json"
    write_json(target, {"a": [1, None]})
    assert target.read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'


def write_half(target: Path, error: BaseException) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), OSError(28, "stop"), ValueError("stop")])
def test_an_error_keeps_what_was_there(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file"
    write_bytes(target, b"before")
    with pytest.raises(type(error), match="stop"):
        write_half(target, error)
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    plain, atomic = tmp_path / "plain", tmp_path / "atomic"
    plain.write_bytes(b"x")
    write_bytes(atomic, b"x")
    assert atomic.stat().st_mode == plain.stat().st_mode
