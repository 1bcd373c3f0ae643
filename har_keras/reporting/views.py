"""Probabilities of whole videos: the mean over views in time and space."""

import collections
import itertools
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np

from har_keras.config import ClipConfig, EvaluationConfig
from har_keras.video.dataset import FRAME_STRIDE
from har_keras.video.manifest import Manifest, Video
from har_keras.video.sampling import (
    clip_frame_indices,
    crop_clip,
    view_starts,
)
from har_keras.video.store import Store

Control = Literal["single_frame", "shuffled", "reversed"]
CONTROLS: tuple[Control, ...] = ("single_frame", "shuffled", "reversed")

# Clips given to the model at once. Constant, the last batch filled up, so that
# a model is compiled once and a video's figures don't depend on its company.
_BATCH_SIZE = 24


def predict_videos(
    model: Any,
    store: Store,
    manifest: Manifest,
    videos: Sequence[Video],
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    control: Control | None = None,
    progress: Callable[[], object] | None = None,
) -> np.ndarray:
    """Returns the probabilities of videos, averaged over their views.

    Frames are read ahead of the model by a few videos and dropped after it,
    so memory stays the same for any number of videos.

    Args:
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`.
        store: Store. The decoded frames.
        manifest: Manifest. Gives the number of classes, K.
        videos: Sequence of Video. Usable ones: each has `kept_frames > 0`.
        clip: ClipConfig. What the model was trained on.
        evaluation: EvaluationConfig. Number of views in time and in space.
        control: str or None. Takes time out of the clips, to show what it is
            worth: "single_frame" repeats the middle frame, "shuffled" puts
            the frames in a random order, "reversed" turns it around.
        progress: Callable or None. Called after each video.

    Returns:
        `float64` array of shape `(num_videos, K)`; each row sums to 1.
    """
    num_views = evaluation.num_clips * evaluation.num_crops
    sums = np.zeros((len(videos), len(manifest.class_names)))

    def read(video: Video) -> np.ndarray:
        return view_clips(store, video, clip, evaluation, control=control)

    def views() -> Iterator[tuple[int, np.ndarray]]:
        for index, clips in enumerate(_read_ahead(read, videos)):
            yield from ((index, view) for view in clips)
            if progress:
                progress()

    for batch in _batches(views()):
        probabilities = _predict([view for _, view in batch], model)
        for (index, _), row in zip(batch, probabilities, strict=True):
            sums[index] += row
    return sums / num_views


def view_clips(
    store: Store,
    video: Video,
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    control: Control | None = None,
) -> np.ndarray:
    """Reads every view of a video.

    Args:
        store: Store. The decoded frames.
        video: Video. A usable one.
        clip: ClipConfig. What the model was trained on.
        evaluation: EvaluationConfig. Number of views.
        control: str or None. As for `predict_videos`.

    Returns:
        `uint8` array of shape `(V, T, crop_size, crop_size, 3)`: clips in time
        slowest, crops fastest.
    """
    indices = view_indices(
        video.kept_frames, clip, evaluation.num_clips
    )  # (num_clips, T)
    if control:
        name = video.file.encode(errors="surrogateescape")
        rng = np.random.default_rng(zlib.crc32(name))
        indices = np.stack([reordered(row, control, rng) for row in indices])
    # Clips overlap in a short video: each of its frames is read once.
    needed, places = np.unique(indices, return_inverse=True)
    frames = store.frames(video.sha256, needed)
    positions = crop_positions(evaluation.num_crops)
    return np.stack(
        [
            crop_clip(frames[row], clip.crop_size, position=position)
            for row in places.reshape(indices.shape)
            for position in positions
        ]
    )


def view_indices(
    num_video_frames: int, clip: ClipConfig, num_clips: int
) -> np.ndarray:
    """Returns the stored frames of each clip, `int64` `(num_clips, T)`."""
    options = {"num_frames": clip.num_frames, "frame_stride": FRAME_STRIDE}
    starts = view_starts(num_video_frames, num_clips=num_clips, **options)
    return np.stack(
        [
            clip_frame_indices(num_video_frames, start=start, **options)
            for start in starts
        ]
    )


def crop_positions(num_crops: int) -> list[float]:
    """Returns where crops lie along the long side, 0 to 1.

    Example:

    >>> crop_positions(1), crop_positions(3)
    ([0.5], [0.0, 0.5, 1.0])
    """
    if num_crops == 1:
        return [0.5]
    return [float(position) for position in np.linspace(0, 1, num_crops)]


def reordered(
    indices: np.ndarray, control: Control, rng: np.random.Generator
) -> np.ndarray:
    """Returns the frames of a clip with time taken out of them.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> reordered(np.arange(4), "reversed", rng)
    array([3, 2, 1, 0])
    >>> reordered(np.arange(4), "single_frame", rng)
    array([2, 2, 2, 2])
    """
    if control == "single_frame":
        return np.full_like(indices, indices[len(indices) // 2])
    if control == "reversed":
        return indices[::-1]
    return rng.permutation(indices)


def _read_ahead(
    read: Callable[[Video], np.ndarray], videos: Sequence[Video]
) -> Iterator[np.ndarray]:
    """Yields what `read` returns for each video, in order, read in threads."""
    workers = min(8, os.cpu_count() or 1)
    waiting: collections.deque[Future[np.ndarray]] = collections.deque()
    with ThreadPoolExecutor(workers, "views") as pool:
        try:
            for video in videos:
                waiting.append(pool.submit(read, video))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _batches(
    views: Iterator[tuple[int, np.ndarray]],
) -> Iterator[list[tuple[int, np.ndarray]]]:
    while batch := list(itertools.islice(views, _BATCH_SIZE)):
        yield batch


def _predict(clips: list[np.ndarray], model: Any) -> np.ndarray:
    """Returns the probabilities of up to a batch of clips, `(B, K)`."""
    filled = np.stack(clips + clips[-1:] * (_BATCH_SIZE - len(clips)))
    probabilities = np.asarray(model.predict_on_batch(filled), dtype="float64")
    return probabilities[: len(clips)]
