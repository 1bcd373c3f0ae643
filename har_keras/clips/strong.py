"""`--augment strong`: everything that is usual, drawn once per clip."""

import functools

import numpy as np

from har_keras.clips.augment import (
    LUMA,
    Frames,
    FrameSource,
    cropped,
    mirror,
    random_box,
    random_colour,
    transform_colours,
)
from har_keras.clips.rand_augment import (
    is_geometric,
    move,
    random_operations,
    recolour,
    warped,
)

_GREY_SHARE = 0.1
# Zhong et al., 2017, section 3.1 and table 6, but a quarter of the clips, as
# in the recipes for video transformers.
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
    """Crops, moves, mirrors, recolours and erases, each frame in the same way.

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
    colour = random_colour(rng)
    if rng.random() < _GREY_SHARE:
        colour = np.tile(LUMA, (3, 1)).astype(np.float32) @ colour
    operations = random_operations(rng)
    clip = _placed(frames, box, operations, crop_size, out)
    if mirrored:
        mirror(clip)
    transform_colours(clip, colour)
    for name, strength in operations:
        if not is_geometric(name):
            recolour(clip, name, strength)
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
    """Returns the clip after all that moves pixels."""
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
    """Puts noise in place of a box, the same in all frames, in place.

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
