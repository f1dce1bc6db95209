"""The README and the documentation are tested: their Python runs, their links lead somewhere, no page is lost."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
ROOMS = sorted(path.parent.name for path in (ROOT / "src/regard").glob("*/__init__.py"))
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]+)?\)")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python_of(page: Path) -> str:
    """Return the page's Python blocks as one program whose line numbers are the page's."""
    text = page.read_text(encoding="utf-8")
    program = ""
    for block in FENCE.finditer(text):
        line = text.count("\n", 0, block.start(1))
        program += "\n" * (line - program.count("\n")) + block.group(1)
    return program


def nav_pages(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    children = entry.values() if isinstance(entry, dict) else entry
    return [page for child in children for page in nav_pages(child)]


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=name_of)
def test_python_of_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    exec(compile(python_of(page), str(page), "exec"), {"__name__": "__page__"})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_page_lead_to_files(page):
    targets = {match.group(1) for match in LINK.finditer(page.read_text(encoding="utf-8"))} - {""}

    assert {target for target in targets if not (page.parent / target).exists()} == set()


def test_every_page_is_in_the_navigation_once():
    navigation = nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])

    assert sorted(navigation) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("room", sorted(set(ROOMS) - {"cli"}))
def test_every_room_has_its_reference_page(room):
    assert f"::: regard.{room}\n" in (DOCS / f"api/{room}.md").read_text(encoding="utf-8")


def test_settings_of_the_site_need_no_network():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    assert settings["theme"]["font"] is False
    assert not [address for address in settings.get("extra_javascript", []) if "://" in str(address)]


def test_every_command_and_option_is_documented():
    import typer

    from regard.cli.main import app

    sections = re.split(
        r"^## regard (\w+)$", (DOCS / "command-line.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    documented = dict(zip(sections[1::2], sections[2::2], strict=True))
    commands = typer.main.get_command(app).commands
    assert set(documented) == set(commands)
    missing = [
        f"regard {name} {option}"
        for name, command in commands.items()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option != "--help" and f"`{option}" not in documented[name]
    ]

    assert missing == []
