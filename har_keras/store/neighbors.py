"""Pairs of similar vectors, found in near linear time.

Vectors are divided by random hyperplanes until a few are left in each leaf;
only those of one leaf are compared. Several such trees miss little, for a pair
that one hyperplane divides is together in another tree.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_LEAF = 96
_TREES = 6
# Of the seed of the hyperplanes, which are the same for the same vectors.
_SEED = 0


def similar_pairs(
    vectors: Floats,
    owners: NDArray[np.int64],
    *,
    least: float,
    most: int = 8,
) -> NDArray[np.int64]:
    """Finds the vectors that are most similar to each, by cosine.

    Args:
        vectors: `float32` array of shape `(N, D)`, of length 1 or 0.
        owners: int array of shape `(N,)`. Vectors of one owner are not
            compared.
        least: float. The lowest similarity of a pair.
        most: int. Neighbors of each vector that are kept, of each tree.

    Returns:
        `int64` array of shape `(P, 2)`: pairs of indices, the lower first,
        each once.

    Example:

    >>> vectors = np.array([[1, 0], [0, 1], [0.8, 0.6]], np.float32)
    >>> similar_pairs(vectors, np.arange(3), least=0.7).tolist()
    [[0, 2]]
    """
    used = np.flatnonzero((vectors**2).sum(1) > 0.5)
    rng = np.random.default_rng(_SEED)
    found = [np.empty(0, np.int64)]
    number = len(vectors)
    for _ in range(_TREES if len(used) > _LEAF else 1):
        for leaf in _leaves(vectors, used, rng):
            pairs = _pairs_of_leaf(vectors[leaf], owners[leaf], least, most)
            first, second = leaf[pairs[:, 0]], leaf[pairs[:, 1]]
            low, high = np.minimum(first, second), np.maximum(first, second)
            found.append(low * number + high)
    codes = np.unique(np.concatenate(found))
    return np.stack(np.divmod(codes, max(1, number)), 1)


def _leaves(
    vectors: Floats, members: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yields the members of each leaf of a random tree."""
    waiting = [members]
    while waiting:
        members = waiting.pop()
        if len(members) <= _LEAF:
            yield members
            continue
        ends = vectors[rng.choice(members, 2, replace=False)]
        places = _projected(vectors, members, ends[0] - ends[1])
        # Halves, so that the depth is bounded also where all are alike.
        order = np.argpartition(places, len(members) // 2)
        half = len(members) // 2
        waiting += [members[order[:half]], members[order[half:]]]


def _projected(
    vectors: Floats, members: NDArray[np.int64], direction: Floats
) -> Floats:
    return vectors[members] @ direction


def _pairs_of_leaf(
    vectors: Floats, owners: NDArray[np.int64], least: float, most: int
) -> NDArray[np.int64]:
    """Returns the best pairs of a leaf, as places in it."""
    alike = vectors @ vectors.T
    alike[owners[:, None] == owners[None, :]] = -1.0
    kept = min(most, len(alike) - 1)
    if kept < 1:
        return np.empty((0, 2), np.int64)
    best = np.argpartition(-alike, kept - 1, axis=1)[:, :kept]
    rows = np.repeat(np.arange(len(alike)), kept)
    pairs = np.stack([rows, best.ravel()], 1)
    return pairs[alike[pairs[:, 0], pairs[:, 1]] >= least]
