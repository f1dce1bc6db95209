"""What `regard doctor` says: facts as lines of text, in columns."""

from collections.abc import Iterable, Iterator, Sequence

import torch

from regard.cli.installation import Choice, Installation, Package
from regard.functional.kernels import DTYPES, LADDERS, LINEAR_ROWS, LinearRung, NativeKernels, Region, Tuning

__all__ = ["installation_lines", "tuning_lines"]

_MODES = {"decode": "decoding", "forward": "forward", "training": "training"}
_WORK = "batch · heads · q_len · kv_len · head_dim"


def installation_lines(found: Installation) -> Iterator[str]:
    """Return what is installed, what is in force, and last what is wrong."""
    facts = [*found.versions.items()]
    for name, what in found.devices.items():
        facts.append(("device", f"{name}: {what}, {_threads(found.threads)}" if name == "cpu" else f"{name}: {what}"))
    facts += [("native kernels", _native_line(found.native)), ("AMX", "yes" if found.amx else "no")]
    facts += [("OpenMP", line) for line in _openmp_lines(found)]
    facts.append(("region", _region_line(found)))
    yield from _grid(facts)
    if found.region.figures is not None and found.region.origin != "none":
        yield f'\nleast work ({_WORK}) from which impl="auto" takes native kernels; rows for which linear layers do'
        yield from _grid(_region_rows(found.region.figures))
    if found.choices:
        yield '\nimpl="auto" takes'
        yield from _grid(_choice_rows(found.choices))
    yield "\noptional packages"
    yield from _grid(_package_rows(found.packages))
    for kind, sentences in (("warning", found.warnings), ("broken", found.problems)):
        for sentence in sentences:
            yield f"\n{kind}: {sentence}"


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"


def _native_line(native: NativeKernels) -> str:
    if native.version is None:
        return "not installed: pip install ./native"
    if native.problem is not None:
        return f"{native.version}, BROKEN"
    return f"{native.version}, right; {native.chosen} of {', '.join(native.instruction_sets)}"


def _openmp_lines(found: Installation) -> Iterator[str]:
    if found.openmp.loaded is None:
        yield "not known on this system"
    else:
        yield from found.openmp.loaded or ("none loaded",)
    for path in found.openmp.bundled:
        yield f"{path}, once its package is imported"


def _region_line(found: Installation) -> str:
    region = found.region
    if region.problem is not None:
        return f"{region.path}, BROKEN"
    if region.origin is None:
        return f"not {'needed' if found.native.version is None else 'read'} without native kernels that work"
    if region.origin == "measured":
        return f"measured: {region.path}"
    if region.origin == "built in":
        return f"built in for {found.native.chosen}; `regard doctor --tune` measures this machine"
    return 'none for this processor, so that impl="auto" never takes native kernels; measure: `regard doctor --tune`'


def _region_rows(region: Region) -> Iterator[Sequence[str]]:
    yield ("", *DTYPES)
    for mode, label in _MODES.items():
        figures = getattr(region, mode)
        yield (label, "as forward") if figures is None else (label, *(_work(figures.get(dtype)) for dtype in DTYPES))
    rows = [region.most_rows(getattr(torch, dtype)) for dtype in DTYPES]
    yield ("linear", *(f"up to {most} rows" if most else "never" for most in rows))


def _work(least: int | None) -> str:
    return "never" if least is None else f"{least:,}"


def _choice_rows(choices: Sequence[Choice]) -> Iterator[Sequence[str]]:
    yield ("", "", "", *DTYPES)
    rows: dict[tuple[str, str, str], list[str]] = {}
    for choice in choices:
        kind = "training" if choice.training else "forward"
        rows.setdefault((choice.device, "×".join(map(str, choice.shape)), kind), []).append(choice.impl)
    for labels, taken in rows.items():
        yield (*labels, *taken)


def _package_rows(packages: Sequence[Package]) -> Iterator[Sequence[str]]:
    for package in packages:
        missing = f"{package.unlocks}: {package.install}"
        yield (package.name, package.version or "–", missing if package.version is None else package.unlocks)


def tuning_lines(tuning: Tuning, linear: Sequence[LinearRung], native: NativeKernels) -> Iterator[str]:
    """Return the ratios that were measured and what follows from them."""
    threads = _threads(torch.get_num_threads())
    yield f"time of the native kernels ({native.chosen}, {threads}) / time of PyTorch's, the median of rounds"
    yield from _grid(_ratio_rows(tuning))
    yield "\nthe same of linear layers without gradients, by rows"
    yield from _grid(_linear_rows(linear))
    if tuning.num_left_out:
        yield f"– left out: {tuning.num_left_out} of the longest, for which there was no time"
    yield f"\nleast work ({_WORK}) from which they win at every larger size, in three rounds of four; rows"
    yield from _grid(_region_rows(tuning.region))


def _ratio_rows(tuning: Tuning) -> Iterator[Sequence[str]]:
    ratios = {(rung.mode, rung.size, rung.dtype): f"{rung.ratio:.2f}" for rung in tuning.rungs}
    yield ("", "heads", "queries × keys", "work", *DTYPES)
    for ladder in LADDERS:
        for size in ladder.sizes:
            taken = (ratios.get((ladder.mode, size, dtype), "–") for dtype in DTYPES)
            labels = (_MODES[ladder.mode], f"{size.heads}", f"{size.q_len} × {size.kv_len}", f"{size.work:,}")
            yield (*labels, *taken)


def _linear_rows(rungs: Sequence[LinearRung]) -> Iterator[Sequence[str]]:
    ratios = {(rung.rows, rung.dtype): f"{rung.ratio:.2f}" for rung in rungs}
    yield ("rows", *DTYPES)
    for rows in LINEAR_ROWS:
        yield (f"{rows}", *(ratios.get((rows, dtype), "–") for dtype in DTYPES))


def _grid(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Return lines whose columns are as wide as their longest cell; the last one may be any length."""
    held = [list(row) for row in rows]
    inner = [row[:-1] for row in held]
    widths = [max(len(row[column]) for row in inner if len(row) > column) for column in range(max(map(len, inner)))]
    for row in held:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        yield "  ".join([*padded, row[-1]]).rstrip()
