"""What is seen when: windows of a long video merged into segments."""

import itertools
from dataclasses import dataclass

import numpy as np

from har_keras.errors import UsageError
from har_keras.inference.calibration import apply_temperature

NONE = "none"
"""What a segment is called in which no class is likely enough."""

_NO_CLASS = -1


@dataclass(frozen=True)
class TimelineConfig:
    """How windows become segments."""

    hop_seconds: float = 1.0
    """Seconds from one window to the next; the window is a clip long."""
    smooth_seconds: float = 3.0
    """Seconds over which probabilities are averaged before segments are cut."""
    threshold: float = 0.5
    """Calibrated probability from which a class is named; "none" below it."""
    hysteresis: float = 0.1
    """By how much another class must lead, or the threshold be missed, before
    a segment ends."""
    min_seconds: float = 2.0
    """Shorter segments go to their longer neighbour."""

    def validated(self) -> "TimelineConfig":
        """Returns self.

        Raises:
            UsageError: If a value is out of its range.
        """
        for name, low, high in (
            ("hop_seconds", 0.0, 3600.0),
            ("threshold", 0.0, 1.0),
        ):
            if not low < getattr(self, name) <= high:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be above {low:g} and up "
                    f"to {high:g}. Received: {getattr(self, name)}."
                )
        for name in ("smooth_seconds", "hysteresis", "min_seconds"):
            if not getattr(self, name) >= 0:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be 0 or more. Received: "
                    f"{getattr(self, name)}."
                )
        return self


@dataclass(frozen=True)
class Segment:
    """A stretch of a video in which one class is seen.

    Args:
        start_seconds: float. Its beginning.
        end_seconds: float. Its end.
        label: str. The class, or "none".
        score: float. Mean calibrated probability of the class; for "none",
            of the likeliest one.
    """

    start_seconds: float
    end_seconds: float
    label: str
    score: float


@dataclass(frozen=True)
class Timeline:
    """What is seen when.

    Args:
        class_names: tuple of str. Names in label order.
        edges: float array of shape `(num_windows + 1,)`, in seconds. A window
            speaks for the time around its middle, from edge to edge.
        probabilities: float array of shape `(num_windows, K)`, calibrated and
            smoothed.
        segments: tuple of Segment. They follow each other without gaps.
    """

    class_names: tuple[str, ...]
    edges: np.ndarray
    probabilities: np.ndarray
    segments: tuple[Segment, ...]

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return float(self.edges[-1])

    def at(self, seconds: float) -> tuple[Segment, np.ndarray]:
        """Returns the segment and the probabilities `(K,)` at a time."""
        ends = [segment.end_seconds for segment in self.segments]
        place = int(np.searchsorted(ends, seconds, side="right"))
        window = int(np.searchsorted(self.edges[1:-1], seconds, side="right"))
        segment = self.segments[min(place, len(self.segments) - 1)]
        return segment, self.probabilities[window]


def build_timeline(
    starts: np.ndarray,
    probabilities: np.ndarray,
    *,
    class_names: tuple[str, ...],
    seconds: float,
    window_seconds: float,
    options: TimelineConfig,
    temperature: float = 1.0,
) -> Timeline:
    """Merges windows into segments.

    Args:
        starts: float array of shape `(num_windows,)`. Where windows begin, in
            seconds.
        probabilities: float array of shape `(num_windows, K)`.
        class_names: tuple of str. Names in label order.
        seconds: float. Length of the video.
        window_seconds: float. Length of a window.
        options: TimelineConfig. How to merge.
        temperature: float. That of single windows. Defaults to `1`.

    Returns:
        A `Timeline`.
    """
    middles = starts + window_seconds / 2
    between = (middles[1:] + middles[:-1]) / 2
    edges = np.array([0.0, *np.minimum(between, seconds), seconds])
    smooth = smoothed(
        apply_temperature(probabilities, temperature),
        round(options.smooth_seconds / options.hop_seconds),
    )
    labels = without_short(
        with_hysteresis(smooth, options.threshold, options.hysteresis),
        edges,
        options.min_seconds,
    )
    segments = _segments(labels, edges, smooth, class_names)
    return Timeline(class_names, edges, smooth, segments)


def smoothed(probabilities: np.ndarray, num_windows: int) -> np.ndarray:
    """Returns means over neighbouring windows, fewer at both ends.

    Args:
        probabilities: float array of shape `(num_windows, K)`.
        num_windows: int. Windows in a mean; one more if it is even, so that
            nothing is moved in time.

    Returns:
        float array of the same shape.

    Example:

    >>> smoothed(np.array([[0.0], [3.0], [0.0], [0.0]]), 3).ravel().tolist()
    [1.5, 1.0, 1.0, 0.0]
    """
    reach = max(0, num_windows) // 2
    count = len(probabilities)
    sums = np.concatenate(
        [np.zeros((1, probabilities.shape[1])), probabilities.cumsum(0)]
    )
    begins = np.maximum(np.arange(count) - reach, 0)
    ends = np.minimum(np.arange(count) + reach + 1, count)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins)[:, None])


def with_hysteresis(
    probabilities: np.ndarray, threshold: float, hysteresis: float
) -> np.ndarray:
    """Returns the label of each window; -1 is "none".

    A class begins when it reaches the threshold. It goes on until another one
    leads by the hysteresis, or it is that far below the threshold.

    Args:
        probabilities: float array of shape `(num_windows, K)`.
        threshold: float. Probability from which a class is named.
        hysteresis: float. 0 names the likeliest class of each window.

    Returns:
        `int64` array of shape `(num_windows,)`.

    Example:

    >>> rows = np.array([[0.6, 0.4], [0.48, 0.52], [0.4, 0.6], [0.5, 0.5]])
    >>> with_hysteresis(rows, 0.5, 0.1).tolist()
    [0, 0, 1, 1]
    """
    labels = np.empty(len(probabilities), np.int64)
    current = _NO_CLASS
    for index, row in enumerate(probabilities):
        current = next_label(current, row, threshold, hysteresis)
        labels[index] = current
    return labels


def next_label(
    current: int, row: np.ndarray, threshold: float, hysteresis: float
) -> int:
    """Returns the label of a window that follows one labelled `current`.

    Example:

    >>> next_label(-1, np.array([0.4, 0.6]), 0.5, 0.1)
    1
    """
    best = int(row.argmax())
    if current != _NO_CLASS and row[current] < threshold - hysteresis:
        current = _NO_CLASS
    leads = current == _NO_CLASS or row[best] - row[current] >= hysteresis
    return best if row[best] >= threshold and leads else current


def without_short(
    labels: np.ndarray, edges: np.ndarray, min_seconds: float
) -> np.ndarray:
    """Returns labels in which no stretch is too short, shortest ones first.

    Args:
        labels: int array of shape `(num_windows,)`.
        edges: float array of shape `(num_windows + 1,)`, in seconds.
        min_seconds: float. A shorter stretch is given to the longer of its
            neighbours.

    Returns:
        int array of the same shape.

    Example:

    >>> without_short(np.array([0, 0, 1, 0]), np.arange(5.0), 2.0).tolist()
    [0, 0, 0, 0]
    """
    labels = labels.copy()
    while True:
        bounds = _bounds(labels)
        lengths = [edges[end] - edges[begin] for begin, end in bounds]
        short = int(np.argmin(lengths))
        if len(bounds) == 1 or lengths[short] >= min_seconds:
            return labels
        left = lengths[short - 1] if short else -1.0
        right = lengths[short + 1] if short + 1 < len(bounds) else -1.0
        begin, end = bounds[short]
        labels[begin:end] = labels[begin - 1] if left >= right else labels[end]


def _bounds(labels: np.ndarray) -> list[tuple[int, int]]:
    """Returns begin and end of each stretch of one label.

    Example:

    >>> _bounds(np.array([0, 0, 1]))
    [(0, 2), (2, 3)]
    """
    changes = np.flatnonzero(np.diff(labels)) + 1
    edges = [0, *changes.tolist(), len(labels)]
    return list(itertools.pairwise(edges))


def _segments(
    labels: np.ndarray,
    edges: np.ndarray,
    probabilities: np.ndarray,
    class_names: tuple[str, ...],
) -> tuple[Segment, ...]:
    segments = []
    for begin, end in _bounds(labels):
        label = int(labels[begin])
        rows = probabilities[begin:end]
        scores = rows.max(1) if label == _NO_CLASS else rows[:, label]
        segments.append(
            Segment(
                float(edges[begin]),
                float(edges[end]),
                NONE if label == _NO_CLASS else class_names[label],
                float(scores.mean()),
            )
        )
    return tuple(segments)
