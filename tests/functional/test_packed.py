import pytest
import torch

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional import alibi_slopes, attention, packed_attention, reference
from regard.functional.impl import native

LENGTHS = [(70, 70), (1, 130), (0, 3), (33, 64), (5, 5)]
OPTIONS = {
    "plain": {},
    "causal": {"causal": True},
    "causal window": {"causal": True, "window": 9},
    "window": {"window": 20},
    "slopes": {"alibi_slopes": alibi_slopes(4)},
    "slopes, causal window, softcap": {"alibi_slopes": alibi_slopes(4), "causal": True, "window": 40, "softcap": 2.0},
}


def packed(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    q_len, kv_len = (sum(pair[side] for pair in LENGTHS) for side in (0, 1))
    query = torch.randn(q_len, 4, 24, generator=generator, dtype=torch.float64)
    key, value = (torch.randn(kv_len, 2, width, generator=generator, dtype=torch.float64) for width in (24, 16))
    bounds = [torch.tensor([0, *(pair[side] for pair in LENGTHS)]).cumsum(0) for side in (0, 1)]
    return [tensor.to(dtype) for tensor in (query, key, value)], {"offsets": bounds[0], "kv_offsets": bounds[1]}


def dense(query, key, value, *, offsets, kv_offsets, causal=False, window=None, alibi_slopes=None, softcap=None):
    """One sequence after the other, by the formulas."""
    parts = []
    for index in range(len(offsets) - 1):
        rows = slice(offsets[index], offsets[index + 1])
        keys = slice(kv_offsets[index], kv_offsets[index + 1])
        q, k, v = (tensor[at].transpose(0, 1)[None] for tensor, at in ((query, rows), (key, keys), (value, keys)))
        q_len, kv_len = q.shape[2], k.shape[2]
        apart = torch.arange(q_len)[:, None] + (kv_len - q_len) - torch.arange(kv_len)
        keep = torch.ones(q_len, kv_len, dtype=torch.bool) if window is None else apart.abs() < window
        bias = None if alibi_slopes is None else (-alibi_slopes[:, None, None] * apart.abs()).to(q.dtype)
        found = reference.attention(q, k, v, attn_mask=keep, attn_bias=bias, causal=causal, softcap=softcap)
        parts.append(found[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_each_sequence_is_attended_by_itself(options, dtype, threads, kernels, monkeypatch, within_budget):
    monkeypatch.setattr(native, "_PRODUCTS_OF_A_THREAD", 1)
    torch.set_num_threads(threads)
    tensors, bounds = packed(dtype)
    results = []
    for wanted, function in ((dtype, packed_attention), (dtype, dense), (torch.float64, dense)):
        leaves = [tensor.to(wanted).requires_grad_() for tensor in tensors]
        output = function(*leaves, **bounds, **options)
        direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        results.append([output, *torch.autograd.grad(output, leaves, direction.to(wanted))])
    for values in zip(*results, strict=True):
        within_budget(*values)


def test_a_window_of_one_sequence_is_that_of_a_mask():
    (query, _, _), _ = packed()
    bounds = torch.tensor([0, len(query)])
    found = packed_attention(query, query, query, offsets=bounds, causal=True, window=7)
    apart = torch.arange(len(query))[:, None] - torch.arange(len(query))
    four = query.transpose(0, 1)[None]
    expected = attention(four, four, four, attn_mask=(apart >= 0) & (apart < 7))[0].transpose(0, 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_no_sequence_gives_nothing(kernels):
    query = torch.zeros(0, 2, 4)
    assert packed_attention(query, query, query, offsets=torch.tensor([0])).shape == (0, 2, 4)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"offsets": torch.tensor([0.0, 3.0])}, DtypeError, "offsets must be integers"),
        ({"offsets": torch.tensor([0, 2])}, ArgumentError, "offsets must rise from 0 to the number of tokens, 3"),
        ({"offsets": torch.tensor([1, 3])}, ArgumentError, "offsets must rise from 0"),
        ({"offsets": torch.tensor([0, 2, 1, 3])}, ArgumentError, "offsets must rise from 0"),
        ({"kv_offsets": torch.tensor([0, 1, 3])}, ArgumentError, "as many sequences, got 1 and 2"),
        ({"window": 0}, ArgumentError, "window must be at least 1 key, got 0"),
        ({"impl": "fast"}, ArgumentError, "impl must be one of"),
        (
            {"offsets": torch.tensor([0, 2, 3]), "kv_offsets": torch.tensor([0, 1, 3]), "causal": True},
            ArgumentError,
            "Causal attention needs at least as many keys",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, kind, message):
    query = torch.zeros(3, 2, 4)
    with pytest.raises(kind, match=message):
        packed_attention(query, query, query, **{"offsets": torch.tensor([0, 3]), **change})


def test_slopes_that_learn_take_another_backend():
    query, slopes = torch.randn(6, 2, 4), torch.ones(2, requires_grad=True)
    bounds = torch.tensor([0, 2, 6])
    packed_attention(query, query, query, offsets=bounds, alibi_slopes=slopes).sum().backward()
    assert (slopes.grad != 0).all()
    with pytest.raises(UnsupportedError, match='impl="native" needs'):
        packed_attention(query, query, query, offsets=bounds, alibi_slopes=slopes, impl="native")
