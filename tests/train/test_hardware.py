"""The device and precision are chosen from what is there, and said."""

import subprocess
import sys

import pytest
import torch

from regard import RegardError
from regard.train import choose_hardware, hardware
from regard.train.hardware import peak_bytes


@pytest.mark.parametrize("native", [True, False])
def test_attention_takes_bfloat16_only_where_the_native_kernels_win_at_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_trains", lambda dtype: native and dtype == torch.bfloat16)
    assert choose_hardware("cpu", "bfloat16").attention_dtype == (None if native else torch.float32)
    assert choose_hardware("cpu", "float32").attention_dtype is None


def test_bfloat16_is_taken_only_where_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(hardware, "_cpuinfo", {"vendor_id": "AuthenticAMD", "model name": "some"}.get)
    monkeypatch.setattr(hardware, "native_trains", lambda dtype: False)
    chosen = choose_hardware("cpu", "auto")
    assert (chosen.precision, chosen.attention_dtype) == (torch.bfloat16, torch.float32)
    assert "AVX-512" in chosen.reason
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    chosen = choose_hardware("cpu", "auto")
    assert (chosen.precision, chosen.attention_dtype) == (torch.float32, None)
    assert "no bfloat16" in chosen.reason


@pytest.mark.parametrize("amx", [True, False])
def test_intels_avx512_is_no_reason_for_bfloat16_but_its_matrix_units_are(
    amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": amx})
    monkeypatch.setattr(hardware, "_cpuinfo", {"vendor_id": "GenuineIntel", "model name": "some"}.get)
    chosen = choose_hardware("cpu", "auto")
    assert chosen.precision == (torch.bfloat16 if amx else torch.float32)
    assert ("AMX" if amx else "slower in bfloat16") in chosen.reason
    assert choose_hardware("cpu", "bfloat16").precision == torch.bfloat16


def test_what_is_asked_for_is_taken_and_said() -> None:
    chosen = choose_hardware("cpu", "float32")
    assert chosen.precision == torch.float32
    assert chosen.reason.startswith("float32 was asked for")


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(RegardError, match="auto, cpu, cuda or cuda:N, got 'tpu9'"):
        choose_hardware("tpu9", "auto")


def test_a_gpu_asked_for_by_name_is_never_replaced_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RegardError, match="needs a GPU that torch can see"):
        choose_hardware("cuda", "auto")


def test_peak_memory_is_that_of_this_program_alone() -> None:
    """A parent with much memory does not count, nor does what was given back."""
    if peak_bytes() is None:
        pytest.skip("needs a system with /proc/self/status")
    block = b"x" * 300_000_000
    program = "from regard.train.hardware import peak_bytes; {}; print(peak_bytes())"
    runs = [
        int(subprocess.run([sys.executable, "-c", program.format(what)], capture_output=True, check=True).stdout)
        for what in ("pass", "x = b'x' * 200_000_000; del x")
    ]

    assert len(block) > 0
    assert 150_000_000 < runs[1] - runs[0] < 250_000_000
