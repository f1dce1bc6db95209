"""Write the table of rules in `docs/check.md` from the rules themselves: `python scripts/document_rules.py`."""

import sys
from pathlib import Path

from regard.conformance import RULES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "check.md"
BEGIN, END = "<!-- rules: written by scripts/document_rules.py -->\n", "<!-- end of rules -->\n"


def main() -> int:
    """Rewrite the table; return the exit status."""
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(text), encoding="utf-8")
    return 0


def with_table(text: str) -> str:
    """Return the page with the table of today's rules between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def table() -> str:
    """Return one row per rule: what it states, how that is tested, what passes, what a failure usually means."""
    rows = ["| rule | what must hold | how it is tested | what still passes | a failure usually means |"]
    rows.append("|---|---|---|---|---|")
    for rule in RULES:
        cells = (rule.law, rule.method, rule.tolerance, rule.meaning)
        rows.append(f"| `{rule.id}` | {' | '.join(_cell(text) for text in cells)} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.rstrip(".").replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
