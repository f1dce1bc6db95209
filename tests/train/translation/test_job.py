"""The whole job of a translator on a small language: what it writes, and that a stopped job goes on."""

import json
from collections.abc import Iterator

import pytest
import torch

from regard._errors import ArgumentError
from regard.evaluate import LEXICON
from regard.models import RecurrentTranslator, count_parameters, load_transformer
from regard.records import Run
from regard.train import Translator, configure, make_job
from regard.train.translation.model import new_translator

WORDS = {"red": "rot", "green": "grün", "dog": "hund", "cat": "katze", "sees": "sieht", "hears": "hört"}


def sentences() -> Iterator[tuple[str, str]]:
    for first in ("red", "green"):
        for one in ("dog", "cat"):
            for verb in ("sees", "hears"):
                for second in ("red", "green"):
                    for other in ("dog", "cat"):
                        source = [first, one, verb, second, other]
                        yield " ".join(source), " ".join(WORDS[word] for word in [*source[3:], verb, *source[:2]])


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"en": source, "de": target} for source, target in sentences()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * 3), encoding="utf-8")
    return path


def config(table, *more):
    settings = {
        "data.path": table,
        "data.source_column": "en",
        "data.target_column": "de",
        "model.embed_dim": 32,
        "model.feed_forward_dim": 64,
        "model.num_encoder_layers": 1,
        "model.num_decoder_layers": 1,
        "model.dropout_p": 0.1,
        "model.tokens": "words",
        "optim.epochs": 2,
        "optim.tokens_per_batch": 60,
        "check": "false",
    }
    return configure("translator", [*(f"{name}={value}" for name, value in settings.items()), *more])


def finished(run, config):
    job = make_job(config, run)
    job.prepare()
    job.train()
    job.evaluate()
    job.finish()
    return run


@pytest.fixture
def run(table, tmp_path):
    return finished(Run.create(tmp_path / "run", recipe="translator", task="translation"), config(table))


def test_a_run_holds_what_it_takes_to_judge_and_to_use_it(run):
    metrics = run.read("metrics")
    names = {path.name for path in (run.folder / "model").iterdir()}

    assert [model["name"] for model in metrics["models"]] == [
        "Transformer from scratch (1 + 1 layers, width 32)",
        LEXICON,
    ]
    assert metrics["metric_order"] == ["exact_match", "token_accuracy"]
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}
    assert [event["epoch"] for event in run.events("validation")] == [1, 2]


def test_what_was_written_is_what_was_scored(run):
    rows, metrics = run.read("translations"), run.read("metrics")
    right = sum(row["written"].split() == row["reference"].split() for row in rows)

    assert metrics["num_rows"] == len(rows) == run.read("audit")["splits"]["test"]["num_rows"]
    assert metrics["models"][0]["metrics"]["exact_match"]["value"] == right / len(rows)


def test_watch_saw_encoder_decoder_and_cross_attention(run):
    kinds = {layer["layer"] for event in run.events("gradients") for layer in event["layers"]}

    assert kinds == {
        "encoder.layer.0.attention",
        "decoder.layer.0.self_attention",
        "decoder.layer.0.cross_attention",
    }
    assert sum(run.info.kernels.values()) == 3 * len(list(run.events("step")))


def test_a_stopped_job_goes_on_to_the_same_end(table, run, tmp_path, monkeypatch):
    from regard.train.translation.task import TranslatorTask

    stopped = Run.create(tmp_path / "stopped", recipe="translator", task="translation")
    job = make_job(config(table, "checkpoint_every_s=0"), stopped)
    job.prepare()
    steps, loss = 0, TranslatorTask.loss

    def failing(self, batch):
        nonlocal steps
        steps += 1
        if steps == 9:
            raise RuntimeError("the power is out")
        return loss(self, batch)

    monkeypatch.setattr(TranslatorTask, "loss", failing)
    with pytest.raises(RuntimeError, match="the power is out"):
        job.train()
    monkeypatch.undo()

    finished(stopped, config(table, "checkpoint_every_s=0"))

    one, other = (load_transformer(folder / "model").state_dict() for folder in (run.folder, stopped.folder))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_texts_are_scored_as_texts(table, tmp_path):
    pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install 'regard[translation]'")
    made = Run.create(tmp_path / "texts", recipe="translator", task="translation")

    finished(made, config(table, "model.tokens=subwords", "model.vocab_size=280", "optim.epochs=1", "write.beams=1"))

    metrics = made.read("metrics")
    assert metrics["metric_order"] == ["bleu", "chrf", "bleu_lower"]
    assert metrics["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")


def test_a_job_that_has_no_data_yet_says_so(table, tmp_path):
    job = make_job(config(table), Run.create(tmp_path / "early", recipe="translator", task="translation"))

    with pytest.raises(ArgumentError, match=r"prepare its pairs before it trains or evaluates; call prepare\(\)"):
        job.train()


def test_a_job_reads_contexts_and_holds_out_whole_documents(tmp_path):
    path = tmp_path / "books.jsonl"
    rows = [
        {"ref": f"book {number % 6}", "en": source, "de": target} for number, (source, target) in enumerate(sentences())
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = (
        "data.document_column=ref",
        "data.context=2",
        "data.context_len=9",
        "data.test_share=0.3",
        "write.beams=1",
    )
    recipe = config(path, *settings, "data.validation_share=0.2", "optim.epochs=1")
    made = Run.create(tmp_path / "books", recipe="translator", task="translation", config=recipe.to_dict())

    finished(made, recipe)

    split = made.read("split")
    documents = [set(split[name]["documents"]) for name in ("train", "validation", "test")]
    assert set.union(*documents) == {f"book {number}" for number in range(6)}
    assert sum(map(len, documents)) == 6
    assert made.read("metrics")["num_rows"] == split["test"]["num_rows"]
    translator = Translator.open(made)
    written = made.read("translations")
    of_document = [row for row in rows if row["ref"] in documents[2]]
    for row, found in list(zip(of_document, written, strict=True))[:4]:
        before = [one["en"] for one in rows[: rows.index(row)] if one["ref"] == row["ref"]][::-1][:2]
        assert translator.translate([row["en"]], contexts=[before]) == [found["written"]]


@pytest.mark.parametrize("choice", [["gru"], ["lstm", "model.attention=none", "model.tied_embeddings=target"]])
def test_a_recurrent_translator_is_trained_written_and_asked_alike(table, tmp_path, choice):
    chosen = config(
        table, f"model.architecture={choice[0]}", *choice[1:], "optim.epochs=6", "optim.lr=0.01", "check=true"
    )
    run = Run.create(tmp_path / "run", recipe="translator", task="translation", config=chosen.to_dict())
    finished(run, chosen)

    losses = [event["loss"] for event in run.events("validation")]
    assert losses[-1] < 0.5 * losses[0]
    assert run.read("metrics")["models"][0]["name"].startswith(f"{choice[0].upper()} with")
    assert not run.has("checks")
    translator = Translator.open(Run.open(run.folder))
    assert isinstance(translator.model, RecurrentTranslator)
    written = translator.translate([row["source"] for row in run.read("translations")])
    assert written == [row["written"] for row in run.read("translations")]


@pytest.mark.parametrize("architecture", ["gru", "lstm"])
@pytest.mark.parametrize("attention", ["additive", "none"])
def test_a_recurrent_translator_has_the_parameters_of_the_transformer(table, architecture, attention):
    ids = {"vocab_size": 4000, "pad_id": 0, "bos_id": 1, "eos_id": 2}
    given = [f"data.path={table}"]
    transformer = new_translator(configure("translator", given), **ids)
    recurrent = new_translator(
        configure("translator", [*given, f"model.architecture={architecture}", f"model.attention={attention}"]), **ids
    )

    assert abs(count_parameters(recurrent) / count_parameters(transformer) - 1) < 0.05


@pytest.mark.parametrize("setting", ["hidden_dim=64", "attention=none", "recurrent_layers=2"])
def test_settings_of_a_recurrent_network_are_no_transformers(table, setting):
    with pytest.raises(ArgumentError, match=f"model.{setting.partition('=')[0]} belongs to a recurrent network"):
        configure("translator", [f"data.path={table}", f"model.{setting}"])


def test_logits_of_some_tokens_are_those_of_all(table):
    model = new_translator(config(table, "model.architecture=gru"), vocab_size=30, pad_id=0, bos_id=1, eos_id=2).eval()
    source, target = torch.randint(3, 30, (2, 2, 5)).unbind(0)
    at = torch.rand(2, 5) < 0.5

    torch.testing.assert_close(model(source, target, logits_at=at), model(source, target)[at])
