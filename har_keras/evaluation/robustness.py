"""Image corruptions: accuracy under blur, noise, low light, JPEG and more."""

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
    """An image corruption that is applied to a clip.

    Args:
        name: str. Name in `evaluation.json`.
        text: str. Description for reports.
        change: Callable. Maps a `uint8` clip `(T, H, W, 3)` and a numpy
            `Generator` to a clip of the same shape.
    """

    name: str
    text: str
    change: Change


def blur(frames: Frames, rng: np.random.Generator) -> Frames:
    """Blurs frames: Gaussian, sigma 1/56 of the short side."""
    sigma = min(frames.shape[1:3]) * _BLUR_SHARE
    return np.stack([cv2.GaussianBlur(x, (0, 0), sigma) for x in frames])


def noise(frames: Frames, rng: np.random.Generator) -> Frames:
    """Adds Gaussian noise, sigma 20 of 255 levels, independent per frame."""
    grain = rng.normal(0.0, _NOISE_LEVELS, frames.shape)
    return np.clip(frames + grain, 0, 255).round().astype(np.uint8)


def darker(frames: Frames, rng: np.random.Generator) -> Frames:
    """Scales brightness to 35 %.

    Example:

    >>> darker(np.full((1, 1, 1, 3), 200, np.uint8), None).max()
    np.uint8(70)
    """
    return (frames * _DARKER).round().astype(np.uint8)


def compressed(frames: Frames, rng: np.random.Generator) -> Frames:
    """Compresses frames as JPEG at quality 10."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    decoded = np.empty_like(frames)
    for place, frame in zip(decoded, frames, strict=True):
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        place[:] = decode_jpeg(cv2.imencode(".jpg", bgr, options)[1])
    return decoded


def fewer_frames(frames: Frames, rng: np.random.Generator) -> Frames:
    """Repeats every fourth frame four times (a quarter of the frame rate).

    Example:

    >>> frames = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    >>> fewer_frames(frames, None).ravel().tolist()
    [0, 0, 0, 0, 4, 4]
    """
    return frames[np.arange(len(frames)) // _FRAMES_HELD * _FRAMES_HELD]


def smaller(frames: Frames, rng: np.random.Generator) -> Frames:
    """Downscales frames to a quarter of width and height, and back."""
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
    """Enlarges the central 60 % of frames, as from too near."""
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
"""The corruptions of `evaluate --robustness`."""
