import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from regard._errors import MissingDependencyError, RecordError
from regard.records import HEAD_COLUMNS, Evidence, Finding, Run, Severity, Status
from regard.viewer import write_report

STYLE = Path(__file__).resolve().parents[3] / "src/regard/viewer/report/templates/style.css"
SECTIONS = ("verdict", "data", "training", "attention", "evaluation", "checks", "findings", "checklist", "reproduce")
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed, and notes elements, ids, links and what a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def source(full_run):
    return write_report(full_run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_report_is_one_whole_page_in_the_run_folder(full_run, source, page):
    assert (full_run.folder / "report.html").exists()
    assert source.lstrip().startswith("<!doctype html>")
    assert page.open == []
    assert [path.name for path in full_run.folder.glob(".*")] == []


def test_page_needs_no_network_and_no_script(source, page):
    assert page.all("script") == page.all("link") == page.all("img") == page.all("iframe") == []
    assert "url(" not in source
    assert "@import" not in source
    addresses = [link["href"] or "" for link in page.all("a")]
    assert [address for address in addresses if "//" in address] == []
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_page_is_small(full_run, source):
    assert len(source.encode()) < 1_500_000


def test_every_section_is_there_once_and_reached_by_the_navigation(page):
    ids = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]

    assert len(ids) == len(set(ids))
    assert set(SECTIONS) <= set(ids)
    anchors = {(link["href"] or "")[1:] for link in page.all("a") if (link["href"] or "").startswith("#")}
    assert anchors <= set(ids)


def test_headings_do_not_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]

    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_drawing_has_a_name(page):
    assert len(page.all("svg")) > 70
    for drawing in page.all("svg"):
        assert drawing["role"] == "img"
        assert drawing["aria-label"]


def test_every_table_names_its_columns_or_rows_and_scrolls_by_key(page):
    assert all(cell.get("scope") in ("col", "row") for cell in page.all("th"))
    regions = [attributes for attributes in page.all("div") if attributes.get("role") == "region"]
    assert regions
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


@pytest.mark.parametrize(
    "said",
    [
        "Not ready",
        "4 of 8 items of the production checklist pass, 2 items fail, 2 are not done.",
        "0.978",
        "0.972 – 0.984",
        "Reuters R8",
        "22.7 million parameters",
        "6 min 43 s",
        "of training time, 21.4 s",
        "12 + 31 of 2,189 test in train (2.0 %).",
        "layer 1 head 3",
        "3,600 calls",
        "arXiv:1902.10186",
        "arXiv:1908.04626",
        "+0.39",
        "chance alone could make this difference",
        "Expected calibration error 0.011",
        "1 of 72 heads lost the spread of their attention during training",
        "Judged, and nothing found",
        "2 laws broken, first of all causality; of 6 laws 1 was proved on Bert.",
        "3 tokens, input tokens, layer encoder.layer.2.attention, head 4, query 0, key 2",
        "0.35, tolerance 2.2e-07",
        "print(model(torch.arange(3)[None]) < 1)",
        "an empty row gives NaN with need_weights",
        "causal = True (you said so)",
        "this version does not check them",
        "regard demo --out",
        '"lr": 0.0001',
        "0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_page_says(page, said):
    assert said in page.words


def test_heat_map_cells_carry_their_values(full_run, source):
    found = full_run.heads.query(
        "SELECT avg(mean) AS mean FROM heads WHERE statistic = 'normalized_entropy' AND step <= 10 "
        "AND layer LIKE '%.2.%' AND head = 5"
    )["mean"][0]

    assert f"<title>layer 2 head 5: {found:.3g}</title>" in source


def test_statistic_that_never_changes_is_said_and_not_drawn(page):
    assert "The same in every head and every step, so not drawn: weight on padding 0." in page.words


def test_what_people_wrote_stays_text(small_run):
    evil = '<script>alert("x")</script>'
    run = small_run("events", "audit", "metrics", config={"note": evil}, message=evil, status=Status.FAILED)
    audit, metrics = run.read("audit"), run.read("metrics")
    audit["warnings"], audit["source"]["name"] = [evil], evil
    audit["splits"]["train"]["labels"][evil] = 7
    metrics["labels"][0] = metrics["per_class"][0]["label"] = metrics["models"][0]["name"] = evil
    run.write("audit", audit)
    run.write("metrics", metrics)
    evidence = [Evidence(source="heads", statistic=evil, value=1.0, layer=evil, note=evil)]
    text = {"rule": evil, "title": evil, "cause": evil, "remedy": evil, "reference": evil}
    run.write_findings([Finding(severity=Severity.ERROR, where=[evil], evidence=evidence, **text)])

    source = write_report(run).read_text(encoding="utf-8")

    assert "<script" not in source
    assert "&lt;script&gt;alert" in source
    assert Page(source).open == []


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((), "No training step was recorded."),
        ((), "No head statistics were recorded"),
        ((), "audit.json was not written"),
        ((), "metrics.json was not written"),
        ((), "The run was not diagnosed"),
        ((), "The laws of attention were not checked"),
        ((), "The checklist was not run"),
        (("events",), "No head statistics were recorded"),
        (("heads",), "No training step was recorded."),
        (("audit",), "The model of this run was not evaluated"),
        (("events", "heads", "audit", "metrics", "readiness"), "The run was not diagnosed"),
    ],
)
def test_what_is_missing_is_said_in_its_place(small_run, parts, said):
    page = Page(write_report(small_run(*parts)).read_text(encoding="utf-8"))

    assert said in page.words
    assert page.open == []


def test_interrupted_run_says_so_with_its_reason(small_run):
    run = small_run("events", "heads", status=Status.INTERRUPTED, message="stopped by hand after step 40")

    words = Page(write_report(run).read_text(encoding="utf-8")).words

    assert "Interrupted" in words
    assert "stopped by hand after step 40" in words


def test_run_of_one_step_is_drawn(small_run):
    run = small_run("events", "heads", num_steps=1)

    assert Page(write_report(run).read_text(encoding="utf-8")).open == []


def test_loss_that_is_no_number_is_marked(small_run):
    run = small_run("events")
    run.event("step", step=41, loss=float("nan"), grad_norm=float("inf"))

    assert "training, each step is not a number at 41" in write_report(run).read_text(encoding="utf-8")


def test_layer_that_was_not_watched_is_named_with_its_reason(small_run):
    entry = {"layer": "encoder.7", "seen": False, "calls": 0, "kernel": None, "kind": None, "reason": "own softmax"}

    words = Page(write_report(small_run("heads", coverage=[entry])).read_text(encoding="utf-8")).words

    assert "encoder.7 not seen 0 – own softmax" in words


def test_undefined_metrics_are_dashes_with_their_reason(small_run):
    run = small_run("metrics")
    metrics = run.read("metrics")
    metrics["models"][0]["metrics"]["auc_roc"] = {"value": None, "note": "a class has no row"}
    run.write("metrics", {**metrics, "calibration": None, "comparison": None})

    words = Page(write_report(run).read_text(encoding="utf-8")).words

    assert "a class has no row" in words
    assert "there is no calibration to show" in words


def test_many_classes_give_a_list_of_mistakes_instead_of_a_matrix(small_run):
    run = small_run("metrics")
    metrics = run.read("metrics")
    labels = [f"class {number}" for number in range(60)]
    per_class = [{"label": label, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 5} for label in labels]
    confusion = 5 * np.eye(60, dtype=int)
    confusion[3, 4] = 2
    run.write("metrics", {**metrics, "labels": labels, "per_class": per_class, "confusion": confusion.tolist()})

    words = Page(write_report(run).read_text(encoding="utf-8")).words

    assert "too many classes to draw" in words
    assert "class 3 class 4 2" in words


def test_deep_model_still_gives_a_small_page_and_says_what_it_left_out(tmp_path):
    run = Run.create(tmp_path / "deep", recipe="by hand")
    statistics = ("normalized_entropy", "output_norm", "first_mass", "max_weight", "distance")
    step, layer, head, statistic = (index.ravel() for index in np.indices((3, 48, 40, len(statistics))))
    columns = dict.fromkeys(HEAD_COLUMNS, np.zeros(step.size, dtype=np.float32))
    columns |= {"step": step + 1, "head": head, "mean": np.random.default_rng(0).random(step.size)}
    columns["layer"] = np.array([f"blocks.{number}.attn" for number in range(48)], dtype=object)[layer]
    columns["statistic"] = np.array(statistics, dtype=object)[statistic]
    run.heads.append(columns)

    source = write_report(run).read_text(encoding="utf-8")

    assert len(source.encode()) < 3_000_000
    assert "Recorded and not drawn" in source


def test_damaged_file_is_named(small_run):
    run = small_run("metrics")
    (run.folder / "metrics.json").write_text("{", encoding="utf-8")

    with pytest.raises(RecordError, match=r"metrics\.json must hold JSON"):
        write_report(run)


def test_report_that_cannot_be_written_leaves_the_old_one(small_run, monkeypatch):
    run = small_run("metrics")
    before = write_report(run).read_bytes()
    (run.folder / "metrics.json").write_text("{", encoding="utf-8")

    with pytest.raises(RecordError, match="damaged"):
        write_report(run)

    assert (run.folder / "report.html").read_bytes() == before


def test_absent_jinja_is_named(small_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)

    with pytest.raises(MissingDependencyError, match="needs Jinja2"):
        write_report(small_run())


def test_room_imports_without_jinja():
    code = "import sys; sys.modules['jinja2'] = None; import regard.viewer"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *[(ink, ground) for ink in ("ink", "muted", "accent") for ground in ("paper", "panel", "sunken")],
        *[(ink, "paper") for ink in ("good", "fair", "bad")],
        ("good", "good-soft"),
        ("fair", "fair-soft"),
        ("bad", "bad-soft"),
        ("accent", "info-soft"),
        ("ink", "fair-soft"),
        ("ink", "info-soft"),
    ],
)
def test_text_has_enough_contrast(theme, ink, ground):
    colours = theme_colours(theme)

    assert contrast(colours[ink], colours[ground]) >= 4.5  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("mark", [*[f"s{number}" for number in range(1, 7)], *[f"l{number}" for number in range(8)]])
def test_marks_have_enough_contrast(theme, mark):
    colours = theme_colours(theme)

    assert contrast(colours[mark], colours["paper"]) >= 3  # WCAG 2.2, 1.4.11


def theme_colours(theme: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", STYLE.read_text(encoding="utf-8"), flags=re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found if theme == "light" else found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))


def contrast(first: str, second: str) -> float:
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
