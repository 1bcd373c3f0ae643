"""Reads a folder of images, or an array of frames, as a video.

Both are passed through ffmpeg, so that their frames are sampled and resized by
the same code as those of a video file.
"""

import os
import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.files import temporary_prefix
from har_keras.video.commands import FrameOutput, input_command
from har_keras.video.ffmpeg import (
    FrameReader,
    Frames,
    VideoError,
    probe,
    read_frames,
)
from har_keras.video.ffmpeg_log import MAX_PIXELS, VideoInfo
from har_keras.video.header import require_file

IMAGE_EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""Suffixes of image files."""


def images_in(folder: Path) -> list[Path]:
    """Returns the images of a folder in natural order, without hidden ones."""
    found = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in IMAGE_EXTENSIONS
        and not file.name.startswith(".")
    ]
    return sorted(found, key=lambda file: _in_natural_order(file.name))


def _in_natural_order(name: str) -> list[tuple[int, str]]:
    """Returns the key of a natural sort order, in which 2 is before 10.

    Example:

    >>> sorted(["f10", "f2", "f1"], key=_in_natural_order)
    ['f1', 'f2', 'f10']
    """
    parts = re.findall(r"\d+|\D+", name.lower())
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in parts
    ]


def size_of_images(folder: Path) -> tuple[int, int]:
    """Returns width and height of the first image of a folder, in pixels.

    Raises:
        VideoError: If there is none, or it is damaged.
    """
    images = images_in(folder)
    if not images:
        raise VideoError(folder, "there is no image in it")
    # A name with a % is not a pattern for several files.
    whole = ("-f", "image2", "-pattern_type", "none")
    info = probe(images[0], *whole, formats="image2")
    return info.width, info.height


def probe_video(path: Path, images_fps: float) -> VideoInfo:
    """Reads the header of a video file, or that of a folder of images.

    Args:
        path: Path. A video file, or a folder of images.
        images_fps: float. Images per second of the recording.

    Returns:
        A `VideoInfo`; of images, size and length.

    Raises:
        VideoError: If there is no video stream, or no image.
    """
    if not path.is_dir():
        return probe(path)
    width, height = size_of_images(path)
    seconds = len(images_in(path)) / images_fps
    return VideoInfo(width=width, height=height, duration_seconds=seconds)


def read_video(
    path: Path,
    *,
    images_fps: float,
    fps: float,
    short_side: int,
    timeout_seconds: float,
    squeeze: bool = False,
) -> FrameReader:
    """Decodes a video file, or reads a folder of images as one.

    Args:
        path: Path. A video file, or a folder of images.
        images_fps: float. Images per second of the recording.
        fps: float. As for `read_frames`, and so are the others.
        short_side: int.
        timeout_seconds: float.
        squeeze: bool.

    Returns:
        A `FrameReader`.

    Raises:
        VideoError: If it is neither; it is never opened then.
    """
    options: dict[str, Any] = {
        "fps": fps,
        "short_side": short_side,
        "squeeze": squeeze,
        "timeout_seconds": timeout_seconds,
    }
    if path.is_dir():
        return read_images(path, images_fps=images_fps, **options)
    return read_frames(path, **options)


def read_images(
    folder: Path,
    *,
    images_fps: float,
    fps: float,
    short_side: int,
    timeout_seconds: float,
    squeeze: bool = False,
) -> FrameReader:
    """Reads the images of a folder as the frames of a video.

    Args:
        folder: Path. Its images have one suffix, such as `.jpg`.
        images_fps: float. Images per second of the recording.
        fps: float. Frames per second to return.
        short_side: int. Pixels of the shorter side of the frames.
        timeout_seconds: float. Limit on the time spent waiting for ffmpeg.
        squeeze: bool. As for `read_frames`. Defaults to `False`.

    Returns:
        A `FrameReader`.

    Raises:
        VideoError: If there is no image, or several suffixes.
    """
    images = images_in(folder)
    kinds = sorted({file.suffix.lower() for file in images})
    if len(kinds) != 1:
        found = ", ".join(kinds) or "none"
        reason = f"a folder of images must have one suffix; found: {found}"
        raise VideoError(folder, reason)
    for image in images:
        require_file(image)
    # Numbered links: no name is taken for a pattern, and the order is known.
    numbered = tempfile.TemporaryDirectory(prefix=temporary_prefix())
    for number, image in enumerate(images):
        link = Path(numbered.name) / f"{number:09d}{kinds[0]}"
        _link(image.resolve(), link)
    command = input_command(
        Path(numbered.name.replace("%", "%%")) / f"%09d{kinds[0]}",
        timeout_seconds,
        *("-f", "image2", "-framerate", repr(images_fps)),
        formats="image2",
    )
    output = FrameOutput(fps, short_side, squeeze, thinned=False)
    return _reader(folder, command, output, numbered, timeout_seconds)


def _link(file: Path, link: Path) -> None:
    try:
        os.symlink(file, link)
    except OSError:  # as on Windows, for most people
        shutil.copyfile(file, link)


def read_array(
    frames: Frames,
    *,
    frames_fps: float,
    fps: float,
    short_side: int,
    timeout_seconds: float,
    squeeze: bool = False,
) -> FrameReader:
    """Reads an array of frames as a video.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)` in RGB.
        frames_fps: float. Frames per second of the array.
        fps: float. Frames per second to return.
        short_side: int. Pixels of the shorter side of the frames.
        timeout_seconds: float. Limit on the time spent waiting for ffmpeg.
        squeeze: bool. As for `read_frames`. Defaults to `False`.

    Returns:
        A `FrameReader`.

    Raises:
        ValueError: If the array has another shape or dtype, or is too large.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            "Frames must be a uint8 array of shape (T, H, W, 3) in RGB. "
            f"Received: {frames.dtype} {frames.shape}."
        )
    height, width = frames.shape[1:3]
    if not frames.size or height * width > MAX_PIXELS:
        raise ValueError(
            "Frames must be one or more, each of 1 to "
            f"{MAX_PIXELS} pixels. Received: {frames.shape}."
        )
    kept = tempfile.TemporaryDirectory(prefix=temporary_prefix())
    file = Path(kept.name) / "frames"
    # As PPM images, which ffmpeg's log distinguishes from its raw output.
    with file.open("wb") as out:
        for frame in frames:
            out.write(b"P6\n%d %d\n255\n" % (width, height))
            out.write(frame.tobytes())
    command = input_command(
        file,
        timeout_seconds,
        *("-f", "image2pipe", "-c:v", "ppm", "-framerate", repr(frames_fps)),
        formats="image2pipe",
    )
    output = FrameOutput(fps, short_side, squeeze)
    return _reader(Path("frames"), command, output, kept, timeout_seconds)


def _reader(
    path: Path,
    command: list[str],
    output: FrameOutput,
    folder: "tempfile.TemporaryDirectory[str]",
    timeout_seconds: float,
) -> FrameReader:
    """Returns a reader whose temporary folder is removed with it."""
    reader = FrameReader(path, command, output, timeout_seconds=timeout_seconds)
    weakref.finalize(reader, folder.cleanup)
    return reader
