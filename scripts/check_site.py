"""Check the built documentation: every link and anchor inside it resolves, and no page needs the network.

Usage: python scripts/check_site.py site
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}
LOADING_RELATIONS = {"stylesheet", "preconnect", "preload", "dns-prefetch", "icon"}


class Page(HTMLParser):
    """The links, anchors and loaded files of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what ``tag`` names, points to or loads."""
        found = {name: value for name, value in attrs if value is not None}
        self.anchors.update(found[name] for name in ("id", "name") if name in found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and LOADING_RELATIONS & set(found.get("rel", "").split()):
            self.loaded.append(found["href"])
        self.loaded += [found[name] for kind, name in LOADED if kind == tag and name in found]


def main(site: Path) -> int:
    """Print what is wrong; return the exit status."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    problems = [problem for page in pages.values() for problem in (*broken(page, pages), *fetched(page))]
    for problem in problems:
        print(f"docs: {problem}", file=sys.stderr)
    if not problems:
        print(f"{len(pages)} pages, {sum(len(page.links) for page in pages.values())} links")
    return int(bool(problems) or not pages)


def broken(page: Page, pages: dict[Path, Page]) -> list[str]:
    """Name the links of ``page`` that lead nowhere."""
    problems = []
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or page.path.name == "404.html":
            continue
        target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path.resolve()
        target = target / "index.html" if target.is_dir() else target
        if not target.exists():
            problems.append(f"{page.path}: no page at {link!r}")
        elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
            problems.append(f"{page.path}: no anchor at {link!r}")
    return problems


def fetched(page: Page) -> list[str]:
    """Name what ``page`` would load from the network."""
    return [f"{page.path}: loads {address!r}" for address in page.loaded if urlsplit(address).netloc]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
