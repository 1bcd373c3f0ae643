"""Runs a model on batches of clips, as fast as the machine can.

On a CPU, TensorFlow spends much of a forward pass on the memory of large
intermediate tensors. In micro-batches that fit in the cache, compiled by XLA, a
clip of 112 pixels takes 0.58 of the processor time of `predict_on_batch`, one
of 64 pixels 0.67, with the same probabilities to 1e-7.
"""

import sys
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from har_keras.inference.distance import Measured, keras_model_of
from har_keras.serving.acceptance import joined

BATCH_SIZE = 24
"""Clips given to a model at once. Constant, the last batch filled up, so that
a model is compiled once and a video's figures don't depend on its company."""

Forward = Callable[[np.ndarray], np.ndarray]

NO_NUMBER = (
    "The model predicts a probability that is not a number: its training "
    "diverged. Train again with a lower --learning-rate."
)
# Clips in a micro-batch, of 2, 4 and 8 the fastest.
_MICRO_BATCH = 4
# Compiling takes 1 to 2 seconds, which as many clips repay.
_MANY_CLIPS = 500

_compiled: "weakref.WeakKeyDictionary[Any, Forward]" = (
    weakref.WeakKeyDictionary()
)


def forward_of(model: Any, num_clips: float = 0) -> Forward:
    """Returns the function that classifies a batch of clips.

    Args:
        model: `keras.Model`, or another object with `predict_on_batch`.
        num_clips: float. How many clips there will be. For many the model is
            compiled, once. Defaults to `0`: nobody knows.

    Returns:
        Callable from `BATCH_SIZE` clips, `uint8` of shape `(B, T, H, W, 3)`, to
        probabilities `(B, K)`.
    """
    network = keras_model_of(model)
    if _is_compiled(network, network, num_clips):
        return _compiled[network]
    return lambda clips: np.asarray(network.predict_on_batch(clips))


def features_of(model: Measured, num_clips: float = 0) -> Forward:
    """Returns the function from a batch to probabilities and features.

    Args:
        model: Measured. With or without a reference.
        num_clips: float. As for `forward_of`.

    Returns:
        Callable to a `float32` array of shape `(B, K + D)`.
    """
    if _is_compiled(model.wrapped, model.network, num_clips):
        return _compiled[model.network]
    return model.features_on_batch


def answers_of(model: Any, num_clips: float = 0) -> Forward:
    """Returns the function from a batch to probabilities and distances.

    Args:
        model: `keras.Model`, `Measured`, or another object with
            `predict_on_batch`.
        num_clips: float. As for `forward_of`.

    Returns:
        Callable to an array of shape `(B, K + 1)`, as of `answer_on_batch`.
    """
    if isinstance(model, Measured):
        forward = features_of(model, num_clips)
        return lambda clips: model.measured(forward(clips))
    if hasattr(model, "answer_on_batch"):  # what was exported
        return model.answer_on_batch
    forward = forward_of(model, num_clips)
    return lambda clips: joined(forward(clips))


def _is_compiled(model: Any, network: Any, num_clips: float) -> bool:
    """Returns whether a network is in the table, compiled if that repays.

    Args:
        model: Any. The model of a run, or what was exported.
        network: Any. What is run of it.
        num_clips: float. How many clips there will be.
    """
    # What was exported is run without Keras, which takes seconds to import.
    vit = sys.modules.get("har_keras.model.vit")
    if not vit or not isinstance(model, vit.VideoViT):
        return False
    many = num_clips >= _MANY_CLIPS and _runs_on_cpu_of_tensorflow()
    if many and network not in _compiled:
        _compiled[network] = _by_micro_batches(network)
    return network in _compiled


def _runs_on_cpu_of_tensorflow() -> bool:
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not tf.config.list_physical_devices("GPU")


def _by_micro_batches(model: Any) -> Forward:
    import tensorflow as tf

    # Or the table would keep the model that it is to forget.
    weak: Any = weakref.ref(model)

    @tf.function(jit_compile=True, autograph=False)
    def half(clips: Any) -> Any:
        shape = clips.shape
        parts = tf.reshape(clips, (-1, _MICRO_BATCH, *shape[1:]))
        rows = tf.map_fn(
            lambda part: weak()(part, training=False),
            parts,
            fn_output_signature="float32",
        )
        return tf.reshape(rows, (shape[0], -1))

    @tf.function(autograph=False)
    def compiled(clips: Any) -> Any:
        # At the same time, as in training: one computes where the other waits.
        return tf.concat([half(some) for some in tf.split(clips, 2)], 0)

    return lambda clips: compiled(tf.constant(clips)).numpy()
