import pytest
import torch

from regard._errors import ArgumentError, DtypeError
from regard.models import Bert, BertConfig


@pytest.fixture
def model(tiny):
    return Bert(tiny).eval()


def ids(batch=2, length=7):
    return torch.randint(1, 50, (batch, length))


def test_a_text_alone_equals_the_text_padded_in_a_batch(model):
    tokens = ids(2, 9)
    mask = torch.arange(9) < torch.tensor([[9], [5]])

    batch = model(tokens, mask)

    torch.testing.assert_close(batch[1:, :5], model(tokens[1:, :5]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batch[:1], model(tokens[:1]), rtol=1e-5, atol=1e-5)


def test_padding_tokens_get_no_gradient_from_real_places(model):
    tokens = torch.cat([ids(1, 4).clamp(max=39), torch.full((1, 3), 49)], dim=1)

    model(tokens, tokens != 49)[:, :4].square().sum().backward()

    gradient = model.embeddings.words.weight.grad
    assert gradient[49].abs().max() == 0
    assert gradient[tokens[0, 0]].abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int32, torch.uint8])
def test_every_type_of_mask_means_the_same(model, dtype):
    tokens, mask = ids(), torch.tensor([[1] * 7, [1] * 3 + [0] * 4])

    torch.testing.assert_close(model(tokens, mask.to(dtype)), model(tokens, mask.bool()), rtol=0, atol=0)


def test_mask_without_padding_leaves_the_fast_kernel(model, monkeypatch):
    masks = []
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **options: masks.append(options["attn_mask"]) or kernel(*args, **options),
    )
    tokens = ids()

    model(tokens, torch.ones_like(tokens))

    assert masks == [None, None]


def test_places_matter(model):
    tokens = torch.tensor([[1, 2, 3, 4]])

    assert (model(tokens.flip(1)) - model(tokens).flip(1)).abs().max() > 1e-3


def test_without_position_embeddings_permuting_the_tokens_permutes_the_output(model):
    torch.nn.init.zeros_(model.embeddings.positions.weight)
    tokens = ids()

    torch.testing.assert_close(model(tokens.flip(1)), model(tokens).flip(1), rtol=1e-4, atol=1e-5)


def test_absent_token_types_are_type_0(model):
    tokens = ids()

    torch.testing.assert_close(model(tokens, None, torch.zeros_like(tokens)), model(tokens))
    assert (model(tokens, None, torch.ones_like(tokens)) - model(tokens)).abs().max() > 1e-3


def test_attention_layers_are_called_by_place(model):
    names = [name for name, module in model.named_modules() if name.endswith(".attention")]

    assert names == ["encoder.layer.0.attention", "encoder.layer.1.attention"]


def test_dropout_acts_in_training_only(tiny):
    model = Bert(BertConfig(**{**tiny.to_dict(), "dropout_p": 0.3}))
    tokens = ids()

    assert (model(tokens) - model(tokens)).abs().max() > 1e-3
    model.eval()
    torch.testing.assert_close(model(tokens), model(tokens), rtol=0, atol=0)


def test_torch_seed_repeats_training_exactly(tiny):
    model, tokens = Bert(BertConfig(**{**tiny.to_dict(), "dropout_p": 0.3})), ids()
    torch.manual_seed(3)
    first = model(tokens)
    torch.manual_seed(3)

    torch.testing.assert_close(model(tokens), first, rtol=0, atol=0)


def test_attention_dropout_and_attention_dtype_reach_every_layer(tiny):
    config = BertConfig(**{**tiny.to_dict(), "attention_dropout_p": 0.2})

    model = Bert(config, attention_dtype=torch.float64)

    layers = [layer.attention for layer in model.encoder.layer]
    assert [(layer.dropout_p, layer.compute_dtype) for layer in layers] == [(0.2, torch.float64)] * 2


def test_state_dict_round_trip(tiny, model):
    other, tokens = Bert(tiny).eval(), ids()
    other.load_state_dict(model.state_dict())

    torch.testing.assert_close(other(tokens), model(tokens), rtol=0, atol=0)


@pytest.mark.parametrize("width", [16, 64, 256])
def test_fresh_weights_fit_the_width(width):
    model = Bert(BertConfig(vocab_size=500, embed_dim=width, num_heads=4, num_layers=1, feed_forward_dim=4 * width))
    layer = model.encoder.layer[0]

    assert layer.attention.query.weight.std().item() == pytest.approx((3 * width) ** -0.5, rel=0.1)
    assert layer.feed_forward.output.weight.std().item() == pytest.approx((12 * width) ** -0.5, rel=0.1)
    assert model.embeddings.words.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert layer.attention.query.bias.abs().max() == 0


def test_unknown_id_is_refused_with_the_size_of_the_vocabulary(model):
    with pytest.raises(ArgumentError, match=r"input_ids must lie in \[0, 50\), the vocabulary of this model; got 50"):
        model(torch.tensor([[1, 50]]))
    with pytest.raises(ArgumentError, match="got -3"):
        model(torch.tensor([[1, -3]]))


def test_unknown_token_type_is_refused(model):
    with pytest.raises(ArgumentError, match=r"token_type_ids must lie in \[0, 2\)"):
        model(torch.tensor([[1, 2]]), None, torch.tensor([[0, 2]]))


def test_too_long_a_text_is_refused(model):
    with pytest.raises(ArgumentError, match="at most 12 tokens a row, got 13"):
        model(ids(1, 13))


def test_empty_batch_is_refused(model):
    with pytest.raises(ArgumentError, match=r"at least one token, got \(2, 0\)"):
        model(ids(2, 0))


def test_short_integers_are_refused(model):
    with pytest.raises(DtypeError, match=r"int64 or int32 token numbers, got torch\.int16"):
        model(ids().short())


def test_float_mask_is_refused_with_the_polarity(model):
    with pytest.raises(DtypeError, match="1 = real token"):
        model(ids(), torch.ones(2, 7))


def test_mask_of_another_shape_is_refused(model):
    with pytest.raises(ArgumentError, match=r"attention_mask must have the shape of input_ids \(2, 7\), got \(2, 6\)"):
        model(ids(), torch.ones(2, 6, dtype=torch.long))


def test_mask_of_other_numbers_is_refused(model):
    with pytest.raises(ArgumentError, match="attention_mask must hold 0 and 1 only, got 2"):
        model(ids(), torch.full((2, 7), 2))


def test_token_types_of_another_shape_are_refused(model):
    with pytest.raises(ArgumentError, match="token_type_ids must have the shape of input_ids"):
        model(ids(), None, torch.zeros(2, 6, dtype=torch.long))
