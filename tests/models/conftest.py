"""Small models, real weights and the peer that ours must equal."""

import pytest
import torch

from regard._errors import MissingDependencyError
from regard.models import BertConfig, Decoder, DecoderConfig, minilm_folder

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


SMALL = {"vocab_size": 50, "embed_dim": 32, "num_heads": 4, "num_layers": 2, "feed_forward_dim": 48, "max_len": 600}
DECODERS = {
    "gpt2": {},
    "llama": {
        "num_kv_heads": 2,
        "positions": "rotary",
        "rotary_base": 500.0,
        "norm": "rms",
        "activation": "swiglu",
        "attention_bias": False,
        "feed_forward_bias": False,
        "tied_embeddings": False,
    },
    "mixed": {"positions": "rotary", "activation": "relu", "num_kv_heads": 1, "head_dim": 6},
}


@pytest.fixture
def make_decoder():
    """Return a function that makes a small decoder of a shape, with weights far from zero."""

    def make(shape="llama", **changes):
        torch.manual_seed(5)
        model = Decoder(DecoderConfig(**{**SMALL, **DECODERS[shape], **changes}))
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, std=0.3, mean=float("norm" in name and "weight" in name))
        return model.eval()

    return make


@pytest.fixture
def hf_decoder():
    """Return a function that makes a small ``transformers`` decoder, with weights far from zero."""
    import transformers

    shared = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "attn_implementation": "sdpa"}
    gpt2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    gpt2 |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    llama = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
    llama |= {"intermediate_size": 48, "num_key_value_heads": 2}

    def make(family, **changes):
        torch.manual_seed(6)
        if family == "gpt2":
            model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**shared, **gpt2, **changes}))
        else:
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**shared, **llama, **changes}))
        for name, parameter in model.named_parameters():
            scale = 0.2 if "wte" in name else 1.0 if "embed_tokens" in name else 0.5
            torch.nn.init.normal_(parameter, std=scale, mean=float("norm" in name or "ln_" in name))
        return model.eval()

    return make
