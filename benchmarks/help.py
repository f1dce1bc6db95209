"""How long do `regard --help` and `import regard` take in a fresh process, with a bare Python and torch beside?"""

import shutil
import sys
from functools import partial
from pathlib import Path

from measure import collect, compare, timed_process
from report import Report, Table, parser

__all__ = ["main"]


def main() -> None:
    """Run the benchmark."""
    options = parser(__doc__ or "", rounds=15).parse_args()
    report = Report(__doc__ or "", options, facts=["fresh processes", "files in the page cache"])
    peers = {name: partial(timed_process, command) for name, command in commands().items()}
    rounds = 1 if options.quick else options.rounds
    samples = collect(peers, rounds=rounds, most_rounds=None if options.quick else 2 * rounds, tell=report.tell)
    report.add(
        Table(
            title="Time from start to exit",
            comparisons=compare(samples),
            note="'extra time' is what comes on top of a bare Python in the same round.",
        )
    )
    report.write()


def commands() -> dict[str, list[str]]:
    """Return peer -> command; the bare Python is first."""
    script = shutil.which("regard", path=str(Path(sys.executable).parent))
    if script is None:
        raise SystemExit(f"The command regard is needed beside {sys.executable}, got none; run `make setup`.")
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import regard": [sys.executable, "-c", "import regard"],
        "regard --help": [script, "--help"],
        "import torch": [sys.executable, "-c", "import torch"],
    }


if __name__ == "__main__":
    main()
