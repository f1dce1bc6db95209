"""What a model learnt it writes; reversal is learnt to the last token."""

import pytest
import torch

from regard.data import word_tokenizer
from regard.models import Transformer, TransformerConfig
from regard.train.translation.config import WritingConfig
from regard.train.translation.writing import write_texts

LETTERS = "abcdefgh"


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer([" ".join(LETTERS)])


def made(count, generator, longest=7):
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    drawn = [torch.randint(len(LETTERS), (length,), generator=generator).tolist() for length in lengths]
    return [" ".join(LETTERS[place] for place in places) for places in drawn]


@pytest.fixture(scope="module")
def reverser(tokenizer):
    """A small Transformer that was taught to reverse."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    sizes = {"embed_dim": 48, "num_heads": 4, "num_encoder_layers": 2, "num_decoder_layers": 2, "feed_forward_dim": 96}
    config = TransformerConfig(vocab_size=tokenizer.vocab_size, max_len=80, dropout_p=0.0, norm="pre", **sizes)
    model = Transformer(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.0, betas=(0.9, 0.98))
    steps = 250
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 6e-3 * min((step + 1) / 30, (steps - step) / (steps - 30))
        sources = made(64, generator)
        source, target = (
            [torch.tensor(ids) for ids in tokenizer.encode(side, 20).ids]
            for side in (sources, [text[::-1] for text in sources])
        )
        source, labels = (torch.nn.utils.rnn.pad_sequence(side, batch_first=True) for side in (source, target))
        shifted = torch.cat((torch.ones(64, 1, dtype=torch.int64), labels[:, :-1]), 1)
        mask = labels != 0
        logits = model(source, shifted, source != 0, mask, logits_at=mask)
        torch.nn.functional.cross_entropy(logits, labels[mask]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.mark.parametrize("beams", [1, 4])
def test_reversal_is_learnt_exactly(reverser, tokenizer, beams):
    texts = made(500, torch.Generator().manual_seed(2))

    written = write_texts(
        reverser, tokenizer, texts, writing=WritingConfig(beams=beams, length_penalty=0.6), max_len=20
    )

    right = sum(text[::-1] == found for text, found in zip(texts, written, strict=True))
    assert right / len(texts) > 0.99


def test_texts_come_back_in_their_order_whatever_their_lengths(reverser, tokenizer):
    texts = ["a", "a b c d e f g", "b", "a b", ""]
    told = []

    written = write_texts(
        reverser,
        tokenizer,
        texts,
        writing=WritingConfig(),
        max_len=20,
        progress=lambda done, total: told.append((done, total)),
    )

    assert written[:4] == ["a", "g f e d c b a", "b", "b a"]
    assert told[-1] == (5, 5)
