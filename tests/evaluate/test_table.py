"""Any task's table: figures from sums over rows, paired over the same resamples."""

import json
from typing import Any

import numpy as np
import pytest

from regard._errors import ArgumentError, DataError
from regard.evaluate import Metric, RowSums, mean, score_models

RNG = np.random.default_rng(5)
COUNTS = RNG.integers(3, 20, 400)
NATS = COUNTS * RNG.normal(2.0, 0.4, 400)
COLUMNS, PER_TOKEN = mean("nats", "tokens")
LOSS = Metric(name="loss", title="Loss", columns=COLUMNS, of=PER_TOKEN, lower_is_better=True)
PERPLEXITY = Metric(
    name="perplexity", title="Perplexity", columns=COLUMNS, of=lambda s: np.exp(PER_TOKEN(s)), lower_is_better=True
)
EXACT = Metric(name="exact_match", title="Exact match", columns=("right", "one"), of=mean("right", "one")[1])


def row_sums(name: str = "model", kind: str = "model", worse: float = 0.0) -> RowSums:
    columns = {"nats": NATS + worse * COUNTS, "tokens": COUNTS, "right": NATS < 15, "one": np.ones(400)}
    return RowSums(name=name, kind=kind, columns=columns, details={"parameters": 7})


def scored(worse: float = 0.3) -> dict[str, Any]:
    models = [row_sums(), row_sums("unigram", "baseline", worse), row_sums("uniform", "baseline", 2.0)]
    return score_models("language modelling", [LOSS, PERPLEXITY, EXACT], models, unit="passages")


def test_a_metric_is_that_of_the_sums_and_not_the_mean_of_the_rows() -> None:
    found = scored()["models"][0]["metrics"]
    assert found["loss"]["value"] == pytest.approx(NATS.sum() / COUNTS.sum())
    assert found["perplexity"]["value"] == pytest.approx(np.exp(NATS.sum() / COUNTS.sum()))
    assert found["exact_match"]["value"] == pytest.approx((NATS < 15).mean())


def test_an_interval_has_the_width_of_the_standard_error() -> None:
    share = (NATS < 15).mean()
    interval = scored()["models"][0]["metrics"]["exact_match"]
    expected = 2 * 1.96 * np.sqrt(share * (1 - share) / 400)
    assert interval["high"] - interval["low"] == pytest.approx(expected, rel=0.15)


def test_the_comparison_is_paired_with_the_best_baseline_and_positive_where_the_model_is_better() -> None:
    comparison = scored(0.3)["comparison"]
    assert (comparison["against"], comparison["metric"]) == ("unigram", "loss")
    # Paired rows differ by 0.3 a token exactly, so that chance has no part in it.
    assert comparison["difference"] == pytest.approx(0.3)
    assert comparison["low"] == pytest.approx(comparison["high"])
    assert scored(-0.3)["comparison"]["difference"] == pytest.approx(-0.3)


def test_the_content_is_plain_and_says_which_way_is_better() -> None:
    content = scored()
    assert json.loads(json.dumps(content)) == content
    assert content["lower_is_better"] == ["loss", "perplexity"]
    assert content["metric_order"] == ["loss", "perplexity", "exact_match"]
    assert (content["unit"], content["num_rows"], content["titles"]["loss"]) == ("passages", 400, "Loss")
    assert score_models("t", [LOSS], [row_sums()], unit="rows")["comparison"] is None


def test_given_resamples_are_used() -> None:
    one_by_one = [np.eye(400)[:, :50], np.eye(400)[:, 50:]]
    content = score_models("t", [LOSS], [row_sums()], unit="rows", resamples=one_by_one, method="each row alone")
    per_row = np.quantile(NATS / COUNTS, [0.025, 0.975])
    interval = content["models"][0]["metrics"]["loss"]
    assert [interval["low"], interval["high"]] == pytest.approx(per_row.tolist())
    assert content["method"] == "each row alone"


@pytest.mark.parametrize(
    ("metrics", "models", "message"),
    [
        ([], [row_sums()], "a metric and a model, got 0 and 1"),
        ([LOSS, LOSS], [row_sums()], "Metric names must differ"),
        ([LOSS], [row_sums(), row_sums()], "Model names must differ"),
    ],
)
def test_a_table_without_sense_is_refused(metrics: list[Metric], models: list[RowSums], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        score_models("t", metrics, models, unit="rows")


def test_rows_that_do_not_fit_are_refused() -> None:
    short = RowSums(name="short", kind="baseline", columns={"nats": [1.0], "tokens": [1]})
    with pytest.raises(DataError, match=r"same rows, one or more, got .*'model': 400, 'short': 1"):
        score_models("t", [LOSS], [row_sums(), short], unit="rows")
    lacking = RowSums(name="m", kind="model", columns={"tokens": [1.0]})
    with pytest.raises(DataError, match=r"'m' must have a column 'nats' for the metrics, got \['tokens'\]"):
        score_models("t", [LOSS], [lacking], unit="rows")
    broken = RowSums(name="m", kind="model", columns={"nats": [np.nan], "tokens": [1.0]})
    with pytest.raises(DataError, match=r"1 finite numbers, got shape .* with 1 that are not finite"):
        score_models("t", [LOSS], [broken], unit="rows")
