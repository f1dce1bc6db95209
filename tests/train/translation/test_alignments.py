"""The map of a whole target at once is the one that the decoder's steps make; its largest weights are kept."""

import pytest
import torch

from regard._errors import ArgumentError
from regard.functional import attention_weights
from regard.models import RecurrentTranslator, RecurrentTranslatorConfig, Transformer, TransformerConfig
from regard.observe import watch
from regard.train.translation.alignments import alignment_layer, alignment_maps, sparse_alignments

SIZES = {"vocab_size": 40, "embed_dim": 32, "num_heads": 4, "num_encoder_layers": 2, "feed_forward_dim": 48}
LENGTHS = [(7, 5), (1, 9), (12, 1), (4, 4)]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Transformer(TransformerConfig(num_decoder_layers=3, norm="pre", max_len=32, **SIZES)).eval()


@pytest.fixture(scope="module")
def pairs():
    generator = torch.Generator().manual_seed(1)
    return [
        tuple(torch.randint(3, 40, (length,), generator=generator).tolist() for length in lengths)
        for lengths in LENGTHS
    ]


def step_by_step(model, source, target, layer):
    """The map that cached decoding makes: one row from each step, one token at a time."""
    name = f"decoder.layer.{layer}.cross_attention"
    session = model.session(torch.tensor([source]))
    rows = []
    for token in [model.config.bos_id, *target[:-1]]:
        with watch(model, ["entropy"], layers=[name], keep=[name]) as view:
            session.feed(torch.tensor([[token]]))
        call = view.kept(name).call
        rows.append(attention_weights(call.query, call.key, **call.masking)[0].mean(0))
    return torch.cat(rows)


@pytest.mark.parametrize("layer", [0, 2])
def test_the_map_put_together_from_decode_steps_equals_the_teacher_forced_one(model, pairs, layer):
    sources, targets = zip(*pairs, strict=True)

    for (source, target), found in zip(pairs, alignment_maps(model, sources, targets, layer=layer), strict=True):
        assert found.shape == (len(target), len(source))
        torch.testing.assert_close(found, step_by_step(model, source, target, layer), rtol=0, atol=1e-5)


def test_a_map_does_not_depend_on_what_is_in_its_batch(model, pairs):
    sources, targets = zip(*pairs, strict=True)
    together = alignment_maps(model, sources, targets, layer=1)

    for source, target, found in zip(sources, targets, together, strict=True):
        alone = alignment_maps(model, [source], [target], layer=1)[0]
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.sum(1), torch.ones(len(target)), rtol=0, atol=1e-5)


def test_the_largest_weights_are_kept_heaviest_first():
    weights = torch.tensor([[0.1, 0.5, 0.0, 0.4], [0.7, 0.1, 0.15, 0.05]])

    kept = sparse_alignments([weights], [2], top=2)[0]

    assert kept.places.tolist() == [[1, 3], [0, 2]]
    torch.testing.assert_close(kept.weights, torch.tensor([[0.5, 0.4], [0.7, 0.15]]))
    torch.testing.assert_close(kept.own, torch.tensor([0.6, 0.8]))


def test_a_short_source_is_kept_whole():
    assert sparse_alignments([torch.tensor([[1.0]])], [1], top=4)[0].places.tolist() == [[0]]


def test_the_last_layer_but_one_is_taken_unless_another_is_named(model):
    assert [alignment_layer(model), alignment_layer(model, 0)] == [1, 0]
    with pytest.raises(ArgumentError, match="must lie in 0 to 2, got 3"):
        alignment_layer(model, 3)


@pytest.fixture(scope="module", params=["gru", "lstm"])
def recurrent(request):
    torch.manual_seed(0)
    config = RecurrentTranslatorConfig(vocab_size=40, embed_dim=16, hidden_dim=24, cell=request.param, num_layers=2)
    return RecurrentTranslator(config).eval()


def test_the_map_of_a_recurrent_decoder_is_what_it_sums_the_source_with(recurrent, pairs):
    """The context that the layer gives each step is its map times the states of the source."""
    sources, targets = zip(*pairs, strict=True)
    maps = alignment_maps(recurrent, sources, targets, layer=alignment_layer(recurrent))

    for source, target, found in zip(sources, targets, maps, strict=True):
        given = []
        hearing = recurrent.decoder.cross_attention.register_forward_hook(lambda *heard, to=given: to.append(heard[2]))
        with torch.inference_mode():
            memory = recurrent.begin(torch.tensor([source]))
            recurrent.decode(torch.tensor([[recurrent.config.bos_id, *target[:-1]]]), memory)
        hearing.remove()
        torch.testing.assert_close(found @ memory.context[0], torch.cat(given, 1)[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(found.sum(1), torch.ones(len(target)), rtol=0, atol=1e-5)


def test_a_recurrent_decoder_has_one_layer_and_may_not_look_at_all(recurrent):
    assert alignment_layer(recurrent) == alignment_layer(recurrent, 0) == 0
    with pytest.raises(ArgumentError, match="must lie in 0 to 0, got 1"):
        alignment_layer(recurrent, 1)
    blind = RecurrentTranslator(RecurrentTranslatorConfig(vocab_size=40, embed_dim=16, hidden_dim=24, attention="none"))
    with pytest.raises(ArgumentError, match="got one with attention 'none'"):
        alignment_layer(blind)
