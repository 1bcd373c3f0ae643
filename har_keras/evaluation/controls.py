"""How a model answers with information taken away from the videos."""

import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from har_keras.clips.read_ahead import map_ahead
from har_keras.config import ClipConfig, EvaluationConfig
from har_keras.features.feature_store import FeatureStore
from har_keras.inference.controls import CONTROLS, Control
from har_keras.inference.views import (
    predict_views,
    seed_of,
    view_indices,
    views_of_frames,
)
from har_keras.manifest.manifest import Video
from har_keras.store.store import Store

Item = tuple[Video, Control]


def predict_controls(
    model: Any,
    store: Store,
    videos: Sequence[Video],
    clip: ClipConfig,
    evaluation: EvaluationConfig,
    *,
    progress: Callable[[], object] | None = None,
) -> dict[Control, np.ndarray]:
    """Returns the probabilities of videos with information taken away.

    It measures what the information contributes: "single_frame" repeats the
    middle frame, "shuffled" puts the frames in a random order, "reversed" plays
    them backwards, "background" shows only what does not move.

    Args:
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`.
        store: Store. The decoded frames, which are read once. A `FeatureStore`
            keeps the features of the controls, too.
        videos: Sequence of Video. Usable ones.
        clip: ClipConfig. What the model was trained on.
        evaluation: EvaluationConfig. Number of views in time and in space.
        progress: Callable or None. Called after each video and control.

    Returns:
        dict. By control a `float64` array of shape `(num_videos, K)`.
    """
    cached = functools.lru_cache(2)(
        lambda video: _frames_of_views(store, video, clip, evaluation)
    )
    lock = threading.Lock()  # or each thread would read the same video

    def frames(video: Video) -> Callable[[np.ndarray], np.ndarray]:
        with lock:
            return cached(video)

    def read(item: Item) -> tuple[Item, np.ndarray]:
        video, control = item
        kept = _kept(store, item, evaluation.num_clips * evaluation.num_crops)
        if kept is None:
            kept = views_of_frames(
                frames(video), video.kept_frames, clip, evaluation,
                control=control, seed=seed_of(video),
            )  # fmt: skip
        return item, kept

    found: dict[Control, list[np.ndarray]] = {name: [] for name in CONTROLS}
    items = map_ahead(read, itertools.product(videos, CONTROLS))
    views = _with_features(model, store, items)
    for rows, control in predict_views(model, lambda x: x, views):
        found[control].append(rows.mean(0))
        if progress:
            progress()
    return {name: np.array(rows) for name, rows in found.items()}


def _kept(store: Store, item: Item, num_views: int) -> np.ndarray | None:
    """Returns the stored features of a video under a control, if any."""
    if not isinstance(store, FeatureStore):
        return None
    video, control = item
    return store.control_features(video.key, control, seed_of(video), num_views)


def _with_features(
    model: Any, store: Store, items: Iterator[tuple[Item, np.ndarray]]
) -> Iterator[tuple[np.ndarray, Control]]:
    """Yields what the model reads of clips; features are kept."""
    for (video, control), clips in items:
        if isinstance(store, FeatureStore) and clips.dtype == np.uint8:
            clips = model.extractor.of_clips(clips)
            store.keep_control(video.key, control, seed_of(video), clips)
        yield clips, control


def _frames_of_views(
    store: Store, video: Video, clip: ClipConfig, evaluation: EvaluationConfig
) -> Callable[[np.ndarray], np.ndarray]:
    """Reads all frames of a video's views, and returns a reader of them."""
    indices = view_indices(video.kept_frames, clip, evaluation.num_clips)
    needed = np.unique(indices)
    frames = store.frames(video.key, needed)
    return lambda wanted: frames[np.searchsorted(needed, wanted)]
