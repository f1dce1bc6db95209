"""A Hugging Face Trainer is watched from within: same weights, every step, nothing left behind, a run folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from regard import RegardError
from regard.diagnose import diagnose
from regard.observe import callbacks
from regard.observe.callbacks import factories
from regard.observe.moments import Moments
from regard.records import Run, Status
from regard.viewer import summary, write_report

LAYERS = [f"bert.encoder.layer.{number}.attention.self" for number in range(2)]
LENGTHS = [number % 5 + 3 for number in range(24)]


def new_model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    return BertForSequenceClassification(config)


@pytest.fixture(scope="module")
def data() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 50, (24, 7), generator=generator)
    return [
        {"input_ids": ids[n], "attention_mask": (torch.arange(7) < LENGTHS[n]).long(), "labels": n % 2}
        for n in range(24)
    ]


class Failing(TrainerCallback):
    """Raises ``error`` at ``event`` of ``step``."""

    def __init__(self, event: str, step: int, error: BaseException) -> None:
        def fail(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == step:
                raise error

        setattr(self, event, fail)


def new_trainer(
    folder: Path, data: list[dict[str, Any]], *added: TrainerCallback, model: nn.Module | None = None, **settings: Any
) -> Trainer:
    plain = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "save_strategy": "no"}
    fixed = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "dataloader_pin_memory": False}
    args = TrainingArguments(str(folder / "out"), **{**plain, **fixed, **settings})
    return Trainer(model or new_model(), args, train_dataset=data, eval_dataset=data[:8], callbacks=list(added))


def run_of(folder: Path) -> Run:
    return Run.open(folder / "run")


def heads(run: Run, columns: str = "step, layer, head, statistic, mean, num_rows") -> list[tuple[str, ...]]:
    found = run.heads.query(f"SELECT {columns} FROM heads ORDER BY ALL")
    return [tuple(map(str, row)) for row in zip(*found.values(), strict=True)]


def trace(run: Run) -> list[tuple[Any, ...]]:
    return [(event["step"], event["loss"], event["lr"], event.get("grad_norm")) for event in run.events("step")]


def hooks_of(model: nn.Module) -> list[str]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [name for name, module in model.named_modules() for kind in kinds if getattr(module, kind)]


def nothing_is_left(trainer: Trainer, callback: Any) -> bool:
    """Whether neither the trainer nor the model knows of the callback any more, and calls are no longer seen."""
    calls = [entry.calls for entry in callback.view.coverage()]
    trainer.model(input_ids=torch.tensor([[1, 2, 3]]))
    again = [entry.calls for entry in callback.view.coverage()]
    return "training_step" not in vars(trainer) and not hooks_of(trainer.model) and calls == again


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: list[dict[str, Any]]) -> tuple[Path, Trainer, Any]:
    """Return a folder, its trainer and its callback after 12 watched steps with an evaluation in each epoch."""
    folder = tmp_path_factory.mktemp("whole")
    callback = callbacks.hugging_face(run=folder / "run", statistics=["entropy", "max_weight"])
    trainer = new_trainer(folder, data, callback, eval_strategy="epoch")
    trainer.train()
    return folder, trainer, callback


def test_the_trained_weights_are_bit_identical(
    whole: tuple[Path, Trainer, Any], data: list[dict[str, Any]], tmp_path: Path
) -> None:
    plain = new_trainer(tmp_path, data, eval_strategy="epoch")
    plain.train()
    watched = whole[1].model.state_dict()
    assert len(watched) > 30
    assert all(torch.equal(tensor, watched[name]) for name, tensor in plain.model.state_dict().items())


def test_every_step_is_recorded_with_what_the_trainer_logs(whole: tuple[Path, Trainer, Any]) -> None:
    folder, trainer, _ = whole
    run = run_of(folder)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    expected = [(entry["step"], entry["loss"], entry["learning_rate"], entry["grad_norm"]) for entry in logged]
    assert [step for step, *_ in expected] == list(range(1, 13))
    for found, entry in zip(trace(run), expected, strict=True):
        assert found == pytest.approx(entry, rel=1e-5)
    assert [event["epoch"] for event in run.events("step")] == [1] * 6 + [2] * 6


def test_evaluation_is_recorded_and_not_watched(whole: tuple[Path, Trainer, Any]) -> None:
    run = run_of(whole[0])
    found = [(event["step"], event["epoch"], set(event) >= {"loss"}) for event in run.events("validation")]
    assert found == [(6, 1, True), (12, 2, True)]
    calls = {entry["layer"]: entry["calls"] for entry in run.info.coverage}
    assert calls == dict.fromkeys(LAYERS, 12)


def test_a_run_that_came_to_its_end_says_so(whole: tuple[Path, Trainer, Any]) -> None:
    run = run_of(whole[0])
    assert run.info.status is Status.FINISHED
    assert run.info.recipe == "hugging-face"
    assert run.info.seeds["seed"] == 42
    assert {"transformers", "torch", "regard"} <= set(run.info.versions)
    assert sum(run.info.kernels.values()) == 24
    assert [event["steps"] for event in run.events("finished")] == [12]
    assert nothing_is_left(*whole[1:])


def test_a_second_training_does_not_go_into_the_same_folder(
    whole: tuple[Path, Trainer, Any], data: list[dict[str, Any]], tmp_path: Path
) -> None:
    callback = callbacks.hugging_face(run=whole[0] / "run")
    with pytest.raises(RegardError, match="new run needs an empty folder"):
        new_trainer(tmp_path, data, callback).train()


def test_accumulated_batches_are_one_step(data: list[dict[str, Any]], tmp_path: Path) -> None:
    callback = callbacks.hugging_face(run=tmp_path / "run", statistics=["entropy"])
    trainer = new_trainer(tmp_path, data, callback, num_train_epochs=1, gradient_accumulation_steps=3)
    trainer.train()
    found = run_of(tmp_path).heads.query("SELECT step, num_rows FROM heads WHERE layer = ? AND head = 0", LAYERS[:1])
    assert found["step"].tolist() == [1, 2]
    assert sum(found["num_rows"].tolist()) == sum(LENGTHS)
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert [loss for _, loss, *_ in trace(run_of(tmp_path))] == pytest.approx(logged, rel=1e-5)


def test_losses_of_steps_between_two_logs_are_recorded_too(data: list[dict[str, Any]], tmp_path: Path) -> None:
    callback = callbacks.hugging_face(run=tmp_path / "run")
    trainer = new_trainer(tmp_path, data, callback, logging_steps=4)
    trainer.train()
    found = trace(run_of(tmp_path))
    assert [step for step, *_ in found] == list(range(1, 13))
    assert [step for step, *_, norm in found if norm is not None] == [4, 8, 12]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    means = [sum(loss for _, loss, *_ in found[i : i + 4]) / 4 for i in (0, 4, 8)]
    assert means == pytest.approx(logged, rel=1e-5)


@pytest.mark.parametrize("event", ["on_step_begin", "on_pre_optimizer_step", "on_step_end", "on_evaluate", "on_log"])
def test_an_error_anywhere_in_training_fails_the_run(event: str, data: list[dict[str, Any]], tmp_path: Path) -> None:
    callback = callbacks.hugging_face(run=tmp_path / "run", statistics=["entropy"])
    failing = Failing(event, 3, RuntimeError("out of luck"))
    trainer = new_trainer(tmp_path, data, callback, failing, eval_strategy="steps", eval_steps=3)
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer.train()
    run = run_of(tmp_path)
    assert run.info.status is Status.FAILED
    assert run.info.message == "RuntimeError: out of luck (after step 3)"
    assert [step for step, *_ in trace(run)] == ([1, 2, 3, 4] if event == "on_pre_optimizer_step" else [1, 2, 3])
    assert run.heads.query("SELECT max(step) AS step FROM heads")["step"][0] >= 3
    assert nothing_is_left(trainer, callback)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), Status.FAILED), (KeyboardInterrupt(), Status.INTERRUPTED)]
)
def test_an_error_in_the_model_leaves_nothing_behind(
    error: BaseException, status: Status, data: list[dict[str, Any]], tmp_path: Path
) -> None:
    callback = callbacks.hugging_face(run=tmp_path / "run", statistics=["entropy"])
    trainer = new_trainer(tmp_path, data)
    trainer.add_callback(callback)
    original = trainer.model.classifier.forward

    def break_down(*args: Any) -> Any:
        if trainer.state.global_step == 2:
            trainer.model.classifier.forward = original
            raise error
        return original(*args)

    trainer.model.classifier.forward = break_down
    with pytest.raises(type(error)):
        trainer.train()
    run = run_of(tmp_path)
    assert run.info.status is status
    assert [step for step, *_ in trace(run)] == [1, 2]
    assert nothing_is_left(trainer, callback)


def test_a_failed_training_of_the_same_trainer_may_start_over(data: list[dict[str, Any]], tmp_path: Path) -> None:
    failing = Failing("on_step_end", 2, RuntimeError("once"))
    callback = callbacks.hugging_face(run=tmp_path / "run")
    trainer = new_trainer(tmp_path, data, callback, failing)
    with pytest.raises(RuntimeError, match="once"):
        trainer.train()
    trainer.remove_callback(failing)
    trainer.train()
    assert run_of(tmp_path).info.status is Status.FINISHED
    assert [step for step, *_ in trace(run_of(tmp_path))] == list(range(1, 13))


def test_a_resumed_training_goes_on_in_the_same_run(
    whole: tuple[Path, Trainer, Any], data: list[dict[str, Any]], tmp_path: Path
) -> None:
    settings = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "epoch"}
    options: dict[str, Any] = {"run": tmp_path / "run", "statistics": ["entropy", "max_weight"]}
    failing = Failing("on_step_begin", 5, RuntimeError("out of luck"))
    with pytest.raises(RuntimeError, match="out of luck"):
        new_trainer(tmp_path, data, callbacks.hugging_face(**options), failing, **settings).train()
    new_trainer(tmp_path, data, callbacks.hugging_face(**options), **settings).train(resume_from_checkpoint=True)
    run = run_of(tmp_path)
    assert run.info.status is Status.FINISHED
    assert [event["step"] for event in run.events("resume")] == [3]
    assert trace(run) == trace(run_of(whole[0]))
    assert heads(run) == heads(run_of(whole[0]))


def test_means_of_layers_go_to_the_log_of_the_trainer(data: list[dict[str, Any]], tmp_path: Path) -> None:
    callback = callbacks.hugging_face(log=True, statistics=["entropy"], every=2, run=tmp_path / "run")
    trainer = new_trainer(tmp_path, data, callback, num_train_epochs=1, logging_steps=2)
    trainer.train()
    names = [f"attention/entropy/{layer}" for layer in LAYERS]
    logged = [entry for entry in trainer.state.log_history if names[0] in entry]
    query = "SELECT step, layer, avg(mean) AS m FROM heads GROUP BY step, layer ORDER BY step, layer"
    means = run_of(tmp_path).heads.query(query)["m"].tolist()
    assert [entry["step"] for entry in logged] == [2, 4, 6]  # looked at in steps 1, 3 and 5
    assert [entry[name] for entry in logged for name in names] == pytest.approx(means, abs=1e-5)
    assert len([entry for entry in trainer.state.log_history if "loss" in entry]) == 3


def test_other_recorders_get_the_same_and_stay_open(data: list[dict[str, Any]], tmp_path: Path) -> None:
    class Kept:
        def __init__(self) -> None:
            self.steps: list[int] = []
            self.events: list[str] = []

        def add(self, step: int, layer: str, statistics: tuple[str, ...], moments: Moments) -> None:
            self.steps.append(step)

        def flush(self) -> None:
            self.events.append("flush")

        def close(self) -> None:
            self.events.append("close")

    kept = Kept()
    callback = callbacks.hugging_face(recorder=kept, statistics=["entropy"], layers=["*.0.*"], every=4)
    new_trainer(tmp_path, data, callback).train()
    assert kept.steps == [1, 5, 9]
    assert set(kept.events) == {"flush"}


def test_show_diagnose_and_report_read_the_run(data: list[dict[str, Any]], tmp_path: Path) -> None:
    statistics = ["entropy", "normalized_entropy", "first_mass", "padding_mass", "output_norm", "saturated_share"]
    callback = callbacks.hugging_face(run=tmp_path / "run", statistics=[*statistics, "max_score"])
    settings = {"num_train_epochs": 8, "eval_strategy": "epoch", "logging_steps": 1}
    new_trainer(tmp_path, data, callback, **settings).train()
    run = run_of(tmp_path)
    diagnosis = diagnose(run)
    assert set(diagnosis.not_judged) == {"rank_collapse", "vanishing_gradient"}
    run.write_findings(diagnosis.findings)
    run.write("diagnosis", diagnosis.to_dict())
    console = Console(record=True, width=100, file=(tmp_path / "screen.txt").open("w"))
    console.print(summary(run))
    console.file.close()
    assert "48" in console.export_text()
    page = write_report(run).read_text()
    assert "Gradient norm of the whole model" in page
    assert "regard train" not in page


def test_a_loss_that_the_trainer_hides_is_diagnosed(data: list[dict[str, Any]], tmp_path: Path) -> None:
    """``logging_nan_inf_filter`` keeps NaN out of the Trainer's own log."""
    callback = callbacks.hugging_face(run=tmp_path / "run", statistics=["entropy"])
    trainer = new_trainer(tmp_path, data, callback, max_grad_norm=0.0, num_train_epochs=1)
    with torch.no_grad():
        trainer.model.classifier.bias.fill_(torch.nan)
    trainer.train()
    (finding,) = [found for found in diagnose(run_of(tmp_path)).findings if found.rule == "loss_not_finite"]
    assert finding.title.endswith("from step 1")


def test_a_loop_without_training_step_is_refused_not_missed(data: list[dict[str, Any]], tmp_path: Path) -> None:
    class Own(Trainer):
        def __getattribute__(self, name: str) -> Any:
            if name == "training_step":
                return Trainer.training_step.__get__(self)
            return super().__getattribute__(name)

    args = TrainingArguments(
        str(tmp_path / "out"), use_cpu=True, report_to=[], disable_tqdm=True, dataloader_pin_memory=False
    )
    trainer = Own(new_model(), args, train_dataset=data, callbacks=[callbacks.hugging_face()])
    with pytest.raises(RegardError, match=r"must train through Trainer\.training_step, got Own, which does not"):
        trainer.train()


def test_heads_spread_over_ranks_are_refused(data: list[dict[str, Any]], tmp_path: Path) -> None:
    trainer = new_trainer(tmp_path, data, callbacks.hugging_face())
    trainer.model._tp_size = 2
    with pytest.raises(RegardError, match="spread over 2 of them by tensor parallelism"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistics": ["entropie"]}, "entropie"),
        ({"rowz": 3}, "options of watch besides its own, got .*rowz"),
        ({"every": 0}, "positive number of steps"),
    ],
)
def test_wrong_options_are_refused_before_training(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RegardError, match=message):
        callbacks.hugging_face(**options)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factories, "find_spec", lambda name: None)
    with pytest.raises(RegardError, match=r'needs transformers, .*pip install "regard\[hf\]"'):
        callbacks.hugging_face()


def test_a_view_before_training_is_refused() -> None:
    with pytest.raises(RegardError, match="needs a training to look at"):
        _ = callbacks.hugging_face().view
