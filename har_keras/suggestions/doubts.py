"""Labels that cross-validation contradicts, by confident learning."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from har_keras.suggestions.linear import Floats, Ints


def doubtful_labels(
    probabilities: Floats, labels: Ints, judged: NDArray[np.bool_]
) -> list[tuple[int, int, float]]:
    """Finds labels that are probably wrong.

    A sample is confidently of a class if the class's probability, by a model
    that has not seen the sample's group, is at least the mean that the class
    has among the samples with its label. So a class of which the model is
    seldom sure has a low threshold. Labels are in doubt where the likeliest of
    these classes is another than the label: the off-diagonal of the confident
    joint.

    Args:
        probabilities: float array of shape `(M, K)`, out of fold.
        labels: int array of shape `(M,)`. The labels that were given.
        judged: bool array of shape `(M,)`. The samples to judge.

    Returns:
        list of tuples: the sample, the class it looks like, and that class's
        probability; the largest margin over the label first.

    Example:

    >>> rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    >>> labels = np.array([0, 0, 1, 1])
    >>> doubtful_labels(rows, labels, np.ones(4, bool))
    []
    >>> rows[2] = 0.95, 0.05
    >>> doubtful_labels(rows, labels, np.ones(4, bool))
    [(2, 0, 0.95)]

    Reference:
        - [Northcutt et al., 2021](https://arxiv.org/abs/1911.00068).
    """
    number = probabilities.shape[1]
    means = np.full(number, np.inf)
    for k in range(number):
        mine = judged & (labels == k)
        if mine.any():
            means[k] = probabilities[mine, k].mean()
    sure = np.where(probabilities >= means, probabilities, -1.0)
    likely = sure.argmax(1)
    rows = np.arange(len(labels))
    doubtful = judged & (sure.max(1) > 0) & (likely != labels)
    margin = probabilities[rows, likely] - probabilities[rows, labels]
    found = sorted(np.flatnonzero(doubtful), key=lambda i: (-margin[i], i))
    return [
        (int(i), int(likely[i]), float(probabilities[i, likely[i]]))
        for i in found
    ]
