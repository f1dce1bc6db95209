"""Which decoder layer of a translator looks at the word that it translates: its heaviest word against a lexicon's."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from report import Plain, Report, parser

from regard.data import encode_with_contexts
from regard.evaluate import Lexicon
from regard.records import Run
from regard.train import Translator
from regard.train.translation.alignments import alignment_maps
from regard.train.translation.pairs_splits import split_pairs

__all__ = ["main"]

_WORD = re.compile(r"\w+")
_SHORTEST = 4  # letters: shorter words stand too often to be told apart
_LEXICON_PAIRS = 8_000
_STEPS = {"the step that writes it": 0, "the step that reads it": 1}


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "", rounds=1)
    made.add_argument("run", type=Path, metavar="RUN", help="a finished run of `regard train translator`")
    made.add_argument("--every", type=int, default=3, metavar="N", help="each Nth validation pair (default 3)")
    options = made.parse_args()
    report = Report(__doc__ or "", options, facts=[f"the run {options.run.name}", "reference as target"])
    report.add(_table(Translator.open(Run.open(options.run)), options.every * (50 if options.quick else 1)))
    report.write()


def _table(translator: Translator, every: int) -> Plain:
    data, tokenizer = translator.data, translator.tokenizer
    splits = split_pairs(data, 0).splits
    train, validation = splits["train"], splits["validation"]
    picked = np.random.default_rng(0).permutation(len(train))[:_LEXICON_PAIRS]
    lexicon = Lexicon([train.source[at] for at in picked], [train.target[at] for at in picked])
    pairs = validation.take(range(0, len(validation), every))
    sizes = {"max_len": data.max_len, "context_len": data.context_len}
    source = encode_with_contexts(tokenizer, pairs.source, pairs.contexts, **sizes).ids
    target = tokenizer.encode(pairs.target, data.max_len).ids
    rows, values = [], {}
    for layer in range(translator.model.config.num_decoder_layers):
        maps = alignment_maps(translator.model, source, target, layer=layer)
        links = list(_links(tokenizer, lexicon, pairs, maps))
        shares = {name: float(np.mean([link[step] for link in links])) for name, step in _STEPS.items()}
        values[f"layer {layer}"] = shares | {"words": len(links), "at random": float(np.mean([at[2] for at in links]))}
        rows.append([f"{layer}", *(f"{100 * share:.1f} %" for share in shares.values())])
    first = values["layer 0"]
    return Plain(
        title="Heaviest source word is the one that a lexicon links",
        columns=["decoder layer", *_STEPS],
        rows=rows,
        values=values,
        note=f"{first['words']} target words that one source word alone is linked to; at random "
        f"{100 * first['at random']:.1f} %.",
    )


def _links(tokenizer: Any, lexicon: Lexicon, pairs: Any, maps: Sequence[Any]) -> Iterator[tuple[bool, bool, float]]:
    """Yield for each target word that is linked to exactly one source word whether either step looks there most."""
    for source, target, weights in zip(pairs.source, pairs.target, maps, strict=True):
        read, written = _spans(source), _spans(target)
        translated = [lexicon.translate([source[begin:end]])[0] for begin, end in read]
        words = [target[begin:end] for begin, end in written]
        of_source = [_word_at(read, *span) for span in tokenizer.read_spans(source)]
        of_target = [_word_at(written, *span) for span in tokenizer.read_spans(target)]
        for number, word in enumerate(words):
            linked = [at for at, found in enumerate(translated) if found == word]
            if len(word) < _SHORTEST or len(linked) != 1 or words.count(word) != 1:
                continue
            steps = [step for step, at in enumerate(of_target) if at == number]
            right = []
            for shift in _STEPS.values():
                row = weights[[min(step + shift, len(weights) - 1) for step in steps], : len(of_source)].mean(0)
                sums = np.bincount([at + 1 for at in of_source], weights=row.tolist(), minlength=len(read) + 1)[1:]
                right.append(bool(sums.argmax() == linked[0]))
            yield right[0], right[1], 1 / len(read)


def _spans(text: str) -> list[tuple[int, int]]:
    return [found.span() for found in _WORD.finditer(text)]


def _word_at(words: Sequence[tuple[int, int]], begin: int, end: int) -> int:
    """Return the word in which a token lies, -1 for none."""
    if begin < end:
        for number, (first, last) in enumerate(words):
            if begin < last and end > first:
                return number
    return -1


if __name__ == "__main__":
    main()
