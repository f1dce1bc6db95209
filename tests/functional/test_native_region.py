"""Where ``impl="auto"`` takes the native kernels: figures that were measured, and what they hold for."""

import pytest
import torch

from regard.functional import selected_impl
from regard.functional.impl import native_region
from regard.functional.impl.native_region import Conditions, Region, load_region

pytest.importorskip("regard_native", reason="needs regard-native: make native")


def test_auto_counts_the_work_within_a_window(monkeypatch):
    region = Region(forward={"float32": 3000}, training={})
    monkeypatch.setattr(native_region, "this_machine", lambda: region)
    query = torch.randn(1, 1, 20, 8)
    assert selected_impl(query, query, query) == "native"
    assert selected_impl(query, query, query, window=19) == "native"
    assert selected_impl(query, query, query, window=18, causal=True) == "sdpa"


def test_auto_takes_the_native_kernel_where_it_is_measured_to_win(monkeypatch):
    region = Region(forward={"float32": 1000, "bfloat16": None}, training={"float32": 100_000})
    monkeypatch.setattr(native_region, "this_machine", lambda: region)
    few, many = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 16, 8)
    assert selected_impl(few, few, few) == "sdpa"
    assert selected_impl(many, many, many, softcap=1.0, dropout_p=0.5) == "native"
    assert selected_impl(many.bfloat16(), many.bfloat16(), many.bfloat16()) == "sdpa"
    assert selected_impl(many.double(), many.double(), many.double()) == "sdpa"
    trained = many.clone().requires_grad_()
    assert selected_impl(trained, many, many) == "sdpa"
    with torch.no_grad():
        assert selected_impl(trained, many, many) == "native"


def test_few_queries_without_gradients_go_by_figures_of_their_own(monkeypatch):
    region = Region(forward={"float32": 100}, training={"float32": 100}, decode={"float32": 10_000, "bfloat16": 1})
    monkeypatch.setattr(native_region, "this_machine", lambda: region)
    key, most, more = torch.randn(1, 1, 32, 8), torch.randn(1, 1, 16, 8), torch.randn(1, 1, 17, 8)
    longer = key.repeat(1, 1, 3, 1)
    assert selected_impl(most, key, key) == "sdpa"
    assert selected_impl(most, longer, longer) == "native"
    assert selected_impl(more, key, key) == "native"
    assert selected_impl(most.clone().requires_grad_(), key, key) == "native"
    assert selected_impl(most.bfloat16(), key.bfloat16(), key.bfloat16()) == "native"
    assert selected_impl(more.bfloat16(), key.bfloat16(), key.bfloat16()) == "sdpa"
    assert selected_impl(most.half(), key.half(), key.half()) == "sdpa"


def test_a_region_without_figures_for_few_queries_goes_by_those_of_any_number():
    region = Region(forward={"float32": 5}, training={})
    assert region.least_work(torch.float32, trains=False, q_len=1) == 5
    assert region.least_work(torch.float32, trains=True, q_len=1) is None


@pytest.mark.parametrize("decode", [None, {}, {"float16": None, "float32": 7}])
@pytest.mark.parametrize("conditions", [None, Conditions(torch="2.0", threads=3, instruction_set="avx2")], ids=str)
def test_a_region_is_read_back(tmp_path, decode, conditions):
    region = Region(forward={"float32": 3}, training={"bfloat16": None}, decode=decode, conditions=conditions)
    path = tmp_path / "made" / "region.json"
    region.save(path)
    assert load_region(path) == region
    assert [entry.name for entry in path.parent.iterdir()] == ["region.json"]


def test_a_file_from_before_few_queries_were_judged_is_read(tmp_path):
    path = tmp_path / "region.json"
    path.write_text('{"forward": {"float32": 3}, "training": {}}')
    assert load_region(path) == Region(forward={"float32": 3}, training={}, decode=None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"forward": 3}',
        '{"forward": {}}',
        '{"forward": {}, "training": {}, "decode": 3}',
        '{"forward": {"float32": "3"}, "training": {}}',
        '{"forward": {"float32": 0}, "training": {}}',
        '{"forward": {"float32": true}, "training": {}}',
        '{"forward": {}, "training": {}, "conditions": {"torch": "2.0"}}',
        '{"forward": {}, "training": {}, "conditions": 3}',
    ],
)
def test_a_broken_region_is_refused(tmp_path, content):
    path = tmp_path / "region.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"region\.json must hold what `regard doctor --tune` wrote"):
        load_region(path)


@pytest.mark.parametrize(
    ("amx", "chosen", "origin"),
    [
        (False, "avx512_bf16", "built in"),
        (True, "avx512_bf16", "none"),
        (True, "amx_bf16", "none"),
        (False, "amx_bf16", "none"),
        (False, "portable", "none"),
    ],
)
def test_the_figures_say_where_they_come_from(monkeypatch, tmp_path, amx, chosen, origin):
    monkeypatch.setenv("REGARD_REGION", str(tmp_path / "region.json"))
    monkeypatch.setattr(native_region, "has_amx", lambda: amx)
    monkeypatch.setattr(native_region, "instruction_set", lambda: chosen)
    assert native_region.region_origin() == origin
    Region(forward={}, training={}).save(tmp_path / "region.json")
    assert native_region.region_origin() == origin, "nobody knows what it was measured under"
    Region(forward={}, training={}, conditions=Conditions.now()).save(tmp_path / "region.json")
    assert native_region.region_origin() == "measured"


def test_figures_hold_for_the_number_of_threads_that_they_were_measured_with(monkeypatch, tmp_path):
    monkeypatch.setenv("REGARD_REGION", str(tmp_path / "region.json"))
    native_region._read_once.cache_clear()
    measured = Region(forward={"float32": 12345}, training={}, conditions=Conditions.now())
    measured.save(tmp_path / "region.json")
    assert native_region.this_machine() == measured
    torch.set_num_threads(measured.conditions.threads + 1)
    assert native_region.this_machine() != measured
    torch.set_num_threads(measured.conditions.threads)
    assert native_region.this_machine() == measured
    native_region._read_once.cache_clear()


def test_nothing_is_claimed_of_matrix_units_that_nobody_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("REGARD_REGION", str(tmp_path / "region.json"))
    monkeypatch.setattr(native_region, "has_amx", lambda: True)
    monkeypatch.setattr(native_region, "instruction_set", lambda: "amx_bf16")
    monkeypatch.setattr(native_region, "_read_once", native_region._read_once.__wrapped__)
    query = torch.randn(4, 4, 256, 64)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        sized = query.to(dtype)
        assert not native_region.native_wins(sized, sized, sized, trains=False)
        assert not native_region.native_trains(dtype)
    Region(forward={"bfloat16": 1}, training={}, conditions=Conditions.now()).save(tmp_path / "region.json")
    sized = query.bfloat16()
    assert native_region.native_wins(sized, sized, sized, trains=False)
