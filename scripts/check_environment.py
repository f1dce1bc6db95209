"""Check that the environment holds the torch that was asked for. Run through `make check`.

A package that depends on another torch replaces it without a word, and a CPU build beside `nvidia-*` packages is the
trace of such a replacement: gigabytes that nothing uses.
"""

import re
import sys
from importlib.metadata import distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Print what is wrong; return the exit status."""
    problems = [*changed_pins(), *unused_cuda()]
    for problem in problems:
        print(f"environment: {problem}", file=sys.stderr)
    if not problems:
        print(f"torch {version('torch')} as pinned")
    return int(bool(problems))


def changed_pins() -> list[str]:
    """Name each pin of constraints.txt that the installed version does not meet; a local build tag is free."""
    pins = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    found = {name: version(name) for name, _ in pins}
    return [
        f"{name} must be {wanted} as constraints.txt says, got {found[name]}; run `make setup` in a fresh .venv."
        for name, wanted in pins
        if found[name].split("+")[0] != wanted
    ]


def unused_cuda() -> list[str]:
    """Name the CUDA packages beside a torch that was built for the CPU."""
    if not version("torch").endswith("+cpu"):
        return []
    names = sorted({str(found.metadata["Name"]) for found in distributions()})
    cuda = [name for name in names if name.lower().startswith("nvidia-")]
    return [f"torch is a CPU build, got {', '.join(cuda)} beside it; find what asked for them."] if cuda else []


if __name__ == "__main__":
    sys.exit(main())
