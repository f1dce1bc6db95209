"""BLEU and chrF by the library sacrebleu, in a form that can be resampled: its own statistics of each sentence.

Sums of the statistics over sentences give the score of the corpus; the library names them and what is made of them in
two methods that it does not promise to keep, ``_extract_corpus_statistics`` and ``_compute_score_from_stats``. Nothing
else here knows of them, and each score is held against the library's public one.

References:
    Papineni et al., BLEU (2002); Popović, chrF (2015); Post, A call for clarity in reporting BLEU scores,
    arXiv:1804.08771.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from regard._errors import MissingDependencyError, UnsupportedError
from regard.evaluate.table import Metric

__all__ = ["CORPUS_SCORES", "CorpusScore"]

_Floats = npt.NDArray[np.float64]
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class CorpusScore:
    """One of the library's scores, 0 to 100.

    Attributes:
        name: its key in ``metrics.json``.
        title: what a person reads.
        make: makes the library's metric, given the library.
    """

    name: str
    title: str
    make: Callable[[Any], Any]

    def columns(self, texts: Sequence[str], references: Sequence[str]) -> dict[str, _Floats]:
        """Return the library's statistics, a column each with one number per sentence.

        Raises:
            MissingDependencyError: sacrebleu is not installed.
            UnsupportedError: this version of it sums up to something else than its score.
        """
        scorer = self.make(_library())
        statistics = np.asarray(scorer._extract_corpus_statistics(list(texts), [list(references)]), dtype=np.float64)
        expected = scorer.corpus_score(list(texts), [list(references)]).score
        found = self._of_sums(statistics.sum(0))
        if abs(found - expected) > _TOLERANCE:
            raise UnsupportedError(
                f"The sums over sentences must give sacrebleu's own {self.title} {expected}, got {found}; use the "
                "version of sacrebleu in constraints.txt."
            )
        return {f"{self.name}_{place}": column for place, column in enumerate(statistics.T)}

    def metric(self, columns: Sequence[str]) -> Metric:
        """Return what makes the score of the sums over ``columns``, the keys that ``columns()`` returned."""

        def of(sums: _Floats) -> Any:
            return np.apply_along_axis(self._of_sums, 0, sums)

        return Metric(name=self.name, title=self.title, columns=tuple(columns), of=of)

    def signature(self, texts: Sequence[str], references: Sequence[str]) -> str:
        """Return the library's own words for exactly what was computed, to be quoted with the score."""
        scorer = self.make(_library())
        scorer.corpus_score(list(texts), [list(references)])
        return str(scorer.get_signature())

    def _of_sums(self, sums: _Floats) -> float:
        return float(self.make(_library())._compute_score_from_stats([round(number) for number in sums]).score)


def _library() -> Any:
    try:
        return import_module("sacrebleu.metrics")
    except ImportError as error:
        raise MissingDependencyError(
            "BLEU and chrF need the library sacrebleu, which is not installed; run `pip install 'regard[translation]'`."
        ) from error


def _bleu(library: Any, *, lowercase: bool) -> Any:
    # `force`: tokens between spaces in an output are no reason to complain, as the references are scored as they are.
    return library.BLEU(lowercase=lowercase, force=True)


def _chrf(library: Any) -> Any:
    return library.CHRF()


CORPUS_SCORES: dict[str, CorpusScore] = {
    score.name: score
    for score in (
        CorpusScore(name="bleu", title="BLEU", make=partial(_bleu, lowercase=False)),
        CorpusScore(name="chrf", title="chrF", make=_chrf),
        CorpusScore(name="bleu_lower", title="BLEU, lower case", make=partial(_bleu, lowercase=True)),
    )
}
"""Name -> score: cased BLEU over the tokens of mteval-v13a, chrF with 6 characters and β 2, BLEU without case."""
