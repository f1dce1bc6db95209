import pytest
import torch

from regard._errors import ArgumentError
from regard.models import Bert, BertForMaskedLM, BertForSequenceClassification


@pytest.fixture
def encoder(tiny):
    return Bert(tiny)


def ids(batch=2, length=7):
    return torch.randint(1, 50, (batch, length))


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_a_text_alone_has_the_logits_of_the_text_in_a_batch(encoder, pooling):
    model = BertForSequenceClassification(encoder, 3, pooling=pooling).eval()
    tokens, mask = ids(), torch.arange(7) < torch.tensor([[7], [4]])

    batch = model(tokens, mask)

    torch.testing.assert_close(batch[:1], model(tokens[:1]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(batch[1:], model(tokens[1:, :4]), rtol=1e-5, atol=1e-5)


def test_poolings_are_what_they_say(encoder):
    model = BertForSequenceClassification(encoder, 3).eval()
    tokens = ids()
    hidden = encoder(tokens)

    torch.testing.assert_close(model(tokens), model.classifier(hidden.mean(1)))
    model.pooling = "first"
    torch.testing.assert_close(model(tokens), model.classifier(hidden[:, 0]))


def test_attention_layers_are_called_by_place(encoder):
    model = BertForSequenceClassification(encoder, 3)
    names = [name for name, _ in model.named_modules() if name.endswith(".attention")]

    assert names == ["bert.encoder.layer.0.attention", "bert.encoder.layer.1.attention"]


def test_classifier_learns_a_rule_from_scratch(tiny):
    """Do most tokens come from the first half of the vocabulary?"""
    model = BertForSequenceClassification(Bert(tiny), 2, dropout_p=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(80):
        tokens = torch.randint(1, 50, (64, 9))
        logits = model(tokens)
        labels = ((tokens < 25).sum(1) > 4).long()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()

    assert (logits.argmax(1) == labels).float().mean() > 0.9  # of a batch that was not trained on


def test_decoder_is_tied_to_the_word_embeddings(encoder):
    model = BertForMaskedLM(encoder)

    assert sum(parameter.shape == (50, 16) for parameter in model.parameters()) == 1
    model(ids())[0, 0, 7].backward()
    assert encoder.embeddings.words.weight.grad[7].abs().max() > 0


def test_fresh_words_are_guessed_about_evenly(encoder):
    """Small logits: the loss begins near log(50)."""
    logits = BertForMaskedLM(encoder).eval()(ids(16, 12))

    assert 0 < logits.std().item() < 0.5


def test_text_of_padding_alone_is_refused(encoder):
    model = BertForSequenceClassification(encoder, 3)
    mask = torch.tensor([[1] * 7, [0] * 7])

    with pytest.raises(ArgumentError, match="must hold a real token, row 1 of attention_mask has none"):
        model(ids(), mask)


def test_one_class_is_refused(encoder):
    with pytest.raises(ArgumentError, match="num_labels must be at least 2, got 1"):
        BertForSequenceClassification(encoder, 1)


def test_unknown_pooling_is_refused(encoder):
    with pytest.raises(ArgumentError, match="pooling must be"):
        BertForSequenceClassification(encoder, 2, pooling="max")


def test_logits_of_some_places_are_those_of_all(encoder):
    model = BertForMaskedLM(encoder).eval()
    ids = torch.randint(1, encoder.config.vocab_size, (3, 7))
    places = torch.rand(3, 7) < 0.4
    torch.testing.assert_close(model(ids, logits_at=places), model(ids)[places])
