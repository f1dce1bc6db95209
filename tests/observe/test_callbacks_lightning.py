"""A Lightning Trainer is watched from within: same weights, every step, nothing left behind, a run folder."""

import logging
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

from regard import RegardError
from regard.diagnose import diagnose
from regard.observe import callbacks
from regard.observe.callbacks import factories
from regard.records import Run, Status
from regard.viewer import write_report

# What Lightning itself says: of a small job on a CPU, and by what it still calls of a newer torch.
EXPECTED = (
    "The '.*_dataloader' does not have many workers",
    "Checkpoint directory .* exists and is not empty",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)

LAYERS = [f"bert.encoder.layer.{number}.attention.self" for number in range(2)]
LENGTHS = [number % 5 + 3 for number in range(24)]


def data() -> list[dict[str, Any]]:
    ids = torch.randint(0, 50, (24, 7), generator=torch.Generator().manual_seed(1))
    return [
        {"input_ids": ids[n], "attention_mask": (torch.arange(7) < LENGTHS[n]).long(), "labels": n % 2}
        for n in range(24)
    ]


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
        )
        self.model = BertForSequenceClassification(config)
        self.fail: tuple[str, int, BaseException] | None = None

    def maybe_fail(self, where: str) -> None:
        if self.fail is not None and self.fail[:2] == (where, self.global_step):
            raise self.fail[2]

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        loss: torch.Tensor = self.model(**batch).loss
        self.maybe_fail("training_step")
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        self.maybe_fail("validation_step")
        self.log("val_loss", self.model(**batch).loss)

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.maybe_fail("on_before_zero_grad")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


def fit(folder: Path, callback: Any = None, *, module: Module | None = None, ckpt: Any = None, **settings: Any) -> Any:
    plain: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 1, "logger": False, "enable_checkpointing": False}
    fixed = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    given = [callback] if callback is not None else []
    callbacks_given = [*given, *settings.pop("more", [])]
    trainer = pl.Trainer(default_root_dir=folder, callbacks=callbacks_given, **{**plain, **fixed, **settings})
    batches = data()
    module = module or Module()
    with warnings.catch_warnings():
        for message in EXPECTED:
            warnings.filterwarnings("ignore", message)
        trainer.fit(module, DataLoader(batches, 4), DataLoader(batches[:8], 4), ckpt_path=ckpt)
    return trainer


def fit_and_keep(folder: Path, callback: Any, **settings: Any) -> Any:
    """Fit with a checkpoint at the end of each epoch."""
    keep = pl.callbacks.ModelCheckpoint(folder, filename="kept", save_on_train_epoch_end=True)
    return fit(folder, callback, more=[keep], enable_checkpointing=True, **settings)


def trace(run: Run) -> list[tuple[Any, ...]]:
    return [(event["step"], event["loss"], event["lr"], event["grad_norm"]) for event in run.events("step")]


def heads(run: Run) -> list[tuple[str, ...]]:
    found = run.heads.query("SELECT step, layer, head, statistic, mean, num_rows FROM heads ORDER BY ALL")
    return [tuple(map(str, row)) for row in zip(*found.values(), strict=True)]


def nothing_is_left(module: nn.Module, callback: Any) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [name for name, part in module.named_modules() for kind in kinds if getattr(part, kind)]
    calls = [entry.calls for entry in callback.view.coverage()]
    module.model(input_ids=torch.tensor([[1, 2, 3]]))
    return not hooks and calls == [entry.calls for entry in callback.view.coverage()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    folder = tmp_path_factory.mktemp("whole")
    callback = callbacks.lightning(run=folder / "run", statistics=["entropy", "max_weight"])
    return folder, fit(folder, callback), callback


def test_the_trained_weights_are_bit_identical(whole: tuple[Path, Any, Any], tmp_path: Path) -> None:
    plain = fit(tmp_path).lightning_module.state_dict()
    watched = whole[1].lightning_module.state_dict()
    assert len(watched) > 30
    assert all(torch.equal(tensor, watched[name]) for name, tensor in plain.items())


def test_every_step_is_recorded_and_validation_is_not_watched(whole: tuple[Path, Any, Any]) -> None:
    run = Run.open(whole[0] / "run")
    assert [step for step, *_ in trace(run)] == list(range(1, 13))
    assert all(loss > 0 and lr == 1e-3 and norm > 0 for _, loss, lr, norm in trace(run))
    assert [event["epoch"] for event in run.events("step")] == [1] * 6 + [2] * 6
    assert {entry["layer"]: entry["calls"] for entry in run.info.coverage} == dict.fromkeys(LAYERS, 12)
    validated = list(run.events("validation"))
    assert [(event["step"], event["epoch"]) for event in validated] == [(6, 1), (12, 2)]
    assert validated[-1]["loss"] == pytest.approx(float(whole[1].callback_metrics["val_loss"]), rel=1e-6)


def test_padding_is_known_although_the_module_itself_is_never_called(whole: tuple[Path, Any, Any]) -> None:
    query = "SELECT num_rows FROM heads WHERE layer = ? AND head = 0 AND statistic = 'entropy' ORDER BY step LIMIT 6"
    rows = Run.open(whole[0] / "run").heads.query(query, LAYERS[:1])["num_rows"].tolist()
    assert rows == [sum(LENGTHS[i : i + 4]) for i in range(0, 24, 4)]


def test_a_run_that_came_to_its_end_says_so(whole: tuple[Path, Any, Any]) -> None:
    run = Run.open(whole[0] / "run")
    assert (run.info.status, run.info.recipe) == (Status.FINISHED, "lightning")
    assert run.info.config["max_epochs"] == 2
    assert "lightning" in run.info.versions
    assert nothing_is_left(whole[1].lightning_module, whole[2])
    assert set(diagnose(run).not_judged) >= {"vanishing_gradient"}
    assert "Gradient norm of the whole model" in write_report(run).read_text()


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    callback = callbacks.lightning(run=tmp_path / "run", statistics=["entropy"])
    fit(tmp_path, callback, max_epochs=1, accumulate_grad_batches=3)
    run = Run.open(tmp_path / "run")
    found = run.heads.query("SELECT step, num_rows FROM heads WHERE layer = ? AND head = 0 ORDER BY step", LAYERS[:1])
    assert found["step"].tolist() == [1, 2]
    assert found["num_rows"].tolist() == [sum(LENGTHS[:12]), sum(LENGTHS[12:])]
    assert [step for step, *_ in trace(run)] == [1, 2]
    assert all(0.5 < loss < 0.9 for _, loss, *_ in trace(run))  # the mean of three, not their sum


@pytest.mark.parametrize("where", ["training_step", "validation_step", "on_before_zero_grad"])
def test_an_error_anywhere_in_training_fails_the_run(where: str, tmp_path: Path) -> None:
    callback = callbacks.lightning(run=tmp_path / "run", statistics=["entropy"])
    module = Module()
    module.fail = (where, 3, RuntimeError("out of luck"))
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(tmp_path, callback, module=module, val_check_interval=3)
    run = Run.open(tmp_path / "run")
    assert (run.info.status, run.info.message) == (Status.FAILED, "RuntimeError: out of luck (after step 3)")
    assert [step for step, *_ in trace(run)] == [1, 2, 3]
    assert nothing_is_left(module, callback)


def test_an_interruption_is_not_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    callback = callbacks.lightning(run=tmp_path / "run", statistics=["entropy"])
    module = Module()
    module.fail = ("training_step", 2, KeyboardInterrupt())
    try:
        with pytest.raises(SystemExit):
            fit(tmp_path, callback, module=module)
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning leaves it ignored
    assert Run.open(tmp_path / "run").info.status is Status.INTERRUPTED
    assert nothing_is_left(module, callback)


def test_a_resumed_training_goes_on_in_the_same_run(whole: tuple[Path, Any, Any], tmp_path: Path) -> None:
    options: dict[str, Any] = {"run": tmp_path / "run", "statistics": ["entropy", "max_weight"]}
    module = Module()
    module.fail = ("training_step", 8, RuntimeError("out of luck"))
    with pytest.raises(RuntimeError, match="out of luck"):
        fit_and_keep(tmp_path, callbacks.lightning(**options), module=module)
    fit_and_keep(tmp_path, callbacks.lightning(**options), ckpt=tmp_path / "kept.ckpt")
    run = Run.open(tmp_path / "run")
    assert run.info.status is Status.FINISHED
    assert [event["step"] for event in run.events("resume")] == [6]
    assert trace(run)[:6] == trace(Run.open(whole[0] / "run"))[:6]
    assert [step for step, *_ in trace(run)] == list(range(1, 13))
    assert [row[:4] for row in heads(run)] == [row[:4] for row in heads(Run.open(whole[0] / "run"))]


def test_means_of_layers_go_to_the_loggers(tmp_path: Path) -> None:
    logger = pl.loggers.CSVLogger(tmp_path)
    callback = callbacks.lightning(log=True, statistics=["entropy"])
    fit(tmp_path, callback, logger=logger, max_epochs=1, log_every_n_steps=2)
    names = [f"attention/entropy/{layer}" for layer in LAYERS]
    header, *rows = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    assert set(names) <= set(header.split(","))
    assert len(rows) >= 3


def test_the_base_is_that_of_the_lightning_that_is_imported() -> None:
    assert isinstance(callbacks.lightning(), pl.Callback)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factories, "find_spec", lambda name: None)
    monkeypatch.setattr(factories, "_LIGHTNING", ("absent.pytorch", "absent"))
    with pytest.raises(RegardError, match=r'pip install "regard\[lightning\]"'):
        callbacks.lightning()


def test_a_view_before_training_is_refused() -> None:
    with pytest.raises(RegardError, match="needs a training to look at"):
        _ = callbacks.lightning().view
