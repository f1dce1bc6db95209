import numpy as np
import orjson
import pytest
from sklearn import metrics as oracle

from regard._errors import ArgumentError, DataError
from regard.evaluate import METRIC_ORDER, Predictions, majority_baseline, score_classifiers
from regard.records import ModelScore

LABELS = ["earn", "acq", "ship"]


def _softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _rows(num_rows=300, seed=0):
    return np.random.default_rng(seed).choice(3, num_rows, p=[0.6, 0.3, 0.1])


def _model(true, *, skill=2.0, seed=0, name="model", kind="model", probabilities=True):
    scores = np.random.default_rng(seed).normal(size=(len(true), 3))
    scores[np.arange(len(true)), true] += skill
    scores = _softmax(scores) if probabilities else scores
    return Predictions(
        name=name, kind=kind, scores=scores, predicted=scores.argmax(axis=1), are_probabilities=probabilities
    )


@pytest.fixture(scope="module")
def scored():
    true = _rows()
    models = [
        _model(true),
        _model(true, skill=1.0, seed=1, name="linear", kind="baseline", probabilities=False),
        majority_baseline(true, len(true), LABELS),
    ]
    return true, models, score_classifiers(LABELS, true, models)


def test_points_equal_scikit_learn(scored):
    true, models, content = scored
    for model, row in zip(models[:2], content["models"], strict=False):
        expected = {
            "accuracy": oracle.accuracy_score(true, model.predicted),
            "macro_precision": oracle.precision_score(true, model.predicted, average="macro", zero_division=0),
            "macro_recall": oracle.recall_score(true, model.predicted, average="macro", zero_division=0),
            "macro_f1": oracle.f1_score(true, model.predicted, average="macro", zero_division=0),
            "auc_roc": np.mean([oracle.roc_auc_score(true == k, model.scores[:, k]) for k in range(3)]),
        }
        for name, value in expected.items():
            assert row["metrics"][name]["value"] == pytest.approx(value, abs=1e-9)


def test_resampled_interval_equals_scoring_each_resample_by_itself(scored):
    true, models, _ = scored
    content = score_classifiers(LABELS, true, models[:1], num_resamples=40, seed=7)
    drawn = np.random.default_rng(7).integers(len(true), size=(40, len(true)))
    predicted, scores = models[0].predicted, models[0].scores
    by_hand = {
        "accuracy": [oracle.accuracy_score(true[i], predicted[i]) for i in drawn],
        "macro_f1": [oracle.f1_score(true[i], predicted[i], average="macro") for i in drawn],
        "auc_roc": [oracle.roc_auc_score(true[i], scores[i], multi_class="ovr") for i in drawn],
    }
    for name, values in by_hand.items():
        found = content["models"][0]["metrics"][name]
        assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-9)


def test_content_is_plain_json_with_every_key(scored):
    _, _, content = scored
    assert orjson.loads(orjson.dumps(content)) == content
    assert set(content) == {
        "schema_version",
        "task",
        "titles",
        "lower_is_better",
        "unit",
        "split",
        "num_rows",
        "labels",
        "models",
        "metric_order",
        "per_class",
        "confusion",
        "calibration",
        "comparison",
        "method",
    }
    assert content["metric_order"] == list(METRIC_ORDER)
    for row in content["models"]:
        assert list(ModelScore.model_validate(row).metrics) == content["metric_order"]
    assert content["method"] == "95 % percentile bootstrap over rows, 1000 resamples, seed 0"


def test_intervals_hold_their_values(scored):
    _, _, content = scored
    for row in content["models"]:
        for name in METRIC_ORDER[:5]:
            interval = row["metrics"][name]
            assert interval["low"] <= interval["value"] <= interval["high"]


def test_margins_have_no_calibration_error(scored):
    _, _, content = scored
    interval = content["models"][1]["metrics"]["calibration_error"]
    assert (interval["value"], interval["note"]) == (None, "the model's scores are not probabilities")


def test_model_without_probabilities_has_no_bins():
    true = _rows()
    content = score_classifiers(LABELS, true, [_model(true, probabilities=False)], num_resamples=10)
    assert content["calibration"] == {"bins": []}


def test_bins_per_class_table_and_confusion_count_every_row(scored):
    true, _, content = scored
    assert sum(bin_["count"] for bin_ in content["calibration"]["bins"]) == len(true)
    assert len(content["calibration"]["bins"]) == 15
    assert [row["support"] for row in content["per_class"]] == np.bincount(true).tolist()
    assert [sum(row) for row in content["confusion"]] == np.bincount(true).tolist()


def test_class_that_is_never_predicted_is_named(scored):
    _, _, content = scored
    majority = content["models"][2]["metrics"]
    assert majority["macro_precision"]["note"] == "'acq', 'ship': never predicted, counted as 0"
    assert majority["macro_recall"]["note"] is None


def test_comparison_is_with_the_best_baseline_and_paired(scored):
    true, models, content = scored
    comparison = content["comparison"]
    assert (comparison["against"], comparison["metric"]) == ("linear", "accuracy")
    accuracies = [row["metrics"]["accuracy"] for row in content["models"]]
    assert comparison["difference"] == pytest.approx(accuracies[0]["value"] - accuracies[1]["value"])
    drawn = np.random.default_rng(0).integers(len(true), size=(1000, len(true)))
    ahead = (models[0].predicted == true).astype(float) - (models[1].predicted == true)
    low, high = np.quantile(ahead[drawn].mean(axis=1), [0.025, 0.975])
    assert (comparison["low"], comparison["high"]) == pytest.approx((low, high), abs=1e-9)


def test_model_against_its_equal_differs_by_nothing():
    true = _rows()
    content = score_classifiers(LABELS, true, [_model(true), _model(true, name="twin", kind="baseline")])
    assert content["comparison"] == {
        "against": "twin",
        "metric": "accuracy",
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


def test_without_a_baseline_there_is_no_comparison():
    true = _rows()
    assert score_classifiers(LABELS, true, [_model(true)], num_resamples=10)["comparison"] is None


def test_same_seed_gives_the_same_content():
    true = _rows()
    first, again, other = (score_classifiers(LABELS, true, [_model(true)], seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["models"] != other["models"]


def test_class_without_test_rows_leaves_auc_undefined_and_names_it():
    true = np.array([0, 1] * 20)
    metrics = score_classifiers(LABELS, true, [_model(true)])["models"][0]["metrics"]
    assert metrics["auc_roc"] == {
        "value": None,
        "low": None,
        "high": None,
        "note": "undefined: no row of 'ship', so there are no pairs to rank",
    }
    assert metrics["macro_recall"]["note"] == "'ship': without a row, counted as 0"


def test_resamples_without_a_rare_class_are_counted():
    true = np.array([0] * 20 + [1] * 20 + [2])
    note = score_classifiers(LABELS, true, [_model(true)])["models"][0]["metrics"]["auc_roc"]["note"]
    assert note.startswith("auc_roc is undefined in 3")  # (1 - 1/41)^41 = 36 % of the resamples lack the row
    assert note.endswith("of 1000 resamples, which are left out")


def test_broken_input_is_refused_in_one_sentence():
    true = _rows(20)
    model = _model(true)
    with pytest.raises(ArgumentError, match="At least one model"):
        score_classifiers(LABELS, true, [])
    with pytest.raises(ArgumentError, match="names must differ"):
        score_classifiers(LABELS, true, [model, model])
    with pytest.raises(ArgumentError, match="each of the 19 rows once, got 20"):
        score_classifiers(LABELS, true[1:], [model])
    with pytest.raises(ArgumentError, match="each of the 4 classes, got 3 columns"):
        score_classifiers([*LABELS, "grain"], true, [model])
    with pytest.raises(DataError, match="Class names must differ"):
        score_classifiers(["earn", "acq", "earn"], true, [model])
    with pytest.raises(DataError, match="true classes must lie between 0 and 2, got 3 at row 4"):
        score_classifiers(LABELS, np.where(np.arange(20) == 4, 3, true), [model])
    with pytest.raises(DataError, match="true classes must hold at least one row"):
        score_classifiers(LABELS, true[:0], [model])
