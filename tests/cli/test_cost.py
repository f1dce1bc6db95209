"""`regard plan` and `regard profile` as a person meets them."""

import json
import sys
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from regard._errors import ArgumentError
from regard.cli.main import app
from regard.cli.sizes import bytes_of, in_bytes

FACTORY = """
import torch
from torch import nn

def layer():
    return nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, batch_first=True)

def pair():
    return nn.Linear(7, 3), lambda batch, length: torch.zeros(batch, length, 7)

def needs(x):
    return x

def three():
    return 3
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "made_here.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "made_here", raising=False)
    return lambda *words: CliRunner().invoke(app, list(words))


def test_plan_says_what_is_needed_and_what_fits(run):
    done = run("plan", "made_here:layer", "--len", "64", "--memory", "10MB", "--json")

    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["fits"] is True
    assert found["longest"] > 64
    assert found["most"] > 1
    assert found["parts"]["attention core"]["flops"] == 4 * 64 * 64 * 32


def test_plan_that_does_not_fit_exits_with_one(run):
    done = run("plan", "made_here:layer", "--len", "64", "--memory", "10kB")

    assert done.exit_code == 1
    assert "does not fit into 10.00 kB" in done.stdout


def test_plan_takes_a_function_that_makes_inputs(run):
    done = run("plan", "made_here:pair", "--len", "10")

    assert done.exit_code == 0
    assert "parameters   24" in done.stdout


def test_profile_prints_parts_and_verdict(run):
    done = run("profile", "made_here:layer", "--len", "16", "--rounds", "3", "--apply", "threads")

    assert done.exit_code == 0
    assert "feed-forward" in done.stdout
    assert "takes most" in done.stdout
    assert "threads: " in done.stdout


def test_scaling_prints_slopes_and_draws(run, tmp_path):
    done = run("profile", "made_here:layer", "--scaling", "--against", "lstm:32", "--svg", "curve.svg")

    assert done.exit_code == 0
    assert "attention core                   2.00" in done.stdout
    assert "recurrent cells                  1.00" in done.stdout
    assert "from 192 tokens on" in done.stdout
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")


def test_curves_measure_one_layer_by_chunks_and_threads(run, tmp_path):
    done = run("profile", "made_here:layer", "--curves", "--len", "128", "--rounds", "3", "--svg", "curves.svg")

    assert done.exit_code == 0, done.exception
    assert "attention of 4 heads of 8 × 128 × 128, both ways" in done.stdout
    for way in ("chunks of 16 rows", "chunks of 64 rows", "products and softmax, all at once"):
        assert way in done.stdout
    assert "times less memory than products and softmax" in done.stdout
    root = ElementTree.fromstring((tmp_path / "curves.svg").read_text())
    assert len([one for one in root if one.tag.endswith("svg")]) >= 2
    as_json = json.loads(run("profile", "made_here:layer", "--curves", "--len", "64", "--json").stdout)
    assert as_json["length"] == 64
    assert {way["flops"] for way in as_json["ways"]} == {4 * 4 * 64 * 64 * 8}


@pytest.mark.parametrize(
    ("recipe", "settings", "assumed"),
    [
        ("from-scratch", ["model.num_layers=1"], "8 labels"),
        ("language-model", ["data.path=a.txt", "model.num_layers=1"], "100 kinds of characters"),
        ("language-model", ["data.path=a.txt", "model.architecture=gru", "data.window=16"], "100 kinds of characters"),
        ("language-model", ["data.path=a.txt", "data.tokens=subwords", "model.num_layers=1"], "8,000 subwords"),
        ("language-model", ["data.path=a.txt", "data.tokens=words", "data.vocab_size=90"], "90 words"),
        ("masked-words", ["data.path=a.txt", "model.num_layers=1"], "8,000 word pieces"),
        ("token-tagger", ["data.path=a.conll", "model.pretrained=none", "model.num_layers=1"], "20 tags"),
        ("translator", ["data.path=a.tsv", "model.vocab_size=500"], "500 subwords"),
        ("translator", ["data.path=a.tsv", "model.tokens=words"], "2,000 words"),
        ("forecaster", ["data.path=a.csv"], "7 channels"),
        ("frames", ["data.path=a.ts"], "7 channels, 256 frames a sequence and 8 labels"),
        (
            "frames",
            ["data.path=a.ts", "model.target=number", "model.patch_len=8", "model.architecture=gru"],
            "7 channels, 256 frames a sequence",
        ),
    ],
)
def test_every_recipe_can_be_planned(run, recipe, settings, assumed):
    limited = ["--memory", "3MB"] if recipe == "forecaster" or "model.architecture=gru" in settings else []
    done = run("plan", recipe, *limited, *(part for one in settings for part in ("--set", one)))

    assert done.exit_code == bool(limited), done.exception
    assert f"{recipe}: a step of training" in done.stdout
    assert ("does not fit into 3.00 MB" in done.stdout) == bool(limited)
    assert "longest sequence at batch" not in done.stdout
    assert f"Note: The data is not read; it is taken to have {assumed}." in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "forecaster", "--set", "data.path=a.csv", "--len", "100"], "set model.input_len=100"),
        (["profile", "made_here:layer", "--curves", "--scaling"], "give one of them"),
        (["profile", "made_here:layer", "--curves", "--against", "lstm:32"], "--against belongs to --scaling"),
        (["profile", "lstm:8", "--curves"], "a model with attention"),
        (["profile", "made_here:layer", "--curves", "--train"], "got --train as well"),
        (["plan", "made_here:needs"], "must need no arguments"),
        (["plan", "made_here:three"], "must be a module"),
        (["plan", "made_here:layer", "--memory", "lots"], "a size such as 8GB"),
        (["plan", "made_here:layer", "--set", "a=1"], "--set changes a recipe"),
        (["profile", "made_here:layer", "--svg", "a.svg"], "belongs to --scaling or --curves"),
        (["profile", "made_here:layer", "--apply", "magic"], "--apply must be one of"),
        (["profile", "lstm:x"], "lstm:WIDTH"),
    ],
)
def test_wrong_input_is_one_sentence(run, words, said):
    done = run(*words)

    assert isinstance(done.exception, ArgumentError)
    assert said in str(done.exception)


def test_sizes_are_those_that_people_write():
    assert bytes_of("8GB") == 8 * 10**9
    assert bytes_of("1.5 GiB") == 3 * 2**29
    assert bytes_of("512M") == 512 * 10**6
    assert in_bytes(1_500_000) == "1.50 MB"
    with pytest.raises(ArgumentError, match="a size such as"):
        bytes_of("0")
