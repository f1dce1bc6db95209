import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.modules import AdditiveAttention


def layer():
    torch.manual_seed(4)
    return AdditiveAttention(4, 8, kdim=6).double()


def inputs(q_len=3, kv_len=5):
    return torch.randn(2, q_len, 4, dtype=torch.float64), torch.randn(2, kv_len, 6, dtype=torch.float64)


def by_hand(module, x, context, value):
    """One query and one key at a time."""
    rows = []
    for batch in range(x.shape[0]):
        for query in x[batch]:
            hidden = [torch.tanh(query @ module.query_weight + key @ module.key_weight) for key in context[batch]]
            weights = torch.softmax(torch.stack([unit @ module.vector for unit in hidden]), dim=0)
            rows.append(weights @ value[batch])
    return torch.stack(rows).view(x.shape[0], x.shape[1], -1)


def test_computes_its_formula():
    module, (x, context) = layer(), inputs()

    torch.testing.assert_close(module(x, context), by_hand(module, x, context, context))


def test_values_may_come_from_another_context():
    module, (x, context) = layer(), inputs()
    value = torch.randn(2, 5, 3, dtype=torch.float64)

    torch.testing.assert_close(module(x, context, value_context=value), by_hand(module, x, context, value))


def test_attends_to_itself_without_a_context():
    module = AdditiveAttention(4, 8)
    x = torch.randn(2, 3, 4)

    torch.testing.assert_close(module(x), by_hand(module, x, x, x))


def test_many_queries_in_blocks_equal_each_alone():
    module = AdditiveAttention(4, 64)
    x = torch.randn(1, 600, 4)

    torch.testing.assert_close(module(x)[:, 570:], module(x[:, 570:], x))


def test_padded_keys_change_nothing():
    module, (x, context) = layer(), inputs()
    padding = torch.tensor([[False] * 3 + [True] * 2] * 2)

    torch.testing.assert_close(module(x, context, key_padding_mask=padding), module(x, context[:, :3]))


def test_masks_are_joined_and_an_empty_row_gives_zero():
    module, (x, context) = layer(), inputs()
    padding = torch.tensor([[False] * 3 + [True] * 2] * 2)
    keep = torch.ones(3, 5, dtype=torch.bool)
    keep[1, :3] = False
    x.requires_grad_()

    out = module(x, context, key_padding_mask=padding, attn_mask=keep)
    out.sum().backward()

    torch.testing.assert_close(out[:, ::2], module(x[:, ::2], context[:, :3]))
    assert out[:, 1].abs().max() == 0
    assert x.grad[:, 1].abs().max() == 0
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_every_weight_learns():
    module, (x, context) = layer(), inputs()

    module(x, context).square().sum().backward()

    assert all(parameter.grad.abs().max() > 0 for parameter in module.parameters())


def test_state_dict_round_trip():
    first, second, (x, context) = layer(), AdditiveAttention(4, 8, kdim=6).double(), inputs()
    second.load_state_dict(first.state_dict())

    torch.testing.assert_close(second(x, context), first(x, context), rtol=0, atol=0)


def test_wrong_width_is_refused():
    module, (x, _) = layer(), inputs()

    with pytest.raises(ArgumentError, match=r"widths \(4, 6\), got \(4, 4\)"):
        module(x)


def test_float_masks_are_refused():
    module, (x, context) = layer(), inputs()

    with pytest.raises(DtypeError, match="True = may attend"):
        module(x, context, attn_mask=torch.zeros(3, 5))
    with pytest.raises(DtypeError, match="True = padding"):
        module(x, context, key_padding_mask=torch.zeros(2, 5))


def test_empty_width_is_refused():
    with pytest.raises(ArgumentError, match="at least 1, got 4, 0 and 4"):
        AdditiveAttention(4, 0)


def test_keys_that_were_compared_before_need_not_be_again():
    module, (x, context) = layer(), inputs()
    padding = torch.tensor([[False] * 3 + [True] * 2] * 2)
    kept = module.hidden_key(context)

    again = module(x, context, key_padding_mask=padding, hidden_key=kept)

    torch.testing.assert_close(again, module(x, context, key_padding_mask=padding))
