"""Windows that slide over a video while it is decoded."""

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from har_keras.clips.sampling import clip_frame_indices, crop_clip
from har_keras.config import ClipConfig
from har_keras.store.spool import as_stored
from har_keras.store.store import Form
from har_keras.video.ffmpeg import Frames

Item = TypeVar("Item")
_READ_AHEAD = 24


def windows(
    frames: Iterable[Frames], clip: ClipConfig, hop_seconds: float, form: Form
) -> Iterator[tuple[int, Frames]]:
    """Yields clips at even distances, the last one at the end of the video.

    Only the frames of one window are kept.

    Args:
        frames: Iterable of `uint8` arrays of shape `(H, W, 3)`, of the size
            of the store, at the rate of a clip: these are every second one of
            the store.
        clip: ClipConfig. What the model was trained on.
        hop_seconds: float. Seconds from one window to the next, rounded to
            frames of a clip.
        form: str. "jpeg" or "raw", the form of the store.

    Yields:
        Pairs: the frame, of all, that a window begins with; and its centre
        crop, `uint8` of shape `(T, crop_size, crop_size, 3)`. A video shorter
        than a window gives one, which holds the last frame.
    """
    hop = max(1, round(hop_seconds * clip.fps))
    kept: deque[Frames] = deque(maxlen=clip.num_frames)
    last_given, count = -1, 0
    for count, frame in enumerate(frames, 1):
        kept.append(as_stored(frame, form))
        start = count - clip.num_frames
        if start >= 0 and start % hop == 0:
            last_given = start
            yield start, _clip(kept, clip)
    start = max(0, count - clip.num_frames)
    if count and start != last_given:
        yield start, _clip(kept, clip)


def _clip(kept: "deque[Frames]", clip: ClipConfig) -> Frames:
    indices = clip_frame_indices(
        len(kept), num_frames=clip.num_frames, frame_stride=1
    )
    return crop_clip(np.stack([kept[i] for i in indices]), clip.crop_size)


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yields items that a thread fetches meanwhile, a few ahead.

    Args:
        items: Iterable. What it raises is raised here.

    Yields:
        The items, in order.
    """
    fetched: queue.Queue[tuple[str, Any]] = queue.Queue(_READ_AHEAD)
    stopped = threading.Event()

    def put(kind: str, item: Any) -> None:
        while not stopped.is_set():
            try:
                return fetched.put((kind, item), timeout=0.1)
            except queue.Full:
                continue

    def fetch() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    try:
        while True:
            kind, item = fetched.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
