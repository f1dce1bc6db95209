"""The native kernels on each instruction set that this processor has, against the dense float64 reference."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from regard._errors import ArgumentError, UnsupportedError
from regard.functional import (
    ROW_STATISTICS,
    attention,
    packed_attention,
    received_mass,
    reference,
    row_statistics,
    selected_impl,
    taps,
)
from regard.functional.impl import native
from regard.functional.impl.native_attention import native_with_lse

regard_native = pytest.importorskip("regard_native", reason="needs regard-native: make native")

ALL = tuple(ROW_STATISTICS)
SETS = regard_native.instruction_sets()
HALF = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(params=SETS)
def isa(request, monkeypatch):
    monkeypatch.setattr(regard_native, "forced_instruction_set", lambda: request.param)
    return request.param


@pytest.fixture(params=HALF.values(), ids=HALF.keys())
def half(request):
    return request.param


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request, monkeypatch):
    monkeypatch.setattr(native, "_PRODUCTS_OF_A_THREAD", 1)
    torch.set_num_threads(request.param)
    return request.param


def larger(case):
    """Return a case that fills more than one block of keys and queries."""
    return replace(case, q_len=130, kv_len=max(130, 320 * (case.q_len != case.kv_len)), head_dim=40)


def gradients(call, leaves, direction, lse_direction):
    output, lse = call(*leaves)
    seen = lse.masked_fill(lse == -torch.inf, 0.0)
    total = (output.double() * direction).sum() + (seen.double() * lse_direction).sum()
    return [output, seen, *torch.autograd.grad(total, leaves)]


def reference_with_lse(query, key, value, **masking):
    return reference.attention(query, key, value, **masking), reference.lse(reference.scores(query, key, **masking))


@pytest.mark.parametrize("size", ["small", "large"])
def test_output_and_gradients_are_within_the_budget(case, half, isa, threads, within_budget, size):
    case = larger(case) if size == "large" and case.causal <= (case.q_len <= case.kv_len) else case
    tensors, masking = case.tensors(half), case.masking(half)
    direction = torch.randn(2, case.heads, case.q_len, case.value_dim, dtype=torch.float64)
    lse_direction = torch.randn(2, case.heads, case.q_len, dtype=torch.float64)
    found = gradients(
        lambda *leaves: native_with_lse(*leaves, **masking)[:2],
        [tensor.clone().requires_grad_() for tensor in tensors],
        direction.to(half).double(),
        lse_direction,
    )
    exact, eager = (
        gradients(
            lambda *leaves, masking=masking: reference_with_lse(*leaves, **masking),
            [tensor.to(dtype).requires_grad_() for tensor in tensors],
            direction.to(half).double(),
            lse_direction,
        )
        for dtype, masking in ((torch.float64, case.exact_masking(half)), (half, masking))
    )
    eager[1] = eager[1].float()
    for name, *values in zip(("output", "lse", "query", "key", "value"), found, eager, exact, strict=True):
        assert torch.isfinite(values[0]).all(), name
        within_budget(*values)


@pytest.mark.parametrize("rows", ["all", "some", "own of each sequence"])
def test_statistics_equal_the_dense_float64_ones(case, half, isa, threads, rows):
    query, key, value = case.tensors(half)
    scores = case.scores(half)
    chosen = None
    if rows != "all":
        chosen = torch.tensor([case.q_len - 1, 0, case.q_len // 2])
        chosen = chosen if rows == "some" else torch.stack([chosen, (chosen + 1) % case.q_len])
    found = row_statistics(
        query, key, statistics=ALL, value=value, rows=chosen, route="native", **case.masking(half)
    )  # fmt: skip
    assert set(found.route.values()) == {"native"}
    for name, values in found.values.items():
        extra = {"value": value} if "contribution" in name else {"dtype": half} if name == "headroom" else {}
        exact = ROW_STATISTICS[name].reference(scores, **extra)
        if chosen is not None:
            exact = exact.gather(2, chosen.expand(2, -1)[:, None].expand(-1, case.heads, -1))
        torch.testing.assert_close(values.double(), exact, rtol=8e-6, atol=8e-6, equal_nan=True, msg=name)


def test_statistics_come_with_the_output(case, isa):
    query, key, value = case.tensors(torch.float32)
    names = ("entropy", "collision", "max_weight", "expected_position")
    output, lse, statistics = native_with_lse(query, key, value, statistics=names, **case.masking(torch.float32))
    alone = row_statistics(query, key, statistics=names, route="native", **case.masking(torch.float32))
    torch.testing.assert_close(lse, alone.lse, rtol=0, atol=0)
    for name, values in zip(names, statistics, strict=True):
        torch.testing.assert_close(values, alone.values[name], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(output, attention(query, key, value, impl="native", **case.masking(torch.float32)))


@pytest.mark.parametrize("heads", [1, 3])
def test_long_rows_are_split_over_threads_and_joined(isa, threads, heads):
    query, key, value = torch.randn(1, heads, 3, 24) * 3, torch.randn(1, 1, 1500, 24), torch.randn(1, 1, 1500, 20)
    found = row_statistics(query, key, statistics=ALL, value=value, causal=True, route="native")
    scores = reference.scores(query.double(), key.double(), causal=True)
    for name, values in found.values.items():
        extra = {"value": value} if "contribution" in name else {"dtype": query.dtype} if name == "headroom" else {}
        exact = ROW_STATISTICS[name].reference(scores, **extra)
        torch.testing.assert_close(values.double(), exact, rtol=2e-5, atol=2e-5, equal_nan=True, msg=name)
    output = attention(query, key, value, causal=True, impl="native")
    exact = reference.attention(query.double(), key.double(), value.double(), causal=True)
    torch.testing.assert_close(output.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 4], ids=["shared by threads", "a head a thread"])
@pytest.mark.parametrize("masked", ["later keys", "padding"])
def test_more_rows_are_taken_at_once_where_keys_do_not_stay_near(isa, half, threads, within_budget, kv_heads, masked):
    q_len, kv_len = 270, 2300  # keys and values of one head fill more than what a core keeps near, in pairs too
    query, key = torch.randn(1, 4, q_len, 160), torch.randn(1, kv_heads, kv_len, 160)
    value = torch.randn(1, kv_heads, kv_len, 96)
    masking = {
        "later keys": {"causal": True},
        "padding": {"attn_mask": torch.arange(kv_len)[None, None, None] < 1700},
    }[masked]
    tensors = [tensor.to(half) for tensor in (query, key, value)]
    found, lse, (entropy,) = native_with_lse(*tensors, statistics=["entropy"], **masking)
    exact = [tensor.double() for tensor in tensors]
    within_budget(found, reference.attention(*tensors, **masking), reference.attention(*exact, **masking))
    scores = reference.scores(exact[0], exact[1], **masking)
    torch.testing.assert_close(lse.double(), reference.lse(scores), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy.double(), ROW_STATISTICS["entropy"].reference(scores), rtol=1e-5, atol=2e-5)


def test_results_do_not_depend_on_the_run(half, threads):
    query, key, value = (torch.randn(2, 2, 300, 40).to(half).requires_grad_() for _ in range(3))
    runs = []
    for _ in range(3):
        output = attention(query, key, value, causal=True, impl="native")
        runs.append([output, *torch.autograd.grad(output.float().square().sum(), (query, key, value))])
    assert all(torch.equal(one, other) for run in runs[1:] for one, other in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("kv_len", [3, 40, 700])
@pytest.mark.parametrize("what", ["query", "key"])
def test_nan_reaches_the_rows_that_see_it_and_no_other(isa, half, kv_len, what):
    query, key, value = torch.randn(1, 2, 9, 24), torch.randn(1, 2, kv_len, 24), torch.randn(1, 2, kv_len, 16)
    keep = torch.ones(9, kv_len, dtype=torch.bool)
    keep[:5, 1] = False
    expected = torch.zeros(1, 2, 9, dtype=torch.bool)
    if what == "query":
        query[0, 1, 2, 5] = torch.nan
        expected[0, 1, 2] = True
    else:
        key[0, 1, 1, 5] = torch.nan
        expected[0, 1, 5:] = True
    tensors = [tensor.to(half) for tensor in (query, key, value)]
    output, lse, statistics = native_with_lse(*tensors, attn_mask=keep[None, None], statistics=("entropy", "max_score"))
    assert torch.equal(output.isnan().all(-1), expected)
    assert torch.equal(output.isnan().any(-1), expected)
    assert all(torch.equal(found.isnan(), expected) for found in (lse, *statistics))


@pytest.mark.parametrize("size", [1e5, 1e10, 1e15])
def test_the_largest_of_huge_scores_keeps_its_weight(isa, size):
    query, key, value = torch.randn(1, 2, 60, 24) * size, torch.randn(1, 2, 700, 24) * size, torch.randn(1, 2, 700, 16)
    largest = (query.double() @ key.double().mT).argmax(-1)
    expected = value.gather(2, largest[..., None].expand(1, 2, 60, 16))
    torch.testing.assert_close(attention(query, key, value, impl="native"), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("layout", ["heads inside", "every other", "reversed axes", "expanded"])
def test_any_layout_is_read(isa, half, layout):
    def laid_out(seed):
        drawn = torch.randn(2, 4, 70, 16, generator=torch.Generator().manual_seed(seed)).to(half)
        if layout == "heads inside":
            return drawn.transpose(1, 2).contiguous().transpose(1, 2)
        if layout == "every other":
            return torch.stack([drawn, drawn], -1).flatten(-2)[..., ::2]
        if layout == "reversed axes":
            return drawn.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        return drawn[:1, :1].expand(2, 4, 70, 16)

    tensors = [laid_out(seed) for seed in range(3)]
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    plain = [tensor.contiguous().requires_grad_() for tensor in tensors]
    found, expected = (attention(*given, causal=True, impl="native") for given in (leaves, plain))
    assert torch.equal(found, expected)
    grads = [torch.autograd.grad(output.sum(), given) for output, given in ((found, leaves), (expected, plain))]
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_dropout_drops_what_it_says_and_is_reproducible(isa, threads):
    query, key = torch.randn(2, 2, 90, 16), torch.randn(2, 2, 200, 16)
    value = torch.eye(200).expand(2, 2, 200, 200).contiguous()
    weights = attention(query, key, value, impl="native")

    def dropped():
        torch.manual_seed(5)
        return attention(query, key, value, dropout_p=0.3, impl="native")

    first = dropped()
    assert torch.equal(first, dropped())
    kept = first != 0
    torch.testing.assert_close(first[kept], weights[kept] / 0.7, rtol=1e-5, atol=0)
    share = 1 - kept.double().mean(-1)  # of each row, whose 200 weights are dropped independently
    deviation = math.sqrt(0.3 * 0.7 / 200)
    assert abs(float(share.mean()) - 0.3) < 4 * deviation / math.sqrt(share.numel())
    assert abs(float(share.std()) / deviation - 1) < 0.15
    neighbours = (kept[..., 1:] == kept[..., :-1]).double().mean()
    across = (kept[:, :, 1:] == kept[:, :, :-1]).double().mean()
    assert abs(float(neighbours) - 0.58) < 0.01
    assert abs(float(across) - 0.58) < 0.01


def test_dropout_is_the_same_in_the_backward_pass(isa, half):
    query, key, value = (torch.randn(1, 2, 70, 16).to(half).requires_grad_() for _ in range(3))
    identity = torch.eye(70).to(half).expand(1, 2, 70, 70)
    torch.manual_seed(3)
    factors = attention(query, key, identity, dropout_p=0.4, impl="native").detach().double() != 0
    torch.manual_seed(3)
    output = attention(query, key, value, dropout_p=0.4, impl="native")
    found = torch.autograd.grad(output.double().square().sum(), (query, key, value))
    doubled = [tensor.detach().double().requires_grad_() for tensor in (query, key, value)]
    weights = reference.weights(reference.scores(*doubled[:2])) * factors / 0.6
    exact_output = weights @ doubled[2]
    exact = torch.autograd.grad(exact_output.square().sum(), doubled)
    tolerance = 2e-5 if half == torch.float32 else 0.06
    torch.testing.assert_close(output.double(), exact_output, rtol=tolerance, atol=tolerance)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


def test_checkpoints_give_the_same_gradients():
    query, key, value = (torch.randn(1, 2, 40, 16, requires_grad=True) for _ in range(3))

    def loss(*tensors):
        return attention(*tensors, dropout_p=0.2, impl="native").square().sum()

    torch.manual_seed(1)
    plain = torch.autograd.grad(loss(query, key, value), (query, key, value))
    torch.manual_seed(1)
    again = torch.autograd.grad(checkpoint(loss, query, key, value, use_reentrant=False), (query, key, value))
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


@pytest.mark.parametrize("bias_dtype", HALF.values(), ids=HALF.keys())
@pytest.mark.parametrize("shape", [(2, 1, 1, 1000), (2, 4, 1, 1000)], ids=["shared", "by head"])
def test_keys_that_a_bias_of_padding_closes_are_not_read(isa, half, threads, bias_dtype, shape):
    """A whole block of NaN that no row may see would reach every output if it were multiplied."""
    kept = torch.arange(1000) < torch.tensor([300, 520])[:, None, None, None]
    bias = torch.zeros(shape, dtype=bias_dtype).masked_fill(~kept, -torch.inf)
    tensors = [torch.randn(2, heads, length, 24).to(half) for heads, length in ((4, 70), (2, 1000), (2, 1000))]
    padded = torch.arange(1000) >= 768  # beyond the last block of which a key is open
    holed = [tensors[0], *(tensor.masked_fill(padded[:, None], torch.nan) for tensor in tensors[1:])]

    def outcome(given, **masking):
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        output = attention(*leaves, impl="native", **masking)
        query, key, _ = given
        statistics = row_statistics(query, key, statistics=["entropy", "distance"], route="native", **masking)
        received = received_mass(query, key, **masking)
        grads = torch.autograd.grad(output.float().square().sum(), leaves)
        return [output, *grads, *statistics.values.values(), statistics.num_keys.expand(2, 4, -1), received]

    expected = outcome(tensors, attn_mask=kept)
    for one, other in zip(outcome(holed, attn_bias=bias), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2 if half != torch.float32 else 1e-5, atol=1e-5)
    padding = [grads[:, :, 768:] for grads in outcome(holed, attn_bias=bias)[2:4]]
    assert all((grads == 0).all() for grads in padding)


def test_received_mass_of_grouped_heads_with_several_threads(isa, threads):
    query, key = torch.randn(2, 4, 130, 24), torch.randn(2, 2, 200, 24)
    counted = torch.rand(2, 130) < 0.5
    found = received_mass(query, key, causal=True, query_mask=counted)
    weights = reference.weights(reference.scores(query.double(), key.double(), causal=True))
    torch.testing.assert_close(found.double(), (weights * counted[:, None, :, None]).sum(2), rtol=1e-5, atol=1e-5)


def test_listeners_hear_of_both_passes(monkeypatch):
    heard = []
    monkeypatch.setattr(
        taps, "LISTENERS", [lambda kernel, arguments, result: heard.append((kernel, arguments, result))]
    )
    query = torch.randn(1, 2, 5, 4, requires_grad=True)
    output = attention(query, query, query, causal=True, impl="native")
    output.sum().backward()
    (forward, arguments, result), (backward, given, grads) = heard
    assert (forward, backward) == (taps.NATIVE, taps.NATIVE_BACKWARD)
    assert arguments["causal"]
    assert result[0].data_ptr() == output.data_ptr() == given["out"].data_ptr()
    torch.testing.assert_close(query.grad, grads[0] + grads[1] + grads[2])


def test_slopes_that_learn_are_refused():
    query, slopes = torch.randn(1, 2, 5, 4), torch.ones(2, requires_grad=True)
    with pytest.raises(UnsupportedError, match='impl="native" needs slopes without a gradient'):
        attention(query, query, query, alibi_slopes=slopes, impl="native")
    assert selected_impl(query, query, query, alibi_slopes=slopes) == "chunked"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: (q.double(), q.double(), q.double(), {}), 'impl="native" needs float32, bfloat16 or float16'),
        (lambda q: (q.to("meta"), q, q, {}), 'impl="native" needs tensors on the CPU'),
        (
            lambda q: (q, q, q, {"attn_bias": torch.zeros(3, 3, requires_grad=True)}),
            'impl="native" needs a bias without a gradient',
        ),
        (lambda q: (*[q.repeat(1, 1, 1, 300)] * 3, {}), 'impl="native" needs heads at most 1024 wide'),
    ],
)
def test_what_the_kernels_cannot_take_is_refused(change, message):
    *tensors, options = change(torch.randn(1, 2, 3, 4))
    with pytest.raises(UnsupportedError, match=message):
        attention(*tensors, impl="native", **options)


@pytest.mark.usefixtures("no_native")
def test_without_the_package_it_says_how_to_get_it():
    query = torch.randn(1, 2, 3, 4)
    with pytest.raises(UnsupportedError, match=r"regard-native \(pip install \./native\)"):
        attention(query, query, query, impl="native")
    with pytest.raises(UnsupportedError, match="route='native' needs the package regard-native"):
        row_statistics(query, query, statistics=["entropy"], route="native")


def test_a_structure_of_another_version_is_refused():
    call = regard_native.Call()
    call.size -= 8
    with pytest.raises(RuntimeError, match="must be of one version"):
        regard_native.run("forward", call)


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_code_calls_the_kernel_without_a_break(backend):
    query, key, value = (torch.randn(1, 2, 33, 16, requires_grad=True) for _ in range(3))

    def loss(*tensors):
        return attention(*tensors, causal=True, softcap=3.0, impl="native").square().sum()

    plain = torch.autograd.grad(loss(query, key, value), (query, key, value))
    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    found = torch.autograd.grad(compiled(query, key, value), (query, key, value))
    for one, other in zip(plain, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.compiled
def test_the_operators_are_registered_as_pytorch_wants_them():
    from regard.functional.impl.native_operator import native_attention

    query, key, value = (torch.randn(1, 9, 2, 16).transpose(1, 2).requires_grad_() for _ in range(3))
    mask = (torch.rand(1, 1, 9, 9) < 0.8) | torch.eye(9, dtype=torch.bool)  # NaN of an empty row is not equal to itself
    offsets, slopes = torch.tensor([0, 4, 9]), torch.ones(2)
    nothing = (None,) * 7
    for sides, window, statistics in (
        (nothing, None, []),
        ((mask, *nothing[1:]), None, ["entropy"]),
        ((None, None, slopes, None, offsets, offsets, None), 3, ["entropy", "distance"]),
    ):
        arguments = (query, key, value, *sides, True, window, 0.25, 0.0, 0.0, statistics)
        torch.library.opcheck(native_attention, arguments)


@pytest.mark.compiled
def test_the_operator_takes_positions_and_refuses_offsets_that_it_cannot_read():
    from regard.functional.impl.native_operator import native_attention

    query, key = torch.randn(1, 2, 3, 16), torch.randn(1, 2, 9, 16)
    positions, options = torch.tensor([8, 0, 4]), (True, 2, 0.25, 0.0, 0.0, [])
    found, _, _ = native_attention(query, key, key, None, None, None, positions, None, None, None, *options)
    whole = torch.zeros(1, 2, 9, 16).index_copy(2, positions, query)
    expected = attention(whole, key, key, causal=True, window=2, scale=0.25)[:, :, positions]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for wrong in (torch.tensor([0, 4]), torch.tensor([0, 5, 2, 9]), torch.tensor([1, 9])):
        with pytest.raises(ArgumentError, match="offsets must rise from 0 to the number of tokens"):
            native_attention(key, key, key, None, None, None, None, wrong, wrong, None, *options)


def test_other_positions_have_no_gradients():
    query = torch.randn(1, 1, 3, 4, requires_grad=True)
    with pytest.raises(UnsupportedError, match="need the usual positions in order to give gradients"):
        native_with_lse(query, query, query, positions=torch.tensor([0, 1, 2]))


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize(
    "options",
    [
        {"window": 5, "causal": True},
        {"window": 5, "alibi_slopes": torch.tensor([0.5, 0.25])},
        {"alibi_slopes": torch.tensor([0.5, 0.25]), "causal": True, "softcap": 2.0},
    ],
    ids=["window", "window and slopes", "slopes"],
)
@pytest.mark.parametrize("is_packed", [False, True], ids=["batch", "packed"])
def test_windows_slopes_and_packed_sequences_compile_without_a_break(backend, options, is_packed):
    shape = (33, 2, 16) if is_packed else (2, 2, 33, 16)
    leaves = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    bounds = {"offsets": torch.tensor([0, 9, 9, 33])} if is_packed else {}
    function = packed_attention if is_packed else attention

    def outcome(call):
        output = call(*leaves, **bounds, **options, impl="native")
        return [output, *torch.autograd.grad(output.square().sum(), leaves)]

    torch.compiler.reset()
    compiled = torch.compile(function, backend=backend, fullgraph=True)
    for one, other in zip(outcome(compiled), outcome(function), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
