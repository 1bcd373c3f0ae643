"""Suggestions for people who label videos.

Everything follows from frozen features and the labels so far: which class is
likely, which sample to label next, and which labels look wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from har_keras.suggestions.doubts import doubtful_labels
from har_keras.suggestions.linear import (
    Components,
    Floats,
    Ints,
    LinearClassifier,
    cross_validated,
)
from har_keras.suggestions.next_samples import most_useful


@dataclass(frozen=True)
class Suggestions:
    """What is suggested for some samples: videos, and labelled parts of them.

    Args:
        likely: list of pairs of str and float, or None. The likely class of
            each sample, with its probability. None where nothing can be said:
            features are missing, or fewer than two classes are labelled.
        label_next: list of int. The samples without a label, those that teach
            most first. Samples without features are not in it.
        look_wrong: list of tuples. Labelled samples that look like another
            class: the sample, that class and its probability; the most
            doubtful first.
    """

    likely: list[tuple[str, float] | None] = field(default_factory=list)
    label_next: list[int] = field(default_factory=list)
    look_wrong: list[tuple[int, str, float]] = field(default_factory=list)


def suggest(
    features: np.ndarray,
    labels: Sequence[str | None],
    groups: Sequence[str],
    *,
    seed: int = 0,
) -> Suggestions:
    """Suggests classes, what to label next, and which labels to look at again.

    A logistic regression on the principal components of the features is
    fitted to the labelled samples. Its penalty is chosen by cross-validation
    by group, which also keeps probabilities honest where the features tell
    little. `most_useful` orders the samples without a label, and
    `doubtful_labels` finds labels that cross-validation contradicts.

    Args:
        features: float array of shape `(N, D)`, as of `sample_features`. A
            row that is not finite is of a sample without features.
        labels: Sequence of str or None. The class of each sample; None or ""
            where it has no label yet.
        groups: Sequence of str. Related samples, such as those of one scene,
            have the same group; "" is one that is not known.
        seed: int. Of the folds.

    Returns:
        `Suggestions`.

    Example:

    >>> features = np.array([[0.0], [0.1], [1.0], [0.9], [np.nan]])
    >>> found = suggest(features, ["a", None, "b", None, None], "1" * 5)
    >>> [likely and likely[0] for likely in found.likely]
    ['a', 'a', 'b', 'b', None]
    >>> sorted(found.label_next)
    [1, 3]
    """
    rows = np.asarray(features, np.float64)
    _require_lengths(rows, labels, groups)
    here = np.flatnonzero(np.isfinite(rows).all(1)).tolist()
    names = sorted({label for label in labels if label})
    likely: list[tuple[str, float] | None] = [None] * len(rows)
    if not len(here):
        return Suggestions(likely)
    x = Components.of(rows[here]).apply(rows[here])
    classes = np.array([_index(names, labels[i]) for i in here])
    known = [groups[i] or f"\0{i}" for i in here]
    (mine,) = np.nonzero(classes >= 0)
    found = judge(x, mine, classes[mine], known, len(names), seed=seed)
    if found.probabilities is not None:
        for i, row in zip(here, found.probabilities, strict=True):
            best = int(row.argmax())
            likely[i] = (names[best], float(row[best]))
    return Suggestions(
        likely,
        [int(here[i]) for i in found.order(x, mine, known)],
        [(int(here[mine[i]]), names[k], p) for i, k, p in found.doubts],
    )


@dataclass(frozen=True)
class Judgement:
    """What a classifier that was fitted to the labels says.

    Args:
        model: LinearClassifier or None. None with less than two classes.
        probabilities: float array of shape `(N, K)` or None. Of all samples.
        skill: float. As of `CrossValidation`.
        doubts: list of tuples. As of `doubtful_labels`.
    """

    model: LinearClassifier | None = None
    probabilities: Floats | None = None
    skill: float = 0.0
    doubts: list[tuple[int, int, float]] = field(default_factory=list)

    def order(self, x: Floats, mine: Ints, groups: Sequence[str]) -> list[int]:
        """Returns the samples without a label, as `most_useful` does."""
        return most_useful(
            x, mine, groups, self.probabilities, skill=self.skill
        )


def judge(
    x: Floats,
    mine: Ints,
    labels: Ints,
    groups: Sequence[str],
    num_classes: int,
    *,
    seed: int = 0,
) -> Judgement:
    """Fits a classifier to the labels, and cross-validates it.

    Args:
        x: float array of shape `(N, C)`. The components of all samples.
        mine: int array of shape `(M,)`. The samples with a label.
        labels: int array of shape `(M,)`. Their labels.
        groups: Sequence of str. The groups of all samples.
        num_classes: int. Classes, K.
        seed: int. Of the folds.
    """
    if len(set(labels.tolist())) < 2:
        return Judgement()
    known = [groups[i] for i in mine]
    tested = cross_validated(x[mine], labels, num_classes, known, seed=seed)
    model = LinearClassifier.fit(x[mine], labels, num_classes, tested.penalty)
    doubts = doubtful_labels(tested.probabilities, labels, tested.judged)
    return Judgement(model, model.probabilities(x), tested.skill, doubts)


def _require_lengths(
    rows: Floats, labels: Sequence[str | None], groups: Sequence[str]
) -> None:
    if rows.ndim != 2 or not len(rows) == len(labels) == len(groups):
        raise ValueError(
            "features must have one row for each label and group. Received: "
            f"features of shape {rows.shape}, {len(labels)} labels and "
            f"{len(groups)} groups."
        )


def _index(names: Sequence[str], label: str | None) -> int:
    """Returns the index of a class; -1 of none."""
    return names.index(label) if label else -1
