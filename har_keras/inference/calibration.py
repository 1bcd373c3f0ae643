"""Temperature scaling: confidences calibrated on the validation videos."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from har_keras.damaged import read_json
from har_keras.errors import DataError
from har_keras.files import whole_file
from har_keras.run import Run

_SMALLEST, _LARGEST = 0.05, 20.0
# Fewer groups of videos tell nothing of confidence; of more, as much as they
# outweigh the belief that a temperature is near 1 (in standard deviations of
# its logarithm). Three right answers would else make every answer sure.
_FEWEST_GROUPS = 10
_PRIOR_SPREAD = 0.3
_GOLDEN = (5**0.5 - 1) / 2
_NUM_STEPS = 60


@dataclass(frozen=True)
class Calibration:
    """The calibration temperatures of a run.

    Args:
        temperature: float. Temperature for probabilities of whole videos,
            which are means over views. 1 is uncalibrated, above 1 less
            confident.
        window_temperature: float. Temperature for probabilities of single
            clips, as in a timeline.
        num_videos: int. Validation videos that there were.
        num_groups: int or None. Groups of these videos. With less than ten,
            nothing was fitted, and both temperatures are 1. None in runs of
            earlier versions, which fitted on any number of videos.
    """

    temperature: float = 1.0
    window_temperature: float = 1.0
    num_videos: int = 0
    num_groups: int | None = 0

    @property
    def is_fitted(self) -> bool:
        """Whether there were enough validation videos to fit it on."""
        if self.num_groups is None:
            return self.num_videos > 0
        return self.num_groups >= _FEWEST_GROUPS

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> "Calibration":
        """Returns that of a file of a run, whichever version wrote it.

        Args:
            figures: Mapping. Its fields, among others.
        """
        known = {x.name for x in dataclasses.fields(cls)} & {*figures}
        found = cls(**{name: figures[name] for name in known})
        if "num_groups" in figures:
            return found
        return dataclasses.replace(found, num_groups=None)

    def write(self, run: Run) -> None:
        """Writes the temperatures into a run."""
        with whole_file(run.calibration_file) as file:
            text = json.dumps(asdict(self), indent=2)
            file.write_text(text + "\n", "utf-8")

    @classmethod
    def read(cls, run: Run) -> "Calibration":
        """Reads the temperatures of a run; both are 1 if it has none.

        Raises:
            DataError: If the file is damaged.
        """
        if not run.calibration_file.is_file():
            return cls()
        found = read_json(run.calibration_file)
        try:
            read = cls.of(found)
            both = (found["temperature"], found["window_temperature"])
            if all(_SMALLEST / 2 <= x <= 2 * _LARGEST for x in both):
                return read
        except (KeyError, TypeError):  # no numbers
            pass
        raise DataError(
            f"'{run.calibration_file}' holds no temperatures. Make it again "
            f"with: python -m har_keras.evaluate {run.path}"
        )


def fit_calibration(
    labels: np.ndarray, views: np.ndarray, groups: Sequence[str]
) -> Calibration:
    """Fits both temperatures on validation videos.

    Every group counts once, however many videos and views it has, for these
    are not independent. The fewer groups, the nearer both are to 1.

    Args:
        labels: int array of shape `(num_videos,)`.
        views: float array of shape `(num_videos, V, K)`. Probabilities per
            view.
        groups: Sequence of str. The group of each video.

    Returns:
        A `Calibration`; of less than ten groups, one that changes nothing.
    """
    _, index, sizes = np.unique(
        np.array(groups, str), return_inverse=True, return_counts=True
    )
    found = Calibration(num_videos=len(labels), num_groups=len(sizes))
    if not found.is_fitted:
        return found
    num_views, num_classes = views.shape[1:]
    weights = 1 / sizes[index]
    return dataclasses.replace(
        found,
        temperature=fit_temperature(
            labels, views.mean(1), weights=weights, spread=_PRIOR_SPREAD
        ),
        window_temperature=fit_temperature(
            np.repeat(labels, num_views),
            views.reshape(-1, num_classes),
            weights=np.repeat(weights / num_views, num_views),
            spread=_PRIOR_SPREAD,
        ),
    )


def fit_temperature(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    spread: float = np.inf,
) -> float:
    """Returns the temperature that minimizes the log loss.

    The loss is unimodal in the logarithm of the temperature, which is found by
    golden-section search between 0.05 and 20.

    Args:
        labels: int array of shape `(num_videos,)`.
        probabilities: float array of shape `(num_videos, K)`.
        weights: float array of shape `(num_videos,)` or None. How much each
            counts. Defaults to 1.
        spread: float. Standard deviation of the logarithm that is expected
            beforehand, around 0. Defaults to anything.

    Returns:
        float. Above 1 if the probabilities are overconfident.

    Example:

    >>> overconfident = np.array([[0.99, 0.01]] * 4)
    >>> round(fit_temperature(np.array([0, 0, 0, 1]), overconfident), 2)
    4.18

    Reference:
        - [Guo et al., 2017](https://arxiv.org/abs/1706.04599), section 4.2.
    """
    total = len(labels) if weights is None else float(weights.sum())

    def loss(log_temperature: float) -> float:
        changed = apply_temperature(
            probabilities, float(np.exp(log_temperature))
        )
        of_truth = changed[np.arange(len(labels)), labels]
        losses = -np.log(np.maximum(of_truth, 1e-12))
        prior = (log_temperature / spread) ** 2 / 2
        return float(np.average(losses, weights=weights) + prior / total)

    low, high = np.log(_SMALLEST), np.log(_LARGEST)
    for _ in range(_NUM_STEPS):
        left = high - _GOLDEN * (high - low)
        right = low + _GOLDEN * (high - low)
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def apply_temperature(
    probabilities: np.ndarray, temperature: float
) -> np.ndarray:
    """Rescales probabilities by a temperature.

    Args:
        probabilities: float array of shape `(..., K)`.
        temperature: float. Above 0.

    Returns:
        `float64` array of the same shape; the ranking of classes is kept.

    Example:

    >>> apply_temperature(np.array([0.8, 0.2]), 2.0).round(3)
    array([0.667, 0.333])
    """
    scores = np.log(np.maximum(probabilities, 1e-12)) / temperature
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(scores / scores.sum(-1, keepdims=True))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Returns the mean negative log-likelihood of the labels, in nats.

    Unlike scikit-learn's, it clips at 1e-12 and takes a single class and rows
    that sum to 1 only within float32.

    Args:
        labels: int array of shape `(num_videos,)`.
        probabilities: float array of shape `(num_videos, K)`.

    Returns:
        float.

    Example:

    >>> round(log_loss(np.array([0]), np.array([[0.5, 0.5]])), 3)
    0.693
    """
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_truth, 1e-12)).mean())
