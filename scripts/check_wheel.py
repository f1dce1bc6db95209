"""Build the wheel and check what is in it. Run through `make check`.

It must hold every file of `src` that belongs to the package and nothing else, the licence, and a light list of
dependencies: what trains or draws stays behind an extra.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
MAX_BYTES = 1_250_000  # pure source, no data: what comes by mistake shows here before a user downloads it
HEAVY = ("datasets", "mkdocs", "pytest", "ray", "scikit-learn", "scipy", "transformers")


def main() -> int:
    """Print what is wrong; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder), ROOT)
        problems = [*content(wheel), *dependencies(wheel)]
        size = wheel.stat().st_size
    if size > MAX_BYTES:
        problems.append(f"the wheel must stay under {MAX_BYTES} bytes, got {size}.")
    for problem in problems:
        print(f"wheel: {problem}", file=sys.stderr)
    if not problems:
        print(f"{wheel.name}, {size / 1000:.0f} kB")
    return int(bool(problems))


def build(folder: Path, project: Path) -> Path:
    """Build the wheel of ``project`` into ``folder`` with the backend that is installed, without the network."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(project),
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def content(wheel: Path) -> list[str]:
    """Compare the wheel's files with those of ``src``."""
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        licensed = any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    source = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    problems = [f"{name} is in src/ but not in the wheel." for name in sorted(source - packed)]
    problems += [f"{name} is in the wheel but not in src/." for name in sorted(packed - source)]
    return problems if licensed else [*problems, "the licence is missing."]


def dependencies(wheel: Path) -> list[str]:
    """Name heavy packages that the wheel asks for without an extra."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    core = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    return [
        f"{requirement!r} must stay behind an extra."
        for requirement in core
        if "extra ==" not in requirement and requirement.startswith(HEAVY)
    ]


if __name__ == "__main__":
    sys.exit(main())
