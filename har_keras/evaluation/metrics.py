"""Video-level figures from probabilities: counts added up, in plain numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from har_keras.errors import DataError
from har_keras.inference.calibration import log_loss

_NUM_RESAMPLES = 2000
_INTERVAL_LEVEL = 0.95
_NUM_ECE_BINS = 10


def evaluate_predictions(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    class_names: Sequence[str],
    groups: Sequence[str],
    failed: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Returns every figure of an evaluation, ready for `evaluation.json`.

    One entry a video, so each figure is a ratio of counts of videos and never
    a mean over batches. Videos that could not be decoded are not in the
    arrays; they are named beside the figures, in `failed`.

    Args:
        labels: int array of shape `(num_videos,)`. The truth.
        probabilities: float array of shape `(num_videos, K)`.
        class_names: Names in label order, K of them.
        groups: One a video. Videos of one group were cut from the same
            recording, and are drawn together in the bootstrap.
        failed: `(file, reason)` of each video without probabilities.

    Returns:
        A dict of plain numbers, strings, lists and dicts. `num_videos` counts
        the videos that were scored, `num_failed` those that were not.

    Raises:
        DataError: If no video was scored, or a probability is not finite.

    Example:

    >>> found = evaluate_predictions(
    ...     np.array([0, 1, 1]),
    ...     np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]),
    ...     class_names=("walk", "work"),
    ...     groups=("a", "b", "c"),
    ... )
    >>> found["num_correct"], found["num_videos"], found["confusion"]
    (2, 3, [[1, 0], [1, 1]])
    """
    if not len(labels):
        raise DataError(
            "There is no video to score: all of them failed to decode, or the "
            "split is empty. `python -m har_keras.check` says why for each."
        )
    if not np.isfinite(probabilities).all():
        raise DataError(
            "The model gave a probability that is not a number. Its training "
            "diverged: train again with a lower --learning-rate."
        )
    predictions = probabilities.argmax(1)
    confusion = confusion_matrix(labels, predictions, len(class_names))
    num_videos, num_correct = len(labels), int(np.trace(confusion))
    return {
        "accuracy": num_correct / num_videos,
        "accuracy_interval": accuracy_interval(labels == predictions, groups),
        "interval_level": _INTERVAL_LEVEL,
        "balanced_accuracy": balanced_accuracy(confusion),
        "majority_accuracy": int(confusion.sum(1).max()) / num_videos,
        "num_videos": num_videos,
        "num_correct": num_correct,
        "num_groups": len(set(groups)),
        "num_failed": len(failed),
        "failed": [{"file": file, "reason": why} for file, why in failed],
        "per_class": per_class(confusion, class_names),
        "confusion": confusion.tolist(),
        "class_names": list(class_names),
        "top_k": top_k_accuracies(labels, probabilities),
        "log_loss": log_loss(labels, probabilities),
        "calibration": calibration(labels, probabilities),
    }


def confusion_matrix(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int
) -> np.ndarray:
    """Returns counts of videos by truth (row) and prediction (column).

    Example:

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    array([[1, 0],
           [1, 1]])
    """
    counts = np.zeros((num_classes, num_classes), dtype="int64")
    np.add.at(counts, (labels, predictions), 1)
    return counts


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Returns the mean recall of the classes that occur among the labels.

    Example:

    >>> balanced_accuracy(np.array([[9, 0], [1, 0]]))
    0.5
    """
    support = confusion.sum(1)
    recalls = confusion.diagonal()[support > 0] / support[support > 0]
    return float(recalls.mean())


def per_class(
    confusion: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns precision, recall, F1 and support of each class.

    A ratio over nothing counts as 0: the precision of a class that was never
    predicted, and the recall of one without a video, whose support says so.

    Example:

    >>> per_class(np.array([[3, 1], [0, 0]]), ("walk", "work"))[0]
    {'class': 'walk', 'precision': 1.0, 'recall': 0.75,
    'f1': 0.8571428571428571, 'support': 4}
    """
    rows = []
    for label, name in enumerate(class_names):
        hits = int(confusion[label, label])
        support = int(confusion[label].sum())
        predicted = int(confusion[:, label].sum())
        rows.append(
            {
                "class": name,
                "precision": hits / max(1, predicted),
                "recall": hits / max(1, support),
                "f1": 2 * hits / max(1, support + predicted),
                "support": support,
            }
        )
    return rows


def accuracy_interval(
    correct: np.ndarray, groups: Sequence[str], *, seed: int = 0
) -> list[float] | None:
    """Returns the 95 % interval of accuracy, drawn by group.

    Videos cut from one recording succeed or fail together, so whole groups
    are drawn with replacement (the cluster bootstrap, 2000 draws, percentile
    ends). Where every video is right, or every one wrong, each draw is the
    same and would claim certainty: then the open end is that of the exact
    binomial interval over the groups.

    Args:
        correct: bool array of shape `(num_videos,)`.
        groups: One a video.
        seed: int. Seed of the draws. Defaults to `0`.

    Returns:
        `[low, high]`, or `None` with fewer than two groups.

    Example:

    >>> accuracy_interval(np.array([True, True]), ["monday", "friday"])[1]
    1.0

    Reference:
        - [Davison and Hinkley, 1997](https://doi.org/10.1017/CBO9780511802843),
          section 3.8.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    if correct.all() or not correct.any():
        open_end = ((1 - _INTERVAL_LEVEL) / 2) ** (1 / len(names))
        return [open_end, 1.0] if correct.all() else [0.0, 1 - open_end]
    sizes = np.bincount(index)
    hits = np.bincount(index, weights=correct)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=_NUM_RESAMPLES
    )  # (num_resamples, num_groups)
    accuracies = (draws @ hits) / (draws @ sizes)
    tail = 100 * (1 - _INTERVAL_LEVEL) / 2
    return [float(end) for end in np.percentile(accuracies, [tail, 100 - tail])]


def top_k_accuracies(
    labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    """Returns the share of videos whose truth is among the k likeliest.

    Empty for up to 5 classes, of which the top 5 would always be right.
    Equal probabilities count in the order of the labels.

    Example:

    >>> top_k_accuracies(np.array([5]), np.array([[0.3, 0.2, 0.2, 0, 0, 0.3]]))
    {'1': 0.0, '2': 1.0, '5': 1.0}
    """
    if probabilities.shape[1] <= 5:
        return {}
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = (order == labels[:, None]).argmax(1)
    return {str(k): float((ranks < k).mean()) for k in (1, 2, 5)}


def calibration(
    labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, Any]:
    """Returns how far the confidence is from the accuracy that goes with it.

    Videos are put into ten equal bins by the probability of their prediction.
    ECE is the gap between mean confidence and accuracy of a bin, averaged over
    bins with their counts as weights.

    Args:
        labels: int array of shape `(num_videos,)`.
        probabilities: float array of shape `(num_videos, K)`.

    Returns:
        `ece`, and `bins`: low and high edge, count, confidence and accuracy of
        each bin that holds a video.

    Example:

    >>> calibration(np.array([0, 1]), np.array([[0.8, 0.2], [0.8, 0.2]]))["ece"]
    0.3

    Reference:
        - [Guo et al., 2017](https://arxiv.org/abs/1706.04599), section 2.
    """
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == labels
    bins = np.minimum(confidence * _NUM_ECE_BINS, _NUM_ECE_BINS - 1).astype(int)
    rows: list[dict[str, float]] = []
    for index in np.unique(bins):
        chosen = bins == index
        rows.append(
            {
                "low": int(index) / _NUM_ECE_BINS,
                "high": (int(index) + 1) / _NUM_ECE_BINS,
                "count": int(chosen.sum()),
                "confidence": float(confidence[chosen].mean()),
                "accuracy": float(correct[chosen].mean()),
            }
        )
    gaps = [
        row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows
    ]
    return {"ece": round(sum(gaps) / len(labels), 12), "bins": rows}


@dataclass(frozen=True)
class Curve:
    """One class against the rest, at every threshold from strict to lenient.

    Args:
        false_positive_rate: float array of shape `(num_points,)`, from 0.
        recall: float array of shape `(num_points,)`, from 0; in an ROC curve
            it is called the true positive rate.
        precision: float array of shape `(num_points,)`. 1 where nothing is
            named yet.
    """

    false_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray

    @property
    def roc_auc(self) -> float:
        """Chance that a video of the class gets more than another one."""
        widths = np.diff(self.false_positive_rate)
        heights = (self.recall[1:] + self.recall[:-1]) / 2
        return float(widths @ heights)

    @property
    def average_precision(self) -> float:
        """Mean of the precision over the steps of recall, not interpolated."""
        return float(np.diff(self.recall) @ self.precision[1:])


def curve(truth: np.ndarray, scores: np.ndarray) -> Curve | None:
    """Returns the curve of one class.

    Args:
        truth: bool array of shape `(num_videos,)`. Whether a video is of it.
        scores: float array of shape `(num_videos,)`. Its probability.

    Returns:
        A `Curve`, or None where there are not both kinds of videos. Equal
        scores make one point, so that their order doesn't matter.

    Example:

    >>> found = curve(np.array([True, False, True]), np.array([0.9, 0.5, 0.4]))
    >>> found.roc_auc, round(found.average_precision, 3)
    (0.5, 0.833)
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = truth[order].cumsum()[ends]
    named = ends + 1
    return Curve(
        np.concatenate([[0.0], (named - hits) / negatives]),
        np.concatenate([[0.0], hits / positives]),
        np.concatenate([[1.0], hits / named]),
    )


def ranking(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the areas of each class against the rest.

    Args:
        labels: int array of shape `(num_videos,)`.
        probabilities: float array of shape `(num_videos, K)`.
        class_names: Names in label order.

    Returns:
        A dict a class: `class`, `roc_auc` and `average_precision`, None where
        there are no videos of the class, or of no other.
    """
    rows = []
    for label, name in enumerate(class_names):
        found = curve(labels == label, probabilities[:, label])
        rows.append(
            {
                "class": name,
                "roc_auc": found.roc_auc if found else None,
                "average_precision": found.average_precision if found else None,
            }
        )
    return rows
