"""Statistics of a clip's optical flow, of plain tensor operations.

They say how people move, which no network for single images can see, and run
inside the exported graph. All are the same for a mirrored clip.

Shape letters: B clips, T frames, S = T - 1 steps, R pixels along a side.

References:
    - Lucas and Kanade, 1981, "An iterative image registration technique with
      an application to stereo vision", section 4.
"""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any

NUM_FLOW_STATISTICS = 56
"""Numbers that are kept of a clip: 28 from each of two resolutions."""

_SIDES = (40, 80)  # pixels of the gray frames
_CELLS = 20  # of the flow, along a side
_PLACES = 10  # at which statistics are taken, along a side
_WINDOW = 5  # cells that share a velocity
_RIDGE = 2e-4  # added to the squared gradients: flat places stand still
_MOST_PIXELS = 2.0  # a step; what seems faster isn't seen by its gradient
# Velocities are in frame sides over eight steps, a second of a clip at 8/s.
_STEPS = 8.0
_SLOW, _FAST = 0.1, 0.4
_CAMERA_SCALE, _CAMERA_ROUNDS = 0.2, 2
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_TINY = 1e-3


def flow_statistics(clips: Tensor) -> Tensor:
    """Returns statistics of the optical flow of clips.

    Args:
        clips: uint8 tensor of shape `(B, T, H, W, 3)`, T at least 4, RGB. Their
            frames are taken as evenly spaced.

    Returns:
        float32 tensor of shape `(B, 56)`.

    Example:

    >>> still = ops.zeros((2, 8, 32, 32, 3), "uint8")
    >>> tuple(flow_statistics(still).shape)
    (2, 56)
    """
    gray = gray_frames(clips, max(_SIDES))
    found = [
        _statistics(*_without_camera(*flow(_averaged(gray, max(_SIDES) // r))))
        for r in _SIDES
    ]
    return ops.concatenate(found, axis=-1)


def gray_frames(clips: Tensor, side: int) -> Tensor:
    """Returns the luma of clips, averaged to small squares.

    Args:
        clips: uint8 tensor of shape `(B, T, H, W, 3)`.
        side: int. Their height and width afterwards, R.

    Returns:
        float32 tensor of shape `(B, T, R, R)`, from 0 to 1.
    """
    _, num_frames, height, width, _ = clips.shape
    # Colors and columns in one product: summing colors first takes twice as
    # long as all the rest.
    luma = np.array(_LUMA, "float32")[:, None] / 255
    columns = np.kron(area_weights(width, side).T, luma)
    x = ops.reshape(ops.cast(clips, "float32"), (-1, width * 3))
    x = ops.matmul(x, ops.convert_to_tensor(columns))
    rows = ops.convert_to_tensor(area_weights(height, side))
    x = ops.matmul(rows, ops.reshape(x, (-1, height, side)))
    return ops.reshape(x, (-1, num_frames, side, side))


def area_weights(size: int, cells: int) -> np.ndarray:
    """Returns what share of a cell's mean each pixel of a row has.

    Args:
        size: int. Pixels.
        cells: int. Cells of equal width, which may cut pixels.

    Returns:
        `float32` array of shape `(cells, size)`; every row sums to 1.

    Example:

    >>> area_weights(4, 2).tolist()
    [[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]
    """
    edges = np.arange(cells + 1) * size / cells
    pixels = np.arange(size)
    begin = np.maximum(edges[:-1, None], pixels)
    end = np.minimum(edges[1:, None], pixels + 1)
    return (np.maximum(end - begin, 0) * cells / size).astype("float32")


def flow(gray: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the optical flow of gray clips by Lucas and Kanade.

    One level, one iteration: people who are a tenth of a frame high move less
    than two of these pixels from one frame to the next.

    Args:
        gray: float tensor of shape `(B, T, R, R)`, from 0 to 1; R a multiple
            of 20.

    Returns:
        A pair of float tensors of shape `(B, S, 20, 20)`: the velocities to
        the right and down, in frame sides over eight steps.
    """
    side = gray.shape[-1]
    gray = _blurred(_blurred(gray, 2), 3)
    middle = (gray[:, :-1] + gray[:, 1:]) / 2
    dt = gray[:, 1:] - gray[:, :-1]
    dx, dy = _gradient(middle, 3), _gradient(middle, 2)
    xx, xy, yy, xt, yt = (
        _windowed(_averaged(product, side // _CELLS))
        for product in (dx * dx, dx * dy, dy * dy, dx * dt, dy * dt)
    )
    xx, yy = xx + _RIDGE, yy + _RIDGE
    determinant = xx * yy - xy * xy
    right = (xy * yt - yy * xt) / determinant
    down = (xy * xt - xx * yt) / determinant
    scale = _STEPS / side
    return _limited(right) * scale, _limited(down) * scale


def _limited(pixels: Tensor) -> Tensor:
    return ops.clip(pixels, -_MOST_PIXELS, _MOST_PIXELS)


def _shifted(x: Tensor, by: int, axis: int, reach: int) -> Tensor:
    """Returns a window of frames that were padded by `reach` pixels."""
    begin = reach + by
    end = x.shape[axis] - reach + by
    return x[:, :, begin:end] if axis == 2 else x[:, :, :, begin:end]


def _padded(x: Tensor, axis: int, reach: int) -> Tensor:
    """Repeats the first and last pixels of frames along an axis."""
    begin = x[:, :, :1] if axis == 2 else x[:, :, :, :1]
    end = x[:, :, -1:] if axis == 2 else x[:, :, :, -1:]
    return ops.concatenate([begin] * reach + [x] + [end] * reach, axis=axis)


def _blurred(x: Tensor, axis: int) -> Tensor:
    """Filters frames by [1 4 6 4 1] / 16 along an axis."""
    padded = _padded(x, axis, 2)
    a, b, c, d, e = (_shifted(padded, by, axis, 2) for by in range(-2, 3))
    return (a + e + 4 * (b + d) + 6 * c) / 16


def _gradient(x: Tensor, axis: int) -> Tensor:
    padded = _padded(x, axis, 1)
    return (_shifted(padded, 1, axis, 1) - _shifted(padded, -1, axis, 1)) / 2


def _averaged(x: Tensor, factor: int) -> Tensor:
    """Averages squares of pixels, `(B, T, R, R)` to `(B, T, R/f, R/f)`."""
    if factor == 1:
        return x
    _, steps, side, _ = x.shape
    small = side // factor
    x = ops.reshape(x, (-1, small, factor, small, factor))
    return ops.reshape(ops.mean(x, axis=(2, 4)), (-1, steps, small, small))


def _windowed(x: Tensor) -> Tensor:
    """Averages each cell with those around it that there are."""
    _, steps, side, _ = x.shape
    near = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    box = (near <= _WINDOW // 2).astype("float32")
    weights = ops.convert_to_tensor(box / box.sum(1, keepdims=True))
    x = ops.matmul(ops.reshape(x, (-1, side)), ops.transpose(weights))
    x = ops.matmul(weights, ops.reshape(x, (-1, side, side)))
    return ops.reshape(x, (-1, steps, side, side))


def _without_camera(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Subtracts the velocity that most cells of a step share.

    A mean that is weighted anew by the distance from it, since a plain one
    follows large people and a median is costly in a graph.
    """
    mean_x, mean_y = _over_places(x), _over_places(y)
    for _ in range(_CAMERA_ROUNDS):
        distance = (x - mean_x) ** 2 + (y - mean_y) ** 2
        weights = 1 / (distance + _CAMERA_SCALE**2)
        total = _over_places(weights)
        mean_x = _over_places(weights * x) / total
        mean_y = _over_places(weights * y) / total
    return x - mean_x, y - mean_y


def _over_places(x: Tensor) -> Tensor:
    return ops.mean(x, axis=(-2, -1), keepdims=True)


def _statistics(x: Tensor, y: Tensor) -> Tensor:
    """Returns 28 numbers of the flow of each clip."""
    speed = ops.sqrt(x * x + y * y + 1e-12)
    pooled = _averaged(speed, _CELLS // _PLACES)
    slow, fast = (
        ops.mean(ops.sigmoid((speed - least) / (0.3 * least)), axis=(1, 2, 3))
        for least in (_SLOW, _FAST)
    )
    vertical = _vertical_share(
        ops.mean(ops.abs(x), axis=(1, 2, 3)),
        ops.mean(ops.abs(y), axis=(1, 2, 3)),
    )
    x, y = (_averaged(v, _CELLS // _PLACES) for v in (x, y))
    found = [
        vertical, ops.log(slow + _TINY), ops.log(fast + _TINY),
        *_of_the_whole(x, y, pooled),
        *_of_what_moves(x, y, pooled),
        *_of_places(x, y, pooled),
    ]  # fmt: skip
    return ops.stack(found, axis=-1)


def _of_the_whole(x: Tensor, y: Tensor, speed: Tensor) -> list[Tensor]:
    """Coherence, size and rhythm of the mean motion of a frame."""
    x, y, speed = (ops.mean(v, axis=(2, 3)) for v in (x, y, speed))  # (B, S)
    size = ops.mean(speed, axis=1)
    spread = ops.std(speed, axis=1)
    found = [
        ops.log(size + _TINY), ops.log(spread + _TINY),
        spread / (size + _TINY),
    ]  # fmt: skip
    for v in (x, y):
        mean = ops.mean(ops.abs(v), axis=1)
        found += [_coherence(v), mean / (size + _TINY), ops.log(mean + _TINY)]
    return found + [
        _autocorrelation(v, lag) for v in (x, y, speed) for lag in (1, 2)
    ]


def _of_what_moves(x: Tensor, y: Tensor, speed: Tensor) -> list[Tensor]:
    """Coherence and direction of the places that move most at a moment."""
    weights = _shares(speed**2 + 1e-5)
    x, y = (ops.sum(weights * v, axis=(2, 3)) for v in (x, y))  # (B, S)
    across, along = (ops.mean(ops.abs(v), axis=1) for v in (x, y))
    most = ops.mean(ops.max(weights, axis=(2, 3)), axis=1)
    return [
        _coherence(x), _coherence(y), across, along,
        _vertical_share(across, along), most,
    ]  # fmt: skip


def _of_places(x: Tensor, y: Tensor, speed: Tensor) -> list[Tensor]:
    """Coherence of each place in time, and how few places move."""
    size = ops.mean(speed, axis=1)  # (B, 10, 10)
    mean = ops.sqrt(ops.mean(x, axis=1) ** 2 + ops.mean(y, axis=1) ** 2 + 1e-12)
    coherence = mean / (size + 0.02)
    shares = _shares(size**2 + 1e-6)
    entropy = -ops.sum(shares * ops.log(shares + 1e-9), axis=(1, 2))
    return [
        ops.sum(coherence * shares, axis=(1, 2)),
        ops.mean(coherence, axis=(1, 2)),
        ops.max(shares, axis=(1, 2)), entropy,
    ]  # fmt: skip


def _shares(x: Tensor) -> Tensor:
    """Divides by the sum over places."""
    return x / ops.sum(x, axis=(-2, -1), keepdims=True)


def _coherence(x: Tensor) -> Tensor:
    """Returns how far a velocity keeps its direction, 0 to 1."""
    mean = ops.abs(ops.mean(x, axis=1))
    return mean / (ops.mean(ops.abs(x), axis=1) + 0.01)


def _vertical_share(across: Tensor, along: Tensor) -> Tensor:
    return (along + _TINY) / (across + along + 2 * _TINY)


def _autocorrelation(x: Tensor, lag: int) -> Tensor:
    """Returns that of `(B, S)` in time: motion to and fro is negative."""
    x = x - ops.mean(x, axis=1, keepdims=True)
    energy = ops.sum(x * x, axis=1) + 1e-6
    return ops.sum(x[:, lag:] * x[:, :-lag], axis=1) / energy
