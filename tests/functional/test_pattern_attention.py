"""Attention by a pattern is dense masked attention, to the last pair."""

import pytest
import torch

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional import attention, patterns, reference, selected_impl, taps
from regard.functional.impl import blocks, native_blocks
from regard.functional.impl.chunked import chunked_with_lse
from regard.functional.patterns import layout

from .conftest import NEEDS_NATIVE
from .patterned import CALLS, LEN, PATTERNS, PatternCall

BACKENDS = ["chunked", pytest.param("native", marks=NEEDS_NATIVE)]


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_output_and_gradients_are_those_of_the_dense_mask_in_float64(name, call):
    pattern = PATTERNS[name]
    tensors = [tensor.requires_grad_() for tensor in call.tensors(torch.float64)]
    output = attention(*tensors, pattern=pattern, **call.masking(torch.float64))
    exact = reference.attention(*tensors, **call.dense(pattern, torch.float64))
    torch.testing.assert_close(output, exact, rtol=1e-11, atol=1e-11)
    seen = torch.randn_like(output)
    found, wanted = (torch.autograd.grad(one, tensors, seen) for one in (output, exact))
    for grad, exact_grad in zip(found, wanted, strict=True):
        torch.testing.assert_close(grad, exact_grad, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("call", [CALLS[at] for at in (1, 2, 6, 7)], ids=str)
@pytest.mark.parametrize("name", PATTERNS)
@NEEDS_NATIVE
def test_native_output_and_gradients_are_exact_to_1e_5(name, call):
    pattern = PATTERNS[name]
    tensors = [tensor.requires_grad_() for tensor in call.tensors(torch.float32)]
    output = attention(*tensors, pattern=pattern, impl="native", **call.masking(torch.float32))
    doubles = [tensor.detach().double().requires_grad_() for tensor in tensors]
    shaping = call.dense(pattern, torch.float32)
    for name in ("attn_bias", "alibi_slopes"):
        shaping[name] = None if shaping[name] is None else shaping[name].double()
    exact = reference.attention(*doubles, **shaping)
    torch.testing.assert_close(output.double(), exact, rtol=1e-5, atol=1e-5)
    seen = torch.randn_like(output)
    found = torch.autograd.grad(output, tensors, seen)
    wanted = torch.autograd.grad(exact, doubles, seen.double())
    for grad, exact_grad in zip(found, wanted, strict=True):
        torch.testing.assert_close(grad.double(), exact_grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PATTERNS)
def test_tiny_blocks_of_scores_change_nothing(name, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_SCORES", 1 << 10)
    monkeypatch.setattr(blocks, "_BLOCK_KEYS", 48)
    call = PatternCall(mask="padding", causal=True)
    output = attention(*call.tensors(torch.float64), pattern=PATTERNS[name], **call.masking(torch.float64))
    exact = reference.attention(*call.tensors(torch.float64), **call.dense(PATTERNS[name], torch.float64))
    torch.testing.assert_close(output, exact, rtol=1e-11, atol=1e-11)


@NEEDS_NATIVE
def test_few_heads_at_a_time_and_single_keys_change_nothing(monkeypatch):
    monkeypatch.setattr(native_blocks, "_GATHERED_BYTES", 1)
    monkeypatch.setattr(layout, "_MOST_RUNS", 0)
    call, pattern = PatternCall(slopes=True, mask="full"), patterns.longformer(20, [0, 5, 150])
    tensors = [tensor.requires_grad_() for tensor in call.tensors(torch.float32)]
    results = []
    for impl, shaping in (("native", call.masking(torch.float32)), ("reference", call.dense(pattern, torch.float32))):
        given = {"pattern": pattern} if impl == "native" else {}
        output = attention(*tensors, impl=impl, **given, **shaping)
        results.append([output, *torch.autograd.grad(output.square().sum(), tensors)])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("impl", BACKENDS)
def test_a_row_without_keys_gives_zero_and_a_gradient_of_zero(impl):
    pattern = patterns.block_sparse([(0, 0)], block=10)
    tensors = [torch.randn(1, 1, 40, 8, requires_grad=True) for _ in range(3)]
    output = attention(*tensors, pattern=pattern, impl=impl)
    output.sum().backward()
    assert torch.equal(output[:, :, 10:], torch.zeros(1, 1, 30, 8))
    for tensor in tensors:
        assert torch.equal(tensor.grad[:, :, 10:], torch.zeros(1, 1, 30, 8))
        assert bool(torch.isfinite(tensor.grad).all())


def test_bias_and_slopes_get_their_gradients():
    call = PatternCall(bias=True, slopes=True, mask="padding", causal=True)
    pattern = PATTERNS["longformer in documents"]
    shaping, dense = call.masking(torch.float64), call.dense(pattern, torch.float64)
    grads = []
    for given in ({**shaping, "pattern": pattern, "impl": "chunked"}, {**dense, "impl": "reference"}):
        leaves = [given[name].clone().requires_grad_() for name in ("attn_bias", "alibi_slopes")]
        given |= dict(zip(("attn_bias", "alibi_slopes"), leaves, strict=True))
        output = attention(*call.tensors(torch.float64), **given)
        grads.append(torch.autograd.grad(output.square().sum(), leaves))
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)


def test_the_log_sum_exp_has_a_gradient():
    call, pattern = PatternCall(), PATTERNS["sinks"]
    query, key, value = call.tensors(torch.float64)
    query.requires_grad_()
    _, lse = chunked_with_lse(query, key, value, pattern=pattern)
    exact = reference.lse(reference.scores(query, key, attn_mask=pattern.mask(LEN, LEN)))
    torch.testing.assert_close(lse, exact, rtol=1e-12, atol=1e-12)
    found, wanted = (torch.autograd.grad(one.sum(), query)[0] for one in (lse, exact))
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_as_near_as_the_dense_call(impl, dtype):
    call, pattern = PatternCall(causal=True), PATTERNS["longformer"]
    tensors = call.tensors(dtype)
    exact = reference.attention(*(one.double() for one in tensors), **call.dense(pattern, torch.float64))
    eager = reference.attention(*tensors, **call.dense(pattern, dtype))
    found = attention(*tensors, pattern=pattern, impl=impl, causal=True)
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() <= 2 * (eager.double() - exact).abs().max()


@pytest.mark.parametrize("impl", BACKENDS)
def test_dropout_is_the_same_in_forward_and_backward_and_keeps_the_mean(impl):
    pattern, identity = PATTERNS["longformer"], torch.eye(LEN)[None, None]
    zeros = torch.zeros(1, 1, LEN, 8)
    torch.manual_seed(5)
    value = identity.clone().requires_grad_()
    weights = attention(zeros, zeros, value, pattern=pattern, dropout_p=0.25, impl=impl)
    allowed = pattern.mask(LEN, LEN)
    assert float((weights[allowed] == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(weights.detach().sum(-1).mean()) == pytest.approx(1.0, abs=0.02)
    weights.backward(torch.ones_like(weights))
    # The gradient of a value is the weight that it received, with the same weights dropped.
    torch.testing.assert_close(value.grad[0, 0, :, 0], weights.detach()[0, 0].sum(0), rtol=1e-5, atol=1e-6)


def test_a_window_alone_is_the_window_argument(monkeypatch):
    heard = []
    monkeypatch.setattr(taps, "LISTENERS", [lambda kernel, arguments, result: heard.append((kernel, arguments))])
    query = torch.randn(1, 1, 200, 8)
    output = attention(query, query, query, pattern=patterns.sliding(7), window=9, impl="chunked")
    assert torch.equal(output, attention(query, query, query, window=7, impl="chunked"))
    causal = attention(query, query, query, pattern=patterns.sliding(7, ahead=3), causal=True, impl="chunked")
    assert torch.equal(causal, attention(query, query, query, window=7, causal=True, impl="chunked"))
    assert [(kernel, arguments["window"], "pattern" in arguments) for kernel, arguments in heard[::2]] == [
        ("regard chunked", 7, False)
    ] * 2


def test_closed_blocks_are_not_computed(monkeypatch):
    looked_at = []
    scores = blocks.ScoreBlocks.scores
    monkeypatch.setattr(
        blocks.ScoreBlocks,
        "scores",
        lambda self, place, keys, rows: (
            looked_at.append(layout.length_of(place.rows) * layout.length_of(keys)) or scores(self, place, keys, rows)
        ),
    )
    query = torch.randn(1, 1, 4096, 8)
    pattern = patterns.longformer(65, [0, 1000, 3000])
    attention(query, query, query, pattern=pattern, impl="chunked")
    assert sum(looked_at) == pattern.num_computed(4096, 4096) < 4096 * 4096 / 12


def test_what_no_backend_has_is_refused():
    query = torch.randn(2, 1, 10, 8)
    pattern = patterns.longformer(3, [0])
    for impl in ("sdpa", "flex", "triton"):
        with pytest.raises(UnsupportedError, match="has no patterns"):
            attention(query, query, query, pattern=pattern, impl=impl)
    with pytest.raises(ArgumentError, match="at least as many keys as queries"):
        attention(query, query[:, :, :9], query[:, :, :9], pattern=pattern)
    with pytest.raises(ArgumentError, match="must tell apart 1 or 2 sequences, got 3"):
        attention(query, query, query, pattern=patterns.documents(torch.zeros(3, 10, dtype=torch.int64)))
    with pytest.raises(ArgumentError, match="number of each of the 10 keys, got 9"):
        attention(query, query, query, pattern=patterns.documents(torch.zeros(9, dtype=torch.int64)))


def test_the_reference_takes_the_dense_mask_and_auto_says_what_it_takes():
    call, pattern = PatternCall(mask="padding", causal=True), PATTERNS["documents by sequence"]
    tensors = call.tensors(torch.float64)
    output = attention(*tensors, pattern=pattern, impl="reference", **call.masking(torch.float64))
    exact = reference.attention(*tensors, **call.dense(pattern, torch.float64))
    assert torch.equal(output, exact)
    assert selected_impl(*tensors, pattern=pattern) == "chunked"
    with pytest.raises(DtypeError, match="boolean"):
        attention(*tensors, pattern=pattern, attn_mask=torch.ones(LEN))
