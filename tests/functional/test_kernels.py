"""What is said of the native kernels: that they are right, that they are not, that they are not there."""

import importlib
import re

import pytest
import torch

from regard.functional import kernels
from regard.functional.impl import native

needs_native = pytest.mark.skipif(not native.native_available(), reason="needs regard-native: make native")


@pytest.fixture(autouse=True)
def _read_anew(monkeypatch):
    if native.native_available():
        package = importlib.import_module("regard_native")
        for name in ("_library", "forced_instruction_set", "instruction_sets"):
            monkeypatch.setattr(package, name, getattr(package, name).__wrapped__)


@needs_native
def test_kernels_that_are_right_are_found_right():
    found = kernels.native_kernels()
    assert found.works
    assert found.problem is None
    assert found.chosen in found.instruction_sets


@needs_native
def test_kernels_that_compute_something_else_are_found_out(monkeypatch):
    right = kernels.native_with_lse
    monkeypatch.setattr(kernels, "native_with_lse", lambda *given, **options: [right(*given, **options)[0] * torch.nan])
    found = kernels.native_kernels()
    assert not found.works
    assert found.problem.startswith("The native kernels must agree with float64 within")
    assert "in float32, got nan; install regard-native again" in found.problem


@needs_native
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_an_error_in_one_type_is_found(monkeypatch, dtype):
    right = kernels.native_with_lse

    def off(query, key, value, *, causal):
        output, *rest = right(query, key, value, causal=causal)
        return (output * 1.1 if output.dtype == getattr(torch, dtype) else output, *rest)

    monkeypatch.setattr(kernels, "native_with_lse", off)
    assert f" in {dtype}, got " in kernels.native_kernels().problem


@needs_native
@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("REGARD_ISA", "sse2", "REGARD_ISA must be one of .* got 'sse2'"),
        ("REGARD_NATIVE", "nowhere.so", "REGARD_NATIVE needs the library of the native kernels at nowhere.so, got"),
    ],
)
def test_kernels_that_cannot_be_loaded_say_why(monkeypatch, variable, value, problem):
    monkeypatch.setenv(variable, value)
    found = kernels.native_kernels()
    assert found.version is not None
    assert not found.works
    assert re.search(problem, found.problem)


def test_kernels_that_are_not_there_are_no_problem(monkeypatch):
    monkeypatch.setattr(kernels, "native_available", lambda: False)
    assert kernels.native_kernels() == kernels.NativeKernels(version=None)
    assert not kernels.native_kernels().works
