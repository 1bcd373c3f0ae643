"""Limits of a video that someone else sends."""

from dataclasses import dataclass
from pathlib import Path

from har_keras.errors import DataError
from har_keras.video.ffmpeg import probe


@dataclass(frozen=True)
class Limits:
    """Limits of an uploaded video.

    Args:
        max_megabytes: float. Maximum file size.
        max_seconds: float. Maximum length.
    """

    max_megabytes: float = 200.0
    max_seconds: float = 600.0

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
