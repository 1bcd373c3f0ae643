"""Deterministic sampling: which frames make a clip, and where it is cropped.

Training, evaluation and prediction all sample frames and crops here, so that
the model is evaluated on the same kind of clips that it was trained on.
"""

import numpy as np
from numpy.typing import NDArray

from har_keras.video.ffmpeg import Frames


def clip_frame_indices(
    num_video_frames: int,
    *,
    num_frames: int,
    frame_stride: float,
    start: float = 0.0,
) -> NDArray[np.int64]:
    """Returns the indices of the stored frames that make up a clip.

    Past the end the last frame is repeated, so a short video gives a full clip
    that ends with a still image.

    Args:
        num_video_frames: int. Frames in the store, at least 1.
        num_frames: int. Frames in the clip, T.
        frame_stride: float. Stored frames from one clip frame to the next;
            a fraction plays the video slower or faster.
        start: float. Index of the first stored frame. Defaults to `0`.

    Returns:
        `int64` array of shape `(num_frames,)`, never decreasing, every entry
        in `[0, num_video_frames)`.

    Raises:
        ValueError: If a count is below 1, the stride is not above 0, or
            `start` is not in the video.

    Example:

    >>> clip_frame_indices(10, num_frames=4, frame_stride=3)
    array([0, 3, 6, 9])
    >>> clip_frame_indices(5, num_frames=4, frame_stride=2, start=1)
    array([1, 3, 4, 4])
    >>> clip_frame_indices(20, num_frames=4, frame_stride=1.6)
    array([0, 1, 3, 4])

    Reference:
        - [Arnab et al., 2021](https://arxiv.org/abs/2103.15691), section 4.1
          (clips at a stride).
    """
    if min(num_video_frames, num_frames) < 1 or frame_stride <= 0:
        raise ValueError(
            "`num_video_frames` and `num_frames` must be at least 1 and "
            f"`frame_stride` above 0. Received: {num_video_frames=}, "
            f"{num_frames=}, {frame_stride=}."
        )
    if not 0 <= start < num_video_frames:
        raise ValueError(
            f"`start` must lie in [0, {num_video_frames}). Received: {start=}."
        )
    # The small constant keeps 3 * 1.6 / 1.6 from being rounded below 3.
    times = start + frame_stride * np.arange(num_frames) + 1e-6  # (T,)
    indices = np.floor(times).astype(np.int64)
    return np.minimum(indices, num_video_frames - 1)


def view_starts(
    num_video_frames: int,
    *,
    num_frames: int,
    frame_stride: float,
    num_clips: int,
) -> list[int]:
    """Returns the starts of clips that are spread evenly over a video.

    Args:
        num_video_frames: int. Frames in the store, at least 1.
        num_frames: int. Frames in a clip, T.
        frame_stride: float. Stored frames from one clip frame to the next.
        num_clips: int. Number of clips. One is taken from the middle; of
            several, the first begins and the last ends with the video.

    Returns:
        `num_clips` indices of stored frames, never decreasing. In a video no
        longer than a clip they are all 0.

    Raises:
        ValueError: If a count is below 1.

    Example:

    >>> view_starts(100, num_frames=16, frame_stride=2, num_clips=3)
    [0, 34, 69]
    >>> view_starts(101, num_frames=16, frame_stride=2, num_clips=1)
    [35]
    """
    if min(num_video_frames, num_frames, num_clips) < 1:
        raise ValueError(
            "`num_video_frames`, `num_frames` and `num_clips` must be at least "
            f"1. Received: {num_video_frames=}, {num_frames=}, {num_clips=}."
        )
    last = last_start(
        num_video_frames, num_frames=num_frames, frame_stride=frame_stride
    )
    if num_clips == 1:
        return [last // 2]
    return [last * part // (num_clips - 1) for part in range(num_clips)]


def last_start(
    num_video_frames: int, *, num_frames: int, frame_stride: float
) -> int:
    """Returns the latest start at which a clip ends within the video.

    Example:

    >>> last_start(100, num_frames=16, frame_stride=2)
    69
    >>> last_start(5, num_frames=16, frame_stride=2)
    0
    """
    span = int(frame_stride * (num_frames - 1) + 1e-6)
    return max(0, num_video_frames - 1 - span)


def clips_per_video(
    num_video_frames: int, *, num_frames: int, frame_stride: float
) -> int:
    """Returns the number of clips that cover a video, at least 1.

    Args:
        num_video_frames: int. Frames in the store.
        num_frames: int. Frames in a clip, T.
        frame_stride: float. Stored frames from one clip frame to the next.

    Returns:
        int. The nearest whole number.

    Example:

    >>> clips_per_video(70, num_frames=16, frame_stride=2)
    2
    """
    return max(1, round(num_video_frames / (num_frames * frame_stride)))


def crop_box(
    height: int, width: int, *, crop_size: int, position: float = 0.5
) -> tuple[int, int]:
    """Returns the position of a square crop in a frame.

    Args:
        height: int. Height of the frame in pixels.
        width: int. Width of the frame in pixels.
        crop_size: int. Side of the crop in pixels.
        position: float. Position along the long side: 0 is left or top, 0.5
            the center, 1 right or bottom. Along the short side the crop is
            centered.

    Returns:
        Top and left of the crop in pixels.

    Raises:
        ValueError: If the frame is smaller than the crop, or `position` is
            not in [0, 1].

    Example:

    >>> crop_box(128, 228, crop_size=112)
    (8, 58)
    >>> crop_box(128, 228, crop_size=112, position=1.0)
    (8, 116)
    """
    if min(height, width) < crop_size or not 0 <= position <= 1:
        raise ValueError(
            f"A crop of {crop_size} pixels at a position in [0, 1] must fit in "
            f"the frame. Received: {height=}, {width=}, {position=}."
        )
    down, across = height - crop_size, width - crop_size
    if width >= height:
        return down // 2, int(across * position)
    return int(down * position), across // 2


def crop_positions(num_crops: int) -> list[float]:
    """Returns where crops lie along the long side, 0 to 1.

    Example:

    >>> crop_positions(1), crop_positions(3)
    ([0.5], [0.0, 0.5, 1.0])
    """
    if num_crops == 1:
        return [0.5]
    return [float(position) for position in np.linspace(0, 1, num_crops)]


def crop_clip(
    frames: Frames, crop_size: int, *, position: float = 0.5
) -> Frames:
    """Crops the same square from every frame.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`.
        crop_size: int. Side of the square in pixels.
        position: float. Position along the long side, see `crop_box`.

    Returns:
        `uint8` array of shape `(T, crop_size, crop_size, 3)`, contiguous.
    """
    height, width = frames.shape[1:3]
    top, left = crop_box(height, width, crop_size=crop_size, position=position)
    crop = frames[:, top : top + crop_size, left : left + crop_size]
    return np.ascontiguousarray(crop)
