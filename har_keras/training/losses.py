"""What a training makes smaller and what it counts, for labels of two kinds.

A label is a class, or with MixUp and CutMix a share of each class. Both occur
in one training, for nothing is mixed in validation; which it is, shows in the
label's shape.
"""

from collections.abc import Callable

import keras
from keras import ops

from har_keras.config import TrainingConfig
from har_keras.model.layers import Tensor


def build_loss(
    label_smoothing: float = 0.0, *, mixed: bool = False
) -> Callable[..., Tensor]:
    """Returns the cross-entropy between labels and logits.

    Args:
        label_smoothing: float. Share of each target that is spread evenly
            over all classes, in [0, 1).
        mixed: bool. Whether labels may be shares of classes. Defaults to
            `False`.

    Returns:
        A loss of `(labels, logits)`, int of shape `(B,)` and float of shape
        `(B, K)`; if mixed, the labels may be float of shape `(B, K)`.

    Reference:
        - [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567), section 7.
        - [Zhang et al., 2017](https://arxiv.org/abs/1710.09412), section 2.
    """
    if label_smoothing == 0 and not mixed:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed_crossentropy(labels: Tensor, logits: Tensor) -> Tensor:
        return keras.losses.categorical_crossentropy(
            shares_of_classes(labels, logits),
            logits,
            from_logits=True,
            label_smoothing=label_smoothing,
        )

    return smoothed_crossentropy


def build_accuracy(*, mixed: bool = False) -> keras.Metric:
    """Returns the metric `accuracy`: the share of clips that are right.

    Args:
        mixed: bool. Whether labels may be shares of classes; right is then
            the class with the largest. Defaults to `False`.
    """
    if not mixed:
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def right(labels: Tensor, logits: Tensor) -> Tensor:
        return keras.metrics.categorical_accuracy(
            shares_of_classes(labels, logits), logits
        )

    return keras.metrics.MeanMetricWrapper(right, name="accuracy")


def has_mixed_labels(training: TrainingConfig) -> bool:
    """Tells whether a training mixes clips and so their labels.

    Example:

    >>> has_mixed_labels(TrainingConfig(mixup=0.8))
    True
    """
    return bool(training.mixup or training.cutmix)


def shares_of_classes(labels: Tensor, logits: Tensor) -> Tensor:
    """Returns labels of either kind as shares, `(B, K)` like the logits."""
    if len(labels.shape) == 2 and labels.shape[-1] == logits.shape[-1]:
        return ops.cast(labels, logits.dtype)
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
    return ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
