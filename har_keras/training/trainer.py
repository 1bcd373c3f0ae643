"""The Keras model that `fit` trains: loss, metrics and micro-batches."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from har_keras.config import TrainingConfig
from har_keras.model.layers import Shape, Tensor
from har_keras.training.gradient_accumulation import TRAIN_STEPS, first_of
from har_keras.training.optimizer import Factor, build_optimizer

# Tokens whose activations fit a CPU's cache: micro-batches of 2 clips of 392
# tokens (112 pixels) or 1 of 1568 (224 pixels) were fastest; TensorFlow
# computes two at the same time, of fewer tokens. PyTorch's fused attention
# stores no scores, and its overhead per call is higher.
TOKENS_AT_ONCE = {"tensorflow": 512, "jax": 784, "torch": 6272}


@keras.saving.register_keras_serializable(package="har_keras")
class Trainer(keras.Model):
    """Trains a classifier of clips on its logits.

    This Keras model shares the classifier's weights but outputs logits, so
    that `fit` and `evaluate` compute the loss without rounding, while the
    classifier itself outputs probabilities. `save` saves the classifier alone.

    The gradient of a batch is accumulated over micro-batches that fit the
    cache. It equals the whole batch's up to float rounding, also for the last
    batch of an epoch and unequal replicas of a `tf.distribute` strategy, if
    clips are independent: a model with batch normalization must be trained on
    whole batches.

    Args:
        classifier: keras.Model with `logits(clips, training)`.
        micro_batch_size: int or None. Clips in a micro-batch; `None` is the
            whole batch.
        whole: keras.Model or None. What `save` saves, where the classifier is
            only the part that is trained. Its other weights are no state of
            the training. Defaults to the classifier.
        **kwargs: Arguments of `keras.Model`.
    """

    jit_compile: bool

    def __init__(
        self,
        classifier: keras.Model,
        micro_batch_size: int | None = None,
        whole: keras.Model | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(
                "`micro_batch_size` must be at least 1, or None for the whole "
                f"batch. Received: {micro_batch_size=}."
            )
        self.classifier = classifier
        self.micro_batch_size = micro_batch_size
        # Behind a function, since Keras would track it as a part of this one.
        self._whole: Callable[[], Any] = lambda: whole or classifier

    def build(self, input_shape: Shape) -> None:
        if not self.classifier.built:
            self.classifier.build(input_shape)

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return self.classifier.logits(clips, training=training)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.classifier.compute_output_shape(input_shape)

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Saves the classifier, without this wrapper and the optimizer."""
        self._whole().save(filepath, *args, **kwargs)

    def train_step(self, *args: Any) -> Any:
        """Updates the weights for one batch; `fit` calls it.

        Args:
            *args: The batch; under JAX, the state and the batch.

        Returns:
            The metrics so far, by name; under JAX, with the new state.
        """
        return TRAIN_STEPS[keras.config.backend()](self, *args)

    @property
    def runs_in_halves(self) -> bool:
        """Whether the step compiles the halves of a batch, and not itself."""
        return bool(
            keras.config.backend() == "tensorflow"
            and self.jit_compile
            and self.micro_batch_size
            and not _has_accelerator()
        )

    def make_train_function(self, force: bool = False) -> Any:
        # Keras would compile the step as a whole.
        compiled = self.jit_compile
        self.jit_compile = compiled and not self.runs_in_halves
        function = super().make_train_function(force)
        self.jit_compile = compiled
        return function

    def update_metrics(
        self, loss: Tensor, clips: Tensor, labels: Tensor, logits: Tensor,
        weights: Tensor | None,
    ) -> dict[str, Any]:  # fmt: skip
        """Updates the metrics with a batch and returns them by name."""
        tracker = next(item for item in self.metrics if item.name == "loss")
        tracker.update_state(loss, sample_weight=ops.shape(first_of(clips))[0])
        return self.compute_metrics(clips, labels, logits, weights)


def build_trainer(
    classifier: keras.Model,
    training: TrainingConfig,
    steps_per_epoch: int,
    *,
    loss: Callable[..., Tensor] | None = None,
    metrics: Sequence[keras.Metric] | None = None,
    whole: keras.Model | None = None,
    factor: Factor | None = None,
) -> Trainer:
    """Returns a trainer that is ready for `fit`.

    XLA is enabled wherever it works: by default Keras does not use it without
    a GPU, and TensorFlow does not support it here with several replicas.

    Args:
        classifier: keras.Model with `logits(clips, training)` and
            `num_tokens`.
        training: TrainingConfig. Optimizer, smoothing, micro-batches.
        steps_per_epoch: int. Batches in one epoch, at least 1.
        loss: Callable or None. Defaults to the cross-entropy.
        metrics: Sequence of keras.Metric or None. Defaults to `accuracy`.
        whole: keras.Model or None. As for `Trainer`.
        factor: Callable or None. As for `build_optimizer`.

    Returns:
        A compiled `Trainer`.
    """
    mixed = has_mixed_labels(training)
    if metrics is None:
        metrics = [build_accuracy(mixed=mixed)]
    size = micro_batch_size(
        training.micro_batch_size,
        num_tokens=classifier.num_tokens,
        # Features are small, and the loss of the linear layer's weights would
        # be counted in each micro-batch.
        accelerated=_has_accelerator() or whole not in (None, classifier),
    )
    trainer = Trainer(classifier, size, whole)
    trainer.compile(
        optimizer=build_optimizer(training, steps_per_epoch, factor),
        loss=loss or build_loss(training.label_smoothing, mixed=mixed),
        metrics=metrics,
        jit_compile=_can_jit() and not _is_slow_by_xla(classifier),
    )
    return trainer


def micro_batch_size(
    requested: int, *, num_tokens: int, accelerated: bool
) -> int | None:
    """Returns the number of clips in a micro-batch.

    Args:
        requested: int. The option: a number of clips, `0` for automatic, or
            `-1` for the whole batch.
        num_tokens: int. Tokens of a clip.
        accelerated: bool. Whether a GPU or TPU is used, which is fastest on
            whole batches.

    Returns:
        A number of clips, or None for the whole batch.

    Example:

    >>> micro_batch_size(8, num_tokens=392, accelerated=False)
    8
    >>> micro_batch_size(0, num_tokens=392, accelerated=True) is None
    True
    """
    if requested > 0:
        return requested
    if requested == -1 or accelerated:
        return None
    return max(1, TOKENS_AT_ONCE[keras.config.backend()] // num_tokens)


def _has_accelerator() -> bool:
    """Returns whether the backend uses a GPU or TPU."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return any(
            device.device_type != "CPU"
            for device in tf.config.list_physical_devices()
        )
    if backend == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def _can_jit() -> bool:
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.distribute.get_strategy().num_replicas_in_sync == 1)
    return bool(backend == "jax")


def _is_slow_by_xla(classifier: keras.Model) -> bool:
    """On a CPU XLA makes depthwise networks ten times slower."""
    return hasattr(classifier, "backbone") and not _has_accelerator()


def build_loss(
    label_smoothing: float = 0.0, *, mixed: bool = False
) -> Callable[..., Tensor]:
    """Returns the cross-entropy between labels and logits.

    Args:
        label_smoothing: float. Share of each target that is spread evenly
            over all classes, in [0, 1).
        mixed: bool. Whether labels may be soft targets. Defaults to `False`.

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
            soft_targets(labels, logits),
            logits,
            from_logits=True,
            label_smoothing=label_smoothing,
        )

    return smoothed_crossentropy


def build_accuracy(*, mixed: bool = False) -> keras.Metric:
    """Returns the metric `accuracy` of clips.

    Args:
        mixed: bool. Whether labels may be soft targets, of which the largest
            is then the true class. Defaults to `False`.
    """
    if not mixed:
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def right(labels: Tensor, logits: Tensor) -> Tensor:
        return keras.metrics.categorical_accuracy(
            soft_targets(labels, logits), logits
        )

    return keras.metrics.MeanMetricWrapper(right, name="accuracy")


def has_mixed_labels(training: TrainingConfig) -> bool:
    """Returns whether training mixes clips and their labels.

    Example:

    >>> has_mixed_labels(TrainingConfig(mixup=0.8))
    True
    """
    return bool(training.mixup or training.cutmix)


def soft_targets(labels: Tensor, logits: Tensor) -> Tensor:
    """Returns labels of either kind as soft targets, `(B, K)`."""
    if len(labels.shape) == 2 and labels.shape[-1] == logits.shape[-1]:
        return ops.cast(labels, logits.dtype)
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
    return ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
