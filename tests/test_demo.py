"""The main job end to end on real data: `regard demo --fast` on Reuters R8 with the real MiniLM."""

import re
from pathlib import Path

import pytest

from regard.records import Run, Status, Verdict

FUSED = {"_scaled_dot_product_flash_attention_for_cpu", "regard native"}  # by processor, and by what is installed

pytestmark = pytest.mark.data


@pytest.fixture
def run(fast_demo: Path) -> Run:
    return Run.open(fast_demo)


def test_the_model_has_learnt(run: Run) -> None:
    model, linear, majority = run.read("metrics")["models"]
    assert model["metrics"]["accuracy"]["value"] > 0.9
    assert linear["metrics"]["accuracy"]["value"] > 0.9
    assert model["metrics"]["accuracy"]["low"] > majority["metrics"]["accuracy"]["high"]
    losses = [event["loss"] for event in run.events("step")]
    assert sum(losses[-10:]) < sum(losses[:10]) / 3


def test_every_head_of_every_layer_was_watched_at_every_step(run: Run) -> None:
    found = run.heads.query(
        "SELECT count(DISTINCT step) AS steps, count(DISTINCT layer) AS layers, count(DISTINCT (layer, head)) AS heads "
        "FROM heads WHERE statistic = 'entropy' AND mean > 0"
    )
    steps = len(list(run.events("step")))
    assert [int(found[name][0]) for name in ("steps", "layers", "heads")] == [steps, 6, 72]
    assert [entry["seen"] for entry in run.info.coverage] == [True] * 6
    assert sum(run.info.kernels.values()) == 6 * steps
    assert set(run.info.kernels) <= FUSED


def test_padding_gets_no_weight_and_wastes_little(run: Run) -> None:
    worst = run.heads.query("SELECT max(maximum) AS worst FROM heads WHERE statistic = 'padding_mass'")["worst"]
    assert worst[0] == 0
    cells = tokens = 0.0
    for event in run.events("step"):
        tokens += event["tokens"]
        cells += event["tokens"] / (1 - event["padding_share"])
    assert 1 - tokens / cells < 0.05


def test_the_run_ends_with_a_verdict_and_a_report_without_network(run: Run) -> None:
    assert run.info.status is Status.FINISHED
    assert {item.verdict for item in run.readiness()} >= {Verdict.PASS, Verdict.NOT_DONE}
    page = (run.folder / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["']https?://[^"']+\.(js|css|woff2?|png|svg)""", page)
    assert "Reuters R8" in page
    assert page.count("<svg") > 20


def test_what_it_ran_on_is_recorded(run: Run) -> None:
    assert {"python", "torch", "regard"} <= set(run.info.versions)
    assert run.info.device["precision"] in ("bfloat16", "float32")
    assert run.info.seeds == {"seed": 0}
    assert run.info.wall_s
    assert run.info.wall_s > 0
