"""Compiled functions compute what they compute uncompiled, in one graph.

``aot_eager`` traces forward and backward as the default backend does, and needs no C++ compiler.
"""

from itertools import product

import pytest
import torch

from regard.functional import attention, patterns

pytestmark = pytest.mark.compiled

CASES = {
    "plain": {},
    "causal": {"causal": True},
    "masked": {"attn_mask": torch.arange(9) < 6},
    "biased": {"attn_bias": torch.linspace(-1, 1, 9)},
    "empty rows": {"attn_mask": torch.zeros(9, dtype=torch.bool)},
    "softcap": {"softcap": 5.0},
    "window": {"window": 3, "causal": True},
    "slopes": {"alibi_slopes": torch.tensor([0.5, 0.25, 0.125, 0.0625])},
}
FUSED = sorted(set(CASES) - {"softcap"})  # no fused kernel has one


@pytest.fixture
def tensors() -> list[torch.Tensor]:
    """Return a query of 4 heads and 5 rows, and keys and values of 2 heads and 9 rows, that ask for gradients."""
    shapes = ((2, 4, 5, 16), (2, 2, 9, 16), (2, 2, 9, 16))
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize(("impl", "case"), [*product(["reference"], CASES), *product(["sdpa"], FUSED)])
def test_compiled_attention_is_attention(impl, case, tensors):
    torch.compiler.reset()
    compiled = torch.compile(attention, backend="aot_eager", fullgraph=True)

    expected = attention(*tensors, **CASES[case], impl=impl)
    output = compiled(*tensors, **CASES[case], impl=impl)

    torch.testing.assert_close(output, expected)
    expected_gradients = torch.autograd.grad(expected.square().sum(), tensors)
    gradients = torch.autograd.grad(output.square().sum(), tensors)
    torch.testing.assert_close(gradients, expected_gradients)


# PyTorch looks for gradients of what comes into the frame in which its graph breaks.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_pattern_stays_uncompiled_within_compiled_code(tensors):
    query, key, value = tensors
    pattern = patterns.longformer(2, [0])

    @torch.compile(backend="aot_eager")
    def compiled(query: torch.Tensor) -> torch.Tensor:
        return attention(query * 2, key, value, pattern=pattern) + 1

    expected = attention(query * 2, key, value, pattern=pattern) + 1
    torch.testing.assert_close(compiled(query), expected)
