"""A model whose distribution is known: the logits of a token depend on the one before it."""

import pytest
import torch


class Chain:
    """A session over a table (vocab, vocab) of logits; it keeps what it was fed, as a cache does."""

    def __init__(self, logits, max_len=1000):
        self.logits, self.max_len, self.fed = logits, max_len, None

    @property
    def length(self):
        return 0 if self.fed is None else self.fed.shape[1]

    def feed(self, input_ids, attention_mask=None):
        self.fed = input_ids if self.fed is None else torch.cat((self.fed, input_ids), 1)
        return self.logits[input_ids[:, -1]]

    def select(self, rows):
        self.fed = self.fed[rows]


@pytest.fixture
def chain():
    def make(vocab=5, seed=0, **options):
        return Chain(2 * torch.randn(vocab, vocab, generator=torch.Generator().manual_seed(seed)), **options)

    return make
