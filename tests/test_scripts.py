"""The scripts that make and the continuous integration call: they find what they are there to find."""

import importlib.util
import os
import subprocess
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def script(name: str) -> ModuleType:
    """Import ``scripts/<name>.py``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")  # where a script that is run finds the others
        spec.loader.exec_module(module)
    return module


def executable(path: Path, content: str) -> Path:
    path.write_text(f"#!/bin/sh\n{content}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_setup_refuses_an_old_python_and_names_it(tmp_path):
    old = executable(tmp_path / "python", 'test "$1" = --version && echo "Python 3.9.2" && exit 0\nexit 1')
    command = ["sh", str(ROOT / "scripts/setup.sh")]
    done = subprocess.run(command, env={**os.environ, "PYTHON": str(old)}, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr


@pytest.fixture
def setup_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the setup script working in ``tmp_path``, with a Python that notes its arguments for a pip."""
    module = script("setup")
    for name in ("VENV", "READY", "NOTES", "INCOMPLETE", "LOG"):
        monkeypatch.setattr(module, name, tmp_path / getattr(module, name).relative_to(module.ROOT))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module.venv, "create", lambda folder, with_pip: _fake_venv(Path(folder)))
    return module


def _fake_venv(folder: Path, status: int = 0) -> None:
    (folder / "bin").mkdir(parents=True)
    executable(folder / "bin/python", f'echo "$@" >> "{folder.parent}/calls"\necho "pip says $3"\nexit {status}')


def test_setup_marks_the_environment_ready_when_all_is_installed(setup_script, tmp_path):
    assert setup_script.main() == 0
    assert (tmp_path / ".venv/.ready").exists()
    assert not (tmp_path / ".setup/incomplete").exists()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split("--progress-bar off ")[1] for call in calls] == [
        "-c constraints.txt -e .[dev]",
        "--no-deps -r data-packages.txt",
    ]


def test_failed_setup_is_not_ready_and_shows_what_pip_said(setup_script, tmp_path, capsys):
    _fake_venv(tmp_path / ".venv", status=3)

    assert setup_script.main() == 3
    assert not (tmp_path / ".venv/.ready").exists()
    assert "pip says install" in capsys.readouterr().err


def test_interrupted_setup_starts_over(setup_script, tmp_path, capsys):
    _fake_venv(tmp_path / ".venv", status=3)
    (tmp_path / ".venv/half-installed").touch()
    (tmp_path / ".setup").mkdir()
    (tmp_path / ".setup/incomplete").touch()

    assert setup_script.main() == 0
    assert "starting over" in capsys.readouterr().out
    assert not (tmp_path / ".venv/half-installed").exists()


@pytest.fixture
def build_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script that builds the kernels working in ``tmp_path``, with a pip that notes its arguments."""
    module = script("build_native")
    for name in ("STAMP", "LOG"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    monkeypatch.setattr(module, "PIP", [str(executable(tmp_path / "pip", f'echo "$1" >> "{tmp_path}/calls"'))])
    monkeypatch.setattr(module, "missing_tools", list)
    monkeypatch.setenv("CXX", str(executable(tmp_path / "compiler", "")))
    return module


def test_native_build_is_installed_and_leaves_its_mark(build_script, tmp_path, capsys):
    assert build_script.main(optional=False) == 0
    assert build_script.STAMP.exists()
    assert (tmp_path / "calls").read_text().splitlines() == ["install"]
    assert "installed in" in capsys.readouterr().out


def test_cmake_is_installed_where_the_machine_has_none(build_script, tmp_path, monkeypatch):
    monkeypatch.setattr(build_script, "missing_tools", lambda: ["cmake>=3.20"])
    executable(tmp_path / "pip", f'echo "$@" >> "{tmp_path}/calls"')

    assert build_script.main(optional=False) == 0
    assert (tmp_path / "calls").read_text().splitlines()[0] == "install cmake>=3.20"


@pytest.mark.parametrize("obstacle", ["no compiler", "no build"])
def test_setup_goes_on_without_native_kernels_and_says_so(obstacle, build_script, tmp_path, monkeypatch, capsys):
    if obstacle == "no compiler":
        monkeypatch.setenv("CXX", "no-such-compiler")
    else:
        executable(tmp_path / "pip", f'echo "$1" >> "{tmp_path}/calls"; test "$1" != install')

    assert build_script.main(optional=True) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "regard runs on PyTorch's" in said
    assert "`make native`" in said
    assert build_script.STAMP.exists()
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "uninstall", "an older library must not stay"


def test_native_build_that_was_asked_for_fails_aloud(build_script, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")

    assert build_script.main(optional=False) == 1
    assert not build_script.STAMP.exists()


def test_changed_torch_is_named(monkeypatch):
    module = script("check_environment")
    monkeypatch.setattr(module, "version", lambda name: "2.12.0+cpu")

    assert "torch must be" in module.changed_pins()[0]


def test_local_build_of_the_pinned_torch_is_accepted():
    assert script("check_environment").changed_pins() == []


def test_cuda_packages_beside_a_cpu_build_are_named(monkeypatch):
    module = script("check_environment")
    found = [type("Found", (), {"metadata": {"Name": name}}) for name in ("numpy", "nvidia-cublas")]
    monkeypatch.setattr(module, "version", lambda name: "2.13.0+cpu")
    monkeypatch.setattr(module, "distributions", lambda: found)

    assert "nvidia-cublas" in module.unused_cuda()[0]
    monkeypatch.setattr(module, "version", lambda name: "2.13.0")
    assert module.unused_cuda() == []


def native_wheel(folder: Path, *, platform: str = "linux_x86_64", without: str = "", extra: str = "") -> Path:
    names = ["__init__.py", "py.typed", "libregard_native.so", extra]
    files = [f"regard_native/{name}" for name in names if name]
    files += [f"regard_native-1.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "licenses/LICENSE")]
    wheel = folder / f"regard_native-1-py3-none-{platform}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in files:
            if not (without and name.endswith(without)):
                archive.writestr(name, "")
    return wheel


def test_native_wheel_of_the_right_files_passes(tmp_path):
    module = script("check_native_wheel")
    wheel = native_wheel(tmp_path)

    assert [*module.tag(wheel), *module.content(wheel)] == []


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ({"platform": "any"}, "its tag must be py3-none-PLATFORM, got py3-none-any."),
        ({"without": "LICENSE"}, "regard_native-1.dist-info/licenses/LICENSE is missing."),
        ({"without": "py.typed"}, "regard_native/py.typed is missing."),
        ({"extra": "libgomp.so.1"}, "regard_native/libgomp.so.1 does not belong in it."),
    ],
)
def test_native_wheel_check_finds(fault, problem, tmp_path):
    module = script("check_native_wheel")
    wheel = native_wheel(tmp_path, **fault)

    assert [*module.tag(wheel), *module.content(wheel)] == [problem]


def test_what_a_library_asks_for_and_offers_is_judged():
    module = script("check_native_wheel")
    needed = " 0x1 (NEEDED)  Shared library: [{}]\n"
    symbol = " 5: 0000000000083760   20 FUNC    GLOBAL DEFAULT   11 {}\n"
    sound = "".join(map(symbol.format, sorted(module.FUNCTIONS)))

    assert module.asks_for(needed.format("libgomp.so.1") + needed.format("ld-linux-x86-64.so.2")) == []
    assert module.asks_for(needed.format("libstdc++.so.6")) == ["the library must not need libstdc++.so.6."]
    assert module.asks_for(" 0x1d (RUNPATH)  Library runpath: [/place]") == ["the library must not search in /place."]
    assert module.offers(sound + " 1: 0 0 FUNC  GLOBAL DEFAULT  UND memset@GLIBC_2.2.5 (2)\n") == []
    assert module.offers(sound + symbol.format("helper")) == ["the library must not export helper."]
    assert module.offers("") == [f"the library must export {name}." for name in sorted(module.FUNCTIONS)]
    assert module.keeps("[ 9] .symtab  SYMTAB") == ["the library must be stripped."]


def test_library_that_cannot_be_built_shows_what_cmake_said(tmp_path):
    module = script("build_native")
    if module.tool("cmake") is None:
        pytest.skip("needs CMake")
    with pytest.raises(
        SystemExit, match=r"Unknown argument --nonsense[\s\S]*native: CMake failed; its reason stands above"
    ):
        module.build(tmp_path, "--nonsense")


@pytest.fixture
def sanitizing_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script that runs programs on sanitized kernels, with nothing built and nothing preloaded."""
    module = script("check_native")
    monkeypatch.setattr(module, "compiler", lambda: "c++")
    monkeypatch.setattr(module, "build", lambda folder, sanitizers: tmp_path / "library.so")
    monkeypatch.setattr(module, "preloaded", lambda sanitizers: "")
    monkeypatch.setattr(module, "PLANTED", tmp_path / "planted.py")
    module.PLANTED.write_text("import sys; sys.exit('ThreadSanitizer: a race')")
    return module


def test_program_runs_on_the_sanitized_library_and_its_status_is_returned(sanitizing_script, tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import os, sys; sys.exit(7 * (os.environ['REGARD_NATIVE'] == sys.argv[1]))")

    assert sanitizing_script.main("thread", [str(program), str(tmp_path / "library.so")]) == 7
    assert sanitizing_script.main("thread", [str(program), "another"]) == 0


def test_sanitizer_that_misses_a_planted_mistake_is_not_believed(sanitizing_script, tmp_path, capsys):
    (tmp_path / "planted.py").write_text("")
    (tmp_path / "program.py").write_text("")

    assert sanitizing_script.main("thread", [str(tmp_path / "program.py")]) == 1
    assert "must report a planted mistake" in capsys.readouterr().out


def test_program_that_is_not_there_is_named_before_anything_is_built(sanitizing_script):
    with pytest.raises(SystemExit, match=r"must be a Python file, got absent\.py"):
        sanitizing_script.main("thread", ["absent.py"])


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="absent.html">', "no page at 'absent.html'"),
        ('<a href="other.html#absent">', "no anchor at 'other.html#absent'"),
        ('<script src="https://cdn.example/x.js">', "loads 'https://cdn.example/x.js'"),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', "loads '//fonts.example/a.css'"),
        ('<img src="http://img.example/a.png">', "loads 'http://img.example/a.png'"),
    ],
)
def test_site_check_finds(body, problem, tmp_path, capsys):
    (tmp_path / "index.html").write_text(body)
    (tmp_path / "other.html").write_text('<h1 id="here">')

    assert script("check_site").main(tmp_path) == 1
    assert problem in capsys.readouterr().err


def test_site_check_accepts_what_resolves(tmp_path):
    (tmp_path / "index.html").write_text('<a href="other.html#here"><a href="https://example.org"><a href="#">')
    (tmp_path / "other.html").write_text('<h1 id="here">')

    assert script("check_site").main(tmp_path) == 0


def test_ci_runs_setup_checks_the_readmes_test_command_and_the_second_pass(tmp_path):
    executable(tmp_path / "make", f'echo "make $@" >> "{tmp_path}/calls"; test "$CI" = true')
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / ".ci/run"], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["make setup", "make check", "make test", "make test-compiled"]


def test_ci_stops_at_the_first_failure(tmp_path):
    executable(tmp_path / "make", f'echo "make $@" >> "{tmp_path}/calls"; test "$1" != check')
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / ".ci/run"], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert (tmp_path / "calls").read_text().splitlines() == ["make setup", "make check"]


def test_false_alarms_checks_what_is_asked_for_and_reports_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["false_alarms.py", "--seeds", "2", "--fast", "--only", "regard.attention"])

    assert script("false_alarms").main() == 0

    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 1
    assert rows[0].startswith("| regard.attention | 2 |")
    assert "| none |" in rows[0]
