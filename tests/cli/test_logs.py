"""Options before the command say what is logged, for every command."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]

# The command line on an application of one command, which tells an event, and torch's own settings if it was imported.
TELLS = """
import logging, sys
import regard.cli.main as main
from regard import logs
@main.app.command()
def tell():
    for level in (10, 20, 30):
        logs.event(logging.getLogger("regard.watch"), level, "layer", step=1)
    print(*(logging.getLogger("torch." + name).level for name in ("_dynamo", "_inductor")), "torch" in sys.modules)
main.run()
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("REGARD_LOG", raising=False)
    monkeypatch.delenv("TORCH_LOGS", raising=False)
    logger = logging.getLogger("regard")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:], logger.level = handlers, level


def tell(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", TELLS, *options, "tell"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("options", "environment", "levels"),
    [
        ([], None, ["WARNING"]),
        (["--log-level", "info"], None, ["INFO", "WARNING"]),
        ([], "debug", ["DEBUG", "INFO", "WARNING"]),
        (["--log-level", "error"], "debug", []),
    ],
)
def test_every_command_logs_at_the_level_asked_for(options, environment, levels, monkeypatch):
    if environment is not None:
        monkeypatch.setenv("REGARD_LOG", environment)
    done = tell(*options)

    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stderr.splitlines()] == levels
    assert done.stdout == "0 0 False\n", "a command that needs no torch still imports none"


def test_lines_go_to_the_file_in_the_format_asked_for(tmp_path):
    path = tmp_path / "regard.jsonl"
    done = tell("--log-level", "info", "--log-file", str(path), "--log-format", "json")

    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["level"] for line in path.read_text().splitlines()] == ["info", "warning"]


def test_torch_gets_its_own_settings_before_it_is_imported():
    done = tell("--torch-logs", "+dynamo,-inductor")

    assert (done.returncode, done.stdout) == (0, f"{logging.DEBUG} {logging.ERROR} True\n")


def test_torch_says_itself_what_can_be_named():
    command = [sys.executable, "-m", "regard", "--torch-logs", "help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert "recompiles" in done.stdout


def test_settings_that_torch_does_not_know_get_one_sentence():
    done = tell("--torch-logs", "nonsense")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "regard: --torch-logs must be settings that PyTorch knows, got 'nonsense'; "
        "`regard --torch-logs help` lists them.\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--log-level", "loud"], "A log level must be one of debug, info, warning, error, critical; got 'loud'."),
        (["--log-format", "xml"], 'format must be "text" or "json"'),
        (["--log-file", "nowhere/regard.log"], "'no such file or directory' at nowhere/regard.log"),
        (["--torch-logs", "+dynamo"], "which has happened before --torch-logs was read"),
    ],
)
def test_wrong_options_get_one_sentence(options, message, regard_command: Command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = regard_command(*options, "show", "nowhere")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err


def test_a_wrong_level_in_the_environment_is_named_as_such(regard_command: Command, monkeypatch):
    monkeypatch.setenv("REGARD_LOG", "loud")
    code, _, err = regard_command("show", "nowhere")

    assert code == 1
    assert "got 'loud' from the environment variable REGARD_LOG" in err


def test_each_option_before_the_command_is_documented(root: Path):
    import typer

    from regard.cli.main import app

    beginning = (root / "docs/command-line.md").read_text(encoding="utf-8").split("\n## ")[0]
    options = [option for parameter in typer.main.get_command(app).params for option in parameter.opts]
    assert {"--log-level", "--torch-logs"} <= set(options)

    assert [
        name for name in options if name.startswith("--") and name != "--help" and f"`{name}" not in beginning
    ] == []
