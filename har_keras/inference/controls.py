"""Clips with information taken away, to measure what it contributes."""

from typing import Literal

import numpy as np

Control = Literal["single_frame", "shuffled", "reversed", "background"]
CONTROLS: tuple[Control, ...] = (
    "single_frame", "shuffled", "reversed", "background",
)  # fmt: skip


def reordered(
    indices: np.ndarray, control: Control, rng: np.random.Generator
) -> np.ndarray:
    """Returns the frames of a clip with time taken out of them.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> reordered(np.arange(4), "reversed", rng)
    array([3, 2, 1, 0])
    >>> reordered(np.arange(4), "single_frame", rng)
    array([2, 2, 2, 2])
    """
    if control == "single_frame":
        return np.full_like(indices, indices[len(indices) // 2])
    if control == "reversed":
        return indices[::-1]
    return rng.permutation(indices)


def background_of(frames: np.ndarray) -> np.ndarray:
    """Returns a clip of what does not move in it, as long as it was.

    Each pixel is its median over time: what only passes is gone where the
    camera stands still. What stays in its place, such as a trunk above arms
    that move, is left.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`.

    Returns:
        `uint8` array of the same shape.

    Example:

    >>> frames = np.zeros((5, 1, 5, 3), "uint8")
    >>> frames[range(5), 0, range(5)] = 255  # one bright pixel that wanders
    >>> int(background_of(frames).max())
    0
    """
    return np.broadcast_to(_median(frames), frames.shape)


def _median(frames: np.ndarray) -> np.ndarray:
    """Returns the median of each pixel over time, rounded down.

    A sorting network of whole frames takes a tenth of the time of
    `np.median`, which sorts the values of one pixel after the other.
    """
    rows = _sorted([frame.copy() for frame in frames])
    low, high = rows[(len(rows) - 1) // 2], rows[len(rows) // 2]
    # Without a carry: the bits of both, and half of those of one.
    return (low & high) + ((low ^ high) >> 1)


def _sorted(rows: list[np.ndarray]) -> list[np.ndarray]:
    """Sorts arrays element by element, in place.

    Reference:
        - [Batcher, 1968](https://doi.org/10.1145/1468075.1468121), as merge
          exchange of any number: Knuth, The Art of Computer Programming,
          volume 3, section 5.2.2, algorithm M.
    """
    top = 1 << max(0, (len(rows) - 1).bit_length() - 1)
    step = top
    while step:
        rest, distance, width = 0, step, top
        while True:
            for i in range(len(rows) - distance):
                if i & step == rest:
                    _exchange(rows[i], rows[i + distance])
            if width == step:
                break
            rest, distance, width = step, width - step, width // 2
        step //= 2
    return rows


def _exchange(low: np.ndarray, high: np.ndarray) -> None:
    """Leaves the smaller of two values in the first array."""
    smaller = np.minimum(low, high)
    np.maximum(low, high, out=high)
    low[:] = smaller
