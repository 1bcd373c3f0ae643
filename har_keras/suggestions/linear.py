"""A small classifier on frozen features, fitted in milliseconds.

Shape letters: N samples, M labelled ones, D features, C components, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from har_keras.manifest.groups import split_groups

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]

_MOST_COMPONENTS = 128
# Components of more samples are those of some of them, evenly spread.
_MOST_ROWS = 512
# Scales are raised to this power: what all videos differ in counts more, which
# is worth five videos of each class where few are labelled.
_POWER = 1.5
_EPSILON = 1e-6

_NUM_FOLDS = 5
_NUM_STEPS, _LEAST_CHANGE = 60, 1e-3
_PENALTIES = (0.03, 0.1, 0.3, 1.0)
# What is believed of the penalty beforehand: a normal distribution of its
# logarithm, for the folds of ten videos say little.
_USUAL_PENALTY, _PENALTY_SPREAD = 0.1, 1.0
_LEAST_PROBABILITY = 1e-4
_BIAS_PENALTY = 1e-3


@dataclass(frozen=True)
class Components:
    """Principal components of samples, the first ones stressed.

    Args:
        mean: `float32` array of shape `(D,)`.
        directions: `float32` array of shape `(D, C)`.
        scales: float array of shape `(C,)`. What components are multiplied by.

    Example:

    >>> features = np.array([[0.0, 1.0], [0.0, 3.0]])
    >>> Components.of(features).apply(features).round(6).tolist()
    [[-1.0], [1.0]]
    """

    mean: Floats
    directions: Floats
    scales: Floats

    @classmethod
    def of(cls, features: Floats) -> Components:
        """Returns the components of samples, with a mean square of 1.

        Args:
            features: float array of shape `(N, D)`.
        """
        rows = np.asarray(features, np.float32)
        mean = rows.mean(0)
        some = rows[:: -(-len(rows) // _MOST_ROWS)] - mean
        # Eigenvectors of the smaller product, since there are few samples.
        values, vectors = np.linalg.eigh((some @ some.T).astype(np.float64))
        (keep,) = np.nonzero(values > _EPSILON * max(values[-1], _EPSILON))
        keep = keep[::-1][:_MOST_COMPONENTS]
        if not len(keep):  # all are equal
            return cls(mean, np.zeros((rows.shape[1], 1), "f4"), np.ones(1))
        lengths = np.sqrt(values[keep])
        directions = some.T @ (vectors[:, keep] / lengths).astype(np.float32)
        directions *= np.where(directions.sum(0) < 0, -1, 1)
        stress = (lengths / lengths[0]) ** (_POWER - 1)
        total = np.sqrt(((lengths * stress) ** 2).sum() / len(some))
        return cls(mean, directions, stress / total)

    def apply(self, features: Floats) -> Floats:
        """Returns the components of samples, `float64` `(N, C)`."""
        rows = np.asarray(features, np.float32) - self.mean
        return (rows @ self.directions).astype(np.float64) * self.scales


@dataclass(frozen=True)
class LinearClassifier:
    """Logistic regression with an L2 penalty.

    Args:
        weights: float array of shape `(C + 1, K)`; the last row is the bias.
    """

    weights: Floats

    @classmethod
    def fit(
        cls, x: Floats, labels: Ints, num_classes: int, penalty: float
    ) -> LinearClassifier:
        """Fits it to labelled samples.

        Newton's method with a bound in place of the Hessian, which needs no
        step size and one matrix inverse, and Nesterov's momentum.

        Args:
            x: float array of shape `(M, C)`.
            labels: int array of shape `(M,)`.
            num_classes: int. Classes, K.
            penalty: float. Weight of half the squared weights, to be compared
                with the sum of the losses.

        Reference:
            - [Böhning, 1992](https://doi.org/10.1007/BF00048682).
        """
        rows = _with_bias(x)
        penalties = np.full((rows.shape[1], 1), penalty)
        penalties[-1] = _BIAS_PENALTY
        solve = np.linalg.inv(rows.T @ rows / 2 + np.diag(penalties[:, 0]))
        targets = np.eye(num_classes)[labels]
        weights = ahead = np.zeros((rows.shape[1], num_classes))
        pace = 1.0
        for _ in range(_NUM_STEPS):
            errors = softmax(rows @ ahead) - targets
            new = ahead - solve @ (rows.T @ errors + penalties * ahead)
            next_pace = (1 + np.sqrt(1 + 4 * pace**2)) / 2
            change = new - weights
            ahead = new + (pace - 1) / next_pace * change
            weights, pace = new, next_pace
            if np.abs(change).max() < _LEAST_CHANGE:
                break
        return cls(weights)

    def probabilities(self, x: Floats) -> Floats:
        """Returns the probabilities of samples, `(N, K)`."""
        return softmax(_with_bias(x) @ self.weights)


def _with_bias(x: Floats) -> Floats:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def softmax(logits: Floats) -> Floats:
    """Returns probabilities, `(N, K)`.

    Example:

    >>> softmax(np.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@dataclass(frozen=True)
class CrossValidation:
    """What models say of the labelled samples of groups they have not seen.

    Args:
        probabilities: float array of shape `(M, K)`.
        judged: bool array of shape `(M,)`. Which samples are judged: not those
            of a class that the others do not show.
        penalty: float. The penalty with the least log loss.
        skill: float. How much of what guessing the commonest class gets wrong
            they get right: 0 is no better, 1 is perfect.
    """

    probabilities: Floats
    judged: NDArray[np.bool_]
    penalty: float
    skill: float


def cross_validated(
    x: Floats,
    labels: Ints,
    num_classes: int,
    groups: Sequence[str],
    *,
    seed: int = 0,
) -> CrossValidation:
    """Cross-validates classifiers by group, and chooses their penalty.

    The penalty is what calibrates the probabilities: where features say little
    of the classes, a large one wins, and probabilities stay near the middle.

    Args:
        x: float array of shape `(M, C)`.
        labels: int array of shape `(M,)`.
        num_classes: int. Classes, K.
        groups: Sequence of str. The group of each sample.
        seed: int. Of the folds.
    """
    folds = _folds(labels, groups, seed)
    judged = np.zeros(len(labels), bool)
    for fold in set(folds):
        mine = folds == fold
        judged[mine] = np.isin(labels[mine], labels[~mine])
        if len(set(labels[~mine])) < 2:
            judged[mine] = False
    found: list[tuple[float, float, Floats]] = []
    for penalty in _PENALTIES:
        rows = _out_of_fold(x, labels, num_classes, folds, penalty)
        truth = rows[judged, labels[judged]]
        loss = -np.log(np.maximum(truth, _LEAST_PROBABILITY)).sum()
        away = np.log(penalty / _USUAL_PENALTY) / _PENALTY_SPREAD
        found.append((float(loss + away**2 / 2), penalty, rows))
    _, penalty, rows = min(found, key=lambda item: item[:2])
    skill = _skill(rows[judged].argmax(1), labels[judged])
    return CrossValidation(rows, judged, penalty, skill)


def _skill(found: Ints, labels: Ints) -> float:
    if not len(labels):
        return 0.0
    common = np.bincount(labels).max() / len(labels)
    if common == 1:
        return 0.0
    right = float((found == labels).mean())
    return float(max(0.0, (right - common) / (1 - common)))


def _folds(labels: Ints, groups: Sequence[str], seed: int) -> Ints:
    """Returns the fold of each sample; groups stay whole."""
    number = min(_NUM_FOLDS, len(set(groups)))
    names = ["train", *map(str, range(1, number))]
    shares = {name: 1 / number for name in names[1:]}
    classes = [str(label) for label in labels]
    chosen = split_groups(list(groups), classes, shares, seed=seed)
    return np.array([names.index(name) for name in chosen])


def _out_of_fold(
    x: Floats, labels: Ints, num_classes: int, folds: Ints, penalty: float
) -> Floats:
    """Returns the probabilities of each fold by a model of the others."""
    rows = np.full((len(x), num_classes), 1 / num_classes)
    for fold in set(folds):
        mine = folds == fold
        if mine.all():
            continue
        model = LinearClassifier.fit(
            x[~mine], labels[~mine], num_classes, penalty
        )
        rows[mine] = model.probabilities(x[mine])
    return rows
