"""Build the native kernels in `native/` and install them into `.venv`. Run through `make setup` and `make native`.

What CMake and the compiler say goes to `.setup/native.log`. regard works without these kernels, so `--optional`, as
setup says, ends well where they cannot be built. An older library is taken away then: nothing may run on kernels that
are not those of the sources.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = ROOT / ".venv" / ".native"
LOG = ROOT / ".setup" / "native.log"
PIP = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
NO_COMPILER = (
    "no C++ compiler found: regard runs on PyTorch's kernels; install g++ and run `make native` for faster attention."
)
FAILED = (
    "the kernels could not be built: regard runs on PyTorch's; what went wrong is in .setup/native.log. "
    "Run `make native` once mended."
)


def main(optional: bool) -> int:
    """Build and install; return the exit status."""
    begun = time.time()
    obstacle = NO_COMPILER
    if compiler():
        say("build the attention kernels (seconds; half a minute the first time)")
        obstacle = "" if install() else FAILED
    say(obstacle or f"installed in {time.time() - begun:.0f} s")
    if obstacle:
        subprocess.run([*PIP, "uninstall", "--yes", "--quiet", "regard-native"], stderr=subprocess.DEVNULL, check=True)
    if optional or not obstacle:
        STAMP.touch()
        os.utime(STAMP, (begun, begun))  # a source that was saved during the build is newer
    return int(bool(obstacle) and not optional)


def compiler() -> str | None:
    """Return the C++ compiler that CMake will find, or None."""
    names = os.environ.get("CXX", "").split()[:1] or ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name))), None)


def install() -> bool:
    """Build with the backend that is installed, which compiles only what changed; return whether all went well."""
    LOG.parent.mkdir(exist_ok=True)
    build = ["install", "--verbose", "--no-deps", "--no-build-isolation", str(ROOT / "native")]
    steps = [["install", *tools] for tools in [missing_tools()] if tools] + [build]
    with LOG.open("w", encoding="utf-8") as log:
        return all(
            subprocess.run([*PIP, *step], stdout=log, stderr=subprocess.STDOUT, check=False).returncode == 0
            for step in steps
        )


def build(folder: Path, *options: str) -> Path:
    """Build the library alone into ``folder``, with options for CMake; compile only what changed; return its path."""
    generator = ["-G", "Ninja"] if tool("ninja") else []
    configure = ["-S", str(ROOT / "native"), "-B", str(folder), *generator, *options]
    for arguments in (configure, ["--build", str(folder), "--parallel"]):
        command = [tool("cmake") or "cmake", *arguments]
        environment = {**os.environ, "PATH": _path()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{done.stdout}{done.stderr}native: CMake failed; its reason stands above.")
    return folder / "libregard_native.so"


def tool(name: str) -> str | None:
    """Return CMake or Ninja, which may be a wheel beside this Python, or None."""
    return shutil.which(name, path=_path())


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def missing_tools() -> list[str]:
    """Return what pip has to install for the build: CMake and Ninja where the machine has none."""
    from scikit_build_core.build import get_requires_for_build_wheel

    with contextlib.chdir(ROOT / "native"):
        return get_requires_for_build_wheel()


def say(line: str) -> None:
    """Print ``line`` at once."""
    print(f"native: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(optional=sys.argv[1:] == ["--optional"]))
