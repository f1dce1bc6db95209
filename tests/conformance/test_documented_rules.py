"""The table of rules in the documentation is that of the rules."""

import importlib.util
from pathlib import Path

from regard.conformance import RULES

ROOT = Path(__file__).resolve().parents[2]


def test_table_of_rules_is_that_of_the_rules() -> None:
    spec = importlib.util.spec_from_file_location("document_rules", ROOT / "scripts/document_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs/check.md").read_text(encoding="utf-8")

    assert page == module.with_table(page), "python scripts/document_rules.py writes it again"
    assert [f"\n| `{rule.id}` | " in page for rule in RULES] == [True] * len(RULES)
