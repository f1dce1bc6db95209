"""The whole job of a tagger on a small language: what it writes, what it is held against, and what it then says."""

import random

import numpy as np
import pytest
import torch

from regard._errors import ArgumentError, DataError, RecordError
from regard.data import encode_words, load_tokenizer
from regard.evaluate import MAJORITY_TAG, WORD_TAGS
from regard.models import RecurrentForTokenClassification, count_parameters, load_token_classifier
from regard.records import Run
from regard.train import Tagger, configure, make_job
from regard.train.tagging.config import TaggerModel
from regard.train.tagging.model import new_tagger, open_tagger

SIZES = ["model.pretrained=none", "model.num_layers=1", "model.embed_dim=32", "model.num_heads=2"]
FAST = [*SIZES, "model.vocab_size=120", "optim.batch_size=8", "optim.lr=0.005", "optim.head_lr=0.005", "check=false"]
NAMES, PLACES = ["ann", "bob", "cleo", "paris", "york"], ["rome", "lima", "paris", "york"]


def sentences(number, seed=0):
    """Paris is a person where something is done and a place behind "in": words alone do not tell."""
    chooser = random.Random(seed)
    for _ in range(number):
        who, where = chooser.choice(NAMES), chooser.choice(PLACES)
        start = [(who, "B-PER"), *([("smith", "I-PER")] if chooser.random() < 0.4 else [])]
        yield [*start, (chooser.choice(["sleeps", "works"]), "O"), ("in", "O"), (where, "B-LOC")]


def told_sentence(chooser):
    """Each verb is followed by a comma in one half of the sentences and by a place in the other."""
    first, second = chooser.sample(["sleeps", "works"], 2)
    return f"{chooser.choice(['Ann', 'Bob'])} {first}, {chooser.choice(['Ann', 'Bob'])} {second} in Rome."


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "news.conll"
    lines = ["\n".join(f"{word} x {tag}" for word, tag in one) for one in sentences(240)]
    path.write_text("-DOCSTART- x O\n\n" + "\n\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "book.txt"
    told = [told_sentence(random.Random(number)) for number in range(300)]
    path.write_text(" ".join(told), encoding="utf-8")
    return path


def finished(folder, settings):
    config = configure("token-tagger", settings)
    run = Run.create(folder, recipe=config.recipe, task=config.task, config=config.to_dict())
    job = make_job(config, run)
    job.prepare()
    job.train()
    job.evaluate()
    job.check()
    job.finish()
    return run


@pytest.fixture(scope="module")
def run(columns, tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs") / "run", [f"data.path={columns}", *FAST, "optim.epochs=4"])


def value(run, index, name):
    return run.read("metrics")["models"][index]["metrics"][name]["value"]


def test_a_run_beats_the_baselines_where_words_alone_do_not_tell(run):
    metrics = run.read("metrics")

    assert [model["name"] for model in metrics["models"]][1:] == [WORD_TAGS, MAJORITY_TAG]
    assert metrics["metric_order"] == ["accuracy", "macro_f1", "span_precision", "span_recall", "span_f1"]
    assert metrics["comparison"]["against"] == WORD_TAGS
    assert metrics["comparison"]["low"] > 0
    assert value(run, 0, "span_f1") > 0.95 > value(run, 1, "span_f1")


def test_a_run_holds_what_it_takes_to_judge_and_to_use_it(run):
    audit, rows = run.read("audit"), run.read("rows")

    assert {path.name for path in (run.folder / "model").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert run.read("labels") == ["B-LOC", "B-PER", "I-PER", "O"]
    assert [audit["splits"][name]["num_rows"] for name in ("train", "validation", "test")] == [
        run.read("split")[name]["num_rows"] for name in ("train", "validation", "test")
    ]
    assert sum(split["num_rows"] for split in audit["splits"].values()) == 240
    assert audit["left_out"] == {"marks of documents": 1}
    name = run.read("metrics")["models"][0]["name"]
    assert sum(rows["models"][name]["totals"]) / sum(rows["models"][name]["counts"]) == value(run, 0, "accuracy")
    assert sum(rows["lengths"]) == audit["splits"]["test"]["num_words"]
    assert sorted(next(run.events("validation"))) == sorted(
        ["time", "level", "event", "step", "epoch", "loss", "accuracy", "macro_f1", "span_f1"]
    )


def test_transformers_loads_the_model_of_a_run(run):
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'regard[hf]'")
    theirs = transformers.BertForTokenClassification.from_pretrained(run.folder / "model").eval()
    ours = load_token_classifier(run.folder / "model").eval()
    ids = torch.tensor(encode_words(load_tokenizer(run.folder / "model"), [["ann", "smith", "works"]], 16).ids)

    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    assert list(theirs.config.id2label.values()) == run.read("labels")


def test_a_tagger_says_what_was_scored(run):
    tagger = Tagger.open(Run.open(run.folder))

    assert tagger.tag(["paris smith works in paris"]) == [
        [("paris", "B-PER"), ("smith", "I-PER"), ("works", "O"), ("in", "O"), ("paris", "B-LOC")]
    ]
    together = tagger.tag([[word for word, _ in one] for one in sentences(40, seed=1)])
    assert together == [tagger.tag([[word for word, _ in one]])[0] for one in sentences(40, seed=1)]
    with pytest.raises(ArgumentError, match="must hold a word, got '  '"):
        tagger.tag(["  "])
    with pytest.raises(ArgumentError, match="needs a tagger that was trained with"):
        tagger.restore(["ann"])


def test_the_loss_is_of_first_pieces_alone(run, columns, tmp_path):
    """Cross-entropy again, sentence by sentence, without batches or padding."""
    config = configure("token-tagger", [f"data.path={columns}", *FAST])
    job = make_job(config, Run.create(tmp_path / "run", recipe=config.recipe, task=config.task))
    job.prepare()
    corpus = job._corpus
    model = open_tagger(run.folder / "model").eval()
    task = job._task(model)
    split = corpus.splits["validation"]

    nats, right = [], []
    for ids, places, targets in zip(split.windows.ids, split.windows.first_pieces, split.targets, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0, places].double()
        nats += (-logits.log_softmax(-1)[range(len(targets)), targets]).tolist()
        right += (logits.argmax(-1) == torch.tensor(targets)).tolist()

    found = task.validate()
    assert found["loss"] == pytest.approx(np.mean(nats), abs=1e-6)
    assert found["accuracy"] == np.mean(right)


def test_a_stopped_job_goes_on_to_the_same_end(run, columns, tmp_path, monkeypatch):
    from regard.train.tagging.task import TaggerTask

    settings = [f"data.path={columns}", *FAST, "optim.epochs=4", "checkpoint_every_s=0"]
    config = configure("token-tagger", settings)
    stopped = Run.create(tmp_path / "stopped", recipe=config.recipe, task=config.task)
    job = make_job(config, stopped)
    job.prepare()
    steps, loss = 0, TaggerTask.loss

    def failing(self, batch):
        nonlocal steps
        steps += 1
        if steps == 9:
            raise RuntimeError("the power is out")
        return loss(self, batch)

    monkeypatch.setattr(TaggerTask, "loss", failing)
    with pytest.raises(RuntimeError, match="the power is out"):
        job.train()
    monkeypatch.undo()
    job = make_job(config, stopped)
    job.prepare()
    job.train()

    one, other = (load_token_classifier(folder / "model").state_dict() for folder in (run.folder, stopped.folder))
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_long_sentences_are_read_in_windows_and_all_their_words_are_scored(tmp_path):
    path = tmp_path / "long.conll"
    joined = [[*one, *next(sentences(1, seed=number))] for number, one in enumerate(sentences(60)) if number % 3]
    path.write_text("\n\n".join("\n".join(f"{word} {tag}" for word, tag in one) for one in joined))
    made = finished(tmp_path / "run", [f"data.path={path}", *FAST, "data.max_len=8", "optim.epochs=1"])
    audit = made.read("audit")

    assert audit["splits"]["test"]["truncated_share"] == 1
    assert audit["splits"]["test"]["num_windows"] > audit["splits"]["test"]["num_rows"]
    assert sum(made.read("rows")["models"][WORD_TAGS]["counts"]) == audit["splits"]["test"]["num_words"]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_recurrent_tagger_has_the_parameters_of_the_transformer(cell):
    sizes = {"pretrained": "none", "num_layers": 4, "embed_dim": 64, "num_heads": 4}
    made = [
        new_tagger(TaggerModel(**sizes, architecture=name), 9, vocab_size=2000, max_len=128, pad_id=0)
        for name in ("transformer", cell)
    ]

    assert isinstance(made[1], RecurrentForTokenClassification)
    assert abs(count_parameters(made[1]) / count_parameters(made[0]) - 1) < 0.05


def test_a_recurrent_tagger_is_the_same_job(columns, tmp_path):
    settings = [f"data.path={columns}", *FAST, "optim.epochs=3", "model.architecture=gru", "model.recurrent_layers=1"]
    made = finished(tmp_path / "run", [one for one in settings if one != "check=false"])

    assert not made.has("checks")
    assert made.read("metrics")["comparison"]["low"] > 0
    assert Tagger.open(Run.open(made.folder)).tag(["york works in york"])[0] == [
        ("york", "B-PER"), ("works", "O"), ("in", "O"), ("york", "B-LOC")
    ]  # fmt: skip


def test_a_tagger_goes_on_from_the_model_of_another_run(run, columns, tmp_path):
    settings = [f"data.path={columns}", f"model.pretrained={run.folder / 'model'}", *FAST[5:], "optim.epochs=2"]
    made = finished(tmp_path / "run", settings)

    assert made.read("metrics")["models"][0]["name"] == "model, fine-tuned"
    assert value(made, 0, "accuracy") > 0.95


def test_tags_of_the_test_set_alone_count_as_wrong(columns, tmp_path):
    test = tmp_path / "test.conll"
    test.write_text("ann x B-PER\nworks x NEW\n\nann x B-PER\nsleeps x O\n", encoding="utf-8")
    made = finished(tmp_path / "run", [f"data.path={columns}", f"data.test_path={test}", *FAST, "optim.epochs=2"])

    assert "NEW" not in made.read("labels")
    assert value(made, 0, "accuracy") <= 0.75
    assert any("the model cannot name them, so 1 of its 4 words" in line for line in made.read("audit")["warnings"])
    split = made.read("split")
    assert split["test"]["files"] == [str(test)] != split["train"]["files"]


@pytest.fixture(scope="module")
def restoring(prose, tmp_path_factory):
    settings = ["data.source=punctuation", f"data.path={prose}", "data.window=16", *FAST, "optim.epochs=6"]
    return finished(tmp_path_factory.mktemp("runs") / "restoring", settings)


def test_case_and_punctuation_are_restored_in_texts_of_any_length(restoring):
    """The model read 16 words at once; what is longer is read on from where its sentences begin."""
    tagger = Tagger.open(Run.open(restoring.folder))
    text = " ".join(told_sentence(random.Random(number)) for number in range(900, 909))
    spoken = text.lower().replace(",", "").replace(".", "")

    assert tagger.restores
    assert tagger.restore([spoken, "bob works ann sleeps in rome"]) == [text, "Bob works, Ann sleeps in Rome."]
    assert [word for word, _ in tagger.tag([text])[0]] == spoken.split()


def test_parts_of_a_text_follow_each_other(restoring):
    split, metrics = restoring.read("split"), restoring.read("metrics")
    rows = [split[name]["rows"] for name in ("train", "validation", "test")]

    assert [len(one) for one in rows] == [1, 1, 1]
    assert rows[0][0][1] + 1 == rows[1][0][0]
    assert rows[1][0][1] + 1 == rows[2][0][0]
    assert (metrics["unit"], metrics["metric_order"]) == ("windows", ["accuracy", "macro_f1"])
    assert metrics["comparison"]["low"] > 0


def test_a_run_of_another_task_is_no_tagger(tmp_path):
    with pytest.raises(RecordError, match="needs a run of a tagger, got one of translation"):
        Tagger.open(Run.create(tmp_path / "run", recipe="translator", task="translation"))


def test_a_job_that_has_no_data_yet_says_so(columns, tmp_path):
    config = configure("token-tagger", [f"data.path={columns}", *FAST])
    job = make_job(config, Run.create(tmp_path / "early", recipe=config.recipe, task=config.task))
    with pytest.raises(ArgumentError, match=r"prepare its sentences before it trains or evaluates; call prepare\(\)"):
        job.train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "data.path must name the file"),
        (["data.path=a", "data.tag_column=1"], "must be two different columns"),
        (["data.path=a", "data.source=punctuation", "data.tag_column=2"], "are for data.source=conll"),
        (["data.path=a", "data.window=9"], "data.window is for data.source=punctuation"),
        (["data.path=a", "model.architecture=gru"], "model.architecture=gru needs model.pretrained=none, got minilm"),
        (["data.path=a", "model.pooling=first"], "must be a field of the recipe, got 'model.pooling'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ArgumentError, match=message):
        configure("token-tagger", settings)


def test_one_tag_is_nothing_to_learn(tmp_path):
    path = tmp_path / "one.conll"
    path.write_text("".join(f"w{number} O\n\n" for number in range(30)))
    config = configure("token-tagger", [f"data.path={path}", *FAST])
    with pytest.raises(DataError, match="needs two tags or more, got only 'O'"):
        make_job(config, Run.create(tmp_path / "run", recipe=config.recipe, task=config.task)).prepare()
