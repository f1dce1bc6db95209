"""FlexAttention held to the float64 reference on a CPU, where it computes the dense formula and no gradients."""

import math

import pytest
import torch

from regard._errors import UnsupportedError
from regard.functional import ROW_STATISTICS, attention, reference, row_statistics, selected_impl, taps
from regard.functional.impl import flex
from regard.functional.impl.flex import flex_attend
from regard.functional.impl.statistics_flex import STEP
from regard.functional.taps import FLEX
from regard.observe import watch

NAMED = ("first_mass", "self_mass", "previous_mass")


@pytest.fixture(params=["one block", "tiny blocks"])
def blocks(request, monkeypatch):
    if request.param == "tiny blocks":
        monkeypatch.setattr(flex, "_BLOCK", 4)


@pytest.mark.usefixtures("blocks")
def test_output_and_lse_stay_within_the_error_budget(case, dtype, within_budget):
    query, key, value = case.tensors(dtype)
    output = attention(query, key, value, impl="flex", **case.masking(dtype))
    eager = reference.attention(query, key, value, **case.masking(dtype))
    exact_tensors = [tensor.double() for tensor in (query, key, value)]
    within_budget(output, eager, reference.attention(*exact_tensors, **case.exact_masking(dtype)))
    found = row_statistics(query, key, statistics=["first_mass"], route="flex", **case.masking(dtype))
    eps = torch.finfo(found.lse.dtype).eps
    torch.testing.assert_close(found.lse.double(), reference.lse(case.scores(dtype)), rtol=32 * eps, atol=32 * eps)


def dense_blocks(mask, size):
    """Which blocks hold an allowed key, and which hold nothing else, by looking at every number."""
    rows, keys = (range(0, length, size) for length in mask.shape[-2:])
    cut = [[mask[..., row : row + size, key : key + size] for key in keys] for row in rows]
    seen = torch.stack([torch.stack([part.any(-1).any(-1) for part in line], -1) for line in cut], -2)
    whole = torch.stack([torch.stack([part.all(-1).all(-1) for part in line], -1) for line in cut], -2)
    return seen, whole


def test_blocks_that_nobody_sees_are_left_out(case, monkeypatch):
    monkeypatch.setattr(flex, "_BLOCK", 2)
    masking = case.masking(torch.float64)
    kept = masking["attn_mask"]
    kept = None if kept is None else kept[(None,) * (4 - kept.ndim)]
    reach = flex._Reach(case.q_len, case.kv_len, case.causal, case.window, torch.device("cpu"))
    found = flex._block_mask(reach, (2, case.heads, case.q_len, case.kv_len), kept)
    allowed = ~torch.zeros(case.q_len, case.kv_len, dtype=torch.bool)[None, None]
    shaping = {**masking, "attn_bias": None, "alibi_slopes": None, "softcap": None}
    allowed = allowed & (reference.scores(*case.tensors(torch.float64)[:2], **shaping) > -torch.inf)
    if found is None:
        assert allowed.all()
        return
    seen, _ = dense_blocks(allowed, 2)
    listed = torch.zeros_like(seen)
    lists = [(found.kv_num_blocks, found.kv_indices), (found.full_kv_num_blocks, found.full_kv_indices)]
    for counts, indices in lists:
        if counts is None:
            continue
        taken = torch.arange(indices.shape[-1]) < counts[..., None]
        part = torch.zeros(indices.shape, dtype=torch.bool).scatter(-1, indices.long(), taken)
        assert not (listed & part).any(), "a block is computed once"
        listed |= part
    if found.full_kv_num_blocks is not None:
        _, whole = dense_blocks(allowed, 2)
        full = torch.arange(lists[1][1].shape[-1]) < lists[1][0][..., None]
        full = torch.zeros(lists[1][1].shape, dtype=torch.bool).scatter(-1, lists[1][1].long(), full)
        assert (whole | ~full).all(), "a block whose mask is not looked at hides nothing"
        assert torch.equal(listed, seen)
    assert (listed | ~seen).all(), "what somebody sees is computed"


@pytest.mark.parametrize("route_dtype", [torch.float32, torch.float64], ids=str)
def test_statistics_from_the_lse_are_those_of_the_dense_weights(case, route_dtype):
    query, key, _ = case.tensors(route_dtype)
    names = ("entropy", "collision", "effective_keys", "normalized_entropy", *NAMED)
    found = row_statistics(query, key, statistics=names, route="flex", **case.masking(route_dtype))
    assert set(found.route.values()) == {"flex"}
    scores = case.scores(route_dtype)
    eps = torch.finfo(route_dtype).eps
    for name in ("collision", *NAMED):
        exact = ROW_STATISTICS[name].reference(scores)
        torch.testing.assert_close(found.values[name].double(), exact, rtol=128 * eps, atol=128 * eps, equal_nan=True)
    # The error of a central difference is that of the next term: a sixth of the third cumulant times the step squared.
    weights = reference.weights(scores)
    known = scores.masked_fill(scores == -torch.inf, 0.0)
    centred = known - (weights * known).sum(-1, keepdim=True)
    third = (weights * centred**3).sum(-1).abs().max()
    budget = 2 * float(third) * STEP**2 / 6 + 64 * eps * math.log(scores.shape[-1]) / STEP + 1e-6
    exact = ROW_STATISTICS["entropy"].reference(scores)
    torch.testing.assert_close(found.values["entropy"].double(), exact, rtol=0, atol=budget, equal_nan=True)


def test_it_is_heard_as_one_call_with_its_lse():
    class Attention(torch.nn.Module):
        def forward(self, query):
            return attention(query, query, query, causal=True, window=3, impl="flex")

    model, query = Attention(), torch.randn(2, 2, 9, 8)
    with torch.no_grad(), watch(model, ["entropy"]) as view:
        model(query)
    (entry,) = view.coverage()
    assert dict(entry.kernels) == {FLEX: 1}
    assert dict(entry.masks) == {"causal+window": 1}
    scores = reference.scores(query.double(), query.double(), causal=True, window=3)
    expected = ROW_STATISTICS["entropy"].reference(scores).mean((0, 2))
    torch.testing.assert_close(view[""]["entropy"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dropout_p": 0.1}, "needs dropout_p=0"),
        ({"attn_bias": torch.zeros(3, 3, requires_grad=True)}, "needs a bias and slopes without a gradient"),
        ({"alibi_slopes": torch.zeros(2, requires_grad=True)}, "needs a bias and slopes without a gradient"),
    ],
    ids=["dropout", "bias", "slopes"],
)
def test_what_it_cannot_do_is_refused(changes, message):
    query = torch.zeros(1, 2, 3, 4)
    with pytest.raises(UnsupportedError, match=f'impl="flex" {message}'):
        attention(query, query, query, impl="flex", **changes)


def test_gradients_and_largest_scores_are_refused_on_a_cpu():
    query = torch.zeros(1, 2, 3, 4, requires_grad=True)
    with pytest.raises(UnsupportedError, match="needs a GPU in order to give gradients"):
        attention(query, query, query, impl="flex")
    with torch.no_grad(), pytest.raises(UnsupportedError, match="needs a GPU in order to give the largest scores"):
        flex_attend(query, query, query, wants_max=True)
    with pytest.raises(UnsupportedError, match="route='flex' cannot give max_score: it needs a GPU"):
        row_statistics(query, query, statistics=["max_score"], route="flex")
    with pytest.raises(UnsupportedError, match="route='flex' cannot give distance: it needs a pass over all scores"):
        row_statistics(query, query, statistics=["distance"], route="flex")
    with pytest.raises(UnsupportedError, match="route='flex' cannot give entropy: it needs all rows"):
        row_statistics(query, query, statistics=["entropy"], rows=torch.tensor([1]), route="flex")


def test_another_device_is_refused():
    query = torch.zeros(1, 2, 3, 4, device="meta")
    with pytest.raises(UnsupportedError, match='impl="flex" needs tensors on a CUDA device, or on a CPU'):
        attention(query, query, query, impl="flex")


@pytest.mark.parametrize(("batch", "q_len", "kv_len"), [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_empty_tensors_give_an_output_of_zeros(batch, q_len, kv_len):
    query, key, value = (
        torch.randn(batch, 2, q_len, 4),
        torch.randn(batch, 2, kv_len, 4),
        torch.ones(batch, 2, kv_len, 5),
    )
    output = attention(query, key, value, impl="flex")
    assert output.shape == (batch, 2, q_len, 5)
    assert (output == 0).all()


def test_it_is_never_chosen_by_itself(monkeypatch):
    query = torch.zeros(1, 1, 8192, 4)
    for options in ({}, {"causal": True, "window": 9}, {"softcap": 1.0}, {"alibi_slopes": torch.ones(1)}):
        assert selected_impl(query, query, query, **options) not in ("flex", "triton")


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_compiled_code_holds_its_fused_kernel():
    query, key = torch.randn(1, 4, 140, 16), torch.randn(1, 2, 150, 16)
    options = {"causal": True, "window": 20, "softcap": 3.0, "alibi_slopes": torch.tensor([0.5, 0.25, 0.1, 0.0])}
    torch.compiler.reset()
    with torch.no_grad():
        found = torch.compile(attention, fullgraph=True)(query, key, key, impl="flex", **options)
    expected = reference.attention(query.double(), key.double(), key.double(), **options)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    assert not taps.in_parts()  # or watch would hear of nothing more in this thread


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_output_and_gradients_stay_within_the_error_budget_on_a_gpu(case, within_budget):
    masking = {
        name: side.cuda() if isinstance(side, torch.Tensor) else side
        for name, side in case.masking(torch.float32).items()
    }
    results = []
    for impl, dtype in (("flex", torch.float32), ("reference", torch.float32), ("reference", torch.float64)):
        leaves = [tensor.cuda().to(dtype).requires_grad_() for tensor in case.tensors(torch.float32)]
        output = attention(*leaves, impl=impl, **masking)
        results.append([output, *torch.autograd.grad(output.square().sum(), leaves)])
    for values in zip(*results, strict=True):
        within_budget(*values)
