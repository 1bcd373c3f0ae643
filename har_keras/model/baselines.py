"""Other networks behind the same command, to compare with."""

import math
from typing import Any

import keras
from keras import layers, ops

from har_keras.errors import EnvironmentFault, UsageError
from har_keras.model.layers import Shape, Tensor
from har_keras.model.vit import VideoViT


@keras.saving.register_keras_serializable(package="har_keras")
class FrameViT(keras.Model):
    """The transformer on each frame by itself, their logits averaged.

    It can't know in which order frames come: what the `VideoViT` gains over
    it is what motion tells.

    Args:
        num_classes: int. Classes, K.
        num_frames: int. Frames in a clip, T.
        crop_size: int. Height and width of a clip in pixels.
        tubelet_frames: int. One frame of so many is read, so that the number
            of tokens is the `VideoViT`'s.
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
        """Tokens of a clip."""
        return self.frame_model.num_tokens * (
            self.num_frames // self.tubelet_frames
        )

    def build(self, input_shape: Shape | None = None) -> None:
        self.frame_model.build()
        self.built = True

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return ops.softmax(self.logits(clips, training=training))

    def logits(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns the mean over frames of their logits, `(B, K)`."""
        frames = clips[:, :: self.tubelet_frames]
        num_frames = frames.shape[1]
        frames = ops.reshape(frames, (-1, 1, *frames.shape[2:]))
        logits = self.frame_model.logits(frames, training=training)
        return ops.mean(
            ops.reshape(logits, (-1, num_frames, logits.shape[-1])), axis=1
        )

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

    A convolution in space, then one in time, four times over, each halving
    the pictures. Norms are over groups of channels of a single clip, so that
    micro-batches train as the whole batch does.

    Args:
        num_classes: int. Classes, K.
        num_frames: int. Frames in a clip, T.
        crop_size: int. Height and width of a clip in pixels.
        width: int. Channels of the first block; each further one has twice as
            many.
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
        """Work of a clip in tokens of the default transformer."""
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
        """Returns what the softmax is taken of, `(B, K)`."""
        x = ops.cast(clips, self.compute_dtype) / 127.5 - 1
        for layer in self.stages:
            x = layer(x)
        return self.head(ops.mean(x, axis=(1, 2, 3)))

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


@keras.saving.register_keras_serializable(package="har_keras")
class VideoSwin(keras.Model):
    """keras-cv's Video Swin Transformer, tiny, behind the same door.

    Args:
        num_classes: int. Classes, K.
        num_frames: int. Frames in a clip, T.
        crop_size: int. Height and width of a clip in pixels, a multiple of
            224: keras-cv's windows of 7 fit no other.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        `(batch_size, num_frames, crop_size, crop_size, 3)`, uint8 RGB.

    Output shape:
        `(batch_size, num_classes)`, probabilities.

    Raises:
        EnvironmentFault: If keras-cv is not installed.
        UsageError: If the windows don't fit.

    Reference:
        - [Liu et al., 2021](https://arxiv.org/abs/2106.13230), section 3.3.
    """

    def __init__(
        self,
        num_classes: int,
        num_frames: int = 16,
        crop_size: int = 224,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if crop_size % 224:
            raise UsageError(
                "--model videoswin-tiny needs --crop-size 224 or a multiple "
                f"of it. Received: {crop_size}."
            )
        self.num_classes = num_classes
        self.num_frames = num_frames
        self.crop_size = crop_size
        shape = (num_frames, crop_size, crop_size, 3)
        self.backbone = _keras_cv().models.VideoSwinBackbone(
            include_rescaling=True,
            input_shape=shape,
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=[8, 7, 7],
            patch_size=[2, 4, 4],
            dtype=self.dtype_policy,
        )
        self.head = layers.Dense(num_classes, name="head", dtype="float32")

    @property
    def num_tokens(self) -> int:
        """Tokens of a clip in the first stage."""
        return self.num_frames // 2 * (self.crop_size // 4) ** 2

    def build(self, input_shape: Shape | None = None) -> None:
        self.head.build((None, self.backbone.output_shape[-1]))
        self.built = True

    def call(self, clips: Tensor, training: bool | None = None) -> Tensor:
        return ops.softmax(self.logits(clips, training=training))

    def logits(self, clips: Tensor, training: bool | None = None) -> Tensor:
        """Returns what the softmax is taken of, `(B, K)`."""
        x = ops.cast(clips, self.compute_dtype)
        x = self.backbone(x, training=training)
        return self.head(ops.mean(x, axis=(1, 2, 3)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], self.num_classes

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "num_classes": self.num_classes,
            "num_frames": self.num_frames,
            "crop_size": self.crop_size,
        }


def _keras_cv() -> Any:
    try:
        import keras_cv
    except ImportError as error:
        raise EnvironmentFault(
            "--model videoswin-tiny needs keras-cv. Install it with: pip "
            'install "har_keras[cv]".'
        ) from error
    return keras_cv
