"""Attention by a pattern takes memory in proportion to the length, forward and backward, statistics and error too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regard.cost.footprint import Footprint, Holding
from regard.functional import Pattern, attention, pattern_error, patterns, row_statistics

from .conftest import NEEDS_NATIVE

MAKERS: dict[str, Callable[[int], Pattern]] = {
    "longformer": lambda n: patterns.longformer(64, [0, n // 2]),
    "bigbird": patterns.bigbird,
    "documents": lambda n: patterns.documents(torch.arange(n) // 200),
}


class Peak(TorchDispatchMode):
    """Hears of every tensor and remembers how many bytes were in use at most."""

    def __init__(self) -> None:
        super().__init__()
        self.footprint = Footprint(lambda key: None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in torch.utils._pytree.tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.footprint.see(leaf, Holding.TEMPORARIES)
        self.footprint.mark(func._schema.name)
        return result


def peak_bytes(action: Callable[[], object]) -> int:
    with Peak() as heard:
        action()
    return heard.footprint.peak


@pytest.mark.parametrize("impl", ["chunked", pytest.param("native", marks=NEEDS_NATIVE)])
@pytest.mark.parametrize("name", MAKERS)
def test_twice_the_length_takes_at_most_twice_the_memory_forward_and_backward(name, impl):
    peaks = []
    for length in (2048, 4096):
        pattern, width = MAKERS[name](length), 16
        tensors = [torch.randn(1, 1, length, width, requires_grad=True) for _ in range(3)]
        pattern.num_pairs(length, length)  # the blocks are found once for a length
        peaks.append(peak_bytes(lambda: attention(*tensors, pattern=pattern, impl=impl).sum().backward()))  # noqa: B023
        assert peaks[-1] < 4 * length * length / 4
    assert peaks[1] <= 2.2 * peaks[0]


@pytest.mark.parametrize("name", MAKERS)
def test_statistics_and_the_error_take_memory_in_proportion_too(name):
    peaks: dict[str, list[int]] = {"statistics": [], "error": []}
    for length in (2048, 4096):
        pattern, query = MAKERS[name](length), torch.randn(1, 1, length, 8)
        actions = {
            "statistics": lambda: row_statistics(query, query, statistics=["entropy", "distance"], pattern=pattern),  # noqa: B023
            "error": lambda: pattern_error(query, query, query, pattern, rows=32),  # noqa: B023
        }
        for kind, action in actions.items():
            peaks[kind].append(peak_bytes(action))
    for shorter, longer in peaks.values():
        assert longer <= 2.2 * shorter
