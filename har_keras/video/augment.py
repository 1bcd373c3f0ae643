"""Which pixels: what training changes in a clip, drawn once per clip.

Everything works on uint8 with OpenCV, which costs a tenth of the same work in
float tensors and lets other threads run.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

# Share of the frame's area and ratio of sides of a random crop. The usual
# (0.08, 1) is for photographs of one object; a person fills less of a frame.
_AREA_FRACTION = (0.4, 1.0)
_ASPECT_RATIO = (3 / 4, 4 / 3)
_COLOUR_STRENGTH = 0.3
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def augment_clip(
    frames: Frames,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
) -> Frames:
    """Crops, mirrors and recolours a clip, every frame in the same way.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`.
        rng: numpy `Generator`. The same state gives the same clip.
        crop_size: int. Height and width of the result in pixels.
        flip: bool. Whether half of the clips are mirrored left to right.

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
    rows, columns = frames.shape[1:3]
    top, left, height, width = random_box(rows, columns, rng)
    mirrored = flip and rng.random() < 0.5
    colour = random_colour(rng)
    clip = np.empty((len(frames), crop_size, crop_size, 3), np.uint8)
    for source, target in zip(frames, clip, strict=True):
        part = source[top : top + height, left : left + width]
        part = resized(part, crop_size)
        if mirrored:
            part = cv2.flip(part, 1)
        cv2.transform(part, colour, dst=target)
    return clip


def shift_clip(
    frames: Frames,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
) -> Frames:
    """Crops a clip at a random place, at its own scale, and may mirror it.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`, at least `crop_size`
            high and wide.
        rng: numpy `Generator`. The same state gives the same clip.
        crop_size: int. Height and width of the result in pixels.
        flip: bool. Whether half of the clips are mirrored left to right.

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
    clip = frames[:, top : top + crop_size, left : left + crop_size]
    if flip and rng.random() < 0.5:
        clip = clip[:, :, ::-1]
    return np.ascontiguousarray(clip)


def random_box(
    height: int, width: int, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draws a part of a frame.

    Args:
        height: int. Height of the frame in pixels.
        width: int. Width of the frame in pixels.
        rng: numpy `Generator`.

    Returns:
        Top, left, height and width in pixels, inside the frame.
    """
    area = height * width * rng.uniform(*_AREA_FRACTION)
    ratio = np.exp(rng.uniform(*np.log(_ASPECT_RATIO)))
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
    grey = np.tile(_LUMA, (3, 1))
    mix = saturation * np.eye(3) + (1 - saturation) * grey
    # Contrast turns around mid-grey, so that a clip keeps its mean.
    offset = np.full((3, 1), (1 - contrast) * 127.5)
    return np.hstack([brightness * contrast * mix, offset]).astype(np.float32)


def resized(image: Frames, size: int) -> Frames:
    """Resizes an image to a square, averaging where it shrinks."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    shrinks = height > 1.5 * size or width > 1.5 * size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=method)


AUGMENTATIONS = {"light": shift_clip, "basic": augment_clip}
"""What `--augment` names, besides "none"."""
