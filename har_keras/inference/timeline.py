"""Temporal action localization: window predictions merged into segments."""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from har_keras.errors import UsageError
from har_keras.inference.calibration import Calibration
from har_keras.serving.acceptance import apply_temperature

NONE = "none"
"""Label of segments in which no class reaches the threshold."""

_NO_CLASS = -1


_MOST_WINDOWS = 10**6


@dataclass(frozen=True)
class TimelineConfig:
    """How window predictions are merged into segments."""

    hop_seconds: float = 1.0
    """Seconds from one window to the next; a window is one clip."""
    smooth_seconds: float = 3.0
    """Seconds over which probabilities are averaged before merging."""
    threshold: float | None = None
    """Minimum calibrated probability of a class; "none" below it. Default:
    the model's own, chosen on validation."""
    max_distance: float | None = None
    """Maximum distance from the training videos; "none" beyond it. Default:
    the model's own, chosen on validation."""
    hysteresis: float = 0.1
    """Margin by which another class must lead, or the threshold be missed, to
    end a segment."""
    min_seconds: float = 2.0
    """Shorter segments are merged into their longer neighbor."""

    def validated(self) -> "TimelineConfig":
        """Returns self.

        Raises:
            UsageError: If a value is out of its range.
        """
        for name, high in (
            ("hop_seconds", 3600.0), ("threshold", 1.0), ("max_distance", 1e9),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 < value <= high:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be above 0 and up "
                    f"to {high:g}. Received: {value}."
                )
        for name in ("smooth_seconds", "hysteresis", "min_seconds"):
            if not getattr(self, name) >= 0:
                raise UsageError(
                    f"--{name.replace('_', '-')} must be 0 or more. Received: "
                    f"{getattr(self, name)}."
                )
        return self

    @property
    def smooth_windows(self) -> int:
        """Windows that are averaged over, whatever times are given."""
        return round(min(self.smooth_seconds / self.hop_seconds, _MOST_WINDOWS))

    def of_model(self, calibration: Calibration) -> "TimelineConfig":
        """Returns it with the model's criteria, unless others are given.

        Raises:
            UsageError: If there is a distance, and the model knows of none.
        """
        found = self
        if found.threshold is None:
            found = replace(found, threshold=calibration.segment_threshold)
        if found.max_distance is None:
            return replace(found, max_distance=calibration.window_limit)
        if calibration.window_limit is None:
            raise UsageError(
                "--max-distance needs a model that knows its training videos, "
                "and this one has no limit of its own: its run has no "
                "backbone, or less than 9 known groups of validation videos, "
                "or is of an earlier version. Leave it out."
            )
        return found


@dataclass(frozen=True)
class Segment:
    """An interval of a video with one label.

    Args:
        start_seconds: float. Start of the interval.
        end_seconds: float. End of the interval.
        label: str. The class, or "none".
        score: float. Mean calibrated probability of the class; for "none",
            of the most probable class.
    """

    start_seconds: float
    end_seconds: float
    label: str
    score: float


@dataclass(frozen=True)
class Timeline:
    """Class probabilities over time, and the segments.

    Args:
        class_names: tuple of str. Class names in label order.
        edges: float array of shape `(num_windows + 1,)`, in seconds. A window
            stands for the time around its middle, from edge to edge.
        probabilities: float array of shape `(num_windows, K)`, calibrated and
            smoothed.
        segments: tuple of Segment. They cover the video without gaps.
        threshold: float. Smallest probability of a class; 0 accepts all.
        distances: float array of shape `(num_windows,)`, or None. From the
            training videos, smoothed.
        max_distance: float or None. Largest of a class; None accepts all.
    """

    class_names: tuple[str, ...]
    edges: np.ndarray
    probabilities: np.ndarray
    segments: tuple[Segment, ...]
    threshold: float = 0.0
    distances: np.ndarray | None = None
    max_distance: float | None = None

    @property
    def seconds(self) -> float:
        """Length of the video in seconds."""
        return float(self.edges[-1])

    @property
    def longest(self) -> str:
        """The class of most of its seconds; "" if there is none."""
        seconds = dict.fromkeys(self.class_names, 0.0)
        for segment in self.segments:
            if segment.label in seconds:
                length = segment.end_seconds - segment.start_seconds
                seconds[segment.label] += length
        name = max(seconds, key=seconds.__getitem__)
        return name if seconds[name] else ""

    @property
    def far_spans(self) -> list[tuple[float, float]]:
        """Start and end of each window too far from the training videos."""
        if self.distances is None or self.max_distance is None:
            return []
        beyond = np.flatnonzero(self.distances > self.max_distance)
        return [
            (float(self.edges[i]), float(self.edges[i + 1])) for i in beyond
        ]

    @property
    def is_far(self) -> bool:
        """Whether most of it is too far from the training videos."""
        return (
            2 * sum(end - begin for begin, end in self.far_spans) > self.seconds
        )

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
    distances: np.ndarray | None = None,
) -> Timeline:
    """Calibrates, smooths and merges window predictions into segments.

    Args:
        starts: float array of shape `(num_windows,)`. Start of each window in
            seconds.
        probabilities: float array of shape `(num_windows, K)`.
        class_names: tuple of str. Class names in label order.
        seconds: float. Length of the video.
        window_seconds: float. Length of a window.
        options: TimelineConfig. How to merge; without a threshold, the most
            probable class is accepted whatever its probability.
        temperature: float. Calibration temperature of single windows.
            Defaults to `1`.
        distances: float array of shape `(num_windows,)`, or None. From the
            training videos.

    Returns:
        A `Timeline`.
    """
    middles = starts + window_seconds / 2
    between = (middles[1:] + middles[:-1]) / 2
    edges = np.array([0.0, *np.minimum(between, seconds), seconds])
    width = options.smooth_windows
    smooth = smoothed(apply_temperature(probabilities, temperature), width)
    threshold, most = options.threshold or 0.0, options.max_distance
    near = None
    if distances is not None and most is not None:
        distances = smoothed(distances[:, None], width)[:, 0]
        near = np.asarray(distances <= most)
    labels = without_short(
        with_hysteresis(smooth, threshold, options.hysteresis, near),
        edges,
        options.min_seconds,
    )
    segments = _segments(labels, edges, smooth, class_names)
    known = (None, None) if near is None else (distances, most)
    return Timeline(class_names, edges, smooth, segments, threshold, *known)


def smoothed(probabilities: np.ndarray, num_windows: int) -> np.ndarray:
    """Returns the moving average over windows, shorter at both ends.

    Args:
        probabilities: float array of shape `(num_windows, K)`.
        num_windows: int. Width of the average; one more if it is even, so
            that it is centered.

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
    probabilities: np.ndarray,
    threshold: float,
    hysteresis: float,
    near: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the label of each window; -1 is "none".

    A class starts when it reaches the threshold. It ends when another class
    leads by the hysteresis, or when it falls below the threshold by as much.

    Args:
        probabilities: float array of shape `(num_windows, K)`.
        threshold: float. Minimum probability of a class.
        hysteresis: float. 0 is the most probable class of each window.
        near: bool array of shape `(num_windows,)`, or None. Which windows are
            like the training videos; any other has no class. Defaults to all.

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
        if near is None or near[index]:
            current = next_label(current, row, threshold, hysteresis)
        else:
            current = _NO_CLASS
        labels[index] = current
    return labels


def next_label(
    current: int, row: np.ndarray, threshold: float, hysteresis: float
) -> int:
    """Returns the label of the window after one with the label `current`.

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
    """Merges short segments into their neighbors, the shortest first.

    Args:
        labels: int array of shape `(num_windows,)`.
        edges: float array of shape `(num_windows + 1,)`, in seconds.
        min_seconds: float. A shorter segment takes the label of its longer
            neighbor.

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
    """Returns start and end of each run of equal labels.

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
