"""Preprocessing of clips, frames and GIFs in NumPy, without a graph.

It does what `preprocessing` does in the graph of a SavedModel; a test compares
the two. Limits and sentences are the same.
"""

import functools
import io
import itertools
import math
import struct
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.config import ClipConfig
from har_keras.errors import DataError

Frames = NDArray[np.uint8]

# Limits of one request: an oversized one gets a sentence instead of exhausting
# the memory of the server.
MAX_FRAMES = 1024
MAX_PIXELS = 4096 * 4096
# All frames of a GIF are decoded before sampling: 192 MiB at most.
MAX_GIF_PIXELS = 2**26
MAX_GIF_BYTES = 2**24

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
GIF_START = b"GIF8"

NO_FRAMES = "A clip must have at least one frame."
TOO_MANY_FRAMES = f"A clip may have at most {MAX_FRAMES} frames."
NO_PIXELS = "A frame must be at least one pixel wide and high."
TOO_MANY_PIXELS = f"A frame may have at most {MAX_PIXELS} pixels."
NO_IMAGE = "Each of frames_bytes must be a JPEG or PNG image."
NO_GIF = "Each of gif_bytes must be a GIF image."
TOO_LARGE_GIF = f"A GIF may have at most {MAX_GIF_BYTES} bytes."
TOO_MANY_GIF_PIXELS = (
    f"A GIF may have at most {MAX_GIF_PIXELS} pixels in all frames."
)
_DAMAGED = "One of the images is damaged."


def clip_from_frames(frames: Frames, clip: ClipConfig) -> Frames:
    """Converts frames of any number and size to model input.

    Args:
        frames: uint8 array of shape `(frames, height, width, 3)`, RGB.
        clip: ClipConfig. Clip geometry of the model.

    Returns:
        uint8 array of shape `(T, crop_size, crop_size, 3)`.

    Raises:
        DataError: If there are too few or too many frames or pixels.
    """
    _require_number(len(frames))
    _require_size(*frames.shape[1:3])
    chosen = frames[spread_frames(len(frames), clip.num_frames)]
    return np.stack([fit_frame(frame, clip) for frame in chosen])


def clip_from_images(images: Sequence[bytes], clip: ClipConfig) -> Frames:
    """Decodes JPEG or PNG frames and converts them to model input.

    Only the frames of the clip are decoded; their sizes may differ. They are
    turned as their EXIF orientation says.

    Args:
        images: Sequence of bytes. The encoded frames.
        clip: ClipConfig. Clip geometry of the model.

    Returns:
        uint8 array of shape `(T, crop_size, crop_size, 3)`.

    Raises:
        DataError: If one is no image, or exceeds a limit.
    """
    _require_number(len(images))
    size = clip.crop_size
    found = np.empty((clip.num_frames, size, size, 3), np.uint8)
    last = -1
    for row, index in zip(
        range(clip.num_frames),
        spread_frames(len(images), clip.num_frames).tolist(),
        strict=True,
    ):
        if index == last:  # a short clip holds its last frame
            found[row] = found[row - 1]
        else:
            found[row] = fit_frame(decode_image(images[index]), clip)
        last = index
    return found


def clip_from_gif(gif: bytes, clip: ClipConfig) -> Frames:
    """Decodes an animated GIF and converts it to model input.

    Frame durations are ignored.

    Args:
        gif: bytes. The file.
        clip: ClipConfig. Clip geometry of the model.

    Returns:
        uint8 array of shape `(T, crop_size, crop_size, 3)`.

    Raises:
        DataError: If it is no GIF, or exceeds a limit.
    """
    from PIL import Image, ImageSequence

    _require(gif[:4] == GIF_START, NO_GIF)
    _require(len(gif) <= MAX_GIF_BYTES, TOO_LARGE_GIF)
    # The screen of a GIF is in its header; Pillow allocates it on opening.
    width, height = struct.unpack("<HH", gif[6:10].ljust(4, b"\0"))
    _require_size(height, width)
    try:
        image = Image.open(io.BytesIO(gif), formats=["GIF"])
        num_frames = getattr(image, "n_frames", 1)
        _require_number(num_frames)
        width, height = image.size
        _require(
            num_frames * width * height <= MAX_GIF_PIXELS, TOO_MANY_GIF_PIXELS
        )
        frames = [
            np.asarray(frame.convert("RGB"))
            for frame in ImageSequence.Iterator(image)
        ]
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise DataError(NO_GIF) from error
    return clip_from_frames(np.stack(frames), clip)


def spread_frames(num_given: int, num_frames: int) -> NDArray[np.int64]:
    """Returns the indices of the sent frames that form the clip.

    More frames than the clip's are subsampled evenly, first and last included;
    of fewer frames the last is repeated.

    Args:
        num_given: int. Number of sent frames, at least 1.
        num_frames: int. Frames in the clip, T.

    Returns:
        int64 array of shape `(num_frames,)`, never decreasing.

    Example:

    >>> spread_frames(9, 5).tolist(), spread_frames(3, 5).tolist()
    ([0, 2, 4, 6, 8], [0, 1, 2, 2, 2])
    """
    steps = np.arange(num_frames, dtype=np.int64)
    if num_frames == 1:
        return steps + (num_given - 1) // 2
    if num_given >= num_frames:
        return steps * (num_given - 1) // (num_frames - 1)
    return np.minimum(steps, num_given - 1)


def decode_image(image: bytes) -> Frames:
    """Decodes a JPEG or PNG, upright.

    Args:
        image: bytes. The file.

    Returns:
        uint8 array of shape `(H, W, 3)`, RGB.

    Raises:
        DataError: If it is neither, is damaged, or has too many pixels.
    """
    if image[:8] == PNG_START:
        width, height = struct.unpack(">II", image[16:24].ljust(8, b"\0"))
    else:
        _require(image[:3] == JPEG_START, NO_IMAGE)
        height, width = _jpeg_size(image)
        # The end of a truncated JPEG would be gray.
        _require(image.rfind(b"\xff\xd9") > image.rfind(b"\xff\xda"), _DAMAGED)
    _require_size(height, width)
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise DataError(_DAMAGED)
    return np.asarray(pixels, np.uint8)


_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def _jpeg_size(image: bytes) -> tuple[int, int]:
    """Returns height and width of a JPEG, from its header."""
    place = 2
    while place + 9 <= len(image) and image[place] == 0xFF:
        marker = image[place + 1]
        if marker == 0xFF:  # padding
            place += 1
        elif marker in _BARE:
            place += 2
        elif marker in _SIZES:
            height, width = struct.unpack(">HH", image[place + 5 : place + 9])
            return height, width
        else:
            place += 2 + int.from_bytes(image[place + 2 : place + 4], "big")
    raise DataError(_DAMAGED)


def fit_frame(frame: Frames, clip: ClipConfig) -> Frames:
    """Resizes and crops a frame as for a center view.

    The short side is resized to `clip.short_side`, then the center is cropped;
    with `clip.squeeze`, both sides are resized. A frame of the clip's size was
    cropped by the client and passes unchanged.

    Args:
        frame: uint8 array of shape `(height, width, 3)`.
        clip: ClipConfig. Clip geometry of the model.

    Returns:
        uint8 array of shape `(crop_size, crop_size, 3)`.
    """
    size, short_side = clip.crop_size, clip.short_side
    height, width = frame.shape[:2]
    if height == width == size:
        return frame
    shorter = min(height, width)
    # Integer arithmetic, rounding half up; the short side is exact.
    shown = (shorter, shorter) if clip.squeeze else (height, width)
    down, across = (
        _taps(own, (2 * long * short_side + shorter) // (2 * shorter), size)
        for own, long in zip((height, width), shown, strict=True)
    )
    # Rows first: of a large frame only those that are read become floats.
    rows = _resampled(frame, *down)
    columns = _resampled(rows.transpose(1, 0, 2), *across)
    pixels = np.clip(np.rint(columns), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(1, 0, 2))


def _resampled(
    lines: NDArray[np.generic],
    indices: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Returns weighted sums of lines along the first axis."""
    found = lines[indices[0]] * weights[0][:, None, None]
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        found += lines[index] * weight[:, None, None]
    return found


@functools.lru_cache(64)
def _taps(
    size: int, new_size: int, crop_size: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns what each line of a resized and cropped side is made of.

    Bilinear with antialiasing, that is a triangle as wide as the scale.

    Returns:
        Indices of lines and their weights, of shape `(taps, crop_size)`.
    """
    scale = size / new_size
    reach = max(scale, 1.0)
    crop = (new_size - crop_size) // 2 + np.arange(crop_size)
    middles = (crop + 0.5) * scale
    first = np.floor(middles - reach + 0.5).astype(np.int64)
    indices = first + np.arange(int(2 * reach) + 2)[:, None]
    weights = 1 - np.abs(indices + 0.5 - middles) / reach
    outside = (indices < 0) | (indices >= size)
    weights = np.where(outside, 0, np.maximum(weights, 0))
    weights /= weights.sum(0)
    used = weights.any(1)
    return (
        np.clip(indices[used], 0, size - 1),
        weights[used].astype(np.float32),
    )


def _require_number(num_frames: int) -> None:
    _require(num_frames >= 1, NO_FRAMES)
    _require(num_frames <= MAX_FRAMES, TOO_MANY_FRAMES)


def _require_size(height: int, width: int) -> None:
    _require(min(height, width) >= 1, NO_PIXELS)
    _require(height * width <= MAX_PIXELS, TOO_MANY_PIXELS)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise DataError(sentence)


# How the input of each signature becomes a clip.
CLIP_FROM: dict[str, Callable[..., Frames]] = {
    "clips": clip_from_frames,
    "frames_bytes": clip_from_images,
    "gif_bytes": clip_from_gif,
}


_DIGITS, _SPACES = b"0123456789", b" \t\n\r"
_MOST_LEVELS = 8  # or looking for their ends takes long
# An empty slot, of which there is none between numbers.
_GAPS = (b"[,", b",,", b",]", b"[]")


def pixels_from_json(text: bytes) -> NDArray[np.uint8] | None:
    """Reads nested JSON lists of equal lengths as an array of uint8.

    A parser of JSON makes an object of each of a million numbers, and a list
    of each pixel; this takes a fifth of the time.

    Args:
        text: bytes. Lists of integers, with nothing before and after them.

    Returns:
        The array; None if the text is anything else, such as lists of unequal
        lengths or of numbers above 255.

    Example:

    >>> pixels_from_json(b"[[0, 5], [255, 7]]").tolist()
    [[0, 5], [255, 7]]
    >>> pixels_from_json(b"[[0, 5], [256]]")
    """
    whole = text.translate(None, _SPACES)
    shape = _shape_of(whole)
    number = math.prod(shape)
    if not number or whole.translate(None, _DIGITS) != _skeleton(shape):
        return None
    digits = np.frombuffer(whole, np.uint8) - np.uint8(ord("0")) < 10
    starts = digits[1:] & ~digits[:-1]
    zeros = np.frombuffer(whole, np.uint8)[1:-1] == ord("0")
    if (
        starts.sum() != number
        or any(gap in whole for gap in _GAPS)
        or (starts[:-1] & zeros & digits[2:]).any()  # 01
        or (len(whole) != len(text) and _num_runs(text) != number)  # 1 2
    ):
        return None
    values = np.fromstring(
        whole.translate(None, b"[]"), np.int64, count=number, sep=","
    )
    if values.max() > 255:
        return None
    return values.astype(np.uint8).reshape(shape)


def _shape_of(whole: bytes) -> tuple[int, ...]:
    """Returns the lengths of the first list of each level."""
    depth = len(whole) - len(whole.lstrip(b"["))
    if depth > _MOST_LEVELS:
        return (0,)
    counts = [1]
    for level in range(1, depth + 1):
        end = whole.find(b"]" * level)
        if end < 0:
            return (0,)
        counts.append(whole.count(b",", 0, end) + 1)
    sizes = [b // a for a, b in itertools.pairwise(counts)]
    return tuple(reversed(sizes)) or (0,)


@functools.lru_cache(8)
def _skeleton(shape: tuple[int, ...]) -> bytes:
    """Returns lists of a shape without their numbers."""
    found = b""
    for size in reversed(shape):
        found = b"[" + b",".join([found] * size) + b"]"
    return found


def _num_runs(text: bytes) -> int:
    digits = np.frombuffer(text, np.uint8) - np.uint8(ord("0")) < 10
    return int((digits[1:] & ~digits[:-1]).sum())
