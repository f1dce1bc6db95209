"""Windows, slopes and packed sequences are watched: one call, statistics of each sequence by itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regard
from regard._errors import ArgumentError
from regard.functional import COLUMN_STATISTICS, ROW_STATISTICS, attention, packed_attention, reference
from regard.functional import taps as functional_taps
from regard.functional.impl import native
from regard.observe import View, watch

LENGTHS = [(7, 7), (1, 9), (0, 2), (12, 15)]
OFFSETS = [torch.tensor([0, *(pair[side] for pair in LENGTHS)]).cumsum(0) for side in (0, 1)]
SLOPES = torch.tensor([0.5, 0.25, 0.125, 0.0625])
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal window": {"causal": True, "window": 4},
    "slopes": {"alibi_slopes": SLOPES},
    "everything": {"causal": True, "window": 5, "alibi_slopes": SLOPES, "softcap": 3.0, "scale": 0.4},
}
IMPLS = [
    pytest.param("native", marks=pytest.mark.skipif(not native.native_available(), reason="needs regard-native")),
    "sdpa",
    "chunked",
    "reference",
]
ROWS = tuple(ROW_STATISTICS)
COLUMNS = tuple(COLUMN_STATISTICS)
GRADIENTS = ("qk_gradient", "vo_gradient", "gradient_ratio", "head_importance")


class Attention(nn.Module):
    """Attends as it is told; keys and values are made of the queries' own numbers."""

    def __init__(self, impl: str, *, packed: bool, **options: Any) -> None:
        super().__init__()
        self.impl, self.packed, self.options = impl, packed, options

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        if not self.packed:
            return attention(query, key, key * 0.5, impl=self.impl, **self.options)
        offsets, kv_offsets = OFFSETS
        return packed_attention(
            query, key, key * 0.5, offsets=offsets, kv_offsets=kv_offsets, impl=self.impl, **self.options
        )


def drawn(*, packed: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    if packed:
        q_len, kv_len = (int(bounds[-1]) for bounds in OFFSETS)
        return torch.randn(q_len, 4, 16, generator=generator), torch.randn(kv_len, 2, 16, generator=generator)
    return torch.randn(2, 4, 9, 16, generator=generator), torch.randn(2, 2, 12, 16, generator=generator)


def sequences(query: Tensor, key: Tensor, *, packed: bool) -> list[tuple[Tensor, Tensor]]:
    """Return query and key of each sequence, (1, heads, len, head_dim) in float64."""
    if not packed:
        return [(query[at : at + 1].double(), key[at : at + 1].double()) for at in range(len(query))]
    bounds = zip(*(zip(side.tolist(), side[1:].tolist(), strict=False) for side in OFFSETS), strict=True)
    return [
        (query[first:end].transpose(0, 1)[None].double(), key[kv_first:kv_end].transpose(0, 1)[None].double())
        for (first, end), (kv_first, kv_end) in bounds
    ]


def dense(query: Tensor, key: Tensor, options: dict[str, Any], *, packed: bool) -> list[dict[str, Tensor]]:
    """Return every statistic of each sequence by the formulas, in float64."""
    found = []
    for rows, keys in sequences(query, key, packed=packed):
        scores = reference.scores(rows, keys, **options)
        values = {}
        for name, definition in ROW_STATISTICS.items():
            extra = {"value": keys * 0.5} if definition.needs_value else {}
            extra |= {"dtype": torch.float32} if name == "headroom" else {}
            values[name] = definition.reference(scores, **extra)
        if rows.shape[2]:
            values |= {name: definition.reference(scores) for name, definition in COLUMN_STATISTICS.items()}
        found.append(values)
    return found


def watched(impl: str, options: dict[str, Any], names: tuple[str, ...], *, packed: bool, **more: Any) -> View:
    model = Attention(impl, packed=packed, **options)
    inputs = drawn(packed=packed)
    plain = model(*inputs)
    with watch(model, names, **more) as view:
        assert torch.equal(model(*inputs), plain)
    return view


@pytest.mark.parametrize("packed", [False, True], ids=["batch", "packed"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("impl", IMPLS)
def test_statistics_are_those_of_each_sequence(impl: str, options: dict[str, Any], packed: bool) -> None:
    if impl == "sdpa" and "softcap" in options:
        options = {name: value for name, value in options.items() if name != "softcap"}
    view = watched(impl, options, (*ROWS, *COLUMNS), packed=packed)
    expected = dense(*drawn(packed=packed), options, packed=packed)
    for name in ROWS:
        rows = torch.cat([values[name] for values in expected], -1)
        torch.testing.assert_close(view[""][name], rows.nanmean((0, 2)), rtol=1e-5, atol=1e-5, msg=name)
    for name in COLUMNS:
        of_sequences = torch.cat([values[name] for values in expected if name in values])
        torch.testing.assert_close(view[""][name], of_sequences.mean(0), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("impl", IMPLS)
def test_packed_sequences_are_one_call_that_says_so(impl: str) -> None:
    view = watched(impl, OPTIONS["causal window"], ("entropy",), packed=True)
    (entry,) = view.coverage()
    assert entry.calls == 1
    assert entry.rows == 20
    assert dict(entry.masks) == {"causal+window+packed": 1}
    assert dict(entry.kernels) == {functional_taps.NATIVE if impl == "native" else functional_taps.PACKED: 1}
    (call,) = view.calls()
    assert call["shape"] == "4 packed × 4/2 heads × 20 × 33"
    assert call["batch"] == 4


@pytest.mark.parametrize("impl", ["chunked", *IMPLS[:1]])
def test_window_and_slopes_are_named(impl: str) -> None:
    view = watched(impl, OPTIONS["everything"], ("entropy",), packed=False)
    (entry,) = view.coverage()
    assert dict(entry.masks) == {"causal+window+slopes": 1}


@pytest.mark.parametrize("impl", IMPLS[:2])
def test_sequences_of_a_pack_are_told_apart(impl: str) -> None:
    view = watched(impl, OPTIONS["causal window"], ("entropy",), packed=True, quantiles_every=1)
    expected = dense(*drawn(packed=True), OPTIONS["causal window"], packed=True)
    means = torch.cat([values["entropy"].mean(-1) for values in expected if values["entropy"].numel()])
    for head, row in enumerate(view.table()):
        assert row["num_rows"] == 20
        assert row["sequence_std"] == pytest.approx(float(means[:, head].std()), rel=1e-4)
        assert row["sequence_minimum"] == pytest.approx(float(means[:, head].min()), abs=1e-5)
        assert row["sequence_maximum"] == pytest.approx(float(means[:, head].max()), abs=1e-5)


@pytest.mark.parametrize("impl", IMPLS)
def test_sampled_rows_come_from_all_sequences(impl: str) -> None:
    view = watched(impl, OPTIONS["slopes"], ("entropy", "distance"), packed=True, rows=6)
    expected = dense(*drawn(packed=True), OPTIONS["slopes"], packed=True)
    for row in view.table():
        assert row["num_rows"] == 6
        values = torch.cat([found[row["statistic"]][0, row["head"]] for found in expected])
        # The extremes of a sample are values of rows that exist.
        assert (values - row["minimum"]).abs().min() < 1e-5
        assert (values - row["maximum"]).abs().min() < 1e-5
        assert row["se"] > 0


@pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
def test_gradients_are_those_of_each_sequence() -> None:
    model = Attention("native", packed=True, causal=True, window=4)
    query, key = (tensor.requires_grad_() for tensor in drawn(packed=True))
    with watch(model, GRADIENTS) as view:
        model(query, key).square().sum().backward()
    expected = []
    for rows, keys in sequences(query.detach(), key.detach(), packed=True):
        leaves = [tensor.requires_grad_() for tensor in (rows, keys, (keys * 0.5).detach())]
        output = reference.attention(*leaves, causal=True, window=4)
        grads = torch.autograd.grad(output.square().sum(), leaves)
        by_query, by_key, by_value = (grad.square().sum((2, 3))[0] for grad in grads)
        by_key, by_value = (part.repeat_interleave(2) / 2 for part in (by_key, by_value))
        by_output = (2 * output).square().sum((2, 3))[0]
        expected.append(
            {
                "qk_gradient": (by_query + by_key).sqrt(),
                "vo_gradient": (by_value + by_output).sqrt(),
                "head_importance": (2 * output * output).sum((2, 3))[0].abs(),
            }
        )
    for name in expected[0]:
        mean = torch.stack([values[name] for values in expected]).mean(0).detach()
        torch.testing.assert_close(view[""][name], mean, rtol=1e-4, atol=1e-6, msg=name)


def test_gradients_that_are_not_heard_are_said_to_be_missing() -> None:
    model = Attention("chunked", packed=True)
    query, key = (tensor.requires_grad_() for tensor in drawn(packed=True))
    with watch(model, ("entropy", "qk_gradient")) as view:
        model(query, key).sum().backward()
    assert "qk_gradient" in view.coverage()[0].missing
    assert "qk_gradient" not in view[""]


@pytest.mark.parametrize("impl", IMPLS)
def test_kept_packs_are_looked_at_sequence_by_sequence(impl: str) -> None:
    options = OPTIONS["everything"] if impl != "sdpa" else OPTIONS["causal window"]
    view = watched(impl, options, ("entropy",), packed=True, keep=True)
    for index, (rows, keys) in enumerate(sequences(*drawn(packed=True), packed=True)):
        weights = reference.weights(reference.scores(rows, keys, **options))
        for head in (0, 3):
            found = view.weights("", head, sequence=index)
            torch.testing.assert_close(found.double(), weights[0, head], rtol=1e-5, atol=1e-6)
    assert view.redundancy("").shape == (4, 4)
    best = view.top("", 1, 2, sequence=3, k=1)[0]
    rows, keys = sequences(*drawn(packed=True), packed=True)[3]
    scores = reference.scores(rows, keys, **options)
    assert best.key == int(scores[0, 1, 2].argmax())
    assert best.contribution is not None
    with pytest.raises(ArgumentError, match="sequence must lie in 0 to 3, got 4"):
        view.weights("", 0, sequence=4)
    with pytest.raises(ArgumentError, match="query must lie in 0 to 6, got 7"):
        view.top("", 0, 7, sequence=0)


@pytest.mark.compiled
@pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
def test_compiled_code_is_heard_with_its_offsets() -> None:
    model, inputs = Attention("native", packed=True, **OPTIONS["causal window"]), drawn(packed=True)
    torch.compiler.reset()
    compiled: Any = torch.compile(model, backend="aot_eager", fullgraph=True)
    with torch.no_grad(), watch(compiled, ("entropy",)) as view:
        compiled(*inputs)
    (entry,) = view.coverage()
    assert dict(entry.masks) == {"causal+window+packed": 1}
    expected = watched("native", OPTIONS["causal window"], ("entropy",), packed=True)
    torch.testing.assert_close(view[""]["entropy"], expected[""]["entropy"])


def test_no_sequence_is_no_row() -> None:
    class Empty(nn.Module):
        def forward(self, query: Tensor) -> Tensor:
            return packed_attention(query, query, query, offsets=torch.tensor([0]))

    with regard.watch(Empty(), ["entropy", "received_gini"]) as view:
        Empty()(torch.zeros(0, 2, 4))
    assert view.layers == []


def test_heads_that_are_chosen_keep_their_slopes() -> None:
    view = watched("chunked", OPTIONS["slopes"], ("distance",), packed=True, heads=[1, 3])
    expected = dense(*drawn(packed=True), OPTIONS["slopes"], packed=True)
    rows = torch.cat([values["distance"] for values in expected], -1).mean((0, 2))
    torch.testing.assert_close(view[""]["distance"][[1, 3]], rows[[1, 3]], rtol=1e-5, atol=1e-5)
    assert view[""]["distance"][[0, 2]].isnan().all()
