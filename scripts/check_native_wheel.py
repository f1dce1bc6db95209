"""Build the wheel of the native kernels and check what is in it. Run through `make check`.

It must hold the library, what Python needs to reach it and the licence, for every Python of one platform; the library
must ask for nothing but the C library, its mathematics and OpenMP, which PyTorch brings, and offer only its functions.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from build_native import NO_COMPILER, ROOT, compiler
from check_wheel import build

LIBRARY = "regard_native/libregard_native.so"
FILES = {LIBRARY, "regard_native/__init__.py", "regard_native/py.typed"}
METADATA = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}
NEEDED = re.compile(r"libgomp\.so\.1|libm\.so\.6|libc\.so\.6|ld-linux[\w-]*\.so\.\d")
FUNCTIONS = {"regard_backward", "regard_columns", "regard_forward", "regard_isa", "regard_linear"}
MAX_BYTES = 1_500_000  # four instruction sets of every kernel


def main() -> int:
    """Print what is wrong; return the exit status."""
    if compiler() is None:
        print(f"native wheel: not checked, {NO_COMPILER}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder), ROOT / "native")
        problems = [*tag(wheel), *content(wheel)] or library(wheel, Path(folder))
        size = wheel.stat().st_size
    for problem in problems:
        print(f"native wheel: {problem}", file=sys.stderr)
    if not problems:
        print(f"{wheel.name}, {size / 1000:.0f} kB")
    return int(bool(problems))


def tag(wheel: Path) -> list[str]:
    """Check that the wheel serves every Python of one platform."""
    found = wheel.stem.split("-", maxsplit=2)[2]
    return [] if re.fullmatch(r"py3-none-(?!any)\w+", found) else [f"its tag must be py3-none-PLATFORM, got {found}."]


def content(wheel: Path) -> list[str]:
    """Compare the wheel's files with those that it should hold, and its unpacked size with the limit."""
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info.file_size for info in archive.infolist()}
    expected = FILES | {f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info/{name}" for name in METADATA}
    problems = [f"{name} is missing." for name in sorted(expected - set(files))]
    problems += [f"{name} does not belong in it." for name in sorted(set(files) - expected)]
    size = sum(files.values())
    return problems if size < MAX_BYTES else [*problems, f"it must unpack to less than {MAX_BYTES} bytes, got {size}."]


def library(wheel: Path, folder: Path) -> list[str]:
    """Name what the library asks for or offers beyond its part."""
    if shutil.which("readelf") is None:
        print("native wheel: the library was not looked into, no readelf found; install binutils.")
        return []
    with zipfile.ZipFile(wheel) as archive:
        path = archive.extract(LIBRARY, folder)
    return [*asks_for(readelf(path, "--dynamic")), *offers(readelf(path, "--dyn-syms")), *keeps(readelf(path, "-S"))]


def readelf(path: str, part: str) -> str:
    """Return what readelf says of ``part``, in English."""
    command = ["readelf", "--wide", part, path]
    return subprocess.run(
        command, env={**os.environ, "LC_ALL": "C"}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def asks_for(dynamic: str) -> list[str]:
    """Name the libraries that not every machine with PyTorch has, and places of the machine that built it."""
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)
    problems = [f"the library must not need {name}." for name in needed if not NEEDED.fullmatch(name)]
    places = re.findall(r"\((?:RPATH|RUNPATH)\).*\[(.+)\]", dynamic)
    return problems + [f"the library must not search in {place}." for place in places]


def offers(symbols: str) -> list[str]:
    """Compare the functions that the library exports with those of its interface."""
    rows = [line.split() for line in symbols.splitlines()]
    exported = {row[7] for row in rows if len(row) >= 8 and row[4] in ("GLOBAL", "WEAK") and row[6] != "UND"}
    problems = [f"the library must export {name}." for name in sorted(FUNCTIONS - exported)]
    return problems + [f"the library must not export {name}." for name in sorted(exported - FUNCTIONS)]


def keeps(sections: str) -> list[str]:
    """Check that what only a debugger reads was stripped."""
    return ["the library must be stripped."] if re.search(r"\.symtab|\.debug_", sections) else []


if __name__ == "__main__":
    sys.exit(main())
