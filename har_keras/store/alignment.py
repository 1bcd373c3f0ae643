"""Decides whether two videos show the same footage.

The motion of both has to agree, moment by moment and place by place, once one
is shifted, stretched and mirrored as it takes: where the first is a crop of the
second, has borders, or another speed. What does not move in one of them, as a
banner, is left out.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from har_keras.store.motion import (
    CHANGE_SECONDS,
    MIRRORED,
    PLACE_PIXELS,
    resampled,
    standardized,
)
from har_keras.store.shards import THUMBNAIL_PIXELS, Thumbnails

Floats = NDArray[np.floating[Any]]

SAME_MOTION = 0.67
SAME_LOOK = 0.6
# The clearer the motion, the less the look has to agree: borders blur it.
_LOOK_WEIGHT = 0.5
_LEAST_LOOK = 0.2
_FOR_SPEED, _FOR_MIRROR, _FOR_SHORT = 0.15, 0.1, 0.05
_OTHER_SPEED = 0.07
_SHORT_SECONDS = 2.5
# How far the search for a crop moves, and the agreement below which it is in
# vain to go on.
_SEARCH = ((1.0, 0.3), (0.7, 0.45), (0.4, 0.55))

LEAST_OVERLAP_SECONDS = 1.0
# Of the shorter video. With less overlap, two people moving in the same rhythm
# agree by chance.
LEAST_OVERLAP_SHARE = 0.6
# Longer overlaps are compared around the place that was found.
MOST_SECONDS = 16.0
_LEAST_CHANGE = 0.5
# Of the picture, and of its motion, that both have to show.
_LEAST_AREA = 0.2
_LEAST_SHARED_MOTION = 0.4
_STRETCHES = np.array([1.0, 0.94, 0.97, 1.03, 1.06])
_SHIFTS_IN_TIME = np.array([0.0, -1.0, -0.5, 0.5, 1.0])
_SCALES = (0.8, 0.9, 1.11, 1.25)
_SHIFTS = (-1.5, -0.75, 0.75, 1.5)
_CORNERS = ((0.85, -1.2), (0.85, 1.2), (1.18, -1.2), (1.18, 1.2))


@dataclass(frozen=True)
class Alignment:
    """Where the second of two videos lies in the first.

    Args:
        start: float. Index of the first's thumbnail at which the second
            begins.
        speed: float. How much faster the second is.
        mirrored: bool. Whether it is a mirror image.
    """

    start: float
    speed: float
    mirrored: bool

    @property
    def is_faster(self) -> bool:
        """Whether one of the two is faster than the other."""
        return bool(abs(np.log(self.speed)) > _OTHER_SPEED)

    def places(self, first: int, second: int, rate: float) -> Floats | None:
        """Returns the times of the second at which both are compared.

        Args:
            first: int. Signals of the first video.
            second: int. Signals of the second.
            rate: float. Signals per second.

        Returns:
            Indices of the second's signals, in steps of one of the first's;
            None if they overlap too little.
        """
        begin = max(0.0, -self.start / self.speed)
        end = min(second - 1.0, (first - 1.0 - self.start) / self.speed)
        shorter = min(first, second * self.speed)
        least = max(LEAST_OVERLAP_SECONDS * rate, LEAST_OVERLAP_SHARE * shorter)
        length = (end - begin) * self.speed + 1
        if length < min(least, shorter, MOST_SECONDS * rate) - 1e-6:
            return None
        return begin + np.arange(int(length + 1e-6)) / self.speed


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


def signal_agreement(
    first: Footage, second: Footage, alignment: Alignment
) -> float:
    """Returns how well the signals of two videos agree, at most 1."""
    places = _places(first, second, alignment)
    if places is None:
        return -1.0
    one = resampled(first.signals, alignment.start + places * alignment.speed)
    other = resampled(second.signals, places)
    if alignment.mirrored:
        other = other * MIRRORED
    return float(_cosines(standardized(one), standardized(other)))


def _places(
    first: Footage, second: Footage, alignment: Alignment
) -> Floats | None:
    places = alignment.places(
        len(first.signals), len(second.signals), first.rate
    )
    most = int(MOST_SECONDS * first.rate)
    if places is None or len(places) <= most:
        return places
    middle = len(places) // 2
    return places[middle - most // 2 : middle + most // 2]


def refined(
    first: Footage, second: Footage, found: Alignment
) -> tuple[Alignment, float]:
    """Returns an alignment near the one found at which signals agree best.

    Args:
        first: Footage.
        second: Footage.
        found: Alignment.

    Returns:
        The alignment, and the agreement there.
    """
    places = _places(first, second, found)
    if places is None:
        return found, -1.0
    # Stretched about the middle, which stays where it is.
    speeds = found.speed * _STRETCHES
    starts = found.start + len(second.signals) / 2 * (found.speed - speeds)
    starts = (starts[:, None] + _SHIFTS_IN_TIME).ravel()
    speeds = speeds.repeat(len(_SHIFTS_IN_TIME))
    one = resampled(first.signals, starts[:, None] + places * speeds[:, None])
    other = resampled(second.signals, places)
    if found.mirrored:
        other = other * MIRRORED
    values = _cosines(standardized(one), standardized(other))
    best = int(values.argmax())
    near = Alignment(float(starts[best]), float(speeds[best]), found.mirrored)
    return near, float(values[best])


def _cosines(some: Floats, other: Floats) -> Floats:
    lengths = np.linalg.norm(some, axis=(-2, -1)) * np.linalg.norm(other)
    return np.asarray((some * other).sum((-2, -1)) / np.maximum(lengths, 1e-6))


def is_same_footage(
    first: Footage, second: Footage, alignment: Alignment
) -> float | None:
    """Returns how well the motion agrees; None if the footage is not the same.

    The more an alignment may vary, and the shorter the overlap, the better
    the motion has to agree, for people move in the same rhythms.
    """
    places = _places(first, second, alignment)
    if places is None:
        return None
    least = SAME_MOTION
    overlap = len(places) * alignment.speed / first.rate
    least += _FOR_SPEED * alignment.is_faster
    least += _FOR_MIRROR * alignment.mirrored
    least += _FOR_SHORT * (overlap < _SHORT_SECONDS)
    motion, look = motion_agreement(first, second, alignment)
    same = motion >= SAME_MOTION and look >= _LEAST_LOOK
    both = motion + _LOOK_WEIGHT * (look - SAME_LOOK)
    return min(motion, 1.0) if same and both >= least else None


def motion_agreement(
    first: Footage, second: Footage, alignment: Alignment
) -> tuple[float, float]:
    """Compares the pictures of two videos at an alignment in time.

    Args:
        first: Footage.
        second: Footage.
        alignment: Alignment.

    Returns:
        How well their motion agrees, and how well their looks do, each at
        most 1, where the second lies in the first best.
    """
    places = _places(first, second, alignment)
    if places is None:
        return -1.0, -1.0
    times = alignment.start + places * alignment.speed
    gap = first.gap
    one = _at(first.thumbnails, times), _at(first.thumbnails, times + gap)
    later = places + gap / alignment.speed
    other = _at(second.thumbnails, places), _at(second.thumbnails, later)
    if alignment.mirrored:
        other = other[0][:, :, ::-1], other[1][:, :, ::-1]
    fit = _Fit(one[1] - one[0], other[1] - other[0])
    boxes = fit.best(_box(first, second, alignment, times, places))
    motion = fit.value(*boxes)
    look = _look(one[0].mean(0), other[0].mean(0), *boxes)
    return motion, look


def _at(thumbnails: Thumbnails, places: Floats) -> Floats:
    inside = np.clip(places, 0, len(thumbnails) - 1)
    low = np.floor(inside).astype(np.int64)
    high = np.minimum(low + 1, len(thumbnails) - 1)
    share = (inside - low).astype(np.float32)[:, None, None]
    one = thumbnails[low].astype(np.float32)
    return one + (thumbnails[high].astype(np.float32) - one) * share


Axis = tuple[float, float]  # Scale and offset: place in the first, of the
# place in the second, both from the middle.


def _box(
    first: Footage,
    second: Footage,
    alignment: Alignment,
    times: Floats,
    places: Floats,
) -> tuple[Axis, Axis]:
    """Estimates where the second lies in the first, by its motion."""
    one = resampled(first.signals, times)
    other = resampled(second.signals, places)
    if alignment.mirrored:
        other = other * MIRRORED
        other[:, 1] += (THUMBNAIL_PIXELS - 1) / PLACE_PIXELS
    axes = []
    for column, spread in ((1, 3), (2, 4)):
        # The spread is a length, too, and less noisy than where the center is.
        ratio = float(np.exp((one[:, spread] - other[:, spread]).mean()))
        scale = float(np.clip(ratio, 0.4, 2.5))
        middle_of = (THUMBNAIL_PIXELS - 1) / 2
        centers = (x[:, column].mean() * PLACE_PIXELS for x in (one, other))
        here, there = (center - middle_of for center in centers)
        offset = here - scale * there
        axes.append((scale, float(offset)))
    return axes[0], axes[1]


# As it is, and crops of one of the two, from the middle and the corners.
_STARTS: list[tuple[Axis, Axis]] = [
    ((1.0, 0.0), (1.0, 0.0)),
    *(
        ((scale, x * share), (scale, y * share))
        for scale, share in ((0.8, 1.5), (1.25, 2.0))
        for x, y in ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
    ),
]


class _Fit:
    """How well the motion of one video agrees with that of another, moved."""

    def __init__(self, first: Floats, second: Floats) -> None:
        self.first, self.second = first, second
        self.moves_first = np.abs(first).mean(0) > _LEAST_CHANGE
        self.moves_second = np.abs(second).mean(0)
        self.power = _products(first, first)

    def best(self, start: tuple[Axis, Axis]) -> tuple[Axis, Axis]:
        """Returns the axes at which they agree best, near a start or as is."""
        starts = [start, *_STARTS]
        chosen = max(starts, key=lambda axes: self.value(*axes))
        highest = self.value(*chosen)
        for spread, least in _SEARCH:
            if highest < least:
                break
            for axis in (0, 1):
                for change in (
                    *((scale**spread, 0.0) for scale in _SCALES),
                    *((1.0, shift * spread) for shift in _SHIFTS),
                    *((s**spread, o * spread) for s, o in _CORNERS),
                ):
                    tried = _moved(chosen, axis, *change)
                    if (value := self.value(*tried)) > highest:
                        chosen, highest = tried, value
        return chosen

    def value(self, x: Axis, y: Axis) -> float:
        """Returns the agreement at two axes, at most 1."""
        seen = np.outer(_covered(y), _covered(x))
        if seen.mean() < _LEAST_AREA:
            return -1.0
        across, down = _matrix(x).T, _matrix(y)
        still = down @ self.moves_second @ across <= _LEAST_CHANGE
        mask = seen & self.moves_first & ~still
        kept = self.power[mask].sum()
        if kept < _LEAST_SHARED_MOTION * self.power[seen].sum():
            return -1.0
        moved = down @ self.second @ across
        both = _products(moved, self.first)[mask].sum()
        weight = np.sqrt(kept * _products(moved, moved)[mask].sum())
        return float(both / max(weight, 1e-6))


def _products(first: Floats, second: Floats) -> Floats:
    """Returns the products of two videos, `(T, H, W)`, summed over time."""
    return np.asarray(np.einsum("thw,thw->hw", first, second))


def _moved(
    axes: tuple[Axis, Axis], axis: int, scale: float, shift: float
) -> tuple[Axis, Axis]:
    changed = list(axes)
    old = axes[axis]
    changed[axis] = (old[0] * scale, old[1] + shift)
    return changed[0], changed[1]


@functools.lru_cache(4096)
def _matrix(axis: Axis) -> Floats:
    """Returns the `(16, 16)` matrix that resamples along an axis.

    Row i holds the weights of the second's pixels at place i of the first; it
    is 0 outside of the second.
    """
    scale, offset = axis
    middle = (THUMBNAIL_PIXELS - 1) / 2
    places = (np.arange(THUMBNAIL_PIXELS) - middle - offset) / scale + middle
    # A pixel of the first covers several of the second if that is larger.
    width = max(1.0, 1 / scale)
    distance = np.abs(places[:, None] - np.arange(THUMBNAIL_PIXELS)[None])
    weights = np.maximum(0, 1 - distance / width)
    total = weights.sum(1, keepdims=True)
    inside = (places > -0.75) & (places < THUMBNAIL_PIXELS - 0.25)
    rows = weights / np.maximum(total, 1e-6) * inside[:, None]
    return np.asarray(rows, np.float32)


@functools.lru_cache(4096)
def _covered(axis: Axis) -> NDArray[np.bool_]:
    """Returns which places along an axis of the first the second covers."""
    return np.asarray(_matrix(axis).sum(1) > 0.5)


def _eroded(matrix: Floats, scale: float) -> NDArray[np.bool_]:
    """Returns the places that show no border, which a thumbnail blurs."""
    seen = matrix.sum(1) > 0.5
    for _ in range(int(np.ceil(max(1.0, scale)))):
        seen = seen & np.r_[False, seen[:-1]] & np.r_[seen[1:], False]
    return np.asarray(seen)


def _look(first: Floats, second: Floats, x: Axis, y: Axis) -> float:
    """Compares pictures where both are seen, but for a banner's height."""
    across, down = _matrix(x), _matrix(y)
    seen = np.outer(_eroded(down, y[0]), _eroded(across, x[0]))
    moved = down @ second @ across.T
    quarter = THUMBNAIL_PIXELS // 4
    best = -1.0
    for rows in (slice(None), slice(quarter, None), slice(None, -quarter)):
        mask = np.zeros_like(seen)
        mask[rows] = seen[rows]
        if mask.mean() < _LEAST_AREA / 2:
            continue
        one, other = first[mask], moved[mask]
        one, other = one - one.mean(), other - other.mean()
        weight = np.linalg.norm(one) * np.linalg.norm(other)
        best = max(best, float((one * other).sum() / max(weight, 1e-6)))
    return best
