import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from regard._errors import ArgumentError, RecordError, UnsupportedError
from regard.models import (
    Bert,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    load_bert,
    load_classifier,
    load_masked_lm,
    save_bert,
    save_classifier,
    save_masked_lm,
)


@pytest.fixture
def folder(tiny, tmp_path):
    """A saved encoder."""
    save_bert(Bert(tiny), tmp_path)
    return tmp_path


@pytest.fixture
def tokens():
    return torch.randint(1, 50, (2, 7))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights) or weights, folder / "model.safetensors")


def change_config(folder, **values):
    content = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(content))


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items()) and set(first) == set(second)


def test_encoder_round_trip(tiny, tmp_path):
    model = Bert(tiny)
    save_bert(model, tmp_path / "new" / "folder")

    loaded = load_bert(tmp_path / "new" / "folder")

    assert loaded.config == tiny
    assert same(model.state_dict(), loaded.state_dict())


def test_masked_lm_round_trip(tiny, tmp_path):
    model = BertForMaskedLM(Bert(tiny))
    torch.nn.init.normal_(model.bias)
    save_masked_lm(model, tmp_path)

    assert same(model.state_dict(), load_masked_lm(tmp_path).state_dict())


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_classifier_round_trip(tiny, tmp_path, tokens, pooling):
    model = BertForSequenceClassification(Bert(tiny), 3, pooling=pooling, dropout_p=0.25).eval()
    save_classifier(model, tmp_path)

    loaded = load_classifier(tmp_path, attention_dtype=torch.float64)

    assert same(model.state_dict(), loaded.state_dict())
    assert (loaded.pooling, loaded.dropout.p) == (pooling, 0.25)
    assert loaded.bert.encoder.layer[1].attention.compute_dtype == torch.float64
    torch.testing.assert_close(loaded.eval()(tokens), model(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("save", [save_classifier, save_masked_lm])
def test_encoder_loads_from_a_model_with_a_head(tiny, tmp_path, save):
    encoder = Bert(tiny)
    save(BertForMaskedLM(encoder) if save is save_masked_lm else BertForSequenceClassification(encoder, 2), tmp_path)

    assert same(encoder.state_dict(), load_bert(tmp_path).state_dict())


def test_rates_may_be_given_on_loading(folder):
    config = load_bert(folder, dropout_p=0.3, attention_dropout_p=0.2).config

    assert (config.dropout_p, config.attention_dropout_p) == (0.3, 0.2)


def test_training_does_not_write_into_the_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    model = load_bert(folder)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)

    assert (folder / "model.safetensors").read_bytes() == before
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())


def test_saving_over_a_loaded_folder_is_safe(folder):
    model = load_bert(folder)

    save_bert(model, folder)

    assert same(model.state_dict(), load_bert(folder).state_dict())
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_half_precision_files_load_in_float32(folder):
    change_weights(folder, lambda weights: {name: value.half() for name, value in weights.items()})

    assert {parameter.dtype for parameter in load_bert(folder).parameters()} == {torch.float32}


def test_old_names_of_norms_are_understood(folder):
    before = load_bert(folder).state_dict()

    def rename(weights):
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        return {name.replace(new, old[new]): value for name, value in weights.items() for new in old if new in name} | {
            name: value for name, value in weights.items() if "LayerNorm" not in name
        }

    change_weights(folder, rename)

    assert same(before, load_bert(folder).state_dict())


def test_pooler_and_position_numbers_are_left_unused(folder):
    change_weights(
        folder,
        lambda weights: weights | {"pooler.dense.weight": torch.ones(1), "embeddings.position_ids": torch.ones(1)},
    )

    load_bert(folder)
    with pytest.raises(RecordError, match=r"unexpected embeddings\.position_ids, pooler\.dense\.weight"):
        load_bert(folder, ignore=())


def test_missing_key_is_named(folder):
    change_weights(
        folder, lambda weights: {k: v for k, v in weights.items() if k != "encoder.layer.1.output.dense.bias"}
    )

    with pytest.raises(RecordError, match=r"misses encoder\.layer\.1\.output\.dense\.bias"):
        load_bert(folder)


def test_unexpected_key_is_named(folder):
    change_weights(folder, lambda weights: weights | {"encoder.layer.2.output.dense.bias": torch.ones(16)})

    with pytest.raises(RecordError, match=r"unexpected encoder\.layer\.2\.output\.dense\.bias"):
        load_bert(folder)


def test_many_missing_keys_are_counted(folder):
    change_config(folder, num_hidden_layers=3)

    with pytest.raises(RecordError, match="and 11 more"):
        load_bert(folder)


def test_another_shape_is_named(folder):
    change_weights(folder, lambda weights: weights | {"embeddings.word_embeddings.weight": torch.ones(49, 16)})

    with pytest.raises(RecordError, match=r"word_embeddings\.weight .* shape \(50, 16\), got \(49, 16\)"):
        load_bert(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_absent_file_is_named(folder, name):
    (folder / name).unlink()

    with pytest.raises(RecordError, match=f"{name} is needed"):
        load_bert(folder)


@pytest.mark.parametrize("content", [b"{", b"[]"])
def test_damaged_config_is_refused(folder, content):
    (folder / "config.json").write_bytes(content)

    with pytest.raises(RecordError, match=r"config\.json must hold"):
        load_bert(folder)


def test_cut_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(RecordError, match=r"whole model\.safetensors is needed"):
        load_bert(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "roberta"}, "model_type 'bert', got 'roberta'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'absolute'"),
        ({"is_decoder": True}, "is_decoder False, got True"),
        ({"hidden_act": "gelu_new"}, "hidden_act 'gelu' or 'relu', got 'gelu_new'"),
    ],
)
def test_another_architecture_is_refused_by_name(folder, values, message):
    change_config(folder, **values)

    with pytest.raises(UnsupportedError, match=message):
        load_bert(folder)


def test_impossible_config_is_refused(folder):
    change_config(folder, num_attention_heads=3)

    with pytest.raises(RecordError, match="does not describe a BERT: embed_dim must be a multiple"):
        load_bert(folder)


def test_config_without_sizes_is_refused(folder):
    content = json.loads((folder / "config.json").read_text())
    del content["hidden_size"]
    (folder / "config.json").write_text(json.dumps(content))

    with pytest.raises(RecordError, match="must hold hidden_size"):
        load_bert(folder)


def test_encoder_is_no_classifier(folder):
    with pytest.raises(RecordError, match="must describe a classifier under 'regard', got None"):
        load_classifier(folder)


def test_unknown_pooling_in_a_file_is_refused(tiny, tmp_path):
    save_classifier(BertForSequenceClassification(Bert(tiny), 3), tmp_path)
    change_config(tmp_path, regard={"num_labels": 3, "pooling": "max", "dropout_p": 0.1})

    with pytest.raises(ArgumentError, match="pooling must be"):
        load_classifier(tmp_path)


def test_full_disk_leaves_the_old_model(folder, tiny, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(RecordError, match=r"room for the model, got: .*No space left on device"):
        save_bert(Bert(tiny), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_file_in_place_of_the_folder_is_refused(tiny, tmp_path):
    (tmp_path / "taken").write_text("")

    with pytest.raises(RecordError, match="must be a folder with room"):
        save_bert(Bert(tiny), tmp_path / "taken")


def test_config_keeps_every_field(tmp_path):
    config = BertConfig(
        vocab_size=20, embed_dim=6, num_heads=3, num_layers=1, feed_forward_dim=5, max_len=7, num_token_types=4,
        pad_id=3, activation="relu", dropout_p=0.2, attention_dropout_p=0.3, layer_norm_eps=1e-6,
    )  # fmt: skip
    save_bert(Bert(config), tmp_path)

    assert load_bert(tmp_path).config == config
    assert Path(tmp_path / "config.json").stat().st_mode & 0o444
