"""What the validation videos tell of confidences: temperatures, a threshold.

Temperatures make a confidence the share of right answers. The threshold is
the confidence below which an answer is "none of these".
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from har_keras.damaged import read_json
from har_keras.errors import DataError
from har_keras.files import whole_file
from har_keras.inference.coverage import (
    AccuracyCoverage,
    accuracy_coverage,
    error_bound,
    groups_needed,
)
from har_keras.progress import plural
from har_keras.run import Run
from har_keras.serving.acceptance import accepted, apply_temperature

_SMALLEST, _LARGEST = 0.05, 20.0
# Fewer groups of videos tell nothing of confidence; of more, as much as they
# outweigh the belief that a temperature is near 1 (in standard deviations of
# its logarithm). Three right answers would else make every answer sure.
_FEWEST_GROUPS = 10
_PRIOR_SPREAD = 0.3
# Of a timeline, in runs of versions that chose no threshold on validation.
_EARLIER_THRESHOLD = 0.5
_GOLDEN = (5**0.5 - 1) / 2
_NUM_STEPS = 60


@dataclass(frozen=True)
class Calibration:
    """The calibration temperatures of a run, and its threshold.

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
        threshold: float or None. Smallest calibrated confidence of an answer
            that is accepted; below it, it is "none of these". None accepts
            everything.
        accept_errors: float or None. Share of accepted answers that may be
            wrong, for which it was chosen. None in runs of earlier versions,
            which chose no threshold.
        num_known_groups: int. Groups of validation videos it was chosen on.
        coverage: float. Share of these that are accepted.
        accepted_error: float. Share of the accepted that are wrong.
        error_bound: float. Upper end of its 95 % interval.
    """

    temperature: float = 1.0
    window_temperature: float = 1.0
    num_videos: int = 0
    num_groups: int | None = 0
    threshold: float | None = None
    accept_errors: float | None = None
    num_known_groups: int = 0
    coverage: float = 1.0
    accepted_error: float = 0.0
    error_bound: float = 1.0

    @property
    def segment_threshold(self) -> float:
        """The threshold of a timeline's segments where none is given."""
        if self.threshold is None and self.accept_errors is None:
            return _EARLIER_THRESHOLD
        return self.threshold or 0.0

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the calibrated probabilities of whole videos.

        Args:
            probabilities: float array of shape `(..., K)`, as of the model.
        """
        return np.asarray(apply_temperature(probabilities, self.temperature))

    def accepts(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns which answers of whole videos are accepted.

        Args:
            probabilities: float array of shape `(..., K)`, as of the model.

        Returns:
            bool array of shape `(...)`.
        """
        return np.asarray(
            accepted(probabilities, self.temperature, self.threshold)
        )

    @property
    def verdict(self) -> str:
        """The threshold and what it is worth, or why there is none."""
        if self.accept_errors is None:
            return ""
        if self.threshold is not None:
            return (
                f"Answers with a confidence below {100 * self.threshold:.1f} % "
                'are "none of these". On validation, '
                f"{100 * self.coverage:.0f} % of {self.num_known_groups} "
                "groups are accepted, of which "
                f"{100 * self.accepted_error:.1f} % are wrong (at most "
                f"{100 * self.error_bound:.0f} %, with a confidence of 95 %)."
            )
        needed = groups_needed(self.accept_errors)
        if self.num_known_groups < needed:
            return (
                'Every answer is accepted, none is "none of these": '
                f"--accept-errors {self.accept_errors:g} needs {needed} "
                "known groups of validation videos, and there "
                f"{'is' if self.num_known_groups == 1 else 'are'} "
                f"{self.num_known_groups}. Add videos, raise --val-fraction, "
                "or allow more errors."
            )
        return (
            'Every answer is accepted, none is "none of these": on '
            f"{plural(self.num_known_groups, 'group')} of validation videos, "
            "no confidence keeps the share of wrong answers within "
            f"--accept-errors {self.accept_errors:g}. Add videos, or allow "
            "more errors."
        )

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
            shares = (read.threshold, read.accept_errors)
            if all(_SMALLEST / 2 <= x <= 2 * _LARGEST for x in both) and all(
                x is None or 0 <= x <= 1 for x in shares
            ):
                return read
        except (KeyError, TypeError):  # no numbers
            pass
        raise DataError(
            f"'{run.calibration_file}' holds no temperatures. Make it again "
            f"with: python -m har_keras.evaluate {run.path}"
        )


def fit_calibration(
    labels: np.ndarray,
    views: np.ndarray,
    groups: Sequence[str],
    *,
    known: Sequence[bool] | None = None,
    accept_errors: float = 0.05,
) -> Calibration:
    """Fits both temperatures and the threshold on validation videos.

    Every group counts once, however many videos and views it has, for these
    are not independent. The fewer groups, the nearer both are to 1.

    Args:
        labels: int array of shape `(num_videos,)`.
        views: float array of shape `(num_videos, V, K)`. Probabilities per
            view.
        groups: Sequence of str. The group of each video.
        known: Sequence of bool or None. Whether anything tells its group; of
            the others nothing follows for the threshold. Defaults to all.
        accept_errors: float. Share of accepted answers that may be wrong.

    Returns:
        A `Calibration`; of less than ten groups, one that changes nothing.
    """
    found = _fit_temperatures(labels, views, groups)
    use = np.ones(len(labels), bool) if known is None else np.array(known, bool)
    if not use.any():
        return dataclasses.replace(found, accept_errors=accept_errors)
    probabilities = views.mean(1)[use]
    confidences = found.calibrated(probabilities).max(1)
    right = probabilities.argmax(1) == labels[use]
    curve = accuracy_coverage(right, confidences, np.array(groups, str)[use])
    return _with_threshold(found, curve, accept_errors)


def _with_threshold(
    found: Calibration, curve: AccuracyCoverage, accept_errors: float
) -> Calibration:
    """Returns a calibration with the threshold of the largest coverage.

    One more error is counted than was seen, as the next answer may be one,
    so few groups allow no threshold. From the surest on, answers are accepted
    until that is too many, and what comes by chance after is not looked at:
    the best of many thresholds would be a lucky one (fixed-sequence testing,
    as in Learn then Test, Angelopoulos et al., 2021).
    """
    found = dataclasses.replace(
        found, accept_errors=accept_errors, num_known_groups=curve.num_groups
    )
    allowed = (curve.wrong + 1) / (curve.accepted + 1) <= accept_errors + 1e-9
    enough = (curve.accepted + 1) * accept_errors >= 1 - 1e-9
    (refused,) = np.nonzero(enough & ~allowed)
    best = int(refused[0] if len(refused) else len(allowed)) - 1
    if best < 0 or not enough[best]:
        return found
    wrong, total = float(curve.wrong[best]), float(curve.accepted[best])
    return dataclasses.replace(
        found,
        # Down, so that the answer with this confidence is accepted.
        threshold=math.floor(curve.thresholds[best] * 1e6) / 1e6,
        coverage=float(curve.coverage[best]),
        accepted_error=wrong / total,
        error_bound=error_bound(wrong, total),
    )


def _fit_temperatures(
    labels: np.ndarray, views: np.ndarray, groups: Sequence[str]
) -> Calibration:
    """Returns both temperatures; of less than ten groups, 1."""
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
