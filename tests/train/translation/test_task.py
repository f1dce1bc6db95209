"""The loss and the figures of translating against their definitions."""

import math
from itertools import chain

import pytest
import torch
import torch.nn.functional as F

from regard.data import ParallelTexts, word_tokenizer
from regard.models import Transformer, TransformerConfig
from regard.train import Task, choose_hardware
from regard.train.translation.config import TranslatorOptim
from regard.train.translation.corpus import EncodedPairs, PairsCorpus
from regard.train.translation.task import TranslatorTask

SOURCE = ["a b c", "b", "c a", "a a b c"]
TARGET = ["c b a", "b", "a c", "c b"]


@pytest.fixture
def task():
    tokenizer = word_tokenizer([*SOURCE, *TARGET])
    pairs = ParallelTexts(source=SOURCE, target=TARGET, name="made", rows=[1, 2, 3, 4])
    split = EncodedPairs(pairs=pairs, source=tokenizer.encode(SOURCE, 9).ids, target=tokenizer.encode(TARGET, 9).ids)
    corpus = PairsCorpus(tokenizer=tokenizer, splits=dict.fromkeys(("train", "validation", "test"), split), audit={})
    torch.manual_seed(0)
    sizes = {"embed_dim": 16, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1, "feed_forward_dim": 16}
    config = TransformerConfig(vocab_size=tokenizer.vocab_size, max_len=9, dropout_p=0.0, **sizes)
    optim = TranslatorOptim(tokens_per_batch=10, label_smoothing=0.1, weight_decay=0.01)
    return TranslatorTask(Transformer(config), corpus, optim=optim, seed=0, hardware=choose_hardware("cpu", "float32"))


def rows(task):
    """Return the logits of each target token, a pair at a time, and the tokens."""
    for source, target in zip(task._train.source, task._train.target, strict=True):
        shifted = torch.tensor([[1, *target[:-1]]])
        yield task.model(torch.tensor([source]), shifted)[0], torch.tensor(target)


def test_it_is_a_task(task):
    assert isinstance(task, Task)


def test_the_loss_is_the_mean_over_target_tokens_with_smoothed_labels(task):
    nats, count = 0.0, 0
    for logits, target in rows(task):
        log_probs = logits.log_softmax(-1)
        smoothed = 0.9 * F.one_hot(target, logits.shape[-1]) + 0.1 / logits.shape[-1]
        nats -= (smoothed * log_probs).sum().item()
        count += len(target)

    found = task.loss([0, 1, 2, 3])

    assert found.loss.item() == pytest.approx(nats / count, rel=1e-5)
    assert (found.weight, found.num_tokens, found.num_cells) == (12, 14 + 12, 4 * 5 + 4 * 4)


def test_validation_gives_the_plain_loss_perplexity_and_accuracy(task):
    nats = right = count = 0
    for logits, target in rows(task):
        nats += F.cross_entropy(logits, target, reduction="sum").item()
        right += int((logits.argmax(-1) == target).sum())
        count += len(target)

    found = task.validate()

    assert found["loss"] == pytest.approx(nats / count, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)
    assert found["token_accuracy"] == pytest.approx(right / count)


def test_every_epoch_has_every_pair_once_and_one_number_of_batches(task):
    first, second = task.batches(0), task.batches(1)

    assert sorted(chain(*first)) == sorted(chain(*second)) == [0, 1, 2, 3]
    assert len(first) == len(second)


def test_matrices_decay_and_biases_and_norms_do_not(task):
    decaying, others = task.parameter_groups()

    assert (decaying["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert {p.ndim for p in decaying["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}
    assert len(decaying["params"]) + len(others["params"]) == len(list(task.model.parameters()))


def test_batches_cut_by_documents_are_refused():
    with pytest.raises(ValueError, match=r"optim\.batch_size is not used, .* got 64; set optim\.tokens_per_batch"):
        TranslatorOptim(batch_size=64)
