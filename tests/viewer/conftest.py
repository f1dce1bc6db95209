"""A made-up run as large as a real one: 6 layers, 12 heads, 600 steps, every file of the contract."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regard.diagnose import diagnose
from regard.records import (
    HEAD_COLUMNS,
    CheckCase,
    CheckedRule,
    Checks,
    CheckVerdict,
    Interval,
    ModelScore,
    ReadinessItem,
    Run,
    Status,
    Verdict,
)

LAYERS = [f"bert.encoder.layer.{number}.attention" for number in range(6)]
NUM_HEADS = 12
LABELS = {
    "earn": 2840,
    "acq": 1596,
    "crude": 253,
    "trade": 251,
    "money-fx": 206,
    "interest": 190,
    "ship": 108,
    "grain": 41,
}
STATISTICS = {
    "normalized_entropy": 1,
    "entropy": 1,
    "first_mass": 1,
    "padding_mass": 1,
    "output_norm": 1,
    "max_weight": 10,
    "collision": 10,
    "effective_keys": 10,
    "saturated_share": 10,
    "previous_mass": 10,
    "self_mass": 10,
    "distance": 10,
    "max_score": 10,
}
METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "auc_roc", "calibration_error")


def head_columns(num_steps: int, num_layers: int = 6, num_heads: int = NUM_HEADS) -> dict[str, Any]:
    """Return head rows in which a few heads narrow, one layer has sinks, and one head dies."""
    rng = np.random.default_rng(3)
    lower = 0.08 * np.arange(num_layers)[:, None] / num_layers
    spread = np.clip(rng.beta(5, 2.2, (num_layers, num_heads)) - lower, 0.1, 1)
    drift = rng.normal(-0.06, 0.06, (num_layers, num_heads))
    spread[1, 3], drift[1, 3] = 0.72, -0.66
    spread[0, 7], drift[0, 7] = 0.05, 0.0
    sink = np.clip(rng.beta(1.2, 9, (num_layers, num_heads)), 0, 1)
    sink[min(4, num_layers - 1), 2:7] = rng.uniform(0.4, 0.8, 5)
    norm = rng.uniform(2, 5, (num_layers, num_heads))
    parts: list[dict[str, Any]] = []
    for name, every in STATISTICS.items():
        steps = np.arange(1, num_steps + 1, every)
        share = np.clip(steps / num_steps * 1.4, 0, 1)[:, None, None]
        narrow = np.clip(spread + drift * share + rng.normal(0, 0.012, (len(steps), *spread.shape)), 0.01, 0.995)
        values = {
            "normalized_entropy": narrow,
            "entropy": narrow * 4.6,
            "effective_keys": np.exp(narrow * 4.6),
            "collision": (1 - narrow) ** 1.5,
            "max_weight": np.clip(1.05 - narrow, 0, 1),
            "saturated_share": np.clip(0.55 - narrow, 0, 1),
            "max_score": 14 * (1.1 - narrow),
            "first_mass": np.clip(sink * (1 + 0.1 * share), 0, 1) + 0 * narrow,
            "padding_mass": 0 * narrow,
            "output_norm": norm * np.where(np.arange(num_heads) == 9, 1 - 0.97 * share, 1) + 0 * narrow,
            "previous_mass": 0.4 * (1 - narrow) ** 2,
            "self_mass": 0.1 * (1 - narrow) + 0.02,
            "distance": 40 * narrow,
        }[name]
        step, layer, head = (index.ravel() for index in np.indices(values.shape))
        parts.append({"step": steps[step], "layer": layer, "head": head, "statistic": name, "mean": values.ravel()})
    rows = sum(len(part["step"]) for part in parts)
    names = np.array([f"bert.encoder.layer.{number}.attention" for number in range(num_layers)], dtype=object)
    columns = dict.fromkeys(HEAD_COLUMNS, np.full(rows, np.nan, dtype=np.float32))
    return columns | {
        "step": np.concatenate([part["step"] for part in parts]),
        "layer": names[np.concatenate([part["layer"] for part in parts])],
        "head": np.concatenate([part["head"] for part in parts]),
        "statistic": np.concatenate([np.full(len(part["step"]), part["statistic"], dtype=object) for part in parts]),
        "mean": np.concatenate([part["mean"] for part in parts]),
        "num_rows": np.full(rows, 1800),
        "num_empty_rows": np.zeros(rows, dtype=int),
    }


def write_events(run: Run, num_steps: int) -> None:
    """Write a loss that falls, a warm-up, gradients of six layers and two validations."""
    rng = np.random.default_rng(5)
    run.event("data", summary=[], warnings=[])
    lines = []
    for step in range(1, num_steps + 1):
        share = step / num_steps
        loss = 1.9 * np.exp(-7 * share) + 0.06 + abs(rng.normal(0, 0.05 + 0.4 * np.exp(-6 * share)))
        speed, norm = rng.normal(5200, 600), 0.3 + 4 * np.exp(-5 * share) * rng.uniform(0.5, 2)
        values = {
            "epoch": 1 + 2 * (step - 1) // num_steps,
            "loss": loss,
            "lr": 1e-4 * min(10 * share, (1 - share) / 0.9),
        }
        values |= {"grad_norm": norm, "tokens": 1500, "tokens_per_s": speed, "padding_share": 0.03}
        lines.append(("step", step, values))
        if (step - 1) % 10 == 0:
            size = norm * np.array([0.5, 0.6, 0.7, 0.9, 1.1, 1.4]) * rng.uniform(0.8, 1.2, 6)
            layers = [
                {
                    "layer": layer,
                    "qk": 0.15 * size[index] * rng.uniform(0.6, 1.4),
                    "vo": 0.5 * size[index],
                    "all": size[index],
                }
                for index, layer in enumerate(LAYERS)
            ]
            lines.append(("gradients", step, {"layers": layers}))
        if step % max(1, num_steps // 2) == 0:
            lines.append(
                (
                    "validation",
                    step,
                    {
                        "epoch": 1,
                        "loss": 0.11 / share,
                        "accuracy": 0.95 + 0.025 * share,
                        "macro_f1": 0.88 + 0.05 * share,
                    },
                )
            )
    for name, step, values in lines:
        run.event(name, step=step, **values)


def audit() -> dict[str, Any]:
    """Return the content of an audit.json."""
    rng = np.random.default_rng(7)
    edges = [*range(0, 840, 40), 1290]
    splits = {}
    for name, share in (("train", 0.9), ("validation", 0.1), ("test", 0.4)):
        counts = np.histogram(rng.lognormal(4.5, 0.7, int(5485 * share)), bins=edges)[0]
        splits[name] = {
            "num_rows": int(counts.sum()),
            "num_empty": 0,
            "num_repeated": 3,
            "labels": {label: max(1, round(rows * share)) for label, rows in LABELS.items()},
            "length": {
                "unit": "tokens",
                "mean": 131.2,
                "median": 93.0,
                "p95": 332.0,
                "max": 1290,
                "histogram": {"edges": edges, "counts": counts.tolist()},
            },
            "truncated_share": 0.081,
        }
    leak = {"splits": ["train", "test"], "count": 12, "share_of_test": 0.0055, "examples": [["train:17", "test:5"]]}
    none = {"splits": ["train", "validation"], "count": 0, "share_of_test": 0.0, "examples": []}
    return {
        "schema_version": 1,
        "source": {"name": "Reuters R8", "files": ["r8-train.tab", "r8-test.tab"]},
        "splits": splits,
        "leaks": {"exact": [none, leak], "near": [{**none, "threshold": 0.8}, {**leak, "count": 31, "threshold": 0.8}]},
        "max_len": 256,
        "summary": [
            "Documents: train 4,936, validation 549, test 2,189; 8 labels; no empty, 3 repeated within a split.",
            "Labels: earn 51.8 % to grain 0.7 % of train (69 to 1); shift of the label mix against train (PSI): test "
            "0.012.",
            "Length: train has a median of 93 tokens, 95 % up to 332, longest 1,290; cut at 256: train 8.1 %, test "
            "7.9 %.",
            "Leaks (word for word + nearly): 12 + 31 of 2,189 test in train (2.0 %).",
        ],
        "warnings": [
            "The labels of train are out of balance 69 to 1; accuracy hides the rare ones, so read macro F1.",
            "12 documents of test are in train word for word; up to 0.5 points of its accuracy can be memory.",
        ],
    }


def metrics() -> dict[str, Any]:
    """Return the content of a metrics.json with a model and two baselines."""
    rows = {
        "MiniLM, fine-tuned": ("model", (0.9781, 0.951, 0.938, 0.9437, 0.9979, 0.0112)),
        "TF-IDF + LinearSVC": ("baseline", (0.9742, 0.949, 0.921, 0.9332, 0.9970, None)),
        "majority class": ("baseline", (0.4947, 0.0618, 0.125, 0.0827, 0.5, 0.013)),
    }
    models = []
    for name, (kind, values) in rows.items():
        found = {
            metric: Interval(value=value, low=value - 0.006, high=min(1, value + 0.006))
            if value is not None
            else Interval(value=None, note="the model's scores are not probabilities")
            for metric, value in zip(METRICS, values, strict=True)
        }
        details = {"parameters": 22_713_992, "seconds": 14.2} if kind == "model" else {"C": 1.0}
        models.append(ModelScore(name=name, kind=kind, metrics=found, details=details).model_dump(mode="json"))
    labels = sorted(LABELS)
    support = [696, 121, 1083, 10, 81, 87, 36, 75]
    confusion = np.diag(support)
    for true, predicted, count in ((0, 2, 9), (4, 5, 7), (5, 4, 6), (6, 1, 4), (7, 5, 3), (3, 7, 1)):
        confusion[true, predicted] += count
        confusion[true, true] -= count
    bins = [
        {
            "low": index / 10,
            "high": (index + 1) / 10,
            "confidence": (index + 0.55) / 10 if index > 2 else None,
            "accuracy": (index + 0.2) / 10 if index > 2 else None,
            "count": 2**index if index > 2 else 0,
        }
        for index in range(10)
    ]
    return {
        "schema_version": 1,
        "task": "text classification",
        "split": "test",
        "num_rows": 2189,
        "labels": labels,
        "models": models,
        "metric_order": list(METRICS),
        "per_class": [
            {
                "label": label,
                "precision": 0.93,
                "recall": 0.9 + 0.01 * index,
                "f1": 0.91 + 0.01 * index,
                "support": rows,
            }
            for index, (label, rows) in enumerate(zip(labels, support, strict=True))
        ],
        "confusion": confusion.tolist(),
        "calibration": {"bins": bins},
        "comparison": {
            "against": "TF-IDF + LinearSVC",
            "metric": "accuracy",
            "difference": 0.0039,
            "low": -0.0012,
            "high": 0.0089,
        },
        "method": "95 % percentile bootstrap over rows, 1000 resamples, seed 0",
    }


def readiness_items() -> list[ReadinessItem]:
    """Return a checklist with all three answers."""
    rows = [
        (
            "data.audited",
            "Data",
            "Data audited and split into three",
            Verdict.PASS,
            "train, validation, test",
            "audit.json",
        ),
        (
            "data.exact_leaks",
            "Data",
            "No documents leak between splits",
            Verdict.FAIL,
            "12 of 2,189 test documents",
            None,
        ),
        ("model.saved", "Model", "Weights written", Verdict.PASS, "model.safetensors, 86.7 MiB", "model"),
        (
            "evaluation.baseline",
            "Evaluation",
            "Better than a tuned baseline",
            Verdict.FAIL,
            "+0.39 points, −0.12 to 0.89",
            None,
        ),
        ("evaluation.intervals", "Evaluation", "Every metric has an interval", Verdict.PASS, "6 of 6", "metrics.json"),
        (
            "attention.seen",
            "Attention",
            "Every attention layer watched",
            Verdict.PASS,
            "all 6 layers, 3,600 calls",
            "run.json",
        ),
        (
            "attention.laws",
            "Attention",
            "Laws of attention hold",
            Verdict.NOT_DONE,
            "this version does not check them",
            None,
        ),
        ("lifecycle.monitor", "Lifecycle", "Monitored in production", Verdict.NOT_DONE, "needs a deployment", None),
    ]
    return [
        ReadinessItem(id=name, section=section, title=title, verdict=verdict, evidence=evidence, link=link)
        for name, section, title, verdict, evidence, link in rows
    ]


def checks() -> Checks:
    """Return a check in which causality is broken and takes the cache with it."""
    case = CheckCase(length=3, stream="tokens", layer="encoder.layer.2.attention", head=4, query=0, key=2)
    broken = CheckedRule(
        rule="causality",
        title="No token sees later ones",
        law="the output at a position depends on the tokens up to it",
        verdict=CheckVerdict.FAIL,
        summary="encoder.layer.2.attention, head 4, leaks token 2 into position 0",
        measured=0.35,
        tolerance=2.2e-7,
        case=case,
        meaning="the causal mask is missing in one layer",
        remedy="pass is_causal=True",
        reproduction="import torch\nprint(model(torch.arange(3)[None]) < 1)",
    )
    others = [
        ("cache", CheckVerdict.FAIL, "cached steps differ by 0.3", ["causality"]),
        ("empty_rows", CheckVerdict.DEVIATION, "an empty row gives NaN with need_weights", []),
        ("scale", CheckVerdict.PASS, "the factor is 1/√head_dim in 72 heads", []),
        ("softcap", CheckVerdict.NOT_APPLICABLE, "it declares no soft cap", []),
        ("softmax", CheckVerdict.NOT_TESTED, "no attention call could be heard", []),
    ]
    rules = [broken] + [
        CheckedRule(rule=name, title=f"Law of {name}", law="it holds", verdict=verdict, summary=seen, explained_by=why)
        for name, verdict, seen, why in others
    ]
    return Checks(
        subject="Bert",
        kind="model",
        target="runs/demo/model",
        ok=False,
        seed=0,
        fast=True,
        assumptions=["causal = True (you said so)"],
        rules=rules,
        seconds=3.4,
    )


def write_full_run(folder: Path, num_steps: int = 600) -> Run:
    """Write a finished run with every file."""
    coverage = [
        {
            "layer": layer,
            "seen": True,
            "calls": num_steps,
            "kernel": "_scaled_dot_product_flash_attention_for_cpu",
            "kind": "self",
            "reason": None,
        }
        for layer in LAYERS
    ]
    run = Run.create(folder, recipe="demo", config={"seed": 0, "optim": {"lr": 1e-4, "epochs": 2}}, seeds={"seed": 0})
    run.heads.append(head_columns(num_steps))
    run.heads.finish()
    write_events(run, num_steps)
    run.event("trained", steps=num_steps, wall_s=371.0, cpu_s=702.0, tokens=1500 * num_steps, watch_s=21.4)
    run.write("audit", audit())
    run.write("metrics", metrics())
    diagnosis = diagnose(run)
    run.write_findings(diagnosis.findings)
    run.write("diagnosis", diagnosis.to_dict())
    run.write_checks(checks())
    run.write_readiness(readiness_items())
    run.update(
        status=Status.FINISHED,
        wall_s=402.6,
        cpu_s=731.9,
        device={"type": "cpu", "name": "Example CPU, 2 cores", "precision": "bfloat16", "num_threads": 2},
        kernels={"_scaled_dot_product_flash_attention_for_cpu": 6 * num_steps},
        coverage=coverage,
        versions={"python": "3.11.7", "torch": "2.13.0", "regard": "0.1.0"},
        git_commit="0123456789abcdef0123456789abcdef01234567",
    )
    return run


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a finished run with every file; tests do not change it."""
    return write_full_run(tmp_path_factory.mktemp("viewer") / "demo")


@pytest.fixture
def small_run(tmp_path: Path) -> Callable[..., Run]:
    """Return a function that writes an unfinished run with the parts asked for."""

    def write(*parts: str, num_steps: int = 40, **fields: Any) -> Run:
        run = Run.create(tmp_path / "small", recipe="text-classifier", **fields)
        if "heads" in parts:
            run.heads.append(head_columns(num_steps))
        if "events" in parts:
            write_events(run, num_steps)
        if "audit" in parts:
            run.write("audit", audit())
        if "metrics" in parts:
            run.write("metrics", metrics())
        if "checks" in parts:
            run.write_checks(checks())
        if "readiness" in parts:
            run.write_readiness(readiness_items())
        return run

    return write
