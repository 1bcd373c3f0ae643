"""Fits on validation videos what a calibration says of answers."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from har_keras.inference.calibration import LARGEST, SMALLEST, Calibration
from har_keras.inference.coverage import (
    AccuracyCoverage,
    accuracy_coverage,
    error_bound,
)
from har_keras.serving.acceptance import Reference, apply_temperature

# Groups tell of a temperature as much as they outweigh the belief that it is
# near 1 (in standard deviations of its logarithm). Three right answers would
# else make every answer sure.
_PRIOR_SPREAD = 0.3
_GOLDEN = (5**0.5 - 1) / 2
_NUM_STEPS = 60
FAR_SHARE = 0.1
"""Share of the known groups that may be beyond the limit of a distance."""
_SMALLEST_VARIANCE = 1e-6


def fit_calibration(
    labels: np.ndarray,
    views: np.ndarray,
    groups: Sequence[str],
    *,
    known: Sequence[bool] | None = None,
    accept_errors: float = 0.05,
    distances: np.ndarray | None = None,
    reference: Reference | None = None,
) -> Calibration:
    """Fits temperatures, threshold and limits on validation videos.

    Every group counts once, however many videos and views it has, for these
    are not independent. The fewer groups, the nearer both are to 1.

    Args:
        labels: int array of shape `(num_videos,)`.
        views: float array of shape `(num_videos, V, K)`. Probabilities per
            view.
        groups: Sequence of str. The group of each video.
        known: Sequence of bool or None. Whether anything tells its group; of
            the others nothing follows for what is accepted. Defaults to all.
        accept_errors: float. Share of accepted answers that may be wrong.
        distances: float array of shape `(num_videos, V)`, or None. From the
            training videos; there is no limit without.
        reference: Reference or None. What they are from.

    Returns:
        A `Calibration`; of less than ten groups, one that changes nothing.
    """
    found = dataclasses.replace(
        _fit_temperatures(labels, views, groups), accept_errors=accept_errors
    )
    use = np.ones(len(labels), bool) if known is None else np.array(known, bool)
    if not use.any():
        return found
    of_known = np.array(groups, str)[use]
    probabilities = views.mean(1)[use]
    confidences = found.calibrated(probabilities).max(1)
    right = probabilities.argmax(1) == labels[use]
    curve = accuracy_coverage(right, confidences, of_known)
    found = _with_threshold(found, curve)
    if distances is None or reference is None:
        return found
    near = distances[use]
    found = _with_limits(found, near, of_known, reference)
    accepts = found.accepts(probabilities, near.mean(1))
    return _with_worth(found, right, accepts, of_known)


def _with_limits(
    found: Calibration,
    distances: np.ndarray,
    groups: np.ndarray,
    reference: Reference,
) -> Calibration:
    """Returns a calibration with the limits of distances, `(N, V)`."""
    limit = distance_limit(distances.mean(1), [*groups])
    if limit is None:
        return found
    of_views = np.repeat(groups, distances.shape[1])
    return dataclasses.replace(
        found,
        limit=limit,
        window_limit=distance_limit(distances.ravel(), [*of_views]),
        reference=reference,
    )


def _with_worth(
    found: Calibration,
    right: np.ndarray,
    accepts: np.ndarray,
    groups: np.ndarray,
) -> Calibration:
    """Returns a calibration with the figures of what it accepts of groups."""
    if found.limit is None:
        return found
    _, index, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    weights = accepts / sizes[index]
    total, wrong = float(weights.sum()), float((weights * ~right).sum())
    return dataclasses.replace(
        found,
        coverage=total / len(sizes),
        accepted_error=wrong / total if total else 0.0,
        error_bound=error_bound(wrong, total) if total else 1.0,
    )


def _with_threshold(found: Calibration, curve: AccuracyCoverage) -> Calibration:
    """Returns a calibration with the threshold of the largest coverage.

    One more error is counted than was seen, as the next answer may be one,
    so few groups allow no threshold. From the surest on, answers are accepted
    until that is too many, and what comes by chance after is not looked at:
    the best of many thresholds would be a lucky one (fixed-sequence testing,
    as in Learn then Test, Angelopoulos et al., 2021).
    """
    found = dataclasses.replace(found, num_known_groups=curve.num_groups)
    accept_errors = found.accept_errors or 1.0
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

    low, high = np.log(SMALLEST), np.log(LARGEST)
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


def fit_reference(features: np.ndarray, labels: np.ndarray) -> Reference:
    """Fits what training videos look like.

    The classes share one covariance, which is shrunk towards that of a sphere,
    as far as the number of videos asks for: more features than videos are no
    problem.

    Args:
        features: float array of shape `(num_videos, V, D)`, of each view.
        labels: int array of shape `(num_videos,)`.

    Returns:
        A `Reference`.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(100) % 2
    >>> rows = rng.normal(10.0 * labels[:, None], (1.0, 3.0))[:, None, :2]
    >>> found = fit_reference(rows, labels)
    >>> found.distances(np.array([[0.0, 0.0], [5.0, 5.0]], "f")).round() < 3
    array([ True, False])
    """
    num_views = features.shape[1]
    rows = features.reshape(-1, features.shape[-1]).astype("float64")
    of_rows = np.repeat(labels, num_views)
    present = np.unique(labels)
    centers = np.stack([rows[of_rows == x].mean(0) for x in present])
    around = rows - centers[np.searchsorted(present, of_rows)]
    variances, axes = np.linalg.eigh(shrunk_covariance(around, num_views))
    least = _SMALLEST_VARIANCE * max(variances.max(), _SMALLEST_VARIANCE)
    whitening = axes / np.sqrt(np.maximum(variances, least))
    return Reference(
        (centers @ whitening).astype("float32"), whitening.astype("float32")
    )


def shrunk_covariance(around: np.ndarray, repeats: int = 1) -> np.ndarray:
    """Returns a covariance, shrunk by Ledoit and Wolf's estimate.

    Args:
        around: float array of shape `(N, D)`. Rows around their mean.
        repeats: int. Rows, one after the other, that are of one video, and
            count as one. Defaults to `1`.

    Returns:
        float array of shape `(D, D)`.

    Reference:
        - [Ledoit and Wolf, 2004](https://doi.org/10.1016/S0047-259X(03)00096-4).
    """
    number, width = around.shape
    found = around.T @ around / number
    sphere = np.trace(found) / width * np.eye(width)
    spread = float(np.square(found - sphere).sum())
    several = around.reshape(-1, repeats, width)
    each = np.einsum("nvi,nvj->nij", several, several) / repeats
    error = float(np.square(each - found).sum()) / len(each) ** 2
    share = min(1.0, error / spread) if spread > 0 else 1.0
    return np.asarray((1 - share) * found + share * sphere)


def distance_limit(
    distances: np.ndarray, groups: Sequence[object]
) -> float | None:
    """Returns the distance beyond which a video is like no class.

    A tenth of the groups may be beyond it, one more than are: the next may be
    one, too (a conformal quantile).

    Args:
        distances: float array of shape `(N,)`.
        groups: Sequence. The group of each; each group counts once.

    Returns:
        float; or None if there are too few groups, which are less than 9.

    Example:

    >>> distance_limit(np.arange(1.0, 10.0), range(9))
    9.0
    >>> distance_limit(np.arange(1.0, 9.0), range(8)) is None
    True

    Reference:
        - [Vovk et al., 2005](https://doi.org/10.1007/b106715).
    """
    _, index, sizes = np.unique(
        np.array([*map(str, groups)]), return_inverse=True, return_counts=True
    )
    allowed = FAR_SHARE * (len(sizes) + 1) - 1
    if allowed < -1e-9:
        return None
    order = np.argsort(-distances, kind="stable")
    beyond = np.cumsum(1 / sizes[index][order])
    place = int(np.searchsorted(beyond, allowed + 1e-9, side="right"))
    # Up, so that the one at this distance is within it.
    return math.ceil(distances[order[min(place, len(order) - 1)]] * 1e6) / 1e6
