"""Which samples to label next: unlike what is labelled, and uncertain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from har_keras.suggestions.linear import Floats, Ints

# Before a classifier knows anything, one typical sample of each cluster.
_NUM_CLUSTERS = 20
_NUM_NEIGHBORS = 10
_NUM_STEPS = 15


def most_useful(
    x: Floats,
    labelled: Ints,
    groups: Sequence[str],
    probabilities: Floats | None,
    *,
    skill: float = 1.0,
) -> list[int]:
    """Orders the samples without a label, those that teach most first.

    First comes the most typical sample of each of 20 clusters that has no
    label yet, the largest cluster first: a classifier that saw little learns
    most from what is common (TypiClust).

    Then each in turn is the sample that is farthest from everything labelled
    or ordered before it (greedy k-center, a core-set). The squared distance
    counts by how uncertain the class is, one minus the margin between the two
    likeliest, raised to the classifier's skill, for the doubts of one that
    hardly beats guessing say nothing; and it is divided among the samples of
    the group that come before, so that the first are of different scenes.

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

    >>> x = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
    >>> sorted(most_useful(x, np.array([0, 2, 4]), "abcde", None))
    [1, 3]

    References:
        - [Hacohen et al., 2022](https://arxiv.org/abs/2202.02794): typical
          samples while there are few labels, TypiClust.
        - [Sener and Savarese, 2018](https://arxiv.org/abs/1708.00489): active
          learning by core-sets.
        - [Scheffer et al., 2001](https://doi.org/10.1007/3-540-44816-0_31):
          the margin.
    """
    found = [] if len(labelled) >= _NUM_CLUSTERS else typical(x, labelled)
    is_open = np.ones(len(x), bool)
    is_open[labelled] = False
    is_open[found] = False
    nearest = np.full(len(x), np.inf)
    weights = _uncertainty(probabilities, len(x)) ** skill
    _, group = np.unique(np.array(groups, str), return_inverse=True)
    taken = np.ones(len(x))
    waiting = [*map(int, labelled), *found]
    while is_open.any():
        for index in waiting:
            nearest = np.minimum(nearest, _distances(x, index))
            taken[group == group[index]] += 1
        score = np.where(is_open, nearest * weights / taken, -1.0)
        chosen = int(score.argmax())
        found.append(chosen)
        is_open[chosen] = False
        waiting = [chosen]
    return found


def _uncertainty(probabilities: Floats | None, number: int) -> Floats:
    if probabilities is None:
        return np.ones(number)
    ranked = np.sort(probabilities, axis=1)
    return np.asarray(1 - (ranked[:, -1] - ranked[:, -2]))


def _distances(x: Floats, index: int) -> Floats:
    return np.asarray(((x - x[index]) ** 2).sum(1))


def typical(x: Floats, labelled: Ints) -> list[int]:
    """Returns the most typical sample of each cluster that has no label.

    Args:
        x: float array of shape `(N, C)`.
        labelled: int array. The samples with a label.

    Returns:
        list of int, that of the largest cluster first. With the labelled ones
        at most 20.
    """
    clusters = _clusters(x, min(_NUM_CLUSTERS, len(x)))
    with_label = set(clusters[labelled].tolist())
    members = [np.flatnonzero(clusters == k) for k in set(clusters.tolist())]
    members.sort(key=lambda mine: (-len(mine), mine[0]))
    found = [
        int(mine[_spread(x[mine]).argmin()])
        for mine in members
        if clusters[mine[0]] not in with_label
    ]
    return found[: _NUM_CLUSTERS - len(labelled)]


def _spread(x: Floats) -> Floats:
    """Returns the mean distance of each sample to the nearest others."""
    squares = np.stack([_distances(x, i) for i in range(len(x))])
    number = min(_NUM_NEIGHBORS, len(x) - 1)
    nearest = np.sort(np.sqrt(squares), axis=1)[:, 1 : number + 1]
    return nearest.mean(1) if number else np.zeros(len(x))


def _clusters(x: Floats, number: int) -> Ints:
    """Returns the cluster of each sample, by k-means, always the same."""
    rng = np.random.default_rng(0)
    chosen = [int(rng.integers(len(x)))]
    nearest = _distances(x, chosen[0])
    while len(chosen) < number and nearest.any():
        chosen.append(int(rng.choice(len(x), p=nearest / nearest.sum())))
        nearest = np.minimum(nearest, _distances(x, chosen[-1]))
    centers = x[chosen]
    for _ in range(_NUM_STEPS):
        squares = (centers**2).sum(1) - 2 * x @ centers.T
        found = squares.argmin(1)
        centers = np.stack(
            [
                x[found == k].mean(0) if (found == k).any() else center
                for k, center in enumerate(centers)
            ]
        )
    return np.asarray(found)
