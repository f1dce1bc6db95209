"""What a benchmark prints and writes: a line on the machine, tables of ratios, and the same as Markdown and JSON."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from measure import MAX_WAITING, Comparison
from rich.console import Console
from rich.table import Table as RichTable

from regard.train import choose_hardware
from regard.train.hardware import git_commit, versions

__all__ = ["Plain", "Report", "Table", "add_peer_option", "only", "parser"]

Peer = TypeVar("Peer")

_MEGA = 1e6
_WIDTH = 160  # a table is never folded, also where the output is a file


@dataclass(kw_only=True)
class Table:
    """Ratios of some peers.

    Attributes:
        title: what was measured, with sizes and precision.
        comparisons: one per peer.
        tokens: real tokens of one sample, which adds tokens/s; None where that says nothing.
        peaks: peer -> bytes of memory beyond what was there before; peers may be absent.
        note: one line below the table.
    """

    title: str
    comparisons: Sequence[Comparison]
    tokens: int | None = None
    peaks: Mapping[str, int] = field(default_factory=dict)
    note: str | None = None

    def columns(self) -> list[str]:
        """Return the headings."""
        against = self.comparisons[0].against
        names = ["peer", "median", f"ratio to {against} (quartiles)", "extra time"]
        names += ["real tokens/s"] if self.tokens else []
        names += ["peak memory", "extra memory"] if self.peaks else []
        return [*names, "rounds kept"]

    def rows(self) -> list[list[str]]:
        """Return the cells, one row per peer."""
        return [self._row(comparison) for comparison in self.comparisons]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        rows = [{**asdict(found), **self._more(found)} for found in self.comparisons]
        return {"title": self.title, "note": self.note, "tokens": self.tokens, "peers": rows}

    def markdown(self) -> str:
        """Return the table in Markdown, below its title."""
        return _markdown(self.title, self.columns(), self.rows(), self.note)

    def show(self, console: Console) -> None:
        """Print the table."""
        _show(console, self.title, self.columns(), self.rows(), self.note)

    def _row(self, found: Comparison) -> list[str]:
        is_first = found.peer == found.against
        cells = [found.peer, _time(found.seconds)]
        cells += ["1", ""] if is_first else [_ratio(found), _signed(found.extra_s)]
        cells += [f"{self.tokens / found.seconds:,.0f}"] if self.tokens else []
        cells += self._memory(found) if self.peaks else []
        disturbed = "" if found.quiet else ", disturbed" if found.quiet is False else ", waiting unknown"
        return [*cells, f"{found.num_kept} of {found.num_taken}{disturbed}"]

    def _memory(self, found: Comparison) -> list[str]:
        peak, other = self.peaks.get(found.peer), self.peaks.get(found.against)
        if peak is None or other is None:
            return ["not measured", ""]
        extra = "" if found.peer == found.against else f"{(peak - other) / _MEGA:+,.0f} MB ({peak / other:.2f}×)"
        return [f"{peak / _MEGA:,.0f} MB", extra]

    def _more(self, found: Comparison) -> dict[str, Any]:
        return {
            "tokens_per_s": self.tokens / found.seconds if self.tokens else None,
            "peak_bytes": self.peaks.get(found.peer),
        }


@dataclass(kw_only=True)
class Plain:
    """A table of cells that are no ratios of samples; ``values`` is what they were made of, for the JSON file."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    values: Mapping[str, Any]
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"title": self.title, "note": self.note, "values": dict(self.values)}

    def markdown(self) -> str:
        """Return the table in Markdown, below its title."""
        return _markdown(self.title, self.columns, self.rows, self.note)

    def show(self, console: Console) -> None:
        """Print the table."""
        _show(console, self.title, self.columns, self.rows, self.note)


class Report:
    """Prints each table as it comes and writes all of them at the end.

    Args:
        question: what the benchmark answers.
        options: of ``parser``.
        facts: further words for the line on the machine, such as the precision.
    """

    def __init__(self, question: str, options: argparse.Namespace, *, facts: Sequence[str] = ()) -> None:
        self._question = question
        self._options = options
        self._machine = _machine()
        self._facts = list(facts)
        self._tables: list[Table | Plain] = []
        self._console = Console(width=_WIDTH, highlight=False)
        self._console.print(f"{question}\n{self._line()}\n{_rule()}\n", soft_wrap=True, markup=False)

    def add(self, table: Table | Plain) -> None:
        """Print ``table`` and keep it."""
        self._tables.append(table)
        table.show(self._console)
        self._console.print()

    def say(self, message: str) -> None:
        """Print one line."""
        self._console.print(message, soft_wrap=True, markup=False)

    def tell(self, message: str) -> None:
        """Say on stderr, away from the tables, how far the benchmark is."""
        print(message, file=sys.stderr, flush=True)

    def write(self) -> None:
        """Write the files that were asked for."""
        if self._options.json:
            content = {
                "schema_version": 1,
                "question": self._question,
                "quick": self._options.quick,
                "machine": self._machine,
                "facts": self._facts,
                "max_waiting": MAX_WAITING,
                "tables": [table.to_dict() for table in self._tables],
            }
            self._options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if self._options.markdown:
            parts = [f"{self._question}\n\n{self._line()}\n", *(table.markdown() for table in self._tables)]
            self._options.markdown.write_text("\n".join(parts), encoding="utf-8")

    def _line(self) -> str:
        machine = self._machine
        words = [machine["processor"], f"{machine['num_threads']} threads", machine["platform"]]
        words += [f"{name} {machine[name]}" for name in ("python", "torch", "transformers", "regard")]
        words += [f"commit {machine['commit'][:12]}"] if machine["commit"] else []
        quick = ["quick: no figure means anything"] if self._options.quick else []
        return "Machine: " + " · ".join([*words, *self._facts, *quick])


def parser(description: str, *, rounds: int) -> argparse.ArgumentParser:
    """Return the options that every benchmark has; ``rounds`` is the default."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="tiny sizes and one round: shows that it runs, in seconds")
    made.add_argument("--rounds", type=int, default=rounds, help=f"measured rounds (default {rounds})")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="also write the tables to FILE")
    return made


def add_peer_option(options: argparse.ArgumentParser) -> None:
    """Let a benchmark be asked for some of its peers."""
    options.add_argument(
        "--peer", nargs="*", default=[], metavar="TEXT", help="beside the first, only peers whose names hold a TEXT"
    )


def only(peers: Mapping[str, Peer], wanted: Sequence[str]) -> dict[str, Peer]:
    """Return the first peer, which the others are held against, and those whose names hold one of ``wanted``."""
    first = next(iter(peers))
    return {name: peer for name, peer in peers.items() if not wanted or name == first or _holds(name, wanted)}


def _holds(name: str, texts: Sequence[str]) -> bool:
    return any(text in name for text in texts)


def _markdown(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str | None) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"**{title}**\n\n{table}\n" + (f"\n{note}\n" if note else "")


def _show(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str | None
) -> None:
    table = RichTable(title=title, title_justify="left", caption=note, caption_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _machine() -> dict[str, Any]:
    hardware = choose_hardware("cpu", "auto")
    packages = {**versions(), "transformers": version("transformers")}
    return {"processor": hardware.name, "num_threads": hardware.num_threads, "commit": git_commit(), **packages}


def _rule() -> str:
    return (
        f"Ratios are medians over rounds in which neither peer's threads waited for a core for more than "
        f"{MAX_WAITING:.0%} of the time; 'disturbed' marks peers that had too few such rounds."
    )


def _ratio(found: Comparison) -> str:
    return f"{found.ratio:.3f} ({found.low:.3f} – {found.high:.3f})"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if abs(seconds) >= 1 else f"{seconds * 1e3:.1f} ms"


def _signed(seconds: float) -> str:
    return f"{'+' if seconds >= 0 else '−'}{_time(abs(seconds))}"
