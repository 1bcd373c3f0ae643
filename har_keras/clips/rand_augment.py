"""RandAugment and random erasing for clips (`--augment strong`).

Operations are drawn once per clip. Geometric ones are composed with the crop
into one map, so that every frame is interpolated once; photometric ones change
the whole clip alike.
"""

import functools
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.clips.augment import (
    LUMA,
    FrameSource,
    cropped,
    memory_for,
    mirror,
    random_box,
    random_color,
    transform_colors,
)
from har_keras.video.ffmpeg import Frames

Matrix = NDArray[np.float64]

# Cubuk et al., 2019, section 4.3: two operations. The strength is relative to
# the largest and noisy, so that the model also sees weak ones.
_NUM_OPERATIONS = 2
_STRENGTH, _STRENGTH_NOISE = 0.5, 0.15
# The largest strengths are those of AutoAugment, table 6 of its appendix.
_SHEAR = 0.3
_TRANSLATION_FRACTION = 0.45
_ROTATION_DEGREES = 30.0
_ENHANCEMENT = 0.9
_POSTERIZED_BITS = 4
# Fill color outside the frame.
_GRAY = (128, 128, 128)
# Histograms use one row in this many, which is accurate enough.
_ROW_STRIDE = 8
# Kernel of Pillow's SMOOTH, used by its sharpness enhancement.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13


def random_operations(rng: np.random.Generator) -> list[tuple[str, float]]:
    """Draws operations and their strengths.

    Returns:
        Pairs of name and strength in `[-1, 1]`; a name may occur twice.

    Reference:
        - [Cubuk et al., 2019](https://arxiv.org/abs/1909.13719).
    """
    names = rng.choice(OPERATIONS, _NUM_OPERATIONS)
    strengths = rng.normal(_STRENGTH, _STRENGTH_NOISE, _NUM_OPERATIONS)
    signs = rng.choice((-1.0, 1.0), _NUM_OPERATIONS)
    signed = np.clip(strengths, 0, 1) * signs
    return [
        (str(name), float(strength))
        for name, strength in zip(names, signed, strict=True)
    ]


def is_geometric(name: str) -> bool:
    """Returns whether an operation is geometric (moves pixels)."""
    return name in _MOVES


def move(name: str, strength: float, size: int) -> Matrix:
    """Returns the matrix of a geometric operation.

    Args:
        name: str. A geometric operation.
        strength: float. In `[-1, 1]`.
        size: int. Height and width of the clip in pixels.

    Returns:
        `float64` array of shape `(3, 3)`, from positions in the new image to
        positions in the old one, both relative to the center.

    Example:

    >>> move("translate_x", 1.0, 100) @ [0, 0, 1]
    array([45.,  0.,  1.])
    """
    return _MOVES[name](strength, size)


def warped(
    frames: FrameSource,
    box: tuple[int, int, int, int],
    moves: Matrix,
    size: int,
    out: Frames | None = None,
) -> Frames:
    """Crops, resizes and applies geometric operations in one interpolation.

    The sampling positions are computed once per clip and rounded to 1/32 of a
    pixel, which is faster than `cv2.warpAffine` on each frame. Positions
    outside the crop are read from the rest of the frame.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`, or an iterable of its
            frames.
        box: tuple of int. Top, left, height and width of the crop in pixels.
        moves: `float64` array of shape `(3, 3)`, see `move`.
        size: int. Height and width of the result in pixels.
        out: `uint8` array of the result's shape or None. Output buffer.

    Returns:
        `uint8` array of shape `(T, size, size, 3)`; gray outside the frame.
    """
    x_of, y_of = _places(box, moves, size)
    fixed = cv2.convertMaps(x_of, y_of, cv2.CV_16SC2)
    clip = memory_for(frames, size) if out is None else out
    for source, target in zip(frames, clip, strict=True):
        cv2.remap(
            source,
            *fixed,
            cv2.INTER_LINEAR,
            dst=target,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_GRAY,
        )
    return clip


def _places(
    box: tuple[int, int, int, int], moves: Matrix, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the source position, x and y, of every pixel."""
    top, left, height, width = box
    # Pixel centers are at half-integers, as in `cv2.resize`.
    zoom = np.array(
        [
            [width / size, 0, left + width / 2 - 0.5],
            [0, height / size, top + height / 2 - 0.5],
        ]
    )
    whole = zoom @ moves  # (2, 3)
    steps = np.arange(size) + 0.5 - size / 2
    x_of, y_of = (
        row[0] * steps[None, :] + row[1] * steps[:, None] + row[2]
        for row in whole
    )
    return x_of.astype(np.float32), y_of.astype(np.float32)


def recolor(clip: Frames, name: str, strength: float) -> None:
    """Applies a photometric operation, in place.

    Args:
        clip: `uint8` array of shape `(T, H, W, 3)`, contiguous.
        name: str. A photometric operation.
        strength: float. In `[-1, 1]`.
    """
    _RECOLORS[name](clip, strength)


def _shear_x(strength: float, size: int) -> Matrix:
    return np.array([[1, _SHEAR * strength, 0], [0, 1, 0], [0, 0, 1]])


def _translate_x(strength: float, size: int) -> Matrix:
    far = _TRANSLATION_FRACTION * strength * size
    return np.array([[1.0, 0, far], [0, 1, 0], [0, 0, 1]])


def _shear_y(strength: float, size: int) -> Matrix:
    return _shear_x(strength, size).T


def _translate_y(strength: float, size: int) -> Matrix:
    far = _TRANSLATION_FRACTION * strength * size
    return np.array([[1.0, 0, 0], [0, 1, far], [0, 0, 1]])


def _rotate(strength: float, size: int) -> Matrix:
    angle = np.deg2rad(_ROTATION_DEGREES * strength)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


_MOVES: dict[str, Callable[[float, int], Matrix]] = {
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
}


def _keep(clip: Frames, strength: float) -> None:
    """The identity, one of RandAugment's operations."""


def _mix(clip: Frames, factor: float, towards: Matrix) -> None:
    """Extrapolates from (factor above 1) or interpolates to another color."""
    kept = np.hstack([np.eye(3), np.zeros((3, 1))])
    matrix = factor * kept + (1 - factor) * towards
    transform_colors(clip, matrix.astype(np.float32))


def _saturate(clip: Frames, strength: float) -> None:
    gray = np.hstack([np.tile(LUMA, (3, 1)), np.zeros((3, 1))])
    _mix(clip, 1 + _ENHANCEMENT * strength, gray)


def _brighten(clip: Frames, strength: float) -> None:
    _mix(clip, 1 + _ENHANCEMENT * strength, np.zeros((3, 4)))


def _contrast(clip: Frames, strength: float) -> None:
    # Relative to the mean brightness, which is thereby kept.
    mean = float(_histograms(clip) @ np.arange(256) @ LUMA)
    middle = np.zeros((3, 4))
    middle[:, 3] = mean
    _mix(clip, 1 + _ENHANCEMENT * strength, middle)


def _sharpen(clip: Frames, strength: float) -> None:
    same = np.zeros((3, 3))
    same[1, 1] = 1
    factor = 1 + _ENHANCEMENT * strength
    kernel = (factor * same + (1 - factor) * _SMOOTH).astype(np.float32)
    for frame in clip:
        cv2.filter2D(frame, -1, kernel, dst=frame)


def _posterize(clip: Frames, strength: float) -> None:
    bits = 8 - round((8 - _POSTERIZED_BITS) * abs(strength))
    np.bitwise_and(clip, 0xFF << (8 - bits) & 0xFF, out=clip)


def _solarize(clip: Frames, strength: float) -> None:
    tones = np.arange(256)
    threshold = 256 * (1 - abs(strength))
    inverted = np.where(tones < threshold, tones, 255 - tones)
    _look_up(clip, inverted.astype(np.uint8))


def _auto_contrast(clip: Frames, strength: float) -> None:
    found = _histograms(clip) > 0
    low = found.argmax(axis=1)
    high = 255 - found[:, ::-1].argmax(axis=1)
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    offset = np.where(high > low, -low * scale, 0.0)
    matrix = np.hstack([np.diag(scale), offset[:, None]])
    transform_colors(clip, matrix.astype(np.float32))


def _equalize(clip: Frames, strength: float) -> None:
    share = _histograms(clip).cumsum(axis=1)  # (3, 256)
    table = np.round(255 * share).astype(np.uint8).T.reshape(1, 256, 3)
    _look_up(clip, np.ascontiguousarray(table))


def _look_up(clip: Frames, table: Frames) -> None:
    """Maps values by a lookup table for all channels or one for each."""
    for frame in clip:
        cv2.LUT(frame, table, dst=frame)


def _histograms(clip: Frames) -> NDArray[np.float64]:
    """Returns the frequency of each value over all frames, `(3, 256)`."""
    rows = np.ascontiguousarray(clip[:, ::_ROW_STRIDE])
    rows = rows.reshape(-1, *clip.shape[2:])
    counts = [
        cv2.calcHist([rows], [channel], None, [256], [0, 256]).ravel()
        for channel in range(3)
    ]
    return np.array(counts, np.float64) / (rows.size / 3)


_RECOLORS: dict[str, Callable[[Frames, float], None]] = {
    "identity": _keep,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "solarize": _solarize,
    "posterize": _posterize,
    "saturation": _saturate,
    "contrast": _contrast,
    "brightness": _brighten,
    "sharpness": _sharpen,
}

OPERATIONS = (*_RECOLORS, *_MOVES)
"""The fourteen operations of RandAugment, section 4.3."""


_GRAY_SHARE = 0.1
# Zhong et al., 2017, section 3.1 and table 6, but for a quarter of the clips,
# as in the recipes of video transformers.
_ERASED_SHARE = 0.25
_ERASED_AREA_FRACTION = (0.02, 0.33)
_ERASED_ASPECT_RATIO = (0.3, 1 / 0.3)


def strong_clip(
    frames: FrameSource,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
    out: Frames | None = None,
) -> Frames:
    """Applies `augment_clip`'s changes, RandAugment and random erasing.

    It is an `Augmentation`, which documents the arguments.

    Example:

    >>> frames = np.zeros((16, 128, 170, 3), "uint8")
    >>> strong_clip(frames, np.random.default_rng(0), crop_size=112).shape
    (16, 112, 112, 3)

    Reference:
        - [Cubuk et al., 2019](https://arxiv.org/abs/1909.13719)
          (RandAugment).
        - [Zhong et al., 2017](https://arxiv.org/abs/1708.04896)
          (random erasing).
        - [Tong et al., 2022](https://arxiv.org/abs/2203.12602), appendix A
          (both, for video).
    """
    box = random_box(frames.shape[1], frames.shape[2], rng)
    mirrored = flip and rng.random() < 0.5
    color = random_color(rng)
    if rng.random() < _GRAY_SHARE:
        color = np.tile(LUMA, (3, 1)).astype(np.float32) @ color
    operations = random_operations(rng)
    clip = _placed(frames, box, operations, crop_size, out)
    if mirrored:
        mirror(clip)
    transform_colors(clip, color)
    for name, strength in operations:
        if not is_geometric(name):
            recolor(clip, name, strength)
    if rng.random() < _ERASED_SHARE:
        erase(clip, rng)
    return clip


def _placed(
    frames: FrameSource,
    box: tuple[int, int, int, int],
    operations: list[tuple[str, float]],
    size: int,
    out: Frames | None,
) -> Frames:
    """Returns the clip after the crop and all geometric operations."""
    moves = [
        move(name, strength, size)
        for name, strength in operations
        if is_geometric(name)
    ]
    if not moves:
        return cropped(frames, box, size, out)
    whole = functools.reduce(np.matmul, moves)
    return warped(frames, box, whole, size, out)


def erase(clip: Frames, rng: np.random.Generator) -> None:
    """Replaces a box by noise, the same in all frames, in place.

    Args:
        clip: `uint8` array of shape `(T, H, W, 3)`.
        rng: numpy `Generator`.
    """
    height, width = clip.shape[1:3]
    top, left, box_height, box_width = random_box(
        height,
        width,
        rng,
        area_fraction=_ERASED_AREA_FRACTION,
        aspect_ratio=_ERASED_ASPECT_RATIO,
    )
    noise = rng.integers(256, size=(box_height, box_width, 3), dtype=np.uint8)
    clip[:, top : top + box_height, left : left + box_width] = noise
