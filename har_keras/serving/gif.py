"""How large a GIF will be, read in graph before anything is decoded.

A GIF of a few kilobytes can claim frames of 65535 x 65535 pixels, and a
decoder believes it. Reading the blocks alone costs a few milliseconds.
"""

from typing import Any

import tensorflow as tf

Tensor = Any

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
