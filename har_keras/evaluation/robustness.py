"""What is left of an accuracy when the pictures are worse."""

from dataclasses import dataclass

import cv2
import numpy as np

from har_keras.inference.views import Change
from har_keras.store.store import decode_jpeg
from har_keras.video.ffmpeg import Frames

_BLUR_SHARE = 1 / 56
_NOISE_LEVELS = 20.0
_DARKER = 0.35
_JPEG_QUALITY = 10
_FRAMES_HELD = 4
_SMALLER = 4
_CROPPED = 0.6


@dataclass(frozen=True)
class Corruption:
    """A way in which pictures become worse.

    Args:
        name: str. Its key in `evaluation.json`.
        text: str. What is done, for people.
        change: Callable. From `uint8` clips `(T, H, W, 3)` to the same shape.
    """

    name: str
    text: str
    change: Change


def blur(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns frames out of focus, by a 56th of the short side."""
    sigma = min(frames.shape[1:3]) * _BLUR_SHARE
    return np.stack([cv2.GaussianBlur(x, (0, 0), sigma) for x in frames])


def noise(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns frames with normal noise of 20 levels, new in each."""
    grain = rng.normal(0.0, _NOISE_LEVELS, frames.shape)
    return np.clip(frames + grain, 0, 255).round().astype(np.uint8)


def darker(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns frames with 35 % of their light.

    Example:

    >>> darker(np.full((1, 1, 1, 3), 200, np.uint8), None).max()
    np.uint8(70)
    """
    return (frames * _DARKER).round().astype(np.uint8)


def compressed(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns frames as JPEG leaves them at quality 10."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    left = np.empty_like(frames)
    for place, frame in zip(left, frames, strict=True):
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        place[:] = decode_jpeg(cv2.imencode(".jpg", bgr, options)[1])
    return left


def fewer_frames(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns frames of which every fourth one is held.

    Example:

    >>> frames = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    >>> fewer_frames(frames, None).ravel().tolist()
    [0, 0, 0, 0, 4, 4]
    """
    return frames[np.arange(len(frames)) // _FRAMES_HELD * _FRAMES_HELD]


def smaller(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns frames that were a quarter as wide and as high."""
    height, width = frames.shape[1:3]
    size = (max(1, width // _SMALLER), max(1, height // _SMALLER))
    return np.stack(
        [
            cv2.resize(
                cv2.resize(frame, size, interpolation=cv2.INTER_AREA),
                (width, height),
                interpolation=cv2.INTER_CUBIC,
            )
            for frame in frames
        ]
    )


def cropped(frames: Frames, rng: np.random.Generator) -> Frames:
    """Returns the middle 60 % of frames, enlarged, as from too near."""
    height, width = frames.shape[1:3]
    top = round(height * (1 - _CROPPED) / 2)
    left = round(width * (1 - _CROPPED) / 2)
    return np.stack(
        [
            cv2.resize(
                frame[top : height - top, left : width - left],
                (width, height),
                interpolation=cv2.INTER_CUBIC,
            )
            for frame in frames
        ]
    )


CORRUPTIONS = (
    Corruption("blur", "out of focus", blur),
    Corruption("noise", "grainy (20 of 255 levels)", noise),
    Corruption("darker", "35 % of the light", darker),
    Corruption("compressed", "JPEG at quality 10", compressed),
    Corruption("fewer_frames", "a quarter of the frames", fewer_frames),
    Corruption("smaller", "a quarter of width and height", smaller),
    Corruption("cropped", "only the middle 60 %", cropped),
)
"""What `evaluate --robustness` tries."""
