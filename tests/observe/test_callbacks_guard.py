"""The guard in the callbacks: same weights, where and why a number is not finite, and an end before it is used."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from regard import RegardError
from regard._errors import NumericError
from regard.observe import callbacks
from regard.records import Run, Status

STEPS = 4
LAYER = "bert.encoder.layer.1.attention.self"


def new_model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForSequenceClassification(BertConfig(vocab_size=50, **sizes, attention_probs_dropout_prob=0.0))


def data() -> list[dict[str, Any]]:
    ids = torch.randint(0, 50, (8 * STEPS, 7), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": number % 2} for number, row in enumerate(ids)]


Spoil = Callable[[BertForSequenceClassification, int], None]


def nothing(model: BertForSequenceClassification, step: int) -> None:
    """Leave the model as it is."""


def parameter_at_3(model: BertForSequenceClassification, step: int) -> None:
    """Make a parameter of the second layer NaN before the third step."""
    if step == 3:
        with torch.no_grad():
            model.bert.encoder.layer[1].attention.self.query.weight[0, 0] = math.nan


def gradient_at_3(model: BertForSequenceClassification, step: int) -> None:
    """Make the gradient that comes into the second layer NaN in the third step."""
    if step != 3:
        return

    def spoil(module: nn.Module, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        handle.remove()
        return tuple(gradient * math.nan for gradient in gradients)

    handle = model.bert.encoder.layer[1].attention.output.dense.register_full_backward_pre_hook(spoil)


def by_hugging_face(folder: Path, callback: Any, spoil: Spoil, accumulate: int = 1) -> BertForSequenceClassification:
    class Spoiling(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            spoil(given["model"], state.global_step + 1)

    fixed = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "dataloader_pin_memory": False}
    args = TrainingArguments(
        str(folder / "out"),
        max_steps=STEPS,
        per_device_train_batch_size=8 // accumulate,
        gradient_accumulation_steps=accumulate,
        logging_steps=1,
        save_strategy="no",
        **fixed,
    )
    model = new_model()
    given = [Spoiling(), *([callback] if callback is not None else [])]
    trainer = Trainer(model, args, train_dataset=data(), callbacks=given)
    try:
        trainer.train()
    finally:
        assert "training_step" not in vars(trainer)
    return model


class Module(pl.LightningModule):
    def __init__(self, spoil: Spoil) -> None:
        super().__init__()
        self.model, self.spoil = new_model(), spoil

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        if index % (self.trainer.accumulate_grad_batches or 1) == 0:
            self.spoil(self.model, self.global_step + 1)
        loss: Tensor = self.model(**batch).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def by_lightning(folder: Path, callback: Any, spoil: Spoil, accumulate: int = 1) -> BertForSequenceClassification:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        default_root_dir=folder,
        callbacks=[] if callback is None else [callback],
        accelerator="cpu",
        max_steps=STEPS,
        log_every_n_steps=1,
        accumulate_grad_batches=accumulate,
        enable_model_summary=False,
        **quiet,
    )
    module = Module(spoil)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The 'train_dataloader' does not have many workers")
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        trainer.fit(module, DataLoader(data(), 8 // accumulate))
    return module.model


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


LOOPS = [(callbacks.hugging_face, by_hugging_face), (callbacks.lightning, by_lightning)]
loops = pytest.mark.parametrize(("make", "train"), LOOPS, ids=["hugging face", "lightning"])


def hooks_of(model: nn.Module) -> list[str]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [name for name, module in model.named_modules() for kind in kinds if getattr(module, kind)]


@loops
def test_a_guarded_training_has_the_same_weights_and_no_findings(make: Any, train: Any, tmp_path: Path) -> None:
    plain = train(tmp_path, None, nothing).state_dict()
    callback = make(guard="raise", statistics=["entropy"])
    guarded = train(tmp_path, callback, nothing)

    assert callback.findings == []
    assert hooks_of(guarded) == []
    assert all(torch.equal(tensor, plain[name]) for name, tensor in guarded.state_dict().items())


@loops
def test_a_warning_guard_says_where_and_why_and_lets_training_go_on(
    make: Any, train: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = make(run=tmp_path / "run", guard="warn", statistics=["entropy"])
    model = train(tmp_path, callback, parameter_at_3)

    first = callback.findings[0]
    assert (first.step, first.layer, first.cause) == (3, LAYER, "parameter")
    assert Run.open(tmp_path / "run").info.status is Status.FINISHED
    assert [record.name for record in caplog.records if record.name == "regard.guard"]
    assert hooks_of(model) == []


@loops
def test_a_raising_guard_ends_training_at_the_call(make: Any, train: Any, tmp_path: Path) -> None:
    callback = make(run=tmp_path / "run", guard="raise", statistics=["entropy"])
    with pytest.raises(NumericError, match=r"Step 3, layer bert\.encoder\.layer\.1\.attention\.self"):
        train(tmp_path, callback, parameter_at_3)

    run = Run.open(tmp_path / "run")
    assert run.info.status is Status.FAILED
    assert run.info.message is not None
    assert "NumericError: Step 3" in run.info.message


@loops
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_gradient_is_judged_before_the_optimizer_uses_it(
    make: Any, train: Any, accumulate: int, tmp_path: Path
) -> None:
    callback = make(guard="raise", statistics=["entropy"])
    kept: list[BertForSequenceClassification] = []

    def spoil(model: BertForSequenceClassification, step: int) -> None:
        kept.append(model)
        gradient_at_3(model, step)

    with pytest.raises(NumericError, match=r"Step 3, layer .* gradient of query, key or value is not finite"):
        train(tmp_path, callback, spoil, accumulate)

    assert [finding.cause for finding in callback.findings] == ["gradient"]
    assert all(bool(parameter.isfinite().all()) for parameter in kept[-1].parameters())
    assert hooks_of(kept[-1]) == []


@loops
def test_without_a_guard_nothing_is_found(make: Any, train: Any, tmp_path: Path) -> None:
    callback = make(statistics=["entropy"])
    train(tmp_path, callback, parameter_at_3)

    assert callback.findings == []


@loops
def test_another_word_for_the_guard_is_refused(make: Any, train: Any) -> None:
    with pytest.raises(RegardError, match='guard must be "off", "warn" or "raise", got \'stop\''):
        make(guard="stop")
