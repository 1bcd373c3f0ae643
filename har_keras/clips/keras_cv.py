"""`--augment keras-cv`: RandAugment and RandomCutout of keras-cv, on clips.

The layers work on images, so the frames of a clip are merged into one image:
stacked vertically for RandAugment, whose photometric operations change it as a
whole, and as channels for RandomCutout, which cuts the same box from all.
keras-cv is in the extra `cv` and imported with the first clip.
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
# TensorFlow's seed is global to the process.
_ONE_AT_A_TIME = threading.Lock()


def keras_cv_clip(
    frames: FrameSource,
    rng: np.random.Generator,
    *,
    crop_size: int,
    flip: bool = True,
    out: Frames | None = None,
) -> Frames:
    """Applies a random resized crop, a flip and keras-cv's layers to a clip.

    It is an `Augmentation`, which documents the arguments.

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

    color, cutout, generator = keras_cv_layers()
    # The layers use both the global seed and the generator.
    tf.random.set_seed(seed)
    generator.reset_from_seed(seed)
    num_frames, height, width, channels = clip.shape
    tall = clip.reshape(-1, width, channels).astype(np.float32)
    clip = np.asarray(color(tall)).reshape(clip.shape)
    deep = np.moveaxis(clip, 0, 2).reshape(height, width, -1)
    deep = np.asarray(cutout(deep[None]))[0]
    deep = deep.reshape(height, width, num_frames, channels)
    whole = np.clip(np.round(np.moveaxis(deep, 2, 0)), 0, 255)
    return whole.astype(np.uint8)


@functools.cache
def keras_cv_layers() -> tuple[Any, Any, Any]:
    """Returns RandAugment, RandomCutout and their random generator.

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
    # Layers without a seed keep the generator that is global when created.
    tf.random.set_global_generator(generator)
    try:
        color = keras_cv.layers.RandAugment(
            value_range=(0, 255), geometric=False
        )
        cutout = keras_cv.layers.RandomCutout(
            _CUTOUT_FRACTION, _CUTOUT_FRACTION
        )
    finally:
        tf.random.set_global_generator(others)
    return color, cutout, generator
