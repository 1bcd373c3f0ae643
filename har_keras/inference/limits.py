"""Limits of a video that someone else sends."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.errors import DataError
from har_keras.video.ffmpeg import FrameReader, probe

Watch = Callable[[float], None]


@dataclass(frozen=True)
class Limits:
    """Limits of an uploaded video.

    Args:
        max_megabytes: float. Maximum file size.
        max_seconds: float. Maximum length.
    """

    max_megabytes: float = 200.0
    max_seconds: float = 600.0

    @property
    def max_bytes(self) -> int:
        return round(self.max_megabytes * 1e6)

    def require_seconds(self, seconds: float) -> None:
        """Raises `BeyondLimits` once a video turns out to be longer.

        The header of a file may be wrong about its length.
        """
        if seconds > self.max_seconds:
            raise BeyondLimits(
                f"A video may have {self}. Received: a longer one."
            )

    def __str__(self) -> str:
        return (
            f"up to {self.max_megabytes:g} MB and {self.max_seconds:g} seconds"
        )


class BeyondLimits(DataError):
    """A video exceeds the limits."""


def require_within(limits: Limits, video: Path) -> None:
    """Raises an error if a video exceeds the limits or can't be probed.

    Files without a declared length, such as browser recordings, pass: decoding
    has a time limit.

    Args:
        limits: Limits. What is allowed.
        video: Path. The file.

    Raises:
        BeyondLimits: If it is too large or too long.
        DataError: If it can't be probed.
    """
    megabytes = video.stat().st_size / 1e6
    seconds = probe(video).duration_seconds or 0.0
    if megabytes > limits.max_megabytes or seconds > limits.max_seconds:
        raise BeyondLimits(
            f"A video may have {limits}. Received: {megabytes:.0f} MB and "
            f"{seconds:.0f} seconds."
        )


class _WatchedReader(Iterator[np.ndarray]):
    """A `FrameReader` that tells how many seconds were read."""

    def __init__(self, reader: FrameReader, fps: float, watch: Watch) -> None:
        self._reader = reader
        self._fps = fps
        self._watch = watch

    def __next__(self) -> np.ndarray:
        frame = next(self._reader)
        try:
            self._watch(self._reader.num_frames / self._fps)
        except BaseException:
            self._reader.close()
            raise
        return frame

    def __enter__(self) -> "_WatchedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def watched(reader: FrameReader, fps: float, watch: Watch | None) -> Any:
    """Returns a reader that calls a function after each of its frames.

    Args:
        reader: FrameReader. Where frames come from.
        fps: float. Frames per second that it reads.
        watch: Callable or None. Called with the seconds of video so far; what
            it raises ends the reading.
    """
    return _WatchedReader(reader, fps, watch) if watch else reader
