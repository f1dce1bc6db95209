"""Build the native kernels with sanitizers and run a Python program on them. Run through `make native-sanitized`.

    python scripts/check_native.py address,undefined PROGRAM [ARGUMENT ...]
    python scripts/check_native.py thread PROGRAM [ARGUMENT ...]

Only the kernels are built so; Python and PyTorch stay what they are, and the sanitizer's runtime is loaded before them.
For threads the kernels are linked with `native/sanitize/openmp.c` instead of libgomp, whose threads it does not see.
First a mistake of each kind is planted: a sanitizer that finds nothing may also not be at work.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from build_native import NO_COMPILER, ROOT, build, compiler

RUNTIMES = {"address,undefined": ["asan", "ubsan"], "thread": ["tsan"]}
# Python and PyTorch keep to the end what they allocate, so leaks say nothing.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
PLANTED = ROOT / "native" / "sanitize" / "planted.py"
REPORTS = ("Sanitizer: ", "runtime error: ")


def main(sanitizers: str, program: list[str]) -> int:
    """Build, prove that planted mistakes are found, and run the program; return the exit status."""
    if compiler() is None:
        raise SystemExit(f"native-sanitized: {NO_COMPILER}")
    if not Path(program[0]).is_file():
        raise SystemExit(f"native-sanitized: the program must be a Python file, got {program[0]}.")
    with tempfile.TemporaryDirectory() as folder:
        say(f"build with {sanitizers} (about a minute)")
        library = build(Path(folder), f"-DREGARD_SANITIZE={sanitizers}")
        for mistake in sanitizers.split(","):
            planted = run([str(PLANTED), mistake], library, sanitizers, capture=True)
            if planted.returncode == 0 or not any(report in planted.stderr for report in REPORTS):
                print(planted.stderr, file=sys.stderr)
                say(f"the {mistake} sanitizer must report a planted mistake, got exit status {planted.returncode}.")
                return 1
        say(f"planted mistakes are found; run {' '.join(program)}")
        return run(program, library, sanitizers).returncode


def run(program: list[str], library: Path, sanitizers: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a Python program with its arguments on ``library``, with what its sanitizers need around it."""
    environment = {**os.environ, **OPTIONS, "REGARD_NATIVE": str(library), "LD_PRELOAD": preloaded(sanitizers)}
    return subprocess.run([sys.executable, *program], env=environment, capture_output=capture, text=True, check=False)


def preloaded(sanitizers: str) -> str:
    """Return the runtimes of the sanitizers, and of C++, without which they fail at PyTorch's first exception."""
    found = []
    for name in [*RUNTIMES[sanitizers], "stdc++"]:
        command = [compiler() or "c++", f"-print-file-name=lib{name}.so"]
        path = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        if not path.is_absolute():
            raise SystemExit(f"native-sanitized: lib{name}.so of GCC is needed, {command[0]} has none; install GCC's.")
        found.append(str(path.resolve()))
    return " ".join(found)


def say(line: str) -> None:
    """Print ``line`` at once."""
    print(f"native-sanitized: {line}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in RUNTIMES:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
