"""The first filters of a model on pixels: waves, not noise."""

from typing import Any

import keras
import numpy as np
from keras import ops

# Gain of a wave, by half cycles in a patch; the mean counts as a third of one.
_GAIN, _MEAN = 1 / 3, 0.35
# Changes between frames are taken to be so much fainter than what is in both.
_TIME_GAIN = 8.0
# How much later than by frequency changes in time and in colour are taken.
_TIME_COST, _COLOUR_COST = 0.5, 4.0


@keras.saving.register_keras_serializable(package="har_keras")
class CosineFilters(keras.initializers.Initializer):
    """Starts the kernel of a tubelet embedding from cosine waves.

    Noise gives little but the mean brightness of a tubelet, for neighbouring
    pixels are alike: a model that starts from it sees neither edges nor
    motion, and stays at chance until its filters have grown. Here the filters
    are the waves of lowest frequency, in rows, columns and time, each as much
    stronger as it is fainter in usual video, where strength falls as one over
    frequency. A random rotation mixes them, so that each value of a token has
    a part of all.

    Args:
        seed: int or None. Seed of the rotation.

    Example:

    >>> kernel = CosineFilters(seed=0)((2, 16, 16, 3, 48))
    >>> tuple(kernel.shape)
    (2, 16, 16, 3, 48)

    Reference:
        - [Ahmed et al., 1974](https://doi.org/10.1109/T-C.1974.223784), the
          cosine transform.
        - [Field, 1987](https://doi.org/10.1364/JOSAA.4.002379), strength by
          frequency in pictures of scenes.
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
        # The same strength where there are fewer waves than values.
        kernel = waves * np.sqrt(width / num_waves)
        kernel = kernel @ rotation(width, self.seed)[:num_waves]
        return ops.convert_to_tensor(kernel, dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}


def scaled_waves(
    num_frames: int, height: int, width: int, channels: int, num_waves: int
) -> np.ndarray:
    """Returns the waves of lowest frequency, the fainter the stronger.

    Returns:
        float64 array of shape `(num_frames, height, width, channels, waves)`;
        `num_waves` of them, or as many as there are.

    Example:

    >>> scaled_waves(2, 2, 2, 1, num_waves=9).shape
    (2, 2, 2, 1, 8)
    """
    cycles = np.indices((num_frames, height, width, channels)).reshape(4, -1)
    space = np.hypot(cycles[1], cycles[2])
    cost = space + _TIME_COST * cycles[0] + _COLOUR_COST * (cycles[3] > 0)
    order = np.argsort(cost, kind="stable")[:num_waves]
    times, rows, columns, colours = cycles[:, order]
    gain = _GAIN * np.maximum(space[order], _MEAN)
    gain = gain * np.where(times > 0, _TIME_GAIN, 1.0)
    return np.einsum(
        "n,nt,ny,nx,nc->tyxcn",
        gain,
        cosines(num_frames)[times],
        cosines(height)[rows],
        cosines(width)[columns],
        cosines(channels)[colours],
    )


def rotation(size: int, seed: int | None) -> np.ndarray:
    """Returns a random rotation, an array of shape `(size, size)`."""
    noise = np.random.default_rng(seed).normal(size=(size, size))
    return np.linalg.qr(noise)[0]


def cosines(size: int) -> np.ndarray:
    """Returns the waves of the cosine transform, a row each, of length 1.

    Example:

    >>> cosines(2).round(3).tolist()
    [[0.707, 0.707], [0.707, -0.707]]
    """
    places, cycles = np.arange(size) + 0.5, np.arange(size)[:, None]
    waves = np.cos(np.pi * cycles * places / size)
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


# Root mean square of a value of a position, beside about 1 of a token.
_STRENGTH = 0.5
# Of the rows that stand for no place, as usual for learned positions.
_OTHERS = 0.02


@keras.saving.register_keras_serializable(package="har_keras")
class CosinePositions(keras.initializers.Initializer):
    """Starts learned positions from slow cosine waves over a clip.

    From faint noise a model has to learn where and when each token is before
    it can compare places. Here the vectors are the slowest waves over time,
    rows and columns, the slower the stronger, in a random rotation: neighbours
    are alike, and what is far apart is not.

    Args:
        grid: Tubelets of a clip in time, in height and in width.
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
        """Returns positions.

        Args:
            shape: Tokens and their width. What is more than the grid has
                stands at the start, as a class token does, and is faint noise.
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
    """Returns the slowest waves over a grid but the constant one.

    Args:
        grid: Places in time, in height and in width.
        num_waves: int. How many waves, where there are so many.

    Returns:
        float64 array of shape `(places, waves)`, the slower the stronger; the
        squares of a row have a mean sum of 1.

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
    """Returns learned positions for clips of another size.

    Args:
        positions: Array of shape `(N, D)`.
        num_class_tokens: int. Rows at the start that are no places: 0 or 1.
        old: Tubelets in time, height and width that the others stand for.
        new: Those that are wanted.

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
    """Returns positions for another grid of tubelets.

    Args:
        positions: Array of shape `(T, H, W, D)`.
        grid: Tubelets in time, height and width.

    Returns:
        `float32` array of shape `(T * H * W, D)`, linear between the centres
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
        centres = np.clip(
            (np.arange(count) + 0.5) * old / count - 0.5, 0, old - 1
        )
        below = np.floor(centres).astype(int)
        above = np.minimum(below + 1, old - 1)
        shape = [1] * positions.ndim
        shape[axis] = count
        part = (centres - below).reshape(shape)
        positions = (1 - part) * positions.take(
            below, axis
        ) + part * positions.take(above, axis)
    return positions.reshape(-1, positions.shape[-1]).astype("float32")
