"""Random calls agree with float64: output, gradients, log-sum-exp, statistics and weights, on every backend."""

from collections.abc import Iterable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from regard.functional import (
    COLUMN_STATISTICS,
    ROW_STATISTICS,
    attention_weights,
    column_statistics,
    key_mass,
    received_mass,
    row_statistics,
)
from regard.functional.impl.chunked import chunked_with_lse
from regard.functional.impl.native_attention import native_with_lse

from ..native.dense import Answer
from .random_calls import (
    DTYPES,
    EVERY_BACKEND,
    NATIVE,
    PRECISE,
    WITH_LSE,
    WITH_NATIVE,
    attend,
    calls,
    can,
    four_axes,
    tiny,
)


def differing(checked: Iterable[tuple[str, Tensor, Answer]]) -> list[str]:
    return [f"{name}: {found}" for name, values, answer in checked if (found := answer.mismatch(values))]


@EVERY_BACKEND
@given(data=st.data())
def test_output_agrees_with_float64(backend, data):
    # The budget is that of sums in float32, which the reference takes in the type of its inputs.
    call = data.draw(calls(PRECISE if backend == "reference" else DTYPES))
    assume(can(backend, call))
    assert call.dense.output().mismatch(attend(backend, call)) is None


@pytest.mark.parametrize("backend", WITH_LSE)
@given(data=st.data())
def test_lse_and_gradients_agree_with_float64(backend, data):
    call = data.draw(calls(WITH_NATIVE))
    leaves = [tensor.clone().requires_grad_() for tensor in call.tensors]
    with tiny(backend):
        with_lse = native_with_lse if backend == "native" else chunked_with_lse
        output, lse, *_ = with_lse(*leaves, **four_axes(call.masking))
        direction, lse_direction = call.randn(*output.shape).to(output.dtype), call.randn(*lse.shape)
        empty = lse == -torch.inf
        total = (output.float() * direction.float()).sum() + (lse.masked_fill(empty, 0.0) * lse_direction).sum()
        grads = torch.autograd.grad(total, leaves)
    expected = call.dense.gradients(direction, lse_direction.double().masked_fill(empty, 0.0))
    checked = [("output", output, call.dense.output()), ("lse", lse, call.dense.lse())]
    checked += [(name, grad, answer) for (name, answer), grad in zip(expected.items(), grads, strict=True)]
    assert differing(checked) == []


@pytest.mark.parametrize("route", ["streaming", "streaming in tiny blocks", NATIVE])
@settings(max_examples=50)
@given(data=st.data())
def test_statistics_of_rows_agree_with_float64(route, data):
    call = data.draw(calls(WITH_NATIVE if route == "native" else DTYPES))
    with tiny(route):
        found = row_statistics(
            call.query,
            call.key,
            statistics=tuple(ROW_STATISTICS),
            value=call.value,
            route=route.split()[0],
            **call.masking,
        )
    dense = call.dense
    checked = [(name, values, dense.statistic(name)) for name, values in found.values.items()]
    assert differing([*checked, ("lse", found.lse, dense.lse())]) == []
    num_keys = found.num_keys.expand(found.lse.shape)
    assert torch.equal(num_keys, dense.visible.sum(-1))


@given(data=st.data())
def test_statistics_of_columns_agree_with_float64(data):
    call = data.draw(calls())
    dense = call.dense
    batch, q_len, kv_len = call.query.shape[0], call.query.shape[2], call.key.shape[2]
    counted = call.randn(batch, q_len) < 0.7
    keys = call.randn(batch, kv_len) < 0.0
    received = received_mass(call.query, call.key, query_mask=counted, **call.masking)
    mass = key_mass(call.query, call.key, keys=keys, **call.masking)
    checked = [("received", received, dense.received(counted)), ("mass", mass, dense.key_mass(keys))]
    assert differing(checked) == []
    found = column_statistics(
        call.query, call.key, statistics=tuple(COLUMN_STATISTICS), query_mask=counted, **call.masking
    )
    for name, values in found.items():
        exact = COLUMN_STATISTICS[name].reference(dense.scores, query_mask=counted)
        torch.testing.assert_close(values.double(), exact, rtol=1e-3, atol=1e-5, equal_nan=True, msg=name)


@given(data=st.data())
def test_weights_of_a_block_agree_with_float64(data):
    call = data.draw(calls())
    dense = call.dense
    q_len, kv_len = call.query.shape[2], call.key.shape[2]
    rows = torch.tensor(data.draw(st.lists(st.integers(0, q_len - 1), max_size=5)), dtype=torch.int64)
    keys = data.draw(st.slices(kv_len).filter(lambda wanted: wanted.step is None or wanted.step > 0))
    with tiny(data.draw(st.sampled_from(("in whole blocks", "in tiny blocks")))):
        found = attention_weights(call.query, call.key, rows=rows, keys=keys, **call.masking)
    answer = Answer(
        exact=dense.weights[:, :, rows][..., keys], budget=dense.weight_error[:, :, rows][..., keys] + 1e-30
    )
    assert answer.mismatch(found) is None
