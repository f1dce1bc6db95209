"""One pytest test per rule: passed, failed in the words of the report, or skipped with the reason."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from regard import RegardError
from regard.conformance import RULES
from regard.conformance.pytest import regard_conformance

SUBJECTS = """
import torch
from torch import nn
from regard.conformance.pytest import regard_conformance

CALLS = []

class Causal(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.linear, self.shift = nn.Linear(16, 48), shift

    def forward(self, x):
        query, key, value = self.linear(x).chunk(3, -1)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(self.shift)
        return (query @ key.mT / 4).masked_fill(hidden, -torch.inf).softmax(-1) @ value

def make_good():
    CALLS.append("good")
    return Causal(1)

def make_broken():
    return Causal(2)

def make_deviating():
    return nn.MultiheadAttention(16, 2, batch_first=True)
"""


FILES = {
    "test_good.py": """
test_attention = regard_conformance(make_good, fast=True, assume={"causal": True})

def test_the_model_was_made_once():
    assert CALLS == ["good"]
""",
    "test_deviating.py": """
test_attention = regard_conformance(make_deviating, fast=True, rules=["empty_rows"])
""",
    "test_nothing.py": """
test_attention = regard_conformance(lambda: None, rules=["scale"])
""",
    "test_broken.py": """
test_attention = regard_conformance(make_broken, rules=["causality", "determinism"], assume={"causal": True})
""",
    "test_option.py": """
import pytest
from regard.conformance import pytest as ours
asked, whole = [], ours.check

def recorded(*given, fast, **options):
    asked.append(fast)
    return whole(*given, fast=fast, **options)

@pytest.fixture(autouse=True, scope="module")
def recording():
    ours.check = recorded
    yield
    ours.check = whole

test_attention = regard_conformance(make_good, rules=["determinism"])

def test_it(request):
    assert asked == [request.config.getoption("--regard-fast")]
""",
}


def session(folder: Path, *arguments: str, only: str = "") -> str:
    """Run pytest on the files of a person, in a process of its own, and return what it says."""
    for name, tests in FILES.items():
        (folder / name).write_text(SUBJECTS + tests, encoding="utf-8")
    wanted = [name for name in FILES if only in name]
    command = [sys.executable, "-m", "pytest", "-p", "regard_pytest", "-p", "no:cacheprovider", "-v", "-rsP"]
    done = subprocess.run([*command, *arguments, *wanted], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what pytest says of all files, with warnings as errors."""
    return session(tmp_path_factory.mktemp("plain"), "-W", "error")


def outcomes(said: str, file: str) -> list[str]:
    return re.findall(rf"^{file}::\S+ (PASSED|FAILED|SKIPPED|ERROR)", said, re.MULTILINE)


def failure(said: str, test: str) -> list[str]:
    """Return the lines that pytest says of a test that failed."""
    _, _, rest = said.partition(f" {test} _")
    return re.split(r"^_{5,} ", rest, flags=re.MULTILINE)[0].splitlines()


def test_a_right_model_passes_or_skips_every_rule_and_is_made_once(plain: str) -> None:
    found = outcomes(plain, "test_good.py")

    assert set(found) == {"PASSED", "SKIPPED"}
    assert len(found) == len(RULES) + 1
    assert "test_good.py::test_attention[causality] PASSED" in plain
    assert "not applicable: it declares no soft cap" in plain


def test_a_broken_rule_fails_in_the_words_of_the_report(plain: str) -> None:
    assert sorted(outcomes(plain, "test_broken.py")) == ["FAILED", "PASSED"]
    matcher = pytest.LineMatcher(failure(plain, "test_attention[causality]"))
    matcher.fnmatch_lines(
        [
            "*BROKEN causality: the output at a position depends on the tokens up to it*",
            "*Seen: *leaks token*",
            "*Fix: *",
            "*To see it:*",
            "*make_broken()*",
        ]
    )
    matcher.no_fnmatch_line("*pytest.py:*")  # no traceback of ours


def test_a_deviation_that_pytorch_documents_passes_and_is_noted_without_a_warning(plain: str) -> None:
    assert outcomes(plain, "test_deviating.py") == ["PASSED"]
    pytest.LineMatcher(plain.splitlines()).fnmatch_lines(
        ["*Captured regard call*", "known deviation of PyTorch: *NaN*"]
    )


def test_without_the_option_checks_are_whole_and_with_it_fast(plain: str, tmp_path: Path) -> None:
    assert outcomes(plain, "test_option.py") == ["PASSED", "PASSED"]
    assert outcomes(session(tmp_path, "--regard-fast", only="option"), "test_option.py") == ["PASSED", "PASSED"]


def test_a_factory_that_makes_nothing_fails_with_a_sentence(plain: str) -> None:
    assert outcomes(plain, "test_nothing.py") == ["FAILED"]
    assert "must return a model, a module or an attention function, got None" in plain


def test_an_unknown_rule_is_refused_where_the_test_is_written() -> None:
    with pytest.raises(RegardError, match="got causalty; did you mean 'causality'"):
        regard_conformance(lambda: None, rules=["causalty"])


def test_pytest_starts_without_the_package_and_without_torch() -> None:
    code = "import sys, regard_pytest; sys.exit(bool({'regard', 'torch', 'pytest'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
