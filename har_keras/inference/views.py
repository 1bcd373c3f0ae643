"""Probabilities of a video: the mean over views in time and space."""

import collections
import functools
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from har_keras.clips.read_ahead import map_ahead
from har_keras.clips.sampling import (
    clip_frame_indices,
    crop_clip,
    crop_positions,
    view_starts,
)
from har_keras.config import ClipConfig, EvaluationConfig
from har_keras.errors import DataError
from har_keras.features.feature_store import FeatureStore, View
from har_keras.inference.controls import Control, background_of, reordered
from har_keras.inference.forward import (
    BATCH_SIZE,
    NO_NUMBER,
    Forward,
    forward_of,
)
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store.store import Store

Item = TypeVar("Item")
Known = TypeVar("Known")
Clips = np.ndarray | Sequence[np.ndarray]
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def predict_videos(
    model: Any,
    store: Store,
    manifest: Manifest,
    videos: Sequence[Video],
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    change: Change | None = None,
    progress: Callable[[], object] | None = None,
) -> np.ndarray:
    """Returns the probabilities of videos, averaged over their views.

    Args:
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`.
        store: Store. The decoded frames.
        manifest: Manifest. Gives the number of classes, K.
        videos: Sequence of Video. Usable ones: each has `kept_frames > 0`.
        clip: ClipConfig. What the model was trained on.
        evaluation: EvaluationConfig. Number of views in time and in space.
        change: Callable or None. Corrupts the frames of a clip, from `uint8`
            `(T, H, W, 3)` to the same shape, with a random generator that is
            the video's own.
        progress: Callable or None. Called after each video.

    Returns:
        `float64` array of shape `(num_videos, K)`; each row sums to 1.
    """
    return predict_views_of_videos(
        model, store, manifest, videos, clip, evaluation,
        change=change, progress=progress,
    ).mean(1)  # fmt: skip


def predict_views_of_videos(
    model: Any,
    store: Store,
    manifest: Manifest,
    videos: Sequence[Video],
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    change: Change | None = None,
    progress: Callable[[], object] | None = None,
    run: Callable[[Any, float], Forward] = forward_of,
) -> np.ndarray:
    """Returns the probabilities of each view of videos.

    Frames are read ahead of the model by a few videos and dropped after it,
    so memory stays the same for any number of videos.

    Args:
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`.
        store: Store. The decoded frames.
        manifest: Manifest. Gives the number of classes, K.
        videos: Sequence of Video. Usable ones: each has `kept_frames > 0`.
        clip: ClipConfig. What the model was trained on.
        evaluation: EvaluationConfig. Number of views in time and in space.
        change: Callable or None. As for `predict_videos`.
        progress: Callable or None. Called after each video.
        run: Callable. As for `predict_views`.

    Returns:
        `float64` array of shape `(num_videos, V, K)`.
    """

    def read(video: Video) -> tuple[np.ndarray, None]:
        if isinstance(store, FeatureStore) and not change:
            return view_features(store, video, evaluation), None
        return view_clips(store, video, clip, evaluation, change=change), None

    num_views = evaluation.num_clips * evaluation.num_crops
    found = []
    total = len(videos) * num_views
    for rows, _ in predict_views(model, read, videos, lambda: total, run=run):
        found.append(rows)
        if progress:
            progress()
    if not found:
        return np.empty((0, num_views, len(manifest.class_names)))
    return np.stack(found)


def predict_views(
    model: Any,
    read: Callable[[Item], tuple[Clips, Known]],
    items: Iterable[Item],
    num_clips: Callable[[], float] = lambda: 0,
    *,
    run: Callable[[Any, float], Forward] = forward_of,
) -> Iterator[tuple[np.ndarray, Known]]:
    """Yields the probabilities of each item's views, in the items' order.

    Items are read ahead of the model by threads, a few at a time, and the
    views of several items share a batch.

    Args:
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`.
        read: Callable. Returns the views of an item, V times `uint8` of shape
            `(T, crop_size, crop_size, 3)` where V may be 0, and what else is
            known of it.
        items: Iterable. What `read` takes.
        num_clips: Callable. Returns how many views there will be, about; 0 if
            nobody knows. It is asked when the first are read.
        run: Callable. What is asked of the model: `forward_of`, or another
            of `har_keras.inference.forward`, whose rows are longer.

    Yields:
        Pairs: a `float64` array of shape `(V, K)`, `(0, 0)` for an item
        without views; and what `read` knew of the item.
    """
    forward: Forward | None = None
    waiting: collections.deque[tuple[int, Known]] = collections.deque()
    rows: collections.deque[np.ndarray] = collections.deque()

    def views() -> Iterator[np.ndarray]:
        for clips, known in map_ahead(read, items):
            waiting.append((len(clips), known))
            yield from _features_of(model, clips)

    def taken(number: int) -> np.ndarray:
        found = [rows.popleft() for _ in range(number)]
        return np.array(found) if found else np.empty((0, 0))

    for batch in _batches(views()):
        forward = forward or run(model, num_clips())
        rows.extend(_predict(batch, forward))
        # The last item may have views that are still to come.
        while waiting and waiting[0][0] <= len(rows):
            number, known = waiting.popleft()
            yield taken(number), known
    for number, known in waiting:
        yield taken(number), known


def view_clips(
    store: Store,
    video: Video,
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    change: Change | None = None,
) -> np.ndarray:
    """Reads every view of a stored video.

    Args:
        store: Store. The decoded frames.
        video: Video. A usable one.
        clip: ClipConfig. What the model was trained on.
        evaluation: EvaluationConfig. Number of views.
        change: Callable or None. As for `predict_videos`.

    Returns:
        `uint8` array of shape `(V, T, crop_size, crop_size, 3)`: clips in time
        slowest, crops fastest.
    """
    return np.stack(
        views_of_frames(
            functools.partial(store.frames, video.key),
            video.kept_frames,
            clip,
            evaluation,
            change=change,
            seed=seed_of(video),
        )
    )


def seed_of(video: Video) -> int:
    """Returns the seed of what is random in the views of a video.

    It is that of the content: a file that was renamed is seen as before.
    """
    return zlib.crc32(video.key.encode())


def view_features(
    store: FeatureStore, video: Video, evaluation: EvaluationConfig
) -> np.ndarray:
    """Reads the features of every view of a stored video.

    Args:
        store: FeatureStore. The features of a frozen backbone.
        video: Video. A usable one.
        evaluation: EvaluationConfig. Number of views.

    Returns:
        `float16` array of shape `(V, t, g, g, C)`, in the order of
        `view_clips`.
    """
    clips = view_indices(video.kept_frames, store.clip, evaluation.num_clips)
    return np.stack(
        [
            store.clip_features(
                video.key, View(position), video.kept_frames, clip[0]
            )
            for clip in clips
            for position in crop_positions(evaluation.num_crops)
        ]
    )


def views_of_frames(
    frames: Callable[[np.ndarray], np.ndarray],
    num_frames: int,
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    control: Control | None = None,
    change: Change | None = None,
    seed: int = 0,
) -> list[np.ndarray]:
    """Reads every view of a video from its frames.

    Args:
        frames: Callable. Reads frames by index, `uint8` `(N, H, W, 3)`.
        num_frames: int. How many there are, at least 1.
        clip: ClipConfig. What the model was trained on.
        evaluation: EvaluationConfig. Number of views.
        control: str or None. Of `har_keras.inference.controls`.
        change: Callable or None. As for `predict_videos`.
        seed: int. Of the random numbers of `control` and `change`.

    Returns:
        list of `uint8` arrays of shape `(T, crop_size, crop_size, 3)`, in the
        order of `view_clips`. Of a short video the same array comes again.
    """
    indices = view_indices(num_frames, clip, evaluation.num_clips)
    rng = np.random.default_rng(seed)
    if control and control != "background":
        # By where a clip begins: equal clips of a short video stay equal, and
        # what is computed of one is that of all.
        indices = np.stack(
            [
                reordered(row, control, np.random.default_rng((seed, row[0])))
                for row in indices
            ]
        )
    # Clips overlap in a short video: each of its frames is read once.
    needed, places = np.unique(indices, return_inverse=True)
    read = frames(needed)
    rows = places.reshape(indices.shape)

    def crops(row: np.ndarray) -> list[np.ndarray]:
        shown = read[row]
        if control == "background":
            shown = background_of(shown)
        if change:
            shown = change(shown, rng)
        return [
            crop_clip(shown, clip.crop_size, position=position)
            for position in crop_positions(evaluation.num_crops)
        ]

    found: list[np.ndarray] = []
    for place, row in enumerate(rows):
        same = place > 0 and not change and (row == rows[place - 1]).all()
        found += found[-evaluation.num_crops :] if same else crops(row)
    return found


def view_indices(
    num_video_frames: int, clip: ClipConfig, num_clips: int
) -> np.ndarray:
    """Returns the stored frames of each clip, `int64` `(num_clips, T)`."""
    options: dict[str, Any] = {
        "num_frames": clip.num_frames,
        "frame_stride": clip.frame_stride(num_video_frames),
    }
    starts = view_starts(num_video_frames, num_clips=num_clips, **options)
    return np.stack(
        [
            clip_frame_indices(num_video_frames, start=start, **options)
            for start in starts
        ]
    )


def _features_of(model: Any, clips: Clips) -> Clips:
    """Returns clips as the model's transformer reads them.

    A batch of a frozen backbone's features is a hundredth of that of clips.
    """
    extractor = getattr(model, "extractor", None)
    if extractor is None or not len(clips) or clips[0].dtype != np.uint8:
        return clips
    return np.asarray(extractor.of_clips(clips))


def _batches(views: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while batch := list(itertools.islice(views, BATCH_SIZE)):
        yield batch


def _predict(clips: list[np.ndarray], forward: Forward) -> np.ndarray:
    """Returns the probabilities of up to a batch of clips, `(B, K)`."""
    filled = np.stack(clips + clips[-1:] * (BATCH_SIZE - len(clips)))
    rows = forward(filled).astype("float64")[: len(clips)]
    if not np.isfinite(rows).all():
        raise DataError(NO_NUMBER)
    return rows


def spread_over_classes(
    manifest: Manifest, split: str, number: int
) -> list[Video]:
    """Returns up to `number` usable videos, as many of each class as can be."""
    chosen: list[Video] = []
    names = manifest.class_names
    for place, name in enumerate(names):
        videos = [v for v in manifest.usable(split) if v.class_name == name]
        share = number // len(names) + (place < number % len(names))
        chosen += evenly(videos, share)
    return chosen


def evenly(videos: Sequence[Video], number: int) -> list[Video]:
    """Returns `number` of the videos, evenly spread, or all if there are fewer.

    Example:

    >>> evenly(list("abcdefg"), 3)
    ['a', 'd', 'g']
    """
    if len(videos) <= number:
        return list(videos)
    places = np.linspace(0, len(videos) - 1, number).round().astype(int)
    return [videos[place] for place in places]
