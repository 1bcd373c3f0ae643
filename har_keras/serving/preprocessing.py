"""Frames as a client sends them into clips as the model takes them, in graph.

The twin of `video/sampling.py` in TensorFlow ops, for the inside of a
SavedModel; a test holds the two together.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from har_keras.config import ClipConfig

# A tf.Tensor or what it stands for while a graph is traced.
Tensor = Any

# Limits of one request, kept in the exported graph: what a person sends by
# mistake, or to exhaust the server, ends in a sentence and not in its memory.
MAX_FRAMES = 1024
MAX_PIXELS = 4096 * 4096
# All frames of a GIF are decoded before some are chosen: 192 MiB at most.
MAX_GIF_PIXELS = 2**26
MAX_GIF_BYTES = 2**24

_JPEG_START = b"\xff\xd8\xff"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_GIF_START = b"GIF8"


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
    checks = [*number_checks(shape[1]), *size_checks(shape[2], shape[3])]
    with tf.control_dependencies(checks):
        indices = spread_frame_indices(shape[1], clip.num_frames)
        chosen = tf.gather(frames, indices, axis=1)
    flat = tf.reshape(chosen, (-1, shape[2], shape[3], 3))  # (B*T, H, W, 3)
    return tf.reshape(
        fit_frames(flat, clip), (shape[0], clip.num_frames, size, size, 3)
    )


def clips_from_pictures(frames_bytes: Tensor, clip: ClipConfig) -> Tensor:
    """Returns the clips that the model takes from JPEG or PNG pictures.

    Only the frames that the clip shows are decoded; they may differ in size.

    Args:
        frames_bytes: string tensor of shape `(B, frames)`.
        clip: ClipConfig. What the model was trained on.

    Returns:
        uint8 tensor of shape `(B, T, crop_size, crop_size, 3)`.
    """
    shape = tf.shape(frames_bytes)
    with tf.control_dependencies(number_checks(shape[1])):
        indices = spread_frame_indices(shape[1], clip.num_frames)
        chosen = tf.gather(frames_bytes, indices, axis=1)
    return _mapped(
        lambda picture: fit_frames(_decoded(picture)[None], clip)[0],
        tf.reshape(chosen, (-1,)),
        (-1, clip.num_frames, clip.crop_size, clip.crop_size, 3),
    )


def clips_from_gifs(gif_bytes: Tensor, clip: ClipConfig) -> Tensor:
    """Returns the clips that the model takes from animated GIFs.

    The pictures are taken as they come; how long each is shown is not looked
    at.

    Args:
        gif_bytes: string tensor of shape `(B,)`.
        clip: ClipConfig. What the model was trained on.

    Returns:
        uint8 tensor of shape `(B, T, crop_size, crop_size, 3)`.
    """
    return _mapped(
        lambda gif: clips_from_frames(_decoded_gif(gif)[None], clip)[0],
        gif_bytes,
        (-1, clip.num_frames, clip.crop_size, clip.crop_size, 3),
    )


def _mapped(
    function: Callable[[Tensor], Tensor],
    pictures: Tensor,
    shape: tuple[int, ...],
) -> Tensor:
    """Returns a function's frames for each of some encoded pictures."""
    decoded = tf.map_fn(function, pictures, fn_output_signature=tf.uint8)
    return tf.reshape(decoded, shape)


def _decoded(picture: Tensor) -> Tensor:
    """Returns a JPEG or a PNG as a uint8 tensor of shape `(H, W, 3)`."""
    is_png = tf.equal(tf.strings.substr(picture, 0, 8), _PNG_START)
    return tf.cond(
        is_png, lambda: _decoded_png(picture), lambda: _decoded_jpeg(picture)
    )


def _decoded_jpeg(picture: Tensor) -> Tensor:
    starts = tf.equal(tf.strings.substr(picture, 0, 3), _JPEG_START)
    sentence = "Each of frames_bytes must be a JPEG or a PNG picture."
    with tf.control_dependencies([_require(starts, sentence)]):
        shape = tf.io.extract_jpeg_shape(picture)
    with tf.control_dependencies(size_checks(shape[0], shape[1])):
        # The exact transform, as OpenCV and Pillow decode too.
        return tf.io.decode_jpeg(
            picture, channels=3, dct_method="INTEGER_ACCURATE"
        )


def _decoded_png(picture: Tensor) -> Tensor:
    # Zeros at the end stand for what a file that was cut lacks.
    size = tf.strings.substr(tf.strings.join([picture, bytes(24)]), 16, 8)
    width, height = tf.unstack(
        tf.io.decode_raw(size, tf.int32, little_endian=False), 2
    )
    with tf.control_dependencies(size_checks(height, width)):
        return tf.io.decode_png(picture, channels=3)


def _decoded_gif(gif: Tensor) -> Tensor:
    """Returns a GIF as a uint8 tensor of shape `(frames, H, W, 3)`."""
    starts = tf.equal(tf.strings.substr(gif, 0, 4), _GIF_START)
    checks = [
        _require(starts, "Each of gif_bytes must be a GIF picture."),
        _require(
            tf.strings.length(gif) <= MAX_GIF_BYTES,
            f"A GIF may have at most {MAX_GIF_BYTES} bytes.",
        ),
    ]
    with tf.control_dependencies(checks):
        num_frames, height, width = gif_dimensions(gif)
    all_pixels = tf.cast(num_frames, tf.int64) * _num_pixels(height, width)
    checks = [
        *number_checks(num_frames),
        *size_checks(height, width),
        _require(
            all_pixels <= MAX_GIF_PIXELS,
            f"A GIF may have at most {MAX_GIF_PIXELS} pixels in all frames.",
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.io.decode_gif(gif)


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


def number_checks(num_frames: Tensor) -> list[Tensor]:
    """Returns the ops that refuse too few or too many frames, in words."""
    return [
        _require(num_frames >= 1, "A clip must have at least one frame."),
        _require(
            num_frames <= MAX_FRAMES,
            f"A clip may have at most {MAX_FRAMES} frames.",
        ),
    ]


def size_checks(height: Tensor, width: Tensor) -> list[Tensor]:
    """Returns the ops that refuse too small or too large frames, in words."""
    return [
        _require(
            tf.minimum(height, width) >= 1,
            "A frame must be at least one pixel wide and high.",
        ),
        _require(
            _num_pixels(height, width) <= MAX_PIXELS,
            f"A frame may have at most {MAX_PIXELS} pixels.",
        ),
    ]


def _num_pixels(height: Tensor, width: Tensor) -> Tensor:
    return tf.cast(height, tf.int64) * tf.cast(width, tf.int64)


def _require(holds: Tensor, sentence: str) -> Tensor:
    return tf.debugging.Assert(holds, [sentence])


_IMAGE, _EXTENSION = 0x2C, 0x21
_HEADER_BYTES = 13
# Sub-blocks have at least two bytes; 2**24 bytes have less than 2**23 of them.
_NUM_DOUBLINGS = 23


def gif_dimensions(gif: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the number of frames, and the largest height and width.

    Args:
        gif: string scalar tensor. A GIF of at most 2**24 bytes. What follows
            a block that is none, as in a file that was cut, is not counted.

    Returns:
        Three int32 scalar tensors: frames, pixels, pixels.

    Reference:
        - [GIF89a, 1990](https://www.w3.org/Graphics/GIF/spec-gif89a.txt),
          sections 18 to 24.
    """
    # Zeros at the end stand for what a file that was cut lacks.
    data = tf.concat(
        [tf.io.decode_raw(gif, tf.uint8), tf.zeros((16,), tf.uint8)], 0
    )
    data = tf.cast(data, tf.int32)
    ends = _chain_ends(data)
    last = tf.size(data) - 11

    def more(position: Tensor, *_: Tensor) -> Tensor:
        block = data[tf.minimum(position, last)]
        known = tf.logical_or(block == _IMAGE, block == _EXTENSION)
        return tf.logical_and(position < last, known)

    def step(
        position: Tensor, frames: Tensor, height: Tensor, width: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        image = data[position] == _IMAGE
        block = tf.where(image, data[position : position + 10], 0)
        begin = tf.where(image, 11 + _table_bytes(block[9]), 2)
        return (
            ends[tf.minimum(position + begin, last)],
            frames + tf.cast(image, tf.int32),
            tf.maximum(height, block[7] + 256 * block[8]),
            tf.maximum(width, block[5] + 256 * block[6]),
        )

    start = _HEADER_BYTES + _table_bytes(data[10])
    _, frames, height, width = tf.while_loop(more, step, (start, 0, 0, 0))
    return frames, height, width


def _table_bytes(flags: Tensor) -> Tensor:
    """Returns the size of the colour table that a packed byte announces."""
    size = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
    return tf.where(flags >= 128, size, 0)


def _chain_ends(data: Tensor) -> Tensor:
    """Returns, for each byte, where a chain of sub-blocks from it ends.

    A sub-block is a length and as many bytes; one of length 0 ends the chain.
    Following all chains at once by doubling the step takes 23 gathers, where
    following one takes a loop as long as the file.
    """
    places = tf.range(tf.size(data))
    reached = tf.where(data > 0, places + data + 1, places)
    reached = tf.minimum(reached, tf.size(data) - 1)
    for _ in range(_NUM_DOUBLINGS):
        reached = tf.gather(reached, reached)
    return reached + 1
