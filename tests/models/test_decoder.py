import pytest
import torch

import regard
from regard._errors import ArgumentError, CapacityWarning, DtypeError
from regard.models import Decoder, DecoderConfig, generate
from regard.modules import (
    CacheStack,
    DynamicCache,
    Int8Cache,
    PrefixCache,
    SlidingWindowCache,
    StaticCache,
    cache_bytes,
)
from regard.modules.cache.protocol import Tokens

TOLERANCE = {"atol": 1e-4, "rtol": 0}
SHAPES = ["gpt2", "llama", "mixed"]


def tokens(length, batch=2, seed=0):
    return torch.randint(0, 50, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def stepped(model, ids, cache, sizes=(1,), keep=None):
    """Feed ``ids`` in chunks of ``sizes``, the last of them repeated."""
    logits, start, sizes = [], 0, list(sizes)
    while start < ids.shape[1]:
        end = min(start + (sizes.pop(0) if len(sizes) > 1 else sizes[0]), ids.shape[1])
        mask = None if keep is None else keep[:, start:end].long()
        logits.append(model(ids[:, start:end], mask, cache))
        start = end
    return torch.cat(logits, 1)


@torch.inference_mode()
def alone(model, ids, keep):
    """Run each sequence by itself, without padding and without a cache."""
    logits = torch.zeros(*ids.shape, 50)
    for row, real in enumerate(keep):
        logits[row, real] = model(ids[row : row + 1, real])[0]
    return logits


@pytest.mark.filterwarnings("ignore::regard._errors.CapacityWarning")  # the cache is filled to its last place
@pytest.mark.parametrize(("shape", "make"), [("gpt2", lambda: StaticCache(512)), ("llama", DynamicCache)])
def test_every_one_of_512_steps_equals_the_parallel_pass(shape, make, make_decoder):
    """Behind left padding in the second row."""
    model, ids = make_decoder(shape), tokens(512)
    keep = torch.arange(512) >= torch.tensor([[0], [9]])

    logits = stepped(model, ids, model.new_cache(make), (20, 1), keep)

    torch.testing.assert_close(logits[keep], alone(model, ids, keep)[keep], **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sizes", [(1,), (5, 1, 30)])
def test_chunks_of_any_size_give_the_logits_of_one_pass(sizes, shape, make_decoder):
    model, ids = make_decoder(shape), tokens(40)

    with torch.inference_mode():
        expected = model(ids)

    torch.testing.assert_close(stepped(model, ids, model.new_cache(), sizes), expected, **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_changes_nothing_wherever_it_stands(shape, make_decoder):
    model, ids = make_decoder(shape), tokens(20, batch=4)
    keep = torch.ones(4, 20, dtype=torch.bool)
    keep[1, :7] = keep[2, 15:] = keep[3, 4:11] = False

    with torch.inference_mode():
        logits = model(ids, keep)

    expected = alone(model, ids, keep)[keep]
    torch.testing.assert_close(logits[keep], expected, **TOLERANCE)
    torch.testing.assert_close(stepped(model, ids, model.new_cache(), (12, 1), keep)[keep], expected, **TOLERANCE)


def test_a_token_changes_no_earlier_logits(make_decoder):
    model, ids = make_decoder(), tokens(12)
    other = ids.clone()
    other[:, 7] = (other[:, 7] + 1) % 50

    with torch.inference_mode():
        before, after = model(ids), model(other)

    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax((0, 2)).min() > 1e-4


def test_a_shared_beginning_is_computed_once(make_decoder):
    model, ids = make_decoder(), tokens(30, batch=3)
    ids[:, :20] = ids[0, :20]
    shared = model.new_cache()
    with torch.inference_mode():
        model(ids[:1, :20], cache=shared)
        expected = model(ids)
    behind = CacheStack(PrefixCache(one, DynamicCache()) for one in shared)

    torch.testing.assert_close(stepped(model, ids[:, 20:], behind), expected[:, 20:], **TOLERANCE)


def test_int8_keys_and_values_cost_little(make_decoder):
    """The error is that of rounding to 1/254 of a head's largest number; it does not grow with the steps."""
    model, ids = make_decoder(), tokens(300)
    with torch.inference_mode():
        expected = model(ids)

    error = (stepped(model, ids, model.new_cache(Int8Cache)) - expected).norm(dim=-1) / expected.norm(dim=-1)

    assert 1e-4 < error.mean() < 0.02
    assert error[:, 200:].mean() < 2 * error[:, :100].mean()


def test_selected_sequences_go_on(make_decoder):
    model, ids, rows = make_decoder("gpt2"), tokens(20), torch.tensor([1, 1, 0])
    keep = torch.arange(20) >= torch.tensor([[0], [6]])
    cache = model.new_cache()
    stepped(model, ids[:, :15], cache, (15,), keep[:, :15])

    cache.select(rows)

    expected = alone(model, ids, keep)[rows, 15:]
    torch.testing.assert_close(stepped(model, ids[rows, 15:], cache), expected, **TOLERANCE)


def test_generating_with_a_window_goes_on_in_constant_memory(make_decoder):
    model = make_decoder(max_len=1000)
    cache = model.new_cache(lambda: SlidingWindowCache(16, num_sinks=2))

    generate(model.session(cache), tokens(30), max_new_tokens=200)

    assert cache.length == 229
    assert cache.num_bytes == 2 * 2 * 2 * 2 * (2 + 15 + 128) * 8 * 4


def test_a_session_asks_for_the_last_logits_alone(make_decoder, monkeypatch):
    model, ids = make_decoder(), tokens(9)
    with torch.inference_mode():
        expected = model(ids)[:, -1]
    shapes = []
    plain = model.logits
    monkeypatch.setattr(model, "logits", lambda states: shapes.append(tuple(states.shape)) or plain(states))

    torch.testing.assert_close(model.session().feed(ids), expected, **TOLERANCE)
    assert shapes == [(2, 32)]


def test_a_session_knows_the_room_of_its_cache(make_decoder):
    model = make_decoder(max_len=100)

    assert model.session().max_len == 100
    assert model.session(model.new_cache(lambda: StaticCache(64))).max_len == 64
    assert model.session(model.new_cache(lambda: StaticCache(640))).max_len == 100
    with pytest.raises(ArgumentError, match="room for 64 tokens, got 60 and 6 to come"):
        generate(model.session(model.new_cache(lambda: StaticCache(64))), tokens(60), max_new_tokens=6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_layer_is_the_table_of_words_where_they_are_tied(tied, make_decoder):
    model = make_decoder(tied_embeddings=tied)

    model(tokens(5))[..., 3].sum().backward()

    unseen = sorted(set(range(50)) - set(tokens(5).flatten().tolist()))[0]
    assert model.words.weight.grad[3].abs().sum() > 0 or not tied
    assert model.words.weight.grad[unseen].abs().sum().item() == 0 or unseen == 3
    assert ("output.weight" in model.state_dict()) == (not tied)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_parameters_learn(shape, make_decoder):
    model, ids = make_decoder(shape), tokens(20)

    torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()

    still = {name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0}
    # A bias of the keys adds the same to all scores of a query, except where rotary positions turn it.
    assert still <= {name for name in still if name.endswith("attention.key.bias")}


def test_fresh_weights_fit_the_width():
    torch.manual_seed(0)
    model = Decoder(DecoderConfig(vocab_size=200, embed_dim=256, num_heads=4, num_layers=2, feed_forward_dim=512))

    assert model.layers[0].attention.query.weight.std().item() == pytest.approx((3 * 256) ** -0.5, rel=0.02)
    assert model.words.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.norm.weight.eq(1).all()


def test_gpt2_small_has_its_number_of_parameters():
    with torch.device("meta"):
        model = Decoder(DecoderConfig())

    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808


@pytest.mark.parametrize("shape", SHAPES)
def test_it_passes_every_rule(shape, make_decoder):
    report = regard.check(make_decoder(shape, max_len=64))

    assert report.ok, str(report)
    passed = {rule for rule, verdict in report.verdicts.items() if verdict == "pass"}
    assert passed >= {"causality", "padding", "scale", "cache", "causal_corner", "grouped_heads", "empty_rows"}


def test_steps_that_stand_one_place_too_far_break_the_rule_on_caches(make_decoder, monkeypatch):
    plain = Tokens.positions
    monkeypatch.setattr(Tokens, "positions", lambda self, *given: plain(self, *given) + (self.length > 0))

    assert "cache" in regard.check(make_decoder("llama", max_len=64), fast=True).failed


def test_watch_hears_every_layer_and_step(make_decoder):
    model = make_decoder()

    with regard.watch(model, ["entropy"]) as view:
        generate(model.session(), tokens(7), max_new_tokens=4)

    coverage = view.coverage()
    assert [(one.layer, one.calls, one.reason) for one in coverage] == [
        ("layers.0.attention", 4, None),
        ("layers.1.attention", 4, None),
    ]
    assert [(call["q_len"], call["kv_len"]) for call in view.calls()] == [
        pair for pair in ((7, 7), (1, 8), (1, 9), (1, 10)) for _ in range(2)
    ]


@pytest.mark.parametrize("make", [DynamicCache, lambda: StaticCache(300), Int8Cache])
@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_predicted_bytes_are_those_of_a_generation(shape, make, make_decoder):
    model = make_decoder(shape)
    cache = model.new_cache(make)

    generate(model.session(cache), tokens(40, batch=3), max_new_tokens=100)

    assert cache.length == 139
    assert cache_bytes(make(), model.cache_shape, 139, batch=3) == cache.num_bytes


def test_the_last_tenth_of_the_room_is_told_once(make_decoder):
    model = make_decoder(max_len=100)
    cache = model.new_cache(lambda: StaticCache(40))

    with torch.inference_mode():
        model(tokens(36), cache=cache)
        with pytest.warns(CapacityWarning, match="37 of the 40 tokens that model and cache have room for are used"):
            model(tokens(1), cache=cache)
        model(tokens(3), cache=cache)
        with pytest.warns(CapacityWarning, match="95 of the 100 tokens"):
            model(tokens(95), cache=model.new_cache())


def test_what_does_not_fit_is_refused(make_decoder):
    model = make_decoder(max_len=10)
    cache = model.new_cache()
    stepped(model, tokens(8), cache, (8,))

    with pytest.raises(ArgumentError, match="at most 10 tokens, got 11; cut"):
        model(tokens(11))
    with torch.inference_mode():
        with pytest.raises(ArgumentError, match="at most 10 tokens, got 3 behind 8 cached ones"):
            model(tokens(3), cache=cache)
        with pytest.raises(ArgumentError, match=r"shape of input_ids \(2, 1\), got \(2, 9\)"):
            model(tokens(1), torch.ones(2, 9), cache)
    with pytest.raises(ArgumentError, match="the vocabulary of this model; got 50"):
        model(torch.tensor([[50]]))
    with pytest.raises(ArgumentError, match="one part for each of the 2 layers, got 1"):
        model(tokens(3), cache=CacheStack([DynamicCache()]))
    with pytest.raises(DtypeError, match="attention_mask must be boolean or integer"):
        model(tokens(3), torch.ones(2, 3))
    with pytest.raises(ArgumentError, match="A cache is for inference"):
        model(tokens(3), cache=model.new_cache())
    with pytest.raises(ArgumentError, match="evaluation mode, got one in training"):
        model.train().session()
