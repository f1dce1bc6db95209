"""The `regard` command: its subcommands, and errors as one sentence."""

import errno
import os
import sys
from typing import Annotated, Any

import typer

from regard import __version__
from regard._errors import RegardError
from regard.cli import (
    book,
    check,
    compare,
    demo,
    doctor,
    forecast,
    generate,
    inspect,
    plan,
    predict,
    profile,
    train,
    translate,
    watch,
)
from regard.cli.judging import CannotJudgeError
from regard.cli.logs import LogFile, LogFormat, LogLevel, TorchLogs, start_logs
from regard.cli.process import wait_briefly

__all__ = ["app", "run"]

_INTERRUPTED = 130
# typer brings click's errors under a name of its own that changes; this is click's UsageError wherever it lives
_UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="regard",
    help="See self-attention, prove it right, build with it, ship it.",
    epilog="Example: regard demo --fast",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo.register(app)
train.register(app)
compare.register(app)
inspect.register(app)
predict.register(app)
generate.register(app)
translate.register(app)
forecast.register(app)
book.register(app)
watch.register(app)
check.register(app)
profile.register(app)
plan.register(app)
doctor.register(app)


def _print_version(wanted: bool | None) -> None:
    if wanted:
        typer.echo(f"regard {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    log_level: LogLevel = None,
    log_file: LogFile = None,
    log_format: LogFormat = "text",
    torch_logs: TorchLogs = None,
) -> None:
    start_logs(log_level, log_file, log_format)


def run() -> None:
    """Run the command line; an error is one sentence on stderr and a non-zero exit."""
    wait_briefly()
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        code = app(args=arguments, prog_name="regard", standalone_mode=False)
    except (RegardError, OSError) as error:
        if debug or (isinstance(error, OSError) and not _is_expected(error)):
            raise
        _fail(_sentence(error), code=error.exit_code if isinstance(error, CannotJudgeError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except _UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    if code == _INTERRUPTED:
        _fail("Interrupted. What was written is whole; the same command goes on from there.", code=_INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _is_expected(error: OSError) -> bool:
    return isinstance(error, RegardError) or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, RegardError):
        place = f" at {error.filename}" if error.filename else ""
        reason = os.strerror(error.errno or 0).lower()
        return (
            f"A run folder that can be written is needed, got '{reason}'{place}; "
            "free space or name another folder with --out."
        )
    return str(error)


def _fail(message: str, code: int = 1) -> None:
    typer.echo(f"regard: {message}", err=True)
    sys.exit(code)
