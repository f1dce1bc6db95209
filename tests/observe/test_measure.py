"""One call becomes the summary of its statistics: each equal to its definition in float64."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from regard._errors import ArgumentError
from regard.functional import COLUMN_STATISTICS, ROW_STATISTICS, causal_mask, reference
from regard.observe.calls import AttentionCall
from regard.observe.capture import Gradients
from regard.observe.measure import Measured, Surroundings, measure, measure_gradients
from regard.observe.plan import GRADIENT_STATISTICS, STATISTICS
from regard.observe.sampling import draw

BATCH, HEADS, KV_HEADS, LEN, DIM = 3, 4, 2, 9, 8
PADDED = torch.arange(LEN) >= torch.tensor([[9], [6], [1]])
SURROUNDED = [name for name in STATISTICS if name not in GRADIENT_STATISTICS]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


RESIDUAL = 3 * normal(BATCH, LEN, 32)
KNOWN = Surroundings(padded_rows=PADDED, padded_keys=PADDED, residual=RESIDUAL)


def fused(**masking: Any) -> AttentionCall:
    query, key, value = (
        2 * normal(BATCH, HEADS, LEN, DIM),
        normal(BATCH, KV_HEADS, LEN, DIM, seed=1),
        normal(BATCH, KV_HEADS, LEN, 5, seed=2),
    )
    call = AttentionCall(query=query, key=key, value=value, kernel="none", **masking)
    return replace(call, output=dense_output(call).float())


def dense_scores(call: AttentionCall) -> Tensor:
    return reference.scores(call.query.double(), call.key.double(), **call.masking)


def dense_output(call: AttentionCall) -> Tensor:
    value = call.value.double().repeat_interleave(HEADS // KV_HEADS, 1)
    return reference.weights(dense_scores(call)) @ value


def materialised(call: AttentionCall) -> AttentionCall:
    """The same call as a model that makes its own scores shows it."""
    value = call.value.repeat_interleave(HEADS // KV_HEADS, 1)
    return AttentionCall(scores=dense_scores(call).float(), value=value, output=call.output, kernel="softmax")


MASKINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "padding": {"attn_mask": ~PADDED[:, None, None, :]},
    "causal": {"causal": True},
    "causal and padding": {"attn_mask": ~PADDED[:, None, None, :] & causal_mask(LEN, LEN)},
    "bias": {"attn_bias": normal(1, HEADS, LEN, LEN)},
    "softcap": {"softcap": 1.5, "scale": 0.8},
    "empty rows": {"attn_mask": (torch.arange(LEN) > 1)[None, None, :, None].expand(1, 1, LEN, LEN)},
}


def means(measured: Measured) -> dict[str, Tensor]:
    return {name: moments.mean[index] for names, moments in measured.groups for index, name in enumerate(names)}


def over(rows: Tensor, counted: Tensor) -> Tensor:
    known = counted[:, None, :] & ~rows.isnan()
    return rows.where(known, 0).sum((0, 2)) / known.sum((0, 2))


def expected(call: AttentionCall, real: Tensor) -> dict[str, Tensor]:
    """Means of every statistic that a call in ``KNOWN`` surroundings has, by the definitions."""
    scores = dense_scores(call)
    value = call.value.double().repeat_interleave(HEADS // KV_HEADS, 1)
    found = {}
    for name, definition in ROW_STATISTICS.items():
        arguments: dict[str, Any] = {"value": value} if definition.needs_value else {}
        if name == "headroom":
            arguments = {"dtype": torch.float32}
        found[name] = over(definition.reference(scores, **arguments), real)
    output = dense_output(call)
    found["output_norm"] = over(output.norm(dim=-1), real)
    found["residual_share"] = over(output.norm(dim=-1) / RESIDUAL.double().norm(dim=-1)[:, None], real)
    mass = (reference.weights(scores) * PADDED[:, None, None, :]).sum(-1)
    found["padding_mass"] = over(mass.masked_fill((scores == -torch.inf).all(-1), torch.nan), real)
    for name, definition in COLUMN_STATISTICS.items():
        found[name] = definition.reference(scores, query_mask=real).nanmean(0)
    for name, tokens in (("output_diversity", output), ("residual_diversity", RESIDUAL.double()[:, None])):
        by_sequence = []
        for sequence, rows in zip(tokens, real, strict=True):
            kept = sequence[:, rows]
            away = (kept - kept.mean(1, keepdim=True)).flatten(1).norm(dim=1)
            by_sequence.append(away / kept.flatten(1).norm(dim=1))
        found[name] = torch.stack(by_sequence).nanmean(0).expand(HEADS)
    return found


@pytest.mark.parametrize("described", ["by its queries", "by its scores"])
@pytest.mark.parametrize("masking", MASKINGS)
def test_every_statistic_equals_its_definition(masking: str, described: str) -> None:
    call = fused(**MASKINGS[masking])
    wanted = expected(call, ~PADDED)
    given = call if described == "by its queries" else materialised(call)
    measured = measure(given, SURROUNDED, KNOWN)
    assert measured.missing == {}
    assert measured.num_rows == int((~PADDED).sum())
    found = means(measured)
    assert set(found) == set(wanted) == set(SURROUNDED)
    for name in SURROUNDED:
        torch.testing.assert_close(
            found[name],
            wanted[name],
            atol=2e-5,
            rtol=2e-5,
            equal_nan=True,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.mark.parametrize("described", ["by its queries", "by its scores"])
def test_empty_rows_are_counted(described: str) -> None:
    call = fused(**MASKINGS["empty rows"])
    given = call if described == "by its queries" else materialised(call)
    ((_, moments),) = measure(given, ["entropy", "max_weight"], Surroundings()).groups
    assert moments.num_empty.tolist() == [[BATCH * 2] * HEADS] * 2
    assert moments.num_rows.tolist() == [[BATCH * (LEN - 2)] * HEADS] * 2


@pytest.mark.parametrize("described", ["by its queries", "by its scores"])
def test_a_sample_has_the_statistics_of_its_rows(described: str) -> None:
    call = fused(**MASKINGS["causal and padding"])
    given = call if described == "by its queries" else materialised(call)
    sample = draw(~PADDED, 7, 11)
    assert sample is not None
    drawn = torch.zeros_like(PADDED)
    for sequence in range(BATCH):
        drawn[sequence, sample.rows[sequence][sample.valid[sequence, 0]]] = True
    assert int(drawn.sum()) == 7
    names = [name for name in SURROUNDED if name not in COLUMN_STATISTICS and "diversity" not in name]
    measured = measure(given, names, KNOWN, rows=7, seed=11)
    assert measured.num_rows == 7
    wanted, found = expected(call, drawn), means(measured)
    for name in names:
        torch.testing.assert_close(found[name], wanted[name], atol=2e-5, rtol=2e-5, equal_nan=True)


def test_a_sample_never_takes_more_rows_than_asked_and_tells_of_how_many() -> None:
    call = fused()
    for asked in (1, 5, 16, 17, 100):
        measured = measure(call, ["entropy"], KNOWN, rows=asked)
        ((_, moments),) = measured.groups
        real = int((~PADDED).sum())
        assert moments.num_rows.tolist() == [[min(asked, real)] * HEADS]
        assert moments.population.tolist() == [[real] * HEADS]


@pytest.mark.parametrize("described", ["by its queries", "by its scores"])
def test_chosen_heads_have_the_values_that_they_have_among_all(described: str) -> None:
    call = fused(**MASKINGS["bias"])
    given = call if described == "by its queries" else materialised(call)
    whole, some = (means(measure(given, SURROUNDED, KNOWN, heads=heads)) for heads in (None, [3, 1]))
    for name in SURROUNDED:
        torch.testing.assert_close(some[name][[3, 1]], whole[name][[3, 1]], atol=1e-6, rtol=1e-6)
        assert some[name][[0, 2]].isnan().all()


def test_quantiles_are_those_of_the_rows_that_count() -> None:
    call = fused(causal=True)
    ((_, moments),) = measure(call, ["entropy"], KNOWN, quantiles=True).groups
    rows = ROW_STATISTICS["entropy"].reference(dense_scores(call))
    for head in range(HEADS):
        ordered = rows[:, head][~PADDED].sort().values
        picked = [ordered[round((len(ordered) - 1) * share)].item() for share in (0.1, 0.5, 0.9)]
        assert moments.quantiles[:, 0, head].tolist() == pytest.approx(picked, abs=1e-5)


def test_what_was_not_seen_is_said_by_name() -> None:
    scores = AttentionCall(scores=dense_scores(fused()).float(), kernel="softmax")
    measured = measure(scores, SURROUNDED, Surroundings())
    assert set(measured.missing) == {
        "contribution",
        "first_contribution",
        "output_norm",
        "residual_share",
        "output_diversity",
        "residual_diversity",
    }
    assert set(means(measured)) == set(SURROUNDED) - set(measured.missing)
    assert measure(scores, ["residual_share"], KNOWN).missing == {
        "residual_share": "the heads' outputs of this call were not seen"
    }
    assert measure(fused(), ["residual_share"], Surroundings()).missing == {
        "residual_share": "what enters the block around this layer was not seen"
    }


def test_an_output_that_the_kernel_kept_is_computed() -> None:
    call = fused(**MASKINGS["causal"])
    kept = measure(replace(call, output=None), ["output_norm", "output_diversity"], KNOWN)
    seen = measure(call, ["output_norm", "output_diversity"], KNOWN)
    for name, values in means(kept).items():
        torch.testing.assert_close(values, means(seen)[name], atol=1e-5, rtol=1e-5)


def test_a_layout_that_statistics_cannot_take_is_refused() -> None:
    call = AttentionCall(query=normal(2, 3, 4), key=normal(2, 3, 4), kernel="mine")
    with pytest.raises(ArgumentError, match="query must be"):
        measure(call, ["entropy"], Surroundings())


def test_padding_that_a_model_attends_has_weight() -> None:
    for call in (fused(), materialised(fused())):
        found = means(measure(call, ["padding_mass"], KNOWN))["padding_mass"]
        torch.testing.assert_close(found, expected(fused(), ~PADDED)["padding_mass"], atol=1e-6, rtol=0)
        assert (found > 0.1).all()


def test_gradients_of_shared_keys_are_shared_among_their_heads() -> None:
    shapes = {"query": HEADS, "key": KV_HEADS, "value": KV_HEADS, "output": HEADS, "forward_output": HEADS}
    tensors = {name: normal(BATCH, heads, LEN, DIM, seed=index) for index, (name, heads) in enumerate(shapes.items())}
    names, moments = measure_gradients(Gradients(**tensors), list(STATISTICS))
    assert names == tuple(GRADIENT_STATISTICS)
    squares = {name: tensor.double().square().sum((2, 3)) for name, tensor in tensors.items()}
    for name in ("key", "value"):
        squares[name] = squares[name].repeat_interleave(2, 1) / 2
    qk, vo = (squares["query"] + squares["key"]).sqrt(), (squares["value"] + squares["output"]).sqrt()
    importance = (tensors["output"].double() * tensors["forward_output"].double()).sum((2, 3)).abs()
    for index, wanted in enumerate((qk, vo, qk / vo, importance)):
        torch.testing.assert_close(moments.mean[index], wanted.mean(0), rtol=1e-5, atol=1e-5)
    assert moments.num_rows.tolist() == [[BATCH] * HEADS] * 4


class Largest(TorchDispatchMode):
    """Notes the most elements that one tensor made within it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in self._tensors(result):
            expanded = any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
            self.numel = max(self.numel, 0 if expanded else tensor.numel())
        return result

    def _tensors(self, result: Any) -> Iterator[Tensor]:
        if isinstance(result, Tensor):
            yield result
        elif isinstance(result, (tuple, list)):
            for part in result:
                yield from self._tensors(part)


@pytest.mark.parametrize("rows", [None, 64])
def test_memory_is_linear_in_the_length(rows: int | None) -> None:
    def largest(length: int) -> int:
        query, key, value = (normal(1, 1, length, 4, seed=index) for index in range(3))
        call = AttentionCall(query=query, key=key, value=value, causal=True, kernel="none")
        with Largest() as noted:
            measure(call, ["entropy", "collision", "max_weight", "distance", "output_norm"], Surroundings(), rows=rows)
        return noted.numel

    short, long = largest(2048), largest(8192)
    assert long <= 4 * short
    assert long < 8192 * 8192 // 16
