"""checks.json says what was proved, and is refused in one sentence where it does not."""

from pathlib import Path

import orjson
import pytest

from regard import RegardError
from regard.records import CheckCase, CheckedRule, Checks, CheckVerdict, Run


def rule(name: str, verdict: CheckVerdict, **fields: object) -> CheckedRule:
    return CheckedRule(rule=name, title="t", law="l", verdict=verdict, summary="s", **fields)


CHECKS = Checks(
    subject="Bert",
    kind="model",
    target="runs/demo/model",
    ok=False,
    seed=3,
    fast=True,
    assumptions=["causal = True (you said so)"],
    rules=[
        rule("causality", CheckVerdict.FAIL, measured=0.5, tolerance=1e-7, case=CheckCase(length=2, layer="a", head=1)),
        rule("scale", CheckVerdict.PASS),
    ],
    seconds=1.5,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", recipe="test")


def test_checks_survive_the_run_folder(run: Run) -> None:
    path = run.write_checks(CHECKS)

    assert path == run.folder / "checks.json"
    assert Run.open(run.folder).checks() == Checks.load(path) == CHECKS


def test_verdicts_are_written_as_words(run: Run) -> None:
    content = orjson.loads(run.write_checks(CHECKS).read_bytes())

    assert content["schema_version"] == 1
    assert [one["verdict"] for one in content["rules"]] == ["fail", "pass"]


def test_a_case_is_told_by_what_is_known_of_it() -> None:
    assert CheckCase(length=3, layer="encoder.1", head=0, query=0, key=2).words() == (
        "3 tokens, layer encoder.1, head 0, query 0, key 2"
    )
    assert CheckCase(layer="the module", stream="decoder").words() == "input decoder, the module"
    assert CheckCase().words() == ""


def test_rules_are_found_by_their_verdict() -> None:
    assert [one.rule for one in CHECKS.rules_with(CheckVerdict.FAIL)] == ["causality"]
    assert CHECKS.rules_with(CheckVerdict.DEVIATION) == []


def test_headline_names_the_first_broken_rule_or_counts_what_was_proved() -> None:
    whole = CHECKS.model_copy(update={"rules": [CHECKS.rules[1], rule("softmax", CheckVerdict.NOT_TESTED)]})

    assert CHECKS.headline() == "Bert (model): 1 rule is broken, first of all causality."
    assert whole.headline() == "Bert (model): no rule is broken, 1 rule is proved, 1 could not be tested."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "must hold JSON"),
        (b"[]", "schema version 1, got None"),
        (b'{"schema_version": 2}', "schema version 1, got 2; open it with the version of regard that wrote it"),
        (b'{"schema_version": 1}', "does not hold the result of a check: subject: Field required"),
    ],
)
def test_damaged_or_foreign_checks_are_refused(run: Run, content: bytes, message: str) -> None:
    (run.folder / "checks.json").write_bytes(content)

    with pytest.raises(RegardError, match=message):
        run.checks()


def test_absent_checks_say_what_writes_them(run: Run) -> None:
    with pytest.raises(RegardError, match="`regard check --out` wrote is needed, got no file"):
        run.checks()
