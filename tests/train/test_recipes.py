"""A recipe is a whole config; a setting changes one value or is refused in one sentence."""

import json

import pytest

from regard import RegardError
from regard.train import RECIPES, configure
from regard.train.classification.config import ModelConfig
from regard.train.translation.config import PairsConfig


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_survives_a_json_round_trip(recipe: str) -> None:
    config = configure(recipe, [] if RECIPES[recipe].needs is None else ["data.path=mine.csv"])
    assert RECIPES[recipe].config.model_validate(json.loads(json.dumps(config.to_dict()))) == config


def test_every_recipe_says_what_it_is() -> None:
    assert all(recipe.says for recipe in RECIPES.values())


def test_settings_change_single_values() -> None:
    config = configure("demo", ["optim.lr=5e-5", "data.max_len=128", "model.pooling=first", "watch.rows=64"])
    assert (config.optim.lr, config.data.max_len, config.model.pooling, config.watch.rows) == (5e-5, 128, "first", 64)


def test_a_model_from_scratch_has_its_sizes_in_the_config() -> None:
    model = configure("demo", ["model.pretrained=none", "model.embed_dim=128", "model.num_layers=null"]).model
    assert (model.num_layers, model.embed_dim, model.num_heads, model.vocab_size) == (4, 128, 4, 8000)
    assert configure("from-scratch").model == ModelConfig(
        pretrained="none", num_layers=4, embed_dim=256, num_heads=4, vocab_size=8000
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optim.lr"], r"path=value, such as optim\.lr=1e-4; got 'optim\.lr'"),
        (["optim.learning_rate=1"], "field of the recipe, got 'optim.learning_rate'"),
        (
            ["data.source=reuters-r8", "data.path=mine.csv"],
            "data.path is for data.source=table, got data.source=reuters-r8; set both or leave it out",
        ),
        (["optin.lr=1"], "did you mean 'optim'"),
        (["optim.lr.value=1"], "field of the recipe, got 'optim.lr.value'"),
        (["optim.lr=-1"], "optim.lr: Input should be greater than 0, got -1"),
        (["data.max_len=4096"], "data.max_len: Input should be less than or equal to 512, got 4096"),
        (["watch.plotjuggler=yes"], "true, false or HOST:PORT, such as 127.0.0.1:9870, got 'yes'"),
        (["model.pooling=max"], "model.pooling: Input should be 'mean' or 'first', got 'max'"),
        (["model.num_layers=2"], "model.num_layers belongs to a model from scratch, got model.pretrained=minilm"),
        (["model.pretrained=none", "model.num_heads=3"], "multiple of model.num_heads, got 256 and 3"),
        (
            ["model.pretrained=none", "model.num_layers=0"],
            "model.num_layers: Input should be greater than or equal to 1",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings: list[str], message: str) -> None:
    with pytest.raises(RegardError, match=message):
        configure("demo", settings)


def test_a_table_needs_a_path() -> None:
    with pytest.raises(RegardError, match=r"--set data\.path=FILE"):
        configure("text-classifier")


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(RegardError, match=r"one of demo, demo-fast, .*text-classifier, .*translator; got 'demos'"):
        configure("demos")


def test_recorders_are_asked_for_by_name() -> None:
    assert configure("demo").watch.plotjuggler is configure("demo").watch.tensorboard is False
    chosen = configure("demo", ["watch.tensorboard=true", "watch.plotjuggler=127.0.0.1:9870"]).watch
    assert (chosen.tensorboard, chosen.plotjuggler) == (True, "127.0.0.1:9870")
    assert configure("demo", ["watch.plotjuggler=true"]).watch.plotjuggler is True


def test_a_column_may_be_named_by_its_number():
    assert PairsConfig.model_validate({"path": "pairs.tsv", "source_column": 1}).source_column == "1"
