"""A run folder is whole at every moment, and is refused in one sentence where it is not."""

import json
from pathlib import Path

import pytest

from regard import RegardError
from regard.records import SCHEMA_VERSION, Evidence, Finding, ReadinessItem, Run, Severity, Status, Verdict

FINDING = Finding(
    rule="dead_head",
    severity=Severity.WARNING,
    title="A head adds nothing",
    cause="its output is near zero",
    remedy="prune it",
    where=["layer.0 head 3"],
    evidence=[Evidence(source="heads", statistic="output_norm", value=0.001, threshold=0.05, step=7)],
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", recipe="test", config={"optim": {"lr": 1e-4}}, seeds={"seed": 0})


def test_a_run_opens_as_it_was_written(run: Run) -> None:
    run.update(status=Status.FINISHED, wall_s=1.5)
    opened = Run.open(run.folder)
    assert opened.info == run.info
    assert opened.finished
    assert opened.info.schema_version == SCHEMA_VERSION


def test_a_folder_with_a_run_is_not_overwritten(run: Run) -> None:
    with pytest.raises(RegardError, match="with a run; open it or name another"):
        Run.create(run.folder, recipe="other")
    assert Run.open(run.folder).info.recipe == "test"


def test_events_are_read_in_order_and_by_name(run: Run) -> None:
    run.event("step", step=1, loss=0.5)
    run.event("checkpoint", step=1)
    run.event("step", step=2, loss=float("nan"), level="error")
    assert [event["event"] for event in run.events()] == ["step", "checkpoint", "step"]
    last = list(run.events("step"))[-1]
    assert (last["step"], last["loss"], last["level"]) == (2, None, "error")


def test_a_line_torn_by_a_kill_is_left_out(run: Run) -> None:
    run.event("step", step=1)
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "step", "st')
    assert [event["step"] for event in run.events()] == [1]


def test_a_damaged_line_is_named(run: Run) -> None:
    (run.folder / "events.jsonl").write_bytes(b'{"event": "a"}\nnonsense\n{"event": "b"}\n')
    with pytest.raises(RegardError, match=r"events\.jsonl line 2 must be a JSON object"):
        list(run.events())


def test_truncating_forgets_later_steps_and_keeps_what_has_no_step(run: Run) -> None:
    run.event("data")
    for step in (1, 2, 3):
        run.event("step", step=step)
    run.truncate(2)
    assert [event.get("step") for event in run.events()] == [None, 1, 2]


def test_findings_and_readiness_survive_a_round_trip(run: Run) -> None:
    item = ReadinessItem(id="x", section="data", title="t", verdict=Verdict.NOT_DONE, evidence="e")
    run.write_findings([FINDING])
    run.write_readiness([item])
    assert run.findings() == [FINDING]
    assert run.readiness() == [item]


@pytest.mark.parametrize("content", ["[{}]", "3", '[{"rule": 1}]'])
def test_damaged_records_are_refused(run: Run, content: str) -> None:
    (run.folder / "findings.json").write_text(content)
    with pytest.raises(RegardError, match=r"findings\.json must hold records of regard"):
        run.findings()


def test_a_missing_file_says_what_is_needed(run: Run) -> None:
    with pytest.raises(RegardError, match=r"needs metrics\.json of a run, got no file"):
        run.read("metrics")
    assert not run.has("metrics")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RegardError, match=r"run\.json is needed, got no file"):
        Run.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "must hold JSON"),
        ("[]", "schema version 1, got None"),
        ('{"schema_version": 99}', "schema version 1, got 99"),
        ('{"schema_version": 1, "name": "x"}', "does not hold a run: recipe"),
    ],
)
def test_a_damaged_or_foreign_run_is_refused(run: Run, content: str, message: str) -> None:
    (run.folder / "run.json").write_text(content)
    with pytest.raises(RegardError, match=message):
        Run.open(run.folder)


def test_a_failed_write_keeps_the_file_before(run: Run) -> None:
    run.write("metrics", {"accuracy": 1})
    with pytest.raises(TypeError):
        run.write("metrics", {"accuracy": object()})
    assert json.loads((run.folder / "metrics.json").read_text()) == {"accuracy": 1}
    assert not list(run.folder.glob(".*"))
