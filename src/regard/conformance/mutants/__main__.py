"""``python -m regard.conformance.mutants``: check every mutant and write the table of the documentation."""

import argparse
import importlib
import sys
from pathlib import Path

from regard.conformance.mutants import MUTANTS
from regard.conformance.mutants.mutant import Mutant
from regard.conformance.mutants.table import Caught, caught, page


def main(arguments: list[str] | None = None) -> int:
    """Check, write, and return 1 if a mutant was not caught by the right rule."""
    given = _parser().parse_args(arguments)
    mutants = [mutant for mutant in _all(given.also) if not given.on or mutant.on in given.on]
    results = caught(mutants, fast=given.fast, seed=given.seed, progress=_tell)
    if given.out is not None:
        given.out.write_text(page(results), encoding="utf-8")
    wrong = sum(not one.ok for one in results)
    sys.stdout.write(f"{len(results)} mutants, {wrong} not caught by the right rule first.\n")
    return int(bool(wrong))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m regard.conformance.mutants", description=main.__doc__)
    parser.add_argument("--out", type=Path, help="file to write the page to, such as docs/check-mutants.md")
    parser.add_argument("--on", action="append", help="only mutants of this subject, such as llama; may be repeated")
    parser.add_argument("--also", action="append", default=[], help="MODULE:NAME of further mutants; may be repeated")
    parser.add_argument("--fast", action="store_true", help="fewer and shorter cases")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _all(also: list[str]) -> list[Mutant]:
    more = (getattr(importlib.import_module(one.partition(":")[0]), one.partition(":")[2]) for one in also)
    return [*MUTANTS, *(mutant for mutants in more for mutant in mutants)]


def _tell(one: Caught) -> None:
    said = "caught" if one.ok else f"NOT caught by {one.mutant.rule} first, healthy broke {list(one.healthy)}"
    sys.stdout.write(f"{one.mutant.name}: {said}; broken {', '.join(one.failed) or 'none'}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
