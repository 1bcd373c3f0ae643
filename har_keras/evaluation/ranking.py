"""How well probabilities rank videos: ROC and precision-recall curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


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
