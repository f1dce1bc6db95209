"""How many real tokens a second does the demo's loop train, against the Hugging Face Trainer on the same documents?

Both fine-tune MiniLM on the same documents of Reuters R8, cut to the same length, in one epoch, on the processor. Time
runs from the first batch to the end of the last step; loading, validation and the last checkpoint are outside it. Ours
is watched, writes its records and reports its progress as it does in the demo.
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from measure import Sample, Stopwatch, collect, compare
from report import Report, Table, parser
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers import Trainer as TransformersTrainer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from regard.data import Documents, LengthGroupedBatches, load_reuters_r8, load_tokenizer
from regard.models import minilm_folder
from regard.records import Run
from regard.train import ClassifierConfig, Silent, choose_hardware, configure, make_job
from regard.train.classification.corpus import EncodedSplit, build_corpus

__all__ = ["main"]

_OURS = "regard, watched"
_DEFAULTS = "Trainer, defaults"
_EQUAL = "Trainer, equal work"
_SAME = "Trainer, equal work, our batches"
_FEWEST = 4  # documents of a label: rarer ones cannot be on both sides of the split
_COMPARED = {
    _DEFAULTS: [_DEFAULTS, _EQUAL, _SAME, _OURS],
    _EQUAL: [_EQUAL, _OURS],
    _SAME: [_SAME, _OURS],
}
_NOTE = (
    "Defaults: batches of 8 in random order, float32, attention dropout 0.1. Equal work: the demo's batch size and "
    "precision, no attention dropout; our batches: also the same batches of similar length. No Trainer is watched."
)


def main() -> None:
    """Run the benchmark."""
    options = _options()
    set_verbosity_error()  # type: ignore[no-untyped-call]
    disable_progress_bar()  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        config = _config(options, Path(folder))
        hardware = choose_hardware(config.device, config.precision)
        job = Job(config, Path(folder))
        facts = [f"{len(job.split.ids)} documents, {job.num_tokens:,} real tokens", hardware.reason]
        report = Report((__doc__ or "").splitlines()[0], options, facts=facts)
        rounds, most = (1, None) if options.quick else (options.rounds, options.rounds + 3)
        # A sample takes many seconds, so the first step of the first one needs no warm-up.
        samples = collect(job.peers(), rounds=rounds, most_rounds=most, warm_ups=0, tell=report.tell)
    title = f"Fine-tuning MiniLM, {config.data.max_len} tokens at most"
    for against, shown in _COMPARED.items():
        chosen = {name: samples[name] for name in shown}
        report.add(Table(title=title, comparisons=compare(chosen, against=against), tokens=job.num_tokens, note=_NOTE))
    report.write()


def _options() -> argparse.Namespace:
    made = parser(__doc__ or "", rounds=5)
    made.add_argument(
        "--documents", type=int, default=160, help="about how many documents one sample trains on (default 160)"
    )
    return made.parse_args()


def _config(options: argparse.Namespace, folder: Path) -> ClassifierConfig:
    """Return the demo's config on fewer documents, of which a tenth is held out for validation."""
    train, test = load_reuters_r8()
    num_train = 24 if options.quick else round(options.documents / 0.9)
    rows = random.Random(0).sample(range(len(train)), num_train)
    counts = Counter(train.labels[row] for row in rows)
    frequent = {label for label, number in counts.items() if number >= _FEWEST}
    _write(folder / "train.jsonl", train, [row for row in rows if train.labels[row] in frequent])
    _write(folder / "test.jsonl", test, [row for row, label in enumerate(test.labels) if label in frequent][:16])
    files = {"source": "table", "path": f"{folder}/train.jsonl", "test_path": f"{folder}/test.jsonl"}
    settings = [f"data.{name}={value}" for name, value in files.items()]
    settings += ["optim.epochs=1", "device=cpu", "checkpoint_every_s=3600"]
    return configure("demo", [*settings, "data.max_len=16"] if options.quick else settings)


def _write(path: Path, documents: Documents, rows: Sequence[int]) -> None:
    lines = [json.dumps({"text": documents.texts[row], "label": documents.labels[row]}) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Job:
    """The documents, and every peer's way to train on them once.

    Args:
        config: of the demo's loop.
        folder: what trainers write goes below it.
    """

    def __init__(self, config: ClassifierConfig, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._numbers = count()
        tokenizer = load_tokenizer(minilm_folder())
        corpus = build_corpus(config.data, tokenizer, seed=config.seed, run=self._run(), progress=Silent())
        self.split: EncodedSplit = corpus.splits["train"]
        self._num_labels = len(corpus.labels)

    @property
    def num_tokens(self) -> int:
        """Real tokens of the documents."""
        return sum(len(ids) for ids in self.split.ids)

    def peers(self) -> dict[str, Callable[[], Sample]]:
        """Return name -> one training, the Trainer's defaults first."""
        precision = choose_hardware(self._config.device, self._config.precision).precision
        equal = {
            "per_device_train_batch_size": self._config.optim.batch_size,
            "bf16": precision == torch.bfloat16,
        }
        in_order = {**equal, "train_sampling_strategy": "sequential"}
        no_dropout = {"attention_probs_dropout_prob": 0.0}
        return {
            _DEFAULTS: partial(self._theirs, self._rows()),
            _EQUAL: partial(self._theirs, self._rows(), arguments=equal, changes=no_dropout),
            _SAME: partial(self._theirs, self._rows_in_batches(), arguments=in_order, changes=no_dropout),
            _OURS: self._ours,
        }

    def _ours(self) -> Sample:
        progress = TimedProgress()
        job = make_job(self._config, self._run(), progress)
        job.prepare()
        job.train()
        return progress.stopwatch.sample

    def _theirs(
        self, rows: "Rows", *, arguments: Mapping[str, Any] | None = None, changes: Mapping[str, Any] | None = None
    ) -> Sample:
        """Train with the Trainer: ``arguments`` are its own, ``changes`` those of the model's config."""
        folder = minilm_folder()
        torch.manual_seed(self._config.seed)
        timing = TimedTraining()
        trainer = TransformersTrainer(
            model=AutoModelForSequenceClassification.from_pretrained(
                folder, num_labels=self._num_labels, **(changes or {})
            ),
            args=TrainingArguments(
                str(self._new_folder()),
                num_train_epochs=1,
                use_cpu=True,
                report_to="none",
                save_strategy="no",  # the checkpoint at the end is outside the measured time
                disable_tqdm=True,
                **(arguments or {}),
            ),
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(folder),  # which makes it pad with DataCollatorWithPadding
            callbacks=[timing],
        )
        trainer.remove_callback(PrinterCallback)  # the table says what was measured
        trainer.train()
        return timing.stopwatch.sample

    def _rows(self) -> "Rows":
        pairs = zip(self.split.ids, self.split.targets, strict=True)
        return Rows([{"input_ids": ids, "attention_mask": [1] * len(ids), "label": target} for ids, target in pairs])

    def _rows_in_batches(self) -> "Rows":
        """Return the documents in the order of the demo's first epoch, a short batch last."""
        batch_size = self._config.optim.batch_size
        lengths = [len(ids) for ids in self.split.ids]
        batches = LengthGroupedBatches(lengths, batch_size=batch_size, seed=self._config.seed).batches(0)
        batches.sort(key=lambda batch: len(batch) < batch_size)
        rows = self._rows()
        return Rows([rows[index] for batch in batches for index in batch])

    def _run(self) -> Run:
        return Run.create(self._new_folder(), recipe=self._config.recipe, config=self._config.to_dict())

    def _new_folder(self) -> Path:
        return self._folder / str(next(self._numbers))


class Rows(Dataset[dict[str, Any]]):
    """Documents as the Trainer takes them."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


class TimedTraining(TrainerCallback):
    """Measures the Trainer from before its first batch to the end of its last step."""

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the time."""
        self.stopwatch.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop the time; the last step's is the one that counts."""
        self.stopwatch.stop()


class TimedProgress(Silent):
    """Measures our loop from before its first batch to the end of its last step."""

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Start the time."""
        self.stopwatch.start()

    def advance(self, amount: int = 1, **values: float) -> None:
        """Stop the time; the last step's is the one that counts."""
        self.stopwatch.stop()


if __name__ == "__main__":
    main()
