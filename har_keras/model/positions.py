"""Learned positions for clips of another size."""

import numpy as np


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
