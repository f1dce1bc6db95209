"""The kernels for matrix units compute what they should, on tile registers in plain C++ where no processor has any."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("regard_native", reason="needs regard-native: `make native` with a C++ compiler")

ROOT = Path(__file__).resolve().parent.parent.parent
GRID = ROOT / "tests/native/grid.py"
CHECK = ROOT / "native/emulate/check.cpp"
KEPT = ROOT / "native/build"  # what was built there before is built again only where a source changed
MISTAKES = {
    "unconfigured": "registers must be configured before they are used",
    "unreleased": "registers must be released before they are configured again",
    "released twice": "registers must be configured before they are released",
    "palette": "the palette must be 1",
    "rows": "a tile must have at most 16 rows",
    "bytes": "a row must have at most 64 bytes, of whole floats",
    "reserved": "there are but eight tiles",
    "shapeless": "a tile must have been given a shape",
    "depth": "the left tile must have a pair for each row of the right one",
}


@pytest.fixture(scope="module")
def build_native() -> ModuleType:
    """Return the script that builds the kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        module = importlib.import_module("build_native")
    if module.compiler() is None or module.tool("cmake") is None:
        pytest.skip("needs a C++ compiler and CMake, which build the tiles that the tests emulate")
    return module


@pytest.fixture(scope="module")
def emulated(build_native: ModuleType) -> Path:
    """Return the library whose kernels for matrix units run on emulated tiles."""
    library: Path = build_native.build(KEPT / "emulated-tiles", "-DREGARD_EMULATE_TILES=ON")
    return library


@pytest.fixture(scope="module")
def check(build_native: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program that uses emulated tiles by themselves."""
    program = tmp_path_factory.mktemp("tiles") / "check"
    options = ["-std=gnu++17", "-O1", "-Wno-psabi", "-DREGARD_ISA=emulated", "-DREGARD_EMULATE_TILES"]
    command = [build_native.compiler(), *options, str(CHECK), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environment}
    return subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, check=False)


def test_products_of_every_shape_are_exact_and_write_nothing_beside_them(check):
    done = run(check)

    assert (done.returncode, done.stdout) == (0, "0 of 702 products differ.\n")


@pytest.mark.parametrize(("mistake", "said"), MISTAKES.items(), ids=MISTAKES.keys())
def test_emulated_tiles_refuse(check, mistake, said):
    done = run(check, mistake)

    assert (done.returncode, done.stderr) == (-6, f"emulated tiles: {said}.\n")


def test_kernels_agree_with_float64_on_emulated_tiles(emulated):
    types = [word for name in ("bfloat16", "float16") for word in ("--dtype", name)]  # with tiles, and beside them
    done = run(sys.executable, GRID, *types, REGARD_NATIVE=str(emulated))

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" calls agree.\n")
