"""How well does a real decoder, SmolLM2-135M-Instruct in 4 bits, know English: perplexity of WikiText-2 and BLiMP?"""

import gzip
import json
import math
import random
import re
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from report import Plain, Report, parser
from torch import Tensor

from regard.data import Tokenizer, load_gguf_tokenizer
from regard.models import Decoder, load_gguf, smollm2_file

__all__ = ["main"]

_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "lm"
_BEGIN = 0  # <|endoftext|>, which stood between the documents that it was trained on
_TOKENS = 8_192  # of a batch of sentences


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "", rounds=1)
    made.add_argument("--text", type=Path, default=_DATA / "wikitext2_test.txt.gz", help="WikiText-2, test split")
    made.add_argument("--pairs", type=Path, default=_DATA / "BLiMP.zip", help="BLiMP as its authors packed it")
    made.add_argument("--sample", type=int, default=200, help="pairs of each of the 67 paradigms (default 200)")
    made.add_argument("--window", type=int, default=1_024, help="tokens that are read at once (default 1,024)")
    made.add_argument("--case", choices=["text", "pairs"], help="only one of the two")
    options = made.parse_args()
    file = smollm2_file()
    model, tokenizer = load_gguf(file).eval(), load_gguf_tokenizer(file)
    report = Report(__doc__ or "", options, facts=[file.name, "float32"])
    if options.case != "pairs":
        report.add(_perplexities(model, tokenizer, options))
    if options.case != "text":
        report.add(_pairs(model, tokenizer, options, report))
    report.write()


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a text cost: the sum of -log p, in nats, over so many tokens, words and bytes."""

    nats: float
    tokens: int
    words: int
    num_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, float]:
        """Return the perplexities, bits a byte, and what they were made of."""
        return {
            "perplexity_of_tokens": math.exp(self.nats / self.tokens),
            "perplexity_of_words": math.exp(self.nats / self.words),
            "bits_per_byte": self.nats / math.log(2) / self.num_bytes,
            "tokens": self.tokens,
            "words": self.words,
            "seconds": self.seconds,
        }


def _perplexities(model: Decoder, tokenizer: Tokenizer, options: Any) -> Plain:
    with gzip.open(options.text, "rt", encoding="utf-8") as file:
        text = file.read()
    text = text[:3_000] if options.quick else text
    words = len(text.split()) + text.count("\n")  # of the file, each end of line counted, as for its closed vocabulary
    texts = {"as written by people": natural(text), "as the file has it": text}
    scores = {name: _score(model, tokenizer, one, words, options.window).to_dict() for name, one in texts.items()}
    rows = [
        [
            name,
            f"{found['perplexity_of_tokens']:.2f}",
            f"{found['perplexity_of_words']:.2f}",
            f"{found['bits_per_byte']:.3f}",
            f"{found['tokens']:,.0f}",
            f"{found['seconds']:.0f} s",
        ]
        for name, found in scores.items()
    ]
    return Plain(
        title=f"Perplexity of WikiText-2, test, in windows of {options.window:,} tokens that do not overlap",
        columns=["text", "of a token", "of a word", "bits a byte", "tokens", "time"],
        rows=rows,
        values=scores,
        note=f"Words are the {words:,} of the file, ends of lines included, in both rows.",
    )


def natural(text: str) -> str:
    """Undo how WikiText was cut into words: spaces before punctuation, ``@-@`` within words."""
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r" ([.,:;?!%)\]}])", r"\1", text)
    text = re.sub(r"([(\[{$£€]) ", r"\1", text)
    text = re.sub(r" (n't|'s|'re|'ve|'ll|'d|'m)\b", r"\1", text)
    text = re.sub(r'" ([^"\n]*?) ?"', r'"\1"', text)
    return re.sub(r"\n ", "\n", text)


@torch.inference_mode()
def _score(model: Decoder, tokenizer: Tokenizer, text: str, words: int, window: int) -> Score:
    ids = torch.tensor([_BEGIN, *tokenizer.encode([text], max_len=10**9).ids[0]])
    began, nats = time.perf_counter(), 0.0
    for start in range(0, len(ids) - 1, window):
        part = ids[start : start + window + 1]
        nats -= float(log_probs(model, part[None]).sum(dtype=torch.float64))
    return Score(
        nats=nats,
        tokens=len(ids) - 1,
        words=words,
        num_bytes=len(text.encode()),
        seconds=time.perf_counter() - began,
    )


def log_probs(model: Decoder, ids: Tensor) -> Tensor:
    """Return log p of each token but the first, given those before it, (batch, len - 1)."""
    logits = model(ids[:, :-1])
    chosen = logits.gather(2, ids[:, 1:, None])[..., 0]
    return chosen - logits.logsumexp(2)


def _pairs(model: Decoder, tokenizer: Tokenizer, options: Any, report: Report) -> Plain:
    paradigms = _read_pairs(options.pairs, 2 if options.quick else options.sample)
    if options.quick:
        paradigms = dict(list(paradigms.items())[:3])
    began, right, fields = time.perf_counter(), {}, {}
    for number, (name, pairs) in enumerate(paradigms.items()):
        if number % 10 == 0:
            report.tell(f"paradigm {number + 1} of {len(paradigms)}")
        scores = _sums(model, tokenizer, [pair[side] for pair in pairs for side in ("sentence_good", "sentence_bad")])
        right[name] = [good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True)]
        fields[name] = pairs[0]["field"].replace("/", "_")  # one paradigm spells it so
    seconds = time.perf_counter() - began
    groups = {
        field: [one for name in right if fields[name] == field for one in right[name]] for field in fields.values()
    }
    every = [one for answers in right.values() for one in answers]
    rows = [_row(name, answers) for name, answers in [("all", every), *sorted(groups.items())]]
    worst = sorted(right, key=lambda name: sum(right[name]) / len(right[name]))[:3]
    return Plain(
        title=f"BLiMP, {len(every):,} pairs of {len(right)} paradigms: the sentence that people accept is the likelier",
        columns=["field", "accuracy", "95 % interval", "pairs"],
        rows=rows,
        values={name: sum(answers) / len(answers) for name, answers in right.items()},
        note=f"{seconds:.0f} s; hardest: {', '.join(worst)}.",
    )


def _row(name: str, answers: Sequence[bool]) -> list[str]:
    share, count = sum(answers) / len(answers), len(answers)
    margin = 1.96 * math.sqrt(share * (1 - share) / count)
    return [name, f"{share:.1%}", f"± {margin:.1%}", f"{count:,}"]


def _read_pairs(path: Path, sample: int) -> dict[str, list[dict[str, Any]]]:
    """Return paradigm -> some of its pairs, drawn with seed 0."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith("data/") and name.endswith(".jsonl"))
        read = {Path(name).stem: [json.loads(line) for line in archive.read(name).splitlines()] for name in names}
    drawn = random.Random(0)
    return {name: drawn.sample(pairs, min(sample, len(pairs))) for name, pairs in read.items()}


@torch.inference_mode()
def _sums(model: Decoder, tokenizer: Tokenizer, sentences: Sequence[str]) -> list[float]:
    """Return log p of each sentence."""
    ids = [[_BEGIN, *one] for one in tokenizer.encode(sentences, max_len=10**9).ids]
    sums = [0.0] * len(ids)
    for rows in _batches(ids):
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[row]) for row in rows], batch_first=True)
        # Padding stands behind the sentence, where no token of it looks.
        found = log_probs(model, padded)
        for row, values in zip(rows, found, strict=True):
            sums[row] = float(values[: len(ids[row]) - 1].sum(dtype=torch.float64))
    return sums


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Return rows of about the same length together."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    batch: list[int] = []
    for row in order:
        if batch and (len(batch) + 1) * len(ids[row]) > _TOKENS:
            yield batch
            batch = []
        batch.append(row)
    yield batch


if __name__ == "__main__":
    main()
