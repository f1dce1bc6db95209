"""Ours against ``transformers``' own models, on real weights and on small random ones."""

import pytest
import torch

from regard.models import load_bert, load_masked_lm, save_bert, save_masked_lm

SENTENCES = (
    "The bank raised its interest rates by half a point on Monday.",
    "They sat on the bank of the river and watched the boats.",
    "Oil prices fell.",
    "A fourth-quarter net loss of 1.2 mln dlrs was reported by Acme Corp, unaudited; "
    "the company said that it expects a return to profit in 1987, subject to currency movements.",
)
CONFIGS = {
    "plain": {},
    "relu": {"hidden_act": "relu"},
    "one layer, one head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "four token types": {"type_vocab_size": 4},
    "large eps": {"layer_norm_eps": 0.1},
    "another padding id": {"pad_token_id": 7},
}


@pytest.fixture(scope="module")
def peers(minilm):
    import transformers

    theirs = transformers.AutoModel.from_pretrained(minilm, attn_implementation="sdpa").eval()
    return load_bert(minilm).eval(), theirs


@pytest.mark.data
@pytest.mark.parametrize("sentence", SENTENCES)
def test_hidden_states_of_a_real_sentence_are_equal(peers, encode, sentence):
    ours, theirs = peers
    ids, mask = encode(sentence)

    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(ours(ids, mask), expected, rtol=0, atol=1e-4)


@pytest.mark.data
def test_hidden_states_of_a_padded_batch_are_equal_at_real_tokens(peers, encode):
    ours, theirs = peers
    ids, mask = encode(*SENTENCES)
    assert 0 < mask.float().mean() < 1

    with torch.no_grad():
        expected = theirs(ids, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(ours(ids, mask)[mask.bool()], expected[mask.bool()], rtol=0, atol=1e-4)


@pytest.mark.data
def test_a_word_has_a_vector_of_its_own_in_each_context(peers, encode):
    """The static embedding of "bank" is one vector; its hidden states beside a river and beside rates differ."""
    ours, _ = peers
    ids, mask = encode(*SENTENCES[:2])
    (bank,) = set(ids[0].tolist()) & set(ids[1].tolist()) - set(encode("the . , on and", "")[0].flatten().tolist())
    places = (ids == bank).nonzero()

    with torch.no_grad():
        static = ours.embeddings.words(ids)[places[:, 0], places[:, 1]]
        contextual = ours(ids, mask)[places[:, 0], places[:, 1]]

    cosine = torch.nn.functional.cosine_similarity
    assert len(places) == 2
    torch.testing.assert_close(cosine(*static, dim=0), torch.tensor(1.0))
    assert cosine(*contextual, dim=0) < 0.99


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_hidden_states_of_any_config_are_equal(hf_tiny, tmp_path, changes):
    theirs = hf_tiny(**changes)
    theirs.save_pretrained(tmp_path)
    ours = load_bert(tmp_path).eval()
    ids, mask = torch.randint(0, 50, (3, 9)), torch.arange(9) < torch.tensor([[9], [4], [1]])
    types = torch.randint(0, theirs.config.type_vocab_size, (3, 9))

    expected = theirs(ids, attention_mask=mask.long(), token_type_ids=types).last_hidden_state

    torch.testing.assert_close(ours(ids, mask, types)[mask], expected[mask], rtol=1e-4, atol=1e-4)


def test_gradients_are_equal(hf_tiny, tmp_path):
    theirs = hf_tiny()
    theirs.save_pretrained(tmp_path)
    ours = load_bert(tmp_path).eval()
    ids, mask = torch.randint(1, 50, (3, 9)), torch.arange(9) < torch.tensor([[9], [4], [1]])
    weight = torch.randn(3, 9, 16) * mask[:, :, None]

    (ours(ids, mask) * weight).sum().backward()
    (theirs(ids, attention_mask=mask.long()).last_hidden_state * weight).sum().backward()

    save_bert_names = dict(theirs.named_parameters())
    pairs = {
        "embeddings.words": "embeddings.word_embeddings",
        "embeddings.token_types": "embeddings.token_type_embeddings",
        "encoder.layer.0.attention.query": "encoder.layer.0.attention.self.query",
        "encoder.layer.1.attention.value": "encoder.layer.1.attention.self.value",
        "encoder.layer.0.feed_forward.hidden": "encoder.layer.0.intermediate.dense",
        "encoder.layer.0.attention_norm": "encoder.layer.0.attention.output.LayerNorm",
    }
    for mine, other in pairs.items():
        gradient, expected = ours.get_parameter(f"{mine}.weight").grad, save_bert_names[f"{other}.weight"].grad
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_masked_words_are_guessed_alike(hf_tiny, tmp_path):
    theirs = hf_tiny("BertForMaskedLM")
    theirs.save_pretrained(tmp_path)
    ours = load_masked_lm(tmp_path).eval()
    ids, mask = torch.randint(1, 50, (3, 9)), torch.arange(9) < torch.tensor([[9], [4], [1]])

    expected = theirs(ids, attention_mask=mask.long()).logits

    torch.testing.assert_close(ours(ids, mask)[mask], expected[mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM"])
def test_what_we_save_the_peer_loads(hf_tiny, tmp_path, kind):
    import transformers

    first = hf_tiny(kind)
    first.save_pretrained(tmp_path / "theirs")
    if kind == "BertModel":
        save_bert(load_bert(tmp_path / "theirs"), tmp_path / "ours")
        second = transformers.AutoModel.from_pretrained(tmp_path / "ours", add_pooling_layer=False)
    else:
        save_masked_lm(load_masked_lm(tmp_path / "theirs"), tmp_path / "ours")
        second = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")

    assert type(second).__name__ == kind
    expected = first.state_dict()
    for name, value in second.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
