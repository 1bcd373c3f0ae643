"""How the motion in a video goes on in time, whatever part of it is seen.

Eight numbers describe the change of the picture at each moment: how much there
is, where its center is, how wide it spreads, and how light and dark divide in
it. Over a second, only their ups and downs are compared, in units of the spread
where they are places. So a crop, borders, a banner or another size and
brightness change little, a mirror image changes signs, and another speed is a
window of another length.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from har_keras.store.shards import THUMBNAIL_PIXELS, Thumbnails

Floats = NDArray[np.floating[Any]]

CHANGE_SECONDS = 0.25
WINDOW_SECONDS = 1.0
RATES = (1.0, 1.25)
"""Lengths of windows, in seconds: of copies that are as fast, or faster."""

# Gray levels. Changes up to the first are noise; a picture has the second in
# all at least, spread evenly, so that faint noise has no place.
_NOISE = 2.0
_FAINT = 20.0
_EVEN_VARIANCE = 20.0
PLACE_PIXELS = float(np.sqrt(_EVEN_VARIANCE))
"""Pixels of a thumbnail that are 1 in a signal of where motion is."""

_LEAST_SWING = 0.12
NUM_SIGNALS = 8
_BLOCK = 4096
# Which change their sign in a mirror: the center's x, and the gradient in x.
MIRRORED = np.array([1, -1, 1, 1, 1, 1, -1, 1], np.float32)
# Of the last three, which are signed, the level counts too.
_CENTERED = np.array([1, 1, 1, 1, 1, 0, 0, 0], np.float32)
_COLUMNS, _ROWS = (
    axis.ravel().astype(np.float32)
    for axis in np.meshgrid(*[np.arange(THUMBNAIL_PIXELS)] * 2)
)


class Footage:
    """What is compared of a video.

    Args:
        thumbnails: `uint8` array of shape `(N, 16, 16)`, gray.
        signals: `float32` array of shape `(M, 8)`.
        rate: float. Thumbnails per second.
    """

    def __init__(
        self, thumbnails: Thumbnails, signals: Floats, rate: float
    ) -> None:
        self.thumbnails = thumbnails
        self.signals = signals
        self.rate = rate

    @property
    def gap(self) -> int:
        """Thumbnails from one picture to that with which it is compared."""
        return max(1, round(CHANGE_SECONDS * self.rate))


def signals(thumbnails: Thumbnails, rate: float) -> Floats:
    """Describes the motion of a video at each moment.

    Args:
        thumbnails: `uint8` array of shape `(N, 16, 16)`, gray.
        rate: float. Thumbnails per second.

    Returns:
        `float32` array of shape `(M, 8)`, M a quarter of a second less than N.
    """
    gap = max(1, round(CHANGE_SECONDS * rate))
    number = max(1, len(thumbnails) - gap)
    # In blocks, for the change of hours of video takes hundreds of megabytes.
    return np.concatenate(
        [
            _signals(thumbnails[begin : begin + _BLOCK + gap], gap)
            for begin in range(0, number, _BLOCK)
        ]
    )


def _signals(thumbnails: Thumbnails, gap: int) -> Floats:
    frames = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    change = frames[gap:] - frames[:-gap]
    size = np.maximum(np.abs(change) - _NOISE, 0)
    signed = np.sign(change) * size
    total = size.sum(1) + _FAINT
    middle = (THUMBNAIL_PIXELS - 1) / 2
    x = (size @ _COLUMNS + _FAINT * middle) / total
    y = (size @ _ROWS + _FAINT * middle) / total
    from_x, from_y = _COLUMNS - x[:, None], _ROWS - y[:, None]
    even = _FAINT * _EVEN_VARIANCE
    wide = np.sqrt(((size * from_x**2).sum(1) + even) / total)
    high = np.sqrt(((size * from_y**2).sum(1) + even) / total)
    return np.stack(
        [
            np.log(total),
            x / PLACE_PIXELS,
            y / PLACE_PIXELS,
            np.log(wide),
            np.log(high),
            signed.sum(1) / total,
            (signed * from_x).sum(1) / total / wide,
            (signed * from_y).sum(1) / total / high,
        ],
        1,
    ).astype(np.float32)


def resampled(
    values: Floats, places: Floats, begins: Any = 0, lengths: Any = None
) -> Floats:
    """Interpolates along the first axis, or along parts of it.

    Args:
        values: array of shape `(N, ...)`.
        places: float array of shape `(...)`. From 0 to N - 1.
        begins: int, or int array. Where the part begins that is meant.
        lengths: int, int array or None. Of the part. Defaults to N.
    """
    last = (len(values) if lengths is None else lengths) - 1
    low = np.clip(np.floor(places).astype(np.int64), 0, last)
    high = np.minimum(low + 1, last)
    share = (places - low).astype(np.float32)
    share = share.reshape(share.shape + (1,) * (values.ndim - 1))
    one, other = values[begins + low], values[begins + high]
    return one * (1 - share) + other * share


@dataclass(frozen=True)
class Windows:
    """Windows of one length over the signals of a video.

    Args:
        vectors: `float32` array of shape `(N, 64)`, of length 1; one of two
            mirror images.
        starts: float array of shape `(N,)`. Where each begins.
        mirrored: bool array of shape `(N,)`. Whether it is the mirror image.
    """

    vectors: Floats
    starts: Floats
    mirrored: NDArray[np.bool_]


def windows(found: Floats, rate: float, length: float, step: int) -> Windows:
    """Cuts the signals of a video into windows that can be compared.

    Args:
        found: array of shape `(M, 8)`, as `signals` returns it.
        rate: float. Signals per second.
        length: float. Of `RATES`.
        step: int. From one window to the next.

    Returns:
        `Windows`, without those in which nothing moves.
    """
    number = max(4, round(WINDOW_SECONDS * rate))
    last = len(found) - 1 - (number - 1) * length
    starts = np.arange(0, max(0.0, last + 1e-6), step, dtype=np.float32)
    if last < 0 or not len(starts):
        empty = np.empty(0, np.float32)
        return Windows(
            np.empty((0, number * NUM_SIGNALS), np.float32),
            empty,
            empty.astype(bool),
        )
    # In blocks, for hours of video take a gigabyte, and stand still mostly.
    blocks = [
        _moving_windows(found, starts[begin : begin + _BLOCK], number, length)
        for begin in range(0, len(starts), _BLOCK)
    ]
    return Windows(*map(np.concatenate, zip(*blocks, strict=True)))


def _moving_windows(
    found: Floats, starts: Floats, number: int, length: float
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Returns what `Windows` has, of those that begin at some places."""
    places = starts[:, None] + np.arange(number) * np.float32(length)
    vectors = standardized(resampled(found, places))
    odd = vectors[:, :, 1] @ _slope(number) + vectors[:, :, 6].sum(1)
    mirrored = odd < 0
    vectors[mirrored] *= MIRRORED
    flat = vectors.reshape(len(vectors), -1)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    moves = lengths[:, 0] > 1.0
    return flat[moves] / lengths[moves], starts[moves], mirrored[moves]


def standardized(windows: Floats) -> Floats:
    """Returns windows `(..., L, 8)` whose signals have length 1 in each."""
    mean = windows.mean(-2, keepdims=True)
    centered = windows - mean * _CENTERED
    swing = np.linalg.norm(centered, axis=-2, keepdims=True)
    least = _LEAST_SWING * np.sqrt(windows.shape[-2])
    return np.asarray(centered / np.maximum(swing, least), np.float32)


def _slope(number: int) -> Floats:
    return np.linspace(-1, 1, number, dtype=np.float32)
