"""What must hold of regard_native as it is installed, proved in fresh interpreters."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ROOT / "native"
MAPS = Path("/proc/self/maps")

regard_native = pytest.importorskip("regard_native", reason="needs regard-native: `make native` with a C++ compiler")

ONE_RUNTIME = """
import pathlib, re, sys
import regard_native
assert "torch" not in sys.modules
{before}
regard_native.instruction_sets()
paths = set(re.findall(r"/\\S+", pathlib.Path("/proc/self/maps").read_text()))
print(*sorted(path for path in paths if re.match(r"lib[gi]?omp\\d?\\b", path.rsplit("/")[-1])), sep="\\n")
"""

EVERY_SET = """
import ctypes, os, torch, regard_native

def tensor(values):
    batch, head, row, _ = values.stride()
    return regard_native.Tensor(values.data_ptr(), regard_native.FLOAT32, batch, head, row)

def attention(query, key, value):
    call, output = regard_native.Call(), torch.empty_like(query)
    call.batch = call.heads = call.kv_heads = call.threads = 1
    call.q_len, call.kv_len, call.head_dim, call.value_dim, call.scale = 5, 7, 8, 8, 8 ** -0.5
    call.query, call.key, call.value, call.output = map(tensor, (query, key, value, output))
    lse = torch.empty(5)
    call.lse = lse.data_ptr()
    regard_native.run("forward", call)
    return output

query, key, value = (torch.randn(1, 1, length, 8) for length in (5, 7, 7))
expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
for name in regard_native.instruction_sets():
    child = os.fork()
    if child == 0:
        os.environ["REGARD_ISA"] = name
        torch.testing.assert_close(attention(query, key, value), expected)
        torch.testing.assert_close(attention(query, key, value), expected)
        assert regard_native.instruction_set() == name
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
    print(name)
"""

RUN = "import regard_native; regard_native.run('forward', regard_native.Call())"


def fresh(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new interpreter in which warnings are errors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_", "REGARD_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not MAPS.exists(), reason="needs /proc/self/maps, which Linux has")
@pytest.mark.parametrize("before", ["import torch", ""], ids=["after torch", "first"])
def test_the_openmp_runtime_is_torchs_own_and_the_only_one(before):
    done = fresh(ONE_RUNTIME.format(before=before))

    assert done.returncode == 0, done.stderr
    (path,) = done.stdout.splitlines()
    alone = fresh("import torch, pathlib; print(pathlib.Path('/proc/self/maps').read_text())").stdout
    assert path in alone


def test_every_processor_has_the_portable_kernels():
    assert regard_native.instruction_sets()[-1] == "portable"


def test_every_instruction_set_that_is_named_computes_attention():
    done = fresh(EVERY_SET)

    assert done.returncode == 0, done.stderr
    assert tuple(done.stdout.split()) == regard_native.instruction_sets()


def test_kernels_for_matrix_units_run_only_where_there_are_some():
    there = "amx_bf16" in regard_native.instruction_sets()
    if Path("/proc/cpuinfo").exists():
        words = set(Path("/proc/cpuinfo").read_text().split())
        assert there <= ({"amx_tile", "amx_bf16"} <= words)
    done = fresh(RUN, REGARD_ISA="amx_bf16")
    assert there != done.stderr.endswith(" on this machine, got 'amx_bf16'.\n")


def test_unknown_instruction_set_is_refused_in_one_sentence():
    done = fresh(RUN, REGARD_ISA="nonsense")

    names = ", ".join(regard_native.instruction_sets())
    said = f"RuntimeError: REGARD_ISA must be one of {names} on this machine, got 'nonsense'."
    assert done.stderr.splitlines()[-1] == said


@pytest.mark.parametrize(
    ("path", "got"), [("absent.so", "cannot open shared object file"), ("libc.so.6", "undefined symbol: regard_isa")]
)
def test_library_that_is_none_of_ours_is_refused_in_one_sentence(path, got):
    said = fresh(RUN, REGARD_NATIVE=path).stderr.splitlines()[-1]

    assert said.startswith(f"OSError: REGARD_NATIVE needs the library of the native kernels at {path}, got ")
    assert got in said
    assert said.endswith("; unset it.")


def test_package_without_its_library_says_to_install_it_again(tmp_path):
    shutil.copytree(SOURCES / "regard_native", tmp_path / "regard_native", ignore=shutil.ignore_patterns("*.so"))
    said = fresh(RUN, PYTHONPATH=str(tmp_path)).stderr.splitlines()[-1]

    assert f"{tmp_path}/regard_native/libregard_native.so" in said
    assert said.endswith("; install regard-native again.")


def test_importing_regard_loads_neither_the_kernels_nor_torch():
    done = fresh("import sys, regard; assert not {'regard_native', 'torch'} & set(sys.modules)")

    assert done.returncode == 0, done.stderr


def test_what_is_installed_is_what_the_sources_say():
    installed = Path(regard_native.__file__).parent
    changed = max(path.stat().st_mtime for path in (SOURCES / "src").iterdir())
    remedy = "native/ changed after it was built; run `make native`"

    assert (installed / "__init__.py").read_text() == (SOURCES / "regard_native/__init__.py").read_text(), remedy
    assert (installed / "libregard_native.so").stat().st_mtime >= changed, remedy


def test_the_licence_is_the_repositorys():
    assert (SOURCES / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
