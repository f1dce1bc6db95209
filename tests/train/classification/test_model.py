"""A recipe's model begins with pretrained weights, or with random ones of the sizes that the recipe gives."""

from pathlib import Path

import pytest
import torch

from regard.models import Bert, BertConfig, BertForSequenceClassification, load_bert, save_bert
from regard.train.classification.config import ModelConfig
from regard.train.classification.model import model_name, new_classifier, pretrained_folder

SCRATCH = ModelConfig(pretrained="none", num_layers=2, embed_dim=24, num_heads=3, dropout_p=0.2, pooling="first")


def build(settings: ModelConfig) -> BertForSequenceClassification:
    return new_classifier(settings, 3, vocab_size=50, max_len=20, pad_id=1)


def test_a_model_from_scratch_has_the_sizes_of_the_recipe() -> None:
    model = build(SCRATCH)
    config = BertConfig(
        vocab_size=50,
        embed_dim=24,
        num_heads=3,
        num_layers=2,
        feed_forward_dim=96,
        max_len=20,
        pad_id=1,
        dropout_p=0.2,
    )
    assert model.bert.config == config
    assert (model.num_labels, model.pooling, model.dropout.p) == (3, "first", 0.2)


def test_the_seed_decides_the_weights_of_a_model_from_scratch() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(build(SCRATCH).bert.embeddings.words.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_pretrained_encoder_keeps_its_weights_and_its_sizes(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=40, embed_dim=16, num_heads=2, num_layers=1, feed_forward_dim=32, max_len=16)
    save_bert(Bert(config), tmp_path / "small")
    settings = ModelConfig(pretrained=tmp_path / "small")
    torch.manual_seed(3)
    built = build(settings)
    torch.manual_seed(3)
    expected = BertForSequenceClassification(load_bert(tmp_path / "small"), 3)
    found = built.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.state_dict().items())
    assert built.bert.config == config


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (SCRATCH, "BERT of 2 layers and width 24 from scratch"),
        (ModelConfig(), "MiniLM"),
        (ModelConfig(pretrained=Path("models/mine")), "mine"),
    ],
)
def test_a_model_has_a_name_for_people(settings: ModelConfig, name: str) -> None:
    assert model_name(settings) == name


def test_only_a_pretrained_model_has_a_folder() -> None:
    assert pretrained_folder(SCRATCH) is None
    assert pretrained_folder(ModelConfig(pretrained=Path("models/mine"))) == Path("models/mine")
