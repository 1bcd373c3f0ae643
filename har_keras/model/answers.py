"""A classifier whose features come with its probabilities, in one pass."""

from typing import Any

import keras
from keras import ops

from har_keras.model.layers import Shape, Tensor


class Answers(keras.Model):
    """Gives what a classifier answers, and the features that it is of.

    Args:
        network: `keras.Model` with a method `answers`, such as a `VideoViT`.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        That of the network.

    Output shape:
        `(batch_size, num_classes + D)`, float32: probabilities, then features.

    Example:

    >>> from har_keras.model.vit import VideoViT
    >>> network = VideoViT(num_classes=3, num_frames=4, crop_size=32, seed=0)
    >>> clips = ops.zeros((2, 4, 32, 32, 3), "uint8")
    >>> tuple(Answers(network)(clips).shape)
    (2, 51)
    """

    def __init__(self, network: Any, **kwargs: Any) -> None:
        # Of its type: else what is float16 would be read as float32.
        super().__init__(dtype=network.dtype_policy, **kwargs)
        self.network = network

    def build(self, input_shape: Shape | None = None) -> None:
        self.built = True

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return ops.concatenate(self.network.answers(clips), axis=-1)
