"""Computes the features of videos that a store does not have yet."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from har_keras.backbones.extractor import FeatureExtractor
from har_keras.clips.read_ahead import map_ahead
from har_keras.clips.sampling import crop_clip
from har_keras.features.feature_store import FeatureStore, View, write_array
from har_keras.progress import ProgressBar

# At most this many frames are in memory for each video that is read ahead, at
# 300 kB each for 320 pixels.
_FRAMES_IN_GROUP = 256


@dataclass(frozen=True)
class Wanted:
    """A video whose features are wanted.

    Args:
        sha256: str. Hash of its content, and of a part its frames: its `key`.
        num_frames: int. Its frames that are used.
        views: tuple of View. The parts of the frames.
    """

    sha256: str
    num_frames: int
    views: tuple[View, ...]


@dataclass(frozen=True)
class _Task:
    """Some clips of a video, and the views of them that are missing."""

    sha256: str
    num_rows: int
    rows: np.ndarray
    views: tuple[View, ...]


@dataclass(frozen=True)
class _Part:
    """The frames of some clips of a view, and which of them each clip has."""

    file: Path
    num_rows: int
    frames: np.ndarray
    clips: np.ndarray


def extract(
    features: FeatureStore,
    wanted: Sequence[Wanted],
    extractor: FeatureExtractor,
    *,
    advance: Callable[[], object] | None = None,
) -> None:
    """Computes the features of videos, and keeps them.

    What is there is left. An interrupted call is resumed by the next, and
    concurrent calls are safe.

    Args:
        features: FeatureStore. Includes the new features afterwards.
        wanted: Sequence of Wanted. The videos, and the views of them.
        extractor: FeatureExtractor. The network.
        advance: Callable or None. Called after each file that was written.

    Raises:
        EnvironmentFault: If the disk is full or can't be written to.
    """
    videos = {video.sha256: video for video in wanted}  # copies once
    tasks = [task for v in videos.values() for task in _tasks(features, v)]
    total = sum(len(task.rows) * len(task.views) for task in tasks)
    if not tasks:
        return

    def read(task: _Task) -> list[_Part]:
        return _read(features, task)

    found: dict[Path, list[np.ndarray]] = {}
    with ProgressBar("Reading features", total) as bar:
        for part in itertools.chain.from_iterable(map_ahead(read, tasks)):
            rows = extractor.features(part.frames, part.clips)
            done = [*found.pop(part.file, []), rows]
            bar.advance(len(rows))
            if sum(map(len, done)) == part.num_rows:
                write_array(part.file, np.concatenate(done))
                if advance:
                    advance()
            else:
                found[part.file] = done


def _tasks(features: FeatureStore, video: Wanted) -> Iterator[_Task]:
    """Yields the missing views of a video, a bounded number of rows each."""
    missing = tuple(
        view
        for view in video.views
        if not features.has_features(video.sha256, view)
    )
    if not missing:
        return
    rows = features.rows(video.num_frames)
    step = max(1, _FRAMES_IN_GROUP // features.clip.num_frames)
    for begin in range(0, len(rows), step):
        part = rows[begin : begin + step]
        yield _Task(video.sha256, len(rows), part, missing)


def _read(features: FeatureStore, task: _Task) -> list[_Part]:
    """Reads the frames of some clips once, for all views of them."""
    needed, places = np.unique(task.rows, return_inverse=True)
    frames = features.frames(task.sha256, needed)
    parts = []
    for view in task.views:
        images = crop_clip(
            frames, features.clip.crop_size, position=view.position
        )
        if view.mirrored:
            images = np.ascontiguousarray(images[:, :, ::-1])
        file = features.feature_file(task.sha256, view)
        clips = places.reshape(task.rows.shape)
        parts.append(_Part(file, task.num_rows, images, clips))
    return parts
