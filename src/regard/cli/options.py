"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Fresh", "RunFolder", "Settings"]

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting, such as optim.lr=5e-5; may be repeated."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Start over: delete the run that is in the folder.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/demo.")]
