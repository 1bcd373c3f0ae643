"""A model for long videos, compiled by XLA once that pays."""

from typing import Any

import numpy as np

# Compiling takes about as long as XLA then saves on twenty batches.
_BATCHES_BEFORE = 12


class CompiledLater:
    """Gives a model's answers, and after some batches gives them faster.

    Only for Keras models under TensorFlow, which doesn't compile on a
    processor by itself; whatever else there is answers as it is. Answers may
    differ in the last digits from those before.

    Args:
        model: Any with a `predict_on_batch`.
        batches_before: int. Batches that are answered first.
    """

    def __init__(
        self, model: Any, batches_before: int = _BATCHES_BEFORE
    ) -> None:
        self._answer = model.predict_on_batch
        self._left = batches_before if _can_compile(model) else -1
        self._model = model

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips."""
        if self._left == 0:
            self._answer = _compiled(self._model)
        self._left -= 1
        return np.asarray(self._answer(clips))


def _can_compile(model: Any) -> bool:
    import keras

    return (
        isinstance(model, keras.Model)
        and keras.config.backend() == "tensorflow"
    )


def _compiled(model: Any) -> Any:
    import tensorflow as tf

    return tf.function(lambda clips: model(clips), jit_compile=True)
