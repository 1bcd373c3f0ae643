"""How a model answers with information taken away from the videos."""

import dataclasses
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
    Clips,
    predict_views,
    seed_of,
    view_indices,
    views_of_frames,
)
from har_keras.manifest.manifest import Video
from har_keras.store.store import Store

Item = tuple[Video, Control]
Several = list[tuple[Item, Clips]]

# Whose features a thread computes at once: those of two videos, with four
# views. At 320 pixels they take 320 MB, where all views are equal a quarter.
_CLIPS_TOGETHER = 32


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
        evaluation: EvaluationConfig. Number of clips; of each only the center
            crop is seen.
        progress: Callable or None. Called after each video and control.

    Returns:
        dict. By control a `float64` array of shape `(num_videos, K)`.
    """
    # Side crops tell nothing of time that the center crop does not.
    evaluation = dataclasses.replace(evaluation, num_crops=1)
    cached = functools.lru_cache(2)(
        lambda video: _frames_of_views(store, video, clip, evaluation)
    )
    num_views = evaluation.num_clips
    lock = threading.Lock()  # or each thread would read the same video

    def frames(video: Video) -> Callable[[np.ndarray], np.ndarray]:
        with lock:
            return cached(video)

    def read(item: Item) -> tuple[Item, Clips]:
        video, control = item
        kept: Clips | None = _kept(store, item, num_views)
        if kept is None:
            kept = views_of_frames(
                frames(video), video.kept_frames, clip, evaluation,
                control=control, seed=seed_of(video),
            )  # fmt: skip
        return item, kept

    found: dict[Control, list[np.ndarray]] = {name: [] for name in CONTROLS}
    items = map_ahead(read, itertools.product(videos, CONTROLS))
    views = _with_features(model, store, items)
    num_clips = len(videos) * len(CONTROLS) * num_views
    for rows, control in predict_views(
        model, lambda x: x, views, lambda: num_clips
    ):
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
    model: Any, store: Store, items: Iterator[tuple[Item, Clips]]
) -> Iterator[tuple[Clips, Control]]:
    """Yields what the model reads of clips; features are kept."""
    if not isinstance(store, FeatureStore):
        yield from ((clips, control) for (_, control), clips in items)
        return

    def computed(several: Several) -> list[tuple[Clips, Control]]:
        found = _features(model.extractor, several)
        for (video, control), rows in found.items():
            store.keep_control(video.key, control, seed_of(video), rows)
        return [(found.get(item, kept), item[1]) for item, kept in several]

    # One thread has the cores for the network, the other pools.
    for rows in map_ahead(
        computed, _several(items), num_threads=2, num_ahead=1
    ):
        yield from rows


def _several(
    items: Iterator[tuple[Item, Clips]],
) -> Iterator[Several]:
    """Yields items in lists of a few clips.

    Controls of a video share most of its frames, and a single frame fills a
    batch of the backbone as well as many do.
    """
    several: Several = []
    for item in items:
        several.append(item)
        if sum(len(clips) for _, clips in several) >= _CLIPS_TOGETHER:
            yield several
            several = []
    if several:
        yield several


def _features(extractor: Any, several: Several) -> dict[Item, np.ndarray]:
    """Returns the features of those items that are still clips."""
    new = [x for x in several if x[1][0].dtype == np.uint8]
    if not new:
        return {}
    found = extractor.of_clips([clip for _, clips in new for clip in clips])
    ends = np.cumsum([len(clips) for _, clips in new])
    rows = np.split(found, ends[:-1])
    return {item: x for (item, _), x in zip(new, rows, strict=True)}


def _frames_of_views(
    store: Store, video: Video, clip: ClipConfig, evaluation: EvaluationConfig
) -> Callable[[np.ndarray], np.ndarray]:
    """Reads all frames of a video's views, and returns a reader of them."""
    indices = view_indices(video.kept_frames, clip, evaluation.num_clips)
    needed = np.unique(indices)
    frames = store.frames(video.key, needed)
    return lambda wanted: frames[np.searchsorted(needed, wanted)]
