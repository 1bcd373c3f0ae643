import numpy as np
import pytest

from har_keras.errors import DataError
from har_keras.evaluation import metrics
from har_keras.evaluation.fitting import fit_calibration
from har_keras.evaluation.metrics import curve, ranking
from har_keras.inference.calibration import Calibration
from har_keras.inference.coverage import error_bound
from har_keras.report.verdict import headline

LABELS = np.array([0, 0, 0, 1, 1, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.5, 0.3, 0.2],
        [0.2, 0.7, 0.1],
        [0.1, 0.9, 0.0],
        [0.6, 0.3, 0.1],
        [0.1, 0.2, 0.7],
    ]
)
NAMES = ("gym", "walk", "work")


def evaluated(**changes):
    options = {
        "class_names": NAMES,
        "groups": list("aabbcc"),
        "failed": [("work/bad.mp4", "no video stream")],
    }
    return metrics.evaluate_predictions(
        LABELS, PROBABILITIES, **(options | changes)
    )


def test_figures_by_hand():
    found = evaluated()
    assert found["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert (found["num_correct"], found["num_videos"]) == (4, 6)
    assert found["accuracy"] == 4 / 6
    assert found["majority_accuracy"] == 3 / 6
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["per_class"][1] == {
        "class": "walk",
        "precision": 1 / 2,
        "recall": 1 / 2,
        "f1": 1 / 2,
        "support": 2,
    }
    assert found["log_loss"] == pytest.approx(
        -np.log([0.8, 0.5, 0.2, 0.9, 0.3, 0.7]).mean()
    )
    assert found["top_k"] == {}


def test_failed_videos_are_named_beside_the_figures():
    found = evaluated()
    assert found["num_failed"] == 1
    assert found["failed"] == [
        {"file": "work/bad.mp4", "reason": "no video stream"}
    ]


def test_every_class_has_a_row_also_without_a_video():
    found = metrics.evaluate_predictions(
        np.array([0]),
        np.array([[0.9, 0.1, 0.0]]),
        class_names=NAMES,
        groups=["a"],
    )
    assert np.shape(found["confusion"]) == (3, 3)
    assert found["per_class"][2] == {
        "class": "work", "precision": None, "recall": None, "f1": None,
        "support": 0,
    }  # fmt: skip
    assert found["accuracy_interval"] is None
    assert found["balanced_accuracy"] == 1.0


def test_no_video_and_no_number_are_refused_in_words():
    with pytest.raises(DataError, match="no video to score"):
        metrics.evaluate_predictions(
            np.array([], int), np.zeros((0, 3)), class_names=NAMES, groups=[]
        )
    with pytest.raises(DataError, match="not a number"):
        metrics.evaluate_predictions(
            np.array([0]),
            np.array([[np.nan, 0, 0]]),
            class_names=NAMES,
            groups=["a"],
        )


def test_the_interval_is_drawn_by_group():
    correct = np.tile([True, True, True, False], 25)
    alone = metrics.accuracy_interval(correct, [str(i) for i in range(100)])
    # Sorted into 4 recordings that are all right or all wrong, 100 videos say
    # no more than 4 do.
    together = metrics.accuracy_interval(
        np.sort(correct), [str(i // 25) for i in range(100)]
    )
    assert alone[0] < 0.75 < alone[1]
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])
    assert alone == metrics.accuracy_interval(
        correct, [str(i) for i in range(100)]
    )


def test_all_right_is_no_certainty():
    groups = [str(i) for i in range(10)]
    low, high = metrics.accuracy_interval(np.ones(10, bool), groups)
    assert (round(low, 3), high) == (0.692, 1.0)  # Clopper-Pearson for 10/10
    low, high = metrics.accuracy_interval(np.zeros(10, bool), groups)
    assert (low, round(high, 3)) == (0.0, 0.308)


def test_groups_that_are_all_alike_are_no_certainty():
    correct, groups = np.tile([True, False], 10), np.repeat(range(10), 2)
    low, high = metrics.accuracy_interval(correct, groups.astype(str))
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)  # Wilson for 5/10


def test_there_is_no_interval_where_groups_are_unknown():
    known = evaluated()
    assert known["accuracy_interval"] == known["interval_if_independent"]
    assert (known["num_groups"], known["num_unknown_groups"]) == (3, 0)
    unknown = [False, False, False, False, True, True]
    found = evaluated(groups=[*"1234", "a", "a"], known=unknown)
    assert found["accuracy_interval"] is None
    assert found["interval_if_independent"] is not None
    assert (found["num_groups"], found["num_unknown_groups"]) == (5, 4)
    known = [False, False, True, True, True, True]
    assert evaluated(groups=[*"12abcd"], known=known)["accuracy_interval"]


def test_the_first_words_say_that_the_test_may_flatter():
    found = evaluated(groups=[*"123456"], known=[False] * 6, failed=())
    assert headline(found).startswith("The test may flatter")
    assert "even if all are independent" in headline(found)
    assert not headline(evaluated()).startswith("The test may flatter")


def test_three_videos_fit_no_temperature():
    views = np.tile([0.4, 0.3, 0.3], (3, 2, 1))
    found = fit_calibration(np.zeros(3, int), views, [*"123"])
    assert (found.temperature, found.window_temperature) == (1.0, 1.0)
    assert (found.num_videos, found.num_groups) == (3, 3)
    assert not found.is_fitted


def sure_views(number, right):
    """Views of `number` videos that are sure, of which some are right."""
    views = np.tile([0.99, 0.01], (number, 2, 1))
    return np.array([0] * right + [1] * (number - right)), views


def test_temperatures_come_nearer_to_the_data_with_more_groups():
    found = [
        fit_calibration(
            *sure_views(n, 3 * n // 4), [*map(str, range(n))]
        ).temperature
        for n in (12, 48, 480)
    ]
    assert 1 < found[0] < found[1] < found[2] < 4.18
    assert found[2] > 3.3


def test_a_group_counts_once_however_many_videos_it_has():
    labels, views = sure_views(12, 9)
    groups = [str(i) for i in range(12)]
    once = fit_calibration(labels, views, groups)
    many = fit_calibration(
        np.repeat(labels, 20), np.repeat(views, 20, 0), np.repeat(groups, 20)
    )
    assert many.temperature == pytest.approx(once.temperature, abs=1e-6)
    assert many.window_temperature == pytest.approx(
        once.window_temperature, abs=1e-6
    )
    assert (many.num_videos, many.num_groups) == (240, 12)


def graded(right):
    """Videos of which each is a little less sure than the one before."""
    share = np.linspace(0.99, 0.6, len(right))
    views = np.stack([share, 1 - share], 1)[:, None].repeat(2, 1)
    return (~np.array(right)).astype(int), views


def fitted(right, groups=None, **options):
    labels, views = graded(right)
    groups = groups or [*map(str, range(len(labels)))]
    return fit_calibration(labels, views, groups, **options), views.mean(1)


def test_a_threshold_accepts_as_much_as_errors_allow():
    right = [True] * 40 + [False, True] * 10
    found, probabilities = fitted(right, accept_errors=0.05)
    accepts = found.accepts(probabilities)
    # With one more error than was seen: (1 + 1) / (41 + 1) is below 0.05, and
    # (2 + 1) / (43 + 1) is above it.
    assert accepts.sum() == 42
    assert found.coverage == pytest.approx(42 / 60)
    assert found.accepted_error == pytest.approx(1 / 42)
    assert found.accepted_error < found.error_bound < 0.2
    lax, probabilities = fitted(right, accept_errors=0.2)
    assert lax.accepts(probabilities).sum() > 42
    assert lax.threshold < found.threshold


@pytest.mark.parametrize(
    ("number", "errors", "allowed"), [(18, 0.05, False), (19, 0.05, True),
                                      (8, 0.1, False), (9, 0.1, True)],
)  # fmt: skip
def test_few_groups_allow_no_threshold(number, errors, allowed):
    found, probabilities = fitted([True] * number, accept_errors=errors)
    assert (found.threshold is not None) == allowed
    assert found.accepts(probabilities).all()
    if not allowed:
        assert f"needs {number + 1} known groups" in found.verdict
        assert found.segment_threshold == 0


def test_what_is_less_sure_than_any_validation_video_is_not_accepted():
    found, probabilities = fitted([True] * 30)
    assert found.accepts(probabilities).all()
    assert not found.accepts(np.array([0.55, 0.45]))


def test_many_videos_of_few_groups_are_few():
    right = [True] * 100
    found, _ = fitted(right, groups=[str(i % 10) for i in range(100)])
    assert (found.num_known_groups, found.threshold) == (10, None)
    unknown, _ = fitted(right, known=[True] * 15 + [False] * 85)
    assert (unknown.num_known_groups, unknown.threshold) == (15, None)
    nothing, _ = fitted(right, known=[False] * 100)
    assert "there are 0" in nothing.verdict


def test_a_group_that_is_partly_wrong_counts_in_part():
    right = [True] * 60 + [False] * 20
    groups = [str(i % 40) for i in range(80)]
    found, probabilities = fitted(right, groups, accept_errors=0.1)
    accepts = found.accepts(probabilities)
    wrong = accepts[60:].sum() / 2
    share = (wrong + 1) / (accepts.sum() / 2 + 1)
    assert share <= 0.1 < (wrong + 0.5 + 1) / (accepts.sum() / 2 + 0.5 + 1)


def test_errors_at_the_top_allow_no_threshold():
    found, _ = fitted([False] * 10 + [True] * 30)
    assert found.threshold is None
    assert "no confidence keeps" in found.verdict


def test_the_bound_holds_19_times_in_20():
    rng = np.random.default_rng(0)
    bounds = [error_bound(rng.binomial(40, 0.1), 40) for _ in range(400)]
    assert np.mean(np.array(bounds) >= 0.1) >= 0.93
    assert error_bound(5, 5) == pytest.approx(1)


def test_the_accepted_err_as_seldom_as_wanted():
    """On new groups, in the mean over many validation splits."""
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(200):
        share = rng.uniform(0.5, 1, 2060)
        rows = np.stack([share, 1 - share], 1)
        labels = (rng.random(2060) > share).astype(int)
        found = fit_calibration(
            labels[:60], rows[:60, None], [*map(str, range(60))],
            accept_errors=0.1,
        )  # fmt: skip
        if found.threshold is not None:
            sure = found.accepts(rows[60:])
            errors.append(labels[60:][sure].mean())
    assert len(errors) > 100
    # The best of all thresholds that fit would err in 0.104.
    assert 0.06 < np.mean(errors) < 0.09


def test_top_k_only_where_it_can_fail():
    probabilities = np.eye(6)[[0, 1]] * 0.5 + np.arange(6) / 60
    found = metrics.top_k_accuracies(np.array([0, 5]), probabilities)
    assert found == {"1": 0.5, "2": 1.0, "5": 1.0}


def test_calibration_is_zero_when_confidence_is_accuracy():
    probabilities = np.tile([0.75, 0.25], (4, 1))
    found = metrics.calibration(np.array([0, 0, 0, 1]), probabilities)
    assert found["ece"] == 0
    assert found["bins"] == [
        {
            "low": 0.7,
            "high": 0.8,
            "count": 4,
            "confidence": 0.75,
            "accuracy": 0.75,
        }
    ]
    sure = metrics.calibration(np.array([0, 1]), np.array([[1.0, 0]] * 2))
    assert sure["ece"] == 0.5


def pairwise_auc(truth, scores):
    """Counts pairs in the right order, the slow way."""
    gaps = scores[truth][:, None] - scores[~truth][None]
    return (gaps > 0).mean() + (gaps == 0).mean() / 2


@pytest.mark.parametrize("seed", range(4))
def test_the_roc_area_is_the_share_of_pairs_in_order(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(60) < 0.3
    scores = (rng.random(60) + 0.4 * truth).round(1)  # with ties
    found = curve(truth, scores)
    assert found.roc_auc == pytest.approx(pairwise_auc(truth, scores))
    assert found.recall[-1] == found.false_positive_rate[-1] == 1
    assert (np.diff(found.recall) >= 0).all()


def test_the_order_of_equal_scores_does_not_matter():
    truth = np.array([True, False, True, False])
    flat = np.full(4, 0.5)
    for order in ([0, 1, 2, 3], [1, 3, 0, 2]):
        found = curve(truth[order], flat)
        assert (found.roc_auc, found.average_precision) == (0.5, 0.5)


def test_a_perfect_and_a_reversed_ranking():
    truth = np.array([True, True, False, False])
    scores = np.array([0.9, 0.8, 0.2, 0.1])
    assert curve(truth, scores).roc_auc == 1
    assert curve(truth, scores).average_precision == 1
    assert curve(truth, -scores).roc_auc == 0


def cumulative_curve(truth, scores):
    """Adds up hits from the highest score on; a point for each score."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = truth[order].cumsum()[ends]
    named = ends + 1
    false_positive_rate = (named - hits) / (~truth).sum()
    return [
        np.concatenate([[0.0], false_positive_rate]),
        np.concatenate([[0.0], hits / truth.sum()]),
        np.concatenate([[1.0], hits / named]),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_curves_are_those_that_are_counted_by_hand(seed):
    rng = np.random.default_rng(seed)
    number = int(rng.integers(2, 40))
    truth = rng.random(number) < 0.4
    truth[:2] = True, False
    scores = rng.random(number).round(1 + seed % 3)  # with ties, mostly
    found = curve(truth, scores)
    expected = cumulative_curve(truth, scores)
    np.testing.assert_allclose(
        found.false_positive_rate, expected[0], atol=1e-9
    )
    np.testing.assert_allclose(found.recall, expected[1], atol=1e-9)
    np.testing.assert_allclose(found.precision, expected[2], atol=1e-9)
    area = np.diff(expected[1]) @ expected[2][1:]
    assert found.average_precision == pytest.approx(area, abs=1e-9)


def test_a_class_without_videos_has_no_areas():
    rows = ranking(
        np.array([0, 0]), np.array([[0.9, 0.1], [0.6, 0.4]]), ("gym", "walk")
    )
    assert rows[1] == {
        "class": "walk", "roc_auc": None, "average_precision": None,
    }  # fmt: skip
    assert rows[0]["roc_auc"] is None


@pytest.mark.parametrize(
    ("figures", "is_fitted"),
    [
        ({"temperature": 1.0, "num_videos": 30, "num_groups": 9}, False),
        ({"temperature": 1.4, "num_videos": 30, "num_groups": 10}, True),
        # Of earlier versions, which fitted on any number of videos.
        ({"temperature": 1.4, "num_videos": 8}, True),
        ({"temperature": 1.0, "num_videos": 0}, False),
    ],
)
def test_predict_and_the_report_know_alike_what_was_fitted(figures, is_fitted):
    assert Calibration.of(figures).is_fitted == is_fitted
