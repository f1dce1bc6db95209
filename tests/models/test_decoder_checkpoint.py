"""Decoders of ``transformers``, loaded here and saved for it: the same logits, tokens and beams."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from regard._errors import RecordError, UnsupportedError
from regard.models import beam_search, generate, load_decoder, save_decoder

TOLERANCE = {"atol": 1e-4, "rtol": 0}
SHAPES = {
    "gpt2": ("gpt2", {}),
    "gpt2, exact gelu": ("gpt2", {"activation_function": "gelu"}),
    "gpt2, relu": ("gpt2", {"activation_function": "relu"}),
    "gpt2, narrow": ("gpt2", {"n_inner": 40, "layer_norm_epsilon": 0.1}),
    "gpt2, untied": ("gpt2", {"tie_word_embeddings": False}),
    "llama": ("llama", {}),
    "llama, another base": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, wide heads": ("llama", {"head_dim": 16, "num_key_value_heads": 1}),
    "llama, every head its own": ("llama", {"num_key_value_heads": 4, "rms_norm_eps": 0.1}),
}
IDS = torch.randint(3, 50, (3, 12), generator=torch.Generator().manual_seed(1))
MASK = (torch.arange(12) >= torch.tensor([[0], [3], [7]])).long()


@pytest.fixture
def saved(hf_decoder, tmp_path):
    """Return a function that saves a ``transformers`` model and returns it with its folder."""

    def save(name="llama", **changes):
        family, options = SHAPES[name]
        model = hf_decoder(family, **options, **changes)
        model.save_pretrained(tmp_path / "theirs")
        return model, tmp_path / "theirs"

    return save


def change_config(folder, **values):
    content = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_logits_are_those_of_transformers(name, saved):
    theirs, folder = saved(name)
    ours = load_decoder(folder).eval()

    torch.testing.assert_close(ours(IDS), theirs(IDS).logits, **TOLERANCE)
    places = (MASK.cumsum(1) - 1).clamp_min(0)
    expected = theirs(IDS, attention_mask=MASK, position_ids=places).logits
    torch.testing.assert_close(ours(IDS, MASK)[MASK.bool()], expected[MASK.bool()], **TOLERANCE)


@pytest.mark.parametrize("name", SHAPES)
@torch.no_grad()
def test_transformers_loads_what_we_save(name, saved, tmp_path):
    import transformers

    theirs, folder = saved(name)
    ours = load_decoder(folder)

    assert save_decoder(ours, tmp_path / "ours") == SHAPES[name][0]

    again, report = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    torch.testing.assert_close(again.eval()(IDS).logits, theirs(IDS).logits, **TOLERANCE)
    assert load_decoder(tmp_path / "ours").config == ours.config
    assert (again.config.bos_token_id, again.config.eos_token_id) == (1, 2)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_greedy_tokens_are_those_of_transformers(name, saved):
    theirs, folder = saved(name)
    ours = load_decoder(folder).eval()

    generated = generate(ours.session(), IDS, attention_mask=MASK, max_new_tokens=45, stop=[2, 9], pad_id=0)

    expected = theirs.generate(
        IDS, attention_mask=MASK, max_new_tokens=45, do_sample=False, eos_token_id=[2, 9], pad_token_id=0
    )[:, 12:]
    assert torch.equal(generated.tokens, expected)
    assert len(set(generated.tokens.flatten().tolist())) > 3, "the weights make some variety"


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("stop", [[2], [2, 5, 9, 11, 17, 23, 31, 42]])
def test_beams_are_those_of_transformers(stop, name, saved):
    """Without a length penalty, of which the two have different forms."""
    theirs, folder = saved(name)
    ours = load_decoder(folder).eval()

    found = beam_search(
        ours.session(), IDS, attention_mask=MASK, num_beams=4, max_new_tokens=12, alpha=0.0, stop=stop, pad_id=49
    )

    expected = theirs.generate(
        IDS, attention_mask=MASK, max_new_tokens=12, do_sample=False, num_beams=4, num_return_sequences=4,
        length_penalty=0.0, early_stopping="never", eos_token_id=stop, pad_token_id=49, output_scores=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    torch.testing.assert_close(found.scores.flatten(), expected.sequences_scores, **TOLERANCE)
    assert torch.equal(found.tokens.flatten(0, 1), expected.sequences[:, 12:][:, : found.tokens.shape[2]])


def test_a_decoder_of_no_known_shape_is_kept_under_our_names(make_decoder, tmp_path):
    model = make_decoder("mixed")

    assert save_decoder(model, tmp_path) == "regard-decoder"

    loaded = load_decoder(tmp_path).eval()
    assert loaded.config == model.config
    assert torch.equal(loaded(IDS), model(IDS))


def test_a_file_of_the_bare_model_loads(saved):
    theirs, folder = saved("gpt2")
    theirs.transformer.save_pretrained(folder)

    with torch.no_grad():
        torch.testing.assert_close(load_decoder(folder).eval()(IDS), theirs(IDS).logits, **TOLERANCE)


def test_what_old_files_carry_beside_the_weights_is_left(saved):
    theirs, folder = saved("gpt2")
    weights = load_file(folder / "model.safetensors")
    masks = {f"transformer.h.{number}.attn.bias": torch.ones(1) for number in range(2)}
    save_file(
        weights | masks | {"lm_head.weight": weights["transformer.wte.weight"].clone()}, folder / "model.safetensors"
    )

    with torch.no_grad():
        torch.testing.assert_close(load_decoder(folder).eval()(IDS), theirs(IDS).logits, **TOLERANCE)


def test_keys_that_a_config_leaves_out_have_their_usual_values(saved):
    theirs, folder = saved("llama")
    content = json.loads((folder / "config.json").read_text())
    for key in ("rope_parameters", "hidden_act", "attention_bias", "mlp_bias", "head_dim", "attention_dropout"):
        content.pop(key)
    (folder / "config.json").write_text(json.dumps({**content, "rope_theta": 10_000.0, "rope_scaling": None}))

    with torch.no_grad():
        torch.testing.assert_close(load_decoder(folder).eval()(IDS), theirs(IDS).logits, **TOLERANCE)


def test_half_precision_loads_in_float32_and_rates_may_be_given(saved):
    theirs, folder = saved("gpt2")
    theirs.half().save_pretrained(folder)

    model = load_decoder(folder, dropout_p=0.3, attention_dropout_p=0.2)

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (model.config.dropout_p, model.layers[1].attention.dropout_p) == (0.3, 0.2)


def test_training_does_not_write_into_the_file(saved):
    _, folder = saved("gpt2")
    before = (folder / "model.safetensors").read_bytes()
    model = load_decoder(folder)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)

    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "values", "named"),
    [
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "no rope_scaling"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "rope_type 'default'"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "factor": 2.0}}, "got factor among them"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 1.0, got 0.5"),
        ("llama", {"quantization_config": {"bits": 4}}, "no quantization_config"),
        ("llama", {"sliding_window": 128}, "no sliding_window"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act 'silu', got 'gelu'"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights True"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx False"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention False"),
        ("gpt2", {"activation_function": "silu"}, "activation_function out of gelu_new"),
        ("gpt2", {"embd_pdrop": 0.3}, "one rate as resid_pdrop and embd_pdrop"),
        ("gpt2", {"model_type": "gpt_neox"}, "model_type 'gpt2', 'llama' or 'regard-decoder', got 'gpt_neox'"),
    ],
)
def test_what_our_decoder_does_not_have_is_refused_by_name(name, values, named, saved):
    _, folder = saved(name)
    change_config(folder, **values)

    with pytest.raises(UnsupportedError, match=named):
        load_decoder(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_attention_heads": 3}, "does not describe a decoder: num_heads must be a multiple"),
        ({"num_hidden_layers": 0}, "does not describe a decoder: num_layers must be a whole number"),
        ({"num_hidden_layers": 3}, r"misses layers\.2\.input_layernorm\.weight"),
        ({"num_hidden_layers": 1}, r"holds the unexpected layers\.1\.input_layernorm\.weight"),
        ({"intermediate_size": 47}, r"must have config\.json's shape \(47, 32\), got \(48, 32\)"),
        ({"rope_parameters": 3}, "an object as rope_parameters"),
    ],
)
def test_a_damaged_folder_says_what_is_wrong(values, message, saved):
    _, folder = saved("llama")
    change_config(folder, **values)

    with pytest.raises(RecordError, match=message):
        load_decoder(folder)


def test_a_damaged_config_of_our_own_says_what_is_wrong(make_decoder, tmp_path):
    save_decoder(make_decoder("mixed"), tmp_path)
    change_config(tmp_path, num_layers=0)

    with pytest.raises(RecordError, match="does not describe a decoder: num_layers must be a whole number"):
        load_decoder(tmp_path)
