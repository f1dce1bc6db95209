"""`regard forecast`: ask a trained forecaster what comes next."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regard.cli.options import RunFolder

if TYPE_CHECKING:
    from regard.train import Forecast

__all__ = ["register"]

_DATES_FROM = 1e8  # seconds since 1970; a smaller number counts something else
_SHOWN = 3  # horizons of the past in a drawing


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command(epilog="Example: regard forecast runs/forecaster load.csv --svg next.svg > next.csv")(forecast)


def forecast(
    run: RunFolder,
    file: Annotated[Path, typer.Argument(help="CSV or TSV file with the channels, as the run learnt from.")],
    out: Annotated[Path | None, typer.Option(help="Write the table here instead of printing it.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also draw each channel: past, forecast and band.")] = None,
) -> None:
    """Forecast the rows after the last one of a file, each channel with a band: 80 % of the errors in validation."""
    from regard.records import Run, write_bytes
    from regard.train import TrainedForecaster

    forecaster = TrainedForecaster.open(Run.open(run))
    found = forecaster.forecast(forecaster.load(file))
    table = "".join(f"{line}\n" for line in _lines(found))
    if out is None:
        typer.echo(table, nl=False)
    else:
        write_bytes(out, table.encode())
    if svg is not None:
        write_bytes(svg, _drawn(found).encode())
    for path in (out, svg):
        if path is not None:
            typer.echo(f"Written to {path}.", err=True)


def _lines(found: "Forecast") -> Iterator[str]:
    yield ",".join(["time", *(f"{name}{end}" for name in found.names for end in ("", "_low", "_high"))])
    for number, time in enumerate(found.times.tolist()):
        values = zip(found.values[number], found.low[number], found.high[number], strict=True)
        yield ",".join([_moment(time), *(f"{value:.6g}" for each in values for value in each)])


def _moment(time: float) -> str:
    return f"{time:g}" if time < _DATES_FROM else datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _drawn(found: "Forecast") -> str:
    from regard.cost import Curve, Mark, draw_curves, one_above_the_other

    past = found.read[-_SHOWN * len(found.values) :]
    drawings = []
    for number, name in enumerate(found.names):
        last = past[-1, number].item()  # where the forecast sets out from, in the drawing alone
        values, low, high = ([last, *part[:, number].tolist()] for part in (found.values, found.low, found.high))
        curves = [
            Curve(name="past", x=list(range(1 - len(past), 1)), y=past[:, number].tolist()),
            Curve(name="forecast", x=list(range(len(values))), y=values, low=low, high=high),
        ]
        drawings.append(
            draw_curves(
                curves,
                title=name,
                y_label="in its own unit; band: 80 % of the errors in validation",
                x_label="steps from the last row",
                marks=[Mark(x=0, text="last row")],
                log=False,
            )
        )
    return one_above_the_other(drawings, title=f"Forecast of {', '.join(found.names)}")
