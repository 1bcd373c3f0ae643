"""Augmentation of clips: crop, flip and color jitter, drawn once per clip.

It works on uint8 with OpenCV, which takes a tenth of the time of float tensors
and releases the GIL.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.errors import UsageError
from har_keras.video.ffmpeg import Frames


class FrameSource(Protocol):
    """Frames of one size: an array, or an iterable that decodes them lazily.

    A frame that is cropped right after decoding is still in the CPU's cache,
    and full-size frames are never kept.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of frames, height, width and 3."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frames]: ...


class Augmentation(Protocol):
    """A function that crops a clip for training and augments it.

    All random parameters are drawn once per clip, so that every frame is
    changed in the same way.
    """

    def __call__(
        self,
        frames: FrameSource,
        rng: np.random.Generator,
        *,
        crop_size: int,
        flip: bool = True,
        out: Frames | None = None,
    ) -> Frames:
        """Returns the augmented clip.

        Args:
            frames: `uint8` array of shape `(T, H, W, 3)`, or an iterable of
                its frames; at least `crop_size` high and wide.
            rng: numpy `Generator`. The same state gives the same clip.
            crop_size: int. Height and width of the result in pixels.
            flip: bool. Whether half of the clips are mirrored left to right.
                Defaults to `True`.
            out: `uint8` array of the result's shape or None. Output buffer.
                Defaults to a new array.

        Returns:
            `uint8` array of shape `(T, crop_size, crop_size, 3)`.
        """


# Range of area (relative to the frame) and aspect ratio of a random crop. The
# usual (0.08, 1) is for photographs of one object; a person fills less.
_AREA_FRACTION = (0.4, 1.0)
_ASPECT_RATIO = (3 / 4, 4 / 3)
_COLOR_STRENGTH = 0.3
LUMA = np.array([0.299, 0.587, 0.114])
"""Luma of red, green and blue, by ITU-R BT.601."""
_GRAY = np.tile(LUMA, (3, 1))
_SAME = np.eye(3)


def augment_clip(
    frames: FrameSource,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
    out: Frames | None = None,
) -> Frames:
    """Applies a random resized crop, a flip and color jitter to a clip.

    It is an `Augmentation`, which documents the arguments.

    Example:

    >>> frames = np.zeros((16, 128, 170, 3), "uint8")
    >>> augment_clip(frames, np.random.default_rng(0), crop_size=112).shape
    (16, 112, 112, 3)

    Reference:
        - [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842), section 6
          (crops of random area and aspect ratio).
    """
    box = random_box(frames.shape[1], frames.shape[2], rng)
    mirrored = flip and rng.random() < 0.5
    color = random_color(rng)
    clip = cropped(frames, box, crop_size, out)
    if mirrored:
        mirror(clip)
    transform_colors(clip, color)
    return clip


def shift_clip(
    frames: FrameSource,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
    out: Frames | None = None,
) -> Frames:
    """Applies a random crop, without resizing, and a flip to a clip.

    It is an `Augmentation`, which documents the arguments.

    Example:

    >>> frames = np.zeros((16, 128, 170, 3), "uint8")
    >>> shift_clip(frames, np.random.default_rng(0), crop_size=112).shape
    (16, 112, 112, 3)
    """
    height, width = frames.shape[1:3]
    top = int(rng.integers(height - crop_size + 1))
    left = int(rng.integers(width - crop_size + 1))
    box = (top, left, crop_size, crop_size)
    clip = cropped(frames, box, crop_size, out)
    if flip and rng.random() < 0.5:
        mirror(clip)
    return clip


def cropped(
    frames: FrameSource,
    box: tuple[int, int, int, int],
    size: int,
    out: Frames | None = None,
) -> Frames:
    """Crops the same box from every frame and resizes it to a square.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`, or an iterable of its
            frames.
        box: tuple of int. Top, left, height and width in pixels.
        size: int. Height and width of the result in pixels.
        out: `uint8` array of the result's shape or None. Output buffer.

    Returns:
        `uint8` array of shape `(T, size, size, 3)`.
    """
    top, left, height, width = box
    clip = memory_for(frames, size) if out is None else out
    for source, target in zip(frames, clip, strict=True):
        part = source[top : top + height, left : left + width]
        resized(part, size, out=target)
    return clip


def memory_for(frames: FrameSource, size: int) -> Frames:
    """Returns an empty array for a clip of square frames."""
    return np.empty((len(frames), size, size, 3), np.uint8)


def mirror(clip: Frames) -> None:
    """Mirrors a clip left to right, in place.

    Frame by frame: OpenCV copies its input when it works in place, and the
    copy of one frame stays in the CPU's cache.
    """
    for frame in clip:
        cv2.flip(frame, 1, dst=frame)


def transform_colors(clip: Frames, matrix: NDArray[np.float32]) -> None:
    """Transforms RGB values by a matrix of shape `(3, 4)`, in place."""
    for frame in clip:
        cv2.transform(frame, matrix, dst=frame)


def random_speed(rng: np.random.Generator, jitter: float) -> float:
    """Draws the playback speed of a clip.

    A factor and its inverse are equally likely.

    Args:
        rng: numpy `Generator`.
        jitter: float. In `[0, 1)`. At `0.2` the speed is from 0.8 to 1.25.

    Returns:
        float. Factor on the speed of the video.

    Example:

    >>> round(random_speed(np.random.default_rng(0), 0.2), 3)
    0.941
    >>> random_speed(np.random.default_rng(0), 0.0)
    1.0
    """
    return float((1 - jitter) ** rng.uniform(-1, 1))


def random_box(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    area_fraction: tuple[float, float] = _AREA_FRACTION,
    aspect_ratio: tuple[float, float] = _ASPECT_RATIO,
) -> tuple[int, int, int, int]:
    """Draws the box of a random crop.

    Args:
        height: int. Height of the frame in pixels.
        width: int. Width of the frame in pixels.
        rng: numpy `Generator`.
        area_fraction: tuple of float. Smallest and largest area, relative to
            the frame's.
        aspect_ratio: tuple of float. Smallest and largest width over height;
            clipped if the box would not fit.

    Returns:
        Top, left, height and width in pixels, inside the frame.
    """
    area = height * width * rng.uniform(*area_fraction)
    ratio = np.exp(rng.uniform(*np.log(aspect_ratio)))
    box_height = min(height, round(float(np.sqrt(area / ratio))))
    box_width = min(width, round(float(np.sqrt(area * ratio))))
    top = int(rng.integers(height - box_height + 1))
    left = int(rng.integers(width - box_width + 1))
    return top, left, max(1, box_height), max(1, box_width)


def random_color(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draws brightness, contrast and saturation as one affine map of RGB.

    Returns:
        `float32` array of shape `(3, 4)` for `cv2.transform`.
    """
    brightness, contrast, saturation = rng.uniform(
        1 - _COLOR_STRENGTH, 1 + _COLOR_STRENGTH, size=3
    )
    matrix = np.empty((3, 4), np.float32)
    mix = saturation * _SAME + (1 - saturation) * _GRAY
    matrix[:, :3] = brightness * contrast * mix
    # Contrast is relative to mid-gray, so that a clip keeps its mean.
    matrix[:, 3] = (1 - contrast) * 127.5
    return matrix


def resized(image: Frames, size: int, out: Frames | None = None) -> Frames:
    """Resizes an image to a square, by area averaging when it shrinks.

    Args:
        image: `uint8` array of shape `(H, W, 3)`.
        size: int. Height and width of the result in pixels.
        out: `uint8` array of shape `(size, size, 3)` or None. Output buffer.
            Defaults to `None`.

    Returns:
        `uint8` array of shape `(size, size, 3)`; the image itself if it is of
        that size and `out` is `None`.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        if out is None:
            return image
        out[:] = image
        return out
    shrinks = height > 1.5 * size or width > 1.5 * size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    shape = (size, size)
    return np.asarray(cv2.resize(image, shape, dst=out, interpolation=method))


def no_flip_labels(names: str, known: Sequence[str]) -> frozenset[int]:
    """Returns the labels of the classes whose clips are never mirrored.

    Args:
        names: str. Classes, separated by commas.
        known: Sequence of str. All classes, in the order of labels.

    Returns:
        Labels.

    Raises:
        UsageError: If a class is unknown; the nearest one is named.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"--no-flip-classes: there is no class '{name}'.{hint} The "
                f"classes are {', '.join(known)}."
            )
    return frozenset(list(known).index(name) for name in wanted)
