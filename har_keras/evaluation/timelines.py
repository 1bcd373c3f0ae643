"""Timelines of whole videos, beside their labels in time."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from har_keras.errors import UsageError
from har_keras.evaluation.segments import VideoSegments, evaluate_segments
from har_keras.inference.classifier import Classifier
from har_keras.inference.timeline import Segment, TimelineConfig
from har_keras.manifest.manifest import Video
from har_keras.manifest.parts import Timed, is_part
from har_keras.progress import ProgressBar
from har_keras.store.store import Store

# Frames that are in memory at once, at 100 kB each.
_FRAMES_AT_ONCE = 256


def measure_segments(
    classifier: Classifier,
    store: Store,
    videos: Sequence[Video],
    options: TimelineConfig | None = None,
    known: Collection[str] | None = None,
) -> tuple[dict[str, Any], list[VideoSegments]]:
    """Measures the timelines of whole videos against labels in time.

    Args:
        classifier: Classifier. The model and its calibration.
        store: Store. The decoded frames; nothing is decoded again.
        videos: Sequence of Video. Usable ones. Those of which no part is
            labelled don't count.
        options: TimelineConfig or None. How windows are merged. Defaults to
            that of `predict`.
        known: Collection of str or None. The files of which anything tells
            the group. Defaults to all.

    Returns:
        The figures, empty without labels in time; and the segments of each
        video.

    """
    labels = _labels_by_file(videos)
    if not labels:
        return {}, []
    options = (options or TimelineConfig()).of_model(classifier.calibration)
    found = []
    with ProgressBar("Localizing actions", len(labels)) as bar:
        for file, mine in labels.items():
            is_known = known is None or file in known
            found.append(_compared(classifier, store, mine, options, is_known))
            bar.advance()
    figures = evaluate_segments(found, classifier.class_names)
    return {**figures, "timeline": dataclasses.asdict(options)}, found


def require_labels_in_time(
    videos: Iterable[Timed], options: TimelineConfig | None
) -> None:
    """Checks options of a timeline, before a video is decoded.

    Args:
        videos: Iterable of Video. What is to be evaluated.
        options: TimelineConfig or None. What was chosen, if anything was.

    Raises:
        UsageError: If an option is out of its range, or no label has a time.
    """
    if options and options.validated() and not any(map(is_part, videos)):
        raise UsageError(
            "--hop-seconds, --smooth-seconds, --threshold, --max-distance, "
            "--hysteresis and --min-seconds are for videos with labels in "
            "time, and there are none. Leave them out."
        )


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
    is_group_known: bool,
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
        is_group_known,
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
