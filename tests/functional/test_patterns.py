"""What a pattern says of itself agrees with its dense mask: pairs, counts, blocks; and its memory is linear."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regard._errors import ArgumentError, DtypeError
from regard.functional import Pattern, document_mask, patterns, sliding_window_mask
from regard.functional.patterns.pattern import layouts_of

from .patterned import LEN, PATTERNS


@pytest.mark.parametrize("q_len", [LEN, LEN - 77, 1])
@pytest.mark.parametrize("name", PATTERNS)
def test_counts_and_blocks_are_those_of_the_dense_mask(name, q_len):
    pattern = PATTERNS[name]
    mask = pattern.mask(q_len, LEN)[:, 0]
    assert torch.equal(pattern.num_allowed(q_len, LEN), mask.sum(-1))
    assert pattern.num_pairs(q_len, LEN) == int(mask.sum()) <= pattern.num_computed(q_len, LEN)
    for sequence, layout in enumerate(layouts_of(pattern, q_len, LEN)):
        covered, opened = torch.zeros(2, q_len, LEN, dtype=torch.int64)
        for part in layout.parts():
            for keys, is_open in ((part.open, True), (part.masked, False)):
                if keys is not None:
                    block = torch.zeros(q_len, LEN, dtype=torch.int64)
                    block[part.rows] = block[part.rows].index_fill(1, torch.arange(LEN)[keys], 1)
                    covered += block
                    opened += block * is_open
        assert int(covered.max()) <= 1
        assert bool((covered >= mask[sequence]).all())
        assert bool((opened <= mask[sequence]).all())


@pytest.mark.parametrize("name", PATTERNS)
def test_the_lists_of_blocks_hold_every_row_once(name):
    rows = torch.cat([rows for rows, _ in PATTERNS[name].blocks(LEN, LEN)])
    assert torch.equal(rows.sort().values, torch.arange(LEN))


def dense(name: str, length: int) -> Tensor:
    """Write down a pattern from its definition in its paper."""
    apart = torch.arange(length)[:, None] - torch.arange(length)
    if name == "longformer":
        found = apart.abs() < 20
        at = torch.tensor([0, 5, 150, 199])
        found[at], found[:, at] = True, True
        return found
    if name == "sinks":
        return (apart.abs() < 10) | (torch.arange(length) < 2)
    return (apart < 150) & (apart > -3)


@pytest.mark.parametrize("name", ["longformer", "sinks", "uneven window"])
def test_masks_are_what_the_papers_say(name):
    assert torch.equal(PATTERNS[name].mask(LEN, LEN)[0, 0], dense(name, LEN))


def test_windows_and_documents_are_the_masks_of_those_names():
    window = patterns.sliding(7).mask(20, 30)[0, 0]
    assert torch.equal(window, sliding_window_mask(20, 30, window=7, causal=False))
    numbers = torch.randint(0, 3, (2, 40))
    assert torch.equal(patterns.documents(numbers).mask(40, 40), document_mask(numbers))


def test_bigbird_has_its_window_its_global_blocks_and_so_many_at_random():
    block, count = 16, 20
    mask = patterns.bigbird(block * count, block=block, num_window=3, num_global=2, num_random=3, seed=1)
    opened = mask.mask(block * count, block * count)[0, 0][::block, ::block]
    near = (torch.arange(count)[:, None] - torch.arange(count)).abs() <= 1
    assert bool(opened[:2].all())
    assert bool(opened[:, :2].all())
    assert bool(opened[near].all())
    others = opened & ~near
    others[:2], others[:, :2] = False, False
    assert others[2:].sum(-1).tolist() == [3] * (count - 2)
    again = patterns.bigbird(block * count, block=block, num_window=3, num_global=2, num_random=3, seed=1)
    other = patterns.bigbird(block * count, block=block, num_window=3, num_global=2, num_random=3, seed=2)
    whole = mask.mask(block * count, block * count)
    assert torch.equal(again.mask(block * count, block * count), whole)
    assert not torch.equal(other.mask(block * count, block * count), whole)


def built(kind: str, length: int, numbers: tuple[int, int, int]) -> Pattern:
    """Make a pattern of ``kind`` from three numbers from 0."""
    first, second, third = numbers
    if kind == "window":
        return patterns.sliding(1 + first % length, ahead=1 + second % length)
    if kind == "global":
        return patterns.global_tokens([first % length, second], see_all=third % 2 == 0)
    if kind == "blocks":
        pairs = [(first % 7, second % 5), (second % 6, third % 7), (third % 3, first % 4)]
        return patterns.block_sparse(pairs, block=1 + third % 70)
    ids = torch.randint(-2, 1 + second % 9, (length,), generator=torch.Generator().manual_seed(first))
    return patterns.documents(ids if third % 4 == 0 else ids.sort().values)


@st.composite
def parts(draw: st.DrawFn) -> list[tuple[str, tuple[int, int, int], bool]]:
    """Draw what up to three joined patterns are made of, and how they are joined."""
    kinds = st.sampled_from(("window", "global", "blocks", "documents"))
    part = st.tuples(kinds, st.tuples(*[st.integers(0, 400)] * 3), st.booleans())
    return draw(st.lists(part, min_size=1, max_size=3))


def joined(drawn: list[tuple[str, tuple[int, int, int], bool]], length: int) -> Pattern:
    found: Pattern | None = None
    for kind, numbers, both in drawn:
        one = built(kind, length, numbers)
        found = one if found is None else found & one if both else found | one
    assert found is not None
    return found


@given(drawn=parts(), length=st.integers(1, 200), more=st.integers(0, 40))
@settings(max_examples=150)
def test_any_joined_pattern_counts_its_pairs_exactly(drawn, length, more):
    pattern = joined(drawn, length + more)
    mask = pattern.mask(length, length + more)[:, 0]
    assert torch.equal(pattern.num_allowed(length, length + more), mask.sum(-1))


@given(left=parts(), right=parts())
@settings(max_examples=50)
def test_joining_is_the_logic_of_masks(left, right):
    one, other = joined(left, 100), joined(right, 100)
    masks = one.mask(100, 100), other.mask(100, 100)
    assert torch.equal((one & other).mask(100, 100), masks[0] & masks[1])
    assert torch.equal((one | other).mask(100, 100), masks[0] | masks[1])


class Strided(Pattern):
    """A pattern of one's own, by its rule alone: every seventh key."""

    def allows(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (queries - keys) % 7 == 0


def test_a_pattern_of_ones_own_needs_its_rule_alone():
    apart = torch.arange(LEN)[:, None] - torch.arange(LEN)
    joined = Strided() & patterns.sliding(50)
    assert torch.equal(joined.mask(LEN, LEN)[0, 0], (apart % 7 == 0) & (apart.abs() < 50))
    assert joined.num_pairs(LEN, LEN) == int(joined.mask(LEN, LEN).sum())


def test_layouts_are_kept_for_the_next_call_of_these_lengths():
    pattern = patterns.longformer(5, [0])
    first = layouts_of(pattern, 100, 100)
    assert layouts_of(pattern, 100, 100) is first
    assert layouts_of(pattern, 50, 100) is not first


@pytest.mark.parametrize(
    "make", [lambda n: patterns.longformer(64, range(0, n, 4096)), patterns.bigbird], ids=["longformer", "bigbird"]
)
def test_twice_the_length_touches_about_twice_the_blocks(make):
    shorter, longer = (sum(len(keys) for _, keys in make(n).blocks(n, n)) for n in (16_384, 32_768))
    assert 1.9 * shorter < longer < 3.2 * shorter


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: patterns.sliding(0), ArgumentError, "window must be at least 1 key, got 0"),
        (lambda: patterns.sliding(3, ahead=0), ArgumentError, "window must be at least 1 key, got 0"),
        (lambda: patterns.global_tokens([]), ArgumentError, "at least one number from 0"),
        (lambda: patterns.global_tokens([-1]), ArgumentError, "at least one number from 0"),
        (lambda: patterns.block_sparse([(0, 0)], block=0), ArgumentError, "block must be at least 1 token"),
        (lambda: patterns.block_sparse(torch.zeros(2, 3, dtype=torch.int64)), ArgumentError, r"\(pairs, 2\)"),
        (lambda: patterns.bigbird(100, num_window=2), ArgumentError, "an odd num_window"),
        (lambda: patterns.documents(torch.zeros(4)), DtypeError, "must be integers"),
        (lambda: patterns.documents(torch.zeros(1, 1, 4, dtype=torch.int64)), ArgumentError, "kv_len"),
        (
            lambda: (
                patterns.documents(torch.zeros(2, 4, dtype=torch.int64))
                & patterns.documents(torch.zeros(3, 4, dtype=torch.int64))
            ),
            ArgumentError,
            r"tell apart as many sequences, got \[2, 3\]",
        ),
    ],
)
def test_what_is_no_pattern_is_refused(make, error, said):
    with pytest.raises(error, match=said):
        make()
