"""Embedding layers: tubelets, class token and positions.

Shape letters: B batch, T frames, H W pixels, C channels, N tokens, D hidden.
"""

import math
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops

from har_keras.model.initializers import CosineFilters, CosinePositions

# A tensor of the current backend; the three have no common type.
Tensor = Any
Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="har_keras")
class TubeletEmbedding(layers.Layer):
    """Embeds every tubelet of uint8 pixels as one token.

    A tubelet is `tubelet_frames` frames deep and `patch_size` pixels high and
    wide; tubelets don't overlap. The result equals that of a `Conv3D` with
    stride = kernel size, but a reshape and one matrix product are more than
    twice as fast on a CPU. The kernel has the shape of the `Conv3D`'s, so
    weights are interchangeable. Pixels of 0 to 255 are scaled to [-1, 1] inside
    the product, so that only bytes are moved before it. The kernel is
    initialized by `CosineFilters`.

    Args:
        hidden_dim: int. Width of a token, D.
        patch_size: int. Height and width of a tubelet in pixels.
        tubelet_frames: int. Depth of a tubelet in frames.
        seed: int or None. Seed of the weights.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_frames, height, width, channels)`, whole tubelets.

    Output shape:
        `(batch_size, num_tokens, hidden_dim)`, time slowest, then rows.

    Example:

    >>> clips = ops.zeros((2, 4, 32, 48, 3), "uint8")
    >>> tuple(TubeletEmbedding(hidden_dim=8, patch_size=16)(clips).shape)
    (2, 12, 8)

    Reference:
        - [Arnab et al., 2021](https://arxiv.org/abs/2103.15691), section 3.2.
    """

    def __init__(
        self,
        hidden_dim: int,
        patch_size: int = 16,
        tubelet_frames: int = 2,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.patch_size = patch_size
        self.tubelet_frames = tubelet_frames
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        self.grid(input_shape)
        depth, side = self.tubelet_frames, self.patch_size
        self.kernel = self.add_weight(
            name="kernel",
            shape=(depth, side, side, input_shape[-1], self.hidden_dim),
            initializer=CosineFilters(self.seed),
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.hidden_dim,), initializer="zeros"
        )

    def grid(self, input_shape: Shape) -> tuple[int, int, int]:
        """Returns the number of tubelets in time, height and width.

        Raises:
            ValueError: If the clips don't divide into whole tubelets.
        """
        sizes = input_shape[1:4]
        units = (self.tubelet_frames, self.patch_size, self.patch_size)
        if any(n is None or n % k for n, k in zip(sizes, units, strict=True)):
            raise ValueError(
                "Clips must divide into tubelets of "
                f"{units} (frames, height, width). Received: {input_shape=}."
            )
        counts = [int(n or 0) // k for n, k in zip(sizes, units, strict=True)]
        return counts[0], counts[1], counts[2]

    def call(self, clips: Tensor) -> Tensor:
        return self.embed(self.tubelets(clips))

    def tubelets(self, clips: Tensor) -> Tensor:
        """Splits clips into tubelets.

        Args:
            clips: uint8 tensor of shape `(B, T, H, W, C)`.

        Returns:
            uint8 tensor of shape `(B, N, pixels)`; the values of a tubelet
            are ordered by frame, row, column and channel.
        """
        time, rows, columns = self.grid(clips.shape)
        depth, side = self.tubelet_frames, self.patch_size
        channels = clips.shape[-1]
        # Batch and time stay merged: LiteRT can't transpose over 6 axes.
        x = ops.reshape(
            clips, (-1, depth, rows, side, columns, side * channels)
        )
        x = ops.transpose(x, (0, 2, 4, 1, 3, 5))  # (BT/t, H/p, W/p, t, p, pC)
        pixels = depth * side * side * channels
        return ops.reshape(x, (-1, time * rows * columns, pixels))

    def embed(self, tubelets: Tensor) -> Tensor:
        """Returns a token for each tubelet.

        Args:
            tubelets: uint8 tensor of shape `(B, N, pixels)`.

        Returns:
            Tensor of shape `(B, N, D)`.
        """
        x = ops.cast(tubelets, self.compute_dtype)
        pixels = x.shape[-1]
        kernel = ops.reshape(self.kernel, (pixels, self.hidden_dim)) / 127.5
        # (x / 127.5 - 1) K + b = x (K / 127.5) + (b - 127.5 sum(K / 127.5))
        shift = ops.sum(ops.cast(kernel, "float32"), axis=0) * 127.5
        bias = ops.cast(self.bias, "float32") - shift
        return ops.matmul(x, kernel) + ops.cast(bias, self.compute_dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (
            input_shape[0],
            math.prod(self.grid(input_shape)),
            self.hidden_dim,
        )

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "patch_size": self.patch_size,
            "tubelet_frames": self.tubelet_frames,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="har_keras")
class ClassToken(layers.Layer):
    """Prepends a learned class token.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        `(batch_size, num_tokens + 1, hidden_dim)`
    """

    def build(self, input_shape: Shape) -> None:
        self.token = self.add_weight(
            name="class_token", shape=(input_shape[-1],), initializer="zeros"
        )

    def call(self, x: Tensor) -> Tensor:
        first = ops.zeros_like(x[:, :1]) + ops.cast(self.token, x.dtype)
        return ops.concatenate([first, x], axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, tokens, hidden = input_shape
        return batch, tokens if tokens is None else tokens + 1, hidden


@keras.saving.register_keras_serializable(package="har_keras")
class PositionEmbedding(layers.Layer):
    """Adds a position embedding to every token.

    Args:
        kind: `"learned"`, or `"sinusoid"`: fixed sines and cosines of the
            token's index, without weights.
        seed: int or None. Seed of the weights.
        grid: Tubelets in time, height and width, or None. With a grid, learned
            positions are initialized by `CosinePositions`, else by small
            random values.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_tokens, hidden_dim)`

    Output shape:
        As the input.

    Reference:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section
          3.5 (sinusoid).
    """

    def __init__(
        self,
        kind: Literal["learned", "sinusoid"] = "learned",
        seed: int | None = None,
        grid: tuple[int, int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kind = kind
        self.seed = seed
        self.grid = grid

    def build(self, input_shape: Shape) -> None:
        if self.kind == "sinusoid":
            self.positions = sinusoids(
                int(input_shape[1] or 0), width_of(input_shape)
            )
            return
        start = keras.initializers.TruncatedNormal(0, 0.02, self.seed)
        if self.grid is not None:
            start = CosinePositions(self.grid, self.seed)
        self.positions = self.add_weight(
            name="positions", shape=input_shape[1:], initializer=start
        )

    def call(self, x: Tensor) -> Tensor:
        return x + ops.cast(self.positions, x.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "kind": self.kind,
            "seed": self.seed,
            "grid": self.grid,
        }


def sinusoids(num_tokens: int, hidden_dim: int) -> np.ndarray:
    """Returns sinusoidal position embeddings.

    Args:
        num_tokens: int. Tokens, N.
        hidden_dim: int. Width of a token, D.

    Returns:
        `float32` array of shape `(N, D)`, sines at even and cosines at odd
        indices, of wavelengths from 2 pi to 10000 * 2 pi.

    Example:

    >>> (100 * sinusoids(2, 4)).round().astype(int).tolist()
    [[0, 100, 0, 100], [84, 54, 1, 100]]
    """
    places = np.arange(hidden_dim)
    wavelengths = 10000 ** (2 * (places // 2) / hidden_dim)
    angles = np.arange(num_tokens)[:, None] / wavelengths  # (N, D)
    waves = np.where(places % 2, np.cos(angles), np.sin(angles))
    return waves.astype("float32")


def width_of(input_shape: Shape) -> int:
    """Returns the size of the last axis, which must be known."""
    width = input_shape[-1]
    if width is None:
        raise ValueError(
            f"The width of the tokens must be known. Received: {input_shape=}."
        )
    return width


def seed_after(seed: int | None, steps: int = 1) -> int | None:
    """Returns a seed for another part of the same layer."""
    return None if seed is None else seed + steps
