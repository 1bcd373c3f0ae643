"""Frames as a client sends them into clips as the model takes them, in graph.

The twin of `video/sampling.py` in TensorFlow ops, for the inside of a
SavedModel; a test holds the two together.
"""

from typing import Any

import tensorflow as tf

from har_keras.config import ClipConfig

# A tf.Tensor or what it stands for while a graph is traced.
Tensor = Any

# Limits of one request, kept in the exported graph: what a person sends by
# mistake, or to exhaust the server, ends in a sentence and not in its memory.
MAX_FRAMES = 1024
MAX_PIXELS = 4096 * 4096


def spread_frame_indices(num_given: Tensor, num_frames: int) -> Tensor:
    """Returns which of the frames sent make up the clip.

    As many as the clip has are taken as they are, and more are thinned out
    evenly, first and last included. Of fewer the last is held. This is
    `clip_frame_indices` with the stride that lets the clip span what was sent.

    Args:
        num_given: int32 scalar tensor. Frames sent, at least 1.
        num_frames: int. Frames in the clip, T.

    Returns:
        int32 tensor of shape `(num_frames,)`, never decreasing.

    Example:

    >>> spread_frame_indices(9, 5).numpy().tolist()
    [0, 2, 4, 6, 8]
    >>> spread_frame_indices(3, 5).numpy().tolist()
    [0, 1, 2, 2, 2]
    """
    steps = tf.range(num_frames)
    if num_frames == 1:
        return steps + (num_given - 1) // 2
    gaps = num_frames - 1
    # Whole numbers, rounded down: the same on every machine.
    spread = steps * (num_given - 1) // gaps
    return tf.where(
        num_given >= num_frames, spread, tf.minimum(steps, num_given - 1)
    )


def clips_from_frames(frames: Tensor, clip: ClipConfig) -> Tensor:
    """Returns the clips that the model takes from frames of any size.

    Args:
        frames: uint8 tensor of shape `(B, frames, height, width, 3)`, RGB.
        clip: ClipConfig. What the model was trained on.

    Returns:
        uint8 tensor of shape `(B, T, crop_size, crop_size, 3)`.
    """
    size = clip.crop_size
    shape = tf.shape(frames)
    with tf.control_dependencies(request_checks(shape[1], shape[2], shape[3])):
        indices = spread_frame_indices(shape[1], clip.num_frames)
        chosen = tf.gather(frames, indices, axis=1)
    flat = tf.reshape(chosen, (-1, shape[2], shape[3], 3))  # (B*T, H, W, 3)
    return tf.reshape(
        fit_frames(flat, clip), (shape[0], clip.num_frames, size, size, 3)
    )


def fit_frames(frames: Tensor, clip: ClipConfig) -> Tensor:
    """Returns frames scaled and cropped as a centre view is.

    The short side becomes `clip.short_side`, and the middle is cut out of
    that. Frames that are a clip's size already were cropped by their sender
    and pass through bit by bit.

    Args:
        frames: uint8 tensor of shape `(frames, height, width, 3)`.
        clip: ClipConfig. What the model was trained on.

    Returns:
        uint8 tensor of shape `(frames, crop_size, crop_size, 3)`.
    """
    size = clip.crop_size
    shape = tf.shape(frames)
    fitting = tf.logical_and(shape[1] == size, shape[2] == size)
    fitted = tf.cond(
        fitting, lambda: frames, lambda: _scale_and_crop(frames, clip)
    )
    return tf.reshape(fitted, (-1, size, size, 3))


def _scale_and_crop(frames: Tensor, clip: ClipConfig) -> Tensor:
    size, short_side = clip.crop_size, clip.short_side
    height, width = tf.shape(frames)[1], tf.shape(frames)[2]
    shorter = tf.minimum(height, width)
    # Half up, in whole numbers; the short side comes out exact.
    new_height = (2 * height * short_side + shorter) // (2 * shorter)
    new_width = (2 * width * short_side + shorter) // (2 * shorter)
    scaled = tf.image.resize(frames, (new_height, new_width), antialias=True)
    pixels = tf.saturate_cast(tf.round(scaled), tf.uint8)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return pixels[:, top : top + size, left : left + size]


def request_checks(
    num_frames: Tensor, height: Tensor, width: Tensor
) -> list[Tensor]:
    """Returns the ops that refuse a request outside the limits, in words."""
    return [
        tf.debugging.assert_greater_equal(
            num_frames, 1, "A clip must have at least one frame.", 1
        ),
        tf.debugging.assert_less_equal(
            num_frames,
            MAX_FRAMES,
            f"A clip may have at most {MAX_FRAMES} frames.",
            1,
        ),
        tf.debugging.assert_greater_equal(
            tf.minimum(height, width),
            1,
            "A frame must be at least one pixel wide and high.",
            1,
        ),
        tf.debugging.assert_less_equal(
            tf.cast(height, tf.int64) * tf.cast(width, tf.int64),
            tf.constant(MAX_PIXELS, tf.int64),
            f"A frame may have at most {MAX_PIXELS} pixels.",
            1,
        ),
    ]
