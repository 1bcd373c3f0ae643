"""Tokens from HOG3D features (histograms of 3-D gradients).

Shape letters: B batch, T frames, H W pixels, N tokens, D hidden.
"""

import itertools
import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from har_keras.model.layers import Shape, Tensor, TubeletEmbedding

# Projection of a gradient on a bin's direction, relative to its length, above
# which it is counted in the bin, so that it is counted in few bins.
_THRESHOLD = 0.5
_TINY = 1e-4


@keras.saving.register_keras_serializable(package="har_keras")
class GradientEmbedding(TubeletEmbedding):
    """Embeds every tubelet as one token computed from HOG3D features.

    Gradients of the brightness along columns, rows and time are collected in
    a histogram of twelve directions, the corners of an icosahedron, for each
    cell of `cell_size` pixels in each frame of a tubelet. A static edge and
    the same edge in motion fall into different bins. A layer norm and a dense
    layer map the histograms to a token. The features have no weights and do
    not depend on color or absolute brightness, so that a model trained on few
    videos can't memorize them by these.

    Args:
        hidden_dim: int. Width of a token, D.
        patch_size: int. Height and width of a tubelet in pixels.
        tubelet_frames: int. Depth of a tubelet in frames.
        seed: int or None. Seed of the weights.
        cell_size: int. Height and width of a cell in pixels; divides
            `patch_size`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, num_frames, height, width, channels)`, whole tubelets.

    Output shape:
        `(batch_size, num_tokens, hidden_dim)`, time slowest, then rows.

    Example:

    >>> clips = ops.zeros((2, 4, 32, 48, 3), "uint8")
    >>> tuple(GradientEmbedding(hidden_dim=8, patch_size=16)(clips).shape)
    (2, 12, 8)

    Reference:
        - [Klaser et al., 2008](https://doi.org/10.5244/C.22.99), section 2
          (HOG3D).
    """

    def __init__(
        self,
        hidden_dim: int,
        patch_size: int = 16,
        tubelet_frames: int = 2,
        seed: int | None = None,
        cell_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, patch_size, tubelet_frames, seed, **kwargs)
        if patch_size % cell_size:
            raise ValueError(
                "`cell_size` must divide `patch_size`. Received: "
                f"{cell_size=}, {patch_size=}."
            )
        self.cell_size = cell_size

    @property
    def num_counts(self) -> int:
        """Features of a tubelet: directions by cells by frames."""
        cells = (self.patch_size // self.cell_size) ** 2
        return len(directions()) * cells * self.tubelet_frames

    def build(self, input_shape: Shape) -> None:
        self.grid(input_shape)
        self.norm = layers.LayerNormalization(
            epsilon=1e-6, name="count_norm", dtype=self.dtype_policy
        )
        self.norm.build((None, None, self.num_counts))
        self.dense = layers.Dense(
            self.hidden_dim,
            kernel_initializer=keras.initializers.LecunNormal(self.seed),
            name="dense",
            dtype=self.dtype_policy,
        )
        self.dense.build((None, None, self.num_counts))

    def call(self, clips: Tensor) -> Tensor:
        return self.dense(self.norm(self.counts(clips)))

    def counts(self, clips: Tensor) -> Tensor:
        """Computes HOG3D features.

        Args:
            clips: uint8 tensor of shape `(B, T, H, W, C)`.

        Returns:
            float32 tensor of shape `(B, N, num_counts)`: square roots of the
            mean gradient magnitude, by frame, row of cells, column of cells
            and direction.
        """
        frames, height, width = clips.shape[1:4]
        slopes = gradients(ops.mean(ops.cast(clips, "float32"), axis=-1) / 255)
        length = ops.sqrt(ops.sum(ops.square(slopes), 0, keepdims=True) + 1e-8)
        slopes = ops.reshape(ops.concatenate([slopes, length]), (4, -1))
        bins = _over_threshold()
        x = ops.relu(ops.matmul(bins, slopes))
        # One direction after the other, rows before columns: less than half
        # of the time of pooling pixels whose directions are side by side.
        size = self.cell_size
        rows, columns = height // size, width // size
        x = ops.mean(ops.reshape(x, (-1, size, width)), axis=1)
        x = ops.reshape(x, (len(bins), -1, rows, columns, size))
        x = ops.sqrt(ops.mean(x, axis=-1) + _TINY)
        x = ops.transpose(x, (1, 2, 3, 0))
        return self._by_tubelet(x, self.grid(clips.shape), frames)

    def _by_tubelet(
        self, x: Tensor, grid: tuple[int, int, int], frames: int
    ) -> Tensor:
        """Reshapes `(BT, rows, columns, bins)` to `(B, N, num_counts)`."""
        _, rows, columns = grid
        cells = self.patch_size // self.cell_size
        bins = x.shape[-1]
        # Batch and time stay merged: LiteRT can't transpose over 6 axes.
        x = ops.reshape(
            x, (-1, self.tubelet_frames, rows, cells, columns, cells * bins)
        )
        x = ops.transpose(x, (0, 2, 4, 1, 3, 5))
        return ops.reshape(x, (-1, math.prod(grid), self.num_counts))

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"cell_size": self.cell_size}


def gradients(x: Tensor) -> Tensor:
    """Returns the gradient of a clip along columns, rows and time.

    Central differences, and zero at the borders.

    Args:
        x: float32 tensor of shape `(B, T, H, W)`.

    Returns:
        float32 tensor of shape `(3, B, T, H, W)`.
    """
    slopes = []
    for axis in (3, 2, 1):
        if x.shape[axis] < 3:
            slopes.append(ops.zeros_like(x))
            continue
        # Slices are faster than `take` on every backend.
        low, high = ([slice(None)] * 4 for _ in range(2))
        low[axis], high[axis] = slice(None, -2), slice(2, None)
        padding = [(0, 0)] * 4
        padding[axis] = (1, 1)
        change = (x[tuple(high)] - x[tuple(low)]) / 2
        slopes.append(ops.pad(change, padding))
    return ops.stack(slopes)


def _over_threshold() -> np.ndarray:
    """Returns what maps a gradient and its length to 12 magnitudes."""
    bins = directions()
    threshold = np.full((len(bins), 1), -_THRESHOLD, "float32")
    return np.concatenate([bins, threshold], axis=1)


def directions() -> np.ndarray:
    """Returns the directions of the bins: the corners of an icosahedron.

    Returns:
        float32 array of shape `(12, 3)`: unit vectors of columns, rows and
        time.

    Example:

    >>> directions().shape, float((directions() ** 2).sum(1).max().round(3))
    ((12, 3), 1.0)
    """
    golden = (1 + math.sqrt(5)) / 2
    corners = [
        np.roll([0.0, one, two * golden], shift)
        for one, two in itertools.product((-1, 1), repeat=2)
        for shift in range(3)
    ]
    return (np.array(corners) / math.hypot(1, golden)).astype("float32")
