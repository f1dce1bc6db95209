import json

import pytest

from regard._errors import ArgumentError, DataError
from regard.evaluate import SEQUENCE_METRICS, Written, score_translations, token_matches

REFERENCES = ["I_JUMP I_JUMP", "I_RUN I_TURN_LEFT I_RUN", "I_WALK", "I_LOOK I_LOOK I_LOOK"]
MODEL = ["I_JUMP  I_JUMP", "I_RUN I_RUN I_RUN", "I_WALK", "I_LOOK I_LOOK"]
OURS = Written(name="ours", kind="model", texts=MODEL, details={"parameters": 7})
NOTHING = Written(name="nothing", kind="baseline", texts=[""] * 4)
SCAN = ("exact_match", "token_accuracy")


def test_exact_match_is_the_share_of_equal_texts_whatever_their_spaces():
    found = score_translations(REFERENCES, [OURS, NOTHING], metrics=SCAN)

    assert found["models"][0]["metrics"]["exact_match"]["value"] == 0.5
    assert found["models"][1]["metrics"]["exact_match"]["value"] == 0.0


def test_token_accuracy_counts_words_in_their_place_over_the_longer_side():
    found = score_translations(REFERENCES, [OURS], metrics=SCAN)

    assert found["models"][0]["metrics"]["token_accuracy"]["value"] == pytest.approx((2 + 2 + 1 + 2) / 9)
    assert token_matches("a b c", "b c") == (0, 3)
    assert token_matches("", "b c") == (0, 2)


def test_the_first_metric_decides_the_comparison():
    found = score_translations(REFERENCES, [OURS, NOTHING], metrics=SCAN, unit="commands")

    assert found["metric_order"] == list(SCAN)
    assert (found["comparison"]["against"], found["comparison"]["metric"]) == ("nothing", "exact_match")
    assert found["comparison"]["difference"] == 0.5
    assert found["unit"] == "commands"
    assert found["signatures"] == {}


def test_corpus_scores_have_intervals_and_signatures():
    pytest.importorskip("sacrebleu", reason="needs sacrebleu: pip install 'regard[translation]'")

    found = score_translations(
        REFERENCES * 20, [Written(name="m", kind="model", texts=MODEL * 20)], metrics=SEQUENCE_METRICS
    )

    metrics = found["models"][0]["metrics"]
    assert set(metrics) == set(SEQUENCE_METRICS)
    assert metrics["bleu"]["low"] < metrics["bleu"]["value"] < metrics["bleu"]["high"]
    assert metrics["bleu"]["value"] == metrics["bleu_lower"]["value"]
    assert set(found["signatures"]) == {"bleu", "bleu_lower", "chrf"}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("references", "models", "metrics", "error", "message"),
    [
        (REFERENCES, [OURS], ("bleurt",), ArgumentError, r"metrics must be some of .*, got \['bleurt'\]"),
        (REFERENCES, [OURS], (), ArgumentError, r"got \[\]"),
        ([], [OURS], SCAN, DataError, "at least one reference"),
        (REFERENCES[:3], [OURS], SCAN, DataError, "one text for each of 3 references, got 4"),
    ],
)
def test_what_does_not_fit_is_refused(references, models, metrics, error, message):
    with pytest.raises(error, match=message):
        score_translations(references, models, metrics=metrics)
