"""A decoder that is given: its own tokens and sizes, fine-tuned, beside itself as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch

import regard.train.language.given as language_given
from regard import RegardError
from regard.data import Tokenizer, encode_running, load_tokenizer, running_subwords, train_subwords, train_wordpiece
from regard.models import Decoder, DecoderConfig, load_decoder, save_decoder
from regard.modules import FastDropout
from regard.records import Run
from regard.train import Writer, configure, make_job
from regard.train.language.given import given_decoder, given_name, given_tokenizer

TEXT = "".join(f"the {'abc'[number % 3]} of line {number} comes before {'bca'[number % 3]}\n" for number in range(300))
SIZES: dict[str, Any] = {"embed_dim": 16, "num_heads": 2, "num_layers": 1, "feed_forward_dim": 32, "max_len": 32}


def given(folder: Path, tokenizer: Tokenizer, *, more: int = 0, **config: Any) -> Path:
    """Write a decoder with random weights and its tokenizer, as Hugging Face has GPT-2."""
    torch.manual_seed(1)
    save_decoder(Decoder(DecoderConfig(vocab_size=tokenizer.vocab_size + more, **SIZES, **config)), folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "text.txt"


def trained(folder: Path, text: Path, pretrained: Path, *more: str) -> Run:
    values = [f"data.path={text}", f"model.pretrained={pretrained}", "data.window=16", "optim.epochs=1", *more]
    config = configure("language-model", values)
    run = Run.create(folder, recipe=config.recipe, task=config.task, config=config.to_dict(), seeds={"seed": 0})
    job = make_job(config, run)
    job.prepare()
    job.train()
    job.evaluate()
    job.finish()
    return run


def test_it_is_fine_tuned_beside_itself_and_counted_n_grams(tmp_path: Path, text: Path) -> None:
    folder = given(tmp_path / "theirs", running_subwords(TEXT, vocab_size=300), more=7, eos_ids=(0,))
    run = trained(tmp_path / "run", text, folder, "optim.lr=0.01")
    metrics = run.read("metrics")
    names = [(one["name"], one["kind"]) for one in metrics["models"]]

    assert names[:2] == [("theirs, fine-tuned", "model"), ("theirs as given", "baseline")]
    assert names[2][0].endswith("-grams, Witten–Bell")
    ours, before = (one["metrics"]["bits_per_byte"]["value"] for one in metrics["models"][:2])
    assert ours < before
    assert load_tokenizer(run.folder / "model").vocab_size == 300
    saved = load_decoder(run.folder / "model")
    assert (saved.config.vocab_size, saved.config.max_len, saved.config.eos_ids) == (307, 32, (0,))
    assert "300 kinds (own)" in run.read("audit")["summary"][0]
    writer = Writer.open(run)
    assert len(writer.write("the a", max_new_tokens=40)) > 0


def test_as_given_is_the_model_before_its_first_step(tmp_path: Path, text: Path) -> None:
    tokenizer = running_subwords(TEXT, vocab_size=300)
    folder = given(tmp_path / "theirs", tokenizer)
    run = trained(tmp_path / "run", text, folder)
    first = next(run.events("step"))
    model, ids = load_decoder(folder).eval(), encode_running(tokenizer, TEXT[-int(len(TEXT) * 0.1) :]).ids

    assert first["loss"] == pytest.approx(torch.tensor(300.0).log().item(), abs=0.5)
    with torch.no_grad():
        logits = model(torch.tensor(ids)[None, :16])[0]
    window = torch.nn.functional.cross_entropy(logits, torch.tensor(ids)[1:17]).item()
    rows = run.read("rows")["models"]["theirs as given"]
    assert rows["totals"][0] / rows["counts"][0] == pytest.approx(window, rel=1e-4)


def test_what_a_tokenizer_puts_around_a_text_is_left_out(tmp_path: Path, text: Path) -> None:
    tokenizer = train_subwords(TEXT.splitlines(), vocab_size=300)
    run = trained(tmp_path / "run", text, given(tmp_path / "theirs", tokenizer))
    encoded = encode_running(given_tokenizer(tmp_path / "theirs"), TEXT)

    assert tokenizer.eos_id not in encoded.ids
    assert run.read("audit")["splits"]["test"]["num_bytes"] == pytest.approx(len(TEXT) * 0.1, abs=1)


def test_a_tokenizer_that_changes_the_text_is_told_of(tmp_path: Path) -> None:
    capitals = tmp_path / "capitals.txt"
    capitals.write_text(TEXT.replace("the", "The"), encoding="utf-8")
    warnings = {}
    for name, tokenizer in (
        ("lower", train_wordpiece(TEXT.splitlines(), vocab_size=200)),
        ("bytes", running_subwords(TEXT, vocab_size=300)),
        ("spaced", train_subwords(TEXT.splitlines(), vocab_size=300)),
    ):
        folder = given(tmp_path / name, tokenizer)
        config = configure("language-model", [f"data.path={capitals}", f"model.pretrained={folder}", "data.window=16"])
        run = Run.create(tmp_path / f"run {name}", recipe=config.recipe, task=config.task, config=config.to_dict())
        warnings[name] = make_job(config, run).prepare()["warnings"]

    assert (warnings["bytes"], warnings["spaced"]) == ([], [])
    # Of the line that the test part begins within, the part without a capital comes back.
    assert warnings["lower"][-1].startswith("The tokenizer does not give back 29 of the first 30 lines of test")


def test_a_model_that_was_trained_here_goes_on_from_where_it_is(tmp_path: Path, text: Path) -> None:
    first = trained(tmp_path / "first", text, given(tmp_path / "theirs", running_subwords(TEXT, vocab_size=300)))
    again = trained(tmp_path / "again", text, first.folder / "model")
    scores = [
        {one["name"]: one["metrics"]["loss"]["value"] for one in run.read("metrics")["models"]}
        for run in (first, again)
    ]

    assert scores[1]["first as given"] == pytest.approx(scores[0]["theirs, fine-tuned"], rel=1e-6)


def test_defaults_are_gentle_and_dropout_is_what_the_recipe_says(tmp_path: Path) -> None:
    folder = given(tmp_path / "theirs", running_subwords(TEXT, vocab_size=300), dropout_p=0.3)
    config = configure("language-model", ["data.path=a.txt", f"model.pretrained={folder}"])

    assert (config.optim.lr, config.model.dropout_p, config.data.tokens) == (5e-5, 0.0, "own")
    assert configure("language-model", ["data.path=a.txt"]).optim.lr == 3e-3
    chosen = configure("language-model", ["data.path=a.txt", f"model.pretrained={folder}", "optim.lr=0.5"])
    assert chosen.optim.lr == 0.5
    for dropout_p in (0.0, 0.2):
        model = given_decoder(folder, dropout_p=dropout_p)
        assert {part.p for part in model.modules() if isinstance(part, FastDropout)} == {dropout_p}
    assert [given_name(one) for one in ("smollm2", folder, Path("runs/ours/model"))] == [
        "SmolLM2-135M",
        "theirs",
        "ours",
    ]


@pytest.mark.parametrize("name", ["smollm2", "file"])
def test_a_gguf_file_is_read_as_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file holds is tested where it is read; here, that its readers are called and dropout is set."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")
    tokenizer = running_subwords(TEXT, vocab_size=300)
    model = Decoder(DecoderConfig(vocab_size=300, **SIZES))
    called: list[Path] = []
    monkeypatch.setattr(language_given, "smollm2_file", lambda: path)
    monkeypatch.setattr(language_given, "load_gguf", lambda one: called.append(one) or model)
    monkeypatch.setattr(language_given, "load_gguf_tokenizer", lambda one: called.append(one) or tokenizer)
    source = path if name == "file" else "smollm2"

    assert given_decoder(source, dropout_p=0.25) is model
    assert {part.p for part in model.modules() if isinstance(part, FastDropout)} == {0.25}
    assert given_tokenizer(source) is tokenizer
    assert called == [path, path]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["model.pretrained=smollm2", "data.tokens=words"], r"belong together, .*got data\.tokens=words and"),
        (["data.tokens=own"], r"belong together, .* got data\.tokens=own and model\.pretrained=none"),
        (["model.pretrained=smollm2", "model.num_layers=4"], r"model\.num_layers is for a model from scratch"),
        (["model.pretrained=smollm2", "model.architecture=lstm"], r"model\.architecture is for a model from scratch"),
        (
            ["model.pretrained=smollm2", "data.vocab_size=500"],
            r"data\.vocab_size is for data\.tokens=subwords or words",
        ),
        (["model.architecture=gru", "model.tied_embeddings=true"], r"model\.tied_embeddings belongs to a decoder"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: list[str], message: str) -> None:
    with pytest.raises(RegardError, match=message):
        configure("language-model", ["data.path=a.txt", *values])


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path, text: Path) -> None:
    with pytest.raises(RegardError, match=r"a folder, a GGUF file, 'smollm2' or 'none', got nothing at .*nope"):
        trained(tmp_path / "a", text, tmp_path / "nope")
    folder = given(tmp_path / "theirs", running_subwords(TEXT, vocab_size=300))
    with pytest.raises(RegardError, match=r"data\.window must be at most 32, .*, got 33; lower it"):
        trained(tmp_path / "b", text, folder, "data.window=33")
    running_subwords(TEXT, vocab_size=310).save(folder)
    with pytest.raises(RegardError, match=r"must fit its decoder, got 3\d\d kinds of tokens for 300 words"):
        trained(tmp_path / "c", text, folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RegardError, match=r"A model folder with tokenizer\.json is needed"):
        trained(tmp_path / "d", text, folder)
