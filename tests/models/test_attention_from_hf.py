import pytest
import torch

from regard._errors import ArgumentError, UnsupportedError
from regard.models import attention_from_hf

X = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))
TOLERANCE = {"atol": 1e-5, "rtol": 0}


@torch.no_grad()
def test_gpt2(hf_decoder):
    theirs = hf_decoder("gpt2").transformer.h[1].attn

    torch.testing.assert_close(attention_from_hf(theirs)(X), theirs(X)[0], **TOLERANCE)


@pytest.mark.parametrize("changes", [{}, {"attention_bias": True}, {"head_dim": 16, "num_key_value_heads": 1}])
@torch.no_grad()
def test_llama(changes, hf_decoder):
    model = hf_decoder("llama", **changes).model
    theirs, positions = model.layers[1].self_attn, model.rotary_emb(X, torch.arange(7)[None])
    mask = torch.ones(7, 7, dtype=torch.bool).tril()[None, None]

    expected = theirs(X, position_embeddings=positions, attention_mask=mask)[0]

    torch.testing.assert_close(attention_from_hf(theirs)(X), expected, **TOLERANCE)


@torch.no_grad()
def test_bert(hf_tiny):
    theirs = hf_tiny().encoder.layer[1].attention
    ours, x = attention_from_hf(theirs), X[:, :, :16]

    expected = theirs.output.dense(theirs.self(x)[0])

    torch.testing.assert_close(ours(x), expected, **TOLERANCE)
    assert not ours.causal


def test_the_weights_are_copies(hf_decoder):
    theirs = hf_decoder("gpt2").transformer.h[0].attn
    before = theirs.c_attn.weight.clone()

    attention_from_hf(theirs).query.weight.data.zero_()

    assert torch.equal(theirs.c_attn.weight, before)


def test_something_else_is_refused(hf_decoder):
    import transformers

    with pytest.raises(ArgumentError, match="self-attention of a GPT-2, Llama or BERT is needed, got a Linear"):
        attention_from_hf(torch.nn.Linear(2, 2))
    cross = transformers.models.gpt2.modeling_gpt2.GPT2Attention(hf_decoder("gpt2").config, is_cross_attention=True)
    with pytest.raises(ArgumentError, match="got a GPT2Attention"):
        attention_from_hf(cross)
    scaled = hf_decoder("gpt2", scale_attn_by_inverse_layer_idx=True).transformer.h[0].attn
    with pytest.raises(UnsupportedError, match="scale_attn_by_inverse_layer_idx False"):
        attention_from_hf(scaled)
