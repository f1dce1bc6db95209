"""What a comparison claims follows from its runs: on runs that are made up, whose truth is known."""

from typing import Any

import numpy as np
import pytest

from regard import RegardError
from regard.records import Interval, ModelScore
from regard.train.comparing.outcome import Outcome, Rows
from regard.train.comparing.summary import summarise
from regard.train.comparing.telling import markdown, sentences, table

ROWS = 2000
LENGTHS = np.repeat(np.arange(10, 110), ROWS // 100).astype(float)


def outcome(model: str, seed: int, right: Any, **changes: Any) -> Outcome:
    """Return a run that got the rows of ``right``."""
    share = float(np.mean(right))
    half = 1.96 * float(np.std(right, ddof=1)) / len(right) ** 0.5
    score = Interval(value=share, low=share - half, high=share + half)
    totals, counts = np.asarray(right, dtype=np.float64), np.ones(len(right))
    values: dict[str, Any] = {
        "model": model,
        "seed": seed,
        "folder": f"{model}-{seed}",
        "scores": [
            ModelScore(name=f"the {model}", kind="model", metrics={"accuracy": score}),
            ModelScore(
                name="linear model", kind="baseline", metrics={"accuracy": Interval(value=0.99, low=0.98, high=1.0)}
            ),
        ],
        "metrics": {
            "task": "text classification",
            "num_rows": len(right),
            "metric_order": ["accuracy"],
            "unit": "rows",
        },
        "rows": {f"the {model}": Rows(totals=totals, counts=counts, block_len=1, lengths=LENGTHS)},
        "parameters": 1000,
        "flops": 2e12,
        "row_flops": 1e6,
        "seconds": 100.0 + seed,
        "cpu_seconds": 90.0 + seed,
        "tokens": 50_000,
        "peak_bytes": 400_000_000,
        **changes,
    }
    return Outcome(**values)


def runs(better: float, *, noise: float = 0.02, seeds: int = 3, **changes: Any) -> list[Outcome]:
    """Return runs of two models on rows that are hard for both; the first gets a share ``better`` of them more."""
    generator = np.random.default_rng(1)
    hard = generator.random(ROWS)
    return [
        outcome(model, seed, hard < 0.8 + lead + noise * generator.normal(), **(changes if model == "lstm" else {}))
        for seed in range(seeds)
        for model, lead in (("transformer", better), ("lstm", 0.0))
    ]


def test_a_difference_is_claimed_where_it_is_beyond_chance() -> None:
    [pair] = summarise(runs(0.1, noise=0.005))["against"]

    assert pair["winner"] == "transformer"
    assert 0 < pair["difference"]["low"] < 0.1 < pair["difference"]["high"]


def test_no_difference_is_claimed_where_there_is_none() -> None:
    content = summarise(runs(0.0))

    assert content["against"][0]["winner"] is None
    assert "chance alone could make this difference" in sentences(content)[0]


def test_rows_are_paired() -> None:
    """Both models stumble over the same rows: the difference is surer than either figure."""
    content = summarise(runs(0.05, noise=0.0))
    difference, own = content["against"][0]["difference"], content["quality"][0]["models"]["lstm"]

    assert difference["high"] - difference["low"] < own["high"] - own["low"]


def test_rows_that_were_not_written_are_not_paired_and_that_is_said() -> None:
    made = [Outcome(**{**vars(one), "rows": {}}) for one in runs(0.1, noise=0.005)]
    content = summarise(made)

    assert content["against"][0]["paired"] is False
    assert "rows could not be paired" in sentences(content)[0]
    assert content["regions"] == []


def test_costs_have_ratios_with_intervals_and_winners() -> None:
    content = summarise(runs(0.1, seconds=300.0, peak_bytes=None))
    [pair] = content["against"]

    ratio = pair["ratios"]["seconds"]
    assert ratio["value"] == pytest.approx(101 / 300, rel=0.01)
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert ratio["winner"] == "transformer"
    assert pair["ratios"]["tokens_per_s"]["winner"] == "transformer"
    assert pair["ratios"]["cpu_seconds"]["winner"] is None
    assert pair["ratios"]["peak_bytes"] is None
    assert [cost["name"] for cost in content["cost"]] == ["cpu_seconds", "seconds", "tokens_per_s"]


def test_regions_tell_where_each_wins() -> None:
    generator = np.random.default_rng(0)
    short = LENGTHS < 43
    made = []
    for seed in range(3):
        for model in ("transformer", "lstm"):
            ahead = (model == "lstm") == short  # the recurrent one on short rows, attention on long ones
            made.append(outcome(model, seed, generator.random(ROWS) < np.where(ahead, 0.95, 0.7)))

    regions = summarise(made)["regions"]

    assert [region["winner"] for region in regions] == ["lstm", "transformer", "transformer"]
    assert sum(region["num_rows"] for region in regions) == ROWS
    assert regions[0]["from"] == 10
    assert regions[-1]["to"] == 109


def test_lower_is_better_where_it_is() -> None:
    made = [
        Outcome(**{**vars(one), "metrics": {**one.metrics, "lower_is_better": ["accuracy"]}})
        for one in runs(0.1, noise=0.005)
    ]

    assert summarise(made)["against"][0]["winner"] == "lstm"


def test_a_baseline_that_no_network_beats_is_named() -> None:
    content = summarise(runs(0.1))

    assert any(sentence.startswith("No network is ahead of the linear model") for sentence in sentences(content))
    assert "linear model" not in markdown(summarise(runs(0.1), baselines=False))


def test_table_has_every_model_and_every_interval() -> None:
    headings, rows = table(summarise(runs(0.1)))

    assert [row[0] for row in rows] == ["transformer", "lstm", "linear model"]
    assert headings[:4] == ["model", "Accuracy", "parameters", "training FLOPs"]
    assert all(len(row) == len(headings) for row in rows)
    assert all("–" in row[1] for row in rows)


def test_unlike_parameter_counts_are_refused() -> None:
    with pytest.raises(RegardError, match=r"1,000 parameters of transformer within 5 %, got 1,051 of lstm"):
        summarise(runs(0.1, parameters=1051))


def test_missing_seeds_are_refused() -> None:
    with pytest.raises(RegardError, match="trained with the same seeds"):
        summarise(runs(0.1)[:-1])
