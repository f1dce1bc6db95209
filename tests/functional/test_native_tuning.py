"""What is measured of the native kernels and what follows from it, on a machine whose times are made up."""

import math
from dataclasses import replace

import pytest
import torch

from regard.functional.impl import native, native_region
from regard.functional.impl.native_region import MOST_DECODED
from regard.functional.impl.native_tuning import LADDERS, PEERS, Ladder, Size, seconds_of, tune

SIZES = tuple(Size(heads=1, q_len=length, kv_len=length, head_dim=4) for length in (8, 16, 32, 64))
WORKS = [size.work for size in SIZES]
FORWARD = Ladder(mode="forward", sizes=SIZES, weight=1)


class Machine:
    """A timer that runs nothing: a call takes as long as its work, native ones by the factor that ``ratio`` says."""

    def __init__(self, ratio=lambda trial: 0.5, speed=1e9):
        self.ratio, self.speed, self.ran, self.seconds = ratio, speed, [], 0.0

    def __call__(self, trial, repeats):
        self.ran.append(trial)
        taken = trial.size.work / self.speed * (self.ratio(trial) if trial.impl == "native" else 1.0) * repeats
        self.seconds += taken
        return taken


def tuned(machine, *ladders, **options):
    return tune(ladders=ladders or (FORWARD,), dtypes=("float32",), timer=machine, **options)


@pytest.mark.parametrize(
    ("ratios", "least"),
    [
        ((0.5, 0.5, 0.5, 0.5), WORKS[0]),
        ((2.0, 2.0, 0.9, 0.5), WORKS[2]),
        ((0.5, 0.5, 1.2, 0.5), WORKS[3]),
        ((0.5, 0.5, 0.5, 1.1), None),
        ((2.0, 2.0, 2.0, 2.0), None),
        ((2.0, 1.0, 0.9, 0.5), WORKS[2]),
    ],
)
def test_the_least_work_is_that_from_which_every_larger_size_is_won(ratios, least):
    by_work = dict(zip(WORKS, ratios, strict=True))
    tuning = tuned(Machine(lambda trial: by_work[trial.size.work]))
    assert tuning.region.forward == {"float32": least}
    assert [rung.ratio for rung in tuning.rungs] == pytest.approx(ratios)
    assert tuning.num_left_out == 0


def test_a_size_that_is_lost_is_not_won_by_another_of_the_same_work():
    lost, won = Size(heads=1, q_len=1, kv_len=64), Size(heads=1, q_len=8, kv_len=8)
    ladder = Ladder(mode="decode", sizes=(lost, won), weight=1)
    tuning = tuned(Machine(lambda trial: 2.0 if trial.size == lost else 0.5), ladder)
    assert lost.work == won.work
    assert tuning.region.decode == {"float32": None}


def test_decoding_may_lose_where_long_queries_win():
    decode = Ladder(mode="decode", sizes=tuple(replace(size, q_len=1) for size in SIZES), weight=1)
    tuning = tuned(Machine(lambda trial: 2.0 if trial.mode == "decode" else 0.5), decode, FORWARD)
    assert tuning.region.decode == {"float32": None}
    assert tuning.region.least_work(torch.float32, trains=False, q_len=1) is None
    assert tuning.region.least_work(torch.float32, trains=False, q_len=MOST_DECODED + 1) == WORKS[0]


def test_types_and_modes_are_judged_one_by_one():
    training = replace(FORWARD, mode="training")
    machine = Machine(lambda trial: 0.5 if (trial.mode, trial.dtype) == ("training", "bfloat16") else 3.0)
    region = tune(ladders=(FORWARD, training), dtypes=("float32", "bfloat16"), timer=machine).region
    assert region.forward == {"float32": None, "bfloat16": None}
    assert region.training == {"float32": None, "bfloat16": WORKS[0]}
    assert region.decode == {}


def test_peers_run_in_turn_and_each_round_begins_with_the_other():
    machine = Machine()
    tuning = tuned(machine, replace(FORWARD, sizes=SIZES[:1]))
    warm_ups, rounds = [trial.impl for trial in machine.ran[:4]], [trial.impl for trial in machine.ran[4:]]
    assert sorted(warm_ups) == sorted(PEERS * 2)
    assert rounds == [*PEERS, *reversed(PEERS)] * (len(rounds) // 4) + list(PEERS) * (len(rounds) % 4 // 2)
    assert len(rounds) == 2 * tuning.rungs[0].num_rounds


def test_a_ratio_is_taken_within_its_round():
    slow = {"moment": 1.0}

    def drifting(trial, repeats):
        slow["moment"] *= 1.05  # the machine slows from call to call, so that times alone say nothing
        return slow["moment"] * (0.9 if trial.impl == "native" else 1.0) * repeats

    tuning = tune(ladders=(replace(FORWARD, sizes=SIZES[:1]),), dtypes=("float32",), timer=drifting, limit_s=1e4)
    assert tuning.rungs[0].ratio == pytest.approx(0.9, rel=0.06)
    assert tuning.region.forward == {"float32": WORKS[0]}


@pytest.mark.parametrize(("worst", "won"), [(1.2, False), (0.95, True)])
def test_a_size_whose_rounds_disagree_is_not_won(worst, won):
    """The median of the ratios is 0.9 either way; a third of the rounds is slower."""
    rounds = {"native": 0}

    def noisy(trial, repeats):
        rounds["native"] += trial.impl == "native"
        slow = rounds["native"] % 3 == 0
        return (worst if slow else 0.9) * repeats if trial.impl == "native" else 1.0 * repeats

    tuning = tune(ladders=(replace(FORWARD, sizes=SIZES[:1]),), dtypes=("float32",), timer=noisy, limit_s=1e4)
    assert tuning.rungs[0].ratio == pytest.approx(0.9)
    assert tuning.rungs[0].upper_ratio == pytest.approx(worst)
    assert tuning.region.forward == {"float32": WORKS[0] if won else None}


def test_a_slow_machine_leaves_the_longest_out_and_keeps_to_the_limit():
    machine = Machine(speed=4000.0)
    told = []
    tuning = tuned(machine, limit_s=20.0, tell=lambda ladder, dtype, size: told.append((ladder.mode, dtype, size.work)))
    measured = [rung.size.work for rung in tuning.rungs]
    assert measured == WORKS[: len(measured)]
    assert 0 < len(measured) < len(WORKS)
    assert tuning.num_left_out == len(WORKS) - len(measured)
    assert machine.seconds < 20.0
    assert told == [("forward", "float32", work) for work in WORKS]


def test_time_that_a_ladder_leaves_goes_to_those_after_it():
    short = replace(FORWARD, sizes=SIZES[:1])
    machine = Machine(speed=4000.0)
    alone = tuned(machine, FORWARD, limit_s=20.0)
    after = tuned(machine, short, FORWARD, limit_s=20.0 + 2.0)
    assert len(after.rungs) == 1 + len(alone.rungs)


def test_the_ladders_cover_what_they_are_for():
    for ladder in LADDERS:
        works = [size.work for size in ladder.sizes]
        assert works == sorted(works)
        assert all((size.q_len <= MOST_DECODED) == (ladder.mode == "decode") for size in ladder.sizes) or (
            ladder.mode == "training"
        )
    decode, forward, training = LADDERS
    assert (decode.mode, forward.mode, training.mode) == ("decode", "forward", "training")
    assert forward.sizes[-1].work == training.sizes[-1].work == 12 * 2048 * 2048 * 64
    assert [math.floor(math.log2(ladder.sizes[0].work)) for ladder in LADDERS] == [15, 14, 14]
    assert [size.kv_len for size in decode.sizes if size.q_len == 1] == [512, 1024, 2048, 4096, 8192]


def test_a_limit_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"limit_s must be above 0, got 0"):
        tune(limit_s=0.0)


@pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")
def test_the_calls_are_those_that_the_region_is_for(monkeypatch):
    asked = []
    monkeypatch.setattr(native_region, "this_machine", lambda: asked.append(None))
    seen = {}

    def run(trial, repeats):
        result = trial.run()
        seen[trial.mode, trial.impl] = result if isinstance(result, tuple) else (result,)
        return seconds_of(trial, repeats)

    training = replace(FORWARD, mode="training", sizes=SIZES[1:2])
    tune(ladders=(replace(FORWARD, sizes=SIZES[1:2]), training), dtypes=("bfloat16",), timer=run, limit_s=0.1)
    assert {key: len(value) for key, value in seen.items()} == {
        ("forward", "native"): 1,
        ("forward", "sdpa"): 1,
        ("training", "native"): 3,
        ("training", "sdpa"): 3,
    }
    for mode in ("forward", "training"):
        for one, other in zip(seen[mode, "native"], seen[mode, "sdpa"], strict=True):
            assert one.dtype == torch.bfloat16
            torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
    assert not asked
