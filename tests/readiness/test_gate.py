import re
import subprocess
import sys
from copy import deepcopy

import pytest

from regard._errors import ArgumentError, RecordError
from regard.readiness import checklist, judge, verdict
from regard.records import (
    CheckedRule,
    Checks,
    CheckVerdict,
    Evidence,
    Finding,
    ReadinessItem,
    Run,
    Severity,
    Status,
    Verdict,
)

LATER = {
    "lifecycle.concept_drift",
    "lifecycle.data_drift",
    "lifecycle.exported",
    "lifecycle.forgetting",
    "performance.profiled",
    "training.tuned",
}

INFO = {
    "status": Status.FINISHED,
    "config": {"data": {"source": "table", "max_test": None}},
    "seeds": {"seed": 0},
    "versions": {"python": "3.12.1", "regard": "0.1.0", "torch": "2.13.0"},
    "device": {"type": "cpu", "name": "a processor", "precision": "bfloat16"},
    "kernels": {"_scaled_dot_product_flash_attention_for_cpu": 40},
    "coverage": [
        {"layer": "encoder.layer.0.attention", "seen": True, "calls": 20, "reason": None},
        {"layer": "encoder.layer.1.attention", "seen": True, "calls": 20, "reason": None},
    ],
    "git_commit": "0123456789abcdef0123",
}


def _split(num_rows, ships):
    return {
        "num_rows": num_rows,
        "num_empty": 0,
        "labels": {"earn": num_rows - ships, "ship": ships},
        "truncated_share": 0.05,
    }


def _leaks(count):
    pairs = [("train", "validation", 50), ("train", "test", 200), ("validation", "test", 200)]
    return [{"splits": [a, b], "count": count, "share_of_test": count / rows} for a, b, rows in pairs]


def _interval(value, half_width=0.01):
    return {"value": value, "low": value - half_width, "high": value + half_width, "note": None}


def _score(name, kind, accuracy):
    names = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "auc_roc")
    metrics = {metric: _interval(accuracy) for metric in names}
    return {"name": name, "kind": kind, "metrics": {**metrics, "calibration_error": _interval(0.02)}, "details": {}}


def _checks(*verdicts):
    rules = [
        CheckedRule(rule=f"law{number}", title="t", law="l", verdict=verdict, summary=f"seen {number}")
        for number, verdict in enumerate(verdicts)
    ]
    ok = CheckVerdict.FAIL not in verdicts
    checks = Checks(subject="Bert", kind="model", ok=ok, seed=0, fast=True, rules=rules, seconds=1.0)
    return checks.model_dump(mode="json")


COMPARISON = {
    "models": ["transformer", "lstm"],
    "seeds": [0, 1, 2],
    "against": [
        {
            "other": "lstm",
            "title": "Accuracy",
            "difference": {"value": 0.02, "low": 0.01, "high": 0.03},
            "winner": "transformer",
        }
    ],
}

FILES = {
    "comparison": COMPARISON,
    "checks": _checks(CheckVerdict.PASS, CheckVerdict.NOT_APPLICABLE),
    "audit": {
        "source": {"name": "news", "files": ["news.csv"]},
        "splits": {"train": _split(450, 40), "validation": _split(50, 5), "test": _split(200, 18)},
        "leaks": {"exact": _leaks(0), "near": _leaks(1)},
        "max_len": 256,
        "warnings": ["1 document of validation is in train nearly."],
    },
    "split": {
        "train": {"rows": [[1, 100], [151, 500]]},
        "validation": {"rows": [[101, 150]]},
        "test": {"rows": [[501, 700]]},
    },
    "metrics": {
        "split": "test",
        "num_rows": 200,
        "metric_order": ["accuracy"],
        "models": [
            _score("MiniLM", "model", 0.98),
            _score("TF-IDF + linear model", "baseline", 0.95),
            _score("majority class", "baseline", 0.90),
        ],
        "per_class": [
            {"label": "earn", "precision": 0.99, "recall": 0.99, "f1": 0.99, "support": 182},
            {"label": "ship", "precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 18},
        ],
        "comparison": {
            "against": "TF-IDF + linear model",
            "metric": "accuracy",
            "difference": 0.03,
            "low": 0.01,
            "high": 0.05,
        },
    },
    "repeat": {"identical": True, "against": "runs/second"},
}

EVENTS = [
    {"event": "step", "step": 1, "loss": 0.7, "grad_norm": 2.0, "tokens": 950, "padding_share": 0.05},
    {"event": "step", "step": 2, "loss": 0.2, "grad_norm": 1.0, "tokens": 980, "padding_share": 0.02},
    {"event": "validation", "step": 1, "epoch": 1, "accuracy": 0.94},
    {"event": "validation", "step": 2, "epoch": 2, "accuracy": 0.97},
]


def _finding(severity):
    evidence = [Evidence(source="heads", statistic="entropy", value=0.01)]
    return Finding(rule="r", severity=severity, title="A head is dead", cause="c", remedy="m", evidence=evidence)


class Healthy:
    """The records of a run that passes whatever can pass; a test breaks one thing and writes it."""

    def __init__(self):
        self.info, self.files, self.events = deepcopy(INFO), deepcopy(FILES), deepcopy(EVENTS)
        self.findings = [_finding(Severity.WARNING)]

    def write(self, folder):
        run = Run.create(folder, recipe="text-classifier", **self.info)
        for name, content in self.files.items():
            run.write(name, content)
        for event in self.events:
            run.event(**event)
        if self.findings is not None:
            run.write_findings(self.findings)
        return run


def _answers(records, tmp_path):
    return {item.id: item for item in judge(records.write(tmp_path / "run"))}


def _audit(path, value):
    def fault(records):
        place = records.files["audit"]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return fault


def _model(metric, value):
    def fault(records):
        records.files["metrics"]["models"][0]["metrics"][metric] = value

    return fault


def _comparison(difference, low, high):
    def fault(records):
        records.files["metrics"]["comparison"].update(difference=difference, low=low, high=high)

    return fault


def _info(**fields):
    return lambda records: records.info.update(fields)


def _rarest(**fields):
    return lambda records: records.files["metrics"]["per_class"][1].update(fields)


def _event(index, **fields):
    return lambda records: records.events[index].update(fields)


def _findings(*severities):
    def fault(records):
        records.findings = [_finding(severity) for severity in severities]

    return fault


def _metrics(**fields):
    return lambda records: records.files["metrics"].update(fields)


UNSEEN = {"layer": "encoder.layer.2.attention", "seen": False, "calls": 0, "reason": "it computes its own softmax"}
UNDEFINED = {"value": None, "low": None, "high": None, "note": "undefined: no row of 'ship'"}


def _naive_is_level(records):
    records.info["task"] = "forecasting"
    records.files["metrics"]["comparison"]["low"] = -0.01


FAULTS = [
    ("model.beats_naive", _naive_is_level, r"\+0.03 in accuracy against TF-IDF"),
    ("data.audited", _audit(("splits", "validation", "num_rows"), 0), "no rows in validation"),
    (
        "data.disjoint",
        lambda r: r.files["split"]["validation"].update(rows=[[100, 149]]),
        "1 rows are both in train and",
    ),
    (
        "data.disjoint",
        lambda r: r.files["split"]["test"].update(rows=[[491, 700]]),
        "10 rows are both in train and in test",
    ),
    ("data.test_untouched", _metrics(num_rows=199), "199 rows were scored, but the test split has 200"),
    ("data.test_untouched", _metrics(split="validation"), "figures are of the validation split"),
    ("data.exact_leaks", _audit(("leaks", "exact"), _leaks(2)), r"2 of test stand word for word in train \(1.00%\)"),
    ("data.near_leaks", _audit(("leaks", "near"), _leaks(5)), r"5 of validation stand nearly .* in train \(10.00%\)"),
    ("data.every_class", _audit(("splits", "test", "labels"), {"earn": 200}), "no row of 'ship' in test"),
    ("data.every_class", _audit(("splits", "train", "labels", "ship"), 0), "no row of 'ship' in train"),
    ("data.no_empty_rows", _audit(("splits", "train", "num_empty"), 3), "3 in train"),
    ("data.truncation", _audit(("splits", "test", "truncated_share"), 0.3), "test 30.0%"),
    ("model.beats_majority", _model("accuracy", _interval(0.91)), r"0.9100 .* against 0.9000"),
    ("model.beats_baseline", _comparison(-0.01, -0.02, 0.0), "ship the baseline"),
    ("model.beats_baseline", _comparison(0.001, -0.006, 0.008), "worse by half a point is not ruled out"),
    ("training.finished", _info(status=Status.FAILED, message="loss nan"), "'failed': loss nan"),
    ("training.finite", _event(1, loss=float("nan")), "not a number in 1 steps, first at step 2"),
    ("training.finite", _event(0, grad_norm=float("inf")), "first at step 1"),
    ("training.last_is_best", _event(3, accuracy=0.90), "0.9000 at the end, at best 0.9400 in 2 looks"),
    ("training.healthy", _findings(Severity.ERROR), "1 error: A head is dead"),
    ("evaluation.complete", _model("auc_roc", UNDEFINED), r"auc_roc \(undefined: no row of 'ship'\)"),
    (
        "evaluation.complete",
        lambda r: r.files["metrics"]["models"][0]["metrics"].pop("macro_f1"),
        "macro_f1 .not computed",
    ),
    ("evaluation.complete", _model("accuracy", {**_interval(0.98), "low": None}), r"accuracy \(no interval\)"),
    ("evaluation.calibrated", _model("calibration_error", _interval(0.08)), "0.0800, at most 0.05"),
    ("evaluation.rarest_class", _rarest(recall=0.4), "'ship', 18 test rows, has recall 0.400"),
    ("evaluation.rarest_class", _rarest(support=0, recall=0.9), "'ship', 0 test rows"),
    (
        "attention.seen",
        lambda r: r.info["coverage"].append(UNSEEN),
        "1 of 3 attention layers .*layer.2.attention: it computes its own",
    ),
    (
        "attention.laws",
        lambda r: r.files.update(checks=_checks(CheckVerdict.FAIL, CheckVerdict.PASS)),
        "broken: law0, of 2 laws; seen 0",
    ),
    ("performance.fused", _info(kernels={"math": 4, "flash": 36}), "36 of 40 attention calls"),
    ("performance.padding", _event(0, padding_share=0.5), "33.4% of what the model computed"),
    ("reproducibility.seeds", _info(seeds={}), "records no seed"),
    ("reproducibility.config", _info(config={}), "does not hold the recipe's settings"),
    ("reproducibility.environment", _info(versions={"python": "3.12"}), "the version of regard, the version of torch"),
    ("reproducibility.environment", _info(device={"type": "cpu"}), "the device's precision"),
    ("reproducibility.repeated", lambda r: r.files["repeat"].update(identical=False), "different from runs/second"),
]

GAPS = [
    ("data.test_untouched", _info(config={"data": {"max_test": 200}}), "kept only 200 test rows"),
    ("data.exact_leaks", _audit(("leaks", "exact"), []), "no two splits were compared"),
    ("data.truncation", _audit(("splits", "test", "truncated_share"), None), "did not count tokens"),
    ("model.beats_majority", lambda r: r.files["metrics"]["models"].pop(), "lacks the accuracy of the majority class"),
    ("model.beats_baseline", _metrics(comparison=None), "no baseline is in the table"),
    ("model.beats_baseline", _comparison(0.03, None, None), "has no interval"),
    (
        "model.compared",
        lambda r: r.files.pop("comparison"),
        "other architectures were not tried .* run `regard compare`",
    ),
    ("training.finished", _info(status=Status.INTERRUPTED, message="Ctrl-C"), "'interrupted': Ctrl-C; start the same"),
    ("training.last_is_best", lambda r: [e.pop("accuracy", None) for e in r.events], "no look .* has an accuracy"),
    (
        "evaluation.calibrated",
        _model("calibration_error", {**UNDEFINED, "note": "not probabilities"}),
        "not probabilities",
    ),
    ("evaluation.rarest_class", _metrics(per_class=[]), "no table per class"),
    ("attention.seen", _info(coverage=[]), "train with watch on"),
    ("attention.laws", lambda r: r.files.pop("checks"), "run `regard check` on this folder with --out"),
    (
        "attention.laws",
        lambda r: r.files.update(checks=_checks(CheckVerdict.PASS, CheckVerdict.NOT_TESTED)),
        "laws proved on Bert by the fast check: 1; could not be tested: law1: seen 1",
    ),
    (
        "attention.laws",
        lambda r: r.files.update(checks=_checks(CheckVerdict.NOT_APPLICABLE)),
        "no law could be proved on Bert",
    ),
    ("performance.fused", _info(kernels={}), "train with watch on"),
    ("performance.padding", lambda r: [e.pop("padding_share", None) for e in r.events], "no step records"),
    ("reproducibility.commit", _info(git_commit=None), "outside a git repository"),
    ("reproducibility.repeated", lambda r: r.files.pop("repeat"), "was not repeated"),
]


def test_healthy_run_passes_whatever_this_version_can_judge(tmp_path):
    answers = _answers(Healthy(), tmp_path)
    undone = {name for name, item in answers.items() if item.verdict is Verdict.NOT_DONE}
    assert undone == LATER
    assert {item.verdict for name, item in answers.items() if name not in LATER} == {Verdict.PASS}
    assert all("this version of regard" in answers[name].evidence for name in LATER)


@pytest.mark.parametrize(("item", "fault", "evidence"), FAULTS)
def test_seeded_fault_fails_its_item_and_says_why(item, fault, evidence, tmp_path):
    records = Healthy()
    fault(records)
    answer = _answers(records, tmp_path)[item]
    assert answer.verdict is Verdict.FAIL
    assert re.search(evidence, answer.evidence)


@pytest.mark.parametrize(("item", "gap", "evidence"), GAPS)
def test_missing_evidence_leaves_its_item_undone_and_says_why(item, gap, evidence, tmp_path):
    records = Healthy()
    gap(records)
    answer = _answers(records, tmp_path)[item]
    assert answer.verdict is Verdict.NOT_DONE
    assert re.search(evidence, answer.evidence)


def test_every_item_that_can_pass_has_a_fault_or_a_gap():
    tried = {item for item, *_ in [*FAULTS, *GAPS]}
    assert tried == {item.id for _, item in checklist()} - LATER


def test_comparison_is_told_with_its_intervals(tmp_path):
    evidence = _answers(Healthy(), tmp_path)["model.compared"].evidence

    assert evidence == "transformer, 3 seeds: Accuracy against lstm +0.0200 [+0.0100, +0.0300], transformer"


def test_fault_fails_nothing_but_what_it_breaks(tmp_path):
    records = Healthy()
    records.info["seeds"] = {}
    failed = {name for name, item in _answers(records, tmp_path).items() if item.verdict is Verdict.FAIL}
    assert failed == {"reproducibility.seeds"}


def test_model_level_with_its_baseline_passes_and_says_that_it_may_be_chance(tmp_path):
    records = Healthy()
    _comparison(0.002, -0.004, 0.008)(records)
    answer = _answers(records, tmp_path)["model.beats_baseline"]
    assert answer.verdict is Verdict.PASS
    assert "this may be chance" in answer.evidence


def test_rows_of_a_test_file_of_its_own_are_not_rows_of_train(tmp_path):
    records = Healthy()
    records.files["audit"]["source"]["files"] = ["train.csv", "test.csv"]
    records.files["split"]["test"]["rows"] = [[1, 200]]
    answer = _answers(records, tmp_path)["data.disjoint"]
    assert (answer.verdict, "a file of its own" in answer.evidence) == (Verdict.PASS, True)


def test_splits_that_name_their_files_are_compared_within_a_file(tmp_path):
    records = Healthy()
    records.files["audit"]["source"]["files"] = ["train.en", "val.en", "test.en"]
    for name, file in (("train", "train.en"), ("validation", "val.en"), ("test", "test.en")):
        records.files["split"][name] = {"rows": [[1, 50]], "files": [file]}
    answer = _answers(records, tmp_path)["data.disjoint"]
    assert (answer.verdict, answer.evidence) == (Verdict.PASS, "train, validation, test are files of their own")


def test_a_row_in_two_splits_of_one_file_is_found_beside_a_test_file(tmp_path):
    records = Healthy()
    for name, file in (("train", "train.en"), ("test", "test.en")):
        records.files["split"][name] = {"rows": [[1, 50]], "files": [file]}
    records.files["split"]["validation"] = {"rows": [[50, 90]], "files": ["train.en"]}
    answer = _answers(records, tmp_path)["data.disjoint"]
    assert (answer.verdict, answer.evidence) == (Verdict.FAIL, "1 rows are both in train and in validation")


@pytest.mark.parametrize(
    ("file", "section"), [("audit", "data.audited"), ("metrics", "evaluation.complete"), ("split", "data.disjoint")]
)
def test_absent_file_leaves_its_items_undone(file, section, tmp_path):
    records = Healthy()
    del records.files[file]
    answer = _answers(records, tmp_path)[section]
    assert answer.verdict is Verdict.NOT_DONE
    assert answer.evidence.startswith(f"{file}.json is absent; the training job writes it")


def test_absent_findings_name_the_command(tmp_path):
    records = Healthy()
    records.findings = None
    assert "run `regard diagnose`" in _answers(records, tmp_path)["training.healthy"].evidence


def test_empty_run_fails_nothing_that_it_had_no_time_for(tmp_path):
    run = Run.create(tmp_path / "run", recipe="text-classifier", **{**INFO, "status": Status.RUNNING})
    answers = {item.id: item for item in judge(run)}
    assert not [item for item in answers.values() if item.verdict is Verdict.FAIL]
    assert "this run is running: let it come to its end" in answers["data.audited"].evidence
    assert verdict(list(answers.values()))[0] == "incomplete"


def test_every_item_links_to_a_file_that_the_run_holds(tmp_path):
    run = Healthy().write(tmp_path / "run")
    for item in judge(run):
        assert item.verdict is Verdict.NOT_DONE or (run.folder / item.link).is_file()


def test_ids_and_titles_differ_from_one_another():
    items = [item for _, item in checklist()]
    assert len({item.id for item in items}) == len({item.title for item in items}) == len(items)


def test_answers_survive_the_run_folder(tmp_path):
    run = Healthy().write(tmp_path / "run")
    items = judge(run)
    run.write_readiness(items)
    assert Run.open(run.folder).readiness() == items


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("audit", {}, "audit.json must hold 'splits'"),
        ("audit", [], "audit.json must hold a JSON object, got list"),
        ("metrics", {**FILES["metrics"], "models": []}, "trained model's scores first"),
        ("metrics", {**FILES["metrics"], "models": [{"name": 3}]}, "metrics.json must hold a list of model scores"),
        ("findings", [{"rule": 3}], "findings.json must hold records of regard"),
        ("checks", {"schema_version": 9}, "checks.json must have schema version 1, got 9"),
        ("split", {"train": {}, "validation": {}}, "split.json must hold 'rows'"),
    ],
)
def test_damaged_file_is_refused_in_one_sentence(file, content, match, tmp_path):
    run = Healthy().write(tmp_path / "run")
    run.write(file, content)
    with pytest.raises(RecordError, match=match):
        judge(run)


def _item(word, title):
    return ReadinessItem(id=title, section="s", title=title, verdict=word, evidence="e")


def test_one_failure_makes_the_run_not_ready():
    items = [_item("pass", "One"), _item("not done", "Two"), _item("fail", "Three")]
    assert verdict(items) == ("not ready", "1 of 3 items passed, 1 failed (Three), 1 not done.")


def test_one_item_undone_makes_the_run_incomplete():
    assert verdict([_item("pass", "One"), _item("not done", "Two")]) == (
        "incomplete",
        "1 of 2 items passed, none failed, 1 not done (Two).",
    )


def test_all_items_passed_make_the_run_ready():
    assert verdict([_item("pass", "One")]) == ("ready", "All 1 items passed.")


def test_no_items_have_no_verdict():
    with pytest.raises(ArgumentError, match="needs the answers of the checklist"):
        verdict([])


def test_majority_class_is_known_by_the_name_that_evaluate_writes():
    from regard.evaluate import MAJORITY
    from regard.readiness import model

    assert model.MAJORITY == MAJORITY


def test_room_opens_where_torch_is_not_installed():
    code = (
        "import sys; sys.modules['torch'] = None; import regard.readiness; assert 'regard.evaluate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
