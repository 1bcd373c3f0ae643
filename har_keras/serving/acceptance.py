"""The rule of acceptance: which answer counts, and else no class does.

It must be sure enough, and the clip not too far from what was trained on. Here,
and nowhere else, for numpy and for the graph of an export alike.

Rows of probabilities travel with their distance as one more column, so that
they are batched, split and sent as one; only `joined` and `parted` know where
it is.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

UNSURE, FAR = "unsure", "far"
"""Why an answer is not accepted: its confidence is below the threshold; or the
video is farther from those of the training than the limit, however sure."""


def apply_temperature(
    probabilities: Any, temperature: float, ops: Any = np
) -> Any:
    """Rescales probabilities by a temperature.

    Args:
        probabilities: float array or tensor of shape `(..., K)`.
        temperature: float. Above 0.
        ops: Module. `numpy` or `keras.ops`. Defaults to `numpy`.

    Returns:
        An array of the same shape; the ranking of classes is kept.

    Example:

    >>> apply_temperature(np.array([0.8, 0.2]), 2.0).round(3)
    array([0.667, 0.333])
    """
    scores = ops.log(ops.maximum(probabilities, 1e-12)) / temperature
    scores = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    return scores / ops.sum(scores, axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Reference:
    """What the training videos look like to a model.

    Args:
        centers: `float32` array of shape `(K, D)`. The mean features of each
            class, times `whitening`.
        whitening: `float32` array of shape `(D, D)`. By it features are
            multiplied; then they vary alike in all directions within a class.

    Example:

    >>> known = Reference(np.array([[0.0, 0.0], [3.0, 0.0]]), np.eye(2))
    >>> known.distances(np.array([[3.0, 1.0], [0.0, 5.0]])).tolist()
    [1.0, 5.0]
    """

    centers: np.ndarray
    whitening: np.ndarray

    def distances(self, features: Any, ops: Any = np) -> Any:
        """Returns the Mahalanobis distance to the nearest class.

        Args:
            features: float32 array or tensor of shape `(B, D)`.
            ops: Module. `numpy` or `keras.ops`. Defaults to `numpy`.

        Returns:
            An array or tensor of shape `(B,)`.

        Reference:
            - [Lee et al., 2018](https://arxiv.org/abs/1807.03888), section
              2.1.
        """
        white = ops.matmul(features, self.whitening)
        squares = ops.square(white[:, None] - self.centers[None])
        return ops.sqrt(ops.min(ops.sum(squares, axis=-1), axis=-1))


def accepted(
    probabilities: Any,
    temperature: float,
    threshold: float | None,
    ops: ModuleType = np,
    *,
    distances: Any = None,
    limit: float | None = None,
) -> Any:
    """Returns which answers are accepted; the others are "none of these".

    Args:
        probabilities: float array or tensor of shape `(..., K)`, as a model
            gives them.
        temperature: float. The calibration temperature.
        threshold: float or None. The smallest calibrated probability of an
            accepted class; None accepts everything.
        ops: Module. `numpy` or `keras.ops`. Defaults to `numpy`.
        distances: float array or tensor of shape `(...)`, or None. Those from
            the training videos.
        limit: float or None. The largest distance of what is accepted; None
            accepts everything.

    Returns:
        A bool array or tensor of shape `(...)`.

    Example:

    >>> accepted(np.array([[0.8, 0.2], [0.6, 0.4]]), 1.0, 0.7)
    array([ True, False])
    >>> accepted(
    ...     np.array([[0.8, 0.2]]), 1.0, 0.7, distances=np.array([9.0]), limit=5
    ... )
    array([False])
    """
    calibrated = apply_temperature(probabilities, temperature, ops)
    sure = ops.max(calibrated, axis=-1) >= (threshold or 0.0)
    if limit is None:
        return sure
    return ops.logical_and(sure, distances <= limit)


def joined(probabilities: Any, distances: Any = None) -> np.ndarray:
    """Returns rows of probabilities with their distance.

    Args:
        probabilities: float array of shape `(..., K)`.
        distances: float array of shape `(...)`, or None. Defaults to 0: the
            model knows of none.

    Returns:
        An array of shape `(..., K + 1)`.

    Example:

    >>> joined(np.array([[0.8, 0.2]]), np.array([5.0])).tolist()
    [[0.8, 0.2, 5.0]]
    """
    rows = np.asarray(probabilities)
    found = np.zeros((*rows.shape[:-1], rows.shape[-1] + 1), rows.dtype)
    found[..., :-1] = rows
    found[..., -1] = 0 if distances is None else distances
    return found


def parted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what was joined: probabilities `(..., K)` and distances `(...)`.

    Example:

    >>> [part.tolist() for part in parted(np.array([0.8, 0.2, 5.0]))]
    [[0.8, 0.2], 5.0]
    """
    return rows[..., :-1], rows[..., -1]
