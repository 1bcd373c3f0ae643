"""Class imbalance: weights in the loss, or balanced sampling."""

import numpy as np
from numpy.typing import NDArray


def class_weights(
    labels: NDArray[np.int64], num_classes: int
) -> NDArray[np.float32]:
    """Returns the weight of each class in the loss.

    All classes have the same total weight. The mean weight of the clips is 1,
    so that the learning rate keeps its meaning.

    Args:
        labels: int array of shape `(num_clips,)`. Labels of an epoch's clips.
        num_classes: int. Classes, K.

    Returns:
        `float32` array of shape `(K,)`; 0 for a class without clips.

    Example:

    >>> class_weights(np.array([0, 0, 0, 0, 1, 1]), 2).tolist()
    [0.75, 1.5]

    Reference:
        - [King and Zeng, 2001](https://doi.org/10.1093/oxfordjournals.pan.a004868),
          section 4.2 (weights by inverse class frequency).
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = max(1, int((counts > 0).sum()))
    weights = len(labels) / (present * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0).astype(np.float32)


def balanced_order(
    labels: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draws the order of an epoch with equally many clips of every class.

    Large classes are subsampled, differently each epoch. Clips of small
    classes are repeated, each equally often up to one.

    Args:
        labels: int array of shape `(num_clips,)`. Labels of all clips.
        rng: numpy `Generator`.

    Returns:
        `int64` array of shape `(num_clips,)`. Indices of clips, shuffled.

    Example:

    >>> labels = np.array([0, 0, 0, 0, 0, 1])
    >>> order = balanced_order(labels, np.random.default_rng(0))
    >>> np.bincount(labels[order]).tolist()
    [3, 3]
    """
    classes = rng.permutation(np.unique(labels))
    chosen = [np.empty(0, np.int64)]
    for place, label in enumerate(classes):
        members = np.flatnonzero(labels == label)
        share, more = divmod(len(labels), len(classes))
        wanted = share + (place < more)
        turns = -(-wanted // len(members))
        drawn = [rng.permutation(members) for _ in range(turns)]
        chosen.append(np.concatenate([chosen[0], *drawn])[:wanted])
    order = np.concatenate(chosen)
    rng.shuffle(order)
    return order


def occurrences(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the number of earlier occurrences of each index.

    Example:

    >>> occurrences(np.array([4, 7, 4, 4, 7])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_index = np.argsort(indices, kind="stable")
    ordered = indices[by_index]
    is_first = np.r_[True, ordered[1:] != ordered[:-1]][: len(ordered)]
    places = np.arange(len(ordered))
    firsts = np.maximum.accumulate(np.where(is_first, places, 0))
    counts = np.empty_like(indices)
    counts[by_index] = places - firsts
    return counts
