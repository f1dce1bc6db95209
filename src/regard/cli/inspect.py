"""`regard show`, `diagnose`, `ready` and `report`: read a saved run and say what is in it."""

from typing import TYPE_CHECKING, Annotated

import typer

from regard.cli.options import RunFolder

if TYPE_CHECKING:
    from regard.diagnose import Diagnosis

__all__ = ["register"]

_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command(epilog="Example: regard show runs/demo")(show)
    app.command(epilog="Example: regard diagnose runs/demo")(diagnose)
    app.command(epilog="Example: regard ready runs/demo && ./deploy")(ready)
    app.command(epilog="Example: regard report runs/demo")(report)


def show(run: RunFolder) -> None:
    """Show a run on one screen."""
    from rich.console import Console

    from regard.records import Run
    from regard.viewer import summary

    Console().print(summary(Run.open(run)))


def diagnose(run: RunFolder, json: _Json = False) -> None:
    """Find what is wrong with a run from its records: cause, evidence, remedy. Exits with 1 if an error is found."""
    from regard.diagnose import diagnose as judge
    from regard.records import Run, Severity

    opened = Run.open(run)
    diagnosis = judge(opened)
    opened.write_findings(diagnosis.findings)
    opened.write("diagnosis", diagnosis.to_dict())
    if json:
        _print_json([finding.model_dump(mode="json") for finding in diagnosis.findings])
    else:
        _print_findings(diagnosis)
    if any(finding.severity is Severity.ERROR for finding in diagnosis.findings):
        raise typer.Exit(1)


def ready(run: RunFolder, json: _Json = False) -> None:
    """Judge a run by the production checklist. Exits with 0 only if every item passes."""
    from regard.readiness import judge, verdict
    from regard.records import Run, Verdict

    opened = Run.open(run)
    items = judge(opened)
    opened.write_readiness(items)
    word, sentence = verdict(items)
    if json:
        _print_json({"verdict": word, "items": [item.model_dump(mode="json") for item in items]})
    else:
        marks = {Verdict.PASS: "pass", Verdict.FAIL: "FAIL", Verdict.NOT_DONE: "not done"}
        for item in items:
            typer.echo(f"{marks[item.verdict]:8}  {item.title}: {item.evidence}")
        typer.echo(f"\n{word}: {sentence}")
    if any(item.verdict is not Verdict.PASS for item in items):
        raise typer.Exit(1)


def report(run: RunFolder) -> None:
    """Write report.html of a run again, one self-contained file."""
    from regard.records import Run
    from regard.viewer import write_report

    typer.echo(str(write_report(Run.open(run))))


def _print_findings(diagnosis: "Diagnosis") -> None:
    for finding in diagnosis.findings:
        where = f"  ({', '.join(finding.where[:3])})" if finding.where else ""
        typer.echo(f"{finding.severity.value:8} {finding.rule}: {finding.title}{where}")
        typer.echo(f"         cause: {finding.cause}\n         remedy: {finding.remedy}")
    typer.echo(f"{len(diagnosis.judged)} rules judged, {len(diagnosis.findings)} findings.")
    for rule, reason in diagnosis.not_judged.items():
        typer.echo(f"not judged: {rule}: {reason}")


def _print_json(content: object) -> None:
    import orjson

    typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
