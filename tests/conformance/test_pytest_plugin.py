"""One pytest test per rule: passed, failed in the words of the report, or skipped with the reason."""

import subprocess
import sys

import pytest

from regard import RegardError
from regard.conformance import RULES
from regard.conformance.pytest import regard_conformance

pytest_plugins = ["pytester"]

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


def run(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(SUBJECTS + tests)
    return pytester.runpytest_subprocess("-p", "regard_pytest", "-p", "no:cacheprovider", "-v", "-rs", *arguments)


def test_a_right_model_passes_or_skips_every_rule_and_is_made_once(pytester: pytest.Pytester) -> None:
    tests = """
test_attention = regard_conformance(make_good, fast=True, assume={"causal": True})

def test_the_model_was_made_once():
    assert CALLS == ["good"]
"""
    result = run(pytester, tests)
    outcomes = result.parseoutcomes()

    assert result.ret == 0
    assert outcomes["passed"] + outcomes["skipped"] == len(RULES) + 1
    result.stdout.fnmatch_lines(["*::test_attention[[]causality] PASSED*"])
    result.stdout.fnmatch_lines(["SKIPPED*not applicable: it declares no soft cap"])


def test_a_broken_rule_fails_in_the_words_of_the_report(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        'test_attention = regard_conformance(make_broken, rules=["causality", "determinism"], assume={"causal": True})',
        "--regard-fast",
    )

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*BROKEN causality: the output at a position depends on the tokens up to it*",
            "*Seen: *leaks token*",
            "*Fix: *",
            "*To see it:*",
            "*make_broken()*",
        ]
    )
    result.stdout.no_fnmatch_line("*pytest.py:*")  # no traceback of ours


def test_a_deviation_that_pytorch_documents_passes_and_is_noted_without_a_warning(pytester: pytest.Pytester) -> None:
    tests = 'test_attention = regard_conformance(make_deviating, fast=True, rules=["empty_rows"])'
    result = run(pytester, tests, "-rP", "-W", "error")

    result.assert_outcomes(passed=1, warnings=0)
    result.stdout.fnmatch_lines(["*Captured regard call*", "known deviation of PyTorch: *NaN*"])


@pytest.mark.parametrize(("option", "said"), [((), False), (("--regard-fast",), True)])
def test_the_option_makes_every_check_fast(pytester: pytest.Pytester, option: tuple[str, ...], said: bool) -> None:
    tests = """
from regard.conformance import pytest as ours
asked, whole = [], ours.check

def recorded(*given, fast, **options):
    asked.append(fast)
    return whole(*given, fast=fast, **options)

ours.check = recorded
test_attention = regard_conformance(make_good, rules=["determinism"])

def test_it():
    assert asked == [%s]
"""
    run(pytester, tests % said, *option).assert_outcomes(passed=2)


def test_a_factory_that_makes_nothing_fails_with_a_sentence(pytester: pytest.Pytester) -> None:
    result = run(pytester, 'test_attention = regard_conformance(lambda: None, rules=["scale"])')

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*must return a model, a module or an attention function, got None*"])


def test_an_unknown_rule_is_refused_where_the_test_is_written() -> None:
    with pytest.raises(RegardError, match="got causalty; did you mean 'causality'"):
        regard_conformance(lambda: None, rules=["causalty"])


def test_pytest_starts_without_the_package_and_without_torch() -> None:
    code = "import sys, regard_pytest; sys.exit(bool({'regard', 'torch', 'pytest'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
