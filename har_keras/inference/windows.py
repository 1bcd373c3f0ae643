"""Sliding windows over a video while it is decoded."""

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from har_keras.clips.sampling import clip_frame_indices, crop_clip
from har_keras.config import ClipConfig, Form
from har_keras.store.spool import as_stored
from har_keras.video.ffmpeg import Frames


def windows(
    frames: Iterable[Frames], clip: ClipConfig, hop_seconds: float, form: Form
) -> Iterator[tuple[int, Frames]]:
    """Yields evenly spaced clips; the last one ends with the video.

    Only the frames of one window are kept in memory.

    Args:
        frames: Iterable of `uint8` arrays of shape `(H, W, 3)`, with the short
            side of the frame store and the frame rate of a clip.
        clip: ClipConfig. Clip geometry of the model.
        hop_seconds: float. Seconds from one window to the next, rounded to
            whole frames of a clip.
        form: str. Format of the frame store, "jpeg" or "raw".

    Yields:
        Pairs of the index of a window's first frame, and the center crop of
        the window, `uint8` of shape `(T, crop_size, crop_size, 3)`. A video
        shorter than a window yields one window that repeats the last frame.
    """
    hop = max(1, round(hop_seconds * clip.fps))
    kept: deque[Frames] = deque(maxlen=clip.num_frames)
    last_yielded, count = -1, 0
    for count, frame in enumerate(frames, 1):
        kept.append(as_stored(frame, form))
        start = count - clip.num_frames
        if start >= 0 and start % hop == 0:
            last_yielded = start
            yield start, _clip(kept, clip)
    start = max(0, count - clip.num_frames)
    if count and start != last_yielded:
        yield start, _clip(kept, clip)


def _clip(kept: "deque[Frames]", clip: ClipConfig) -> Frames:
    stride = 1.0
    if clip.short_videos == "stretch":
        stride = (len(kept) - 1) / max(1, clip.num_frames - 1) or 1.0
    indices = clip_frame_indices(
        len(kept), num_frames=clip.num_frames, frame_stride=stride
    )
    return crop_clip(np.stack([kept[i] for i in indices]), clip.crop_size)
