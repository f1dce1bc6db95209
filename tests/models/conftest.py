"""Small models, real weights and the peer that ours must equal."""

import pytest
import torch

from regard._errors import MissingDependencyError
from regard.models import BertConfig, minilm_folder

TINY = {
    "vocab_size": 50,
    "embed_dim": 16,
    "num_heads": 4,
    "num_layers": 2,
    "feed_forward_dim": 24,
    "max_len": 12,
    "dropout_p": 0.0,
}


@pytest.fixture
def tiny():
    return BertConfig(**TINY)


@pytest.fixture(scope="session")
def minilm():
    try:
        return minilm_folder()
    except MissingDependencyError as error:
        pytest.skip(f"needs the MiniLM weights: {error}")


@pytest.fixture(scope="session")
def tokenizer(minilm):
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(minilm / "tokenizer.json"))
    loaded.no_padding()
    loaded.no_truncation()
    return loaded


@pytest.fixture(scope="session")
def encode(tokenizer):
    """Return a function from sentences to (ids, mask), padded at the right with 0."""

    def encoded(*sentences):
        rows = [torch.tensor(tokenizer.encode(sentence).ids) for sentence in sentences]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()

    return encoded


@pytest.fixture
def hf_tiny():
    """Return a function that makes a small ``transformers`` model of a class, with weights far from zero."""
    import transformers

    def make(kind="BertModel", **changes):
        config = transformers.BertConfig(
            **{
                "vocab_size": 50,
                "hidden_size": 16,
                "num_attention_heads": 4,
                "num_hidden_layers": 2,
                "intermediate_size": 24,
                "max_position_embeddings": 12,
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
                "attn_implementation": "sdpa",
                **changes,
            }
        )
        torch.manual_seed(5)
        model = getattr(transformers, kind)(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        return model

    return make
