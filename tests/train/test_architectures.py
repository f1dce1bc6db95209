"""A recurrent network is the same job as a Transformer: one setting, the same parameter count, the same files."""

import random
from pathlib import Path
from typing import Any

import pytest

from regard import RegardError
from regard.models import (
    RecurrentForCausalLM,
    RecurrentForSequenceClassification,
    count_parameters,
    load_recurrent,
)
from regard.records import Run
from regard.train import Classifier, Writer, configure, make_job
from regard.train.classification.config import ModelConfig
from regard.train.classification.model import model_name, new_classifier
from regard.train.comparing.outcome import read_outcome
from regard.train.language.config import LanguageModel
from regard.train.language.model import new_language_model

CELLS = ["lstm", "gru"]
WORDS = {"grain": ["wheat", "corn", "crop"], "oil": ["crude", "barrel", "opec"]}


def trained(recipe: str, values: list[str], folder: Path) -> Run:
    config = configure(recipe, values)
    run = Run.create(
        folder, recipe=config.recipe, task=config.task, config=config.to_dict(), seeds={"seed": config.seed}
    )
    job = make_job(config, run)
    job.prepare()
    job.train()
    job.evaluate()
    assert job.check() is None
    job.finish()
    return run


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chooser = random.Random(0)
    path = tmp_path_factory.mktemp("news") / "news.csv"
    rows = []
    for number in range(90):
        topic = sorted(WORDS)[number % 2]
        words = [chooser.choice(WORDS[topic] if chooser.random() < 0.5 else ["the", "of", "said"]) for _ in range(12)]
        rows.append(f"{topic},{' '.join(words)} {number}")
    path.write_text("topic,body\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def classifier(news: Path, *more: str) -> list[str]:
    sizes = ["model.num_layers=1", "model.embed_dim=32", "model.num_heads=2", "model.vocab_size=100"]
    table = ["data.source=table", f"data.path={news}", "data.text=body", "data.label=topic", "data.max_len=16"]
    return [*table, *sizes, "optim.epochs=2", *more]


@pytest.mark.parametrize("cell", CELLS)
def test_a_recurrent_classifier_has_the_parameters_of_the_transformer(cell: str) -> None:
    sizes: dict[str, Any] = {"pretrained": "none", "num_layers": 4, "embed_dim": 64, "num_heads": 4}
    made = [
        new_classifier(ModelConfig(**sizes, architecture=name), 8, vocab_size=2000, max_len=128, pad_id=0)
        for name in ("transformer", cell)
    ]

    assert isinstance(made[1], RecurrentForSequenceClassification)
    assert abs(count_parameters(made[1]) / count_parameters(made[0]) - 1) < 0.05
    assert model_name(ModelConfig(**sizes, architecture=cell)) == f"{cell.upper()} of 2 layers from scratch"


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("vocab_size", "tied"), [(65, False), (8000, True), (8000, False)])
def test_a_recurrent_language_model_has_the_parameters_of_the_decoder(cell: str, vocab_size: int, tied: bool) -> None:
    made = [
        new_language_model(LanguageModel(architecture=name), vocab_size=vocab_size, max_len=64, pad_id=0, tied=tied)
        for name in ("transformer", cell)
    ]

    assert isinstance(made[1], RecurrentForCausalLM)
    assert abs(count_parameters(made[1]) / count_parameters(made[0]) - 1) < 0.05


def test_a_given_width_is_taken() -> None:
    settings = ModelConfig(pretrained="none", architecture="gru", hidden_dim=12, recurrent_layers=1)
    model = new_classifier(settings, 3, vocab_size=50, max_len=16, pad_id=0)

    assert isinstance(model, RecurrentForSequenceClassification)
    assert (model.encoder.config.hidden_dim, model.encoder.config.num_layers) == (12, 1)


def test_a_recurrent_classifier_is_trained_judged_saved_and_asked(news: Path, tmp_path: Path) -> None:
    run = trained("from-scratch", classifier(news, "model.architecture=lstm"), tmp_path / "run")

    assert run.read("metrics")["models"][0]["name"] == "LSTM of 2 layers from scratch"
    assert isinstance(load_recurrent(run.folder / "model"), RecurrentForSequenceClassification)
    [found] = Classifier.open(run).predict(["crude barrel opec"])
    assert sum(found.values()) == pytest.approx(1)
    assert run.info.coverage == []


@pytest.mark.parametrize("tokens", ["characters", "subwords"])
def test_a_recurrent_language_model_is_trained_judged_saved_and_writes(tokens: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log\n" * 120, encoding="utf-8")
    sizes = ["model.num_layers=1", "model.embed_dim=32", "model.num_heads=2", "data.window=16", "optim.epochs=1"]
    sizes += [f"data.tokens={tokens}"]

    run = trained("language-model", [f"data.path={text}", *sizes, "model.architecture=gru"], tmp_path / "run")

    assert run.read("metrics")["models"][0]["name"] == "GRU of 2 layers"
    outcome = read_outcome(run, model="gru", seed=0)
    assert outcome.flops > outcome.row_flops > 0
    assert len(outcome.rows["single tokens"].totals) == outcome.metrics["num_rows"]
    assert len(Writer.open(run).write("the cat", max_new_tokens=40)) >= 40


def test_runs_of_unlike_seeds_can_share_a_split(news: Path, tmp_path: Path) -> None:
    digests = []
    for number, more in enumerate((["seed=0", "data.seed=5"], ["seed=1", "data.seed=5"], ["seed=1"])):
        config = configure("from-scratch", classifier(news, *more))
        run = Run.create(tmp_path / str(number), recipe=config.recipe, task=config.task, config=config.to_dict())
        make_job(config, run).prepare()
        digests.append({name: split["sha256"] for name, split in run.read("split").items()})

    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.architecture=lstm"], "model.architecture=lstm needs model.pretrained=none, got minilm"),
        (
            ["model.pretrained=none", "model.architecture=gru", "model.pooling=first"],
            "model.architecture=gru needs model.pooling=mean, got first",
        ),
        (["model.hidden_dim=12"], "model.hidden_dim belongs to a recurrent network"),
        (["model.architecture=rnn"], "model.architecture: Input should be"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(RegardError, match=message):
        configure("demo", settings)
