"""What the guard reads off a call: of packed sequences from each by itself, of slopes all heads."""

import pytest
import torch

from regard.functional import alibi_slopes
from regard.observe import AttentionCall
from regard.observe.guarding.causes import GuardLimits
from regard.observe.guarding.ears import Heard
from regard.observe.guarding.evidence import numbers_of
from regard.observe.guarding.judge import Judge

HEADS, HEAD_DIM = 2, 4
OFFSETS = torch.tensor([0, 3, 3, 7])


def crossed(size: float) -> AttentionCall:
    """Return two sequences, and an empty one between them, whose keys are as small as their queries are large."""
    query, key = torch.ones(1, HEADS, 7, HEAD_DIM), torch.ones(1, HEADS, 7, HEAD_DIM)
    query[:, :, :3], key[:, :, :3] = size, 1 / size
    query[:, :, 3:], key[:, :, 3:] = 1 / size, size
    return AttentionCall(
        query=query, key=key, value=key, output=torch.ones_like(key), kernel="some", offsets=(OFFSETS, OFFSETS)
    )


def test_packed_sequences_make_no_scores_with_each_other() -> None:
    numbers = numbers_of(Heard.of("layer", crossed(100.0)), GuardLimits().jacobian)
    assert numbers.product == pytest.approx([4.0] * HEADS)
    assert numbers.score == pytest.approx([2.0] * HEADS)


def test_packed_sequences_are_all_looked_at_in_turn() -> None:
    offsets = torch.arange(0, 21, 2)
    x = torch.ones(1, HEADS, 20, HEAD_DIM)
    x[:, :, 18:] = 10.0
    call = AttentionCall(query=x, key=x, value=x, output=x, kernel="some", offsets=(offsets, offsets))
    seen = [numbers_of(Heard.of("layer", call), GuardLimits().jacobian, look).score[0] for look in range(7)]
    assert max(seen) == pytest.approx(200.0)
    assert min(seen) == pytest.approx(2.0)


def test_packed_sequences_without_tokens_say_nothing() -> None:
    nothing = torch.zeros(2, dtype=torch.int64)
    x = torch.zeros(1, HEADS, 0, HEAD_DIM)
    call = AttentionCall(query=x, key=x, value=x, output=x, kernel="some", offsets=(nothing, nothing))
    assert numbers_of(Heard.of("layer", call), GuardLimits().jacobian).score == [0.0, 0.0]


def test_a_fault_of_packed_sequences_is_not_laid_to_scores_that_nobody_computes() -> None:
    call = crossed(1e30)  # with the keys of the other sequence a product would overflow
    assert call.output is not None
    call.output[:, 1, 3:] = torch.nan
    (finding,) = Judge(torch.nn.Identity(), GuardLimits()).fault(1, Heard.of("layer", call))
    assert (finding.cause, finding.heads) == ("unexplained", (1,))


def test_slopes_belong_to_heads_however_many_sequences_there_are() -> None:
    x = torch.ones(8, 8, 3, HEAD_DIM)
    call = AttentionCall(query=x, key=x, value=x, output=x, kernel="some", causal=True, alibi_slopes=alibi_slopes(8))
    assert numbers_of(Heard.of("layer", call), GuardLimits().jacobian).score == pytest.approx([2.0] * 8)
