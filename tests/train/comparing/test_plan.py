"""A comparison is fair before it begins: same split, same seeds, from scratch, or it is refused."""

import pytest

from regard import RegardError
from regard.train.comparing.plan import plan_comparison

TABLE = ["data.path=mine.csv", "data.text=body"]


def test_every_model_meets_every_seed_on_one_split() -> None:
    runs = plan_comparison("from-scratch", ["transformer", "lstm", "linear"], [3, 4, 5])

    assert [run.name for run in runs] == [
        f"{model}-seed{seed}" for seed in (3, 4, 5) for model in ("transformer", "lstm")
    ]
    assert [run.config.seed for run in runs] == [3, 3, 4, 4, 5, 5]
    assert {run.config.data.seed for run in runs} == {3}
    assert {run.config.model.architecture for run in runs} == {"transformer", "lstm"}


def test_a_recipe_that_begins_with_pretrained_weights_gives_way() -> None:
    [first, *_] = plan_comparison("text-classifier", ["gru", "lstm"], [0, 1, 2], TABLE)

    assert (first.recipe, first.config.model.pretrained, first.config.data.source) == ("from-scratch", "none", "table")
    assert str(first.config.data.path) == "mine.csv"


def test_taggers_are_compared_from_scratch() -> None:
    [first, other, *_] = plan_comparison("token-tagger", ["transformer", "gru"], [0, 1, 2], ["data.path=a.conll"])

    assert (first.recipe, first.config.model.pretrained, other.config.model.architecture) == (
        "token-tagger",
        "none",
        "gru",
    )


def test_nobody_pays_for_being_looked_at() -> None:
    [run, *_] = plan_comparison("forecaster", ["transformer", "gru"], [0, 1, 2], ["data.path=series.csv"])

    assert (run.config.watch.every_step, run.config.check) == ((), False)


def test_settings_are_of_all_or_of_one() -> None:
    settings = ["optim.epochs=7", "lstm:optim.lr=0.01", "lstm:model.recurrent_layers=1"]
    runs = plan_comparison("from-scratch", ["transformer", "lstm"], [0, 1, 2], settings)

    found = {
        run.model: (run.config.optim.epochs, run.config.optim.lr, run.config.model.recurrent_layers) for run in runs
    }
    assert found == {"transformer": (7, 5e-4, 2), "lstm": (7, 0.01, 1)}


@pytest.mark.parametrize(
    ("models", "seeds", "settings", "message"),
    [
        (
            ["transformer", "cnn"],
            [0, 1, 2],
            [],
            "some of transformer, lstm, gru, linear, each once; got transformer, cnn",
        ),
        (["lstm", "lstm"], [0, 1, 2], [], "each once; got lstm, lstm"),
        (["transformer", "linear"], [0, 1, 2], [], "needs two architectures or more"),
        (["transformer", "lstm"], [0, 1], [], r"three different seeds or more, got \[0, 1\]"),
        (["transformer", "lstm"], [0, 1, 1], [], "three different seeds or more"),
        (
            ["transformer", "lstm"],
            [0, 1, 2],
            ["gru:optim.lr=1"],
            "must name one of transformer, lstm, got 'gru:optim.lr=1'",
        ),
        (["transformer", "lstm"], [0, 1, 2], ["optim.rate=1"], "field of the recipe"),
    ],
)
def test_unfair_comparisons_are_refused(models: list[str], seeds: list[int], settings: list[str], message: str) -> None:
    with pytest.raises(RegardError, match=message):
        plan_comparison("from-scratch", models, seeds, settings)


def test_a_length_is_varied_with_one_architecture() -> None:
    runs = plan_comparison(
        "language-model", ["lstm", "linear"], [0, 1, 2], ["data.path=text.txt"], vary="data.window=32, 64,128"
    )

    assert [run.name for run in runs[:3]] == ["window=32-seed0", "window=64-seed0", "window=128-seed0"]
    assert [run.config.data.window for run in runs] == [32, 64, 128] * 3
    assert {run.config.model.architecture for run in runs} == {"lstm"}


@pytest.mark.parametrize(
    ("models", "vary", "message"),
    [
        (["lstm", "gru"], "data.window=32,64", "must be one architecture, got lstm, gru"),
        (["linear"], "data.window=32,64", "must be one architecture, got linear"),
        (["lstm"], "data.window", "a setting with two or more different values, .* got 'data.window'"),
        (["lstm"], "data.window=32", "two or more different values"),
        (["lstm"], "data.window=32,32", "two or more different values"),
        (["lstm"], "data.window=32,,64", "two or more different values"),
        (["lstm"], "seed=1,2", "Seeds are varied by themselves"),
        (["lstm"], "data.windw=32,64", "must be a field of the recipe, got 'data.windw'"),
    ],
)
def test_what_cannot_be_varied_is_refused(models: list[str], vary: str, message: str) -> None:
    with pytest.raises(RegardError, match=message):
        plan_comparison("language-model", models, [0, 1, 2], ["data.path=text.txt"], vary=vary)


def test_a_recipe_of_one_architecture_is_refused() -> None:
    with pytest.raises(RegardError, match=r"A comparison takes one of .*translator.*, got masked-words, which has one"):
        plan_comparison("masked-words", ["transformer", "lstm"], [0, 1, 2], ["data.path=text.txt"])


@pytest.mark.parametrize("settings", [["data.tokens=subwords"], ["data.tokens=words", "data.vocab_size=500"]])
def test_language_models_are_compared_in_the_same_tokens(settings: list[str]) -> None:
    runs = plan_comparison("language-model", ["transformer", "gru"], [0, 1, 2], ["data.path=a.txt", *settings])
    assert {run.config.data.tokens for run in runs} == {settings[0].partition("=")[2]}

    own = [f"gru:{one}" for one in settings]
    with pytest.raises(RegardError, match=r"of the same tokens alone, got transformer, gru with data\.tokens or"):
        plan_comparison("language-model", ["transformer", "gru"], [0, 1, 2], ["data.path=a.txt", *own])
    for vary in ("data.tokens=characters,subwords", "data.vocab_size=300,400"):
        more = ["data.tokens=subwords"] if "vocab" in vary else []
        with pytest.raises(RegardError, match="compare bits_per_byte or word_perplexity"):
            plan_comparison("language-model", ["gru"], [0, 1, 2], ["data.path=a.txt", *more], vary=vary)
