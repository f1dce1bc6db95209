"""`regard check`: prove the laws of attention on a model, a module or a function, and name the one that is broken."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard._errors import ArgumentError
from regard.cli.judging import judging

if TYPE_CHECKING:
    from rich.console import Console

    from regard.records import Checks

__all__ = ["register"]

_WIDEST = 100
_STYLES = {
    "good": "green",
    "fair": "yellow",
    "bad": "bold red",
    "quiet": "dim",
    "title": "bold",
    "code": "cyan",
}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: regard check minilm --fast")(check)


def check(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="A folder with a model, a run folder, minilm, or an import path such as package.module:factory.",
            show_default=False,
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer and shorter cases.")] = False,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Test this rule only; may be repeated.")
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Correct what is assumed, such as causal=true; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the tokens that are drawn.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN|FILE", help="Also write checks.json into this folder, or a file ending in .json."),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules with what each states, and stop.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Prove the laws of attention on a model, a module or a function, and name the rule that is broken.

    Everything runs on a private copy. Exits with 0 if no rule is broken, with 1 if one is, with 2 if nothing could be
    checked.
    """
    with judging():
        if rules:
            _list_rules(json)
            return
        if target is None:
            raise ArgumentError("TARGET must be given, got none; `regard check --help` says what it may be.")
        written = None if out is None else _file(out)
        checks = _checked(target, rule, fast=fast, assume=assume or [], seed=seed)
        if json:
            _print_json(checks.model_dump(mode="json"))
        else:
            _print(checks)
        if out is not None and written is not None:
            _write(checks, out, written)
    if not checks.ok:
        raise typer.Exit(1)


def _checked(target: str, rules: Sequence[str] | None, *, fast: bool, assume: Sequence[str], seed: int) -> "Checks":
    from regard.cli.assume import assumptions
    from regard.cli.target import Target
    from regard.conformance import RULES
    from regard.conformance import check as check_subject

    told = assumptions(assume)
    opened = Target.open(target)
    with _progress(len(rules or RULES)) as tell:
        report = check_subject(
            opened.subject,
            fast=fast,
            rules=rules or None,
            assume=told,
            seed=seed,
            origin=opened.origin,
            progress=tell,
        )
    record = report.record()
    return record.model_copy(update={"target": target, "notes": [*record.notes, *opened.notes]})


@contextmanager
def _progress(number: int) -> Iterator[Callable[[str], None]]:
    """Draw on stderr, so that the report alone is what goes into a pipe."""
    from rich.console import Console

    from regard.cli.console import ConsoleProgress

    progress = ConsoleProgress(Console(stderr=True, highlight=False))
    progress.start("checking", number)
    begun = False

    def tell(title: str) -> None:
        nonlocal begun
        if begun:
            progress.advance()
        begun = True

    try:
        yield tell
    finally:
        progress.stop()


def _file(out: Path) -> Path:
    """Return the file to write, known before a minute of checking."""
    if out.suffix == ".json" and not out.is_dir():
        return out
    if out.is_dir():
        return out / "checks.json"
    raise ArgumentError(f"--out must be a run folder, another folder or a file ending in .json, got {out}.")


def _write(checks: "Checks", out: Path, file: Path) -> None:
    from regard.records import Run, write_json

    if (out / "run.json").exists():
        Run.open(out).write_checks(checks)
    else:
        write_json(file, checks.model_dump(mode="json"))


def _print(checks: "Checks") -> None:
    from rich.console import Console
    from rich.text import Text

    from regard.conformance.wording import lines

    console = Console(highlight=False)
    width = min(console.width, _WIDEST) if console.is_terminal else _WIDEST
    for line in lines(checks, width):
        text = Text(line.text)
        if line.tone in _STYLES:
            text.stylize(_STYLES[line.tone], 0, line.length)
        _say(console, text)


def _list_rules(json: bool) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from regard.conformance import RULES

    if json:
        names = ("id", "title", "law", "why", "method", "tolerance", "meaning", "remedy")
        _print_json([{name: getattr(rule, name) for name in names} for rule in RULES])
        return
    console = Console(highlight=False)
    for rule in RULES:
        _say(console, Text.assemble((rule.id, "bold"), f"  {rule.title}"))
        law = Text(rule.law)
        console.print(Padding(law, (0, 0, 0, 2)) if console.is_terminal else Text(f"  {rule.law}"), soft_wrap=True)


def _say(console: "Console", text: Any) -> None:
    console.print(text, soft_wrap=True)


def _print_json(content: object) -> None:
    import orjson

    typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
