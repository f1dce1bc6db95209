"""A call by a pattern is watched as any other: statistics over allowed keys, equal to the dense masked oracle."""

import pytest
import torch
from torch import Tensor, nn

from regard._errors import ArgumentError
from regard.functional import COLUMN_STATISTICS, ROW_STATISTICS, Pattern, attention, pattern_error, patterns, reference
from regard.functional.impl import native
from regard.observe import watch

LEN = 150
NUMBERS = torch.tensor([0] * 70 + [1] * 80)
PATTERNS = {
    "longformer": patterns.longformer(9, [0, 100]),
    "documents": patterns.documents(torch.stack([NUMBERS, NUMBERS.flip(0)])),
    "blocks": patterns.block_sparse([(0, 0), (1, 0), (1, 1)]),
}
IMPLS = [
    pytest.param("native", marks=pytest.mark.skipif(not native.native_available(), reason="needs regard-native")),
    "chunked",
]


class Attention(nn.Module):
    def __init__(self, pattern: Pattern, impl: str, *, causal: bool) -> None:
        super().__init__()
        self.pattern, self.impl, self.causal = pattern, impl, causal

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return attention(query, key, key * 0.5, pattern=self.pattern, impl=self.impl, causal=self.causal)


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, LEN, 16, generator=generator), torch.randn(2, 2, LEN, 16, generator=generator)


@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("name", PATTERNS)
def test_all_statistics_are_those_of_the_dense_mask(name, impl, causal):
    query, key = drawn()
    pattern = PATTERNS[name]
    scores = reference.scores(query.double(), key.double(), attn_mask=pattern.mask(LEN, LEN), causal=causal)
    with watch(Attention(pattern, impl, causal=causal), [*ROW_STATISTICS, *COLUMN_STATISTICS]) as view:
        view_output = Attention(pattern, impl, causal=causal)(query, key)
        watched = attention(query, key, key * 0.5, pattern=pattern, impl=impl, causal=causal)
    assert torch.equal(view_output, watched)
    model = Attention(pattern, impl, causal=causal)
    with watch(model, [*ROW_STATISTICS, *COLUMN_STATISTICS]) as view:
        output = model(query, key)
    assert torch.equal(output, watched)
    for statistic, definition in ROW_STATISTICS.items():
        given = {"value": key.double() * 0.5} if definition.needs_value else {}
        given |= {"dtype": torch.float32} if statistic == "headroom" else {}
        exact = definition.reference(scores, **given).nanmean((0, 2))
        torch.testing.assert_close(view[""][statistic].double(), exact, rtol=1e-4, atol=1e-4)
    for statistic, definition in COLUMN_STATISTICS.items():
        exact = definition.reference(scores).nanmean(0)
        torch.testing.assert_close(view[""][statistic].double(), exact, rtol=1e-4, atol=1e-4)
    (entry,) = view.coverage()
    assert list(entry.masks) == ["causal+pattern" if causal else "pattern"]


def test_a_kept_call_shows_weights_and_tells_the_error_of_another_pattern():
    query, key = drawn()
    model = Attention(PATTERNS["documents"], "chunked", causal=False)
    with watch(model, ["entropy"], keep=True) as view:
        model(query, key)
    scores = reference.scores(query.double(), key.double(), attn_mask=PATTERNS["documents"].mask(LEN, LEN))
    for sequence in (0, 1):
        found = view.weights("", 2, sequence=sequence, rows=[0, 149])
        torch.testing.assert_close(found.double(), reference.weights(scores)[sequence, 2, [0, 149]], rtol=0, atol=1e-6)
    error = view.kept("").pattern_error(PATTERNS["longformer"], rows=40)
    wanted = pattern_error(query, key, key * 0.5, PATTERNS["longformer"], rows=40)
    assert torch.equal(error.lost_mass, wanted.lost_mass)
    assert error.num_rows == 80


def test_the_error_of_a_pattern_needs_queries_and_keys():
    class Eager(nn.Module):
        def forward(self, query: Tensor) -> Tensor:
            return (query @ query.mT).softmax(-1) @ query

    class SelfAttention(Eager):
        pass

    model = nn.Sequential(SelfAttention())
    with watch(model, ["entropy"], keep=True) as view:
        model(torch.randn(1, 2, 5, 4))
    with pytest.raises(ArgumentError, match="needs query, key and value"):
        view.kept("0").pattern_error(PATTERNS["blocks"])
