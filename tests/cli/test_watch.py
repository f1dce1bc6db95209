"""`regard watch` shows every head of a local model, says what it could not see, and refuses in one sentence."""

import io
import itertools
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModel, AutoTokenizer

from regard.cli.heat import RAMP, HeatTable, contrast_colour, grouped

Command = Callable[..., tuple[int, str, str]]
TEXTS = ("the bank of the yen", "wheat and corn")


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "REGARD_LOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")


def rows_of(out: str) -> list[list[str]]:
    """Return the words of each line of a table that begins with a layer's number."""
    return [line.split() for line in out.splitlines() if re.match(r" *\d+ +[\d.–-]", line)]


# what is shown


def test_the_table_holds_what_the_eager_model_gives(regard_command: Command, tiny_pretrained: Path) -> None:
    code, out, err = regard_command("watch", tiny_pretrained, *TEXTS, "--statistic", "entropy")
    assert (code, err) == (0, "")
    model = AutoModel.from_pretrained(tiny_pretrained, attn_implementation="eager").double().eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_pretrained)
    entropies = [[], []]
    for text in TEXTS:
        with torch.no_grad():
            maps = model(**tokenizer(text, return_tensors="pt"), output_attentions=True).attentions
        for layer, weights in enumerate(maps):
            entropies[layer].append(torch.special.entr(weights[0]).sum(-1))
    means = [torch.cat(layer, dim=1).mean(1) for layer in entropies]
    expected = [
        [str(number), *(f"{value:.2f}" for value in mean.tolist()), f"{mean.mean().item():.2f}"]
        for number, mean in enumerate(means)
    ]

    assert rows_of(out) == expected


def test_around_the_table_stand_unit_range_rows_kernel_and_coverage(
    regard_command: Command, tiny_pretrained: Path
) -> None:
    _, out, _ = regard_command("watch", tiny_pretrained, *TEXTS, "--statistic", "entropy")
    tokenizer = AutoTokenizer.from_pretrained(tiny_pretrained)
    number = sum(len(tokenizer(text)["input_ids"]) for text in TEXTS)

    assert f"BertModel: 2 texts, {number} tokens" in out
    assert "entropy  -sum p_ij log p_ij" in out
    assert "encoder.layer.*.attention.self" in out
    assert "nats, 0 to log n" in out
    assert re.search(rf"^rows +{number} in each mean$", out, flags=re.MULTILINE)
    assert re.search(r"^kernel +\S+ \(4 calls\)$", out, flags=re.MULTILINE)
    assert re.search(r"^coverage +2 of 2 attention modules seen$", out, flags=re.MULTILINE)


def test_the_default_statistic_is_the_normalised_entropy(regard_command: Command, tiny_pretrained: Path) -> None:
    _, out, _ = regard_command("watch", tiny_pretrained, "the bank")

    assert "normalized_entropy  entropy / log n" in out


def test_all_is_each_statistic_that_needs_no_backward_pass(regard_command: Command, tiny_pretrained: Path) -> None:
    from regard.observe import STATISTICS

    code, out, _ = regard_command("watch", tiny_pretrained, "the bank", "--statistic", "all")
    shown = [name for name in STATISTICS if re.search(rf"^{name}  ", out, flags=re.MULTILINE)]

    assert code == 0
    assert set(STATISTICS) - set(shown) == {"qk_gradient", "vo_gradient", "gradient_ratio", "head_importance"}


def test_json_is_plain_rows(regard_command: Command, tiny_pretrained: Path) -> None:
    names = ("--statistic", "entropy", "--statistic", "max_weight")
    code, out, err = regard_command("watch", tiny_pretrained, "the bank", *names, "--json")
    rows = json.loads(out)

    assert (code, err) == (0, "")
    assert len(rows) == 2 * 2 * 2  # layers, heads, statistics
    assert {"layer", "head", "statistic", "mean", "num_rows", "num_empty_rows"} <= set(rows[0])
    assert {row["statistic"] for row in rows} == {"entropy", "max_weight"}


def test_two_words_are_explained_both_ways(regard_command: Command, tiny_pretrained: Path) -> None:
    code, out, err = regard_command("watch", tiny_pretrained, *TEXTS, "--explain", "wheat", "corn")
    assert (code, err) == (0, "")
    assert "wheat → corn" in out
    assert "corn → wheat" in out
    code, out, _ = regard_command("watch", tiny_pretrained, *TEXTS, "--explain", "wheat", "corn", "--json")
    rows = json.loads(out)
    assert {(row["query"], row["key"]) for row in rows} == {("wheat", "corn"), ("corn", "wheat")}
    assert all(0 <= row["weight"] <= 1 for row in rows)


def test_a_word_that_is_not_there_is_refused_with_those_that_are(
    regard_command: Command, tiny_pretrained: Path
) -> None:
    code, _, err = regard_command("watch", tiny_pretrained, *TEXTS, "--explain", "wheat", "rye")
    assert code != 0
    assert "got 'rye'; there are:" in err
    assert "corn" in err


def test_layers_can_be_chosen(regard_command: Command, tiny_pretrained: Path) -> None:
    _, out, _ = regard_command("watch", tiny_pretrained, "the bank", "--layers", "*.layer.1.*", "--json")

    assert {row["layer"] for row in json.loads(out)} == {"encoder.layer.1.attention.self"}


def test_texts_stdin_and_file_give_the_same(
    regard_command: Command, tiny_pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS) + "\n")
    given = regard_command("watch", tiny_pretrained, *TEXTS)
    monkeypatch.setattr("sys.stdin", io.StringIO(path.read_text()))

    assert regard_command("watch", tiny_pretrained, "-") == given
    assert regard_command("watch", tiny_pretrained, "--file", path) == given


def test_a_text_longer_than_the_model_reads_is_cut_and_said(regard_command: Command, tiny_pretrained: Path) -> None:
    code, out, _ = regard_command("watch", tiny_pretrained, "wheat " * 200)

    assert code == 0
    assert "BertModel: 1 text, 64 tokens" in out
    assert "note  1 text cut to the 64 tokens that the model can read" in out


def test_weights_that_the_folder_lacks_are_said(regard_command: Command, tiny_pretrained: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_pretrained, folder)
    weights = load_file(folder / "model.safetensors")
    missing = next(name for name in weights if "layer.1" in name and "query.weight" in name)
    weights.pop(missing)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    code, out, err = regard_command("watch", folder, "the bank", "--json")

    assert code == 0
    assert json.loads(out)
    assert "not in the folder, hence random" in err
    assert "layer.1.attention.self.query.weight" in err


def test_a_model_with_encoder_and_decoder_is_read_whole(
    regard_command: Command, tiny_pretrained: Path, tmp_path: Path
) -> None:
    from transformers import T5Config, T5Model

    size = len(AutoTokenizer.from_pretrained(tiny_pretrained))
    config = T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0)
    T5Model(config).save_pretrained(tmp_path)
    shutil.copy(tiny_pretrained / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    code, out, err = regard_command("watch", tmp_path, "the bank of the yen")

    assert (code, err) == (0, "")
    assert "coverage  6 of 6 attention modules seen" in out
    for pattern in ("encoder.block.*.layer.0.Self", "decoder.block.*.layer.0.Self", "decoder.block.*.layer.1.EncDec"):
        assert f"{pattern}Attention" in out


@pytest.mark.data
def test_minilm_has_six_layers_of_twelve_heads(regard_command: Command) -> None:
    code, out, _ = regard_command("watch", "minilm", "The dog bit the man.")

    assert code == 0
    assert [len(row) for row in rows_of(out)] == [1 + 12 + 1] * 6


# what is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bert-base-uncased", "text"], 'The model must be "minilm" or a local folder with config.json'),
        (["{model}"], "Each text to read must hold a word, got none; give texts, - for stdin, or --file."),
        (["{model}", "  "], "Each text to read must hold a word, got an empty one"),
        (["{model}", "text", "--statistic", "entropie"], "statistics must be names out of entropy,"),
        (["{model}", "text", "--statistic", "qk_gradient"], "got qk_gradient, which needs a backward pass"),
        (
            ["{model}", "text", "--layers", "decoder.*"],
            "--layers must match an attention layer, got decoder.*; there are",
        ),
        (["{model}", "--file", "nowhere.txt"], "got 'no such file or directory' at nowhere.txt"),
    ],
)
def test_wrong_input_gets_one_sentence(
    regard_command: Command, tiny_pretrained: Path, arguments: list[str], message: str
) -> None:
    code, out, err = regard_command("watch", *(word.replace("{model}", str(tiny_pretrained)) for word in arguments))

    assert (code, out) == (1, "")
    assert err.startswith("regard: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("damage", ["no weights", "torn weights", "no such model"])
def test_a_folder_that_cannot_be_loaded_gets_one_sentence(
    regard_command: Command, tiny_pretrained: Path, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_pretrained, folder)
    if damage == "no weights":
        (folder / "model.safetensors").unlink()
    elif damage == "torn weights":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    else:
        (folder / "config.json").write_text('{"model_type": "perceiving-stone"}')
    code, out, err = regard_command("watch", folder, "the bank")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"A folder with a model and a tokenizer that transformers can load is needed, got {folder}: " in err


# how it is drawn


def table(layers: int = 12, heads: int = 12, **fields: object) -> HeatTable:
    values = {
        f"encoder.layer.{layer}.attention.self": {head: (layer + head) / (layers + heads) for head in range(heads)}
        for layer in range(layers)
    }
    given = {"name": "normalized_entropy", "formula": "entropy / log n", "unit": "1", "range": "0 to 1"}
    return HeatTable(**{**given, "values": values, **fields})


def drawn(of: HeatTable, width: int, **options: object) -> str:
    given = {"force_terminal": False, "color_system": None, **options}
    console = Console(file=io.StringIO(), width=width, highlight=False, **given)
    of.print(console)
    return console.file.getvalue()


@pytest.mark.parametrize("layers", [6, 12])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_twelve_heads_stand_in_one_row(layers: int, width: int) -> None:
    lines = drawn(table(layers), width)

    assert [len(row) for row in rows_of(lines)] == [1 + 12 + 1] * layers
    assert max(map(len, lines.splitlines())) <= 80


@pytest.mark.parametrize("width", [40, 80, 120])
def test_heads_that_do_not_fit_go_below_and_none_is_lost(width: int) -> None:
    of = table(layers=2, heads=64)
    lines = drawn(of, width)
    cells = {"0": [], "1": []}
    for label, *numbers in rows_of(lines):
        cells[label] += numbers

    assert max(map(len, lines.splitlines())) <= width
    for layer, row in zip(cells, of.values.values(), strict=True):
        mean = sum(row.values()) / len(row)
        assert cells[layer] == [*(f"{value:.2f}" for value in row.values()), f"{mean:.2f}"]


def test_a_head_without_rows_is_a_dash_that_is_explained_and_not_in_the_mean() -> None:
    lines = drawn(table(values={"a": {0: 0.5, 1: math.nan}}), 80)

    assert "0.50    –   0.50" in lines
    assert "– no row counted" in lines


@pytest.mark.parametrize(
    ("value", "shown"), [(0.004, "0.00"), (9.876, "9.88"), (98.76, "98.8"), (1234.5, "1234"), (123456.0, "1e+05")]
)
def test_numbers_stay_narrow(value: float, shown: str) -> None:
    assert shown in drawn(table(values={"a": {0: value}}, range="any"), 80).split()


def test_layers_whose_names_differ_in_numbers_only_stand_together() -> None:
    names = ["dec.0.self.1", "dec.0.cross.2", "dec.1.self.1", "dec.1.cross.2", "pooler"]

    assert grouped(names) == {
        "dec.*.self.1": {"dec.0.self.1": "0", "dec.1.self.1": "1"},
        "dec.*.cross.2": {"dec.0.cross.2": "0", "dec.1.cross.2": "1"},
        "pooler": {"pooler": ""},
    }


def test_a_terminal_gets_colours_over_the_whole_range() -> None:
    lines = drawn(table(), 80, force_terminal=True, color_system="truecolor")
    first, last = (";".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5)) for colour in (RAMP[0], RAMP[-1]))

    assert f"48;2;{first}m 0.00" in lines
    assert f"48;2;{last}m" in drawn(table(values={"a": {0: 1.0}}), 80, force_terminal=True, color_system="truecolor")


def test_a_pipe_gets_no_escape_and_a_terminal_without_colours_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in drawn(table(), 80)
    monkeypatch.setenv("NO_COLOR", "1")
    lines = drawn(table(), 80, force_terminal=True, color_system="truecolor")

    assert "48;2" not in lines
    assert "38;2" not in lines
    assert [row for row in rows_of(re.sub(r"\x1b\[[\d;]*m", "", lines)) if len(row) == 14]


def lightness(colour: str) -> float:
    """Return the OKLab lightness of a colour, 0 to 1 (Ottosson 2020)."""
    red, green, blue = linear(colour)
    long = 0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue
    medium = 0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue
    short = 0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue
    return 0.2104542553 * long ** (1 / 3) + 0.7936177850 * medium ** (1 / 3) - 0.0040720468 * short ** (1 / 3)


def linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def luminance(colour: str) -> float:
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))


def test_equal_steps_of_the_ramp_look_equal() -> None:
    steps = [lightness(one) - lightness(other) for one, other in itertools.pairwise(RAMP)]

    assert steps == pytest.approx([0.064] * (len(RAMP) - 1), abs=0.003)


def test_numbers_can_be_read_on_every_colour() -> None:
    for step, colour in enumerate(RAMP):
        darker, lighter = sorted((luminance(colour), luminance(contrast_colour(step))))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2, level AA
