"""GGUF files, written here by the library ``gguf`` as llama.cpp converts them, and a real one."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from regard._errors import MissingDependencyError, RecordError, UnsupportedError
from regard.models import load_gguf, smollm2_file

gguf = pytest.importorskip("gguf", reason="needs the extra regard[gguf]")

IDS = torch.randint(3, 50, (2, 12), generator=torch.Generator().manual_seed(1))
PLACES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def their_name(name):
    if name in WHOLE:
        return WHOLE[name]
    number, inner = re.fullmatch(r"model\.layers\.(\d+)\.(.*)\.weight", name).groups()
    return f"blk.{number}.{PLACES[inner]}.weight"


def permuted(weight, heads):
    """Pair neighbouring rows of each head, as llama.cpp does when it converts a Llama."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def written(model, path, *, kind=None, architecture="llama", extra=(), leave_out=(), tensors=()):
    """Write a ``LlamaForCausalLM``; matrices are quantised as ``kind``."""
    config, writer = model.config, gguf.GGUFWriter(path, architecture)
    writer.add_uint32("llama.block_count", config.num_hidden_layers)
    writer.add_uint32("llama.context_length", config.max_position_embeddings)
    writer.add_uint32("llama.embedding_length", config.hidden_size)
    writer.add_uint32("llama.feed_forward_length", config.intermediate_size)
    writer.add_uint32("llama.attention.head_count", config.num_attention_heads)
    writer.add_uint32("llama.attention.head_count_kv", config.num_key_value_heads)
    if "norm_eps" not in leave_out:
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32("llama.rope.freq_base", config.rope_parameters["rope_theta"])
    writer.add_uint32("tokenizer.ggml.eos_token_id", 2)
    for key, value in extra:
        writer.add_uint32(key, value)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        weight = tensor.numpy()
        for projection, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            weight = permuted(weight, heads) if projection in name else weight
        if kind is not None and weight.ndim == 2:
            writer.add_tensor(their_name(name), gguf.quantize(weight, kind), raw_dtype=kind)
        elif their_name(name) not in leave_out:
            writer.add_tensor(their_name(name), np.ascontiguousarray(weight))
    for name, values in tensors:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def llama(hf_decoder):
    return hf_decoder("llama", rope_parameters={"rope_type": "default", "rope_theta": 300.0})


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_logits_are_those_of_the_model_that_was_converted(tied, hf_decoder, tmp_path):
    theirs = hf_decoder("llama", tie_word_embeddings=tied)

    ours = load_gguf(written(theirs, tmp_path / "model.gguf")).eval()

    torch.testing.assert_close(ours(IDS), theirs(IDS).logits, atol=1e-4, rtol=0)
    assert ours.config.tied_embeddings == tied
    assert ours.config.eos_ids == (2,)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "F16"])
@torch.no_grad()
def test_quantised_weights_become_the_numbers_that_they_stand_for(kind, llama, tmp_path):
    kind = gguf.GGMLQuantizationType[kind]
    for tensor in llama.state_dict().values():
        if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
            rounded = gguf.dequantize(gguf.quantize(tensor.numpy(), kind), kind)
            tensor.copy_(torch.from_numpy(np.array(rounded, dtype=np.float32)))
    path = tmp_path / "model.gguf"
    # The width inside the feed-forward network must be whole blocks of 32 as well.
    llama.config.intermediate_size = 32
    for layer in llama.model.layers:
        layer.mlp.gate_proj.weight.data = layer.mlp.gate_proj.weight[:32]
        layer.mlp.up_proj.weight.data = layer.mlp.up_proj.weight[:32]
        down = layer.mlp.down_proj.weight[:, :32].contiguous().numpy()
        rounded = gguf.dequantize(gguf.quantize(down, kind), kind)
        layer.mlp.down_proj.weight.data = torch.from_numpy(np.array(rounded, dtype=np.float32))

    ours = load_gguf(written(llama, path, kind=kind)).eval()

    torch.testing.assert_close(ours(IDS), llama(IDS).logits, atol=1e-3, rtol=0)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}


def test_training_does_not_write_into_the_file(llama, tmp_path):
    path = written(llama, tmp_path / "model.gguf")
    before, model = path.read_bytes(), load_gguf(path)

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)

    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"architecture": "qwen2"}, UnsupportedError, "architecture 'llama', got 'qwen2'"),
        ({"extra": [("llama.expert_count", 4)]}, UnsupportedError, r"plain Llama, got llama\.expert_count as well"),
        ({"extra": [("llama.rope.dimension_count", 4)]}, UnsupportedError, r"llama\.rope\.dimension_count 8, got 4"),
        ({"leave_out": ["norm_eps"]}, RecordError, r"must hold llama\.attention\.layer_norm_rms_epsilon"),
        ({"leave_out": ["blk.1.ffn_up.weight"]}, RecordError, r"misses blk\.1\.ffn_up\.weight"),
        ({"tensors": [("rope_freqs.weight", np.ones(4, np.float32))]}, RecordError, r"unexpected rope_freqs\.weight"),
    ],
)
def test_what_is_not_a_plain_llama_is_refused_by_name(options, error, message, llama, tmp_path):
    path = written(llama, tmp_path / "model.gguf", **options)

    with pytest.raises(error, match=message):
        load_gguf(path)


def test_a_weight_of_another_shape_is_named(llama, tmp_path):
    llama.model.layers[0].mlp.up_proj.weight.data = torch.zeros(47, 32)

    with pytest.raises(RecordError, match=r"blk\.0\.ffn_up\.weight in .* shape \(48, 32\), got \(47, 32\)"):
        load_gguf(written(llama, tmp_path / "model.gguf"))


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF\x03\x00\x00\x00"])
def test_a_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)

    with pytest.raises(RecordError, match=r"A GGUF file is needed, got .*model\.gguf"):
        load_gguf(path)
    with pytest.raises(RecordError, match="A GGUF file is needed"):
        load_gguf(tmp_path / "absent.gguf")


def test_the_library_is_asked_for_where_it_is_missing(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "gguf", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'regard\[gguf\]'"):
        load_gguf(tmp_path / "model.gguf")


@pytest.fixture(scope="session")
def smollm2():
    try:
        return smollm2_file()
    except MissingDependencyError as error:
        pytest.skip(f"needs the SmolLM2 weights: {error}")


@pytest.mark.data
@torch.no_grad()
def test_smollm2_gives_the_logits_of_transformers(smollm2: Path):
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(str(smollm2.parent), gguf_file=smollm2.name).eval()
    ids = torch.randint(17, 49_152, (1, 40), generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(load_gguf(smollm2).eval()(ids), theirs(ids).logits, atol=1e-3, rtol=0)
