"""`regard check` proves what it is pointed at, names the broken rule first, and its exit status is the verdict."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regard.conformance import RULES
from regard.records import Checks, Run

Command = Callable[..., tuple[int, str, str]]

MODULE = '''
import torch
from torch import nn
from regard.conformance import AttentionModule


class Causal(nn.Module):
    """Causal attention; with shift 2 each token sees the next one."""

    def __init__(self, shift=1):
        super().__init__()
        self.linear, self.shift = nn.Linear(16, 48), shift

    def forward(self, x):
        query, key, value = self.linear(x).chunk(3, -1)
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(self.shift)
        return (query @ key.mT / 4).masked_fill(hidden, -torch.inf).softmax(-1) @ value


def good():
    return Causal()


def broken():
    return Causal(2)


def adapted():
    return AttentionModule(
        module=Causal(2),
        call=lambda module, x, keep, causal: module(x),
        embed_dim=16,
        num_heads=1,
        causal="always",
        padding=False,
    )


def mha():
    return nn.MultiheadAttention(16, 2)


def unscaled(query, key, value):
    return (query @ key.mT).softmax(-1) @ value


class Shelf:
    model = Causal()


def sized(width):
    return Causal()


def nothing():
    return None


number = 3
'''
CAUSAL = ("--assume", "causal=true", "--fast")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a module of the person's own; COLUMNS as on a small terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine_to_check.py").write_text(MODULE)
    (tmp_path / "torn_to_check.py").write_text("def f(:\n")
    (tmp_path / "poor_to_check.py").write_text("import a_package_that_nobody_has\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_to_check", raising=False)
    return tmp_path


# what is checked


def test_a_broken_rule_is_named_first_with_its_fix_and_how_to_see_it(regard_command: Command) -> None:
    code, out, err = regard_command("check", "mine_to_check:broken", *CAUSAL)
    lines = out.splitlines()

    assert (code, err) == (1, "")
    assert lines[0].startswith("Causal (model): ")
    assert lines[0].endswith("first of all causality.")
    assert lines[2].startswith("BROKEN causality: the output at a position depends on the tokens up to it")
    order = [out.index(word) for word in ("Seen: ", "Smallest case: 2 tokens", "Fix: ", "To see it:", "Proved:")]
    assert order == sorted(order)
    assert "causal = True (you said so)" in out


@pytest.mark.parametrize("target", ["broken", "adapted"])
def test_the_reproduction_shows_the_failure_when_it_is_pasted(
    regard_command: Command,
    capsys: pytest.CaptureFixture[str],
    here: Path,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = (f"mine_to_check:{target}", "--rule", "causality", "--fast", "--json")
    _, out, _ = regard_command("check", *given, *(() if target == "adapted" else ("--assume", "causal=true")))
    monkeypatch.syspath_prepend(here)
    exec(json.loads(out)["rules"][0]["reproduction"], {})

    assert float(re.search(r"tensor\(([\d.e-]+)", capsys.readouterr().out).group(1)) > 1e-3


def test_a_right_model_exits_with_0_and_says_what_was_proved_and_what_was_not(regard_command: Command) -> None:
    code, out, _ = regard_command("check", "mine_to_check:good", *CAUSAL)

    assert code == 0
    assert "no rule is broken" in out
    assert re.search(r"^  causality +no earlier output changes", out, flags=re.MULTILINE)
    assert re.search(r"^  softcap +it declares no soft cap", out, flags=re.MULTILINE)


def test_functions_and_attributes_of_classes_can_be_named(regard_command: Command) -> None:
    code, out, _ = regard_command("check", "mine_to_check:unscaled", "--rule", "scale", "--fast")
    assert code == 1
    assert out.startswith("unscaled (function): 1 rule is broken, first of all scale.")
    code, out, _ = regard_command("check", "mine_to_check:Shelf.model", "--rule", "determinism", "--fast")
    assert code == 0
    code, out, _ = regard_command("check", "torch.nn.functional:scaled_dot_product_attention", "--rule", "scale")
    assert code == 0


def test_a_folder_with_a_model_is_loaded_without_its_tokenizer(
    regard_command: Command, tiny_pretrained: Path, here: Path
) -> None:
    shutil.copytree(tiny_pretrained, here / "model", ignore=shutil.ignore_patterns("tok*", "vocab*"))
    code, out, err = regard_command("check", "model", "--fast", "--rule", "padding", "--rule", "scale")

    assert (code, err) == (0, "")
    assert out.startswith("BertModel (model): no rule is broken, 2 rules are proved.")


def test_a_run_folder_is_checked_by_its_model_and_keeps_the_result(
    regard_command: Command, tiny_pretrained: Path, here: Path
) -> None:
    run = Run.create(here / "run", recipe="test")
    shutil.copytree(tiny_pretrained, run.folder / "model")
    code, _, _ = regard_command("check", "run", "--fast", "--out", "run")
    assert code == 0
    checks = Run.open(run.folder).checks()
    assert (checks.target, checks.ok) == ("run", True)
    _, out, _ = regard_command("show", "run")
    assert re.search(r"Checks +\d+ laws of attention proved", out)
    _, out, _ = regard_command("ready", "run")
    assert "pass      Laws of attention hold" in out
    regard_command("report", "run")
    assert "No law is broken" in (run.folder / "report.html").read_text()


# what is printed and written


def test_json_and_the_file_say_the_same(regard_command: Command, here: Path) -> None:
    code, out, _ = regard_command("check", "mine_to_check:broken", *CAUSAL, "--json", "--out", "found.json")

    assert code == 1
    assert json.loads(out) == json.loads((here / "found.json").read_bytes())
    checks = Checks.load(here / "found.json")
    assert checks.target == "mine_to_check:broken"
    assert checks.rules[0].rule == "causality"


def test_a_folder_without_a_run_gets_the_file(regard_command: Command, here: Path) -> None:
    assert regard_command("check", "mine_to_check:good", "--rule", "determinism", "--out", here)[0] == 0
    assert Checks.load(here / "checks.json").ok


def test_what_is_drawn_depends_on_the_seed_alone(regard_command: Command) -> None:
    given = ("check", "torch.nn.functional:scaled_dot_product_attention", "--rule", "formula", "--fast", "--json")
    measured = [json.loads(regard_command(*given, "--seed", seed)[1])["rules"][0]["measured"] for seed in (1, 1, 2)]

    assert measured[0] == measured[1] != measured[2]


def test_rules_are_listed_with_what_they_state(regard_command: Command) -> None:
    code, out, _ = regard_command("check", "--rules")
    listed = " ".join(out.split())
    assert code == 0
    assert all(f"{rule.id} {rule.title} {rule.law}" in listed for rule in RULES)
    _, out, _ = regard_command("check", "--rules", "--json")
    assert [rule["id"] for rule in json.loads(out)] == [rule.id for rule in RULES]


def test_lines_stay_within_the_terminal_and_have_colours_only_there(
    regard_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("check", "mine_to_check:broken", *CAUSAL)
    assert "\x1b" not in regard_command(*given)[1]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, out, _ = regard_command(*given)
    plain = re.sub(r"\x1b\[[\d;]*m", "", out)

    assert "\x1b[1;31mBROKEN causality:\x1b[0m" in out
    prose = [line for line in plain.splitlines() if not line.startswith("      ")]  # code is not broken
    assert max(map(len, prose)) <= 80


# what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "TARGET must be given, got none"),
        (["bert-base-uncased"], "got 'bert-base-uncased'; models are never downloaded."),
        (["org/name"], "got 'org/name'; models are never downloaded."),
        (["."], "a folder without config.json"),
        (["nowhere_to_check:f"], "of which nowhere_to_check is not found in the current folder"),
        (["poor_to_check:f"], "poor_to_check must import, got No module named 'a_package_that_nobody_has' within it"),
        (["torn_to_check:f"], "torn_to_check must import, got SyntaxError: "),
        (["mine_to_check:brokn"], "got no 'brokn' in mine_to_check; did you mean 'broken'?"),
        (["mine_to_check:sized"], "got one that needs width; write a function without arguments"),
        (["mine_to_check:nothing"], "must return a model, a module or an attention function, got None."),
        (["mine_to_check:number"], "got int."),
        (["mine_to_check:good", "--rule", "causalty"], "got causalty; did you mean 'causality'?"),
        (["mine_to_check:good", "--assume", "causl=true"], "got causl; did you mean 'causal'?"),
        (
            ["mine_to_check:good", "--assume", "causal"],
            "--assume must be NAME=VALUE such as causal=true, got",
        ),
        (["mine_to_check:good", "--assume", "causal=maybe"], "must have true, false or none, got 'maybe'."),
        (["mine_to_check:good", "--assume", "window=wide"], "must have a value such as 128, got 'wide'."),
        (["mine_to_check:good", "--assume", "dtype=half-ish"], "must have a value such as float16, got 'half-ish'."),
        (["mine_to_check:good", "--out", "nowhere"], "--out must be a run folder, another folder or a file ending in"),
    ],
)
def test_wrong_input_gets_one_sentence_and_exit_status_2(
    regard_command: Command, arguments: list[str], message: str
) -> None:
    code, out, err = regard_command("check", *arguments)

    assert (code, out) == (2, "")
    assert err.startswith("regard: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_run_without_a_model_is_refused(regard_command: Command, here: Path) -> None:
    Run.create(here / "run", recipe="test")
    code, _, err = regard_command("check", "run")

    assert code == 2
    assert "A run must have written its model/ to be checked, got run without one" in err


def test_a_file_that_cannot_be_written_is_no_verdict(regard_command: Command, here: Path) -> None:
    (here / "file").write_text("")
    code, _, err = regard_command("check", "mine_to_check:good", "--rule", "determinism", "--out", "file/found.json")

    assert code == 2
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("scale=0.5", 0.5),
        ("window=4", 4),
        ("causal=No", False),
        ("softcap=none", None),
        ("attention_factors=1,1.2", (1.0, 1.2)),
    ],
)
def test_assumptions_get_the_type_of_their_trait(text: str, value: object) -> None:
    from regard.cli.assume import assumptions

    assert list(assumptions([text]).values()) == [value]


def test_a_dtype_is_named_with_or_without_torch() -> None:
    import torch

    from regard.cli.assume import assumptions

    assert assumptions(["dtype=torch.float16"]) == assumptions(["dtype=float16"]) == {"dtype": torch.float16}
