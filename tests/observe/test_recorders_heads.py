"""What is watched lands in the run folder, a row per step, layer, head and statistic."""

from pathlib import Path

import numpy as np
import pytest
import torch

from regard._errors import RecordError
from regard.modules import MultiHeadAttention
from regard.observe import HeadRecorder, watch
from regard.records import HeadTable, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", recipe="test")


def record(run: Run, **options: object) -> MultiHeadAttention:
    torch.manual_seed(0)
    layer = MultiHeadAttention(16, 4)
    recorder = HeadRecorder(run.heads, flush_rows=16)
    generator = torch.Generator().manual_seed(1)
    with watch(layer, ["entropy", "max_weight"], recorder=recorder, quantiles_every=2, **options):  # type: ignore[arg-type]
        for _ in range(5):
            layer(torch.randn(2, 7, 16, generator=generator))
    recorder.flush()
    return layer


def test_each_step_has_a_row_per_head_and_statistic(run: Run) -> None:
    record(run)
    run.heads.finish()
    found = run.heads.query("SELECT step, statistic, count(*) AS n FROM heads GROUP BY ALL ORDER BY ALL")
    assert found["step"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert set(found["n"].tolist()) == {4}


def test_quantiles_and_standard_errors_are_null_where_they_were_not_taken(run: Run) -> None:
    record(run)
    found = run.heads.query("SELECT DISTINCT step FROM heads WHERE q50 IS NOT NULL ORDER BY step")
    assert found["step"].tolist() == [1, 3, 5]
    assert run.heads.query("SELECT count(se) AS n FROM heads")["n"].tolist() == [0]


def test_sampled_rows_carry_their_standard_error(run: Run) -> None:
    record(run, rows=3)
    found = run.heads.query("SELECT se, num_rows FROM heads")
    assert np.all(found["se"] > 0)
    assert set(found["num_rows"].tolist()) == {3}


def test_how_sequences_differ_is_recorded(run: Run) -> None:
    record(run)
    spread = run.heads.query("SELECT * FROM heads WHERE statistic = 'entropy'")
    assert np.all(spread["sequence_std"] > 0)
    assert np.all((spread["sequence_share"] >= 0) & (spread["sequence_share"] <= 1))
    assert np.all(spread["minimum"] <= spread["sequence_minimum"])
    assert np.all(spread["sequence_minimum"] < spread["mean"])
    assert np.all(spread["mean"] < spread["sequence_maximum"])
    assert np.all(spread["sequence_maximum"] <= spread["maximum"])


def test_calls_of_one_step_are_merged(run: Run) -> None:
    layer = MultiHeadAttention(16, 4)
    recorder = HeadRecorder(run.heads)
    with watch(layer, ["entropy"], recorder=recorder) as view:
        view.at(1)
        layer(torch.randn(2, 7, 16))
        layer(torch.randn(2, 5, 16))
    recorder.flush()
    found = run.heads.query("SELECT step, num_rows FROM heads")
    assert found["step"].tolist() == [1] * 4
    assert set(found["num_rows"].tolist()) == {2 * 7 + 2 * 5}


def test_rows_that_could_not_be_written_are_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = MultiHeadAttention(16, 4)
    recorder = HeadRecorder(run.heads)
    append = HeadTable.append
    monkeypatch.setattr(HeadTable, "append", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with watch(layer, ["entropy"], recorder=recorder):
        layer(torch.randn(2, 7, 16))
        with pytest.raises(RecordError, match="HeadRecorder failed with OSError: disk full"):
            recorder.flush()
        monkeypatch.setattr(HeadTable, "append", append)
        layer(torch.randn(2, 7, 16))
    recorder.close()
    found = run.heads.query("SELECT DISTINCT step FROM heads ORDER BY step")
    assert found["step"].tolist() == [1, 2]


def test_a_step_is_never_split_over_two_parts(run: Run) -> None:
    layer = MultiHeadAttention(16, 4)
    with HeadRecorder(run.heads, flush_rows=1) as recorder, watch(layer, ["entropy"], recorder=recorder) as view:
        for step in (1, 2):
            view.at(step)
            layer(torch.randn(2, 7, 16))
            layer(torch.randn(2, 5, 16))
    found = run.heads.query("SELECT step, num_rows FROM heads ORDER BY step")
    assert found["step"].tolist() == [1] * 4 + [2] * 4
    assert set(found["num_rows"].tolist()) == {2 * 7 + 2 * 5}
    assert len(list((run.folder / "heads").iterdir())) == 2
