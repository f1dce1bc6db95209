"""How much memory an action needs at its peak, in a process that did nothing else before.

A peak belongs to a process, so each peer gets a fresh one. Blocks above 64 KiB go back to the system when they are
freed, so that what an earlier step left behind is not counted as free room.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["in_fresh_process", "peak_bytes", "unmeasurable"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc_pid_clear_refs(5)


def unmeasurable() -> str | None:
    """Return why peaks cannot be measured on this system, or None where they can."""
    if not _CLEAR.exists():
        return f"peak memory needs Linux's {_CLEAR}, which this system does not have"
    return None if os.access(_CLEAR, os.W_OK) else f"peak memory needs to write {_CLEAR}, which is not allowed here"


def peak_bytes(action: Callable[[], object]) -> int:
    """Run ``action`` and return by how many bytes the process's resident memory rose at most meanwhile."""
    _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    before = _status_bytes("VmRSS")
    action()
    return _status_bytes("VmHWM") - before


def in_fresh_process(program: str, arguments: Sequence[str]) -> int:
    """Run ``program`` with ``arguments`` in a fresh Python; its last line of output is the number of bytes.

    Raises:
        RuntimeError: it fails.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(64 * 1024)}
    command = [sys.executable, program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} must succeed, got: {done.stderr}")
    return int(json.loads(done.stdout.splitlines()[-1]))


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"{_STATUS} must hold {field}, got no such line.")
