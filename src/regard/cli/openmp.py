"""Which OpenMP runtimes this process has loaded, and which other packages would bring."""

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OpenMP"]

_RUNTIME = re.compile(r"lib(?:gomp|iomp5|omp)(?:[-.][^/]*)?\.so[.\d]*$")
_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, kw_only=True)
class OpenMP:
    """OpenMP runtimes by path.

    Attributes:
        loaded: those in this process; None where the system does not tell.
        bundled: those that installed packages have for themselves and that are not loaded; importing one loads it.
        preloaded: whether LD_PRELOAD names one of the loaded, which then serves all.
    """

    loaded: tuple[str, ...] | None
    bundled: tuple[str, ...] = ()
    preloaded: bool = False

    @classmethod
    def of_this_process(cls, packages: Path) -> "OpenMP":
        """Read them from the process and from wheels in the folder ``packages``."""
        bundled = _runtimes(str(path) for path in packages.glob("*.libs/*"))
        if not sys.platform.startswith("linux"):
            return cls(loaded=None, bundled=bundled)
        lines = _MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
        loaded = _runtimes(fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6)
        preload = re.split(r"[ :]+", os.environ.get("LD_PRELOAD", ""))
        return cls(
            loaded=loaded,
            bundled=tuple(path for path in bundled if path not in loaded),
            preloaded=any(str(Path(path).resolve()) in loaded for path in preload if path),
        )

    @property
    def warning(self) -> str | None:
        """What is wrong with those that are loaded, and the remedy; None if nothing is."""
        if self.loaded is None or len(self.loaded) < 2 or self.preloaded:
            return None
        first = next((path for path in self.loaded if "torch" in Path(path).parts), self.loaded[0])
        return (
            f"One OpenMP runtime should be loaded, got {', '.join(self.loaded)}, whose threads take the cores from "
            f"each other (github.com/pytorch/pytorch/issues/98836); start with LD_PRELOAD={first}."
        )


def _runtimes(paths: Iterable[str]) -> tuple[str, ...]:
    """Return each OpenMP runtime among ``paths`` once, links followed."""
    return tuple(sorted({str(Path(path).resolve()) for path in paths if _RUNTIME.search(path)}))
