"""Decides whether two videos show the same footage.

The motion of both has to agree, moment by moment and place by place, once one
is shifted, stretched and mirrored as it takes: where the first is a crop of the
second, has borders, or another speed. What does not move in one of them, as a
banner, is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from har_keras.store.motion import (
    MIRRORED,
    PLACE_PIXELS,
    Footage,
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
# Of a place along an axis, the share that the other video covers.
_COVERED = 0.5
# Moments at which signals are compared at once: four megabytes.
_MOMENTS_AT_ONCE = 2**17
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


@dataclass(frozen=True)
class Pair:
    """Two videos, and how well their signals agree at an alignment.

    Args:
        first: int. Index of a video.
        second: int. Index of the other.
        value: float. The agreement, or how sure it is that there is one.
        found: Alignment. Where the second lies in the first.
    """

    first: int
    second: int
    value: float
    found: Alignment

    def at(self, found: Alignment, value: float) -> Pair:
        """Returns the pair at another alignment."""
        return Pair(self.first, self.second, value, found)


class Signals:
    """The signals of all videos, of which many pairs are compared at once."""

    def __init__(self, videos: Sequence[Footage]) -> None:
        self.videos = videos
        self.lengths = np.array([len(video.signals) for video in videos])
        self.begins = np.cumsum(self.lengths) - self.lengths
        self.table = np.concatenate([video.signals for video in videos])

    def agreements(self, pairs: Sequence[Pair]) -> Iterator[Pair]:
        """Yields pairs with how well their signals agree, at most 1."""
        return self._best(pairs, np.ones(1), np.zeros(1))

    def refined(self, pairs: Sequence[Pair]) -> Iterator[Pair]:
        """Yields pairs with the alignment nearby at which signals agree best.

        Where two overlap too little their value is -1.
        """
        return self._best(pairs, _STRETCHES, _SHIFTS_IN_TIME)

    def _best(
        self, pairs: Sequence[Pair], stretches: Floats, shifts: Floats
    ) -> Iterator[Pair]:
        stretches = stretches.repeat(len(shifts))
        shifts = np.resize(shifts, len(stretches))
        by_length: dict[int, list[tuple[Pair, Floats]]] = defaultdict(list)
        for pair in pairs:
            places = _places(
                self.videos[pair.first], self.videos[pair.second], pair.found
            )
            if places is None:
                yield pair.at(pair.found, -1.0)
            else:
                by_length[len(places)].append((pair, places))
        for length, same in by_length.items():
            number = max(1, _MOMENTS_AT_ONCE // (length * len(stretches)))
            for begin in range(0, len(same), number):
                block = same[begin : begin + number]
                yield from self._of_block(block, stretches, shifts)

    def _of_block(
        self,
        block: Sequence[tuple[Pair, Floats]],
        stretches: Floats,
        shifts: Floats,
    ) -> Iterator[Pair]:
        """Yields pairs whose overlaps are equally long, at their best."""
        pairs = [pair for pair, _ in block]
        first = np.array([pair.first for pair in pairs])
        second = np.array([pair.second for pair in pairs])
        found = np.array([[x.found.start, x.found.speed] for x in pairs])
        speeds = found[:, 1:] * stretches  # (P, V)
        # Stretched about the middle, which stays where it is.
        starts = self.lengths[second, None] / 2 * (found[:, 1:] - speeds)
        starts += found[:, :1] + shifts
        there = np.stack([places for _, places in block])  # (P, L)
        here = starts[..., None] + there[:, None] * speeds[..., None]
        one = self._at(first[:, None], here)  # (P, V, L, 8)
        other = self._at(second, there)
        mirrored = np.array([pair.found.mirrored for pair in pairs])
        other[mirrored] *= MIRRORED
        one, other = standardized(one), standardized(other)[:, None]
        weights = np.linalg.norm(one, axis=(2, 3))
        weights *= np.linalg.norm(other, axis=(2, 3))
        values = (one * other).sum((2, 3)) / np.maximum(weights, 1e-6)
        for i, best in enumerate(values.argmax(1).tolist()):
            start, speed = float(starts[i, best]), float(speeds[i, best])
            near = Alignment(start, speed, pairs[i].found.mirrored)
            yield pairs[i].at(near, float(values[i, best]))

    def _at(self, videos: NDArray[np.int64], places: Floats) -> Floats:
        """Returns the signals of videos `(...)` at places `(..., L)`."""
        begins, lengths = self.begins[videos, None], self.lengths[videos, None]
        return resampled(self.table, places, begins, lengths)


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
    boxes, motion = fit.best(_box(first, second, alignment, times, places))
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
        self.first = np.ascontiguousarray(first.transpose(1, 0, 2))  # (H, T, W)
        self.moves_first = np.abs(first).mean(0) > _LEAST_CHANGE
        self.moves_second = np.abs(second).mean(0)
        self.power = np.einsum("htw,htw->hw", self.first, self.first)
        self.rows = second.transpose(1, 0, 2).reshape(THUMBNAIL_PIXELS, -1)

    def best(self, start: tuple[Axis, Axis]) -> tuple[tuple[Axis, Axis], float]:
        """Returns the axes at which they agree best, near a start or as is."""
        starts = [start, *_STARTS]
        values = self.values(starts)
        best = int(values.argmax())
        chosen, highest = starts[best], float(values[best])
        for spread, least in _SEARCH:
            if highest < least:
                break
            changes = [
                *((scale**spread, 0.0) for scale in _SCALES),
                *((1.0, shift * spread) for shift in _SHIFTS),
                *((s**spread, o * spread) for s, o in _CORNERS),
            ]
            for axis in (0, 1):
                chosen, highest = self._climbed(chosen, highest, axis, changes)
        return chosen, highest

    def _climbed(
        self,
        chosen: tuple[Axis, Axis],
        highest: float,
        axis: int,
        changes: Sequence[Axis],
    ) -> tuple[tuple[Axis, Axis], float]:
        """Makes the changes that are better, one after the other."""
        while changes:
            tried = [_moved(chosen, axis, *change) for change in changes]
            values = self.values(tried)
            better = np.flatnonzero(values > highest)
            if not len(better):
                break
            chosen, highest = tried[better[0]], float(values[better[0]])
            changes = changes[better[0] + 1 :]
        return chosen, highest

    def values(self, axes: Sequence[tuple[Axis, Axis]]) -> Floats:
        """Returns the agreement at pairs of axes, x and y, at most 1 each."""
        across = _matrices([x for x, _ in axes]).transpose(0, 2, 1)
        down = _matrices([y for _, y in axes])
        seen = (down.sum(2) > _COVERED)[:, :, None]
        seen = seen & (across.sum(1) > _COVERED)[:, None, :]
        still = down @ self.moves_second @ across <= _LEAST_CHANGE
        mask = seen & self.moves_first & ~still
        kept = (self.power * mask).sum((1, 2))
        usable = kept >= _LEAST_SHARED_MOTION * (self.power * seen).sum((1, 2))
        usable &= seen.mean((1, 2)) >= _LEAST_AREA
        values = np.full(len(axes), -1.0, np.float32)
        if usable.any():
            moved = self._moved(across[usable], down[usable])
            both = np.einsum("khtw,htw->khw", moved, self.first)
            own = np.einsum("khtw,khtw->khw", moved, moved)
            inside = mask[usable]
            weight = kept[usable] * (own * inside).sum((1, 2))
            both = (both * inside).sum((1, 2))
            values[usable] = both / np.maximum(np.sqrt(weight), 1e-6)
        return values

    def _moved(self, across: Floats, down: Floats) -> Floats:
        """Returns the second, moved by K pairs of matrices, `(K, H, T, W)`."""
        pixels = THUMBNAIL_PIXELS
        lines = down.reshape(-1, pixels) @ self.rows
        moved = lines.reshape(len(down), -1, pixels) @ across
        return np.asarray(moved.reshape(len(down), pixels, -1, pixels))


def _moved(
    axes: tuple[Axis, Axis], axis: int, scale: float, shift: float
) -> tuple[Axis, Axis]:
    changed = list(axes)
    old = axes[axis]
    changed[axis] = (old[0] * scale, old[1] + shift)
    return changed[0], changed[1]


def _matrices(axes: Sequence[Axis]) -> Floats:
    """Returns the matrices `(K, 16, 16)` that resample along K axes.

    Row i holds the weights of the second's pixels at place i of the first; it
    is 0 outside of the second.
    """
    scale, offset = np.array(axes).T[:, :, None, None]
    middle = (THUMBNAIL_PIXELS - 1) / 2
    pixels = np.arange(THUMBNAIL_PIXELS)
    places = (pixels[:, None] - middle - offset) / scale + middle
    # A pixel of the first covers several of the second if that is larger.
    width = np.maximum(1.0, 1 / scale)
    weights = np.maximum(0, 1 - np.abs(places - pixels) / width)
    total = weights.sum(2, keepdims=True)
    inside = (places > -0.75) & (places < THUMBNAIL_PIXELS - 0.25)
    rows = weights / np.maximum(total, 1e-6) * inside
    return np.asarray(rows, np.float32)


def _eroded(matrix: Floats, scale: float) -> NDArray[np.bool_]:
    """Returns the places that show no border, which a thumbnail blurs."""
    seen = matrix.sum(1) > _COVERED
    for _ in range(int(np.ceil(max(1.0, scale)))):
        seen = seen & np.r_[False, seen[:-1]] & np.r_[seen[1:], False]
    return np.asarray(seen)


def _look(first: Floats, second: Floats, x: Axis, y: Axis) -> float:
    """Compares pictures where both are seen, but for a banner's height."""
    across, down = _matrices([x, y])
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
