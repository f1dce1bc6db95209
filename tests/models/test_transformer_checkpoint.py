import json

import pytest
import torch
from safetensors.torch import load_file

from regard._errors import RecordError, UnsupportedError
from regard.models import Bert, Transformer, TransformerConfig, load_transformer, save_bert, save_transformer

SIZES = {"vocab_size": 50, "embed_dim": 16, "num_heads": 4, "num_encoder_layers": 1, "num_decoder_layers": 2}
VARIANTS = [
    {},
    {"tied_embeddings": "target", "norm": "pre"},
    {"tied_embeddings": "none", "target_vocab_size": 60, "positions": "learned", "max_len": 9},
]
SOURCE, TARGET = torch.tensor([[5, 6, 2]]), torch.tensor([[1, 7]])


def small(**changes):
    return Transformer(TransformerConfig(**{**SIZES, "feed_forward_dim": 24, **changes})).eval()


def change_config(folder, **values):
    content = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_round_trip(changes, tmp_path):
    model = small(**changes)
    save_transformer(model, tmp_path)

    loaded = load_transformer(tmp_path).eval()

    assert loaded.config == model.config
    assert torch.equal(loaded(SOURCE, TARGET), model(SOURCE, TARGET))


def test_tied_matrices_are_written_once_and_stay_tied(tmp_path):
    save_transformer(small(), tmp_path)

    shapes = [tuple(value.shape) for value in load_file(tmp_path / "model.safetensors").values()]
    loaded = load_transformer(tmp_path)

    assert shapes.count((50, 16)) == 1
    assert loaded.source_embeddings.tokens.weight is loaded.target_embeddings.tokens.weight
    assert sum(one.numel() for one in loaded.parameters()) == sum(one.numel() for one in small().parameters())


def test_a_loaded_model_trains_on(tmp_path):
    save_transformer(small(), tmp_path)
    loaded = load_transformer(tmp_path, dropout_p=0.3).train()

    loaded(SOURCE, TARGET).logsumexp(-1).sum().backward()

    assert loaded.config.dropout_p == loaded.decoder.layer[0].dropout.p == 0.3
    assert all(one.grad is not None and not one.is_meta for one in loaded.parameters())


def test_another_architecture_is_refused_by_name(tiny, tmp_path):
    save_bert(Bert(tiny), tmp_path)

    with pytest.raises(UnsupportedError, match="model_type 'regard-transformer', got 'bert'"):
        load_transformer(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_heads": 3}, "does not describe a Transformer: embed_dim must be a multiple"),
        ({"d_model": 16}, "does not describe a Transformer: A TransformerConfig has no field d_model"),
        ({"num_decoder_layers": 3}, r"misses decoder\.layer\.2\.cross_attention\.key\.bias"),
        ({"num_decoder_layers": 1}, r"holds the unexpected decoder\.layer\.1"),
        ({"vocab_size": 40}, r"config\.json's shape \(40, 16\), got \(50, 16\)"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, values, message):
    save_transformer(small(), tmp_path)
    change_config(tmp_path, **values)

    with pytest.raises(RecordError, match=message):
        load_transformer(tmp_path)


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"config\.json is needed"):
        load_transformer(tmp_path / "nowhere")
