"""In-graph preprocessing of a SavedModel: decode, sample, resize, crop.

These are the TensorFlow ops of `clips/sampling.py`; a test compares the two.
"""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from har_keras.config import ClipConfig
from har_keras.serving.frames import (
    GIF_START,
    JPEG_START,
    MAX_FRAMES,
    MAX_GIF_BYTES,
    MAX_GIF_PIXELS,
    MAX_PIXELS,
    NO_FRAMES,
    NO_GIF,
    NO_IMAGE,
    NO_PIXELS,
    PNG_START,
    TOO_LARGE_GIF,
    TOO_MANY_FRAMES,
    TOO_MANY_GIF_PIXELS,
    TOO_MANY_PIXELS,
)
from har_keras.serving.orientation import (
    jpeg_orientation,
    png_orientation,
    upright,
)

# A tf.Tensor, or a symbolic one while a graph is traced.
Tensor = Any


def spread_frame_indices(num_given: Tensor, num_frames: int) -> Tensor:
    """Returns the indices of the sent frames that form the clip.

    More frames than the clip's are subsampled evenly, first and last included;
    of fewer frames the last is repeated. This is `clip_frame_indices` with the
    stride at which the clip spans the sent frames.

    Args:
        num_given: int32 scalar tensor. Number of sent frames, at least 1.
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
    # Integer arithmetic, rounded down: the same on every machine.
    spread = steps * (num_given - 1) // gaps
    return tf.where(
        num_given >= num_frames, spread, tf.minimum(steps, num_given - 1)
    )


def clips_from_frames(frames: Tensor, clip: ClipConfig) -> Tensor:
    """Converts frames of any number and size to model input.

    Args:
        frames: uint8 tensor of shape `(B, frames, height, width, 3)`, RGB.
        clip: ClipConfig. Clip geometry of the model.

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


def clips_from_images(frames_bytes: Tensor, clip: ClipConfig) -> Tensor:
    """Decodes JPEG or PNG frames and converts them to model input.

    Only the frames of the clip are decoded; their sizes may differ. They are
    turned as their EXIF orientation says.

    Args:
        frames_bytes: string tensor of shape `(B, frames)`.
        clip: ClipConfig. Clip geometry of the model.

    Returns:
        uint8 tensor of shape `(B, T, crop_size, crop_size, 3)`.
    """
    shape = tf.shape(frames_bytes)
    with tf.control_dependencies(number_checks(shape[1])):
        indices = spread_frame_indices(shape[1], clip.num_frames)
        chosen = tf.gather(frames_bytes, indices, axis=1)
    return _mapped(
        lambda image: fit_frames(_decoded(image, clip)[None], clip)[0],
        tf.reshape(chosen, (-1,)),
        (-1, clip.num_frames, clip.crop_size, clip.crop_size, 3),
    )


def clips_from_gifs(gif_bytes: Tensor, clip: ClipConfig) -> Tensor:
    """Decodes animated GIFs and converts them to model input.

    Frame durations are ignored.

    Args:
        gif_bytes: string tensor of shape `(B,)`.
        clip: ClipConfig. Clip geometry of the model.

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
    images: Tensor,
    shape: tuple[int, ...],
) -> Tensor:
    """Maps a function over encoded images and reshapes the frames."""
    decoded = tf.map_fn(function, images, fn_output_signature=tf.uint8)
    return tf.reshape(decoded, shape)


def _decoded(image: Tensor, clip: ClipConfig) -> Tensor:
    """Decodes a JPEG or PNG to a uint8 tensor of shape `(H, W, 3)`, upright."""
    is_png = tf.equal(tf.strings.substr(image, 0, 8), PNG_START)
    return tf.cond(
        is_png, lambda: _decoded_png(image), lambda: _decoded_jpeg(image, clip)
    )


def _decoded_jpeg(image: Tensor, clip: ClipConfig) -> Tensor:
    """Decodes a JPEG; a large one to a fraction of its size, which is faster.

    Its short side is then still twice that of the frame store or more.
    """
    starts = tf.equal(tf.strings.substr(image, 0, 3), JPEG_START)
    with tf.control_dependencies([_require(starts, NO_IMAGE)]):
        shape = tf.io.extract_jpeg_shape(image)
    fractions = (1, 2, 4, 8)

    def decoded(fraction: int) -> Tensor:
        # The exact inverse DCT, the default of OpenCV and Pillow.
        return tf.io.decode_jpeg(
            image, 3, ratio=fraction, dct_method="INTEGER_ACCURATE"
        )

    with tf.control_dependencies(size_checks(shape[0], shape[1])):
        shorter = tf.minimum(shape[0], shape[1])
        large = shorter // (2 * clip.short_side) >= fractions[1:]
        pixels = tf.switch_case(
            tf.math.count_nonzero(large, dtype=tf.int32),
            [functools.partial(decoded, x) for x in fractions],
        )
    return upright(pixels, jpeg_orientation(image))


def _decoded_png(image: Tensor) -> Tensor:
    # The appended zeros stand in for the end of a truncated file.
    size = tf.strings.substr(tf.strings.join([image, bytes(24)]), 16, 8)
    width, height = tf.unstack(
        tf.io.decode_raw(size, tf.int32, little_endian=False), 2
    )
    with tf.control_dependencies(size_checks(height, width)):
        pixels = tf.io.decode_png(image, channels=3)
    return upright(pixels, png_orientation(image))


def _decoded_gif(gif: Tensor) -> Tensor:
    """Decodes a GIF to a uint8 tensor of shape `(frames, H, W, 3)`."""
    starts = tf.equal(tf.strings.substr(gif, 0, 4), GIF_START)
    checks = [
        _require(starts, NO_GIF),
        _require(tf.strings.length(gif) <= MAX_GIF_BYTES, TOO_LARGE_GIF),
    ]
    with tf.control_dependencies(checks):
        num_frames, height, width = gif_dimensions(gif)
    all_pixels = tf.cast(num_frames, tf.int64) * _num_pixels(height, width)
    checks = [
        *number_checks(num_frames),
        *size_checks(height, width),
        _require(all_pixels <= MAX_GIF_PIXELS, TOO_MANY_GIF_PIXELS),
    ]
    with tf.control_dependencies(checks):
        return tf.io.decode_gif(gif)


def fit_frames(frames: Tensor, clip: ClipConfig) -> Tensor:
    """Resizes and crops frames as for a center view.

    The short side is resized to `clip.short_side`, then the center is cropped;
    with `clip.squeeze`, both sides are resized.
    Frames of the clip's size were cropped by the client and pass unchanged.

    Args:
        frames: uint8 tensor of shape `(frames, height, width, 3)`.
        clip: ClipConfig. Clip geometry of the model.

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
    # Integer arithmetic, rounding half up; the short side is exact.
    if clip.squeeze:
        height = width = shorter
    sides = tf.stack([height, width])
    scaled = (2 * sides * short_side + shorter) // (2 * shorter)
    # Only the pixels of the crop are computed, those of the whole frame as
    # `tf.image.resize` has them.
    cropped = tf.raw_ops.ScaleAndTranslate(
        images=frames,
        size=(size, size),
        scale=tf.cast(scaled / tf.shape(frames)[1:3], tf.float32),
        translation=-tf.cast((scaled - size) // 2, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )
    return tf.saturate_cast(tf.round(cropped), tf.uint8)


def number_checks(num_frames: Tensor) -> list[Tensor]:
    """Returns the assertions on the number of frames."""
    return [
        _require(num_frames >= 1, NO_FRAMES),
        _require(num_frames <= MAX_FRAMES, TOO_MANY_FRAMES),
    ]


def size_checks(height: Tensor, width: Tensor) -> list[Tensor]:
    """Returns the assertions on the size of a frame."""
    return [
        _require(tf.minimum(height, width) >= 1, NO_PIXELS),
        _require(_num_pixels(height, width) <= MAX_PIXELS, TOO_MANY_PIXELS),
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
    """Parses the number of frames and their largest size, without decoding.

    Args:
        gif: string scalar tensor. A GIF of at most 2**24 bytes. Parsing ends
            at an invalid block, such as the end of a truncated file.

    Returns:
        Three int32 scalar tensors: number of frames, height and width in
        pixels.

    Reference:
        - [GIF89a, 1990](https://www.w3.org/Graphics/GIF/spec-gif89a.txt),
          sections 18 to 24.
    """
    # The appended zeros stand in for the end of a truncated file.
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
    """Returns the size in bytes of the color table given by a packed field."""
    size = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
    return tf.where(flags >= 128, size, 0)


def _chain_ends(data: Tensor) -> Tensor:
    """Returns, for each byte, the end of the sub-block chain starting there.

    A sub-block is a length byte and that many bytes; length 0 ends a chain.
    Pointer doubling follows all chains at once in 23 gathers, where following
    one chain takes a loop as long as the file.
    """
    places = tf.range(tf.size(data))
    reached = tf.where(data > 0, places + data + 1, places)
    reached = tf.minimum(reached, tf.size(data) - 1)
    for _ in range(_NUM_DOUBLINGS):
        reached = tf.gather(reached, reached)
    return reached + 1
