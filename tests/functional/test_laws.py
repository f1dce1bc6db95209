"""Laws of attention on random calls: what must stay the same, and what must not change by a bit, on every backend."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from regard.functional import attention_weights, reference
from regard.functional.impl.chunked import chunked_with_lse
from regard.functional.impl.native_attention import native_with_lse

from ..native.dense import Answer, Dense
from .random_calls import (
    DTYPES,
    EVERY_BACKEND,
    FEW,
    PRECISE,
    WITH_LSE,
    WITH_NATIVE,
    attend,
    calls,
    can,
    four_axes,
    tiny,
)


@EVERY_BACKEND
@FEW
@given(data=st.data())
def test_weights_of_a_row_sum_to_one_or_the_row_is_empty(backend, data):
    call = data.draw(calls())
    assume(can(backend, call))
    found = attend(backend, call, value=torch.ones_like(call.value))
    empty = ~call.dense.visible.any(-1)
    assert (found[empty] == 0).all()
    # Half-precision weights of up to 70 keys are each rounded by themselves.
    assert ((found[~empty].double() - 1).abs() <= 8 * torch.finfo(found.dtype).eps).all()


@EVERY_BACKEND
@FEW
@given(data=st.data())
def test_the_order_of_keys_does_not_matter(backend, data):
    call = data.draw(calls(PRECISE if backend == "reference" else DTYPES, causal=False))
    assume(can(backend, call))
    kv_len = call.key.shape[2]
    order = torch.randperm(kv_len, generator=torch.Generator().manual_seed(call.seed))
    sides = {
        name: side if side is None or side.shape[-1] == 1 else side[..., order]
        for name, side in call.masking.items()
        if name in ("attn_mask", "attn_bias")
    }
    found = attend(backend, call, key=call.key[:, :, order], value=call.value[:, :, order], **sides)
    assert call.dense.output().mismatch(found) is None


@EVERY_BACKEND
@FEW
@given(data=st.data(), power=st.sampled_from((-3, -1, 2)))
def test_a_factor_of_the_query_is_one_of_the_scale(backend, data, power):
    call = data.draw(calls(PRECISE))
    assume(can(backend, call))
    scale = call.query.shape[3] ** -0.5 if call.masking["scale"] is None else call.masking["scale"]
    found, expected = (
        attend(backend, call, query=call.query * 2.0**power, scale=scale),
        attend(backend, call, scale=scale * 2.0**power),
    )
    assert torch.equal(found, expected)  # powers of two change no digit


@EVERY_BACKEND
@FEW
@given(data=st.data(), constant=st.sampled_from((-30.0, 0.5, 8.0)))
def test_a_constant_added_to_the_scores_of_a_row_changes_nothing(backend, data, constant):
    call = data.draw(calls(PRECISE))
    assume(can(backend, call))
    bias = call.masking["attn_bias"]
    rows = constant * torch.arange(call.query.shape[2], dtype=call.query.dtype)[:, None]
    bias = rows if bias is None else bias + rows
    moved = Dense(*call.tensors, {**call.masking, "attn_bias": bias}).output()
    moved = Answer(
        exact=call.dense.output().exact, budget=moved.budget + (moved.exact - call.dense.output().exact).abs()
    )
    assert moved.mismatch(attend(backend, call, attn_bias=bias)) is None


@EVERY_BACKEND
@FEW
@given(data=st.data())
def test_grouped_heads_are_repeated_keys_and_values(backend, data):
    call = data.draw(calls(PRECISE if backend == "reference" else DTYPES))
    assume(can(backend, call))
    group = call.query.shape[1] // call.key.shape[1]
    key, value = (tensor.repeat_interleave(group, dim=1) for tensor in (call.key, call.value))
    assert call.dense.output().mismatch(attend(backend, call, key=key, value=value)) is None


@EVERY_BACKEND
@FEW
@given(data=st.data())
def test_a_query_changes_its_own_row_only(backend, data):
    call = data.draw(calls())
    assume(can(backend, call))
    row = call.index(call.query.shape[2])
    query = call.query.clone()
    query[:, :, row] = call.randn(*query[:, :, row].shape).to(query.dtype)
    kept = torch.arange(query.shape[2]) != row
    assert torch.equal(attend(backend, call, query=query)[:, :, kept], attend(backend, call)[:, :, kept])


@EVERY_BACKEND
@FEW
@given(data=st.data())
def test_a_column_of_the_values_changes_its_own_column_of_the_output_only(backend, data):
    call = data.draw(calls())
    assume(can(backend, call))
    column = call.index(call.value.shape[3])
    value = call.value.clone()
    value[..., column] = call.randn(*value[..., column].shape).to(value.dtype)
    kept = torch.arange(value.shape[3]) != column
    assert torch.equal(attend(backend, call, value=value)[..., kept], attend(backend, call)[..., kept])


@pytest.mark.parametrize("backend", WITH_LSE)
@FEW
@given(data=st.data())
def test_values_do_not_change_the_lse(backend, data):
    call = data.draw(calls(WITH_NATIVE))
    with_lse = native_with_lse if backend == "native" else chunked_with_lse
    other = call.randn(*call.value.shape).to(call.value.dtype)
    with tiny(backend):
        found, plain = (
            with_lse(call.query, call.key, value, **four_axes(call.masking))[1] for value in (other, call.value)
        )
    assert torch.equal(found, plain)


@FEW
@given(data=st.data())
def test_a_key_changes_the_scores_of_its_own_column_only(data):
    call = data.draw(calls())
    at = call.index(call.key.shape[2])
    key = call.key.clone()
    key[:, :, at] = call.randn(*key[:, :, at].shape).to(key.dtype)
    kept = torch.arange(key.shape[2]) != at
    found, plain = (reference.scores(call.query, one, **call.masking)[..., kept] for one in (key, call.key))
    assert torch.equal(found, plain)
    lse = reference.lse(reference.scores(call.query, call.key, **call.masking))
    found, plain = (attention_weights(call.query, one, lse=lse, **call.masking)[..., kept] for one in (key, call.key))
    assert torch.equal(found, plain)


@EVERY_BACKEND
@FEW
@given(data=st.data())
def test_what_a_row_may_not_see_does_not_change_it_by_a_bit(backend, data):
    call = data.draw(calls())
    assume(can(backend, call))
    at = call.index(call.key.shape[2])
    key, value = call.key.clone(), call.value.clone()
    for tensor in (key, value):
        tensor[:, :, at] = 3 * call.randn(*tensor[:, :, at].shape).to(tensor.dtype)
    blind = ~call.dense.visible[..., at]
    assert torch.equal(attend(backend, call, key=key, value=value)[blind], attend(backend, call)[blind])
