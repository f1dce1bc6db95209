"""A tagger is transformers' own, weight for weight, and a recurrent one is saved and loaded like its siblings."""

import json

import pytest
import torch

from regard._errors import ArgumentError, RecordError
from regard.models import (
    Bert,
    BertForSequenceClassification,
    BertForTokenClassification,
    Recurrent,
    RecurrentConfig,
    RecurrentForTokenClassification,
    load_bert,
    load_recurrent,
    load_token_classifier,
    save_classifier,
    save_recurrent,
    save_token_classifier,
)

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def batch():
    return torch.randint(1, 50, (3, 9)), torch.arange(9) < torch.tensor([[9], [4], [1]])


def same(first, second):
    return set(first) == set(second) and all(torch.equal(value, second[name]) for name, value in first.items())


def test_transformers_reads_what_we_write_and_computes_the_same(tiny, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'regard[hf]'")
    ours = BertForTokenClassification(Bert(tiny), 5).eval()
    torch.nn.init.normal_(ours.classifier.bias)
    save_token_classifier(ours, tmp_path, LABELS)

    theirs, told = transformers.BertForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)

    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert [theirs.config.id2label[number] for number in range(5)] == LABELS
    ids, mask = batch()
    with torch.no_grad():
        expected = theirs.eval()(ids, attention_mask=mask).logits
        torch.testing.assert_close(ours(ids, mask)[mask], expected[mask], rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_labels", [2, 5])
def test_we_read_what_transformers_writes_and_compute_the_same(hf_tiny, tmp_path, num_labels):
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'regard[hf]'")
    config = hf_tiny().config
    config.num_labels, config.classifier_dropout = num_labels, 0.3
    theirs = transformers.BertForTokenClassification(config).eval()
    theirs.save_pretrained(tmp_path)

    ours = load_token_classifier(tmp_path).eval()

    assert (ours.num_labels, ours.dropout.p) == (num_labels, 0.3)
    ids, mask = batch()
    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask).logits
        torch.testing.assert_close(ours(ids, mask)[mask], expected[mask], rtol=0, atol=1e-5)


def test_tagger_round_trip(tiny, tmp_path):
    model = BertForTokenClassification(Bert(tiny), 3, dropout_p=0.25)
    save_token_classifier(model, tmp_path)

    loaded = load_token_classifier(tmp_path, attention_dtype=torch.float64)

    assert same(model.state_dict(), loaded.state_dict())
    assert (loaded.num_labels, loaded.dropout.p) == (3, 0.25)
    assert loaded.bert.encoder.layer[1].attention.compute_dtype == torch.float64
    assert same(model.bert.state_dict(), load_bert(tmp_path).state_dict())


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent_tagger_round_trip(tmp_path, cell):
    config = RecurrentConfig(cell=cell, vocab_size=50, embed_dim=8, hidden_dim=12, bidirectional=True)
    model = RecurrentForTokenClassification(Recurrent(config), 4, dropout_p=0.2).eval()
    save_recurrent(model, tmp_path)

    loaded = load_recurrent(tmp_path).eval()

    ids, mask = batch()
    assert isinstance(loaded, RecurrentForTokenClassification)
    assert (loaded.num_labels, loaded.dropout.p) == (4, 0.2)
    assert torch.equal(loaded(ids, mask), model(ids, mask))


@pytest.mark.parametrize("kind", ["transformer", "gru"])
def test_a_sentence_alone_has_the_logits_of_the_sentence_in_a_batch(tiny, kind):
    config = RecurrentConfig(vocab_size=50, embed_dim=8, hidden_dim=12, bidirectional=True)
    attends = kind == "transformer"
    model = (
        BertForTokenClassification(Bert(tiny), 3) if attends else RecurrentForTokenClassification(Recurrent(config), 3)
    )
    ids, mask = batch()

    together = model.eval()(ids, mask)

    torch.testing.assert_close(together[1:2, :4], model(ids[1:2, :4]), rtol=1e-5, atol=1e-5)


def test_recurrent_tagger_sees_both_sides():
    config = RecurrentConfig(vocab_size=50, embed_dim=8, hidden_dim=12, bidirectional=True)
    model = RecurrentForTokenClassification(Recurrent(config), 3).eval()
    ids = torch.randint(1, 50, (1, 6))
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 50

    assert not torch.equal(model(ids)[0, 0], model(changed)[0, 0])


def test_one_tag_is_refused(tiny):
    with pytest.raises(ArgumentError, match="num_labels must be at least 2, got 1"):
        BertForTokenClassification(Bert(tiny), 1)
    with pytest.raises(ArgumentError, match="num_labels must be at least 2, got 0"):
        RecurrentForTokenClassification(Recurrent(RecurrentConfig(vocab_size=9)), 0)


@pytest.mark.parametrize("labels", [["a"], ["a", "a", "b"]])
def test_labels_that_do_not_fit_are_refused(tiny, tmp_path, labels):
    with pytest.raises(ArgumentError, match="labels must hold one name for each of 3 tags"):
        save_token_classifier(BertForTokenClassification(Bert(tiny), 3), tmp_path, labels)


def test_another_model_is_no_tagger(tiny, tmp_path):
    save_classifier(BertForSequenceClassification(Bert(tiny), 3), tmp_path)
    with pytest.raises(RecordError, match=r"must have architectures \['BertForTokenClassification'\]"):
        load_token_classifier(tmp_path)


def test_a_missing_weight_is_named(tiny, tmp_path):
    save_token_classifier(BertForTokenClassification(Bert(tiny), 3), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["id2label"]["3"] = "more"
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"classifier\.(bias|weight) .*shape"):
        load_token_classifier(tmp_path)
