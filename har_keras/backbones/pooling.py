"""Pooling of a network's feature maps to the few vectors that are kept.

Shape letters: B clips, t places in time, h w places of a map, C channels.
"""

import math
from typing import Any, Literal

from keras import ops

Tensor = Any
Shape = tuple[int | None, ...]
Pooling = Literal["grid", "motion"]

_EPSILON = 1e-12
# Of places that nothing moves in, relative to the mean: they are never lost.
_LEAST_MOTION = 1e-3
_POWER = 3


def pooled(maps: Tensor, pooling: Pooling, grid: int) -> Tensor:
    """Pools the feature maps of clips.

    Args:
        maps: float tensor of shape `(B, t, h, w, C)`.
        pooling: str. "grid", the means of `grid` x `grid` cells, or "motion",
            see `pooled_by_motion`.
        grid: int. Cells along each side; 0 keeps the maps.

    Returns:
        float tensor of shape `(B, t, grid, grid, C)`, or `(B, t, 1, 1, 2C)`.
    """
    if pooling == "motion":
        return pooled_by_motion(maps)
    places = maps.shape[1]
    x = averaged_to_grid(ops.reshape(maps, (-1, *maps.shape[2:])), grid)
    return ops.reshape(x, (-1, places, *x.shape[1:]))


def pooled_shape(shape: Shape, pooling: Pooling, grid: int) -> Shape:
    """Returns the shape of pooled maps, from that of the maps."""
    batch, places, *sides, channels = shape
    if pooling == "motion":
        return batch, places, 1, 1, 2 * int(channels or 0)
    return batch, places, *([grid, grid] if grid else sides), channels


def pooled_by_motion(maps: Tensor) -> Tensor:
    """Pools each map where a clip moves most, and as a whole.

    People who act are small in most pictures, and what surrounds them says
    little. Of each moment two vectors are kept: the mean of the features,
    weighted by the third power of how much those of a place change over the
    clip; and their plain mean.

    Args:
        maps: float tensor of shape `(B, t, h, w, C)`, t at least 2.

    Returns:
        float tensor of shape `(B, t, 1, 1, 2C)`.

    Example:

    >>> maps = ops.zeros((1, 3, 2, 2, 4))
    >>> tuple(pooled_by_motion(maps).shape)
    (1, 3, 1, 1, 8)
    """
    x = _flat(maps)
    weights = ops.reshape(motion_weights(maps), (-1, 1, x.shape[2], 1))
    moving = ops.sum(weights * x, axis=2)  # (B, t, C)
    both = ops.concatenate([moving, ops.mean(x, axis=2)], axis=-1)
    return both[:, :, None, None]


def motion_weights(maps: Tensor) -> Tensor:
    """Returns how much each place counts, by its change over a clip.

    Args:
        maps: float tensor of shape `(B, t, h, w, C)`, t at least 2.

    Returns:
        float tensor of shape `(B, h, w)`; each clip's sum to 1.

    Example:

    >>> maps = ops.zeros((1, 3, 2, 2, 4))  # nothing moves
    >>> [float(w) for w in ops.reshape(motion_weights(maps), (-1,))]
    [0.25, 0.25, 0.25, 0.25]
    """
    x = _flat(maps)
    steps = ops.mean(ops.square(x[:, 1:] - x[:, :-1]), axis=-1)
    change = ops.mean(ops.sqrt(steps + _EPSILON), axis=1)  # (B, hw)
    change = change / ops.mean(change, axis=1, keepdims=True)
    weights = (change + _LEAST_MOTION) ** _POWER
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    return ops.reshape(weights, (-1, *maps.shape[2:4]))


def _flat(maps: Tensor) -> Tensor:
    """Returns maps with their places on one axis, `(B, t, hw, C)`."""
    _, places, height, width, channels = maps.shape
    return ops.reshape(maps, (-1, places, height * width, channels))


def averaged_to_grid(x: Tensor, grid: int) -> Tensor:
    """Averages a feature map over the cells of a coarser grid.

    Cells may overlap by a row or column where the sizes don't divide, so every
    cell is as large as the others.

    Args:
        x: float tensor of shape `(B, h, w, C)`.
        grid: int. Cells along each side; 0 changes nothing.

    Returns:
        float tensor of shape `(B, grid, grid, C)`.

    Example:

    >>> x = ops.reshape(ops.arange(9.0), (1, 3, 3, 1))
    >>> [float(y) for y in ops.reshape(averaged_to_grid(x, 2), (-1,))]
    [2.0, 3.0, 5.0, 6.0]
    """
    if not grid or tuple(x.shape[1:3]) == (grid, grid):
        return x
    rows, columns = (cells(int(size), grid) for size in x.shape[1:3])
    # Slices, since OpenVINO can't compile a matrix product of this shape.
    means = [
        ops.mean(x[:, top:bottom, left:right], axis=(1, 2))
        for top, bottom in rows
        for left, right in columns
    ]
    return ops.reshape(ops.stack(means, axis=1), (-1, grid, grid, x.shape[3]))


def cells(size: int, grid: int) -> list[tuple[int, int]]:
    """Returns begin and end of each cell along a side.

    Args:
        size: int. Places along the side, at least 1.
        grid: int. Cells along the side.

    Returns:
        list of pairs of int.

    Example:

    >>> cells(7, 2), cells(8, 2)
    ([(0, 4), (3, 7)], [(0, 4), (4, 8)])
    """
    return [
        (cell * size // grid, math.ceil((cell + 1) * size / grid))
        for cell in range(grid)
    ]
