"""`regard doctor`: what this installation has and will run, and `--tune`: where its native kernels win."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import Console

    from regard.functional.kernels import LinearRung, Rung, Tuning

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: regard doctor --tune")(doctor)


def doctor(
    tune: Annotated[
        bool, typer.Option("--tune", help="Measure where the native kernels win on this machine, and keep that.")
    ] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what --tune measured.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show what this installation has and what it will run. Exits with 1 if something installed is broken."""
    from regard._errors import ArgumentError

    if tune and reset:
        raise ArgumentError("One of --tune and --reset must be given, got both; --tune alone replaces what is kept.")
    if reset:
        _reset(json)
    elif tune:
        _tune(json)
    else:
        _show(json)


def _show(json: bool) -> None:
    from regard.cli.doctor_text import installation_lines
    from regard.cli.installation import examine

    found = examine()
    if json:
        _print_json(found)
    else:
        for line in installation_lines(found):
            typer.echo(line)
    if found.problems:
        raise typer.Exit(1)


def _reset(json: bool) -> None:
    from regard.functional.kernels import region_path

    path = region_path()
    existed = path.exists()
    with _writing(path):
        path.unlink(missing_ok=True)
    if json:
        _print_json({"path": str(path), "removed": existed})
    else:
        typer.echo(f"{path} is removed." if existed else f"Nothing was measured: there is no {path}.")


def _tune(json: bool) -> None:
    from dataclasses import replace

    from rich.console import Console

    from regard._errors import UnsupportedError
    from regard.cli.doctor_text import tuning_lines
    from regard.functional import kernels

    native = kernels.native_kernels()
    if not native.works:
        reason = native.problem or "regard-native is not installed; install it with `pip install ./native`."
        raise UnsupportedError(f"--tune needs native kernels that work: {reason}")
    tuning = _measured(Console(stderr=json, highlight=False))
    linear = kernels.tune_linear()
    region = replace(tuning.region, linear=kernels.most_rows(linear), conditions=kernels.Conditions.now())
    tuning = replace(tuning, region=region)
    path = kernels.region_path()
    if not json:  # before the file is written: where that fails, a minute of measuring is not lost
        for line in tuning_lines(tuning, linear, native):
            typer.echo(line)
    with _writing(path):
        tuning.region.save(path)
    if json:
        _print_json(_tuning_content(tuning, linear, path))
    else:
        typer.echo(f'\nimpl="auto" goes by this from now on: {path}\n`regard doctor --reset` removes it.')


def _measured(console: "Console") -> "Tuning":
    from regard.cli.console import ConsoleProgress
    from regard.functional import kernels

    progress = ConsoleProgress(console)
    progress.start("measuring", len(kernels.DTYPES) * sum(len(ladder.sizes) for ladder in kernels.LADDERS))
    try:
        return kernels.tune(tell=lambda *_: progress.advance())
    finally:
        progress.stop()


@contextmanager
def _writing(path: "Path") -> Iterator[None]:
    """Turn a file that cannot be written or removed into a sentence that says which, and what to do."""
    from regard._errors import ArgumentError

    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ArgumentError(
            f"The figures of this machine need a file that can be written, got '{reason}' at {path}; "
            "name another one in REGARD_REGION."
        ) from error


def _tuning_content(tuning: "Tuning", linear: "Sequence[LinearRung]", path: "Path") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "path": str(path),
        "region": tuning.region,
        "num_left_out": tuning.num_left_out,
        "measured": [_rung_content(rung) for rung in tuning.rungs],
        "measured_linear": [asdict(rung) for rung in linear],
    }


def _rung_content(rung: "Rung") -> dict[str, Any]:
    from dataclasses import asdict

    content = asdict(rung)
    return {**content, "size": {**content["size"], "work": rung.size.work}}


def _print_json(content: object) -> None:
    import orjson

    typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
