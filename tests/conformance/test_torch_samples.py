"""PyTorch's own sample inputs of ``scaled_dot_product_attention``, against every backend, forward and backward."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from regard._errors import UnsupportedError
from regard.functional import attention, reference
from regard.functional.impl import native

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs/vectors.md"
NEEDS_NATIVE = pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
BACKENDS = ["reference", "sdpa", "chunked", pytest.param("native", marks=NEEDS_NATIVE), "auto"]
NAMES = ("query", "key", "value")
ROUNDINGS = 4  # that a number goes through
UNDERFLOW = 1e-30
DTYPES = {str(dtype)[6:]: dtype for dtype in (torch.float32, torch.float64, torch.bfloat16)}

TOP_LEFT = "the first query stands at the first key"
"""Why a causal sample with fewer queries than keys is called with a mask; ends when PyTorch aligns at the last key."""

OWN_NUMBERS = "which weights are dropped is drawn otherwise"
"""Why a sample with dropout is called without it; it does not end, since kernels draw where they need the numbers."""


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """Return name of a type -> samples, as PyTorch's tests make them."""
    if find_spec("expecttest") is None:
        pytest.skip("needs expecttest, which PyTorch's tests import and the extra dev installs")
    file = tmp_path_factory.mktemp("samples") / "samples.pt"
    subprocess.run([sys.executable, str(HERE / "torch_samples.py"), str(file)], check=True)
    return torch.load(file)


def is_top_left(sample):
    return sample["is_causal"] and sample["query"].shape[-2] != sample["key"].shape[-2]


def reasons(sample):
    """Return why a sample is not called as it is said."""
    return [TOP_LEFT] * is_top_left(sample) + [OWN_NUMBERS] * (sample["dropout_p"] > 0)


def as_said(sample):
    """Return the arguments of ``attention`` that a person would write."""
    return {"causal": sample["is_causal"], "attn_bias": sample.get("attn_mask")}


def words_of(sample):
    if not is_top_left(sample):
        return as_said(sample)
    seen = torch.ones(sample["query"].shape[-2], sample["key"].shape[-2], dtype=torch.bool)
    return {**as_said(sample), "causal": False, "attn_mask": seen.tril()}


def with_heads(*tensors):
    """Return (batch, heads, len, head_dim): one head where there is none, and one batch for all where they differ."""
    if {tensor.ndim for tensor in tensors} == {3}:
        return [tensor[:, None] for tensor in tensors]
    batch = max(tensor.shape[0] for tensor in tensors if tensor.ndim == 4)
    return [tensor if tensor.ndim == 4 else tensor.expand(batch, *tensor.shape) for tensor in tensors]


def by_regard(sample, impl, words):
    def call(query, key, value, attn_bias=None):
        output = attention(*with_heads(query, key, value), impl=impl, **{**words, "attn_bias": attn_bias})
        return output[:, 0] if query.ndim == key.ndim == 3 else output

    return call


def by_torch(sample):
    def call(query, key, value, attn_mask=None):
        return F.scaled_dot_product_attention(query, key, value, attn_mask, is_causal=sample["is_causal"])

    return call


def forward_and_backward(call, sample, dtype):
    """Return the output and the gradients of everything that was given."""
    given = [sample[name] for name in (*NAMES, "attn_mask") if sample.get(name) is not None]
    leaves = [tensor.to(dtype).clone().requires_grad_() for tensor in given]
    output = call(*leaves)
    return [output.detach(), *torch.autograd.grad(output, leaves, direction_like(output, sample).to(dtype))]


def direction_like(output, sample):
    drawn = torch.randn(output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.to(sample["query"].dtype).double()


def sizes(sample, exact):
    """Return the size of the largest score, and for each of ``exact`` the sums of its products without their signs."""
    query, key, value = with_heads(*(sample[name].double() for name in NAMES))
    bias = sample.get("attn_mask")
    words = {**words_of(sample), "attn_bias": None if bias is None else bias.double()}
    weights = reference.weights(reference.scores(query, key, **words))
    direction = direction_like(exact[0], sample).abs()
    direction = direction if direction.ndim == 4 else direction[:, None]
    scale, query, key, value = query.shape[-1] ** -0.5, query.abs(), key.abs(), value.abs()
    output = weights @ value
    slopes = weights * (direction @ value.mT + (direction * output).sum(-1, keepdim=True))
    parts = [output, scale * slopes @ key, scale * slopes.mT @ query, weights.mT @ direction, slopes]
    if exact[0].ndim == 3:
        parts = [part[:, 0] for part in parts]
    summed = [part.sum_to_size(one.shape) for part, one in zip(parts, exact, strict=False)]
    return float(scale * (query @ key.mT).max()), summed


def excess(found, exact, size, largest_score, impl):
    """Return by how much ``found`` is further from ``exact`` than rounding can take it.

    A product is off by the precision of its type; a weight also by the precision of the sums times its score.
    """
    unit = torch.finfo(found.dtype).eps
    unit_of_sums = unit if impl == "reference" else min(unit, torch.finfo(torch.float32).eps)
    budget = ROUNDINGS * (unit + unit_of_sums * largest_score) * size + UNDERFLOW
    return float(((found.double() - exact).abs() - budget).max())


@pytest.mark.parametrize("impl", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_output_and_gradients_equal_those_of_pytorch(samples, impl, dtype):
    if impl == "native" and dtype == torch.float64:
        with pytest.raises(UnsupportedError, match='impl="native" needs float32, bfloat16 or float16'):
            attention(*(torch.zeros(1, 1, 2, 4, dtype=dtype),) * 3, impl=impl)
        return
    for number, sample in enumerate(samples[str(dtype)[6:]]):
        call = by_regard(sample, impl, words_of(sample))
        if impl == "native" and "attn_mask" in sample:
            with pytest.raises(UnsupportedError, match='impl="native" needs a bias without a gradient'):
                forward_and_backward(call, sample, dtype)
            continue
        found = forward_and_backward(call, sample, dtype)
        exact = forward_and_backward(by_torch(sample), sample, torch.float64)
        assert {one.dtype for one in found} == {dtype}
        largest_score, summed = sizes(sample, exact)
        worst = [excess(*triple, largest_score, impl) for triple in zip(found, exact, summed, strict=True)]
        assert max(worst) <= 0, f"sample {number}: {worst}"


@pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_bias_without_a_gradient_goes_to_the_native_kernels(samples, dtype):
    (sample,) = [sample for sample in samples[str(dtype)[6:]] if "attn_mask" in sample]
    tensors = [sample[name] for name in (*NAMES, "attn_mask")]
    found = by_regard(sample, "native", {})(*tensors)
    exact = by_torch(sample)(*(tensor.double() for tensor in tensors))
    largest_score, (size,) = sizes(sample, [exact])
    assert excess(found, exact, size, largest_score, "native") <= 0


def test_a_causal_sample_with_fewer_queries_than_keys_differs_as_it_is_said(samples):
    listed = [sample for sample in samples["float64"] if TOP_LEFT in reasons(sample)]
    assert listed
    for sample in listed:
        tensors = [sample[name] for name in NAMES]
        found = by_regard(sample, "auto", as_said(sample))(*tensors)
        assert (found - by_torch(sample)(*tensors)).abs().max() > 0.01


@pytest.mark.parametrize("impl", ["chunked", pytest.param("native", marks=NEEDS_NATIVE)])
def test_a_sample_with_dropout_is_drawn_otherwise(samples, impl):
    listed = [sample for sample in samples["float32"] if OWN_NUMBERS in reasons(sample)]
    assert listed
    for sample in listed:
        tensors = with_heads(*(sample[name] for name in NAMES))
        words = {**words_of(sample), "dropout_p": sample["dropout_p"]}
        found, peer = (
            (torch.manual_seed(1), attention(*tensors, impl=one, **words))[1] for one in (impl, "sdpa")
        )  # fmt: skip
        assert (found - peer).abs().max() > 0.01


def test_the_page_says_how_many_samples_agree(samples):
    page = PAGE.read_text(encoding="utf-8")
    (written_for,) = re.findall(r"\| torch (\S+) \|", page)
    if written_for != torch.__version__.split("+")[0]:
        pytest.skip(f"needs the torch that docs/vectors.md was written for, {written_for}, got {torch.__version__}")
    kinds = [reasons(sample) for sample in samples["float32"]]
    agree, listed = kinds.count([]), len(kinds) - kinds.count([])
    lines = [f"| PyTorch `scaled_dot_product_attention` | torch {written_for} | {len(kinds)} | {agree} | {listed} |"]
    lines += [f"| {sum(reason in kind for kind in kinds)} | {reason} |" for reason in (TOP_LEFT, OWN_NUMBERS)]
    assert [line for line in lines if line not in page] == []
