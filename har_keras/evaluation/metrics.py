"""Video-level metrics from probabilities.

ROC and precision-recall curves come from scikit-learn. The other metrics are
numpy, because scikit-learn's differ: its top-k accuracy breaks ties by the
higher label, and its log loss, balanced accuracy and confusion matrix warn of,
or refuse, missing classes and a single class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from har_keras.errors import DataError
from har_keras.evaluation.fitting import log_loss
from har_keras.inference.forward import NO_NUMBER

_NUM_RESAMPLES = 2000
_INTERVAL_LEVEL = 0.95
_NUM_ECE_BINS = 10


def evaluate_predictions(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    class_names: Sequence[str],
    groups: Sequence[str],
    known: Sequence[bool] | None = None,
    failed: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Computes all metrics of an evaluation, as stored in `evaluation.json`.

    Each metric is over videos, never a mean over batches. Videos that could
    not be decoded are not scored; they are listed in `failed`.

    Args:
        labels: int array of shape `(num_videos,)`. True labels.
        probabilities: float array of shape `(num_videos, K)`.
        class_names: Sequence of str. Class names in label order.
        groups: Sequence of str, one per video. Videos of a group were cut
            from the same recording and are resampled together in the
            bootstrap.
        known: Sequence of bool or None. Whether anything tells the group of
            each video; else it is the file itself. If not for half of them,
            there is no `accuracy_interval`, but only
            `interval_if_independent`, which is too narrow if they are related.
            Defaults to all.
        failed: Sequence of `(file, reason)`. Videos that were not scored.

    Returns:
        A dict of numbers, strings, lists and dicts, ready for JSON.
        `num_videos` counts the scored videos, `num_failed` the others.

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
            "There is no video to score: the split is empty, or no video in "
            "it can be decoded. `har-keras check` lists the reason "
            "for each video."
        )
    if not np.isfinite(probabilities).all():
        raise DataError(NO_NUMBER)
    predictions = probabilities.argmax(1)
    confusion = confusion_matrix(labels, predictions, len(class_names))
    num_videos, num_correct = len(labels), int(np.trace(confusion))
    interval = accuracy_interval(labels == predictions, groups)
    unknown = list(known or ()).count(False)
    return {
        "accuracy": num_correct / num_videos,
        "accuracy_interval": interval if 2 * unknown <= num_videos else None,
        "interval_if_independent": interval,
        "interval_level": _INTERVAL_LEVEL,
        "balanced_accuracy": balanced_accuracy(confusion),
        "majority_accuracy": int(confusion.sum(1).max()) / num_videos,
        "num_videos": num_videos,
        "num_correct": num_correct,
        "num_groups": len(set(groups)),
        "num_unknown_groups": unknown,
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
    """Counts videos by true label (row) and prediction (column).

    Args:
        labels: int array of shape `(num_videos,)`. True labels.
        predictions: int array of shape `(num_videos,)`.
        num_classes: int. Number of classes, K.

    Returns:
        `int64` array of shape `(K, K)`.

    Example:

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    array([[1, 0],
           [1, 1]])
    """
    counts = np.zeros((num_classes, num_classes), dtype="int64")
    np.add.at(counts, (labels, predictions), 1)
    return counts


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Returns the mean recall over the classes that have videos.

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

    All are None for a class without videos (support 0): it was not tested. The
    precision of a class that was never predicted is 0.

    Example:

    >>> per_class(np.array([[3, 1], [0, 0]]), ("walk", "work"))[0]
    {'class': 'walk', 'precision': 1.0, 'recall': 0.75,
    'f1': 0.8571428571428571, 'support': 4}
    >>> per_class(np.array([[3, 1], [0, 0]]), ("walk", "work"))[1]
    {'class': 'work', 'precision': None, 'recall': None, 'f1': None,
    'support': 0}
    """
    rows = []
    for label, name in enumerate(class_names):
        hits = int(confusion[label, label])
        support = int(confusion[label].sum())
        predicted = int(confusion[:, label].sum())
        rows.append(
            {
                "class": name,
                "precision": hits / max(1, predicted) if support else None,
                "recall": hits / support if support else None,
                "f1": 2 * hits / (support + predicted) if support else None,
                "support": support,
            }
        )
    return rows


def accuracy_interval(
    correct: np.ndarray, groups: Sequence[str], *, seed: int = 0
) -> list[float] | None:
    """Returns the 95 % confidence interval of accuracy, by cluster bootstrap.

    Predictions for videos from one recording are correlated, so whole groups
    are resampled with replacement (2000 resamples, percentile interval). Where
    all groups are recognized alike, that interval has zero width: then it is
    the binomial one over groups, exact if all predictions are correct, or all
    wrong, else Wilson's.

    Args:
        correct: bool array of shape `(num_videos,)`.
        groups: Sequence of str, one per video.
        seed: int. Seed of the resampling. Defaults to `0`.

    Returns:
        `[low, high]`, or `None` with fewer than two groups.

    Example:

    >>> accuracy_interval(np.array([True, True]), ["monday", "friday"])[1]
    1.0

    Reference:
        - [Davison and Hinkley, 1997](https://doi.org/10.1017/CBO9780511802843),
          section 3.8.
    """
    number = len(set(groups))
    if number > 1 and (correct.all() or not correct.any()):
        open_end = ((1 - _INTERVAL_LEVEL) / 2) ** (1 / number)
        return [open_end, 1.0] if correct.all() else [0.0, 1 - open_end]
    counts = np.stack([correct, np.ones(len(correct))], 1)
    found = resampled_interval(
        counts, groups, lambda sums: sums[:, 0] / sums[:, 1], seed=seed
    )
    if found and found[0] == found[1]:
        return _wilson_interval(float(correct.mean()), number)
    return found


def _wilson_interval(share: float, number: int) -> list[float]:
    """Returns the 95 % score interval of a share of a number of cases."""
    z = 1.959964  # of the standard normal distribution, at 97.5 %
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    spread = share * (1 - share) / number + z**2 / (4 * number**2)
    half = z * spread**0.5 / (1 + z**2 / number)
    return [middle - half, middle + half]


def resampled_interval(
    counts: np.ndarray,
    groups: Sequence[str],
    figure: Callable[[np.ndarray], Any],
    *,
    seed: int = 0,
) -> list[float] | None:
    """Returns the 95 % percentile interval of a figure, by cluster bootstrap.

    Args:
        counts: array of shape `(num_videos, N)`. Counts of each video.
        groups: Sequence of str, one per video.
        figure: Callable. From sums of counts, `(num_resamples, N)`, to
            figures.
        seed: int. Seed of the resampling. Defaults to `0`.

    Returns:
        `[low, high]`, or `None` with fewer than two groups.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.zeros((len(names), counts.shape[1]))
    np.add.at(sums, index, counts)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=_NUM_RESAMPLES
    )  # (num_resamples, num_groups)
    tail = 100 * (1 - _INTERVAL_LEVEL) / 2
    ends = np.percentile(figure(draws @ sums), [tail, 100 - tail])
    return [float(end) for end in ends]


def top_k_accuracies(
    labels: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    """Returns top-1, top-2 and top-5 accuracy.

    Empty for up to 5 classes, for which top-5 accuracy is always 1. Ties are
    broken by the lower label.

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
    """Returns the expected calibration error (ECE) and its bins.

    Videos are put into ten equal-width bins by confidence, the probability of
    their prediction. ECE is the absolute difference of mean confidence and
    accuracy in a bin, averaged over bins weighted by count.

    Args:
        labels: int array of shape `(num_videos,)`.
        probabilities: float array of shape `(num_videos, K)`.

    Returns:
        A dict of `ece`, and `bins`: low and high edge, count, confidence and
        accuracy of each non-empty bin.

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
    """ROC and precision-recall curve of a class against the rest.

    The points are ordered from the highest threshold to the lowest.

    Args:
        false_positive_rate: float array of shape `(num_points,)`, from 0.
        recall: float array of shape `(num_points,)`, from 0; in an ROC curve
            it is called the true positive rate.
        precision: float array of shape `(num_points,)`, from 1.
    """

    false_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray

    @property
    def roc_auc(self) -> float:
        """Area under the ROC curve."""
        widths = np.diff(self.false_positive_rate)
        heights = (self.recall[1:] + self.recall[:-1]) / 2
        return float(widths @ heights)

    @property
    def average_precision(self) -> float:
        """Mean precision over the steps of recall, without interpolation."""
        return float(np.diff(self.recall) @ self.precision[1:])


def curve(truth: np.ndarray, scores: np.ndarray) -> Curve | None:
    """Returns the ROC and precision-recall curve of one class.

    Args:
        truth: bool array of shape `(num_videos,)`. Whether a video is of the
            class.
        scores: float array of shape `(num_videos,)`. Probability of the
            class.

    Returns:
        A `Curve` with one point per distinct score; None if all videos are of
        the class, or none is.

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
    predicted = ends + 1
    return Curve(
        np.concatenate([[0.0], (predicted - hits) / negatives]),
        np.concatenate([[0.0], hits / positives]),
        np.concatenate([[1.0], hits / predicted]),
    )


def ranking(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns ROC AUC and average precision of each class against the rest.

    Args:
        labels: int array of shape `(num_videos,)`.
        probabilities: float array of shape `(num_videos, K)`.
        class_names: Sequence of str. Class names in label order.

    Returns:
        A list of dicts, one per class: `class`, `roc_auc` and
        `average_precision`; None if all videos are of the class, or none is.
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
