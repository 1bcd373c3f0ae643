"""Parses ffmpeg's log: headers, and reasons why a file can't be decoded."""

import contextlib
import io
import itertools
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast

from har_keras.files import SpecialFileError, open_regular

MAX_PIXELS = 4096 * 4096
"""Largest frame that is decoded; larger ones are refused before allocation."""

_HEAD_LINES = 400
_TAIL_LINES = 200
_LINE_BYTES = 2000


@dataclass(frozen=True)
class VideoInfo:
    """Metadata in the header of a video file.

    Args:
        container: str. Short name of the container, such as `mov` or `avi`.
        codec: str. Such as `h264`.
        pixel_format: str. Such as `yuv420p`.
        width: int. Pixels as coded, before rotation; 0 if unknown.
        height: int. Pixels as coded, before rotation; 0 if unknown.
        fps: float. Mean frames per second; 0 if unknown.
        duration_seconds: float. 0 if unknown.
        rotation: int. Degrees of rotation for display, in {0, 90, 180, 270};
            applied by decoding.
        has_audio: bool. Whether there is an audio track.
        mirrored: bool. Whether it is mirrored left to right before it is
            rotated; applied by decoding.
    """

    container: str = ""
    codec: str = ""
    pixel_format: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    duration_seconds: float = 0.0
    rotation: int = 0
    has_audio: bool = False
    mirrored: bool = False


class Listener(Protocol):
    """What reads a log line by line while it is written."""

    def add(self, line: str) -> bool:
        """Reads a line; returns whether it is of no interest to others."""

    def close(self) -> None:
        """Tells that the log has ended."""


class FFmpegLog:
    """Collects the log that an ffmpeg process writes to its standard error.

    Only the first and the last lines are kept, since a damaged file can cause
    an endless log.

    Args:
        listener: Listener or None. Gets every line as it comes. What it takes
            for itself is not kept: lines for each frame would displace others.
    """

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def drain(self, stream: IO[bytes]) -> None:
        """Reads the stream to its end; to be run in a thread."""
        # The stream has no buffer: a line would take a call for each byte.
        buffered = io.BufferedReader(cast(io.RawIOBase, stream))
        try:
            for line in iter(lambda: buffered.readline(_LINE_BYTES), b""):
                self.add(line.decode("utf-8", "replace").rstrip("\n"))
        except (OSError, ValueError):
            pass  # closed by the reader
        finally:
            with contextlib.suppress(ValueError):
                buffered.detach()
            if self._listener:
                self._listener.close()

    def add(self, line: str) -> None:
        """Adds one line."""
        if self._listener and self._listener.add(line):
            return
        full = len(self._head) >= _HEAD_LINES
        (self._tail if full else self._head).append(line)

    @property
    def lines(self) -> list[str]:
        """The kept lines, oldest first."""
        return [*self._head, *self._tail]

    def search(self, pattern: str) -> re.Match[str] | None:
        """Returns the first match of a pattern in any line."""
        matches = (re.search(pattern, line) for line in self.lines)
        return next((match for match in matches if match), None)


_INPUT = re.compile(r"\[info\] Input #0, (\S+), from ")
# Streams of a group, such as a video and its timecode, are indented further.
_STREAM = re.compile(r"\[info\] +Stream #0:(\d+).*?: (\w+): (\w+)")
_FORMAT = re.compile(r", (\w+)(?:\([^)]*\))?, (\d+)x(\d+)")
_RATE = re.compile(r", ([\d.]+)(k?) fps")
_DURATION = re.compile(r"\[info\]   Duration: (\d+):(\d+):([\d.]+)")
_ROTATION = re.compile(r"[Dd]isplay ?[Mm]atrix: rotation of (-?[\d.]+) degrees")


def video_info(
    lines: Iterable[str], stream: int | None = None
) -> VideoInfo | None:
    """Parses the header of the input from the log.

    Args:
        lines: Iterable of str. The log.
        stream: int or None. Index of the video stream. Defaults to the first.

    Returns:
        A `VideoInfo`, or None if there is no video stream. Cover art is none.
    """
    found: dict[str, Any] = {}
    described = False  # whether the lines are about the stream
    for line in _of_input(lines):
        if match := _INPUT.match(line):
            found["container"] = match[1].split(",")[0]
        elif match := _DURATION.match(line):
            hours, minutes = int(match[1]), int(match[2])
            seconds = hours * 3600 + minutes * 60 + float(match[3])
            found["duration_seconds"] = seconds
        elif match := _STREAM.match(line):
            index, kind = int(match[1]), match[2]
            described = _is_video(line) and (
                "codec" not in found if stream is None else index == stream
            )
            if described:
                found.update(_video_stream(match[3], line))
            elif kind == "Audio":
                found["has_audio"] = True
        elif described and (match := _ROTATION.search(line)):
            found["rotation"] = round(-float(match[1]) / 90) * 90 % 360
    return VideoInfo(**found) if "codec" in found else None


@dataclass(frozen=True)
class VideoStream:
    """A video stream in a file's header, with its index and frame size."""

    index: int
    pixels: int


def video_streams(lines: Iterable[str]) -> list[VideoStream]:
    """Returns the video streams of the input, without cover art."""
    found = []
    for line in _of_input(lines):
        match = _STREAM.match(line)
        if match and _is_video(line):
            size = _FORMAT.search(line)
            pixels = int(size[2]) * int(size[3]) if size else 0
            found.append(VideoStream(int(match[1]), pixels))
    return found


def packets_read(lines: Iterable[str]) -> dict[int, int]:
    """Returns the number of packets by stream, as told at the end."""
    matches = (_PACKETS.search(line) for line in lines)
    return {int(m[1]): int(m[2]) for m in matches if m}


_PACKETS = re.compile(r"Input stream #0:(\d+) .*: (\d+) packets read")


def _of_input(lines: Iterable[str]) -> Iterator[str]:
    """Yields the lines before those about the output."""
    return itertools.takewhile(
        lambda line: not line.startswith("[info] Output #0"), lines
    )


def _is_video(line: str) -> bool:
    match = _STREAM.match(line)
    return bool(match and match[2] == "Video" and "(attached pic)" not in line)


def _video_stream(codec: str, line: str) -> dict[str, str | int | float]:
    found: dict[str, str | int | float] = {"codec": codec}
    if match := _FORMAT.search(line):
        found["pixel_format"] = match[1]
        found["width"], found["height"] = int(match[2]), int(match[3])
    if match := _RATE.search(line):
        found["fps"] = float(match[1]) * (1000 if match[2] else 1)
    return found


_MISSING = "the file is missing"
_UNREADABLE = "it can't be read"
NO_MEMORY = "decoding it takes too much memory"
_DISK_FULL = "the disk is full"

_REASONS = (
    (r"Cannot allocate memory|Resource temporarily unavail", NO_MEMORY),
    (r"matches no streams", "no video stream in it"),
    (
        r"exceeds specified max pixel count",
        f"too large: more than {MAX_PIXELS / 1e6:.1f} million pixels",
    ),
    (r"No such file or directory", _MISSING),
    (r"Permission denied", f"{_UNREADABLE}: permission denied"),
    (r"Format not on whitelist", "not a video container that is read here"),
    (r"detected only with low score", "not a video"),
    (
        r"moov atom not found",
        "its index is missing (no moov atom): writing or copying it was cut "
        "off",
    ),
    (r"[Dd]ecoder.* not found|no decoder", "there is no decoder for its codec"),
    (r"No space left on device", _DISK_FULL),
    (r"Input #0, .*", "damaged from the start"),
    (r"Invalid data found", "not a video"),
)


def reason_from_log(log: FFmpegLog) -> str:
    """Returns why nothing could be decoded."""
    for pattern, reason in _REASONS:
        if log.search(pattern):
            return reason
    complaint = log.search(r"\[(?:error|fatal)\] (.*)")
    told = f": {complaint[1].strip()[:120]}" if complaint else ""
    return f"no frame could be decoded{told}"


def reason_from_content(path: Path) -> str:
    """Returns why a file is not a video by its first bytes, or ""."""
    try:
        with open_regular(path) as file:
            head = file.read(512)
    except SpecialFileError as error:
        return f"refused: {error.strerror}"
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        told = (error.strerror or "no reason").lower()
        return _MISSING if missing else f"{_UNREADABLE}: {told}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        return "empty file"
    if text.startswith((b"#EXTM3U", b"ffconcat", b"v=0", b"<MPD")):
        return "refused: a playlist, which names other files"
    if text.startswith(b"<"):
        return "a web page or other text, not a video"
    if not head.strip(b"\0"):
        return "only zeros, not a video"
    return ""


def is_passing(reason: str) -> bool:
    """Returns whether a reason is the machine's and not the file's.

    Example:

    >>> is_passing("the disk is full"), is_passing("empty file")
    (True, False)
    """
    return reason.startswith((_MISSING, _UNREADABLE, NO_MEMORY, _DISK_FULL))
