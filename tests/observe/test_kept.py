"""Weights on request equal the dense ones, by index and by word."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from regard._errors import ArgumentError
from regard.functional import reference
from regard.observe import materialised
from regard.observe.calls import AttentionCall
from regard.observe.kept import Kept, explain

BATCH, HEADS, KV_HEADS, LENGTH, WIDTH = 2, 4, 2, 6, 8
TOKENS = [["[CLS]", "the", "bull", "##dog", "bites", "[SEP]"], ["the", "the", "man", "bites", "dogs", "[PAD]"]]


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int, length: int = LENGTH) -> Tensor:
        return torch.randn(BATCH, heads, length, WIDTH, generator=generator, dtype=torch.float64)

    return {"query": 2 * draw(HEADS), "key": draw(KV_HEADS), "value": draw(KV_HEADS)}


def masking(name: str) -> dict[str, Any]:
    mask = torch.ones(BATCH, 1, 1, LENGTH, dtype=torch.bool)
    mask[1, ..., -1] = False
    rows = torch.rand(BATCH, HEADS, LENGTH, LENGTH, generator=torch.Generator().manual_seed(1)) < 0.7
    rows[:, :, 2] = False  # a row without any key
    bias = torch.randn(HEADS, 1, LENGTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)[None]
    return {
        "none": {},
        "causal": {"causal": True},
        "padding": {"attn_mask": mask},
        "rows": {"attn_mask": rows},
        "bias": {"attn_bias": bias, "scale": 0.3, "softcap": 5.0},
    }[name]


MASKINGS = ["none", "causal", "padding", "rows", "bias"]


def scores_of(name: str) -> Tensor:
    given = tensors()
    return reference.scores(given["query"], given["key"], **masking(name))


def kept_of(name: str, kind: str, **tokens: Any) -> Kept:
    """Keep a call that is described by query and key, with its lse or without, or by its scores."""
    given = tensors()
    if kind == "scores":
        # Models put the type's most negative number where they forbid.
        scores = scores_of(name).clamp_min(torch.finfo(torch.float64).min)
        call = AttentionCall(scores=scores, value=given["value"], kernel="eager")
    else:
        lse = reference.lse(scores_of(name)) if kind == "lse" else None
        call = AttentionCall(**given, **masking(name), lse=lse, kernel="math")
    return Kept(call=call, **tokens)


def named(name: str = "none", kind: str = "query and key") -> Kept:
    return kept_of(name, kind, query_tokens=TOKENS, key_tokens=TOKENS)


KINDS = pytest.mark.parametrize("kind", ["query and key", "lse", "scores"])
EVERY_MASKING = pytest.mark.parametrize("name", MASKINGS)


@KINDS
@EVERY_MASKING
def test_any_block_equals_the_dense_weights(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(materialised, "_AT_ONCE", 20)
    dense = reference.weights(scores_of(name))
    kept = kept_of(name, kind)
    wanted = [(None, None), ([4, 0, 2], [5, 1]), (slice(1, 5, 2), None), (None, slice(-3, None)), ([2], slice(0, 2))]
    for sequence in range(BATCH):
        for head in range(HEADS):
            for rows, keys in wanted:
                expected = dense[sequence, head]
                expected = expected if rows is None else expected[rows]
                expected = expected if keys is None else expected[:, keys]
                found = kept.weights(head, sequence=sequence, rows=rows, keys=keys)
                torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)


@KINDS
def test_queries_of_another_text_have_their_own_length(kind: str) -> None:
    given = tensors()
    query = given["query"][:, :, :2]
    scores = reference.scores(query, given["key"])
    call = AttentionCall(query=query, key=given["key"], kernel="math")
    if kind == "scores":
        call = AttentionCall(scores=scores, kernel="eager")
    elif kind == "lse":
        call = replace(call, lse=reference.lse(scores))
    kept = Kept(call=call, query_tokens=[["le", "chien"], ["un", "homme"]], key_tokens=TOKENS)
    dense = reference.weights(scores)
    torch.testing.assert_close(kept.weights(1, sequence=1), dense[1, 1])
    pair = kept.between("chien", "bulldog")
    torch.testing.assert_close(pair.there, dense[0, :, 1, 2:4].sum(-1))
    assert pair.back.isnan().all()
    reverse = kept.between("bulldog", "chien")
    assert (reverse.word, reverse.other) == ("bulldog", "chien")
    assert reverse.there.isnan().all()
    torch.testing.assert_close(reverse.back, pair.there)


@KINDS
@EVERY_MASKING
def test_top_keys_are_the_heaviest_of_the_row(name: str, kind: str) -> None:
    dense = reference.weights(scores_of(name))
    kept = named(name, kind)
    norms = tensors()["value"].norm(dim=-1).repeat_interleave(HEADS // KV_HEADS, 1)
    for sequence in range(BATCH):
        for head in range(HEADS):
            for query in range(LENGTH):
                row = dense[sequence, head, query]
                found = kept.top(head, query, sequence=sequence, k=4)
                order = [key for key in row.argsort(descending=True).tolist() if row[key] > 0][:4]
                assert [one.key for one in found] == order
                assert [one.token for one in found] == [TOKENS[sequence][key] for key in order]
                assert [one.weight for one in found] == pytest.approx(row[order].tolist(), rel=1e-9)
                parts = row * norms[sequence, head]
                expected = (parts / parts.sum())[order].tolist()
                assert [one.contribution for one in found] == pytest.approx(expected, rel=1e-9)


def test_top_keys_of_a_word_are_those_of_its_tokens_on_average() -> None:
    row = reference.weights(scores_of("none"))[0, 3, 2:4].mean(0)
    found = named().top(3, "BULLDOG", k=99)
    assert len(found) == LENGTH
    assert [one.weight for one in found] == pytest.approx(row.sort(descending=True).values.tolist(), rel=1e-9)
    assert sum(one.contribution or 0.0 for one in found) == pytest.approx(1)


def test_without_tokens_and_values_those_are_none() -> None:
    given = tensors()
    kept = Kept(call=AttentionCall(query=given["query"], key=given["key"], kernel="math"))
    (first,) = kept.top(0, 0, k=1)
    assert (first.token, first.contribution) == (None, None)


@KINDS
@EVERY_MASKING
def test_weights_to_a_word_are_summed_and_from_a_word_averaged(name: str, kind: str) -> None:
    dense = reference.weights(scores_of(name))[0]
    found = named(name, kind).between("bulldog", "bites")
    assert (found.word, found.other) == ("bulldog", "bites")
    torch.testing.assert_close(found.there, dense[:, 2:4, 4].mean(-1), atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(found.back, dense[:, 4, 2:4].sum(-1), atol=1e-12, rtol=1e-10)


def test_weights_from_a_word_to_all_words_sum_to_one() -> None:
    kept = named("causal")
    words = ["[CLS]", "the", "bulldog", "bites", "[SEP]"]
    total = torch.stack([kept.between("bulldog", other).there for other in words]).sum(0)
    torch.testing.assert_close(total, torch.ones(HEADS, dtype=torch.float64))


def test_a_word_that_is_there_twice_is_named_by_index() -> None:
    kept = named()
    with pytest.raises(ArgumentError, match=r"got 'The' at the tokens \[0, 1\]; give one of them"):
        kept.between("The", "man", sequence=1)
    found = kept.between(1, "man", sequence=1)
    assert (found.word, found.other) == ("the", "man")
    torch.testing.assert_close(found.there, reference.weights(scores_of("none"))[1, :, 1, 2])


def dense_similarity(measure: str, name: str, counted: Tensor) -> Tensor:
    """Average over sequences what the definitions say, from dense weights."""
    scores = scores_of(name)
    weights = reference.weights(scores)
    seen = (scores > -torch.inf).any(-1) & counted[:, None]
    found = torch.empty(BATCH, HEADS, HEADS, dtype=torch.float64)
    for sequence in range(BATCH):
        for a in range(HEADS):
            for b in range(HEADS):
                p, q = (weights[sequence, head][counted[sequence]] for head in (a, b))
                if measure == "cosine":
                    found[sequence, a, b] = (p * q).sum() / math.sqrt(float(p.square().sum() * q.square().sum()))
                else:
                    terms = torch.where(p > 0, p * (p / q).log(), 0.0)
                    found[sequence, a, b] = terms.sum() / seen[sequence, a].sum()
    return found.mean(0)


@KINDS
@EVERY_MASKING
@pytest.mark.parametrize("measure", ["cosine", "kl"])
def test_redundancy_equals_that_of_the_dense_maps(
    measure: str, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(materialised, "_AT_ONCE", 50)
    counted = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    if name == "padding":
        counted[1, -1] = False
    kept = kept_of(name, kind, query_mask=counted)
    torch.testing.assert_close(kept.redundancy(measure), dense_similarity(measure, name, counted), atol=1e-9, rtol=1e-9)


def test_padding_that_the_mask_shows_does_not_count() -> None:
    given = kept_of("padding", "lse")
    counted = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    counted[1, -1] = False
    torch.testing.assert_close(given.redundancy("kl"), replace(given, query_mask=counted).redundancy("kl"))
    everything = replace(given, query_mask=torch.ones_like(counted)).redundancy("kl")
    assert not torch.allclose(given.redundancy("kl"), everything)


@pytest.mark.parametrize("kind", ["query and key", "scores"])
def test_heads_without_rows_have_no_similarity(kind: str) -> None:
    nothing = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
    for measure in ("cosine", "kl"):
        assert kept_of("none", kind, query_mask=nothing).redundancy(measure).isnan().all()
    one = nothing.clone()
    one[0, 0] = True  # a sequence without rows is left out of the mean
    assert kept_of("none", kind, query_mask=one).redundancy("cosine").isfinite().all()


def test_half_precision_scores_are_softened_in_float32() -> None:
    scores = torch.tensor([[[[1.0, 2.0, torch.finfo(torch.float16).min]]]], dtype=torch.float16)
    found = Kept(call=AttentionCall(scores=scores, kernel="eager")).weights(0)
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0]]).softmax(-1) @ torch.eye(2, 3))


def test_the_whole_matrix_is_never_made_for_a_block() -> None:
    length = 20_000  # its weights would take 3.2 GB
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, length, 4, generator=generator) for _ in range(2))
    kept = Kept(call=AttentionCall(query=query, key=key, kernel="math", causal=True))
    found = kept.weights(1, rows=[length - 1, 3], keys=[0, 7])
    last = (query[0, 1, -1] @ key[0, 1].mT / 2).softmax(-1)
    torch.testing.assert_close(found[0], last[[0, 7]])
    assert found[1, 1] == 0


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda kept: kept.weights(4), "head must lie in 0 to 3, got 4"),
        (lambda kept: kept.weights(0, sequence=2), "sequence must lie in 0 to 1, got 2"),
        (lambda kept: kept.weights(0, rows=[6]), "rows must lie in 0 to 5, got 6"),
        (lambda kept: kept.weights(0, keys=torch.tensor([-1])), "keys must lie in 0 to 5, got -1"),
        (lambda kept: kept.weights(0, keys=slice(3, 0, -1)), "keys must be a slice that goes forwards"),
        (lambda kept: kept.top(0, 6), "query must lie in 0 to 5, got 6"),
        (lambda kept: kept.top(0, 0, k=0), "k must be at least 1 key, got 0"),
        (lambda kept: kept.top(0, "cat"), r"got 'cat'; there are: \[CLS\], the, bulldog, bites, \[SEP\]"),
        (lambda kept: kept.between("cat", "bites"), "got 'cat'; there are:"),
        (lambda kept: kept.between("bites", 6), "key must lie in 0 to 5, got 6"),
        (lambda kept: kept.between("bites", "the", sequence=-1), "sequence must lie in 0 to 1, got -1"),
        (lambda kept: kept.redundancy("kl "), 'measure must be "cosine" or "kl"'),
        (lambda kept: replace(kept, key_tokens=None).between("bites", "the"), "need the tokens of the key side"),
        (
            lambda kept: replace(kept, query_tokens=[["a"]] * 2),
            r"query_tokens must be 2 sequences of 6 tokens, got \[1",
        ),
        (lambda kept: replace(kept, query_mask=torch.ones(2, 1)), r"query_mask must be \(batch, q_len\) = \(2, 6\)"),
    ],
)
@pytest.mark.parametrize("kind", ["query and key", "scores"])
def test_what_cannot_be_answered_is_refused(kind: str, asked: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        asked(named(kind=kind))


def layers() -> dict[str, Kept]:
    return {"block.0": named(), "block.1": named("causal")}


def test_an_explanation_holds_every_layer_and_head_both_ways() -> None:
    found = explain(layers(), "bulldog", "bites")
    assert len(found.table()) == 2 * 2 * HEADS
    dense = reference.weights(scores_of("causal"))[0]
    (row,) = found.table().where(layer="block.1", head=2)[1:]
    assert row == {
        "query": "bites",
        "key": "bulldog",
        "layer": "block.1",
        "head": 2,
        "weight": pytest.approx(float(dense[2, 4, 2:4].sum())),
    }
    strongest = found.strongest(3)
    assert len(strongest) == 6
    forwards = [row["weight"] for row in found.table() if row["query"] == "bulldog"]
    assert [row["weight"] for row in strongest[:3]] == sorted(forwards, reverse=True)[:3]


def test_an_explanation_reads_well() -> None:
    found = explain(layers(), "Bulldog", "bites")
    lines = str(found).splitlines()
    assert lines[0] == "bulldog → bites: percent of its weight that 'bulldog' puts on 'bites'"
    best = found.strongest(1)[0]
    assert lines[1].startswith(f"strongest: {100 * best['weight']:.0f} % {best['layer']} head {best['head']}, ")
    assert lines[2].split() == ["layer", "0", "1", "2", "3"]
    weights = found.layers["block.0"].there
    assert lines[3].split() == ["block.0", *(f"{100 * weight:.0f}" for weight in weights.tolist())]
    assert lines[4].split() == ["block.1", "0", "0", "0", "0"]  # a causal layer does not look ahead
    assert lines[6].startswith("bites → bulldog: ")


def test_layers_without_the_pair_are_left_out_by_name() -> None:
    other = replace(named(), query_tokens=[["x"] * LENGTH] * 2, key_tokens=[["y"] * LENGTH] * 2)
    found = explain({**layers(), "decoder": other}, "bulldog", "bites")
    assert list(found.layers) == ["block.0", "block.1"]
    assert "got 'bulldog'; there are: x" in found.left_out["decoder"]
    assert "left out: decoder: A word of the sentence is needed" in str(found)


def test_a_direction_that_no_layer_has_is_said() -> None:
    cross = replace(named(), key_tokens=[["le", "chien", "mord", "un", "homme", "."]] * 2)
    found = explain({"cross": cross}, "bulldog", "chien")
    assert len(found.table()) == HEADS
    assert "no layer has this pair as query and key" in str(found)


def test_a_pair_that_no_layer_has_is_refused() -> None:
    with pytest.raises(ArgumentError, match="got 'cat'; there are"):
        explain(layers(), "cat", "bites")
    with pytest.raises(ArgumentError, match="at least one kept layer, got none"):
        explain({}, "a", "b")
