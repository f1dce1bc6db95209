"""What must hold for every tracked file."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 500
POSTPONED = re.compile(
    "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error", "pragma: no " + "cover"))
)
MACHINE_PATH = re.compile(r"(?<![\w.~*\])}-])/(?:home|root|Users|work|opt|tmp|mnt)/[\w.]")
VAGUE_NAMES = {"common.py", "helpers.py", "misc.py", "util.py", "utils.py"}


def tracked() -> list[Path]:
    """List the files of the repository: tracked, or new and not ignored; in a plain copy without git, all sources."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listing.stdout.splitlines()
    if listing.returncode:
        names = [
            path.relative_to(ROOT).as_posix() for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py")
        ]
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]


def lines_with(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]


def test_the_repository_is_found():
    assert ROOT / "pyproject.toml" in FILES or ROOT / "src/regard/__init__.py" in FILES


def test_nothing_is_postponed_in_the_source():
    assert lines_with(POSTPONED, [path for path in PYTHON if "src" in path.parts]) == []


def test_no_file_knows_a_machine():
    assert lines_with(MACHINE_PATH, [path for path in FILES if path.suffix != ".png"]) == []


def test_no_python_file_is_longer_than_a_person_reads():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON}

    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_no_file_is_named_after_nothing():
    assert [path for path in PYTHON if path.name in VAGUE_NAMES] == []


def test_no_large_file_is_tracked():
    assert [path for path in FILES if path.stat().st_size > 1_000_000] == []


@pytest.mark.parametrize("name", ["skip", "xfail", "importorskip"])
def test_every_skip_says_why(name):
    silent = []
    for path in PYTHON:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (f"pytest.{name}", f"pytest.mark.{name}"):
                said = node.args or any(word.arg == "reason" for word in node.keywords)
                silent += [] if said else [f"{path.relative_to(ROOT)}:{node.lineno}"]

    assert silent == []
