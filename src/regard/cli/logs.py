"""Options of every command that say what is logged and where: `regard --log-level info demo`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from regard._errors import ArgumentError, UnsupportedError

__all__ = ["LogFile", "LogFormat", "LogLevel", "TorchLogs", "pass_torch_logs", "start_logs"]

_ASKS_FOR_HELP = ("help", "+help")


def start_logs(level: str | None, file: Path | None, style: str) -> None:
    """Hear what regard logs.

    Args:
        level: as ``regard.logs.configure`` takes it.
        file: where lines go instead of stderr.
        style: ``text`` or ``json``.
    """
    from regard import logs

    logs.configure(level, file=file, format=style)


def pass_torch_logs(settings: str | None) -> str | None:
    """Hand ``settings`` to PyTorch's own logging, which reads them once, when it is imported: here and now.

    Raises:
        ArgumentError: PyTorch does not know the settings.
        UnsupportedError: PyTorch has been imported before.
    """
    if settings is None:
        return None
    if "torch" in sys.modules:
        raise UnsupportedError(
            "PyTorch reads its log settings when it is imported, which has happened before --torch-logs was read; "
            "set TORCH_LOGS in the environment instead."
        )
    os.environ["TORCH_LOGS"] = settings
    try:
        import torch  # noqa: F401 (its import reads and checks the settings)
    except ValueError as error:
        if settings in _ASKS_FOR_HELP:
            typer.echo(str(error).strip())
            raise typer.Exit from None
        raise ArgumentError(
            f"--torch-logs must be settings that PyTorch knows, got {settings!r}; "
            "`regard --torch-logs help` lists them."
        ) from error
    return settings


LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        show_default=False,
        help="debug (each head), info (each layer), warning, error or critical; default: REGARD_LOG, else warning.",
    ),
]
LogFile = Annotated[
    Path | None, typer.Option("--log-file", metavar="FILE", help="Append log lines to a file instead of stderr.")
]
LogFormat = Annotated[str, typer.Option("--log-format", metavar="text|json", help="How log lines are written.")]
TorchLogs = Annotated[
    str | None,
    typer.Option(
        "--torch-logs",
        metavar="SETTINGS",
        callback=pass_torch_logs,
        is_eager=True,
        help='Settings for PyTorch\'s own logs, such as "+dynamo"; help lists them.',
    ),
]
