import json

import pytest
import torch

from regard._errors import RecordError, UnsupportedError
from regard.models import (
    Forecaster,
    ForecasterConfig,
    Recurrent,
    RecurrentConfig,
    RecurrentForCausalLM,
    RecurrentForSequenceClassification,
    RecurrentTranslator,
    RecurrentTranslatorConfig,
    load_forecaster,
    load_recurrent,
    save_forecaster,
    save_recurrent,
)
from regard.models.own_checkpoint import recurrent_in


def network(**changes):
    return Recurrent(RecurrentConfig(**{"vocab_size": 20, "embed_dim": 6, "hidden_dim": 8, **changes}))


MODELS = {
    "network": lambda: network(bidirectional=True),
    "classifier": lambda: RecurrentForSequenceClassification(network(cell="lstm"), 3, pooling="last", dropout_p=0.2),
    "language model": lambda: RecurrentForCausalLM(network()),
    "translator": lambda: RecurrentTranslator(RecurrentTranslatorConfig(vocab_size=20, embed_dim=6, hidden_dim=8)),
}


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items()) and set(first) == set(second)


@pytest.mark.parametrize("name", MODELS)
def test_recurrent_round_trip(name, tmp_path):
    model = MODELS[name]()
    save_recurrent(model, tmp_path / "new" / "folder")

    loaded = load_recurrent(tmp_path / "new" / "folder")

    assert type(loaded) is type(model)
    assert same(model.state_dict(), loaded.state_dict())
    arguments = [torch.tensor([[3, 4, 5]])] * (2 if name == "translator" else 1)
    said, expected = loaded.eval()(*arguments), model.eval()(*arguments)
    torch.testing.assert_close(said, expected, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["transformer", "gru", "lstm"])
def test_forecaster_round_trip(architecture, tmp_path):
    model = Forecaster(ForecasterConfig(architecture=architecture, input_len=32, horizon=8, num_channels=3)).eval()
    save_forecaster(model, tmp_path)

    loaded = load_forecaster(tmp_path).eval()

    series = torch.randn(2, 32, 3)
    assert loaded.config == model.config
    assert torch.equal(loaded(series), model(series))


def test_another_architecture_is_refused(tmp_path):
    save_recurrent(network(), tmp_path)

    with pytest.raises(UnsupportedError, match="must have a model_type of regard-Forecaster, got 'regard-Recurrent'"):
        load_forecaster(tmp_path)


def test_damaged_config_is_named(tmp_path):
    save_recurrent(network(), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "config": {"vocab_size": 0}}))

    with pytest.raises(RecordError, match=r"config.json does not describe a regard-Recurrent: vocab_size must be"):
        load_recurrent(tmp_path)


def test_weights_of_another_shape_are_named(tmp_path):
    save_recurrent(network(), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["config"]["hidden_dim"] = 9
    (tmp_path / "config.json").write_text(json.dumps(content))

    with pytest.raises(RecordError, match=r"weight_hh_l0|weight_ih_l0"):
        load_recurrent(tmp_path)


def test_a_folder_holds_a_recurrent_network_of_the_class_that_is_needed_or_none(tmp_path):
    save_recurrent(RecurrentForCausalLM(network()), tmp_path / "recurrent")
    save_forecaster(Forecaster(ForecasterConfig(input_len=16, horizon=4, patch_len=8, stride=8)), tmp_path / "other")

    assert isinstance(recurrent_in(tmp_path / "recurrent", RecurrentForCausalLM), RecurrentForCausalLM)
    assert recurrent_in(tmp_path / "other", RecurrentForCausalLM) is None
    with pytest.raises(RecordError, match="must hold a RecurrentTranslator, got a RecurrentForCausalLM"):
        recurrent_in(tmp_path / "recurrent", RecurrentTranslator)
