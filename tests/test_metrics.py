import numpy as np
import pytest

from har_keras.errors import DataError
from har_keras.evaluation import metrics

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
    assert found["per_class"][2]["support"] == 0
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
