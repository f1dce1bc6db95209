"""A pattern within compiled code: the same numbers, in one graph, on the native kernels."""

import copy
import gc
import pickle

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from regard._errors import ArgumentError
from regard.functional import attention, patterns, taps
from regard.functional.patterns.pattern import numbered

from .conftest import NEEDS_NATIVE

pytestmark = [pytest.mark.compiled, NEEDS_NATIVE, pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")]
LEN = 70  # more than a block


def mixed(window=5):
    return patterns.sliding(window) | patterns.global_tokens([0])


class Layer(nn.Module):
    def __init__(self, pattern=None, **options):
        super().__init__()
        self.project, self.pattern, self.options = nn.Linear(8, 8), pattern, options

    def forward(self, x, pattern=None):
        query = self.project(x).transpose(1, 2)
        key = x.transpose(1, 2)
        return attention(query, key, key, pattern=pattern or self.pattern, **self.options).sin()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True, "dropout_p": 0.3},
        {"window": 9, "softcap": 2.0, "alibi_slopes": torch.tensor([0.5, 0.25])},
        {"attn_mask": torch.arange(LEN) % 7 != 3},
    ],
    ids=["plain", "dropout", "window and slopes", "mask"],
)
def test_a_module_with_a_pattern_compiles_without_a_break(backend, options):
    torch.compiler.reset()
    layer, x = Layer(mixed(), **options), torch.randn(2, LEN, 2, 8, requires_grad=True)
    seen = torch.randn(2, 2, LEN, 8)

    def results(called):
        torch.manual_seed(3)
        output = called(x)
        return [output, *torch.autograd.grad(output, [x, *layer.parameters()], seen)]

    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    with torch._inductor.config.patch(fallback_random=True):  # or its random numbers, the seed of dropout too, differ
        found = results(compiled)
    for one, expected in zip(found, results(layer), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-5)


def test_a_pattern_for_each_batch_is_not_compiled_for_anew_and_lives_until_its_gradients():
    torch.compiler.reset()
    layer, x = Layer(), torch.randn(1, LEN, 2, 8)
    compiled, graphs = torch.compile(layer, backend="aot_eager", fullgraph=True), []
    for window in range(2, 8):
        found, expected = compiled(x, mixed(window)), layer(x, mixed(window))
        gc.collect()
        torch.testing.assert_close(
            torch.autograd.grad(found.sum(), layer.project.weight),
            torch.autograd.grad(expected.sum(), layer.project.weight),
        )
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[1]


def test_another_pattern_of_the_module_is_seen():
    torch.compiler.reset()
    layer, x = Layer(mixed(3)), torch.randn(1, LEN, 2, 8)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    compiled(x)
    layer.pattern = mixed(30)
    torch.testing.assert_close(compiled(x), layer(x))


def test_compiled_calls_are_reported():
    torch.compiler.reset()
    layer, x, heard = Layer(mixed(), causal=True), torch.randn(1, LEN, 2, 8), []
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)

    def listener(kernel, arguments, result):
        heard.append((kernel, arguments["pattern"], arguments["causal"]))

    taps.LISTENERS.append(listener)
    try:
        compiled(x)
    finally:
        taps.LISTENERS.remove(listener)
    assert heard == [(taps.NATIVE_BLOCKS, layer.pattern, True)]


def test_the_operators_are_registered_as_pytorch_wants_them():
    from regard.functional.impl.native_blocks_operator import pattern_attention

    query, key, value = (torch.randn(1, LEN, 2, 16).transpose(1, 2).requires_grad_() for _ in range(3))
    pattern = mixed()
    torch.library.opcheck(
        pattern_attention,
        (query, key, value, None, None, torch.ones(2), None, pattern.number, True, 9, 0.25, 0.0, 0.0),
    )


def test_copies_have_numbers_of_their_own():
    pattern = patterns.sliding(3) & mixed()
    copies = [copy.copy(pattern), copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))]
    assert len({one.number for one in (pattern, *copies)}) == 4
    for one in copies:
        assert numbered(one.number) is one
        assert torch.equal(one.mask(9, 9), pattern.mask(9, 9))


def test_a_pattern_that_is_gone_is_refused():
    number = mixed().number
    gc.collect()
    with pytest.raises(ArgumentError, match=f"must be held until .* got none of number {number} any more"):
        numbered(number)
