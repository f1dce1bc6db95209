"""Two processes that train together write what one process with the whole batch writes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regard import RegardError
from regard.modules import MultiHeadAttention
from regard.observe.callbacks import ranks
from regard.observe.callbacks.run_folder import RunFolder, TrainingFacts
from regard.observe.callbacks.session import Session
from regard.records import Run, Status

PROGRAM = """
import sys
from pathlib import Path
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
from regard.observe import callbacks

folder, batch_size, backend = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None
torch.manual_seed(0)
sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
model = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes, **dropout))
ids = torch.randint(0, 50, (16, 7), generator=torch.Generator().manual_seed(1))
masks = [(torch.arange(7) < n % 5 + 3).long() for n in range(16)]
data = [{"input_ids": ids[n], "attention_mask": masks[n], "labels": n % 2} for n in range(16)]
args = TrainingArguments(
    str(folder / "out"), use_cpu=True, ddp_backend=backend, report_to=[], disable_tqdm=True, save_strategy="no",
    average_tokens_across_devices=False,
    num_train_epochs=1, per_device_train_batch_size=batch_size, logging_steps=2, dataloader_pin_memory=False,
)
callback = callbacks.hugging_face(run=folder / "run", statistics=["entropy", "max_weight"], log=True)
trainer = Trainer(model, args, train_dataset=data, callbacks=[callback])
trainer.train()
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, str(folder / "program.py"), str(folder), "2", "gloo"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> None:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def test_two_ranks_record_what_one_process_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2"}
    both = [start(together, RANK=str(rank), LOCAL_RANK=str(rank), **meeting) for rank in range(2)]
    monkeypatch.setattr(sys, "argv", ["program.py", str(alone), "4", ""])
    exec(compile(PROGRAM, "program.py", "exec"), {})
    for process in both:
        finish(process)
    query = "SELECT layer, statistic, step, head, mean, minimum, maximum, num_rows FROM heads ORDER BY ALL"
    found, expected = (Run.open(folder / "run").heads.query(query) for folder in (together, alone))
    assert len(expected["mean"]) == 4 * 2 * 2 * 2
    for name in ("layer", "statistic", "step", "head", "num_rows"):
        assert found[name].tolist() == expected[name].tolist()
    for name in ("mean", "minimum", "maximum"):
        np.testing.assert_allclose(found[name], expected[name], atol=2e-5)
    losses = [[event["loss"] for event in Run.open(folder / "run").events("step")] for folder in (together, alone)]
    assert len(losses[0]) == 4
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert Run.open(together / "run").info.status is Status.FINISHED


def test_one_process_is_the_first_of_one() -> None:
    assert (ranks.num_ranks(), ranks.is_first_rank(), ranks.gather({"a": 1})) == (1, True, [{"a": 1}])


def pretend_two_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be the first of two, where the other one sees the same."""
    monkeypatch.setattr("regard.observe.callbacks.session.num_ranks", lambda: 2)
    monkeypatch.setattr("regard.observe.callbacks.session.gather", lambda part: [part, part])


def new_session(folder: Path, model: nn.Module) -> Session:
    facts = TrainingFacts(recipe="test", config={}, seeds={}, precision="float32", device=torch.device("cpu"))
    opened = RunFolder(folder / "run", facts, step=0)
    return Session(model, options={"statistics": ["entropy"]}, recorders=[], folder=opened, step=0)


def train(session: Session, model: nn.Module, steps: range) -> None:
    for step in steps:
        session.begin_step(step, epoch=1)
        with session.watching():
            model(torch.randn(2, 5, 8))
        session.add_loss(torch.tensor(float(step)))
        session.end_step(share=False)


def num_rows(folder: Path) -> dict[int, int]:
    found = Run.open(folder / "run").heads.query("SELECT step, max(num_rows) AS n FROM heads GROUP BY step")
    return dict(zip(found["step"].tolist(), found["n"].tolist(), strict=True))


def test_what_ranks_hold_back_is_shared_every_hundred_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_two_ranks(monkeypatch)
    model = MultiHeadAttention(8, 2)
    session = new_session(tmp_path, model)
    train(session, model, range(1, 100))
    assert len(session._waiting) == 99
    train(session, model, range(100, 102))
    assert len(session._waiting) == 1
    session.finish()
    assert num_rows(tmp_path) == dict.fromkeys(range(1, 102), 2 * 2 * 5)
    events = list(Run.open(tmp_path / "run").events("step"))
    assert [(event["step"], event["loss"]) for event in events] == [(step, float(step)) for step in range(1, 102)]


def test_a_rank_that_fails_waits_for_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_two_ranks(monkeypatch)
    model = MultiHeadAttention(8, 2)
    session = new_session(tmp_path, model)
    train(session, model, range(1, 3))
    session.share()
    train(session, model, range(3, 5))

    def hang(part: object) -> None:
        raise AssertionError("a failed rank must not meet the others")

    monkeypatch.setattr("regard.observe.callbacks.session.gather", hang)
    session.fail(RuntimeError("lost"))
    session.finish()  # too late: nothing happens
    assert num_rows(tmp_path) == {1: 20, 2: 20, 3: 10, 4: 10}
    assert Run.open(tmp_path / "run").info.status is Status.FAILED


@pytest.mark.parametrize("parts", [None, 1, "many"])
def test_whole_heads_are_taken(parts: object) -> None:
    ranks.refuse_spread_heads(parts)


def test_spread_heads_are_refused() -> None:
    with pytest.raises(RegardError, match="spread over 4 of them"):
        ranks.refuse_spread_heads(4)
