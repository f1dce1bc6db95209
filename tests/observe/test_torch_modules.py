"""PyTorch's own attention modules on all their paths: same bits, calls named, statistics of dense float64 weights."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regard.observe import taps, watch

FUSED = "_scaled_dot_product_flash_attention_for_cpu"
FAST = "_native_multi_head_attention"
NAMES = ["entropy", "normalized_entropy", "collision", "max_weight", "first_mass", "output_norm"]
X = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))
Y = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(2))
PADDED_X = torch.arange(7) >= torch.tensor([[7], [5], [3]])
PADDED_Y = torch.arange(5) >= torch.tensor([[5], [4], [2]])
LATER = torch.ones(7, 7, dtype=torch.bool).triu(1)
LATER_Y = LATER[:5, :5]
BY_HEAD = (torch.rand(12, 7, 7, generator=torch.Generator().manual_seed(3)) > 0.6) & ~torch.eye(7, dtype=torch.bool)
BIAS = torch.randn(7, 7, generator=torch.Generator().manual_seed(4))
KEYS, VALUES = (torch.randn(3, 5, n, generator=torch.Generator().manual_seed(n)) for n in (6, 9))

# How a module is made, what it is given, and whether the fast path takes it in inference.
CASES: dict[str, tuple[dict[str, Any], tuple[Tensor, ...], dict[str, Any], bool]] = {
    "plain": ({}, (X, X, X), {}, True),
    "padding": ({}, (X, X, X), {"key_padding_mask": PADDED_X}, True),
    "padding of float": (
        {},
        (X, X, X),
        {"key_padding_mask": torch.zeros(3, 7).masked_fill(PADDED_X, -torch.inf)},
        False,
    ),
    "mask": ({}, (X, X, X), {"attn_mask": LATER}, True),
    "causal": ({}, (X, X, X), {"attn_mask": LATER, "is_causal": True}, True),
    "bias": ({}, (X, X, X), {"attn_mask": BIAS}, False),
    "mask by head": ({}, (X, X, X), {"attn_mask": BY_HEAD}, True),
    "bias by head": ({}, (X, X, X), {"attn_mask": BY_HEAD * -2.0}, False),
    "both": ({}, (X, X, X), {"attn_mask": LATER, "key_padding_mask": PADDED_X}, True),
    "cross": ({}, (Y, X, X), {"key_padding_mask": PADDED_X}, False),
    "added bias": ({"add_bias_kv": True}, (X, X, X), {"key_padding_mask": PADDED_X}, False),
    "added zero": ({"add_zero_attn": True}, (X, X, X), {"attn_mask": LATER}, False),
    "other widths": ({"kdim": 6, "vdim": 9}, (X, KEYS, VALUES), {}, False),
    "no bias": ({"bias": False}, (X, X, X), {}, False),
    "one sequence": ({}, (X[0], X[0], X[0]), {"attn_mask": LATER}, False),
    "length first": ({"batch_first": False}, (X.mT.permute(2, 0, 1), *[X.transpose(0, 1)] * 2), {}, False),
}


class Holder(nn.Module):
    """A model around one module."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, *args: Tensor, **kwargs: Any) -> Any:
        return self.attention(*args, **kwargs)


def scaled(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    for parameter in model.parameters():
        parameter.data *= 2 if parameter.ndim > 1 else 1
    return model


def attention(options: dict[str, Any], dropout: float = 0.0) -> nn.MultiheadAttention:
    return scaled(lambda: nn.MultiheadAttention(16, 4, **{"batch_first": True, "dropout": dropout, **options}))


def dense(
    module: nn.MultiheadAttention, inputs: tuple[Tensor, ...], masks: dict[str, Any]
) -> tuple[dict[str, Tensor], Tensor]:
    """Rows of the statistics (batch, heads, q_len) and which count, from weights and values in float64."""
    twin = copy.deepcopy(module).double().train()
    twin.dropout = 0.0
    typed = {
        name: mask.double() if isinstance(mask, Tensor) and mask.is_floating_point() else mask
        for name, mask in masks.items()
        if name != "is_causal"
    }
    query, key, value = (tensor.double() for tensor in inputs)
    _, weights = twin(query, key, value, need_weights=True, average_attn_weights=False, **typed)
    weights = weights.detach().reshape(-1, *weights.shape[-3:])

    if not twin.batch_first:
        value = value.transpose(0, 1)
    matrix = twin.v_proj_weight if twin.in_proj_weight is None else twin.in_proj_weight[32:]
    offset = None if twin.in_proj_bias is None else twin.in_proj_bias[32:]
    heads = F.linear(value.reshape(-1, *value.shape[-2:]), matrix, offset)
    if twin.bias_v is not None:
        heads = torch.cat([heads, twin.bias_v.expand(heads.shape[0], 1, 16)], 1)
    if twin.add_zero_attn:
        heads = F.pad(heads, (0, 0, 0, 1))
    output = weights @ heads.unflatten(-1, (4, 4)).transpose(1, 2)

    entropy, num_keys = torch.special.entr(weights).sum(-1), (weights > 0).sum(-1).double()
    rows = {
        "entropy": entropy,
        "normalized_entropy": torch.where(num_keys > 1, entropy / num_keys.log(), torch.nan),
        "collision": weights.square().sum(-1),
        "max_weight": weights.amax(-1),
        "first_mass": weights[..., 0],
        "output_norm": output.norm(dim=-1).detach(),
    }
    counted = torch.ones(weights.shape[0], 1, weights.shape[2], dtype=torch.bool)
    if "key_padding_mask" in masks and weights.shape[2] == 7:
        counted = ~PADDED_X[:, None, :]
    return rows, counted


def mean(rows: Tensor, counted: Tensor) -> Tensor:
    known = counted & ~rows.isnan()
    return rows.where(known, 0).sum((0, 2)) / known.sum((0, 2))


def assert_clean(model: nn.Module) -> None:
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            assert not hooks
    assert taps._TAPS.listeners == ()
    assert taps._TAPS._library is None


def kernel_of(fast: bool, training: bool, need_weights: bool, dropout: float) -> str:
    if fast and not training:
        return FAST
    if need_weights:
        return "softmax"
    return "math" if training and dropout else FUSED


@pytest.mark.parametrize(("training", "dropout"), [(True, 0.0), (True, 0.3), (False, 0.3)])
@pytest.mark.parametrize("need_weights", [True, False, "by head"])
@pytest.mark.parametrize("case", CASES)
def test_multihead_attention(case: str, need_weights: bool | str, training: bool, dropout: float) -> None:
    options, inputs, masks, fast = CASES[case]
    module = attention(options, dropout)
    model = Holder(module).train(training)
    asked = {"need_weights": bool(need_weights), "average_attn_weights": need_weights != "by head"}
    if masks.get("is_causal") and need_weights:
        masks = {"attn_mask": masks["attn_mask"]}

    def run(watched: bool) -> tuple[Any, list[Tensor], Any]:
        module.zero_grad()
        watcher = watch(model, NAMES)
        if watched:
            watcher.start()
        torch.manual_seed(5)
        with torch.set_grad_enabled(training):
            output, weights = model(*inputs, **masks, **asked)
        if training:
            output.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
        return (output, weights), gradients, watcher.stop()

    (plain, plain_weights), expected_gradients, _ = run(watched=False)
    (output, weights), gradients, view = run(watched=True)
    assert torch.equal(plain, output)
    assert (weights is None) == (not need_weights)
    assert weights is None or torch.equal(plain_weights, weights)
    assert len(gradients) == len(expected_gradients)
    assert bool(gradients) == training
    assert all(torch.equal(one, other) for one, other in zip(expected_gradients, gradients, strict=True))
    assert_clean(model)

    (entry,) = view.coverage()
    assert (entry.layer, entry.calls, entry.reason, entry.missing) == ("attention", 1, None, {})
    expected_kernel = kernel_of(fast, training, bool(need_weights), dropout)
    assert dict(entry.kernels) == {expected_kernel: 1}
    rows, counted = dense(module, inputs, masks)
    assert entry.rows == counted.expand(rows["entropy"].shape[0], 1, -1).sum()
    # Dropped weights and their output are what the math kernel computes; its statistics are those before dropout.
    names = NAMES[:-1] if training and dropout else NAMES
    for name in names:
        torch.testing.assert_close(view["attention"][name], mean(rows[name], counted), atol=1e-5, rtol=1e-5)


def test_a_module_alone_keeps_the_fast_path_and_its_padding_is_understood() -> None:
    module = attention({}).eval()
    with torch.no_grad():
        plain = module(X, X, X, key_padding_mask=PADDED_X)
        with watch(module, NAMES) as view:
            watched = module(X, X, X, key_padding_mask=PADDED_X)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    assert view.kernels() == {FAST: 1}
    rows, counted = dense(module, (X, X, X), {"key_padding_mask": PADDED_X})
    torch.testing.assert_close(view[""]["entropy"], mean(rows["entropy"], counted), atol=1e-5, rtol=0)


# nn.Transformer and its parts


@pytest.fixture
def slow_path() -> Iterator[Callable[[], None]]:
    before = torch.backends.mha.get_fastpath_enabled()
    yield lambda: torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mha.set_fastpath_enabled(before)


def encoder(norm_first: bool = False, nested: bool = True, **options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first, **options)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)


def decoder() -> nn.Module:
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True), 2)


STACKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...], dict[str, Any]]] = {
    "encoder": (encoder, (X,), {}),
    "encoder, nested": (encoder, (X,), {"src_key_padding_mask": PADDED_X}),
    "encoder, padding": (lambda: encoder(nested=False), (X,), {"src_key_padding_mask": PADDED_X}),
    "encoder, mask": (encoder, (X,), {"mask": LATER}),
    "encoder, causal": (encoder, (X,), {"mask": LATER, "is_causal": True}),
    "encoder, mask of float": (encoder, (X,), {"mask": torch.zeros(7, 7).masked_fill(LATER, -torch.inf)}),
    "encoder, both": (encoder, (X,), {"mask": LATER, "src_key_padding_mask": PADDED_X}),
    "encoder, norm first": (lambda: encoder(norm_first=True, nested=False), (X,), {"src_key_padding_mask": PADDED_X}),
    "encoder, GELU": (lambda: encoder(activation="gelu"), (X,), {"src_key_padding_mask": PADDED_X}),
    "decoder": (decoder, (Y, X), {}),
    "decoder, padding": (
        decoder,
        (Y, X),
        {"tgt_mask": LATER_Y, "tgt_key_padding_mask": PADDED_Y, "memory_key_padding_mask": PADDED_X},
    ),
    "decoder, causal": (decoder, (Y, X), {"tgt_mask": LATER_Y, "tgt_is_causal": True}),
    "both": (
        lambda: nn.Transformer(16, 4, 2, 2, 32, batch_first=True),
        (X, Y),
        {
            "tgt_mask": LATER_Y,
            "src_key_padding_mask": PADDED_X,
            "tgt_key_padding_mask": PADDED_Y,
            "memory_key_padding_mask": PADDED_X,
        },
    ),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
@pytest.mark.filterwarnings("ignore:Converting mask without torch.bool dtype:UserWarning")
@pytest.mark.parametrize("case", STACKS)
def test_the_fast_path_keeps_its_bits_and_tells_what_the_slow_path_tells(
    case: str, slow_path: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, inputs, masks = STACKS[case]
    model = scaled(make).eval()
    nested = []
    original = torch._nested_tensor_from_mask
    monkeypatch.setattr(
        torch, "_nested_tensor_from_mask", lambda *args, **kw: nested.append(1) or original(*args, **kw)
    )
    with torch.no_grad():
        plain = model(*inputs, **masks)
        with watch(model, NAMES) as view:
            watched = model(*inputs, **masks)
    assert torch.equal(plain, watched)
    assert_clean(model)
    assert len(nested) == (2 if case in ("encoder, nested", "encoder, GELU", "both") else 0)

    slow_path()
    with torch.no_grad(), watch(model, NAMES) as slow:
        model(*inputs, **masks)
    assert FAST in view.kernels()
    assert set(slow.kernels()) == {FUSED}
    coverage = {entry.layer: entry for entry in view.coverage()}
    assert len(coverage) == {"encoder": 2, "decoder": 4, "both": 6}[case.split(",", maxsplit=1)[0]]
    for entry in slow.coverage():
        other = coverage[entry.layer]
        assert (other.calls, other.reason, other.missing, other.rows) == (1, None, {}, entry.rows)
        assert dict(other.kinds) == dict(entry.kinds) == {"cross" if "multihead" in entry.layer else "self": 1}
        assert dict(other.kernels) == {FUSED if "multihead" in entry.layer else FAST: 1}
        for name in NAMES:
            torch.testing.assert_close(view[entry.layer][name], slow[entry.layer][name], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("case", STACKS)
def test_training_keeps_its_bits_and_tells_what_inference_tells(case: str, slow_path: Callable[[], None]) -> None:
    slow_path()
    make, inputs, masks = STACKS[case]
    model = scaled(make).train()

    def step(watched: bool) -> tuple[Tensor, list[Tensor], Any]:
        model.zero_grad()
        watcher = watch(model, NAMES)
        if watched:
            watcher.start()
        torch.manual_seed(6)
        output = model(*inputs, **masks)
        output.square().sum().backward()
        return output, [parameter.grad.clone() for parameter in model.parameters()], watcher.stop()

    plain, expected, _ = step(watched=False)
    watched, gradients, view = step(watched=True)
    assert torch.equal(plain, watched)
    assert all(torch.equal(one, other) for one, other in zip(expected, gradients, strict=True))
    assert set(view.kernels()) == {"math"}  # for dropout
    assert_clean(model)

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    with watch(model, NAMES) as training:
        model(*inputs, **masks)
    with torch.no_grad(), watch(model.eval(), NAMES) as inference:
        model(*inputs, **masks)
    assert training.layers == inference.layers
    for layer in training.layers:
        for name in NAMES:
            torch.testing.assert_close(training[layer][name], inference[layer][name], atol=2e-5, rtol=2e-5)


def test_a_layer_alone_keeps_the_fast_path() -> None:
    layer = scaled(lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)).eval()
    with torch.no_grad():
        plain = layer(X, src_key_padding_mask=PADDED_X)
        with watch(layer, NAMES) as view:
            watched = layer(X, src_key_padding_mask=PADDED_X)
    assert torch.equal(plain, watched)
    assert view.kernels() == {FAST: 1}
    assert view.layers == ["self_attn"]
    assert {row["num_rows"] for row in view.table()} == {int((~PADDED_X).sum())}


def test_statistics_of_the_residual_stream_do_not_close_the_fast_path() -> None:
    model = scaled(encoder).eval()
    with torch.no_grad(), watch(model, ["entropy", "residual_share", "residual_diversity"]) as view:
        model(X)
    assert view.kernels() == {FAST: 2}
    for entry in view.coverage():
        assert set(entry.missing) == {"residual_share", "residual_diversity"}
        assert "was not seen" in entry.missing["residual_share"]


def test_an_exception_in_the_fast_path_leaves_nothing() -> None:
    model = scaled(encoder).eval()
    with torch.no_grad(), watch(model, ["entropy"]) as view:
        clean = model(X)
        with pytest.raises(RuntimeError, match="is invalid for input of size 9"):
            model(X, mask=torch.zeros(3, 3, dtype=torch.bool))
        after = model(X)
    assert torch.equal(clean, after)
    assert_clean(model)
    assert {row["num_rows"] for row in view.table() if row["layer"] == "layers.1.self_attn"} == {2 * 21}
