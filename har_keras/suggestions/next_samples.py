"""Which samples to label next: unlike what is labelled, and uncertain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from har_keras.suggestions.linear import Floats, Ints


def most_useful(
    x: Floats,
    labelled: Ints,
    groups: Sequence[str],
    probabilities: Floats | None,
    *,
    skill: float = 1.0,
) -> list[int]:
    """Orders the samples without a label, those that teach most first.

    Each in turn is the sample that is farthest from everything labelled or
    ordered before it (greedy k-center, a core-set). The squared distance
    counts by how uncertain the class is, one minus the margin between the two
    likeliest, raised to the classifier's skill, for the doubts of one that
    hardly beats guessing say nothing; and it is divided among the samples of
    the group that come before, so that the first are of different scenes.
    Before two classes are labelled only distances and groups count; the very
    first is the most typical sample.

    Args:
        x: float array of shape `(N, C)`.
        labelled: int array. The samples with a label.
        groups: Sequence of str. The group of each sample.
        probabilities: float array of shape `(N, K)` or None. Of the classes;
            None is unknown.
        skill: float. Of the classifier, as of `CrossValidation`. Defaults to
            `1.0`.

    Returns:
        list of int. Every sample without a label.

    Example:

    >>> x = np.array([[0.0], [0.1], [5.0], [9.0]])
    >>> most_useful(x, np.array([0]), "abcd", None)
    [3, 2, 1]

    References:
        - [Sener and Savarese, 2018](https://arxiv.org/abs/1708.00489): active
          learning by core-sets.
        - [Scheffer et al., 2001](https://doi.org/10.1007/3-540-44816-0_31):
          the margin.
        - [Ash et al., 2020](https://arxiv.org/abs/1906.03671): uncertain and
          diverse at once.
    """
    found: list[int] = []
    open_ = np.ones(len(x), bool)
    open_[labelled] = False
    nearest = np.full(len(x), np.inf)
    weights = _uncertainty(probabilities, len(x)) ** skill
    number = _Numbers(groups)
    for index in labelled:
        nearest = np.minimum(nearest, _distances(x, int(index)))
        number.add(int(index))
    while open_.any():
        if np.isinf(nearest).any():
            chosen = int(_distances_to(x, x.mean(0)).argmin())
        else:
            score = np.where(open_, nearest * weights / number.shares, -1.0)
            chosen = int(score.argmax())
        found.append(chosen)
        open_[chosen] = False
        nearest = np.minimum(nearest, _distances(x, chosen))
        number.add(chosen)
    return found


def _uncertainty(probabilities: Floats | None, number: int) -> Floats:
    if probabilities is None:
        return np.ones(number)
    ranked = np.sort(probabilities, axis=1)
    return np.asarray(1 - (ranked[:, -1] - ranked[:, -2]))


def _distances(x: Floats, index: int) -> Floats:
    return _distances_to(x, x[index])


def _distances_to(x: Floats, point: Floats) -> Floats:
    return np.asarray(((x - point) ** 2).sum(1))


class _Numbers:
    """How many samples of each group have been taken."""

    def __init__(self, groups: Sequence[str]) -> None:
        _, self._of = np.unique(np.array(groups, str), return_inverse=True)
        self.shares = np.ones(len(groups))

    def add(self, index: int) -> None:
        """Counts a sample for all of its group."""
        self.shares[self._of == self._of[index]] += 1
