import math

import pytest
import torch
from torch import nn

import regard
from regard._errors import ArgumentError, DtypeError
from regard.models import Transformer, TransformerConfig

SOURCE, TARGET = torch.tensor([[5, 6, 7, 8, 2], [9, 4, 2, 0, 0]]), torch.tensor([[1, 11, 12, 13], [1, 14, 0, 0]])
SOURCE_MASK, TARGET_MASK = SOURCE != 0, TARGET != 0
SIZES = {
    "vocab_size": 50,
    "embed_dim": 16,
    "num_heads": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 3,
    "feed_forward_dim": 24,
    "max_len": 12,
    "dropout_p": 0.0,
}
OPTIONS = [
    {},
    {"norm": "pre"},
    {"norm": "post", "final_norm": True},
    {"positions": "learned"},
    {"tied_embeddings": "target"},
    {"tied_embeddings": "none", "target_vocab_size": 60},
    {"activation": "swiglu"},
]


def small(seed=0, **changes):
    torch.manual_seed(seed)
    return Transformer(TransformerConfig(**{**SIZES, **changes})).eval()


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_base_has_the_papers_number_of_parameters():
    """63,082,496 = V · d + 6 · (3 · 4 (d² + d) + 2 (2 d f + f + d) + 5 · 2 d) at V = 37,000, d = 512, f = 2048."""
    d, f, layers, vocab_size = 512, 2048, 6, 37_000
    attention, feed_forward, norm = 4 * (d * d + d), 2 * d * f + f + d, 2 * d
    with torch.device("meta"):
        model = Transformer(TransformerConfig())

    expected = vocab_size * d + layers * (3 * attention + 2 * feed_forward + 5 * norm)
    assert count(model) == expected == 63_082_496
    assert count(model.encoder) == layers * 3_152_384
    assert count(model.decoder) == layers * 4_204_032


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({}, 65),
        ({"num_encoder_layers": 2, "num_decoder_layers": 2}, 36),
        ({"num_encoder_layers": 4, "num_decoder_layers": 4}, 50),
        ({"num_encoder_layers": 8, "num_decoder_layers": 8}, 80),
        ({"embed_dim": 256}, 28),
        ({"embed_dim": 1024}, 168),
        ({"feed_forward_dim": 1024}, 53),
        ({"feed_forward_dim": 4096}, 90),
    ],
)
def test_variants_of_the_paper_round_to_its_table(changes, millions):
    """Table 3 fits one vocabulary of 41,000 tokens in all rows of the base model's variants; 37,000 is 2 M less."""
    with torch.device("meta"):
        model = Transformer(TransformerConfig(vocab_size=41_000, **changes))

    assert abs(count(model) / 1e6 - millions) <= 0.6


@pytest.mark.parametrize(
    ("tied", "matrices"), [("all", {(50, 16): 1}), ("target", {(50, 16): 2}), ("none", {(50, 16): 3})]
)
def test_tied_matrices_are_one_parameter(tied, matrices):
    model = small(tied_embeddings=tied)

    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert {shape: shapes.count(shape) for shape in matrices} == matrices


def test_each_side_may_have_its_own_vocabulary():
    model = small(tied_embeddings="target", target_vocab_size=60)

    assert model(SOURCE, torch.full((2, 3), 59)).shape == (2, 3, 60)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_logits_of_a_pair_do_not_depend_on_the_batch_it_stands_in(options):
    model = small(**options)
    alone = model(SOURCE[1:, :3], TARGET[1:, :2])

    together = model(SOURCE, TARGET, SOURCE_MASK)

    torch.testing.assert_close(together[1:, :2], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_later_target_token_changes_no_earlier_logit(options):
    model = small(**options)
    changed = TARGET.clone()
    changed[0, 3] = 20

    before, after = model(SOURCE, TARGET, SOURCE_MASK), model(SOURCE, changed, SOURCE_MASK)

    torch.testing.assert_close(after[0, :3], before[0, :3], rtol=0, atol=0)
    assert not torch.allclose(after[0, 3], before[0, 3])


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_padding_on_the_left_of_either_side_changes_nothing(positions):
    """Places are counted over real tokens."""
    model = small(positions=positions)
    source, target = torch.tensor([[0, 0, 9, 4, 2]]), torch.tensor([[0, 0, 1, 14]])

    left = model(source, target, source != 0, (target != 0).long())

    torch.testing.assert_close(left[:, 2:], model(source[:, 2:], target[:, 2:]), rtol=1e-4, atol=1e-5)


def test_encode_and_decode_make_forward():
    model = small()

    context = model.encode(SOURCE, SOURCE_MASK)
    hidden = model.decode(TARGET, context, attention_mask=SOURCE_MASK)

    torch.testing.assert_close(model.logits(hidden), model(SOURCE, TARGET, SOURCE_MASK), rtol=0, atol=0)


def test_embeddings_are_scaled_and_sines_are_added():
    model = small()
    weight = model.source_embeddings.tokens.weight

    embedded = model.source_embeddings(SOURCE[:1], torch.arange(5))

    torch.testing.assert_close(embedded[0, 0], math.sqrt(16) * weight[5] + torch.tensor([0.0, 1.0] * 8))
    torch.testing.assert_close(embedded[0, 3, 0], 4 * weight[8, 0] + math.sin(3))


def test_fresh_logits_have_about_unit_size():
    """So that the first loss is near log(vocab_size) and no warm-up is spent on shrinking them."""
    model = small(vocab_size=500, embed_dim=64, norm="pre")

    logits = model(torch.randint(3, 500, (8, 12)), torch.randint(3, 500, (8, 12)))

    assert 0.5 < float(logits.detach().std()) < 2.0


def test_wide_reach_of_sinusoidal_positions_is_limited_by_max_len_alone():
    model = small(max_len=200)

    assert model(torch.full((1, 200), 5), torch.full((1, 200), 5)).shape == (1, 200, 50)
    with pytest.raises(ArgumentError, match="input_ids must hold at most 200 tokens a row, got 201"):
        model(torch.full((1, 201), 5), TARGET[:1])


def test_double_precision_stays_double():
    model = small().double()

    assert model(SOURCE, TARGET).dtype == torch.float64


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(SOURCE, TARGET[:1]), ArgumentError, "decoder_input_ids must have one row for each of the 2"),
        (lambda m: m(SOURCE + 50, TARGET), ArgumentError, r"input_ids must lie in \[0, 50\)"),
        (lambda m: m(SOURCE, TARGET + 50), ArgumentError, r"decoder_input_ids must lie in \[0, 50\)"),
        (lambda m: m(SOURCE, TARGET, SOURCE_MASK[:, :3]), ArgumentError, "attention_mask must have the shape"),
        (lambda m: m(SOURCE, TARGET, SOURCE_MASK.float()), DtypeError, "attention_mask must be boolean or integer"),
        (
            lambda m: m(SOURCE, TARGET, None, 2 * TARGET_MASK.long()),
            ArgumentError,
            "decoder_attention_mask must hold 0 and 1 only, got 2",
        ),
        (lambda m: m(SOURCE.short(), TARGET), DtypeError, "input_ids must be int64 or int32"),
    ],
)
def test_wrong_inputs_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(small())


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_watch_hears_the_three_kinds_of_attention_by_name(norm):
    model = small(norm=norm)

    with regard.watch(model, ["entropy", "padding_mass"]) as view:
        model(SOURCE, TARGET, SOURCE_MASK, TARGET_MASK)

    heard = set(view.layers)
    assert heard == {
        *(f"encoder.layer.{n}.attention" for n in range(2)),
        *(f"decoder.layer.{n}.self_attention" for n in range(3)),
        *(f"decoder.layer.{n}.cross_attention" for n in range(3)),
    }


def test_watching_changes_nothing():
    model = small()
    before = model(SOURCE, TARGET, SOURCE_MASK)

    with regard.watch(model, ["entropy"]):
        after = model(SOURCE, TARGET, SOURCE_MASK)

    assert torch.equal(before, after)


def test_every_parameter_learns():
    model = small(tied_embeddings="none").train()

    nn.functional.cross_entropy(model(SOURCE, TARGET, SOURCE_MASK).flatten(0, 1), TARGET.flatten()).backward()

    still = {name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()}
    assert still == set()
