"""Baseline networks (`--model frame-vit` and `--model cnn3d`)."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from har_keras.model.layers import Shape, Tensor
from har_keras.model.vit import VideoViT


@keras.saving.register_keras_serializable(package="har_keras")
class FrameViT(keras.Model):
    """A Vision Transformer on single frames, with averaged logits.

    It does not see the order of frames: the accuracy that a `VideoViT` gains
    over it comes from motion.

    Args:
        num_classes: int. Classes, K.
        num_frames: int. Frames in a clip, T.
        crop_size: int. Height and width of a clip in pixels.
        tubelet_frames: int. Stride between the frames that are used, so that
            the number of tokens equals the `VideoViT`'s.
        seed: int or None. Seed of the weights.
        dtype: Dtype policy of the layers.
        name: str or None. Name of the model.
        **options: Other arguments of `VideoViT`.

    Input shape:
        `(batch_size, num_frames, crop_size, crop_size, 3)`, uint8 RGB.

    Output shape:
        `(batch_size, num_classes)`, probabilities.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        crop_size: int = 112,
        tubelet_frames: int = 2,
        seed: int | None = None,
        dtype: Any = None,
        name: str | None = None,
        trainable: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(dtype=dtype, name=name, trainable=trainable)
        self.num_frames = num_frames
        self.crop_size = crop_size
        self.tubelet_frames = tubelet_frames
        self.options = {
            "num_classes": num_classes,
            "crop_size": crop_size,
            "seed": seed,
            **options,
        }
        self.frame_model = VideoViT(
            num_frames=1,
            tubelet_frames=1,
            dtype=self.dtype_policy,
            name="frame",
            **self.options,
        )

    @property
    def num_tokens(self) -> int:
        """Number of tokens of a clip."""
        return self.frame_model.num_tokens * (
            self.num_frames // self.tubelet_frames
        )

    def build(self, input_shape: Shape | None = None) -> None:
        self.frame_model.build()
        self.built = True

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return ops.softmax(self.logits(clips, training=training))

    def logits(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns the logits averaged over frames, `(B, K)`."""
        frames, over_frames = self._frames(clips)
        return over_frames(self.frame_model.logits(frames, training=training))

    def answers(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Returns probabilities `(B, K)`, and features of the same pass."""
        frames, over_frames = self._frames(clips)
        features = self.frame_model.features(frames, training=False)
        logits = self.frame_model.head(features)
        return (
            ops.softmax(over_frames(logits)),
            over_frames(ops.cast(features, "float32")),
        )

    def _frames(
        self, clips: Tensor
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Returns the frames, and what averages over those of a clip."""
        frames = clips[:, :: self.tubelet_frames]
        num_frames = frames.shape[1]

        def over_frames(x: Tensor) -> Tensor:
            rows = ops.reshape(x, (-1, num_frames, x.shape[-1]))
            return ops.mean(rows, axis=1)

        return ops.reshape(frames, (-1, 1, *frames.shape[2:])), over_frames

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], self.options["num_classes"]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_frames": self.num_frames,
            "tubelet_frames": self.tubelet_frames,
            **self.options,
        }


@keras.saving.register_keras_serializable(package="har_keras")
class CNN3D(keras.Model):
    """A small 3D convolutional network of (2 + 1)D blocks.

    Four blocks of a convolution in space and one in time, each halving height
    and width. Group normalization is computed per clip, so that micro-batches
    give the same gradient as the whole batch.

    Args:
        num_classes: int. Classes, K.
        num_frames: int. Frames in a clip, T.
        crop_size: int. Height and width of a clip in pixels.
        width: int. Channels of the first block, doubled in each further one.
        seed: int or None. Seed of the weights.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        `(batch_size, num_frames, crop_size, crop_size, 3)`, uint8 RGB.

    Output shape:
        `(batch_size, num_classes)`, probabilities.

    Reference:
        - [Tran et al., 2018](https://arxiv.org/abs/1711.11248), section 3.4.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        crop_size: int = 112,
        width: int = 16,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.num_frames = num_frames
        self.crop_size = crop_size
        self.width = width
        self.seed = seed

        # === Layers ===
        # Kernel and stride of space, then of time, by block.
        self.stages: list[layers.Layer] = []
        for i in range(4):
            space = 7 if i == 0 else 3
            stride = 1 if i == 0 else 2
            self._add_stage(i, "space", (1, space, space), (1, 2, 2))
            self._add_stage(i, "time", (3, 1, 1), (stride, 1, 1))
        self.head = layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(
                0, 0.02, seed
            ),
            name="head",
            dtype="float32",
        )

    def _add_stage(
        self, block: int, axis: str, kernel: Shape, strides: Shape
    ) -> None:
        number = len(self.stages)
        seed = None if self.seed is None else self.seed * 100 + number
        self.stages += [
            layers.Conv3D(
                self.width * 2**block,
                kernel,
                strides,
                padding="same",
                use_bias=False,
                kernel_initializer=keras.initializers.HeNormal(seed),
                name=f"{axis}_{block}",
                dtype=self.dtype_policy,
            ),
            layers.GroupNormalization(
                8, name=f"{axis}_norm_{block}", dtype=self.dtype_policy
            ),
            layers.ReLU(name=f"{axis}_relu_{block}", dtype=self.dtype_policy),
        ]

    @property
    def num_tokens(self) -> int:
        """Cost of a clip, in tokens of the default transformer."""
        return math.ceil(self.num_frames * self.crop_size**2 / (2 * 16 * 16))

    def build(self, input_shape: Shape | None = None) -> None:
        shape: Shape = (None, self.num_frames, *[self.crop_size] * 2, 3)
        for layer in self.stages:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.head.build((None, shape[-1]))
        self.built = True

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return ops.softmax(self.logits(clips, training=training))

    def logits(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns the logits, `(B, K)`."""
        return self.head(self._features(clips))

    def answers(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Returns probabilities `(B, K)`, and features of the same pass."""
        features = self._features(clips)
        probabilities = ops.softmax(self.head(features))
        return probabilities, ops.cast(features, "float32")

    def _features(self, clips: Tensor) -> Tensor:
        x = ops.cast(clips, self.compute_dtype) / 127.5 - 1
        for layer in self.stages:
            x = layer(x)
        return ops.mean(x, axis=(1, 2, 3))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], self.num_classes

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_classes": self.num_classes,
            "num_frames": self.num_frames,
            "crop_size": self.crop_size,
            "width": self.width,
            "seed": self.seed,
        }
