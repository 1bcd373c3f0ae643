"""Which pixels: what training changes in a clip, drawn once per clip.

Everything works on uint8 with OpenCV, which costs a tenth of the same work in
float tensors and lets other threads run.
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
    """Frames of one size: an array, or what decodes them one by one.

    A frame that is cropped as soon as it is decoded is still in the
    processor's cache, and frames as large as the video's are never kept.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of frames, height, width and 3."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frames]: ...


# Share of the frame's area and ratio of sides of a random crop. The usual
# (0.08, 1) is for photographs of one object; a person fills less of a frame.
_AREA_FRACTION = (0.4, 1.0)
_ASPECT_RATIO = (3 / 4, 4 / 3)
_COLOUR_STRENGTH = 0.3
LUMA = np.array([0.299, 0.587, 0.114])
"""Brightness of red, green and blue, by ITU-R BT.601."""
_GREY = np.tile(LUMA, (3, 1))
_SAME = np.eye(3)


def augment_clip(
    frames: FrameSource,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
    out: Frames | None = None,
) -> Frames:
    """Crops, mirrors and recolours a clip, every frame in the same way.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`, or what gives its
            frames one by one.
        rng: numpy `Generator`. The same state gives the same clip.
        crop_size: int. Height and width of the result in pixels.
        flip: bool. Whether half of the clips are mirrored left to right.
        out: `uint8` array of the result's shape or None. Memory for it.

    Returns:
        `uint8` array of shape `(T, crop_size, crop_size, 3)`.

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
    colour = random_colour(rng)
    clip = cropped(frames, box, crop_size, out)
    if mirrored:
        mirror(clip)
    transform_colours(clip, colour)
    return clip


def shift_clip(
    frames: FrameSource,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
    out: Frames | None = None,
) -> Frames:
    """Crops a clip at a random place, at its own scale, and may mirror it.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`, or what gives its
            frames one by one; at least `crop_size` high and wide.
        rng: numpy `Generator`. The same state gives the same clip.
        crop_size: int. Height and width of the result in pixels.
        flip: bool. Whether half of the clips are mirrored left to right.
        out: `uint8` array of the result's shape or None. Memory for it.

    Returns:
        `uint8` array of shape `(T, crop_size, crop_size, 3)`.

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
    """Cuts the same box out of every frame and resizes it to a square.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`, or what gives its
            frames one by one.
        box: tuple of int. Top, left, height and width in pixels.
        size: int. Height and width of the result in pixels.
        out: `uint8` array of the result's shape or None. Memory for it.

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
    """Returns memory for a clip of squares from some frames."""
    return np.empty((len(frames), size, size, 3), np.uint8)


def mirror(clip: Frames) -> None:
    """Mirrors a clip left to right, in place.

    Frame by frame: OpenCV copies what it changes in place, and a frame's copy
    stays in the processor's cache.
    """
    for frame in clip:
        cv2.flip(frame, 1, dst=frame)


def transform_colours(clip: Frames, matrix: NDArray[np.float32]) -> None:
    """Maps the colours of a clip by a matrix of shape `(3, 4)`, in place."""
    for frame in clip:
        cv2.transform(frame, matrix, dst=frame)


def random_speed(rng: np.random.Generator, jitter: float) -> float:
    """Draws how much faster than it happened a clip is played.

    As often faster by a factor as slower by the same factor.

    Args:
        rng: numpy `Generator`.
        jitter: float. In `[0, 1)`. At `0.2` the speed is from 0.8 to 1.25.

    Returns:
        float. Times the speed of the video.

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
    """Draws a part of a frame.

    Args:
        height: int. Height of the frame in pixels.
        width: int. Width of the frame in pixels.
        rng: numpy `Generator`.
        area_fraction: tuple of float. Smallest and largest share of the
            frame's area.
        aspect_ratio: tuple of float. Smallest and largest width over height;
            it gives way where the part would not fit.

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


def random_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draws brightness, contrast and saturation as one affine map of RGB.

    Returns:
        `float32` array of shape `(3, 4)` for `cv2.transform`.
    """
    brightness, contrast, saturation = rng.uniform(
        1 - _COLOUR_STRENGTH, 1 + _COLOUR_STRENGTH, size=3
    )
    matrix = np.empty((3, 4), np.float32)
    mix = saturation * _SAME + (1 - saturation) * _GREY
    matrix[:, :3] = brightness * contrast * mix
    # Contrast turns around mid-grey, so that a clip keeps its mean.
    matrix[:, 3] = (1 - contrast) * 127.5
    return matrix


def resized(image: Frames, size: int, out: Frames | None = None) -> Frames:
    """Resizes an image to a square, averaging where it shrinks.

    Args:
        image: `uint8` array of shape `(H, W, 3)`.
        size: int. Height and width of the result in pixels.
        out: `uint8` array of shape `(size, size, 3)` or None. Where the
            result is written to. Defaults to `None`.

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
    """Returns the labels of the classes that are never mirrored.

    Args:
        names: str. Classes with commas between.
        known: Sequence of str. All classes, in the order of labels.

    Returns:
        Labels.

    Raises:
        UsageError: If there is no such class; names the nearest one.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"--keep-side: there is no class '{name}'.{hint} There is "
                f"{', '.join(known)}."
            )
    return frozenset(list(known).index(name) for name in wanted)
