"""`regard doctor` tells what is there and in force, what is broken, and keeps what it measured."""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regard.cli import installation, openmp
from regard.cli.openmp import OpenMP
from regard.functional import kernels
from regard.functional.impl import native, native_region
from regard.functional.impl.native_region import Conditions, Region, load_region

Command = Callable[..., tuple[int, str, str]]
needs_native = pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")


@pytest.fixture(autouse=True)
def region_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where figures are kept meanwhile; what an earlier process measured does not count."""
    path = tmp_path / "caches" / "region.json"
    monkeypatch.setenv("REGARD_REGION", str(path))
    native_region._read_once.cache_clear()
    yield path
    native_region._read_once.cache_clear()


@pytest.fixture
def one_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process have loaded one OpenMP runtime, whatever other tests have imported."""
    found = OpenMP(loaded=("torch/lib/libgomp.so.1",), bundled=("scikit_learn.libs/libgomp-e9.so.1.0.0",))
    monkeypatch.setattr(OpenMP, "of_this_process", lambda packages: found)


@pytest.fixture
def made_up_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass: bfloat16 is won, float32 from 2²¹ on, float16 never; only short sizes are measured."""

    def timer(trial, repeats):
        won = {"float32": trial.size.work >= 1 << 21, "bfloat16": True, "float16": False}[trial.dtype]
        return trial.size.work * 1e-8 * (0.5 if won and trial.impl == "native" else 1.0) * repeats

    def linear_timer(trial):
        won = {"float32": trial.rows <= 4, "bfloat16": True}[trial.dtype]
        return 0.5 if won and trial.peer == "native" else 1.0

    short = [replace(ladder, sizes=tuple(s for s in ladder.sizes if s.kv_len <= 1024)) for ladder in kernels.LADDERS]
    monkeypatch.setattr(kernels, "tune_linear", functools.partial(kernels.tune_linear, linear_timer))
    monkeypatch.setattr(kernels, "tune", functools.partial(kernels.tune, ladders=short, timer=timer, limit_s=1e5))


@pytest.fixture
def no_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let regard find no native kernels."""
    for module in (kernels, native):
        monkeypatch.setattr(module, "native_available", lambda: False)


@pytest.fixture
def wrong_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the native kernels compute something else."""
    found = kernels.NativeKernels(version="0.0", problem="The native kernels must agree with float64.")
    monkeypatch.setattr(kernels, "native_kernels", lambda: found)


@needs_native
@pytest.mark.usefixtures("one_runtime")
def test_it_tells_what_is_installed_and_in_force(regard_command: Command) -> None:
    code, out, err = regard_command("doctor")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert any(line.split() == ["torch", torch.__version__] for line in lines)
    assert any(
        line.startswith("native kernels  ") and f", right; {native.instruction_set()} of " in line for line in lines
    )
    assert "OpenMP          torch/lib/libgomp.so.1" in lines
    assert "OpenMP          scikit_learn.libs/libgomp-e9.so.1.0.0, once its package is imported" in lines
    assert len([line for line in lines if line.startswith("cpu  ")]) == 6
    assert "broken" not in out.lower()
    assert "warning" not in out


@needs_native
@pytest.mark.usefixtures("one_runtime")
def test_json_holds_the_same(regard_command: Command, region_file: Path) -> None:
    figures = {"forward": {"float32": None, "bfloat16": 1}, "training": {"float32": 1}}
    Region(**figures, conditions=Conditions.now()).save(region_file)
    code, out, _ = regard_command("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["versions"]["torch"] == torch.__version__
    assert found["native"]["chosen"] == native.instruction_set()
    assert found["region"]["origin"] == "measured"
    assert found["region"]["path"] == str(region_file)
    assert found["region"]["figures"]["decode"] is None
    assert found["problems"] == found["warnings"] == []
    taken = {
        (choice["dtype"], choice["training"]): choice["impl"]
        for choice in found["choices"]
        if choice["device"] == "cpu"
    }
    assert taken == {
        ("float32", False): "sdpa",
        ("float32", True): "native",
        ("bfloat16", False): "native",
        ("bfloat16", True): "sdpa",
        ("float16", False): "sdpa",
        ("float16", True): "sdpa",
    }


@needs_native
@pytest.mark.parametrize(
    ("amx", "chosen", "told"),
    [
        (False, "avx512_bf16", "region          built in for "),
        (
            True,
            "avx512_bf16",
            'region          none for this processor, so that impl="auto" never takes native kernels; ',
        ),
        (True, "amx_bf16", "region          none for this processor, "),
        (False, "portable", "measure: `regard doctor --tune`\n"),
    ],
)
def test_it_tells_where_the_figures_come_from(
    regard_command: Command, monkeypatch: pytest.MonkeyPatch, amx: bool, chosen: str, told: str
) -> None:
    monkeypatch.setattr(native_region, "has_amx", lambda: amx)
    monkeypatch.setattr(native_region, "instruction_set", lambda: chosen)
    code, out, _ = regard_command("doctor")
    assert code == 0
    assert told in out


@needs_native
@pytest.mark.usefixtures("one_runtime")
@pytest.mark.parametrize("change", [{"torch": "1.0"}, {"threads": 999}, {"instruction_set": "other"}, None], ids=str)
def test_figures_of_other_conditions_are_told_and_not_used(
    regard_command: Command, region_file: Path, change: dict[str, Any] | None
) -> None:
    conditions = None if change is None else replace(Conditions.now(), **change)
    everything = dict.fromkeys(kernels.DTYPES, 1)
    Region(forward=everything, training=everything, conditions=conditions).save(region_file)
    code, out, _ = regard_command("doctor", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["region"]["origin"] in ("built in", "none")
    assert found["region"]["figures"]["forward"] != everything
    (warning,) = found["warnings"]
    under = "what is not known" if conditions is None else str(conditions)
    assert warning == (
        f"{region_file} must have been measured under {Conditions.now()} to be used, got {under}; "
        "measure again: `regard doctor --tune`."
    )
    text = regard_command("doctor")[1]
    assert f"\nwarning: {warning}" in text
    assert "region          measured" not in text


@needs_native
def test_a_broken_region_is_told_and_can_be_removed(regard_command: Command, region_file: Path) -> None:
    region_file.parent.mkdir()
    region_file.write_text("{}")
    code, out, _ = regard_command("doctor")
    assert code == 1
    assert f"region          {region_file}, BROKEN" in out
    assert f"\nbroken: {region_file} must hold what `regard doctor --tune` wrote, got something else" in out
    assert 'impl="auto" takes' not in out
    assert regard_command("doctor", "--reset")[:2] == (0, f"{region_file} is removed.\n")
    assert regard_command("doctor")[0] == 0


@pytest.mark.usefixtures("wrong_native")
def test_native_kernels_that_are_wrong_are_told(regard_command: Command) -> None:
    code, out, _ = regard_command("doctor")
    assert code == 1
    assert "native kernels  0.0, BROKEN" in out
    assert "region          not read without native kernels that work" in out
    assert "broken: The native kernels must agree with float64." in out
    assert json.loads(regard_command("doctor", "--json")[1])["problems"] == [
        "The native kernels must agree with float64."
    ]


@pytest.mark.usefixtures("no_native", "one_runtime")
def test_what_is_not_installed_is_not_broken(regard_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    code, out, _ = regard_command("doctor")
    assert code == 0
    assert "native kernels  not installed: pip install ./native" in out
    assert "region          not needed without native kernels that work" in out
    assert 'lightning          –  callbacks for Lightning: pip install "regard[lightning]"' in out
    assert "polars             –  tables as polars data frames: pip install polars" in out
    assert "sdpa" in out


def test_accelerators_are_named_and_asked_once_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    devices = installation._devices()
    assert list(devices) == ["cpu", "cuda:0", "cuda:1"]
    assert devices["cuda:1"] == "GPU 1"
    choices = list(installation._choices({"meta:0": "any", "meta:1": "any"}))
    assert len(choices) == 3 * 2 * 3
    assert {(choice.device, choice.impl) for choice in choices} == {("meta", "sdpa")}


@pytest.mark.usefixtures("no_native")
def test_two_runtimes_are_a_warning(regard_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    two = OpenMP(loaded=("other/libgomp.so.1", "torch/lib/libgomp.so.1"))
    monkeypatch.setattr(OpenMP, "of_this_process", lambda packages: two)
    code, out, _ = regard_command("doctor")
    assert code == 0
    assert (
        "\nwarning: One OpenMP runtime should be loaded, got other/libgomp.so.1, torch/lib/libgomp.so.1, whose" in out
    )
    assert out.endswith("pytorch/issues/98836); start with LD_PRELOAD=torch/lib/libgomp.so.1.\n")


def test_runtimes_are_read_from_the_process_and_from_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, theirs = tmp_path / "torch" / "lib" / "libgomp.so.1", tmp_path / "sklearn.libs" / "libgomp-e9.so.1.0.0"
    for path in (own, theirs, theirs.with_name("libgompletely.so")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    maps = tmp_path / "maps"
    monkeypatch.setattr(openmp, "_MAPS", maps)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("LD_PRELOAD", raising=False)

    def found(*paths: Path) -> OpenMP:
        lines = [f"7f0{number}-7f1 r-xp 00000000 08:01 {number}    {path}" for number, path in enumerate(paths)]
        maps.write_text(
            "\n".join([*lines, "7f00-7f01 rw-p 00000000 00:00 0", "7f00-7f01 rw-p 00000000 00:00 0 [heap]"])
        )
        return OpenMP.of_this_process(tmp_path)

    assert found() == OpenMP(loaded=(), bundled=(str(theirs),))
    assert found(own, own) == OpenMP(loaded=(str(own),), bundled=(str(theirs),))
    assert found(own).warning is None
    both = found(own, theirs)
    assert both == OpenMP(loaded=(str(theirs), str(own)))
    assert both.warning is not None
    assert both.warning.endswith(f"start with LD_PRELOAD={own}.")
    monkeypatch.setenv("LD_PRELOAD", f"libother.so:{own}")
    assert found(own, theirs).warning is None


def test_where_the_system_does_not_list_them_runtimes_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert OpenMP.of_this_process(tmp_path) == OpenMP(loaded=None)


@needs_native
@pytest.mark.usefixtures("made_up_times")
def test_tuning_shows_ratios_and_keeps_what_follows(regard_command: Command, region_file: Path) -> None:
    code, out, err = regard_command("doctor", "--tune")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert any(
        line.split() == ["forward", "12", "512", "×", "512", "201,326,592", "0.50", "0.50", "1.00"] for line in lines
    )
    assert any(line.split() == ["forward", "12", "24", "×", "24", "442,368", "1.00", "0.50", "1.00"] for line in lines)
    assert any(line.split()[-3:] == ["–", "–", "–"] for line in lines)
    assert lines[-2] == f'impl="auto" goes by this from now on: {region_file}'
    kept = load_region(region_file)
    assert kept.conditions == Conditions.now()
    assert kept.forward == {"float32": 3_145_728, "bfloat16": 25_600, "float16": None}
    assert kept.decode is not None
    assert kept.decode["float16"] is None
    assert kept.linear == {"float32": 4, "bfloat16": 16}
    assert ["8", "1.00", "0.50", "–"] in [line.split() for line in lines]
    assert "linear    up to 4 rows  up to 16 rows  never" in lines
    native_region._read_once.cache_clear()
    assert f"region          measured: {region_file}" in regard_command("doctor")[1]


@needs_native
@pytest.mark.usefixtures("made_up_times")
def test_tuning_prints_json_and_nothing_else(regard_command: Command, region_file: Path) -> None:
    code, out, _ = regard_command("doctor", "--tune", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["path"] == str(region_file)
    assert found["region"] == json.loads(region_file.read_text())
    assert found["measured_linear"][0] == {"dtype": "float32", "rows": 1, "ratio": 0.5, "upper_ratio": 0.5}
    rung = next(rung for rung in found["measured"] if (rung["mode"], rung["dtype"]) == ("decode", "bfloat16"))
    assert rung["ratio"] == pytest.approx(0.5)
    assert rung["size"] == {"heads": 12, "q_len": 8, "kv_len": 8, "head_dim": 64, "work": 49_152}


@needs_native
@pytest.mark.usefixtures("made_up_times")
def test_figures_that_cannot_be_written_are_shown_all_the_same(
    regard_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REGARD_REGION", str(tmp_path / "file" / "region.json"))
    code, out, err = regard_command("doctor", "--tune")
    assert code == 1
    assert "201,326,592" in out
    assert err.startswith("regard: The figures of this machine need a file that can be written, got '")
    assert err.endswith("region.json; name another one in REGARD_REGION.\n")


@pytest.mark.usefixtures("no_native")
def test_tuning_needs_native_kernels(regard_command: Command, region_file: Path) -> None:
    code, out, err = regard_command("doctor", "--tune")
    assert (code, out) == (1, "")
    assert err.startswith("regard: --tune needs native kernels that work: regard-native is not installed; ")
    assert not region_file.exists()


@pytest.mark.usefixtures("wrong_native")
def test_tuning_refuses_native_kernels_that_are_wrong(regard_command: Command) -> None:
    code, _, err = regard_command("doctor", "--tune")
    assert code == 1
    assert err == "regard: --tune needs native kernels that work: The native kernels must agree with float64.\n"


def test_reset_without_figures_says_so(regard_command: Command, region_file: Path) -> None:
    assert regard_command("doctor", "--reset")[:2] == (0, f"Nothing was measured: there is no {region_file}.\n")
    assert json.loads(regard_command("doctor", "--reset", "--json")[1]) == {"path": str(region_file), "removed": False}


def test_tuning_and_forgetting_at_once_is_refused(regard_command: Command) -> None:
    code, _, err = regard_command("doctor", "--tune", "--reset")
    assert code == 1
    assert "One of --tune and --reset must be given, got both" in err
