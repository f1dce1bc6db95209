import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from regard._errors import UnsupportedError
from regard.functional import as_bias, causal_mask, reference, row_statistics
from regard.functional.impl import torch_private
from regard.functional.impl.torch_private import cpu_flash_available, flash_with_lse, product_of_transposed


def as_one_bias(case, dtype):
    """Return what the kernel takes for mask, bias and causal together, and the causal flag."""
    masking = case.masking(dtype)
    if masking["attn_mask"] is None and masking["attn_bias"] is None and case.q_len == case.kv_len:
        return None, case.causal
    keep = torch.ones(2, case.heads, case.q_len, case.kv_len, dtype=torch.bool)
    keep = keep if masking["attn_mask"] is None else keep & masking["attn_mask"]
    keep = keep & causal_mask(case.q_len, case.kv_len) if case.causal else keep
    bias = as_bias(keep, dtype)
    return bias if masking["attn_bias"] is None else bias + masking["attn_bias"], False


def test_kernel_and_its_lse_equal_the_reference(case, dtype, within_budget):
    case = replace(case, softcap=None, value_dim=case.head_dim)  # the kernel has neither softcap nor unequal widths
    query, key, value = case.tensors(dtype)
    bias, causal = as_one_bias(case, dtype)
    output, lse = flash_with_lse(query, key, value, attn_bias=bias, causal=causal, scale=case.scale)
    scores = case.scores(dtype)
    exact = reference.weights(scores) @ value.double().repeat_interleave(case.heads // case.kv_heads, dim=1)
    eager = reference.attention(query, key, value, **case.masking(dtype))
    within_budget(output, eager, exact)
    eps = torch.finfo(lse.dtype).eps
    torch.testing.assert_close(lse.double(), reference.lse(scores), rtol=32 * eps, atol=32 * eps)


def test_lse_of_an_empty_row_is_minus_infinity():
    query = torch.randn(1, 2, 3, 4)
    bias = torch.zeros(1, 1, 3, 3)
    bias[:, :, 1] = -torch.inf
    output, lse = flash_with_lse(query, query, query, attn_bias=bias)
    assert (lse[:, :, 1] == -torch.inf).all()
    assert (output[:, :, 1] == 0).all()
    assert lse[:, :, 0].isfinite().all()


@pytest.mark.parametrize("scale", [-0.5, 0.0])
def test_a_causal_call_hides_later_keys_at_any_scale(scale):
    query, key, value = (torch.randn(1, 2, 9, 16, dtype=torch.float64) for _ in range(3))
    output, lse = flash_with_lse(query, key, value, causal=True, scale=scale)
    scores = reference.scores(query, key, causal=True, scale=scale)
    torch.testing.assert_close(output, reference.weights(scores) @ value)
    torch.testing.assert_close(lse, reference.lse(scores))


def test_what_the_kernel_cannot_do_is_refused():
    query, key = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 3, 4)
    assert cpu_flash_available(query, key, key)
    assert not cpu_flash_available(query, key[:, :, :0], key[:, :, :0])
    with pytest.raises(UnsupportedError, match="causal with equal lengths"):
        flash_with_lse(query, key, key, causal=True)
    with pytest.raises(UnsupportedError, match="at least one sequence, query and key"):
        flash_with_lse(query[:, :, :0], key, key)


def test_a_torch_without_the_operator_is_named(monkeypatch):
    monkeypatch.setattr(torch_private, "_OPERATOR", "_no_such_operator")
    query = torch.zeros(1, 1, 2, 4)
    assert not cpu_flash_available(query, query, query)
    with pytest.raises(UnsupportedError, match="a PyTorch with _no_such_operator, which 2"):
        flash_with_lse(query, query, query)


@pytest.mark.parametrize("heads", [1, 3])
def test_product_of_transposed_is_as_exact_as_matmul(heads):
    left = torch.randn(2, 300, heads, 64).transpose(1, 2)
    right = torch.randn(2, 400, heads, 64).transpose(1, 2)
    product = product_of_transposed(left, right)
    exact = left.double() @ right.double().mT
    assert product is not None, "PyTorch's CPU builds come with oneDNN"
    assert (product - exact).abs().max() <= 2 * (left @ right.mT - exact).abs().max()


def test_product_of_transposed_leaves_small_and_float64_products_to_matmul():
    assert product_of_transposed(torch.randn(1, 1, 8, 64), torch.randn(1, 1, 8, 64)) is None
    large = torch.randn(1, 1, 400, 64, dtype=torch.float64)
    assert product_of_transposed(large, large) is None


@pytest.mark.parametrize("causal", [False, True])
def test_statistics_of_long_rows_are_those_of_dense_weights(causal):
    query, key = (torch.randn(1, 700, 2, 32).transpose(1, 2) for _ in range(2))
    taken = row_statistics(query, key, statistics=["entropy", "distance"], causal=causal)
    scores = query.double() @ key.double().mT / 32**0.5
    if causal:
        scores = scores.masked_fill(~torch.ones(700, 700, dtype=torch.bool).tril(), -torch.inf)
    expected = torch.special.entr(scores.softmax(-1)).sum(-1)
    torch.testing.assert_close(taken.values["entropy"].double(), expected, atol=1e-5, rtol=0)


def test_a_constant_is_marked_as_pytorch_marks_it():
    def answer():
        return 3

    def other():
        return 3

    assert vars(torch_private.constant_when_compiled(answer)) == vars(torch.compiler.assume_constant_result(other))


def test_importing_the_mathematics_imports_no_compiler():
    program = (
        "import sys, regard.functional; print([name for name in ('torch._dynamo', 'triton') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
