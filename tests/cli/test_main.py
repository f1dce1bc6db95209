"""The command line answers at once, helps with examples, and never shows a traceback by itself."""

import subprocess
import sys
from collections.abc import Callable

import pytest

Command = Callable[..., tuple[int, str, str]]
COMMANDS = ["check", "demo", "diagnose", "doctor", "predict", "ready", "recipes", "report", "show", "train", "watch"]


def test_help_lists_every_command(regard_command: Command) -> None:
    code, out, _ = regard_command("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_ends_with_an_example(regard_command: Command, command: str) -> None:
    code, out, _ = regard_command(command, "--help")
    assert code == 0
    assert f"Example: regard {command}" in " ".join(out.split())


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; sys.argv = ['regard', '--help']\n"
        "from regard.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'sklearn', 'duckdb'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_the_package_version(regard_command: Command) -> None:
    import regard

    assert regard_command("--version")[:2] == (0, f"regard {regard.__version__}\n")


def test_an_unknown_command_is_named(regard_command: Command) -> None:
    code, _, err = regard_command("trian")
    assert code == 2
    assert "trian" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nowhere"], "A run folder with run.json is needed, got no file at nowhere/run.json."),
        (["diagnose", "nowhere"], "A run folder with run.json is needed"),
        (["ready", "nowhere"], "A run folder with run.json is needed"),
        (["report", "nowhere"], "A run folder with run.json is needed"),
        (["predict", "nowhere", "text"], "A run folder with run.json is needed"),
        (["train", "poet"], "translator; got 'poet'."),
        (["train", "text-classifier"], "--set data.path=FILE"),
        (["demo", "--set", "optim.lrr=1"], "did you mean 'lr'?"),
        (["recipes", "poet"], "A recipe must be one of"),
    ],
)
def test_wrong_input_gets_one_sentence_and_a_non_zero_exit(
    regard_command: Command, arguments: list[str], message: str
) -> None:
    code, out, err = regard_command(*arguments)
    assert code == 1
    assert out == ""
    assert err.startswith("regard: ")
    assert err.count("\n") == 1
    assert message in err


def test_debug_shows_the_traceback() -> None:
    command = [sys.executable, "-m", "regard", "--debug", "show", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "RecordError" in done.stderr


def test_recipes_print_every_setting(regard_command: Command) -> None:
    code, out, _ = regard_command("recipes", "demo")
    assert code == 0
    assert '"head_lr"' in out
