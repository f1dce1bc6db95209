import pytest
import torch
from torch import nn

from regard._errors import ArgumentError, UnsupportedError
from regard.modules import from_torch

CASES = {
    "packed": {},
    "without bias": {"bias": False},
    "separate widths": {"kdim": 10, "vdim": 6},
    "sequence first": {"batch_first": False},
    "float64": {"dtype": torch.float64},
}


def pair(**options):
    torch.manual_seed(3)
    theirs = nn.MultiheadAttention(16, 4, **{"batch_first": True, **options})
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)  # torch begins with zero biases, which would hide a lost one
    return theirs, from_torch(theirs)


def inputs(theirs, q_len=6, kv_len=5):
    dtype = theirs.out_proj.weight.dtype
    return tuple(
        torch.randn(3, length, width, dtype=dtype)
        for length, width in ((q_len, 16), (kv_len, theirs.kdim), (kv_len, theirs.vdim))
    )


def run(theirs, query, key, value, **masks):
    tensors = (query, key, value)
    if theirs.batch_first:
        return theirs(*tensors, need_weights=False, **masks)[0]
    return theirs(*(tensor.transpose(0, 1) for tensor in tensors), need_weights=False, **masks)[0].transpose(0, 1)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_equal_in_cross_attention(options):
    theirs, ours = pair(**options)
    query, key, value = inputs(theirs)

    out = ours(query, key, value_context=value)

    torch.testing.assert_close(out, run(theirs, query, key, value), rtol=1e-5, atol=1e-5)


def test_equal_in_self_attention_and_its_gradient():
    theirs, ours = pair()
    x = torch.randn(3, 6, 16)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()

    ours(mine).square().sum().backward()
    run(theirs, other, other, other).square().sum().backward()

    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)
    mine_all = torch.cat([ours.query.weight.grad, ours.key.weight.grad, ours.value.weight.grad])
    torch.testing.assert_close(mine_all, theirs.in_proj_weight.grad, rtol=1e-4, atol=1e-4)


def test_equal_with_a_padding_mask():
    theirs, ours = pair()
    query, key, value = inputs(theirs)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [1]])

    out = ours(query, key, value_context=value, key_padding_mask=padding)

    torch.testing.assert_close(out, run(theirs, query, key, value, key_padding_mask=padding), rtol=1e-5, atol=1e-5)


def test_equal_with_the_opposite_attention_mask():
    theirs, ours = pair()
    query, key, value = inputs(theirs)
    forbidden = torch.rand(6, 5) < 0.4
    forbidden[:, 0] = False

    out = ours(query, key, value_context=value, attn_mask=~forbidden)

    torch.testing.assert_close(out, run(theirs, query, key, value, attn_mask=forbidden), rtol=1e-5, atol=1e-5)


def test_equal_with_a_float_mask_as_bias():
    theirs, ours = pair()
    query, key, value = inputs(theirs)
    bias = torch.randn(6, 5)

    out = ours(query, key, value_context=value, attn_bias=bias)

    torch.testing.assert_close(out, run(theirs, query, key, value, attn_mask=bias), rtol=1e-5, atol=1e-5)


def test_keeps_dropout_and_mode_and_copies_the_weights():
    theirs = nn.MultiheadAttention(16, 4, dropout=0.25).eval()

    ours = from_torch(theirs)

    assert ours.dropout_p == 0.25
    assert not ours.training
    before = ours.query.weight.clone()
    nn.init.zeros_(theirs.in_proj_weight)
    assert torch.equal(ours.query.weight, before)


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_what_cannot_be_expressed_is_refused_by_name(option):
    with pytest.raises(UnsupportedError, match=option):
        from_torch(nn.MultiheadAttention(16, 4, **{option: True}))


def test_another_module_is_refused():
    with pytest.raises(ArgumentError, match=r"nn\.MultiheadAttention, got Linear"):
        from_torch(nn.Linear(2, 2))
