"""Logs: silent by default, one line an event, the same fields through every back end, whole lines after a kill."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pytest

from regard import logs
from regard._errors import ArgumentError, MissingDependencyError, UnsupportedError

PAGE = (Path(__file__).resolve().parent.parent / "docs/logs.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r'^```python title="(\w+)\.py"\n(.*?)^```$', PAGE, flags=re.DOTALL | re.MULTILINE))
AWK = re.search(r'^```sh title="mean entropy of each layer"\n(.*?)^```$', PAGE, flags=re.DOTALL | re.MULTILINE)
WATCH = logging.getLogger("regard.watch")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the logger ``regard`` and the environment as they were."""
    monkeypatch.delenv("REGARD_LOG", raising=False)
    logger = logging.getLogger("regard")
    handlers, level = list(logger.handlers), logger.level
    yield
    for handler in [handler for handler in logger.handlers if handler not in handlers]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)


def program(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter in which warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def record(name: str = "layer", level: int = logging.INFO, **fields: object) -> logging.LogRecord:
    found = logging.makeLogRecord({"msg": name, "levelno": level, "levelname": logging.getLevelName(level), **fields})
    found.created = 1_772_357_400.25
    return found


# silence, and what is heard


def test_a_program_that_says_nothing_hears_nothing():
    code = "import logging\nfrom regard import logs\nlogs.event(logging.getLogger('regard.watch'), 50, 'alert', step=1)"
    done = program(code)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_configuring_leaves_the_root_logger_alone():
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    logs.configure("debug")

    assert (root.handlers, root.level) == before


def test_configuring_twice_writes_each_event_once(capsys):
    logs.configure("info")
    logs.configure("info")
    logs.event(WATCH, logging.INFO, "layer", step=1)

    assert capsys.readouterr().err.count("\n") == 1


def test_configuring_again_keeps_the_handlers_of_the_program(capsys):
    own = logging.Handler()
    logging.getLogger("regard").addHandler(own)
    logs.configure("info")
    logs.configure("info")

    assert own in logging.getLogger("regard").handlers


def test_configuring_again_closes_the_file_of_before(tmp_path):
    first = logs.configure("info", file=tmp_path / "first.log")
    logs.configure("info", file=tmp_path / "second.log")
    logs.event(WATCH, logging.INFO, "layer")

    assert first.stream is None
    assert (tmp_path / "first.log").read_text() == ""
    assert (tmp_path / "second.log").read_text().count("\n") == 1


@pytest.mark.parametrize(
    ("argument", "environment", "heard"),
    [
        (None, None, ["WARNING"]),
        (None, "", ["WARNING"]),
        (None, "Debug", ["DEBUG", "INFO", "WARNING"]),
        ("info", "debug", ["INFO", "WARNING"]),
        ("ERROR", None, []),
        (logging.INFO, None, ["INFO", "WARNING"]),
    ],
)
def test_the_argument_goes_before_the_environment_before_warning(argument, environment, heard, monkeypatch, capsys):
    if environment is not None:
        monkeypatch.setenv("REGARD_LOG", environment)
    logs.configure(argument)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logs.event(WATCH, level, "layer")

    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == heard


def test_a_wrong_level_is_one_sentence_that_names_the_levels_and_where_it_came_from(monkeypatch):
    with pytest.raises(ArgumentError, match=r"one of debug, info, warning, error, critical; got 'loud'\.$"):
        logs.configure("loud")
    monkeypatch.setenv("REGARD_LOG", "loud")
    with pytest.raises(ArgumentError, match=r"got 'loud' from the environment variable REGARD_LOG\.$"):
        logs.configure()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, 'format must be "text" or "json"'),
        ({"max_bytes": 100}, "Rotation needs a file"),
        ({"file": "a.log", "max_bytes": -1}, "Rotation needs a file"),
        ({"file": "a.log", "backups": 0}, "at least one backup"),
        ({"file": "nowhere/a.log"}, r"got 'no such file or directory' at nowhere/a\.log"),
    ],
)
def test_settings_that_cannot_mean_anything_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = list(logging.getLogger("regard").handlers)
    with pytest.raises(ArgumentError, match=message):
        logs.configure("info", **options)

    assert logging.getLogger("regard").handlers == before


def test_nothing_is_formatted_when_the_level_is_off():
    class Untouchable:
        def __str__(self):
            raise AssertionError("formatted")

    logs.configure("warning")

    logs.event(WATCH, logging.INFO, "layer", value=Untouchable())


def test_lines_go_to_what_stderr_is_at_that_moment(capsys, monkeypatch):
    import io

    logs.configure("info")
    later = io.StringIO()
    monkeypatch.setattr(sys, "stderr", later)
    logs.event(WATCH, logging.INFO, "layer")

    assert later.getvalue().endswith(" INFO layer\n")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["message", "level", "time", "event", "name", "args", "exception"])
def test_a_field_named_as_what_every_record_has_is_refused_also_when_the_level_is_off(name):
    logs.configure("critical")
    with pytest.raises(ArgumentError, match=f"got {name}; rename it"):
        logs.event(WATCH, logging.DEBUG, "layer", **{name: 1})


def test_the_record_says_where_the_event_was_told():
    code = (
        "import logging\nfrom regard import logs\n"
        "logging.basicConfig(level=20, format='%(funcName)s %(step)s')\n"
        "def here():\n    logs.event(logging.getLogger('regard.watch'), 20, 'layer', step=1)\n"
        "here()"
    )

    assert program(code).stderr == "here 1\n"


def test_the_fields_of_a_record_are_what_was_given(caplog):
    with caplog.at_level("INFO", "regard"):
        logs.event(WATCH, logging.INFO, "layer", step=1, layer="encoder.0")

    assert list(logs.fields_of(caplog.records[0]).items()) == [("step", 1), ("layer", "encoder.0")]


# the formats


def test_text_is_time_level_event_and_fields_in_the_order_given():
    line = logs.TextFormatter().format(
        record(step=3, layer="encoder.0", entropy=2.3123456, rows=96, ok=True, none=None)
    )

    assert line == (
        "2026-03-01T09:30:00.250+00:00 INFO layer step=3 layer=encoder.0 entropy=2.31235 rows=96 ok=true none=null"
    )


def test_json_is_time_level_event_and_fields_in_the_order_given_with_every_digit():
    line = logs.JsonFormatter().format(record(step=3, layer="encoder.0", entropy=0.1 + 0.2, gap=float("nan")))

    assert line == (
        '{"time":"2026-03-01T09:30:00.250+00:00","level":"info","event":"layer",'
        '"step":3,"layer":"encoder.0","entropy":0.30000000000000004,"gap":null}'
    )


AWKWARD = [
    "two words",
    "a=b",
    'say "x"',
    "line\nbreak\r\ttab",
    "",
    "back\\slash",
    "日本 語",
    ["a b", 1],
    {"k": "v = w"},
    "x entropy=9 y",
]


@pytest.mark.parametrize("value", AWKWARD, ids=repr)
def test_whatever_is_logged_each_word_with_an_equals_sign_is_a_field(value):
    line = logs.TextFormatter().format(record(before=1, value=value, entropy=2.5))
    words = re.split(r"[ \t\r\n]+", line)

    assert [word.split("=")[0] for word in words if "=" in word] == ["before", "value", "entropy"]
    assert all(word.count("=") == 1 for word in words if "=" in word)
    assert "\n" not in line
    written = line.split(" value=")[1].removesuffix(" entropy=2.5")
    assert json.loads(written) == value


@pytest.mark.parametrize("formatter", [logs.TextFormatter(), logs.JsonFormatter()])
def test_an_exception_stays_in_its_line(formatter):
    try:
        raise ValueError("two\nlines")
    except ValueError:
        line = formatter.format(record(exc_info=sys.exc_info(), step=1))

    assert "\n" not in line
    assert r"ValueError: two\nlines" in line


def test_a_value_that_json_does_not_know_is_written_as_its_text():
    assert json.loads(logs.JsonFormatter().format(record(path=Path("a b"))))["path"] == "a b"


def test_the_awk_recipe_of_the_documentation_gives_what_python_gives(tmp_path):
    layers = {"encoder.0": [0.1, 0.25, 3.5], "encoder.1": [1 / 3, 2 / 3], "decoder.0": [7.0]}
    lines = [
        logs.TextFormatter().format(record(step=step, layer=layer, note="entropy=99 is = wrong", entropy=value))
        for layer, values in layers.items()
        for step, value in enumerate(values)
    ]
    lines.append(logs.TextFormatter().format(record("alert", layer="encoder.0", entropy=50.0)))
    (tmp_path / "demo.log").write_text("\n".join(lines) + "\n")
    assert AWK is not None
    done = subprocess.run(AWK.group(1), shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == [f"{layer} {fmean(layers[layer]):.4f}" for layer in sorted(layers)]


# files


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_kill_tears_the_last_line_at_most(style, tmp_path):
    path = tmp_path / "regard.log"
    code = (
        "import logging, sys\nfrom regard import logs\n"
        "logs.configure('info', file=sys.argv[1], format=sys.argv[2])\n"
        "step = 0\n"
        "while True:\n"
        "    step += 1\n"
        "    logs.event(logging.getLogger('regard.watch'), 20, 'layer', step=step, filler='x' * (step * 97 % 2000))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path), style])
    try:
        while process.poll() is None and not (path.exists() and path.stat().st_size > 300_000):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

    assert len(whole) > 100
    for step, line in enumerate(whole, start=1):
        fields = json.loads(line) if style == "json" else dict(word.split("=") for word in line.split()[3:])
        assert int(fields["step"]) == step
        assert fields["filler"] in ("x" * (step * 97 % 2000), '""')


def test_what_is_appended_after_a_torn_line_begins_on_a_new_one(tmp_path):
    path = tmp_path / "regard.log"
    path.write_text('{"event":"layer"}\n{"event":"la')
    logs.configure("info", file=path, format="json")
    logs.event(WATCH, logging.INFO, "layer", step=1)
    logs.configure("info", file=path, format="json")
    logs.event(WATCH, logging.INFO, "layer", step=2)
    lines = path.read_text().splitlines()

    assert lines[:2] == ['{"event":"layer"}', '{"event":"la']
    assert [json.loads(line)["step"] for line in lines[2:]] == [1, 2]


def test_each_line_is_on_its_way_to_the_file_when_the_call_returns(tmp_path):
    logs.configure("info", file=tmp_path / "regard.log")
    logs.event(WATCH, logging.INFO, "layer", step=1)

    assert (tmp_path / "regard.log").read_text().endswith(" INFO layer step=1\n")


def test_a_file_that_is_full_begins_anew_and_no_line_is_lost(tmp_path):
    logs.configure("info", file=tmp_path / "regard.log", format="json", max_bytes=1000, backups=50)
    for step in range(40):
        logs.event(WATCH, logging.INFO, "layer", step=step)
    files = sorted(tmp_path.iterdir(), key=lambda path: int(path.suffix.removeprefix(".").replace("log", "0")))
    steps = [json.loads(line)["step"] for file in reversed(files) for line in file.read_text().splitlines()]

    assert len(files) > 3
    assert all(file.stat().st_size <= 1000 for file in files)
    assert steps == list(range(40))


# the back ends

EVENTS = """
import logging
from regard import logs
watch = logging.getLogger("regard.watch")
logs.event(watch, logging.INFO, "layer", step=3, layer="encoder.0", entropy=0.1 + 0.2, name_of="a {b} %s")
logs.event(watch, logging.DEBUG, "head", step=3, head=1)
logs.event(watch, logging.WARNING, "alert", step=4, reason="two words = more", shape=[1, 2], ok=True, none=None)
"""
TOLD = [
    {"level": "info", "event": "layer", "step": 3, "layer": "encoder.0", "entropy": 0.1 + 0.2, "name_of": "a {b} %s"},
    {"level": "warning", "event": "alert", "step": 4, "reason": "two words = more", "shape": [1, 2], "ok": True}
    | {"none": None},
]


def test_the_documentation_shows_four_back_ends():
    assert sorted(PROGRAMS) == ["with_loguru", "with_regard", "with_structlog", "with_structlog_formatter"]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_every_back_end_writes_the_same_keys_and_values(name):
    done = program(PROGRAMS[name] + EVENTS)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]

    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}", line.pop("time")) for line in lines)
    assert lines == TOLD


def test_loguru_keeps_time_place_and_level_of_the_record():
    from loguru import logger

    told: list[dict] = []
    sink = logger.add(lambda message: told.append(message.record), level=0, format="{message}")
    made = record(level=25, step=1)
    made.name, made.funcName, made.lineno = "regard.watch", "add", 7
    try:
        logs.to_loguru().emit(made)
    finally:
        logger.remove(sink)

    assert told[0]["time"].timestamp() == made.created
    assert f"{told[0]['time']:YYYY-MM}" == "2026-03", "it is still a time that Loguru can format"
    assert (told[0]["name"], told[0]["function"], told[0]["line"]) == ("regard.watch", "add", 7)
    assert told[0]["level"].no == 25
    assert told[0]["extra"] == {"step": 1}


def test_back_ends_get_the_exception():
    raising = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    watch.exception('failed', extra={'step': 5})\n"
    for name in ("with_regard", "with_structlog", "with_structlog_formatter"):
        done = program(PROGRAMS[name] + EVENTS + raising)
        line = json.loads(done.stderr.splitlines()[-1])
        assert (line["event"], line["level"], line["step"]) == ("failed", "error", 5)
        assert line["exception"].endswith("ZeroDivisionError: division by zero")
    plain = PROGRAMS["with_loguru"].replace("logger.add(as_json", "logger.add(sys.stderr")
    assert "ZeroDivisionError: division by zero" in program(plain + EVENTS + raising).stderr


def test_a_level_between_two_of_structlog_is_told_at_the_lower_one():
    done = program(PROGRAMS["with_structlog"] + "logs.event(logging.getLogger('regard.x'), 25, 'between')")

    assert json.loads(done.stderr)["level"] == "info"


def test_structlog_that_ends_in_the_standard_library_is_refused_instead_of_going_in_a_circle():
    import structlog

    handler = logs.to_structlog()
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    try:
        with pytest.raises(UnsupportedError, match="ProcessorFormatter with ExtraAdder"):
            logs.to_structlog()
        with pytest.raises(UnsupportedError, match="ProcessorFormatter with ExtraAdder"):
            handler.emit(record())
    finally:
        structlog.reset_defaults()


@pytest.mark.parametrize("package", ["loguru", "structlog"])
def test_a_back_end_that_is_not_installed_names_its_extra(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=rf'pip install "regard\[{package}\]"'):
        getattr(logs, f"to_{package}")()


def test_logs_need_no_torch_and_no_back_end():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'loguru', 'structlog', 'numpy']))\n"
        "from regard import logs\nlogs.configure('info')"
    )
    done = program(code)

    assert done.returncode == 0, done.stderr
    assert os.environ.get("REGARD_LOG") is None


def test_what_a_record_factory_adds_is_a_field_unless_it_is_private():
    record = logging.makeLogRecord({"msg": "layer", "step": 3, "request": "a1", "_ray_timestamp_ns": 17})
    assert logs.fields_of(record) == {"step": 3, "request": "a1"}
