"""MixUp and CutMix of the clips of a batch and their labels.

The first clip of a batch is paired with the last, the second with the second
last, and so on; pairs are random since the order of an epoch is. Both clips of
a pair are changed in place, so that no copy of the batch is needed.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.video.ffmpeg import Frames

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Mix:
    """Parameters by which both clips of every pair are mixed.

    Args:
        share: float. Weight of the clip itself, in `[0, 1]` (lambda).
        box: tuple of int or None. CutMix: top, left, height and width in
            pixels of the box that the two exchange. None is MixUp.
    """

    share: float
    box: Box | None = None


def draw_mix(
    rng: np.random.Generator, *, mixup: float, cutmix: float, size: int
) -> Mix:
    """Draws the parameters for a batch.

    Args:
        rng: numpy `Generator`.
        mixup: float. Alpha of the Beta distribution for MixUp, or 0.
        cutmix: float. Alpha for CutMix, or 0. If both are given, each is
            applied to half of the batches.
        size: int. Height and width of a clip in pixels.

    Returns:
        A `Mix`. If both alphas are 0, it changes nothing.

    Example:

    >>> draw_mix(np.random.default_rng(0), mixup=0.0, cutmix=0.0, size=112)
    Mix(share=1.0, box=None)

    Reference:
        - [Zhang et al., 2017](https://arxiv.org/abs/1710.09412), section 2
          (MixUp).
        - [Yun et al., 2019](https://arxiv.org/abs/1905.04899), section 3.1
          (CutMix).
    """
    if not mixup and not cutmix:
        return Mix(1.0)
    cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    alpha = cutmix if cut else mixup
    share = float(rng.beta(alpha, alpha))
    if not cut:
        return Mix(share)
    box = _random_part(rng, share, size)
    # The box was rounded and clipped at the borders: use its real area.
    return Mix(1 - box[2] * box[3] / size**2, box)


def _random_part(rng: np.random.Generator, share: float, size: int) -> Box:
    """Draws a box around a random pixel whose area is about `1 - share`."""
    half = round(size * float(np.sqrt(1 - share)) / 2)
    y, x = rng.integers(size, size=2).tolist()
    top, left = max(0, y - half), max(0, x - half)
    bottom, right = min(size, y + half), min(size, x + half)
    return top, left, bottom - top, right - left


def mix_clips(clips: Frames, mix: Mix) -> None:
    """Mixes the clips of a batch in pairs, in place.

    Args:
        clips: `uint8` array of shape `(B, T, H, W, 3)`. Blended pixels are
            rounded to the nearest whole number.
        mix: Mix. The parameters.
    """
    for one, other in zip(clips[: len(clips) // 2], clips[::-1], strict=False):
        if mix.box is None:
            _blend(one, other, mix.share)
        else:
            _exchange(one, other, mix.box)


def _blend(one: Frames, other: Frames, share: float) -> None:
    for a, b in zip(one, other, strict=True):
        kept = cv2.addWeighted(a, share, b, 1 - share, 0)
        cv2.addWeighted(b, share, a, 1 - share, 0, dst=b)
        a[:] = kept


def _exchange(one: Frames, other: Frames, box: Box) -> None:
    top, left, height, width = box
    part = np.s_[:, top : top + height, left : left + width]
    kept = one[part].copy()
    one[part] = other[part]
    other[part] = kept


def mix_rows(values: NDArray[np.float32], mix: Mix) -> NDArray[np.float32]:
    """Mixes per-clip values of a batch, such as labels.

    Args:
        values: `float32` array; the first axis is the batch.
        mix: Mix. The parameters by which the clips were mixed.

    Returns:
        `float32` array of the same shape.

    Example:

    >>> labels = np.eye(2, dtype="float32")
    >>> mix_rows(labels, Mix(0.75)).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    share = np.float32(mix.share)
    return share * values + (1 - share) * values[::-1]
