"""What a model of frames stands beside, held against scikit-learn and against what they are by definition."""

import numpy as np
import pytest

from regard._errors import DataError
from regard.evaluate import (
    linear_summaries,
    mean_frames,
    nearest_centroid,
    nearest_neighbour,
    number_sums,
    score_numbers,
    sequence_summaries,
)


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=60)
    features = generator.normal(size=(60, 4)) * [1, 10, 0.1, 1] + labels[:, None] * [1, 0, 0.1, 0.5]
    return features[:40], labels[:40], features[40:], labels[40:]


def test_summaries_are_what_they_are_called():
    frames = [np.array([[1.0, 5.0], [3.0, 1.0]]), np.array([[2.0, 2.0]])]

    assert mean_frames(frames).tolist() == [[2, 3], [2, 2]]
    assert sequence_summaries(frames).tolist() == [
        [2, 3, 1, 2, 1, 5, 3, 1, 1, 1, 3, 5],
        [2, 2, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2],
    ]


def test_nearest_centroid_and_neighbour_are_those_of_scikit_learn(rows):
    neighbors = pytest.importorskip(
        "sklearn.neighbors", reason="scikit-learn is the oracle: pip install 'regard[train]'"
    )
    train, labels, test, _ = rows
    mean, scale = train.mean(0), train.std(0)
    known, asked = (train - mean) / scale, (test - mean) / scale

    centroid = neighbors.NearestCentroid().fit(known, labels).predict(asked)
    neighbour = neighbors.KNeighborsClassifier(1).fit(known, labels).predict(asked)

    np.testing.assert_array_equal(nearest_centroid(train, labels, test, num_classes=3).predicted, centroid)
    np.testing.assert_array_equal(nearest_neighbour(train, labels, test, num_classes=3).predicted, neighbour)


def test_the_linear_model_is_ridge_regression_of_the_best_strength(rows):
    linear_model = pytest.importorskip(
        "sklearn.linear_model", reason="scikit-learn is the oracle: pip install 'regard[train]'"
    )
    train, _, test, _ = rows
    truth = train @ [[1.0], [0.2], [3.0], [0.0]] + np.random.default_rng(1).normal(size=(40, 1))
    asked = []

    def cost(answers, outputs):
        asked.append(answers)
        return float(np.square(answers - outputs).mean())

    found, how = linear_summaries((train[:30], truth[:30]), (train[30:], truth[30:]), test, cost=cost)

    mean, scale = train.mean(0), train.std(0)
    ridge = linear_model.Ridge(alpha=how["ridge"] * 40).fit((train - mean) / scale, truth)
    np.testing.assert_allclose(found, ridge.predict((test - mean) / scale).reshape(-1, 1), rtol=1e-10)
    errors = [float(np.square(one - truth[30:]).mean()) for one in asked]
    assert [1e-4, 1e-3, 1e-2, 1e-1, 1.0][int(np.argmin(errors))] == how["ridge"]


def test_a_feature_that_does_not_vary_is_left_out(rows):
    train, labels, test, _ = rows
    wider = [np.column_stack([one, np.full(len(one), 7.0)]) for one in (train, test)]
    wider[1][:, -1] = 1e9

    assert (
        nearest_centroid(wider[0], labels, wider[1], num_classes=3).predicted.tolist()
        == nearest_centroid(train, labels, test, num_classes=3).predicted.tolist()
    )


def test_a_class_without_a_row_is_refused(rows):
    train, labels, test, _ = rows
    for baseline in (nearest_centroid, nearest_neighbour):
        with pytest.raises(DataError, match="Every class must have a train row, got none of class 3"):
            baseline(train, labels, test, num_classes=4)


def test_numbers_are_scored_as_scikit_learn_scores_them():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is the oracle: pip install 'regard[train]'")
    generator = np.random.default_rng(0)
    truth = 1e6 + generator.normal(size=50)
    said = truth + 0.5 * generator.normal(size=50)
    content = score_numbers(
        "sequence regression",
        [number_sums("ours", "model", said, truth), number_sums("mean", "baseline", np.full(50, truth.mean()), truth)],
        unit="sequences",
    )

    ours, mean = ({name: one["value"] for name, one in model["metrics"].items()} for model in content["models"])
    assert ours["mse"] == pytest.approx(metrics.mean_squared_error(truth, said))
    assert ours["rmse"] == pytest.approx(ours["mse"] ** 0.5)
    assert ours["mae"] == pytest.approx(metrics.mean_absolute_error(truth, said))
    assert ours["r2"] == pytest.approx(metrics.r2_score(truth, said))
    assert mean["r2"] == pytest.approx(0, abs=1e-9)
    assert content["comparison"]["low"] > 0
    assert content["lower_is_better"] == ["mse", "rmse", "mae"]


def test_where_all_rows_are_one_number_r2_is_undefined():
    content = score_numbers(
        "sequence regression", [number_sums("ours", "model", np.arange(3.0), np.full(3, 2.0))], unit="sequences"
    )
    assert content["models"][0]["metrics"]["r2"]["value"] is None
    assert content["models"][0]["metrics"]["mse"]["value"] == pytest.approx(5 / 3)
