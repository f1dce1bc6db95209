import math
from pathlib import Path

import numpy as np
import pytest

from regard.diagnose import RULES, diagnose
from regard.records import HEAD_COLUMNS, Run, Severity

STATISTICS = ("normalized_entropy", "output_norm", "first_mass", "padding_mass", "saturated_share", "max_weight")
HEALTHY = {
    "residual_diversity": 0.8,
    "normalized_entropy": 0.6,
    "output_norm": 4.0,
    "first_mass": 0.1,
    "padding_mass": 0.0,
    "saturated_share": 0.02,
}


def healthy_events(run, num_steps=120):
    rng = np.random.default_rng(0)
    for step in range(1, num_steps + 1):
        loss = 2.0 * math.exp(-step / 40) + 0.1 * rng.random()
        run.event("step", step=step, loss=loss, grad_norm=1 + rng.random(), padding_share=0.1)
        if step % 10 == 1:
            layers = [{"layer": f"layer.{n}", "qk": 0.1, "vo": 0.4, "all": 0.5 + 0.1 * n} for n in range(6)]
            run.event("gradients", step=step, layers=layers)
        if step % 60 == 0:
            run.event("validation", step=step, epoch=step // 60, loss=0.5 / step, macro_f1=0.9)
    return run


def healthy_heads(num_steps=40):
    rng = np.random.default_rng(1)
    return {
        name: {
            (layer, head): (level * rng.uniform(0.8, 1.2, num_steps)).tolist()
            for layer in range(6)
            for head in range(4)
        }
        for name, level in HEALTHY.items()
    }


def test_healthy_run_has_no_finding_and_every_rule_is_judged(write_run):
    diagnosis = diagnose(healthy_events(write_run(healthy_heads())))

    assert diagnosis.findings == []
    assert diagnosis.not_judged == {}
    assert diagnosis.judged == [rule.id for rule in RULES]


def test_pretrained_heads_that_are_sharp_or_sinks_give_labels_only(write_run):
    heads = healthy_heads()
    heads["normalized_entropy"][0, 0] = [0.03] * 40
    heads["saturated_share"][0, 0] = [0.9] * 40
    heads["first_mass"][1, 1] = [0.8] * 40

    diagnosis = diagnose(healthy_events(write_run(heads)))

    assert {finding.rule for finding in diagnosis.findings} == {"entropy_collapse", "saturated_softmax", "sink_head"}
    assert {finding.severity for finding in diagnosis.findings} == {Severity.INFO}


def test_errors_come_before_warnings_before_labels_and_strong_before_weak(write_run):
    heads = healthy_heads()
    heads["padding_mass"][0, 0] = [0.1] * 40
    heads["first_mass"][1, 1] = [0.8] * 40
    heads["output_norm"][2, 0] = [4.0] * 20 + [0.01] * 20
    for head in range(3):
        heads["saturated_share"][head, 0] = [0.0] * 20 + [0.9] * 20

    findings = diagnose(healthy_events(write_run(heads))).findings

    assert [finding.rule for finding in findings] == ["padding_attended", "saturated_softmax", "dead_head", "sink_head"]


def test_empty_run_judges_nothing_and_says_why_for_each_rule(write_run):
    diagnosis = diagnose(write_run())

    assert diagnosis.findings == diagnosis.judged == []
    assert set(diagnosis.not_judged) == {rule.id for rule in RULES}
    assert all(diagnosis.not_judged.values())


def test_interrupted_run_with_parts_is_judged(write_run, four_heads):
    run = write_run({"normalized_entropy": four_heads(0.8, 0.02, 0.7)})

    assert (run.folder / "heads").is_dir()
    assert "entropy_collapse" in diagnose(Run.open(run.folder)).judged


def test_only_the_asked_rules_are_judged(write_run):
    assert set(diagnose(write_run(), rules=RULES[:2]).not_judged) == {rule.id for rule in RULES[:2]}


def test_nothing_is_written(write_run):
    run = healthy_events(write_run(healthy_heads()))
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}

    diagnose(run)

    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_findings_survive_the_round_trip_through_the_run_folder(write_run, four_heads):
    run = write_run({"normalized_entropy": four_heads(0.8, 0.02, 0.7)}, loss=[1.0, math.nan])
    diagnosis = diagnose(run)

    run.write_findings(diagnosis.findings)
    run.write("diagnosis", diagnosis.to_dict())

    assert Run.open(run.folder).findings() == diagnosis.findings
    content = run.read("diagnosis")
    assert [entry["rule"] for entry in content["judged"]] == diagnosis.judged
    assert {entry["rule"]: entry["reason"] for entry in content["not_judged"]} == diagnosis.not_judged
    assert all(entry["states"] for entry in [*content["judged"], *content["not_judged"]])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_states_cause_remedy_and_reference(rule):
    assert rule.id.islower()
    for text in (rule.states, rule.cause, rule.remedy):
        assert text.endswith((".", ")"))
    assert "arXiv:" in rule.reference


def test_rule_ids_differ():
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_every_rule_has_a_file_of_its_name():
    folder = Path(__file__).resolve().parents[2] / "src/regard/diagnose"

    assert all((folder / f"{rule.id}.py").exists() for rule in RULES)


def test_half_a_million_rows_are_judged_head_by_head(tmp_path):
    run = Run.create(tmp_path / "large", recipe="by hand")
    shape = (1200, 6, 12, len(STATISTICS))
    step, layer, head, statistic = (index.ravel() for index in np.indices(shape))
    level = np.array([0.6, 4.0, 0.1, 0.0, 0.0, 0.3])[statistic]
    collapsed = (statistic == 0) & (layer == 3) & (head == 5) & (step > 600)
    columns = dict.fromkeys(HEAD_COLUMNS, np.full(step.size, np.nan, dtype=np.float32))
    columns |= {
        "step": step + 1,
        "layer": np.array([f"encoder.layer.{n}.attention" for n in range(6)], dtype=object)[layer],
        "head": head,
        "statistic": np.array(STATISTICS, dtype=object)[statistic],
        "mean": np.where(collapsed, 0.01, level),
        "num_rows": np.full(step.size, 64),
        "num_empty_rows": np.zeros(step.size, dtype=int),
    }
    run.heads.append(columns)

    diagnosis = diagnose(run)

    assert step.size > 500_000
    (finding,) = diagnosis.findings
    assert (finding.rule, finding.where) == ("entropy_collapse", ["encoder.layer.3.attention head 5"])
    assert finding.evidence[0].step == 602
