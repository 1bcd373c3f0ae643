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
