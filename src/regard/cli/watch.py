"""`regard watch`: read texts with a model and show every head."""

import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from regard.cli.heat import HeatTable
    from regard.cli.local_model import LocalModel
    from regard.observe import View

__all__ = ["register"]

_ALL = "all"
_DEFAULT = "normalized_entropy"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog='Example: regard watch minilm "The dog bit the man."')(watch)


def watch(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A local folder of a Hugging Face model, or minilm.", show_default=False),
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT…", help="Texts to read; - reads lines from stdin.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Read the lines of this file as well.")] = None,
    statistic: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"Default {_DEFAULT}; all for all; may be repeated.")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only these layers, such as '*.layer.0.*'; may be repeated."),
    ] = None,
    explain: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="WORD WORD", help="Also show how much each head looks from one word to the other."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list of plain rows instead of tables.")] = False,
) -> None:
    """Read texts with a model and show every head of every layer, exactly, computed beside its own kernel.

    Texts are read one by one, so that nothing is padded; a value is the mean over their tokens. --explain looks at the
    last text.
    """
    from rich.console import Console

    from regard.cli.local_model import LocalModel
    from regard.observe import watch as watch_model

    given = _texts(texts or [], file)
    statistics = _statistics(statistic or [_DEFAULT])
    loaded = LocalModel.open(model)
    with watch_model(loaded.module, statistics, layers=layers or None, keep=explain is not None) as view:
        read = [loaded.read(text) for text in given]
    rows = [dict(row) for row in view.table()]
    _check_rows(rows, view, layers, statistic or [])
    notes = _notes(loaded, read)
    explained = None if explain is None else view.explain(*explain, tokenizer=loaded.tokenizer)
    if json:
        _print_json(rows if explained is None else list(explained.table()))
        for line in (*_gaps(view), *notes):
            typer.echo(f"regard: {line}", err=True)
        return
    console = Console(highlight=False)
    num_tokens = sum(number for number, _ in read)
    _say(console, f"{loaded.name}: {_count(len(given), 'text')}, {_count(num_tokens, 'token')}")
    for table in _tables(rows):
        console.print()
        table.print(console)
    if explained is not None:
        console.print()
        console.print(explained)
    console.print()
    for line in (*_facts(view, rows), *_gaps(view), *notes):
        _say(console, line)


def _texts(texts: Sequence[str], file: Path | None) -> list[str]:
    from regard._errors import ArgumentError, DataError

    given: list[str] = []
    for text in texts:
        given += _lines(sys.stdin.read()) if text == "-" else [text]
    if file is not None:
        try:
            given += _lines(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = (getattr(error, "strerror", None) or "not UTF-8").lower()
            raise DataError(f"--file must be a text file in UTF-8, got '{reason}' at {file}.") from error
    if not given or not all(text.strip() for text in given):
        got = "an empty one" if given else "none"
        raise ArgumentError(f"Each text to read must hold a word, got {got}; give texts, - for stdin, or --file.")
    return given


def _lines(content: str) -> list[str]:
    return [line for line in content.splitlines() if line.strip()]


def _statistics(names: Sequence[str]) -> list[str]:
    from regard._errors import UnsupportedError
    from regard.observe import STATISTICS
    from regard.observe.plan import GRADIENT_STATISTICS

    backward = [name for name in names if name in GRADIENT_STATISTICS]
    if backward:
        raise UnsupportedError(
            f"--statistic must be one that reading texts gives, got {backward[0]}, which needs a backward pass; "
            "watch the model while it trains."
        )
    if _ALL in names:
        return [name for name in STATISTICS if name not in GRADIENT_STATISTICS]
    return list(dict.fromkeys(names))


def _check_rows(
    rows: Sequence[Mapping[str, Any]], view: "View", layers: Sequence[str] | None, statistics: Sequence[str]
) -> None:
    """Refuse a question that found nothing; a statistic out of ``all`` may be missing, one asked for may not."""
    from regard._errors import ArgumentError, UnsupportedError

    seen = [entry.layer for entry in view.coverage() if entry.seen]
    if seen and layers and not any(fnmatchcase(layer, pattern) for layer in seen for pattern in layers):
        given, there = ", ".join(layers), ", ".join(seen)
        raise ArgumentError(f"--layers must match an attention layer, got {given}; there are {there}.")
    missing = set(statistics) - {_ALL} - {row["statistic"] for row in rows}
    if not rows or missing:
        raise UnsupportedError(f"A model whose attention can be measured is needed, got one that cannot: {_why(view)}")


def _why(view: "View") -> str:
    coverage = view.coverage()
    reasons = {entry.reason for entry in coverage if entry.reason}
    reasons |= {f"{name}: {reason}" for entry in coverage for name, reason in entry.missing.items()}
    return "; ".join(sorted(reasons)) or "it has no attention module."


def _tables(rows: Sequence[Mapping[str, Any]]) -> list["HeatTable"]:
    from regard.cli.heat import HeatTable
    from regard.observe import STATISTICS

    tables = []
    for name in dict.fromkeys(row["statistic"] for row in rows):
        values: dict[str, dict[int, float]] = {}
        for row in rows:
            if row["statistic"] == name:
                values.setdefault(row["layer"], {})[row["head"]] = row["mean"]
        unit, bounds = _unit_and_range(name)
        tables.append(HeatTable(name=name, formula=STATISTICS[name], unit=unit, range=bounds, values=values))
    return tables


def _unit_and_range(name: str) -> tuple[str, str]:
    from regard.functional import COLUMN_STATISTICS, ROW_STATISTICS

    if name == "padding_mass":
        return "1", "0 to 1"
    definition = {**ROW_STATISTICS, **COLUMN_STATISTICS}.get(name)
    return (definition.unit, definition.range) if definition else ("1", "0 or more")


def _facts(view: "View", rows: Sequence[Mapping[str, Any]]) -> list[str]:
    numbers = {row["num_rows"] for row in rows}
    counted = f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
    kernels = ", ".join(f"{name} ({_count(number, 'call')})" for name, number in view.kernels().items())
    coverage = view.coverage()
    seen = sum(entry.seen for entry in coverage)
    return [
        f"rows      {counted} in each mean",
        f"kernel    {kernels}",
        f"coverage  {seen} of {_count(len(coverage), 'attention module')} seen",
    ]


def _gaps(view: "View") -> list[str]:
    gaps = []
    for entry in view.coverage():
        if entry.reason is not None:
            gaps.append(f"{'note' if entry.seen else 'not seen'}  {entry.layer}: {entry.reason}")
        gaps += [f"note  {entry.layer}, {name}: {reason}" for name, reason in entry.missing.items()]
    return gaps


def _notes(loaded: "LocalModel", read: Sequence[tuple[int, bool]]) -> list[str]:
    notes = []
    cut = sum(was_cut for _, was_cut in read)
    if cut:
        notes.append(f"note  {_count(cut, 'text')} cut to the {loaded.max_tokens} tokens that the model can read")
    if loaded.random:
        names = ", ".join(loaded.random[:3]) + (", …" if len(loaded.random) > 3 else "")
        notes.append(f"note  {_count(len(loaded.random), 'weight')} not in the folder, hence random: {names}")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _say(console: "Console", line: str) -> None:
    from rich.text import Text

    console.print(Text(line), soft_wrap=not console.is_terminal)


def _print_json(rows: list[dict[str, Any]]) -> None:
    import orjson

    typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
