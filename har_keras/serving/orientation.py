"""The EXIF orientation of a JPEG or PNG, read and applied in the graph.

A phone stores pictures as its sensor lies and says how to turn them. `predict`
turns them, as every viewer does; a client of the server need not know.
"""

from typing import Any

import tensorflow as tf

# A tf.Tensor, or a symbolic one while a graph is traced.
Tensor = Any

_TAG, _SHORT = 0x0112, 3
_APP1, _SCAN, _END = 0xE1, 0xDA, 0xD9
_EXIF = b"Exif\x00\x00"
# No camera writes more segments, chunks or entries before the orientation.
_MOST_SEGMENTS, _MOST_CHUNKS, _MOST_ENTRIES = 64, 4096, 512


def upright(pixels: Tensor, orientation: Tensor) -> Tensor:
    """Returns a picture as it is meant to be seen.

    Args:
        pixels: uint8 tensor of shape `(H, W, 3)`.
        orientation: int32 scalar tensor. 1 to 8, as EXIF has it.

    Returns:
        uint8 tensor of shape `(H, W, 3)`, or `(W, H, 3)` from 5 on.

    Example:

    >>> pixels = tf.reshape(tf.constant(range(6), "uint8"), (2, 3, 1))
    >>> upright(pixels, tf.constant(6))[..., 0].numpy().tolist()
    [[3, 0], [4, 1], [5, 2]]
    """

    def among(*orientations: int) -> Tensor:
        return tf.reduce_any(tf.equal(orientation, orientations))

    def turned() -> Tensor:
        result = tf.cond(
            orientation >= 5,
            lambda: tf.transpose(pixels, (1, 0, 2)),
            lambda: pixels,
        )
        for axis, orientations in ((1, (2, 3, 6, 7)), (0, (3, 4, 7, 8))):
            size = tf.shape(result)[axis]
            step = tf.where(among(*orientations), -1, 1)
            first = tf.where(step < 0, size - 1, 0)
            result = tf.gather(result, first + step * tf.range(size), axis=axis)
        return result

    result = tf.cond(orientation == 1, lambda: pixels, turned)
    return tf.ensure_shape(result, (None, None, pixels.shape[2]))


def jpeg_orientation(image: Tensor) -> Tensor:
    """Returns the orientation of a JPEG, 1 if it has none.

    Args:
        image: string scalar tensor. The file.

    Returns:
        int32 scalar tensor, 1 to 8.
    """

    def step(place: Tensor, found: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        head = _head(image, place)
        marker, length = head[1], 256 * head[2] + head[3]
        is_exif = tf.logical_and(
            marker == _APP1, _text(image, place + 4, 6) == _EXIF
        )
        found = tf.where(is_exif, place + 10, found)
        padded = marker == 0xFF  # any number of these may precede a marker
        over = tf.reduce_any(
            [head[0] != 0xFF, marker == _SCAN, marker == _END, length < 2]
        )
        after = tf.where(padded, place + 1, place + 2 + length)
        over = tf.logical_and(over, tf.logical_not(padded))
        return tf.where(over, _NOWHERE, after), found, length - 8

    def walked() -> Tensor:
        _, begin, size = _walked(image, 2, step, _MOST_SEGMENTS)
        return _orientation_at(image, begin, size)

    # Most frames have none, and walking takes longer than decoding them. Of
    # the ways to look for it, replacing takes a third of matching.
    without = tf.strings.regex_replace(
        image, r"Exif\x00\x00", "", replace_global=False
    )
    some = tf.strings.length(without) < tf.strings.length(image)
    return tf.cond(some, walked, lambda: tf.constant(1))


def png_orientation(image: Tensor) -> Tensor:
    """Returns the orientation of a PNG, 1 if it has none.

    Args:
        image: string scalar tensor. The file.

    Returns:
        int32 scalar tensor, 1 to 8.
    """

    def step(place: Tensor, found: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        head = _head(image, place)
        length = tf.reduce_sum(head * [2**24, 2**16, 2**8, 1])
        is_exif = _text(image, place + 4, 4) == b"eXIf"
        found = tf.where(is_exif, place + 8, found)
        return place + 12 + length, found, length

    _, begin, size = _walked(image, 8, step, _MOST_CHUNKS)
    return _orientation_at(image, begin, size)


_NOWHERE = tf.int64.max // 2


def _walked(image: Tensor, begin: int, step: Any, most: int) -> Any:
    """Walks over the parts of a file until one has EXIF data, or to the end.

    Returns:
        Three int64 scalar tensors: the next place, where the data begin, 0 if
        there are none, and their size.
    """
    size = tf.cast(tf.strings.length(image), tf.int64)
    start = tf.constant(begin, tf.int64), tf.zeros((), tf.int64)
    return tf.while_loop(
        lambda place, found, _: tf.logical_and(place < size, found == 0),
        step,
        (*start, tf.zeros((), tf.int64)),
        maximum_iterations=most,
    )


def _orientation_at(image: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """Returns the orientation in EXIF data, 1 if there is none."""
    # A damaged file may claim any size; zeros stand in for a few bytes only.
    data = _numbers(_text(image, begin, tf.where(begin > 0, size, 0)), 16)
    little = data[0] == ord("I")

    def number(places: Tensor, size: int) -> Tensor:
        places = tf.clip_by_value(places, 0, _length(data) - size)
        values = tf.gather(
            data, places[..., None] + tf.range(size, dtype="int64")
        )
        values = tf.where(little, tf.reverse(values, [-1]), values)
        weights = 256 ** tf.range(size - 1, -1, -1, dtype="int64")
        return tf.reduce_sum(values * weights, -1)

    directory = number(tf.constant(4, tf.int64), 4)
    count = tf.minimum(number(directory, 2), _MOST_ENTRIES)
    entries = directory + 2 + 12 * tf.range(count)
    values = number(entries + 8, 2)
    good = tf.reduce_all(
        [
            entries + 12 <= _length(data) - 16,
            number(entries, 2) == _TAG,
            number(entries + 2, 2) == _SHORT,
            values >= 1,
            values <= 8,
        ],
        0,
    )
    first = tf.concat([tf.boolean_mask(values, good), [1]], 0)[0]
    return tf.cast(first, tf.int32)


def _length(data: Tensor) -> Tensor:
    return tf.size(data, out_type=tf.int64)


def _text(image: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """Returns a part of a file, shorter where the file ends."""
    length = tf.cast(tf.strings.length(image), tf.int64)
    begin = tf.clip_by_value(begin, 0, length)
    size = tf.clip_by_value(tf.cast(size, tf.int64), 0, length - begin)
    return tf.strings.substr(image, begin, size)


def _head(image: Tensor, begin: Tensor) -> Tensor:
    """Returns four bytes of a file as numbers."""
    return _numbers(_text(image, begin, 4), 4)[:4]


def _numbers(text: Tensor, num_zeros: int) -> Tensor:
    """Returns bytes as int64 numbers, and some zeros after them."""
    data = tf.cast(tf.io.decode_raw(text, tf.uint8), tf.int64)
    return tf.concat([data, tf.zeros((num_zeros,), tf.int64)], 0)
