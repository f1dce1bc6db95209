"""Judge a model: exact metrics with bootstrap intervals, calibration, and the baselines that it has to beat.

This room may import ``records`` and NumPy; scikit-learn only inside ``baselines`` and sacrebleu inside
``corpus_scores``, when they are asked for. It never imports torch, a model or the data room: it sees labels, scores and
texts. ``score_classifiers``, ``score_taggers``, ``score_translations`` and, for any other task, ``score_models`` return
the content of ``metrics.json``.
"""

from regard.evaluate.baselines import LINEAR, MAJORITY, linear_baseline, majority_baseline
from regard.evaluate.block_bootstrap import block_counts
from regard.evaluate.book_scores import score_book
from regard.evaluate.bootstrap import NUM_RESAMPLES, percentile_interval, resample_counts
from regard.evaluate.calibration import Reliability, calibration_error, reliability
from regard.evaluate.classification import Tally, accuracy, confusion_matrix, f1, macro, precision, recall, tally
from regard.evaluate.corpus_scores import CORPUS_SCORES, CorpusScore
from regard.evaluate.forecasting import FORECAST_METRICS, forecast_sums, naive_scale, score_forecasts
from regard.evaluate.forecasting_baselines import (
    LINEAR_MAP,
    REPEAT_LAST,
    SEASONAL_NAIVE,
    LinearMap,
    fit_linear_map,
    repeat_last,
    seasonal_naive,
)
from regard.evaluate.frame_baselines import (
    LINEAR_SUMMARIES,
    NEAREST_CENTROID,
    NEAREST_NEIGHBOUR,
    TRAINING_MEAN,
    linear_summaries,
    mean_frames,
    nearest_centroid,
    nearest_neighbour,
    sequence_summaries,
)
from regard.evaluate.lexicon import LEXICON, Lexicon
from regard.evaluate.ngram import NGram
from regard.evaluate.predictions import Predictions
from regard.evaluate.ranking import one_vs_rest_auc
from regard.evaluate.regression import REGRESSION_METRICS, number_sums, score_numbers
from regard.evaluate.report import METRIC_ORDER, score_classifiers
from regard.evaluate.row_values import row_values, rows_of_sums
from regard.evaluate.seeds import mean_interval, student_quantile, versus
from regard.evaluate.spans import spans_of, spell_spans
from regard.evaluate.table import Metric, RowSums, mean, score_models
from regard.evaluate.tagging import TAG_ACCURACY, Tagged, score_taggers, tag_figures, tag_sums
from regard.evaluate.tagging_baselines import MAJORITY_TAG, WORD_TAGS, WordTags
from regard.evaluate.translations import SEQUENCE_METRICS, Written, score_translations, token_matches

__all__ = [
    "CORPUS_SCORES",
    "FORECAST_METRICS",
    "LEXICON",
    "LINEAR",
    "LINEAR_MAP",
    "LINEAR_SUMMARIES",
    "MAJORITY",
    "MAJORITY_TAG",
    "METRIC_ORDER",
    "NEAREST_CENTROID",
    "NEAREST_NEIGHBOUR",
    "NUM_RESAMPLES",
    "REGRESSION_METRICS",
    "REPEAT_LAST",
    "SEASONAL_NAIVE",
    "SEQUENCE_METRICS",
    "TAG_ACCURACY",
    "TRAINING_MEAN",
    "WORD_TAGS",
    "CorpusScore",
    "Lexicon",
    "LinearMap",
    "Metric",
    "NGram",
    "Predictions",
    "Reliability",
    "RowSums",
    "Tagged",
    "Tally",
    "WordTags",
    "Written",
    "accuracy",
    "block_counts",
    "calibration_error",
    "confusion_matrix",
    "f1",
    "fit_linear_map",
    "forecast_sums",
    "linear_baseline",
    "linear_summaries",
    "macro",
    "majority_baseline",
    "mean",
    "mean_frames",
    "mean_interval",
    "naive_scale",
    "nearest_centroid",
    "nearest_neighbour",
    "number_sums",
    "one_vs_rest_auc",
    "percentile_interval",
    "precision",
    "recall",
    "reliability",
    "repeat_last",
    "resample_counts",
    "row_values",
    "rows_of_sums",
    "score_book",
    "score_classifiers",
    "score_forecasts",
    "score_models",
    "score_numbers",
    "score_taggers",
    "score_translations",
    "seasonal_naive",
    "sequence_summaries",
    "spans_of",
    "spell_spans",
    "student_quantile",
    "tag_figures",
    "tag_sums",
    "tally",
    "token_matches",
    "versus",
]
