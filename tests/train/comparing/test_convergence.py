"""How soon a target is reached, told of trainings that are made up, whose truth is known."""

from typing import Any
from xml.etree import ElementTree

import pytest

from regard import RegardError
from regard.train.comparing.convergence import (
    Target,
    check_before,
    convergence,
    convergence_sentences,
    convergence_table,
    draw_convergence,
)
from regard.train.comparing.outcome import Look, Outcome

TARGET = Target(metric="loss", value=1.0)


def training(model: str, seed: int, losses: list[float], *, every: int = 10) -> Outcome:
    """Return a run that was looked at every ``every`` steps of 100 tokens, 1e6 FLOPs and half a second each."""
    steps = [every * (number + 1) for number in range(len(losses))]
    looks = [
        Look(step=step, tokens=100 * step, seconds=0.5 * step, metrics={"loss": loss, "accuracy": 1 - loss / 4})
        for step, loss in zip(steps, losses, strict=True)
    ]
    values: dict[str, Any] = {"scores": [], "metrics": {}, "rows": {}, "parameters": 1, "row_flops": 1.0}
    return Outcome(
        model=model,
        seed=seed,
        folder=f"{model}-{seed}",
        flops=1e6 * steps[-1],
        seconds=0.5 * steps[-1],
        cpu_seconds=1.0,
        tokens=100 * steps[-1],
        peak_bytes=None,
        looks=looks,
        **values,
    )


def falling(first_below: int, *, looks: int = 12) -> list[float]:
    """Return losses that are at most 1 from the look of that number on, counted from 1."""
    return [first_below / (number + 1) for number in range(looks)]


def trainings(model: str, reach: list[int]) -> list[Outcome]:
    return [training(model, seed, falling(first)) for seed, first in enumerate(reach)]


def test_the_first_look_that_is_as_good_counts() -> None:
    content = convergence({"a": trainings("a", [4, 5, 6]), "b": trainings("b", [8, 10, 12])}, TARGET)

    assert [one["steps"] for one in content["models"]["a"]["each"]] == [40, 50, 60]
    assert content["models"]["a"]["steps"]["value"] == pytest.approx(50)
    assert content["models"]["a"]["tokens"]["value"] == pytest.approx(5_000)
    assert content["models"]["a"]["flops"]["value"] == pytest.approx(50e6)
    assert content["models"]["a"]["seconds"]["value"] == pytest.approx(25)
    assert content["models"]["a"]["steps_between_looks"] == 10
    [pair] = content["against"]
    assert pair["ratios"]["steps"]["value"] == pytest.approx(0.5)
    assert pair["ratios"]["steps"]["low"] < 0.5 < pair["ratios"]["steps"]["high"]
    assert "To loss 1, a over b: steps 0.50 (" in " ".join(convergence_sentences(content))


def test_a_metric_that_rises_is_reached_from_below() -> None:
    content = convergence({"a": trainings("a", [4, 5, 6])}, Target(metric="accuracy", value=0.75))

    assert [one["steps"] for one in content["models"]["a"]["each"]] == [40, 50, 60]


def test_no_mean_is_told_where_a_seed_does_not_arrive() -> None:
    content = convergence({"a": trainings("a", [4, 5, 60]), "b": trainings("b", [8, 10, 12])}, TARGET)

    found = content["models"]["a"]
    assert (found["num_reached"], found["seeds"], "steps" in found) == (2, 3, False)
    assert content["against"][0]["ratios"]["steps"] is None
    told = list(convergence_sentences(content))
    assert told == ["a reached loss 1 in 2 of 3 seeds within 120 steps; no mean is told of some."]
    assert convergence_table(content)[1][0][:3] == ["a", "2 of 3", "–"]


@pytest.mark.parametrize(
    ("now", "slower", "words"),
    [
        ([4, 5, 6], False, "not slower than before"),
        ([5, 5, 6], False, "not slower than before"),  # 7 % more steps
        ([5, 6, 8], True, "slower than before by more than 20%"),  # 26 % more
        ([4, 5, 60], True, "it no longer arrives as often"),
    ],
)
def test_what_takes_a_fifth_longer_than_before_is_flagged(now: list[int], slower: bool, words: str) -> None:
    before = convergence({"a": trainings("a", [4, 5, 6])}, TARGET)

    content = convergence({"a": trainings("a", now)}, TARGET, before)

    assert [one["slower"] for one in content["before"]] == [slower]
    assert words in list(convergence_sentences(content))[-1]


def test_comparisons_of_unlike_targets_are_not_held_against_each_other() -> None:
    before = convergence({"a": trainings("a", [4, 5, 6])}, TARGET)

    check_before(before, TARGET, ["a", "c"])
    with pytest.raises(RegardError, match=r"must have the same target, loss=2, got loss=1"):
        check_before(before, Target(metric="loss", value=2.0), ["a"])
    with pytest.raises(RegardError, match="must share a model with this one, c; it has a"):
        check_before(before, TARGET, ["c"])


def test_curves_have_an_interval_at_every_look_and_are_drawn() -> None:
    content = convergence({"a": trainings("a", [4, 5, 6]), "b": trainings("b", [8, 10, 12])}, TARGET)

    curve = content["curves"]["a"]
    assert curve["steps"] == [10.0 * number for number in range(1, 13)]
    assert curve["value"][0] == pytest.approx(5.0)
    assert all(low < value < high for low, value, high in zip(curve["low"], curve["value"], curve["high"], strict=True))
    root = ElementTree.fromstring(draw_convergence(content, title="Losses"))
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("a") == texts.count("target 1") == 2  # over steps and over FLOPs


@pytest.mark.parametrize("text", ["accuracy", "=0.9", "accuracy=high", "accuracy=nan", ""])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RegardError, match="a metric of the validation set and a number"):
        Target.parse(text)


def test_a_metric_that_the_task_does_not_validate_is_refused_at_once() -> None:
    Target.parse("accuracy = 0.9").check("text classification")
    with pytest.raises(RegardError, match=r"language modelling must be one of loss, perplexity, .* got accuracy"):
        Target.parse("accuracy=0.9").check("language modelling")
