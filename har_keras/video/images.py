"""Pictures in a folder, and frames in memory, through the door of video files.

Both are handed to ffmpeg, so that their frames are chosen and resized by the
same code as those of a video.
"""

import os
import re
import tempfile
import weakref
from pathlib import Path

import numpy as np

from har_keras.video.ffmpeg import (
    FrameReader,
    Frames,
    VideoError,
    frame_arguments,
    input_command,
    probe,
)
from har_keras.video.ffmpeg_log import MAX_PIXELS

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""Names of files that are taken for pictures end in one of these."""


def pictures_in(folder: Path) -> list[Path]:
    """Returns the pictures of a folder, 2 before 10, hidden ones left out."""
    found = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in PICTURES and not file.name.startswith(".")
    ]
    return sorted(found, key=lambda file: _in_natural_order(file.name))


def _in_natural_order(name: str) -> list[tuple[int, str]]:
    """Returns a key by which names sort as people count.

    Example:

    >>> sorted(["f10", "f2", "f1"], key=_in_natural_order)
    ['f1', 'f2', 'f10']
    """
    parts = re.findall(r"\d+|\D+", name.lower())
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in parts
    ]


def size_of_pictures(folder: Path) -> tuple[int, int]:
    """Returns width and height of the first picture of a folder, in pixels.

    Raises:
        VideoError: If there is none, or it is damaged.
    """
    pictures = pictures_in(folder)
    if not pictures:
        raise VideoError(folder, "there is no picture in it")
    # A name with a % is a name, and not a pattern of many.
    whole = ("-f", "image2", "-pattern_type", "none")
    info = probe(pictures[0], *whole, formats="image2")
    return info.width, info.height


def read_pictures(
    folder: Path,
    *,
    pictures_fps: float,
    fps: float,
    short_side: int,
    timeout_seconds: float,
) -> FrameReader:
    """Reads the pictures of a folder as the frames of a video.

    Args:
        folder: Path. Its pictures are all of one kind, such as `.jpg`.
        pictures_fps: float. Pictures per second that they were taken at.
        fps: float. Frames per second to return.
        short_side: int. Pixels of the shorter side of the frames.
        timeout_seconds: float. Limit on the time spent waiting for ffmpeg.

    Returns:
        A `FrameReader`.

    Raises:
        VideoError: If there is no picture, or there are several kinds.
    """
    pictures = pictures_in(folder)
    kinds = sorted({file.suffix.lower() for file in pictures})
    if len(kinds) != 1:
        kinds_found = ", ".join(kinds) or "none"
        reason = f"a folder of pictures has one kind; found: {kinds_found}"
        raise VideoError(folder, reason)
    # Links with plain numbers: no name is taken for a pattern, and the order
    # is ours.
    numbered = tempfile.TemporaryDirectory(prefix="har_keras-")
    for number, picture in enumerate(pictures):
        link = Path(numbered.name) / f"{number:09d}{kinds[0]}"
        os.symlink(picture.resolve(), link)
    command = input_command(
        Path(numbered.name) / f"%09d{kinds[0]}",
        timeout_seconds,
        *("-f", "image2", "-framerate", repr(pictures_fps)),
        formats="image2",
    )
    return _reader(folder, command, numbered, fps, short_side, timeout_seconds)


def read_array(
    frames: Frames,
    *,
    frames_fps: float,
    fps: float,
    short_side: int,
    timeout_seconds: float,
) -> FrameReader:
    """Reads frames in memory as those of a video.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)` in RGB.
        frames_fps: float. Frames per second that they were taken at.
        fps: float. Frames per second to return.
        short_side: int. Pixels of the shorter side of the frames.
        timeout_seconds: float. Limit on the time spent waiting for ffmpeg.

    Returns:
        A `FrameReader`.

    Raises:
        ValueError: If the array is none of frames, or too large.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            "Frames must be a uint8 array of shape (T, H, W, 3) in RGB. "
            f"Received: {frames.dtype} {frames.shape}."
        )
    height, width = frames.shape[1:3]
    if not frames.size or height * width > MAX_PIXELS:
        raise ValueError(
            "Frames must be at least one, of a size above 0 and up to "
            f"{MAX_PIXELS} pixels. Received: {frames.shape}."
        )
    kept = tempfile.TemporaryDirectory(prefix="har_keras-")
    file = Path(kept.name) / "frames"
    # As pictures: ffmpeg's log tells them from the raw frames it writes.
    with file.open("wb") as pictures:
        for frame in frames:
            pictures.write(b"P6\n%d %d\n255\n" % (width, height))
            pictures.write(frame.tobytes())
    command = input_command(
        file,
        timeout_seconds,
        *("-f", "image2pipe", "-c:v", "ppm", "-framerate", repr(frames_fps)),
        formats="image2pipe",
    )
    path = Path("frames")
    return _reader(path, command, kept, fps, short_side, timeout_seconds)


def _reader(
    path: Path,
    command: list[str],
    folder: "tempfile.TemporaryDirectory[str]",
    fps: float,
    short_side: int,
    timeout_seconds: float,
) -> FrameReader:
    """Returns a reader that takes a temporary folder along when it goes."""
    reader = FrameReader(
        path,
        [*command, *frame_arguments(fps, short_side)],
        fps=fps,
        short_side=short_side,
        timeout_seconds=timeout_seconds,
    )
    weakref.finalize(reader, folder.cleanup)
    return reader
