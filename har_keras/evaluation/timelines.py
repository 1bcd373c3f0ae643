"""Timelines of whole videos, beside their labels in time."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from har_keras.errors import UsageError
from har_keras.evaluation.segments import VideoSegments, evaluate_segments
from har_keras.inference.classifier import Classifier
from har_keras.inference.timeline import Segment, TimelineConfig
from har_keras.manifest.manifest import Video
from har_keras.progress import ProgressBar
from har_keras.store.store import Store

# Frames that are in memory at once, at 100 kB each.
_FRAMES_AT_ONCE = 256


def measure_segments(
    classifier: Classifier,
    store: Store,
    videos: Sequence[Video],
    options: TimelineConfig | None = None,
) -> tuple[dict[str, Any], list[VideoSegments]]:
    """Measures the timelines of whole videos against labels in time.

    Args:
        classifier: Classifier. The model and its calibration.
        store: Store. The decoded frames; nothing is decoded again.
        videos: Sequence of Video. Usable ones. Those of which no part is
            labelled don't count.
        options: TimelineConfig or None. How windows are merged. Defaults to
            that of `predict`.

    Returns:
        The figures, empty without labels in time; and the segments of each
        video.

    Raises:
        UsageError: If there are options, but no labels in time.
    """
    labels = _labels_by_file(videos)
    if not labels and options:
        raise UsageError(
            "--hop-seconds, --smooth-seconds, --threshold, --hysteresis and "
            "--min-seconds are for videos with labels in time, and there are "
            "none. Leave them out."
        )
    if not labels:
        return {}, []
    options = options or TimelineConfig()
    found = []
    with ProgressBar("Localizing actions", len(labels)) as bar:
        for mine in labels.values():
            found.append(_compared(classifier, store, mine, options))
            bar.advance()
    figures = evaluate_segments(found, classifier.class_names)
    return {**figures, "timeline": dataclasses.asdict(options)}, found


def _labels_by_file(videos: Sequence[Video]) -> dict[str, list[Video]]:
    """Returns the samples of each file of which a part is labelled."""
    by_file: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        by_file[video.file].append(video)
    return {
        file: mine
        for file, mine in by_file.items()
        if any(video.is_part for video in mine)
    }


def _compared(
    classifier: Classifier,
    store: Store,
    labels: Sequence[Video],
    options: TimelineConfig,
) -> VideoSegments:
    sha256 = labels[0].sha256
    num_frames, fps = store.num_frames(sha256), store.spec.fps
    frames = _frames(store, sha256, fps / classifier.config.clip.fps)
    timeline = classifier.stored_timeline(frames, options)
    seconds = num_frames / fps
    truth = (
        Segment(
            label.start or 0.0,
            min(seconds, math.inf if label.end is None else label.end),
            label.class_name,
            1.0,
        )
        for label in labels
    )
    return VideoSegments(
        labels[0].file,
        labels[0].group,
        num_frames,
        fps,
        tuple(sorted(truth, key=lambda item: item.start_seconds)),
        timeline.segments,
    )


def _frames(store: Store, sha256: str, stride: float) -> Iterator[np.ndarray]:
    """Yields the stored frames of a video at the rate of a clip."""
    number = store.num_frames(sha256)
    # As `clip_frame_indices` rounds.
    every = np.floor(np.arange(0, number / stride) * stride + 1e-6)
    indices = every[every < number].astype(np.int64)
    for begin in range(0, len(indices), _FRAMES_AT_ONCE):
        part = indices[begin : begin + _FRAMES_AT_ONCE]
        yield from store.frames(sha256, part)
