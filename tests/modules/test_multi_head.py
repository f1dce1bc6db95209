import math

import pytest
import torch
from torch import nn

from regard._errors import ArgumentError, DtypeError
from regard.modules import MultiHeadAttention


def layer(**options):
    torch.manual_seed(1)
    return MultiHeadAttention(16, 4, **options).double().eval()


def sequence(length=6, batch=2, width=16):
    return torch.randn(batch, length, width, dtype=torch.float64)


def by_hand(module, x, context=None):
    """Each head on its own, in plain loops."""
    context = x if context is None else context
    query, key, value = module.query(x), module.key(context), module.value(context)
    width, group = module.head_dim, module.num_heads // module.num_kv_heads
    heads = []
    for head in range(module.num_heads):
        q = query[..., head * width : (head + 1) * width]
        shared = head // group
        k, v = (t[..., shared * width : (shared + 1) * width] for t in (key, value))
        heads.append(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(width), dim=-1) @ v)
    return module.output(torch.cat(heads, dim=-1))


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"num_kv_heads": 2}, {"num_kv_heads": 1, "head_dim": 6}])
def test_heads_merge_in_order(options):
    module, x = layer(**options), sequence()

    torch.testing.assert_close(module(x), by_hand(module, x))


def test_cross_attention_takes_keys_and_values_from_the_context():
    module, x, context = layer(kdim=10), sequence(), sequence(9, width=10)

    torch.testing.assert_close(module(x, context), by_hand(module, x, context))


def test_values_may_come_from_another_context():
    module, x, keys, values = layer(kdim=10, vdim=7), sequence(), sequence(9, width=10), sequence(9, width=7)

    out = module(x, keys, value_context=values)

    torch.testing.assert_close(module(x, keys.flip(1), value_context=values.flip(1)), out)
    assert (module(x, keys, value_context=values.flip(1)) - out).abs().max() > 1e-3


def test_permuting_the_sequence_permutes_the_output():
    module, x, order = layer(), sequence(), torch.tensor([3, 0, 5, 1, 4, 2])

    torch.testing.assert_close(module(x[:, order]), module(x)[:, order])


@pytest.mark.parametrize("options", [{"rotary": 10_000.0}, {"causal": True}])
def test_positions_and_causality_break_the_symmetry(options):
    module, x, order = layer(**options), sequence(), torch.tensor([3, 0, 5, 1, 4, 2])

    assert (module(x[:, order]) - module(x)[:, order]).abs().max() > 1e-3


def test_rotary_sees_distances_and_not_places():
    """Padding in front moves every place by the same amount."""
    module, x = layer(rotary=10_000.0), sequence()
    padding = torch.tensor([[True] * 3 + [False] * 6] * 2)

    moved = module(torch.cat([sequence(3), x], dim=1), key_padding_mask=padding)

    torch.testing.assert_close(moved[:, 3:], module(x))


def test_causal_layer_does_not_see_the_future():
    module, x = layer(causal=True), sequence().requires_grad_()

    module(x)[:, 2].sum().backward()

    assert x.grad[:, :3].abs().min() > 0
    assert x.grad[:, 3:].abs().max() == 0


@pytest.mark.parametrize("options", [{}, {"rotary": 10_000.0}])
def test_causal_layer_continues_behind_a_context(options):
    module, x = layer(causal=True, **options), sequence()

    torch.testing.assert_close(module(x[:, 4:], x), module(x)[:, 4:])


@pytest.mark.parametrize("options", [{}, {"rotary": 10_000.0}])
def test_causal_layer_refuses_more_queries_than_keys(options):
    with pytest.raises(ArgumentError, match="at least as many keys as queries, got 6 queries and 5 keys"):
        layer(causal=True, **options)(sequence(6), sequence(5))


def test_rotary_cross_attention_is_refused():
    with pytest.raises(ArgumentError, match="Rotary positions need queries and keys of one sequence"):
        layer(rotary=10_000.0)(sequence(), sequence())


def test_padded_keys_change_nothing():
    module, x = layer(), sequence()
    padding = torch.tensor([[False] * 6 + [True] * 3] * 2)

    padded = module(torch.cat([x, sequence(3)], dim=1), key_padding_mask=padding)

    torch.testing.assert_close(padded[:, :6], module(x))


def test_masks_are_joined():
    module, x = layer(), sequence()
    padding, keep = torch.zeros(2, 6, dtype=torch.bool), torch.ones(6, 6, dtype=torch.bool)
    padding[:, 5] = keep[:, 4] = True
    keep[:, 4] = False

    torch.testing.assert_close(module(x, key_padding_mask=padding, attn_mask=keep), module(x, x[:, :4]))


def test_query_without_keys_gives_the_output_bias_and_finite_gradients():
    module, x = layer(), sequence().requires_grad_()

    out = module(x, key_padding_mask=torch.tensor([[True] * 6, [False] * 6]))
    out.sum().backward()

    torch.testing.assert_close(out[0], module.output.bias.expand(6, 16))
    assert x.grad[0].abs().max() == 0
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_bias_is_added_to_the_scores():
    module, x = layer(), sequence()
    bias = torch.zeros(6, 6, dtype=torch.float64)
    bias[:, 3:] = -1e4

    torch.testing.assert_close(module(x, attn_bias=bias), module(x, x[:, :3]))


def test_temperature_begins_at_one():
    x, plain, warm = sequence(), layer(), layer(temperature=True)
    warm.load_state_dict(plain.state_dict(), strict=False)

    torch.testing.assert_close(warm(x), plain(x))


def test_qk_norm_scores_the_scaled_cosine():
    module, x = layer(qk_norm=True, num_kv_heads=2), sequence()
    heads = (projection(x).unflatten(-1, (-1, 4)).transpose(1, 2) for projection in (module.query, module.key))
    query, key = (head / head.norm(dim=-1, keepdim=True) for head in heads)
    value = module.value(x).unflatten(-1, (-1, 4)).transpose(1, 2)

    weights = torch.softmax(math.sqrt(4) * query @ key.repeat_interleave(2, dim=1).mT, dim=-1)

    expected = module.output((weights @ value.repeat_interleave(2, dim=1)).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x), expected)


def test_qk_norm_does_not_see_the_length_of_queries():
    module, x = layer(qk_norm=True), sequence()
    before = module(x)
    module.query.weight.data *= 100
    module.query.bias.data *= 100

    torch.testing.assert_close(module(x), before)


def test_temperature_divides_the_scores():
    module, x = layer(temperature=True), sequence()
    hot = layer()
    hot.load_state_dict({name: value for name, value in module.state_dict().items() if name != "log_temperature"})
    module.log_temperature.data.fill_(math.log(2.0))
    hot.query.weight.data /= 2
    hot.query.bias.data /= 2

    torch.testing.assert_close(module(x), hot(x))


@pytest.mark.parametrize(("option", "name"), [("temperature", "log_temperature"), ("qk_norm", "norm_scale")])
def test_option_learns_one_number_per_head(option, name):
    module, x = layer(**{option: True}), sequence()

    module(x).square().sum().backward()

    gradient = module.get_parameter(name).grad
    assert gradient.shape == (4,)
    assert gradient.abs().min() > 0


def test_dropout_acts_in_training_only():
    module, x = layer(dropout_p=0.5), sequence()

    torch.testing.assert_close(module(x), by_hand(module, x))
    assert not torch.allclose(module.train()(x), by_hand(module, x))


def test_state_dict_round_trip():
    options, x = {"temperature": True, "num_kv_heads": 2}, sequence()
    first, second = layer(**options), MultiHeadAttention(16, 4, **options).double()
    second.load_state_dict(first.state_dict())

    torch.testing.assert_close(second(x), first(x), rtol=0, atol=0)


def test_compute_dtype_keeps_the_type_and_takes_the_precision():
    module, x = layer().float(), sequence().float()
    wide = layer(compute_dtype=torch.float64).float()

    out = wide(x)

    assert out.dtype == torch.float32
    torch.testing.assert_close(out, module(x))


@pytest.mark.parametrize("option", [{"qk_norm": True}, {"temperature": True}, {"rotary": 10_000.0}])
@pytest.mark.parametrize("compute_dtype", [None, torch.float32, torch.bfloat16])
def test_every_option_runs_under_autocast(compute_dtype, option):
    module = layer(compute_dtype=compute_dtype, **option).float()
    x = sequence().float()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(x)
    out.float().square().sum().backward()

    torch.testing.assert_close(out.float(), module(x), rtol=0.1, atol=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_core_runs_in_compute_dtype_under_autocast(monkeypatch):
    seen = []
    kernel = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional, "scaled_dot_product_attention", lambda q, *a, **k: seen.append(q.dtype) or kernel(q, *a, **k)
    )
    x = sequence().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(compute_dtype=torch.float32, impl="sdpa").float()(x)
        layer(impl="sdpa").float()(x)

    assert seen == [torch.float32, torch.bfloat16]
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("impl", ["reference", "sdpa", "chunked"])
def test_backends_agree(impl):
    x = sequence()

    torch.testing.assert_close(layer(impl=impl, num_kv_heads=2, causal=True)(x), layer(num_kv_heads=2, causal=True)(x))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((16, 3), {}, "embed_dim must be a multiple of num_heads, got 16 and 3"),
        ((16, 4), {"num_kv_heads": 3}, "num_heads must be a multiple of num_kv_heads, got 4 and 3"),
        ((16, 0), {}, "must be at least 1"),
        ((16, 4), {"dropout_p": 1.0}, r"dropout_p must lie in \[0, 1\)"),
        ((12, 4), {"rotary": 10_000.0}, "even head_dim"),
        ((16, 4), {"compute_dtype": torch.int64}, "compute_dtype must be a floating type"),
        ((16, 4), {"qk_norm": True, "temperature": True}, "qk_norm learns a scale of its own"),
    ],
)
def test_impossible_option_is_refused(arguments, options, message):
    with pytest.raises(ArgumentError, match=message):
        MultiHeadAttention(*arguments, **options)


def test_wrong_width_is_refused():
    with pytest.raises(ArgumentError, match=r"widths \(16, 16, 16\), got \(8, 8, 8\)"):
        layer()(sequence(width=8))


def test_float_padding_mask_is_refused_with_the_polarity():
    with pytest.raises(DtypeError, match="True = padding"):
        layer()(sequence(), key_padding_mask=torch.zeros(2, 6))


def test_padding_mask_of_another_shape_is_refused():
    with pytest.raises(ArgumentError, match="key_padding_mask"):
        layer()(sequence(), key_padding_mask=torch.zeros(2, 5, dtype=torch.bool))


def test_float_attention_mask_is_refused_with_the_polarity():
    with pytest.raises(DtypeError, match="True = may attend"):
        layer()(sequence(), attn_mask=torch.zeros(6, 6, dtype=torch.float64))
