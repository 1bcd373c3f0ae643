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
    middle = np.median(frames, axis=0).astype("uint8")
    return np.broadcast_to(middle, frames.shape)
