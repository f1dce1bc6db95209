"""Every way to compute attention in PyTorch becomes a call whose statistics equal dense float64 ones."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from regard.functional import attention
from regard.functional import taps as functional_taps
from regard.modules import MultiHeadAttention
from regard.observe import View, taps, watch

FUSED = "_scaled_dot_product_flash_attention_for_cpu"
NAMES = ["entropy", "normalized_entropy", "collision", "max_weight", "max_score", "first_mass", "output_norm"]
GRADIENTS = ["qk_gradient", "vo_gradient"]
RANDOM = torch.Generator().manual_seed(0)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=RANDOM)


def keep(*shape: int) -> Tensor:
    """A random mask that leaves every row its first key."""
    mask = torch.rand(*shape, generator=RANDOM) > 0.4
    mask[..., 0] = True
    return mask


def padded(*shape: int) -> Tensor:
    """A mask of keys, written out for every query."""
    return keep(*shape[:-2], 1, shape[-1]).expand(shape).contiguous()


def all_but_one_row(mask: Tensor) -> Tensor:
    """The mask with one row in the middle that sees one key less, or more, than the others."""
    mask[-1, 0, 2, 1] = ~mask[-1, 0, 2, 1]
    return mask


Q, K, V = normal(2, 4, 6, 8), normal(2, 4, 9, 8), normal(2, 4, 9, 8)
LOWEST = torch.finfo(torch.float32).min

# Tensors, options, the kernel that runs, and how its mask is called.
CASES: dict[str, tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any], str, str]] = {
    "self": ((Q, Q, Q), {}, FUSED, "none"),
    "causal": ((Q, Q, Q), {"is_causal": True}, FUSED, "causal"),
    "causal, fewer queries": ((Q, K, V), {"is_causal": True}, FUSED, "mask"),
    "causal, fewer keys": ((K, Q, Q), {"is_causal": True}, FUSED, "mask"),
    "one query": ((Q[:, :, :1], K, V), {}, FUSED, "none"),
    "mask": ((Q, K, V), {"attn_mask": keep(6, 9)}, FUSED, "mask"),
    "mask by sequence": ((Q, K, V), {"attn_mask": keep(2, 1, 6, 9)}, FUSED, "mask"),
    "mask of keys": ((Q, K, V), {"attn_mask": keep(2, 1, 1, 9)}, FUSED, "mask"),
    "mask of keys for every query": ((Q, K, V), {"attn_mask": padded(2, 1, 6, 9)}, FUSED, "mask"),
    "the same, an even number of keys": (
        (Q, K[:, :, 1:], V[:, :, 1:]),
        {"attn_mask": padded(2, 1, 6, 8)},
        FUSED,
        "mask",
    ),
    "one row apart": (
        (Q, K[:, :, 1:], V[:, :, 1:]),
        {"attn_mask": all_but_one_row(padded(2, 1, 6, 8))},
        FUSED,
        "mask",
    ),
    "one row apart, odd": ((Q, K, V), {"attn_mask": all_but_one_row(padded(2, 1, 6, 9))}, FUSED, "mask"),
    "cut from a wider mask": ((Q, K[:, :, 1:], V[:, :, 1:]), {"attn_mask": padded(2, 1, 6, 9)[..., :8]}, FUSED, "mask"),
    "mask by head": ((Q, K, V), {"attn_mask": keep(4, 6, 9)}, "math", "in the scores"),
    "bias": ((Q, K, V), {"attn_mask": normal(2, 4, 6, 9)}, FUSED, "bias"),
    "bias by head": ((Q, K, V), {"attn_mask": normal(1, 4, 6, 9)}, FUSED, "bias"),
    "bias that is learned": ((Q, K, V), {"attn_mask": normal(6, 9).requires_grad_()}, "math", "in the scores"),
    "lowest number for a mask": (
        (Q, K, V),
        {"attn_mask": torch.zeros(6, 9).masked_fill(~keep(6, 9), LOWEST)},
        FUSED,
        "mask",
    ),
    "scale": ((Q, K, V), {"scale": 0.9}, FUSED, "none"),
    "grouped heads": ((Q, K[:, :2], V[:, :2]), {"enable_gqa": True}, FUSED, "none"),
    "grouped heads, mask": ((Q, K[:, :2], V[:, :2]), {"enable_gqa": True, "attn_mask": keep(6, 9)}, FUSED, "mask"),
    "one key head": ((Q, K[:, :1], V[:, :1]), {"enable_gqa": True}, FUSED, "none"),
    "narrow values": ((Q, K, normal(2, 4, 9, 5)), {}, "math", "in the scores"),
    "no head axis": ((Q[:, 0], K[:, 0], V[:, 0]), {"attn_mask": keep(2, 6, 9)}, "math", "in the scores"),
    "five axes": ((normal(2, 3, 4, 6, 8), normal(2, 3, 4, 9, 8), normal(2, 3, 4, 9, 8)), {}, "math", "in the scores"),
    "heads in strides": ((Q.transpose(1, 2).contiguous().transpose(1, 2), K, V), {}, FUSED, "none"),
    "keys for all sequences": ((Q, K[:1], V[:1]), {}, "math", "in the scores"),
    "float64": ((Q.double(), K.double(), V.double()), {}, FUSED, "none"),
    "dropout": ((Q, K, V), {"dropout_p": 0.4}, "math", "in the scores"),
}


class Bare(nn.Module):
    """Attention without a module that says so."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, **options)


def dense_rows(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> dict[str, Tensor]:
    """Statistics (batch, heads, q_len) by the definitions, in float64."""
    group = query.shape[-3] // key.shape[-3] if options.get("enable_gqa") else 1
    query, key, value = query.double(), key.double(), value.double()
    if group > 1:
        key, value = key.repeat_interleave(group, -3), value.repeat_interleave(group, -3)
    scores = query @ key.mT * (options.get("scale") or query.shape[-1] ** -0.5)
    mask = options.get("attn_mask")
    if options.get("is_causal"):  # the corner of PyTorch is the top left
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask.detach().double().masked_fill(mask == LOWEST, -torch.inf)
    weights = scores.softmax(-1)
    output = weights @ value
    if weights.ndim == 3:
        scores, weights, output = scores[:, None], weights[:, None], output[:, None]
    scores, weights, output = (tensor.flatten(0, -4) for tensor in (scores, weights, output))
    entropy, num_keys = torch.special.entr(weights).sum(-1), (scores > -torch.inf).sum(-1).double()
    return {
        "entropy": entropy,
        "normalized_entropy": torch.where(num_keys > 1, entropy / num_keys.log(), torch.nan),
        "collision": weights.square().sum(-1),
        "max_weight": weights.amax(-1),
        "max_score": scores.amax(-1),
        "first_mass": weights[..., 0],
        "output_norm": output.norm(dim=-1),
    }


def run(model: nn.Module, tensors: tuple[Tensor, ...], options: dict[str, Any], view: bool = True) -> Any:
    """Return outputs, gradients and the view of one call."""
    leaves = [tensor.clone().requires_grad_(tensor.is_floating_point()) for tensor in tensors]
    watcher = watch(model, [*NAMES, *GRADIENTS])
    if view:
        watcher.start()
    torch.manual_seed(7)
    output = model(*leaves, **options)
    output.square().sum().backward()
    return output, [leaf.grad for leaf in leaves], watcher.stop()


def assert_clean() -> None:
    assert taps._TAPS.listeners == ()
    assert taps._TAPS._library is None


def assert_case(tensors: tuple[Tensor, Tensor, Tensor], options: dict[str, Any], kernel: str, mask: str) -> View:
    model = Bare()
    plain, expected_gradients, _ = run(model, tensors, options, view=False)
    output, gradients, view = run(model, tensors, options)
    assert torch.equal(plain, output)
    assert all(torch.equal(one, other) for one, other in zip(expected_gradients, gradients, strict=True))
    assert_clean()
    (entry,) = view.coverage()
    assert (entry.layer, entry.calls, entry.reason) == ("", 1, None)
    assert dict(entry.kernels) == {kernel: 1}
    assert dict(entry.masks) == {mask: 1}
    rows = dense_rows(*tensors, options)
    batch, heads, q_len = rows["entropy"].shape
    assert (entry.last["batch"], entry.last["heads"], entry.last["q_len"]) == (batch, heads, q_len)
    assert entry.last["kv_len"] == tensors[1].shape[-2]
    assert entry.last["dtype"] == str(tensors[0].dtype).removeprefix("torch.")
    names = NAMES[:-1] if options.get("dropout_p") else NAMES  # the output of dropped weights is another
    tolerance = 1e-12 if tensors[0].dtype == torch.float64 else 2e-6
    for name in names:
        torch.testing.assert_close(view[""][name], rows[name].nanmean((0, 2)), atol=tolerance, rtol=tolerance)
    assert {row["num_rows"] for row in view.table() if row["statistic"] == "entropy"} == {batch * q_len}
    return view


@pytest.mark.parametrize("case", CASES)
def test_bare_attention(case: str) -> None:
    view = assert_case(*CASES[case])
    kernel = CASES[case][2]
    assert ("qk_gradient" in view[""]) == (kernel == FUSED)


@pytest.mark.parametrize("case", ["self", "causal", "mask of keys", "bias", "grouped heads", "five axes", "scale"])
def test_attention_in_two_products_and_a_softmax(case: str) -> None:
    tensors, options, _, _ = CASES[case]
    with sdpa_kernel(SDPBackend.MATH):
        assert_case(tensors, options, "math", "in the scores")


def test_one_sequence_without_a_head_axis_is_seen() -> None:
    q, k, v = Q[0, 0], K[0, 0], V[0, 0]
    model = Bare()
    with watch(model, ["entropy", "output_norm"]) as view:
        assert torch.equal(model(q, k, v), F.scaled_dot_product_attention(q, k, v))
    expected = dense_rows(q[None], k[None], v[None], {})["entropy"].mean()
    torch.testing.assert_close(view[""]["entropy"], expected.reshape(1), atol=1e-6, rtol=0)
    (entry,) = view.coverage()
    assert entry.missing == {"output_norm": "the heads' outputs of this call were not seen"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["self", "causal", "mask by sequence", "grouped heads", "narrow values"])
def test_half_precision_is_measured_from_its_own_tensors(case: str, dtype: torch.dtype) -> None:
    tensors, options, kernel, _ = CASES[case]
    half = tuple((4 * tensor).to(dtype) for tensor in tensors)
    model = Bare()
    plain, expected_gradients, _ = run(model, half, options, view=False)
    output, gradients, view = run(model, half, options)
    assert torch.equal(plain, output)
    assert all(torch.equal(one, other) for one, other in zip(expected_gradients, gradients, strict=True))
    assert set(view.kernels()) == {kernel}
    rows = dense_rows(*half, options)  # type: ignore[arg-type]
    # A fused kernel gives its queries and keys; scores that a model made were rounded before they were seen.
    scores_error = torch.finfo(dtype).eps * rows["max_score"].abs().max().item() if kernel == "math" else 0.0
    torch.testing.assert_close(view[""]["entropy"], rows["entropy"].mean((0, 2)), atol=0.002 + 4 * scores_error, rtol=0)


@pytest.mark.parametrize("kernel", ["fused", "math"])
def test_rows_that_see_no_key_are_counted_and_not_averaged(kernel: str) -> None:
    mask = keep(2, 1, 6, 9)
    mask[0, :, 2:4] = False
    mask[1, :, 5] = False
    model = Bare()
    backend = SDPBackend.MATH if kernel == "math" else SDPBackend.FLASH_ATTENTION
    with sdpa_kernel(backend), watch(model, ["entropy", "first_mass"]) as view:
        output = model(Q, K, V, attn_mask=mask)
    assert output.isfinite().all()
    assert {(row["num_rows"], row["num_empty_rows"]) for row in view.table()} == {(9, 3)}
    rows = dense_rows(Q, K, V, {"attn_mask": mask})
    for name in ("entropy", "first_mass"):
        torch.testing.assert_close(view[""][name], rows[name].nanmean((0, 2)), atol=1e-6, rtol=0)


# our own attention, FlexAttention and softmax by hand


class Ours(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attention(query, key, value, **self.options)


@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"softcap": 2.0}, {"attn_mask": keep(2, 1, 6, 9)}, {"attn_bias": normal(4, 6, 9)}],
    ids=["plain", "causal", "softcap", "mask", "bias"],
)
@pytest.mark.parametrize("impl", ["chunked", "reference"])
def test_our_backends_are_seen(options: dict[str, Any], impl: str) -> None:
    model = Ours(impl=impl, **options)
    plain, expected_gradients, _ = run(model, (Q, K, V), {}, view=False)
    output, gradients, view = run(model, (Q, K, V), {})
    assert torch.equal(plain, output)
    assert all(torch.equal(one, other) for one, other in zip(expected_gradients, gradients, strict=True))
    scores = Q.double() @ K.double().mT / 8**0.5
    if "softcap" in options:
        scores = 2.0 * (scores / 2.0).tanh()
    if "causal" in options:  # ours is the bottom right
        scores = scores.masked_fill(~torch.ones(6, 9, dtype=torch.bool).tril(3), -torch.inf)
    if "attn_mask" in options:
        scores = scores.masked_fill(~options["attn_mask"], -torch.inf)
    scores = scores + options.get("attn_bias", torch.zeros(1)).double()
    entropy = torch.special.entr(scores.softmax(-1)).sum(-1)
    if impl == "chunked":
        assert set(view.kernels()) == {functional_taps.CHUNKED}
        torch.testing.assert_close(view[""]["entropy"], entropy.mean((0, 2)), atol=2e-6, rtol=0)
    else:  # a softmax in a module that does not call itself attention is nobody's, and said to be so
        assert view.table() == []


@pytest.mark.parametrize("impl", ["chunked", "sdpa"])
def test_our_module_in_another_type_is_measured_in_that_type(impl: str) -> None:
    torch.manual_seed(0)
    layer = MultiHeadAttention(32, 4, num_kv_heads=2, causal=True, compute_dtype=torch.bfloat16, impl=impl)
    x = torch.randn(2, 9, 32)
    plain = layer(x)
    with watch(layer, ["entropy", "output_norm"]) as view:
        assert torch.equal(layer(x), plain)
    (entry,) = view.coverage()
    assert (entry.last["dtype"], entry.last["mask"], entry.last["heads"], entry.last["kv_heads"]) == (
        "bfloat16",
        "causal",
        4,
        2,
    )
    assert dict(entry.kernels) == {functional_taps.CHUNKED if impl == "chunked" else FUSED: 1}
    with watch(layer, ["entropy"]) as exact:
        layer.compute_dtype = None
        layer(x)
    torch.testing.assert_close(view[""]["entropy"], exact[""]["entropy"], atol=0.02, rtol=0)


class Flex(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return flex_attention(query, key, value, **self.options)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("case", ["plain", "softcap", "causal", "grouped heads"])
def test_flex_attention_is_seen_where_it_is_not_compiled(case: str) -> None:
    options: dict[str, Any] = {}
    tensors, scores = (Q, K, V), Q.double() @ K.double().mT / 8**0.5
    if case == "softcap":
        options["score_mod"] = lambda score, *_: 2 * torch.tanh(score / 2)
        scores = 2 * (scores / 2).tanh()
    if case == "causal":
        options["block_mask"] = create_block_mask(lambda b, h, q, kv: q >= kv, None, None, 6, 9, device="cpu")
        scores = scores.masked_fill(~torch.ones(6, 9, dtype=torch.bool).tril(), -torch.inf)
    if case == "grouped heads":
        options["enable_gqa"] = True
        tensors = (Q, K[:, :2], V[:, :2])
        scores = Q.double() @ K[:, :2].double().repeat_interleave(2, 1).mT / 8**0.5
    model = Flex(**options)
    with torch.no_grad():
        plain = model(*tensors)
        with watch(model, ["entropy", "max_weight"]) as view:
            assert torch.equal(model(*tensors), plain)
    assert_clean()
    weights = scores.softmax(-1)
    entropy = torch.special.entr(weights).sum(-1).mean((0, 2))
    torch.testing.assert_close(view[""]["entropy"], entropy, atol=2e-6, rtol=0)
    torch.testing.assert_close(view[""]["max_weight"], weights.amax(-1).mean((0, 2)), atol=2e-6, rtol=0)


class HandmadeAttention(nn.Module):
    """A softmax and two products, of four axes or with batch and heads in one."""

    def __init__(self, num_heads: int, joined: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.joined = joined
        self.fail = False

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.joined:
            query, key, value = (tensor.flatten(0, 1) for tensor in (query, key, value))
        weights = (query @ key.mT / 8**0.5).softmax(-1)
        if self.fail:
            raise ValueError("between softmax and product")
        return weights @ value


@pytest.mark.parametrize("joined", [False, True])
def test_a_softmax_and_a_product_are_one_call(joined: bool) -> None:
    model = HandmadeAttention(4, joined)
    plain, expected_gradients, _ = run(model, (Q, K, V), {}, view=False)
    output, gradients, view = run(model, (Q, K, V), {})
    assert torch.equal(plain, output)
    assert all(torch.equal(one, other) for one, other in zip(expected_gradients, gradients, strict=True))
    rows = dense_rows(Q, K, V, {})
    for name in NAMES:
        torch.testing.assert_close(view[""][name], rows[name].nanmean((0, 2)), atol=2e-6, rtol=2e-6)


def test_what_an_exception_left_half_done_is_reported_once_and_hurts_no_other_call() -> None:
    model = HandmadeAttention(4, joined=False)
    with watch(model, ["entropy", "output_norm"]) as clean:
        model(Q, K, V)
    with watch(model, ["entropy", "output_norm"]) as view:
        model.fail = True
        with pytest.raises(ValueError, match="between softmax and product"):
            model(Q, K, V)
        model.fail = False
        model(Q, K, V)
    assert view.kernels() == {"softmax": 2}
    assert torch.equal(view[""]["output_norm"], clean[""]["output_norm"])
    counts = {row["statistic"]: row["num_rows"] for row in view.table()}
    assert counts == {"entropy": 24, "output_norm": 12}
    assert_clean()


def test_an_interrupt_within_a_watch_leaves_nothing() -> None:
    class Interrupted(Bare):
        def forward(self, *tensors: Tensor, **options: Any) -> Tensor:
            super().forward(*tensors, **options)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watch(Interrupted()) as view:
        view._observer.layers.modules[""](Q, K, V)
    assert_clean()
    assert not view._observer.layers.modules[""]._forward_pre_hooks


def test_products_and_softmaxes_of_other_modules_are_nobodys() -> None:
    class Router(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.bmm(x.softmax(-1), x.mT)

    model = nn.ModuleDict({"router": Router(), "attention": HandmadeAttention(4, joined=False)})
    with watch(model) as view:
        model["router"](normal(3, 4, 5))
    (entry,) = view.coverage()
    assert (entry.layer, entry.seen) == ("attention", False)
    assert "did not run" in str(entry.reason)


# several watches and threads


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        padding = None if attention_mask is None else ~attention_mask
        return self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0]


def test_two_models_at_once_are_kept_apart() -> None:
    one, other, x = Named(), Named(), normal(2, 5, 16)
    with watch(one, ["entropy"]) as first:
        with watch(other, ["entropy"]) as second:
            one(x)
            other(x)
        other(x)
        one(x)
    alone = []
    for model in (one, other):
        with watch(model, ["entropy"]) as view:
            model(x)
        alone.append(view["attention"]["entropy"])
    assert torch.equal(first["attention"]["entropy"], alone[0])
    assert torch.equal(second["attention"]["entropy"], alone[1])
    assert [entry.calls for entry in (*first.coverage(), *second.coverage())] == [2, 1]
    assert_clean()


def test_a_nested_watch_of_the_same_model_sees_its_part() -> None:
    model, x = Named(), normal(2, 5, 16)
    with watch(model, ["entropy"]) as outer:
        model(x)
        with watch(model, ["entropy"]) as inner:
            model(x)
        model(x)
    assert [entry.calls for entry in (*outer.coverage(), *inner.coverage())] == [3, 1]
    torch.testing.assert_close(outer["attention"]["entropy"], inner["attention"]["entropy"], atol=1e-15, rtol=0)


def in_threads(*works: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(works)) as pool:
        for future in [pool.submit(work) for work in works]:
            future.result()


def test_a_model_is_watched_in_whichever_thread_it_runs() -> None:
    model, x = Named(), normal(2, 5, 16)
    with watch(model, ["entropy"]) as here:
        model(x)
    with watch(model, ["entropy"]) as there:
        in_threads(lambda: model(x))
    assert torch.equal(here["attention"]["entropy"], there["attention"]["entropy"])
    assert_clean()


def test_forwards_that_overlap_in_threads_keep_their_own_padding() -> None:
    """As in a server: each forward has begun before the attention of the other one runs."""
    barrier = threading.Barrier(2, timeout=60)

    class Served(Named):
        def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            barrier.wait()
            return super().forward(x, attention_mask)

    model = Served()
    x = normal(2, 6, 16)
    masks = [torch.arange(6) < torch.tensor(lengths) for lengths in ([[6], [2]], [[3], [5]])]
    with watch(model, ["entropy", "padding_mass"]) as view:
        in_threads(*(lambda mask=mask: model(x, attention_mask=mask) for mask in masks))
    assert {row["num_rows"] for row in view.table()} == {8 + 8}
    assert {row["maximum"] for row in view.table() if row["statistic"] == "padding_mass"} == {0.0}
    assert sorted(call["step"] for call in view.calls()) == [1, 2]
