"""Sums over sentences against the library's own score of a corpus."""

import numpy as np
import pytest

from regard._errors import MissingDependencyError, UnsupportedError
from regard.evaluate import CORPUS_SCORES, corpus_scores

sacrebleu = pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install 'regard[translation]'")

REFERENCES = [
    "Ein Mann läuft über die Straße.",
    "Zwei Hunde spielen im Schnee mit einem roten Ball.",
    "Eine Frau, die liest.",
    "Ja.",
]
TEXTS = [
    "Ein Mann rennt über die Straße.",
    "zwei Hunde spielen im Schnee mit einem Ball .",
    "Die Frau liest ein Buch, glaube ich.",
    "",
]


@pytest.mark.parametrize("score", CORPUS_SCORES.values(), ids=CORPUS_SCORES)
def test_sums_of_any_sentences_give_the_librarys_score(score):
    columns = score.columns(TEXTS, REFERENCES)
    metric = score.metric(list(columns))
    table = np.stack(list(columns.values()))
    scorer = score.make(sacrebleu.metrics)

    for rows in ([0, 1, 2, 3], [1, 1, 2], [0], [2, 3, 3]):
        expected = scorer.corpus_score([TEXTS[row] for row in rows], [[REFERENCES[row] for row in rows]]).score
        assert float(metric.of(table[:, rows].sum(1))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("score", CORPUS_SCORES.values(), ids=CORPUS_SCORES)
def test_resamples_are_scored_one_by_one(score):
    columns = score.columns(TEXTS, REFERENCES)
    metric, table = score.metric(list(columns)), np.stack(list(columns.values()))
    counts = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])

    expected = [float(metric.of(table.sum(1))), float(metric.of(table @ counts[:, 1]))]
    assert metric.of(table @ counts).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("score", CORPUS_SCORES.values(), ids=CORPUS_SCORES)
def test_the_reference_itself_scores_100(score):
    columns = score.columns(REFERENCES, REFERENCES)

    assert float(score.metric(list(columns)).of(np.stack(list(columns.values())).sum(1))) == pytest.approx(100)


def test_case_counts_in_one_score_and_not_in_the_other():
    upper = [text.replace("ß", "ss").upper() for text in REFERENCES]
    references = [text.replace("ß", "ss") for text in REFERENCES]
    found = {}
    for name, score in CORPUS_SCORES.items():
        columns = score.columns(upper, references)
        found[name] = float(score.metric(list(columns)).of(np.stack(list(columns.values())).sum(1)))

    assert found["bleu_lower"] == pytest.approx(100)
    assert found["bleu"] < 20


def test_signatures_say_what_was_computed():
    told = {name: score.signature(TEXTS, REFERENCES) for name, score in CORPUS_SCORES.items()}
    version = f"version:{sacrebleu.__version__}"

    assert told["bleu"] == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert told["bleu_lower"] == f"nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|{version}"
    assert told["chrf"] == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"


def test_a_library_that_sums_up_otherwise_is_refused(monkeypatch):
    monkeypatch.setattr(sacrebleu.metrics.BLEU, "_extract_corpus_statistics", lambda *_: [[1] * 10] * 4)
    monkeypatch.setattr(
        sacrebleu.metrics.BLEU, "corpus_score", lambda *_: type("Score", (), {"score": 12.0})(), raising=True
    )

    with pytest.raises(UnsupportedError, match=r"must give sacrebleu's own BLEU 12\.0, got"):
        CORPUS_SCORES["bleu"].columns(TEXTS, REFERENCES)


def test_absent_library_is_named(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(corpus_scores, "import_module", absent)

    with pytest.raises(MissingDependencyError, match=r"pip install 'regard\[translation\]'"):
        CORPUS_SCORES["bleu"].columns(TEXTS, REFERENCES)
