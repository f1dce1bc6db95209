"""The whole job on a small file: every stage writes its part, bad input loses nothing, a stopped job goes on."""

import csv
import errno
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regard.records import LOCK_NAME, Run, Status, Verdict, one_writer

Command = Callable[..., tuple[int, str, str]]
FUSED = {"_scaled_dot_product_flash_attention_for_cpu", "regard native"}  # by processor, and by what is installed
FILES = {"run.json", "events.jsonl", "heads.parquet", "audit.json", "split.json", "labels.json"} | {
    "metrics.json",
    "rows.json",
    "checks.json",
    "findings.json",
    "diagnosis.json",
    "readiness.json",
    "report.html",
    "model",
}


def settings(path: Path, pretrained: Path, *more: str) -> list[str]:
    values = [
        f"data.path={path}",
        "data.text=body",
        "data.label=topic",
        f"model.pretrained={pretrained}",
        "data.max_len=32",
        "optim.epochs=2",
        "optim.lr=3e-3",
        *more,
    ]
    return [part for value in values for part in ("--set", value)]


def metrics_of(folder: Path) -> Any:
    content = json.loads((folder / "metrics.json").read_text())
    for model in content["models"]:
        for name in ("seconds", "documents_per_s"):
            model["details"].pop(name, None)
    return content


def losses(folder: Path) -> list[float]:
    return [event["loss"] for event in Run.open(folder).events("step")]


@pytest.fixture
def finished(regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path) -> tuple[Path, str]:
    folder = tmp_path / "run"
    code, out, err = regard_command("train", "text-classifier", *settings(news_file, tiny_pretrained), "--out", folder)
    assert code == 0, err
    return folder, out


def test_every_stage_writes_its_part(finished: tuple[Path, str]) -> None:
    folder, out = finished
    assert {path.name for path in folder.iterdir()} == FILES
    run = Run.open(folder)
    assert run.info.status is Status.FINISHED
    assert sum(run.info.kernels.values()) == len(losses(folder)) * 2
    assert set(run.info.kernels) <= FUSED
    assert [entry["seen"] for entry in run.info.coverage] == [True, True]
    assert [f"{number}/7" in out for number in range(1, 8)] == [True] * 7
    assert "Bert (model): no rule is broken, " in out
    laws = next(item for item in run.readiness() if item.id == "attention.laws")
    assert (run.checks().ok, laws.verdict) == (True, Verdict.PASS)
    assert "report.html" in out.replace("\n", "")  # a long path is folded
    verdicts = {item.verdict for item in run.readiness()}
    assert Verdict.NOT_DONE in verdicts


def test_a_finished_run_is_shown_and_not_trained_again(
    finished: tuple[Path, str], regard_command: Command, news_file: Path, tiny_pretrained: Path
) -> None:
    folder, _ = finished
    before = (folder / "events.jsonl").read_bytes()
    code, out, _ = regard_command("train", "text-classifier", *settings(news_file, tiny_pretrained), "--out", folder)
    assert code == 0
    assert "finished; --fresh trains it again" in out
    assert (folder / "events.jsonl").read_bytes() == before


def test_a_run_that_stopped_before_its_report_gets_it(
    finished: tuple[Path, str], regard_command: Command, news_file: Path, tiny_pretrained: Path
) -> None:
    folder, _ = finished
    (folder / "report.html").unlink()
    (folder / "readiness.json").unlink()
    code, _, err = regard_command("train", "text-classifier", *settings(news_file, tiny_pretrained), "--out", folder)
    assert code == 0, err
    assert (folder / "report.html").exists()
    assert Run.open(folder).readiness()


def test_two_runs_are_identical(
    finished: tuple[Path, str], regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    other = tmp_path / "again"
    code, _, _ = regard_command("train", "text-classifier", *settings(news_file, tiny_pretrained), "--out", other)
    assert code == 0
    assert losses(other) == losses(folder)
    assert metrics_of(other) == metrics_of(folder)


def test_the_check_can_be_switched_off(
    regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path
) -> None:
    given = settings(news_file, tiny_pretrained, "optim.epochs=1", "check=false")
    code, out, err = regard_command("train", "text-classifier", *given, "--out", tmp_path / "run")
    assert code == 0, err
    assert "switched off by check=false" in out
    assert not (tmp_path / "run" / "checks.json").exists()


def test_another_configuration_is_refused(
    finished: tuple[Path, str], regard_command: Command, news_file: Path, tiny_pretrained: Path
) -> None:
    folder, _ = finished
    changed = settings(news_file, tiny_pretrained, "optim.batch_size=8")
    code, _, err = regard_command("train", "text-classifier", *changed, "--out", folder)
    assert code == 1
    assert "optim.batch_size: 16 there, 8 here" in err


def test_saved_runs_can_be_read_by_every_command(finished: tuple[Path, str], regard_command: Command) -> None:
    folder, _ = finished
    assert regard_command("show", folder)[0] == 0
    code, out, _ = regard_command("ready", folder)
    assert code == 1
    assert "not done" in out
    code, out, _ = regard_command("ready", folder, "--json")
    assert json.loads(out)["verdict"]
    code, out, _ = regard_command("diagnose", folder)
    assert "rules judged" in out
    code, out, _ = regard_command("report", folder)
    assert (code, out.strip()) == (0, str(folder / "report.html"))
    code, out, _ = regard_command("predict", folder, "crude barrel opec pipeline the of refinery gas", "--top", "1")
    assert code == 0
    assert re.fullmatch(r"(grain|money|oil) [01]\.\d{3}\n", out)


def test_predict_refuses_an_empty_text(finished: tuple[Path, str], regard_command: Command) -> None:
    code, _, err = regard_command("predict", finished[0], " ")
    assert code == 1
    assert "must hold a word" in err


def test_a_killed_job_goes_on_to_the_same_result(
    finished: tuple[Path, str], news_file: Path, tiny_pretrained: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    other = tmp_path / "killed"
    arguments = [*settings(news_file, tiny_pretrained, "checkpoint_every_s=0"), "--out", str(other)]
    command = [sys.executable, "-m", "regard", "train", "text-classifier", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (other / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert Run.open(other).info.status is Status.RUNNING
    subprocess.run(command, check=True, capture_output=True)
    assert losses(other) == losses(folder)
    assert metrics_of(other) == metrics_of(folder)
    assert any(Run.open(other).events("resume"))


def test_ctrl_c_ends_with_a_sentence_and_a_whole_folder(news_file: Path, tiny_pretrained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    arguments = [*settings(news_file, tiny_pretrained, "optim.epochs=200"), "--out", str(folder)]
    command = [sys.executable, "-m", "regard", "train", "text-classifier", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        events = folder / "events.jsonl"
        while not (events.exists() and '"step"' in events.read_text()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "goes on from there" in err
    assert Run.open(folder).info.status is Status.INTERRUPTED
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "news.csv"),
        (["title,body", "grain,wheat"], "topic"),
        (["topic,body", "grain,wheat", "oil,crude", "grain,corn", "oil,opec", "once,alone"], "once"),
        (["topic,body", "grain,", "oil,"], "text"),
        (["topic,body", *[f"grain,wheat {n}" for n in range(20)]], "two classes"),
    ],
)
def test_bad_data_gets_one_sentence_and_leaves_no_half_written_file(
    regard_command: Command, tiny_pretrained: Path, tmp_path: Path, lines: list[str] | None, message: str
) -> None:
    path = tmp_path / "news.csv"
    if lines is not None:
        path.write_text("\n".join(lines))
    folder = tmp_path / "run"
    code, _, err = regard_command("train", "text-classifier", *settings(path, tiny_pretrained), "--out", folder)
    assert code == 1
    assert err.count("\n") == 1
    assert message in err
    assert not list(folder.rglob("*.tmp"))
    assert not (folder / "audit.json").exists()


def test_a_mistyped_path_does_not_stand_in_the_way_of_the_right_one(
    regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    wrong = settings(tmp_path / "newz.csv", tiny_pretrained)
    assert regard_command("train", "text-classifier", *wrong, "--out", folder)[0] == 1
    right = settings(news_file, tiny_pretrained, "optim.epochs=1")
    code, _, err = regard_command("train", "text-classifier", *right, "--out", folder)
    assert code == 0, err
    assert Run.open(folder).finished


def test_a_class_absent_from_train_is_named(
    regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path
) -> None:
    test_file = tmp_path / "test.csv"
    with test_file.open("w", newline="") as file:
        csv.writer(file).writerows([["topic", "body"], ["grain", "wheat corn"], ["sport", "the match ended"]])
    given = settings(news_file, tiny_pretrained, f"data.test_path={test_file}")
    code, _, err = regard_command("train", "text-classifier", *given, "--out", tmp_path / "run")
    assert code == 1
    assert "sport" in err


def test_a_full_disk_gets_one_sentence(
    regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    folder = tmp_path / "run"
    code, _, err = regard_command("train", "text-classifier", *settings(news_file, tiny_pretrained), "--out", folder)
    assert code == 1
    assert "no space left on device" in err
    assert err.count("\n") == 1
    assert not list(folder.rglob("*.tmp"))
    assert Run.open(folder).info.status is not Status.FINISHED


def test_a_checkpoint_of_another_version_is_refused(
    regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path
) -> None:
    import torch

    folder = tmp_path / "run"
    given = settings(news_file, tiny_pretrained)
    Run.create(folder, recipe="text-classifier")
    (folder / "run.json").unlink()
    torch.save({"version": 0}, folder / "checkpoint.pt")
    code, _, err = regard_command("train", "text-classifier", *given, "--out", folder)
    assert code == 1
    assert "holds other files" in err


def test_a_folder_with_other_files_is_refused(
    regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    given = settings(news_file, tiny_pretrained)
    code, _, err = regard_command("train", "text-classifier", *given, "--out", folder, "--fresh")
    assert code == 1
    assert "which holds other files" in err
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("fresh", [[], ["--fresh"]], ids=["go on", "fresh"])
def test_a_second_process_is_refused_while_the_first_one_writes(
    regard_command: Command, news_file: Path, tiny_pretrained: Path, tmp_path: Path, fresh: list[str]
) -> None:
    folder = tmp_path / "run"
    with one_writer(folder, what="run", tell=print):
        Run.create(folder, recipe="text-classifier")
        given = settings(news_file, tiny_pretrained)
        code, _, err = regard_command("train", "text-classifier", *given, "--out", folder, *fresh)
        assert code == 1
        assert "One process writes a run at a time" in err
        assert {path.name for path in folder.iterdir()} == {"run.json", LOCK_NAME}


def from_scratch(path: Path, *more: str) -> list[str]:
    sizes = ["model.num_layers=1", "model.embed_dim=16", "model.num_heads=2", "model.vocab_size=120"]
    values = ["data.source=table", f"data.path={path}", "data.text=body", "data.label=topic", "data.max_len=32", *sizes]
    return [part for value in (*values, "optim.epochs=1", *more) for part in ("--set", value)]


def test_a_model_and_its_vocabulary_can_start_from_scratch(
    regard_command: Command, news_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    code, out, err = regard_command("train", "from-scratch", *from_scratch(news_file), "--out", folder)
    assert code == 0, err
    assert "BERT of 1 layer and width 16 from scratch" in out
    models = [model["name"] for model in json.loads((folder / "metrics.json").read_text())["models"]]
    assert models[0] == "BERT of 1 layer and width 16 from scratch"
    assert (folder / "model" / "tokenizer.json").exists()
    code, out, err = regard_command("predict", folder, "wheat and corn")
    assert code == 0, err
    assert "grain" in out


def test_a_killed_run_from_scratch_goes_on_with_the_vocabulary_that_it_had(news_file: Path, tmp_path: Path) -> None:
    def command(folder: Path) -> list[str]:
        given = from_scratch(news_file, "checkpoint_every_s=0", "optim.epochs=2")
        return [sys.executable, "-m", "regard", "train", "from-scratch", *given, "--out", str(folder)]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), check=True, capture_output=True)
    with subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (killed / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    subprocess.run(command(killed), check=True, capture_output=True)
    assert any(Run.open(killed).events("resume"))
    assert losses(killed) == losses(whole)
    assert metrics_of(killed) == metrics_of(whole)


def test_torchrun_trains_one_run_in_two_processes(news_file: Path, tiny_pretrained: Path, tmp_path: Path) -> None:
    steps = ["optim.accumulate=2", "model.dropout_p=0", "check=false", "precision=float32"]
    arguments = ["train", "text-classifier", *settings(news_file, tiny_pretrained, *steps)]
    launchers = {
        "alone": [sys.executable, "-m", "regard"],
        "both": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "regard"],
    }
    for name, launcher in launchers.items():
        command = [*launcher, *arguments, "--out", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "both") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    assert {path.name for path in (tmp_path / "both").iterdir()} == FILES - {"checks.json"}
    assert Run.open(tmp_path / "both").info.status is Status.FINISHED
