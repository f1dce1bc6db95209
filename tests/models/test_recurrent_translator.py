import pytest
import torch

from regard import watch
from regard._errors import ArgumentError
from regard.models import RecurrentTranslator, RecurrentTranslatorConfig, beam_search, generate

CELLS, ATTENTIONS = ("gru", "lstm"), ("additive", "none")


def model(**changes):
    values = {"vocab_size": 30, "embed_dim": 8, "hidden_dim": 12, "dropout_p": 0.0, **changes}
    return RecurrentTranslator(RecurrentTranslatorConfig(**values)).double().eval()


def ids(batch=2, length=6):
    return torch.randint(3, 30, (batch, length))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_padding_on_either_side_of_either_sequence_changes_nothing(cell, attention, num_layers):
    translator = model(cell=cell, attention=attention, num_layers=num_layers)
    source, target = ids(), ids(length=5)
    alone = translator(source[1:, :4], target[1:, :3])
    right = [torch.arange(length) < torch.tensor([[length], [real]]) for length, real in ((6, 4), (5, 3))]
    left = [mask.flip(1).long() for mask in right]

    padded = translator(source, target, right[0])
    shifted = translator(
        torch.cat([source[:, 4:], source[:, :4]], 1), torch.cat([target[:, 3:], target[:, :3]], 1), *left
    )

    torch.testing.assert_close(padded[1:, :3], alone)
    torch.testing.assert_close(shifted[1:, 2:], alone)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_writing_word_by_word_equals_the_whole(cell, attention):
    translator = model(cell=cell, attention=attention, num_layers=2)
    source, target, mask = ids(), ids(length=5), torch.arange(6) < torch.tensor([[6], [4]])
    memory, steps = translator.begin(source, mask), []
    for place in range(5):
        hidden, memory = translator.decode(target[:, place : place + 1], memory)
        steps.append(translator.logits(hidden))

    torch.testing.assert_close(torch.cat(steps, 1), translator(source, target, mask))


@pytest.mark.parametrize("cell", CELLS)
def test_one_step_reads_as_its_formula(cell):
    translator = model(cell=cell)
    source, target = ids(), torch.tensor([[1], [1]])
    memory = translator.begin(source)
    states, before = memory.context, memory.hidden[0]
    decoder, look = translator.decoder, translator.decoder.cross_attention
    scores = torch.tanh(before[:, None] @ look.query_weight + states @ look.key_weight) @ look.vector
    weights = scores.softmax(1)
    context = (weights[:, :, None] * states).sum(1)
    word = translator.target_words(target)[:, 0]
    given = (before, memory.cells[0]) if cell == "lstm" else before
    after = decoder.cells[0](torch.cat([word, context], 1), given)
    after = after[0] if cell == "lstm" else after
    ready = torch.tanh(decoder.transform(torch.cat([after, context, word], 1)))

    expected = ready @ translator.target_words.weight.T / 8**0.5
    torch.testing.assert_close(translator(source, target)[:, 0], expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_no_word_sees_a_later_one(attention):
    translator, source, target = model(attention=attention), ids(), ids(length=5)
    changed = target.clone()
    changed[:, 3:] = 4

    torch.testing.assert_close(translator(source, target)[:, :3], translator(source, changed)[:, :3], rtol=0, atol=0)


def test_memory_of_chosen_rows_is_that_of_those_rows():
    translator, source, target = model(cell="lstm"), ids(3), ids(3, 4)
    rows, mask = torch.tensor([2, 0, 2]), torch.arange(6) < torch.tensor([[6], [4], [2]])
    _, memory = translator.decode(target, translator.begin(source, mask))
    _, chosen = translator.decode(target[rows], translator.begin(source[rows], mask[rows]))

    taken = memory.take(rows)

    for name in ("context", "padding", "hidden_key", "hidden", "cells"):
        torch.testing.assert_close(getattr(taken, name), getattr(chosen, name))


def test_watch_sees_where_the_decoder_looks():
    translator, source, target = model(), ids(), ids(length=5)
    mask = torch.arange(6) < torch.tensor([[6], [4]])
    plain = translator(source, target, mask)

    with watch(translator, ["entropy", "effective_keys"]) as view:
        seen = translator(source, target, mask)

    assert torch.equal(plain, seen)
    [entry] = view.coverage()
    assert (entry.layer, entry.calls, entry.rows, entry.reason) == ("decoder.cross_attention", 5, 10, None)
    assert set(entry.kinds) == {"cross"}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_beam_search_and_greedy_writing_find_what_the_whole_model_says(attention):
    translator, source = model(attention=attention, num_layers=2, cell="lstm"), ids(3)
    mask, start = torch.arange(6) < torch.tensor([[6], [4], [2]]), torch.ones(3, 1, dtype=torch.int64)
    written = start
    for _ in range(5):
        written = torch.cat([written, translator(source, written, mask)[:, -1:].argmax(-1)], 1)

    greedy = generate(translator.session(source, mask), start, max_new_tokens=5)
    beams = beam_search(translator.session(source, mask), start, num_beams=4, max_new_tokens=5, alpha=0.0)

    assert torch.equal(greedy.tokens, written[:, 1:])
    best = beams.tokens[:, 0].clone()
    log_probs = translator(source, torch.cat([start, best[:, :-1]], 1), mask).log_softmax(-1)
    scores = log_probs.gather(2, best[:, :, None]).sum((1, 2))
    torch.testing.assert_close(beams.scores[:, 0], scores.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ties", ["all", "target", "none"])
def test_tied_matrices_are_one(ties):
    translator = model(tied_embeddings=ties)

    matrices = [parameter for parameter in translator.parameters() if parameter.shape == (30, 8)]
    assert len(matrices) == {"all": 1, "target": 2, "none": 3}[ties]
    assert translator(ids(), ids()).shape == (2, 6, 30)


def test_sides_may_have_vocabularies_of_their_own():
    translator = model(target_vocab_size=40, tied_embeddings="target")

    assert translator(ids(), torch.full((2, 3), 39)).shape == (2, 3, 40)
    with pytest.raises(ArgumentError, match=r"input_ids must lie in \[0, 30\)"):
        translator(torch.full((2, 3), 39), ids())


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_fresh_words_are_guessed_about_evenly(attention):
    logits = model(attention=attention)(ids(16, 12), ids(16, 9))

    assert 0 < logits.std().item() < 0.5


def test_learns_to_write_backwards():
    translator = model(embed_dim=16, hidden_dim=32).float().train()
    optimizer = torch.optim.AdamW(translator.parameters(), lr=1e-2)
    for _ in range(200):
        source = torch.randint(3, 30, (32, 5))
        target = torch.cat([torch.ones(32, 1, dtype=torch.int64), source.flip(1)], 1)
        logits = translator(source, target[:, :-1])
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(translator.parameters(), 1.0)
        optimizer.step()

    assert (logits.argmax(2) == target[:, 1:]).float().mean() > 0.9  # of a batch that was not trained on


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "elman"}, "cell must be"),
        ({"attention": "dot"}, "attention must be one of"),
        ({"tied_embeddings": "some"}, "tied_embeddings must be one of"),
        ({"target_vocab_size": 40}, "needs one vocabulary for both sides, got 30 and 40"),
        ({"eos_id": 1}, "eos_id must differ"),
        ({"bos_id": 30}, "must be ids below 30"),
        ({"hidden_dim": 0}, "hidden_dim must be a whole number"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        model(**wrong)


def test_config_survives_a_round_trip():
    config = RecurrentTranslatorConfig(vocab_size=9, cell="lstm", attention="none")

    assert RecurrentTranslatorConfig.from_dict(config.to_dict()) == config
