"""Initializers: 3-D cosine filters, and low-frequency positions."""

from typing import Any

import keras
import numpy as np
from keras import ops

# Gain of a cosine, per half cycle in a patch; the mean counts as 0.35 of one.
_GAIN, _MEAN = 1 / 3, 0.35
# Assumed ratio of static content to changes between frames in strength.
_TIME_GAIN = 8.0
# Added to the frequency of changes in time and in color when sorting by it.
_TIME_COST, _COLOR_COST = 0.5, 4.0


@keras.saving.register_keras_serializable(package="har_keras")
class CosineFilters(keras.initializers.Initializer):
    """Initializes the kernel of a tubelet embedding with 3-D cosine filters.

    Random filters mostly respond to the mean brightness of a tubelet, since
    neighboring pixels are similar: the tokens have little information on edges
    and motion, and accuracy stays at chance until the filters have adapted.
    Here the filters are the lowest-frequency cosines of the 3-D DCT in rows,
    columns and time. Each is scaled by the inverse of its strength in natural
    video, which falls as one over frequency. A random rotation mixes them.

    Args:
        seed: int or None. Seed of the rotation.

    Example:

    >>> kernel = CosineFilters(seed=0)((2, 16, 16, 3, 48))
    >>> tuple(kernel.shape)
    (2, 16, 16, 3, 48)

    Reference:
        - [Ahmed et al., 1974](https://doi.org/10.1109/T-C.1974.223784), the
          cosine transform.
        - [Field, 1987](https://doi.org/10.1364/JOSAA.4.002379), the amplitude
          spectrum of natural images.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def __call__(
        self, shape: tuple[int, int, int, int, int], dtype: Any = None
    ) -> Any:
        """Returns a kernel.

        Args:
            shape: Frames, rows, columns and channels of a tubelet, and width
                of a token.
            dtype: str or None. Type of the values.
        """
        waves = scaled_waves(*shape[:4], num_waves=shape[4])
        width, num_waves = shape[4], waves.shape[-1]
        # Same scale if there are fewer cosines than values of a token.
        kernel = waves * np.sqrt(width / num_waves)
        kernel = kernel @ rotation(width, self.seed)[:num_waves]
        return ops.convert_to_tensor(kernel, dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


def scaled_waves(
    num_frames: int, height: int, width: int, channels: int, num_waves: int
) -> np.ndarray:
    """Returns the lowest-frequency cosines, scaled up with frequency.

    Returns:
        float64 array of shape `(num_frames, height, width, channels, waves)`
        with `num_waves` cosines, or all if there are fewer.

    Example:

    >>> scaled_waves(2, 2, 2, 1, num_waves=9).shape
    (2, 2, 2, 1, 8)
    """
    cycles = np.indices((num_frames, height, width, channels)).reshape(4, -1)
    space = np.hypot(cycles[1], cycles[2])
    cost = space + _TIME_COST * cycles[0] + _COLOR_COST * (cycles[3] > 0)
    order = np.argsort(cost, kind="stable")[:num_waves]
    times, rows, columns, colors = cycles[:, order]
    gain = _GAIN * np.maximum(space[order], _MEAN)
    gain = gain * np.where(times > 0, _TIME_GAIN, 1.0)
    return np.einsum(
        "n,nt,ny,nx,nc->tyxcn",
        gain,
        cosines(num_frames)[times],
        cosines(height)[rows],
        cosines(width)[columns],
        cosines(channels)[colors],
    )


def rotation(size: int, seed: int | None) -> np.ndarray:
    """Returns a random rotation, an array of shape `(size, size)`."""
    noise = np.random.default_rng(seed).normal(size=(size, size))
    return np.linalg.qr(noise)[0]


def cosines(size: int) -> np.ndarray:
    """Returns the orthonormal DCT basis, one cosine per row.

    Example:

    >>> cosines(2).round(3).tolist()
    [[0.707, 0.707], [0.707, -0.707]]
    """
    places, cycles = np.arange(size) + 0.5, np.arange(size)[:, None]
    waves = np.cos(np.pi * cycles * places / size)
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


# Root mean square of position embeddings; that of tokens is about 1.
_STRENGTH = 0.5
# Standard deviation for rows without a position, such as the class token.
_OTHERS = 0.02


@keras.saving.register_keras_serializable(package="har_keras")
class CosinePositions(keras.initializers.Initializer):
    """Initializes position embeddings with low-frequency cosines over a clip.

    With random noise a model has to learn the position of each token before it
    can compare positions. Here the vectors are the lowest-frequency cosines
    over time, rows and columns, scaled down with frequency, in a random
    rotation, so that the embeddings of neighboring tokens are similar.

    Args:
        grid: Tubelets of a clip in time, height and width.
        seed: int or None. Seed of the rotation.

    Example:

    >>> positions = CosinePositions((8, 7, 7), seed=0)((392, 48))
    >>> tuple(positions.shape)
    (392, 48)

    Reference:
        - [Ahmed et al., 1974](https://doi.org/10.1109/T-C.1974.223784), the
          cosine transform.
    """

    def __init__(
        self, grid: tuple[int, int, int], seed: int | None = None
    ) -> None:
        self.grid = grid
        self.seed = seed

    def __call__(self, shape: tuple[int, int], dtype: Any = None) -> Any:
        """Returns position embeddings.

        Args:
            shape: Number of tokens and their width. Tokens beyond the grid,
                such as a class token, come first and get small random values.
            dtype: str or None. Type of the values.
        """
        tokens, width = shape
        waves = slow_waves(self.grid, num_waves=width)
        places = waves @ rotation(width, self.seed)[: waves.shape[1]]
        places = places * np.sqrt(width) * _STRENGTH
        rng = np.random.default_rng(self.seed)
        others = rng.normal(0, _OTHERS, (tokens - len(places), width))
        return ops.convert_to_tensor(
            np.concatenate([others, places]), dtype or "float32"
        )

    def get_config(self) -> dict[str, Any]:
        return {"grid": self.grid, "seed": self.seed}


def slow_waves(grid: tuple[int, int, int], num_waves: int) -> np.ndarray:
    """Returns the lowest-frequency cosines over a grid, without the constant.

    Args:
        grid: Positions in time, height and width.
        num_waves: int. Number of cosines, if there are that many.

    Returns:
        float64 array of shape `(positions, waves)`, scaled down with
        frequency; the squares of a row have a mean sum of 1.

    Example:

    >>> slow_waves((1, 1, 2), num_waves=3).round(2).tolist()
    [[1.0], [-1.0]]
    """
    cycles = np.indices(grid).reshape(3, -1)
    cost = np.linalg.norm(cycles, axis=0)
    order = np.argsort(cost, kind="stable")[1 : num_waves + 1]
    times, rows, columns = cycles[:, order]
    strength = 1 / np.hypot(1, cost[order])
    waves = np.einsum(
        "n,nt,ny,nx->tyxn",
        strength / (np.linalg.norm(strength) or 1.0),
        cosines(grid[0])[times],
        cosines(grid[1])[rows],
        cosines(grid[2])[columns],
    )
    return waves.reshape(cost.size, -1) * np.sqrt(cost.size)


def resize_positions(
    positions: np.ndarray,
    num_class_tokens: int,
    old: tuple[int, ...],
    new: tuple[int, int, int],
) -> np.ndarray:
    """Interpolates position embeddings for clips of another size.

    Args:
        positions: Array of shape `(N, D)`.
        num_class_tokens: int. Rows of class tokens at the start: 0 or 1.
        old: Tubelets in time, height and width of `positions`.
        new: Tubelets in time, height and width of the result.

    Returns:
        Array of shape `(num_class_tokens + new tubelets, D)`.
    """
    places = positions[num_class_tokens:].reshape(*old, -1)
    return np.concatenate(
        [positions[:num_class_tokens], interpolate(places, new)]
    )


def interpolate(
    positions: np.ndarray, grid: tuple[int, int, int]
) -> np.ndarray:
    """Interpolates position embeddings linearly to another grid.

    Args:
        positions: Array of shape `(T, H, W, D)`.
        grid: Tubelets in time, height and width.

    Returns:
        `float32` array of shape `(T * H * W, D)`, linear between the centers
        of the old tubelets and constant beyond the outermost.

    Example:

    >>> line = np.array([0.0, 4.0]).reshape(2, 1, 1, 1)
    >>> interpolate(line, (4, 1, 1)).ravel().tolist()
    [0.0, 1.0, 3.0, 4.0]
    """
    for axis, count in enumerate(grid):
        old = positions.shape[axis]
        if old == count:
            continue
        centers = np.clip(
            (np.arange(count) + 0.5) * old / count - 0.5, 0, old - 1
        )
        below = np.floor(centers).astype(int)
        above = np.minimum(below + 1, old - 1)
        shape = [1] * positions.ndim
        shape[axis] = count
        part = (centers - below).reshape(shape)
        positions = (1 - part) * positions.take(
            below, axis
        ) + part * positions.take(above, axis)
    return positions.reshape(-1, positions.shape[-1]).astype("float32")
