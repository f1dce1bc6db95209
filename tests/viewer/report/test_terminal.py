from io import StringIO

import pytest
from rich.console import Console

from regard.records import Finding, Severity, Status
from regard.viewer import summary
from regard.viewer.report.sections.scores import headlines


def shown(run, width: int = 100) -> list[str]:
    out = StringIO()
    Console(file=out, width=width, color_system=None).print(summary(run))
    return out.getvalue().splitlines()


def test_summary_fits_one_screen_and_says_what_matters(full_run):
    lines = shown(full_run)
    text = "\n".join(lines)

    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    for said in ("NOT READY", "0.978 0.972–0.984", "TF-IDF + LinearSVC", "! warning", "4 pass  2 fail  2 not done"):
        assert said in text
    assert "Checks     1 law of attention proved, 2 broken: causality, cache, 1 not tested" in text
    assert "✗ No documents leak between splits" in text
    assert str(full_run.folder) in text.replace("\n", "")


@pytest.mark.parametrize("parts", [(), ("events",), ("metrics",), ("readiness",), ("events", "audit", "metrics")])
def test_unfinished_run_is_summed_up(small_run, parts):
    run = small_run(*parts, status=Status.INTERRUPTED, message="stopped by hand")

    text = "\n".join(shown(run))

    assert "small" in text
    assert ("INTERRUPTED" in text) == ("readiness" not in parts)
    assert ("Not evaluated yet" in text) == ("metrics" not in parts)
    assert "Findings: the run was not diagnosed." in text


def test_many_and_long_findings_stay_on_the_screen(small_run):
    run = small_run("metrics", "readiness")
    finding = Finding(rule="r", severity=Severity.ERROR, title="word " * 60, cause="c", remedy="r")
    run.write_findings([finding] * 30)

    lines = shown(run)

    assert len(lines) <= 40
    assert any("and 24 more" in line for line in lines)


def test_no_finding_is_said(small_run):
    run = small_run()
    run.write_findings([])

    assert "Findings: none." in "\n".join(shown(run))


def test_brackets_in_names_are_no_markup(small_run):
    run = small_run("metrics")
    metrics = run.read("metrics")
    metrics["models"][1]["name"] = "[bold]SVC[/nothing]"
    run.write("metrics", metrics)

    assert "[bold]SVC[/nothing]" in "\n".join(shown(run))


def test_narrow_screen_cuts_names_and_never_a_number(small_run):
    run = small_run("metrics")
    metrics = run.read("metrics")
    metrics["models"][0]["name"] = "a model with quite a long name"
    run.write("metrics", metrics)
    run.write_findings([Finding(rule="r", severity=Severity.ERROR, title="word " * 60, cause="c", remedy="r")] * 3)

    lines = shown(run, width=80)

    assert any("0.978 0.972–0.984  0.944 0.938–0.950  0.998 0.992–1.000" in line for line in lines)
    assert sum("word" in line for line in lines) == 3


def test_figures_too_wide_for_a_narrow_screen_have_their_intervals_below(small_run):
    run = small_run("metrics")
    metrics = run.read("metrics")
    first = headlines(metrics)[0]
    metrics["models"][0]["metrics"][first] |= {"value": 253232.3, "low": 159654.0, "high": 395672.1}
    run.write("metrics", metrics)

    lines = shown(run, width=80)
    at = next(place for place, line in enumerate(lines) if "253,232" in line)

    assert max(map(len, lines)) <= 80
    assert lines[at].split()[-3:] == ["253,232", "0.944", "0.998"]
    assert lines[at + 1].split() == ["159,654–395,672", "0.938–0.950", "0.992–1.000"]
