import pytest
import torch

from regard._errors import ArgumentError, DtypeError, UnsupportedError
from regard.functional import attention, causal_mask, reference, selected_impl
from regard.functional.attention import check_arguments
from regard.functional.taps import CHUNKED, LISTENERS

EVERY_IMPL = ["reference", "sdpa", "chunked", "auto"]


def forward_and_backward(impl, tensors, masking, direction):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    if masking["attn_bias"] is not None:
        bias = masking["attn_bias"].clone().requires_grad_()
        masking, leaves = {**masking, "attn_bias": bias}, [*leaves, bias]
    output = attention(*leaves[:3], impl=impl, **masking)
    return [output, *torch.autograd.grad(output, leaves, direction.to(output.dtype))]


@pytest.mark.parametrize("backend", ["sdpa", "auto", "chunked", "chunked in tiny blocks"])
def test_backend_and_its_gradients_stay_within_the_error_budget(backend, case, dtype, request, within_budget):
    impl = backend.split()[0]
    if backend.endswith("blocks"):
        request.getfixturevalue("tiny_blocks")
    if impl == "sdpa" and case.softcap is not None:
        impl = "auto"  # sdpa refuses a softcap
    tensors, masking = case.tensors(dtype), case.masking(dtype)
    direction = torch.randn(2, case.heads, case.q_len, case.value_dim, dtype=dtype).double()
    found = forward_and_backward(impl, tensors, masking, direction)
    eager = forward_and_backward("reference", tensors, masking, direction)
    bias = masking["attn_bias"]
    exact_masking = {**masking, "attn_bias": None if bias is None else bias.double()}
    exact = forward_and_backward("reference", [tensor.double() for tensor in tensors], exact_masking, direction)
    for triple in zip(found, eager, exact, strict=True):
        within_budget(*triple)


@pytest.mark.parametrize("impl", EVERY_IMPL)
@pytest.mark.parametrize("by", ["attn_mask", "attn_bias"])
def test_empty_row_gives_zero_output_and_zero_gradient(impl, by):
    query, key, value = (torch.randn(2, 2, 4, 8, requires_grad=True) for _ in range(3))
    keep = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    keep[0, :, 1] = False
    side = keep if by == "attn_mask" else torch.zeros(2, 1, 4, 4).masked_fill(~keep, -torch.inf)
    output = attention(query, key, value, impl=impl, **{by: side})
    assert (output[0, :, 1] == 0).all()
    assert (output[1] != 0).all()
    output.square().sum().backward()
    assert (query.grad[0, :, 1] == 0).all()
    assert all(tensor.grad.isfinite().all() for tensor in (query, key, value))


@pytest.mark.parametrize("impl", EVERY_IMPL)
def test_sequence_without_any_key_gives_zero_everywhere(impl):
    query, key, value = (torch.randn(2, 2, 3, 4, requires_grad=True) for _ in range(3))
    keep = torch.tensor([True, False])[:, None, None, None]
    output = attention(query, key, value, attn_mask=keep, impl=impl)
    output.sum().backward()
    assert (output[1] == 0).all()
    assert all((tensor.grad[1] == 0).all() for tensor in (query, key, value))
    assert value.grad[0].abs().sum() > 0


@pytest.mark.parametrize("impl", EVERY_IMPL)
@pytest.mark.parametrize(("batch", "q_len", "kv_len"), [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_empty_tensors_give_an_output_of_zeros(impl, batch, q_len, kv_len):
    query = torch.randn(batch, 2, q_len, 4, requires_grad=True)
    key, value = torch.randn(batch, 2, kv_len, 4), torch.randn(batch, 2, kv_len, 5)
    output = attention(query, key, value, impl=impl)
    assert output.shape == (batch, 2, q_len, 5)
    assert (output == 0).all()
    output.sum().backward()
    assert (query.grad == 0).all()


@pytest.mark.parametrize("impl", EVERY_IMPL)
def test_causal_corner_is_the_bottom_right(impl):
    query, key, value = torch.randn(1, 2, 2, 4), torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    output = attention(query, key, value, causal=True, impl=impl)
    changed = value.clone()
    changed[:, :, 4] += 1
    moved = attention(query, key, changed, causal=True, impl=impl) - output
    assert (moved[:, :, 0] == 0).all()
    assert (moved[:, :, 1] > 0).all()
    earlier = attention(query[:, :, :1], key[:, :, :4], value[:, :, :4], impl=impl)
    torch.testing.assert_close(output[:, :, :1], earlier)


@pytest.mark.usefixtures("no_native")
def test_auto_takes_the_fused_kernel_where_it_stays_fused():
    query = key = value = torch.randn(1, 2, 4, 8)
    assert selected_impl(query, key, value) == "sdpa"
    assert selected_impl(query, key, value, causal=True) == "sdpa"
    assert selected_impl(query, key, value, softcap=2.0) == "chunked"
    assert selected_impl(query, key, value, dropout_p=0.1) == "chunked"
    trained = torch.zeros(4, 4, requires_grad=True)
    assert selected_impl(query, key, value, attn_bias=trained) == "chunked"
    with torch.no_grad():
        assert selected_impl(query, key, value, attn_bias=trained) == "sdpa"
    assert selected_impl(query, key, value, softcap=2.0, impl="reference") == "reference"


@pytest.mark.usefixtures("no_native")
def test_auto_builds_no_large_mask():
    query, key = torch.zeros(1, 1, 2048, 4), torch.zeros(1, 1, 4096, 4)
    assert selected_impl(query, key, key, causal=True) == "chunked"
    assert selected_impl(query[:, :, :64], key, key, causal=True) == "sdpa"
    assert selected_impl(key, key, key, causal=True) == "sdpa"


def fused_calls(call):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    return sum(
        event.count for event in profile.key_averages() if event.key.startswith("aten::_scaled_dot_product_flash")
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"attn_mask": torch.ones(7, 7, dtype=torch.bool)}, {"attn_bias": torch.zeros(4, 1, 7)}],
    ids=["plain", "causal", "mask", "bias"],
)
@pytest.mark.parametrize(("kv_heads", "value_dim"), [(4, 8), (2, 8), (2, 5), (4, 11)])
def test_sdpa_keeps_the_fused_kernel(options, kv_heads, value_dim):
    query, key, value = torch.randn(2, 4, 7, 8), torch.randn(2, kv_heads, 7, 8), torch.randn(2, kv_heads, 7, value_dim)
    assert fused_calls(lambda: attention(query, key, value, impl="sdpa", **options)) == 1


def test_sdpa_refuses_softcap():
    query = torch.randn(1, 1, 2, 4)
    with pytest.raises(UnsupportedError, match='impl="sdpa" has no softcap'):
        attention(query, query, query, softcap=1.0, impl="sdpa")


def test_listeners_hear_of_a_chunked_call_and_of_no_other():
    heard = []
    query, key, value = (torch.randn(1, 2, 3, 4) for _ in range(3))
    LISTENERS.append(lambda kernel, arguments, result: heard.append((kernel, arguments["causal"], *result)))
    try:
        output = attention(query, key, value, causal=True, impl="chunked")
        attention(query, key, value, causal=True, impl="sdpa")
    finally:
        LISTENERS.pop()
    ((kernel, causal, heard_output, lse),) = heard
    assert kernel == CHUNKED
    assert causal
    assert heard_output is output
    assert lse.shape == (1, 2, 3)


def test_chunked_keeps_its_precision_under_autocast():
    query, key, value = (torch.randn(1, 2, 8, 16, requires_grad=True) for _ in range(3))
    plain = attention(query, key, value, impl="chunked")
    (plain_gradient,) = torch.autograd.grad(plain.sum(), query)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = attention(query, key, value, impl="chunked")
        (gradient,) = torch.autograd.grad(mixed.sum(), query)
    assert torch.equal(plain, mixed)
    assert torch.equal(plain_gradient, gradient)


def test_dropout_of_reference_and_chunked_agree_in_expectation():
    query, key, value = (torch.randn(64, 2, 12, 4) for _ in range(3))
    exact = attention(query, key, value)
    torch.manual_seed(0)
    for impl in ("reference", "chunked", "sdpa"):
        mean = torch.stack([attention(query, key, value, dropout_p=0.3, impl=impl) for _ in range(40)]).mean(0)
        assert (mean - exact).mean().abs() < 0.003
        assert (mean - exact).abs().mean() < 0.1


def make(shape=(1, 2, 3, 4), **changed):
    named = {"query": torch.zeros(shape), "key": torch.zeros(shape), "value": torch.zeros(shape)}
    return {**named, **changed}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            make(attn_mask=torch.zeros(3, 3)),
            DtypeError,
            "must be boolean with True = may attend, got torch.float32",
        ),
        (make(attn_mask=torch.ones(3, 3, dtype=torch.int64)), DtypeError, "True = may attend, got torch.int64"),
        (make(attn_bias=torch.ones(3, 3, dtype=torch.bool)), DtypeError, "attn_bias must be floating, got torch.bool"),
        (
            make(attn_mask=torch.ones(2, 3, dtype=torch.bool)),
            ArgumentError,
            "attn_mask must broadcast .* got .*2, 3",
        ),
        (make(attn_bias=torch.ones(1, 1, 1, 3, 3)), ArgumentError, "attn_bias must broadcast to"),
        (
            make(query=torch.zeros(1, 2, 4, 4), causal=True),
            ArgumentError,
            "as many keys as queries, got 4 .* 3",
        ),
        (make(query=torch.zeros(1, 3, 3, 4)), ArgumentError, "multiple of the number of key heads, got 3 and 2"),
        (make(query=torch.zeros(1, 0, 3, 4)), ArgumentError, "query heads must be above 0 .* got 0 and 2"),
        (make((1, 0, 3, 4)), ArgumentError, "query heads must be above 0 .* got 0 and 0"),
        (make((1, 2, 3, 0)), ArgumentError, "same head_dim above 0, got 0 and 0"),
        (make(dropout_p=1.0), ArgumentError, r"dropout_p must lie in \[0, 1\), got 1.0"),
        (make(dropout_p=-0.1), ArgumentError, r"dropout_p must lie in \[0, 1\), got -0.1"),
        (make(softcap=0.0), ArgumentError, "softcap must be above 0 and finite, got 0.0"),
        (make(softcap=torch.inf), ArgumentError, "softcap must be above 0 and finite, got inf"),
        (make(scale=torch.inf), ArgumentError, "scale must be finite, got inf"),
        (make(scale=torch.nan), ArgumentError, "scale must be finite, got nan"),
        (make(impl="flash"), ArgumentError, "impl must be one of auto, reference, sdpa, chunked, native, got 'flash'"),
        (make(key=torch.zeros(1, 2, 3, 4).half()), DtypeError, "one dtype, got query torch.float32, key torch.float16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_sentence(arguments, error, message):
    tensors = [arguments.pop(name) for name in ("query", "key", "value")]
    with pytest.raises(error, match=message):
        attention(*tensors, **arguments)


@pytest.mark.parametrize(
    ("query", "key", "error", "message"),
    [
        (
            torch.zeros(2, 3, 4),
            torch.zeros(1, 2, 3, 4),
            ArgumentError,
            r"query must be \(batch, heads, len",
        ),
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5), ArgumentError, "same head_dim above 0, got 4 and 5"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(2, 2, 3, 4), ArgumentError, "one batch size, got query 1, key 2"),
        (
            torch.zeros(1, 2, 3, 4).long(),
            torch.zeros(1, 2, 3, 4),
            DtypeError,
            "must be floating, got torch.int64",
        ),
    ],
    ids=["axes", "head_dim", "batch", "integers"],
)
def test_tensors_that_fit_no_formula_are_refused(query, key, error, message):
    with pytest.raises(error, match=message):
        check_arguments(query, key, None, None, False, None)


def test_reference_equals_a_double_loop():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 4, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    keep = causal_mask(4, 4)
    output = reference.attention(query, key, value, causal=True, scale=0.5)
    for head in range(2):
        for row in range(4):
            scores = [0.5 * float(query[0, head, row] @ key[0, head, j]) for j in range(4) if keep[row, j]]
            weights = torch.tensor(scores, dtype=torch.float64).exp()
            expected = (weights / weights.sum()) @ value[0, head, : len(scores)]
            torch.testing.assert_close(output[0, head, row], expected, rtol=0, atol=1e-14)
