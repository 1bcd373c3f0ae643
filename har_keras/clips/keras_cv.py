"""`--augment keras-cv`: its RandAugment and RandomCutout, on whole clips.

The layers know pictures only, so frames are folded into one: below each other
for RandAugment, which recolours it as a whole, and as further channels for
RandomCutout, which cuts the same box out of all. keras-cv comes with the extra
`cv` and is imported when the first clip is asked for.
"""

import functools
import threading
from typing import Any

import numpy as np

from har_keras.clips.augment import (
    FrameSource,
    cropped,
    mirror,
    random_box,
)
from har_keras.errors import EnvironmentFault
from har_keras.video.ffmpeg import Frames

_CUTOUT_FRACTION = (0.1, 0.4)  # of the height and of the width
# TensorFlow's seed belongs to the whole process.
_ONE_AT_A_TIME = threading.Lock()


def keras_cv_clip(
    frames: FrameSource,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
    out: Frames | None = None,
) -> Frames:
    """Crops and mirrors a clip, then has keras-cv recolour and cut it.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)`, or what gives its
            frames one by one.
        rng: numpy `Generator`. The same state gives the same clip.
        crop_size: int. Height and width of the result in pixels.
        flip: bool. Whether half of the clips are mirrored left to right.
        out: `uint8` array of the result's shape or None. Memory for it.

    Returns:
        `uint8` array of shape `(T, crop_size, crop_size, 3)`.

    Raises:
        EnvironmentFault: If keras-cv is not installed.
    """
    box = random_box(frames.shape[1], frames.shape[2], rng)
    clip = cropped(frames, box, crop_size, out)
    if flip and rng.random() < 0.5:
        mirror(clip)
    seed = int(rng.integers(2**31))
    with _ONE_AT_A_TIME:
        clip[:] = _changed(clip, seed)
    return clip


def _changed(clip: Frames, seed: int) -> Frames:
    import tensorflow as tf

    colour, cutout, generator = keras_cv_layers()
    # Some of their random numbers are drawn from the one, some from the other.
    tf.random.set_seed(seed)
    generator.reset_from_seed(seed)
    num_frames, height, width, channels = clip.shape
    tall = clip.reshape(-1, width, channels).astype(np.float32)
    clip = np.asarray(colour(tall)).reshape(clip.shape)
    deep = np.moveaxis(clip, 0, 2).reshape(height, width, -1)
    deep = np.asarray(cutout(deep[None]))[0]
    deep = deep.reshape(height, width, num_frames, channels)
    whole = np.clip(np.round(np.moveaxis(deep, 2, 0)), 0, 255)
    return whole.astype(np.uint8)


@functools.cache
def keras_cv_layers() -> tuple[Any, Any, Any]:
    """Returns RandAugment, RandomCutout and the generator they draw from.

    Raises:
        EnvironmentFault: If keras-cv is not installed.
    """
    try:
        import keras_cv
    except ImportError as error:
        raise EnvironmentFault(
            "--augment keras-cv needs keras-cv. Install it with: pip install "
            '"har_keras[cv]". Or choose --augment strong.'
        ) from error
    import tensorflow as tf

    others = tf.random.get_global_generator()
    generator = tf.random.Generator.from_seed(0)
    # Layers without a seed keep the generator that is the global one now.
    tf.random.set_global_generator(generator)
    try:
        colour = keras_cv.layers.RandAugment(
            value_range=(0, 255), geometric=False
        )
        cutout = keras_cv.layers.RandomCutout(
            _CUTOUT_FRACTION, _CUTOUT_FRACTION
        )
    finally:
        tf.random.set_global_generator(others)
    return colour, cutout, generator
