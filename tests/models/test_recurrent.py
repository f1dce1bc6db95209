import pytest
import torch

from regard._errors import ArgumentError
from regard.models import (
    Recurrent,
    RecurrentConfig,
    RecurrentForCausalLM,
    RecurrentForSequenceClassification,
    beam_search,
    generate,
)


def config(**changes):
    return RecurrentConfig(**{"vocab_size": 50, "embed_dim": 8, "hidden_dim": 12, "dropout_p": 0.0, **changes})


def ids(batch=2, length=7):
    return torch.randint(1, 50, (batch, length))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_text_alone_has_the_logits_of_the_text_in_a_batch(cell, pooling, bidirectional):
    network = Recurrent(config(cell=cell, bidirectional=bidirectional, num_layers=2))
    model = RecurrentForSequenceClassification(network, 3, pooling=pooling).eval()
    tokens = ids()
    right, left = torch.arange(7) < torch.tensor([[7], [4]]), torch.arange(7) >= torch.tensor([[0], [3]])

    torch.testing.assert_close(model(tokens, right)[:1], model(tokens[:1]))
    torch.testing.assert_close(model(tokens, right)[1:], model(tokens[1:, :4]))
    torch.testing.assert_close(model(tokens, left.long())[1:], model(tokens[1:, 3:]))


def test_poolings_are_what_they_say():
    model = RecurrentForSequenceClassification(Recurrent(config(bidirectional=True)), 3).eval()
    tokens = ids()
    hidden, _ = model.encoder(tokens)

    torch.testing.assert_close(model(tokens), model.classifier(hidden.mean(1)))
    model.pooling = "last"
    ends = torch.cat([hidden[:, -1, :12], hidden[:, 0, 12:]], 1)
    torch.testing.assert_close(model(tokens), model.classifier(ends))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_language_model_sees_no_future(cell):
    model = RecurrentForCausalLM(Recurrent(config(cell=cell, num_layers=2))).eval()
    tokens = ids()
    changed = tokens.clone()
    changed[:, 4:] = (changed[:, 4:] + 1) % 50

    same, other = model(tokens), model(changed)

    torch.testing.assert_close(same[:, :4], other[:, :4], rtol=0, atol=0)
    assert (same[:, 4:] - other[:, 4:]).abs().amax((0, 2)).min() > 0


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_advancing_token_by_token_equals_the_whole(cell):
    model = RecurrentForCausalLM(Recurrent(config(cell=cell))).eval()
    tokens, state, steps = ids(), None, []
    for place in range(7):
        logits, state = model.advance(tokens[:, place : place + 1], state)
        steps.append(logits)

    torch.testing.assert_close(torch.cat(steps, 1), model(tokens))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_generation_after_prompts_of_unlike_lengths_equals_each_alone(cell):
    model = RecurrentForCausalLM(Recurrent(config(cell=cell))).double().eval()
    tokens, mask = ids(), torch.arange(7) >= torch.tensor([[0], [3]])
    alone = torch.cat([generate(model.session(), tokens[:1], max_new_tokens=5).tokens,
                       generate(model.session(), tokens[1:, 3:], max_new_tokens=5).tokens])  # fmt: skip

    together = generate(model.session(), tokens, attention_mask=mask, max_new_tokens=5)
    beams = beam_search(model.session(), tokens, attention_mask=mask, num_beams=1, max_new_tokens=5)

    assert torch.equal(together.tokens, alone)
    assert torch.equal(beams.tokens[:, 0], alone)


def test_generation_while_training_is_refused():
    with pytest.raises(ArgumentError, match="in evaluation mode"):
        RecurrentForCausalLM(Recurrent(config())).session()


def test_decoder_is_tied_to_the_word_embeddings():
    model = RecurrentForCausalLM(Recurrent(config()))

    assert sum(parameter.shape == (50, 8) for parameter in model.parameters()) == 1
    assert isinstance(RecurrentForCausalLM(Recurrent(config(hidden_dim=8))).transform, torch.nn.Identity)


def test_fresh_words_are_guessed_about_evenly():
    logits = RecurrentForCausalLM(Recurrent(config())).eval()(ids(16, 12))

    assert 0 < logits.std().item() < 0.5


def test_recurrent_weights_start_orthogonal_and_forget_gates_open():
    layers = Recurrent(config(cell="lstm")).recurrent.layers

    for gate in layers.weight_hh_l0.split(12):
        torch.testing.assert_close(gate @ gate.T, torch.eye(12), rtol=1e-5, atol=1e-5)
    total = (layers.bias_ih_l0 + layers.bias_hh_l0).split(12)
    assert [gate.unique().tolist() for gate in total] == [[0.0], [1.0], [0.0], [0.0]]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_classifier_learns_an_order_from_scratch(cell):
    """Does token 1 come before token 2? No bag of words knows."""
    model = RecurrentForSequenceClassification(Recurrent(config(cell=cell)), 2, pooling="last", dropout_p=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(150):
        places = torch.rand(64, 9).argsort(1)[:, :2]
        tokens = torch.randint(3, 50, (64, 9)).scatter(1, places, torch.tensor([1, 2]).expand(64, 2))
        labels = (places[:, 0] < places[:, 1]).long()
        logits = model(tokens)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()

    assert (logits.argmax(1) == labels).float().mean() > 0.9  # of a batch that was not trained on


def test_text_of_padding_alone_is_refused():
    model = RecurrentForSequenceClassification(Recurrent(config()), 3)

    with pytest.raises(ArgumentError, match="must hold a real"):
        model(ids(), torch.tensor([[1] * 7, [0] * 7]))


def test_unknown_tokens_are_refused():
    with pytest.raises(ArgumentError, match=r"input_ids must lie in \[0, 50\)"):
        Recurrent(config())(torch.tensor([[50]]))


def test_bidirectional_language_model_is_refused():
    with pytest.raises(ArgumentError, match="must not see what it guesses"):
        RecurrentForCausalLM(Recurrent(config(bidirectional=True)))


@pytest.mark.parametrize(
    ("wrong", "message"), [({"num_labels": 1}, "num_labels must be"), ({"pooling": "first"}, "pooling must be")]
)
def test_wrong_heads_are_refused(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        RecurrentForSequenceClassification(Recurrent(config()), **{"num_labels": 3, **wrong})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "elman"}, "cell must be"),
        ({"hidden_dim": 0}, "hidden_dim must be a whole number"),
        ({"dropout_p": 1.0}, "dropout_p must lie"),
        ({"pad_id": 50}, "pad_id must be an id below"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        config(**wrong)


def test_config_survives_a_round_trip():
    assert RecurrentConfig.from_dict(config(cell="lstm").to_dict()) == config(cell="lstm")
    with pytest.raises(ArgumentError, match="no field width"):
        RecurrentConfig.from_dict({"vocab_size": 9, "width": 3})
