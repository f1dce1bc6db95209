"""One screen of a terminal: verdict, models, findings, checklist, and where to read on."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from regard.records import CheckVerdict, Interval, ModelScore, Run, Severity
from regard.viewer.report.numbers import plural
from regard.viewer.report.outcome import outcome
from regard.viewer.report.sections.headline import facts
from regard.viewer.report.sections.scores import best, headlines, interval_text, is_lower_better, models, title

__all__ = ["summary"]

_TONE = {"good": "green", "fair": "yellow", "bad": "red"}
_SEVERITY = {Severity.ERROR: ("✗", "red"), Severity.WARNING: ("!", "yellow"), Severity.INFO: ("·", "cyan")}
_MAX_FINDINGS = 6
_MAX_FAILED = 5
_WIDTH = 100
_NAME_WIDTH = 23  # leaves three shares with their intervals on a narrow screen
_NARROW = 80
_GAP = 2  # between columns


def summary(run: Run) -> RenderableType:
    """Return ``run`` on one screen (at most 40 lines of 100 columns), for ``rich.console.Console.print``.

    Raises:
        RecordError: a file of the run is damaged.
    """
    parts = [_verdict(run), _facts(run), _models(run), _checks(run), _findings(run), _checklist(run), _paths(run)]
    return Group(*(part for part in parts if part is not None))


def _verdict(run: Run) -> RenderableType:
    result = outcome(run)
    text = Text.assemble((result.word.upper(), f"bold {_TONE[result.tone]}"), ("  ", ""), (run.info.name, "bold"))
    return Group(text, _line(result.sentence), Text())


def _line(text: str | Text, indent: int = 0) -> RenderableType:
    """Return ``text`` on one line, cut where the screen ends."""
    line = text if isinstance(text, Text) else Text(text)
    line.no_wrap, line.overflow = True, "ellipsis"
    line.truncate(_WIDTH - indent, overflow="ellipsis")
    return Padding(line, (0, 0, 0, indent))


def _facts(run: Run) -> RenderableType | None:
    wanted = ("Data", "Steps", "Time", "Speed", "Device")
    told = [f"{name.lower()} {value}" for name, value, _ in facts(run) if name in wanted]
    return Group(_line(" · ".join(told)), Text()) if told else None


def _models(run: Run) -> RenderableType | None:
    rows = models(run)
    if not rows:
        return Group(_line("Not evaluated yet: there is no metrics.json."), Text())
    metrics = run.read("metrics")
    tops = {name: best(rows, name, lower_is_better=is_lower_better(metrics, name)) for name in headlines(metrics)}
    shown = rows[:6]
    columns = {name: [_cell(row.metrics.get(name), top) for row in shown] for name, top in tops.items()}
    titles = [title(metrics, name).lower() for name in columns]
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column("model", no_wrap=True)
    for heading in titles:
        table.add_column(heading, no_wrap=True)
    between = " " if _fits(shown, titles, list(columns.values())) else "\n"
    for place, row in enumerate(shown):
        table.add_row(escape(_cut(row.name)), *(_joined(cells[place], between) for cells in columns.values()))
    return Group(table, Text())


def _fits(rows: Sequence[ModelScore], titles: Sequence[str], columns: Sequence[Sequence[tuple[Text, Text]]]) -> bool:
    """Return whether figures and their intervals have room beside each other."""
    widths = [max(len(_cut(row.name)) for row in rows)]
    for heading, cells in zip(titles, columns, strict=True):
        widths.append(max(len(heading), *(len(_joined(cell, " ")) for cell in cells)))
    return sum(widths) + _GAP * (len(widths) - 1) <= _NARROW


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _cell(interval: Interval | None, top: float | None) -> tuple[Text, Text]:
    """Return the figure and its interval."""
    value, ends = interval_text(interval)
    if interval is None or interval.value is None:
        return Text(value, style="dim"), Text()
    shown = ends.replace(" – ", "–") if interval.low is not None else ""
    return Text(value, "bold" if interval.value == top else ""), Text(shown, "dim")


def _joined(cell: tuple[Text, Text], between: str) -> Text:
    return Text(between).join(part for part in cell if part)


def _checks(run: Run) -> RenderableType | None:
    if not run.has("checks"):
        return None
    checks = run.checks()
    broken = checks.rules_with(CheckVerdict.FAIL)
    proved = f"{plural(len(checks.rules_with(CheckVerdict.PASS)), 'law')} of attention proved"
    untested = checks.rules_with(CheckVerdict.NOT_TESTED)
    line = Text.assemble(("Checks     ", "bold"), (proved, "" if broken else "green"))
    if broken:
        line.append(f", {len(broken)} broken: {', '.join(rule.rule for rule in broken)}", "red")
    if untested:
        line.append(f", {len(untested)} not tested", "yellow")
    return Group(_line(line), Text())


def _findings(run: Run) -> RenderableType:
    if not run.has("findings"):
        return Group(_line("Findings: the run was not diagnosed."), Text())
    findings = run.findings()
    if not findings:
        return Group(_line("Findings: none."), Text())
    lines: list[RenderableType] = [Text("Findings", style="bold")]
    for finding in findings[:_MAX_FINDINGS]:
        mark, colour = _SEVERITY[finding.severity]
        line = Text.assemble((f"{mark} {finding.severity.value:8}", colour), finding.title)
        lines.append(_line(line, indent=2))
    if len(findings) > _MAX_FINDINGS:
        lines.append(_line(f"and {len(findings) - _MAX_FINDINGS} more", indent=2))
    return Group(*lines, Text())


def _checklist(run: Run) -> RenderableType | None:
    if not run.has("readiness"):
        return None
    result = outcome(run)
    counts = Text.assemble(
        ("Checklist  ", "bold"),
        (f"{result.passed} pass", "green"),
        (f"  {len(result.failed)} fail", "red" if result.failed else "dim"),
        (f"  {len(result.undone)} not done", "yellow" if result.undone else "dim"),
    )
    lines: list[RenderableType] = [counts]
    lines += [_line(f"✗ {title}", indent=2) for title in result.failed[:_MAX_FAILED]]
    if len(result.failed) > _MAX_FAILED:
        lines.append(_line(f"and {len(result.failed) - _MAX_FAILED} more fail", indent=2))
    return Group(*lines, Text())


def _paths(run: Run) -> RenderableType:
    names = [name for name in ("report.html", "model") if (run.folder / name).exists()]
    lines: list[RenderableType] = [Text.assemble(("Run        ", "bold"), str(run.folder))]
    lines += [
        Text.assemble((f"{name.split('.')[0].capitalize():11}", "bold"), str(run.folder / name)) for name in names
    ]
    return Group(*lines)
