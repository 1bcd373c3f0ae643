"""Accuracy against coverage: what each threshold accepts and gets wrong."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BOUND_LEVEL = 0.95
_NUM_STEPS = 60


@dataclass(frozen=True)
class AccuracyCoverage:
    """What each threshold accepts, and how much of that is wrong.

    Args:
        thresholds: float array of shape `(N,)`, descending.
        accepted: float array of shape `(N,)`. Groups that are accepted; of
            one with some accepted videos, their share.
        wrong: float array of shape `(N,)`. As much of them as is wrong.
        num_groups: int. All groups.
    """

    thresholds: np.ndarray
    accepted: np.ndarray
    wrong: np.ndarray
    num_groups: int

    @property
    def coverage(self) -> np.ndarray:
        """Share of the groups that are accepted, `(N,)`."""
        return self.accepted / self.num_groups

    @property
    def accuracy(self) -> np.ndarray:
        """Share of the accepted that are right, `(N,)`."""
        return 1 - self.wrong / self.accepted


def accuracy_coverage(
    right: np.ndarray, confidences: np.ndarray, groups: Sequence[object]
) -> AccuracyCoverage:
    """Computes accuracy and coverage at every threshold.

    Args:
        right: bool array of shape `(num_videos,)`.
        confidences: float array of shape `(num_videos,)`.
        groups: Sequence. The group of each video; each counts once.

    Returns:
        An `AccuracyCoverage`.

    Example:

    >>> found = accuracy_coverage(
    ...     np.array([True, False, True]), np.array([0.9, 0.6, 0.8]), "abc"
    ... )
    >>> found.thresholds.tolist(), found.accuracy.round(2).tolist()
    ([0.9, 0.8, 0.6], [1.0, 1.0, 0.67])
    """
    _, index, sizes = np.unique(
        np.array([*map(str, groups)]), return_inverse=True, return_counts=True
    )
    weights = 1 / sizes[index]
    order = np.argsort(-confidences, kind="stable")
    sorted_, weights = confidences[order], weights[order]
    ends = np.flatnonzero(np.diff(sorted_, append=-np.inf))
    return AccuracyCoverage(
        sorted_[ends],
        weights.cumsum()[ends],
        (weights * ~right[order]).cumsum()[ends],
        len(sizes),
    )


def groups_needed(accept_errors: float) -> int:
    """Returns how many groups without an error allow a threshold.

    Example:

    >>> groups_needed(0.05), groups_needed(0.1)
    (19, 9)
    """
    return math.ceil(round(1 / accept_errors - 1, 6))


def error_bound(wrong: float, total: float) -> float:
    """Returns the upper end of the one-sided 95 % interval of an error.

    Clopper and Pearson's, with groups that are partly wrong counted whole.

    Args:
        wrong: float. Groups that are wrong.
        total: float. All groups.

    Example:

    >>> round(error_bound(0, 19), 3), round(error_bound(1, 100), 3)
    (0.146, 0.047)
    """
    errors, number = math.ceil(wrong - 1e-9), max(1, math.floor(total + 1e-9))
    low, high = 0.0, 1.0
    for _ in range(_NUM_STEPS):
        share = (low + high) / 2
        chance = sum(
            math.comb(number, k) * share**k * (1 - share) ** (number - k)
            for k in range(min(errors, number) + 1)
        )
        if errors < number and chance < 1 - _BOUND_LEVEL:
            high = share
        else:
            low = share
    return high
