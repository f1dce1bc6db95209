"""Every command that the README and the documentation show is run here as it stands."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| (`regard [^|]*)\|", re.MULTILINE)

# The whole demo takes minutes: the fast one stands for it, which runs the same code on less of the same data.
STANDS_FOR = {"regard demo": "regard demo --fast"}
# These judge a run and say so by their exit status.
JUDGES = ("diagnose", "ready")


def shown() -> list[str]:
    """List the commands of all ``sh`` blocks, without comments, each once."""
    blocks = [block for page in PAGES for block in FENCE.findall(page.read_text(encoding="utf-8"))]
    lines = [re.sub(r"\s+#.*$", "", line).strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line))


REGARD = [command for command in shown() if re.match(r"(\w+=\S+ )?regard ", command)]
MAKE = [command for command in shown() if command.startswith("make ")]
OTHER = [command for command in shown() if command not in REGARD + MAKE]


@pytest.fixture(scope="module")
def folder(fast_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as a reader has it after the demo: ``runs/demo`` and a file of their own."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("demo", "demo-fast"):
        shutil.copytree(fast_demo, folder / "runs" / name)
    subjects = {"tea": ("harvest", "leaf", "kettle"), "steel": ("furnace", "alloy", "mill"), "ships": ("port", "hull")}
    rows = [
        f"{topic},the {word} report number {number} speaks of {word} and {words[0]}"
        for topic, words in subjects.items()
        for word in words
        for number in range(12)
    ]
    (folder / "mine.csv").write_text("topic,body\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "book.txt").write_text("".join(f"{text}.\n" for _, _, text in (row.partition(",") for row in rows)) * 2)
    pairs = [(f"the {word} number {n}", f"{word} nummer {n}") for word in sum(subjects.values(), ()) for n in range(30)]
    (folder / "pairs.tsv").write_text("en\tde\n" + "".join(f"{one}\t{other}\n" for one, other in pairs))
    for name, lines in zip(("train.en", "train.de"), zip(*pairs, strict=True), strict=True):
        (folder / name).write_text("\n".join(lines) + "\n")
    news = [(who, where) for who in ("Ann", "Ben Smith", "Cleo") for where in ("Rome", "New York")] * 10
    (folder / "news.conll").write_text(
        "".join(f"{_spelt(who, 'PER')}left O\n{_spelt(where, 'LOC')}{n} O\n\n" for n, (who, where) in enumerate(news))
    )
    waves = [
        (f"2024-01-{hour // 24 + 1:02d} {hour % 24:02d}:00", hour % 24 + hour * 7 % 13 / 9, hour * 5 % 11)
        for hour in range(720)
    ]
    (folder / "load.csv").write_text("time,north,south\n" + "".join(f"{t},{a},{b}\n" for t, a, b in waves))
    sweeps = [[f"{step * (1 - 2 * (n % 2)) + n * step % 7 / 9:.3f}" for step in range(5 + n % 4)] for n in range(60)]
    (folder / "takes.ts").write_text(
        "@problemName takes\n@univariate true\n@classLabel true rise fall\n@data\n"
        + "".join(f"{','.join(sweep)}:{('rise', 'fall')[n % 2]}\n" for n, sweep in enumerate(sweeps))
    )
    (folder / "texts.txt").write_text("the leaf number 7\n\nthe mill number 9\n")
    (folder / "novel.txt").write_text(" ".join(f"The {one[4:]}." for one, _ in pairs[:60]))
    verses = [(name, n) for name in ("Ada", "Ben", "Cleo", "Dan", "Eva", "Fay", "Gus", "Hal", "Ida") for n in range(60)]
    (folder / "bible.tsv").write_text(
        "ref\ten\tes\n" + "".join(f"{name} 1:{n}\tleaf {n} of {name}\thoja {n} de {name}\n" for name, n in verses)
    )
    return folder


def _spelt(name: str, kind: str) -> str:
    """Return the lines of a name in columns."""
    return "".join(f"{word} {'I' if number else 'B'}-{kind}\n" for number, word in enumerate(name.split()))


def test_readme_fits_on_a_few_screens():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_readme_begins_with_the_two_commands():
    first_screen = README.read_text(encoding="utf-8").splitlines()[:30]

    assert [line for line in first_screen if line.startswith("make demo")]
    assert [line for line in first_screen if line.startswith("make test")]


def test_only_known_kinds_of_commands_are_shown():
    known = ("git clone ", "git log ", "cd ", "python benchmarks/", "pip install ", "tensorboard ", "torchrun ")
    assert [command for command in OTHER if not command.startswith(known)] == []


@pytest.mark.parametrize("command", [command for command in OTHER if command.startswith("pip install ")] or [""])
def test_shown_extra_exists(command):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = re.search(r"regard\[(.*)\]", command)
    assert asked is None or set(asked.group(1).split(",")) <= set(extras)


@pytest.mark.parametrize("command", [command for command in OTHER if command.startswith("python benchmarks/")] or [""])
def test_shown_benchmark_exists(command):
    assert not command or (ROOT / shlex.split(command)[1]).is_file()


@pytest.mark.parametrize("command", MAKE)
def test_shown_make_target_exists(command):
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr


def test_make_demo_is_the_demo_that_is_tested():
    done = subprocess.run(
        ["make", "demo", "--dry-run", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1].endswith("bin/regard demo")


@pytest.mark.data
@pytest.mark.parametrize("command", REGARD)
def test_shown_command_runs(command, folder):
    words = shlex.split(STANDS_FOR.get(command, command))
    set_before = dict(word.split("=", 1) for word in words[: words.index("regard")])
    read = words[words.index("<") + 1] if "<" in words else os.devnull
    arguments = list(itertools.takewhile(lambda word: word not in "<>", words[words.index("regard") + 1 :]))
    with (folder / read).open() as given:
        done = subprocess.run(
            [sys.executable, "-m", "regard", *arguments],
            cwd=folder,
            env={**os.environ, **set_before},
            stdin=given,
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode in ({0, 1} if arguments[0] in JUDGES else {0}), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout


def test_table_of_commands_is_the_command_line():
    import typer

    from regard.cli.main import app

    rows = ROW.findall(README.read_text(encoding="utf-8"))
    named = {name for row in rows for name in re.findall(r"`regard (\w+)`", row)}
    assert named == set(typer.main.get_command(app).commands)
