"""Parses ffmpeg's log: headers, and reasons why a file can't be decoded."""

import re
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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


class FFmpegLog:
    """Collects the log that an ffmpeg process writes to its standard error.

    Only the first and the last lines are kept, since a damaged file can cause
    an endless log. `output_known` is set once the size of the frames is known,
    or the log has ended without it.
    """

    def __init__(self) -> None:
        self.output_known = threading.Event()
        self.output_size: tuple[int, int] | None = None
        self._head: list[str] = []
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def drain(self, stream: IO[bytes]) -> None:
        """Reads the stream to its end; to be run in a thread."""
        try:
            for line in iter(lambda: stream.readline(_LINE_BYTES), b""):
                self.add(line.decode("utf-8", "replace").rstrip("\n"))
        except (OSError, ValueError):
            pass  # closed by the reader
        finally:
            self.output_known.set()

    def add(self, line: str) -> None:
        """Adds one line."""
        full = len(self._head) >= _HEAD_LINES
        (self._tail if full else self._head).append(line)
        size = _OUTPUT_SIZE.match(line)
        if size and not self.output_known.is_set():
            self.output_size = int(size[1]), int(size[2])
            self.output_known.set()

    @property
    def lines(self) -> list[str]:
        """The kept lines, oldest first."""
        return [*self._head, *self._tail]

    def search(self, pattern: str) -> re.Match[str] | None:
        """Returns the first match of a pattern in any line."""
        matches = (re.search(pattern, line) for line in self.lines)
        return next((match for match in matches if match), None)


_OUTPUT_SIZE = re.compile(
    r"\[info\]   Stream #0:0.*?: Video: rawvideo.*?, (\d+)x(\d+)[ ,]"
)
_INPUT = re.compile(r"\[info\] Input #0, (\S+), from ")
_VIDEO = re.compile(r"\[info\]   Stream #0:\d+.*?: Video: (\w+)")
_FORMAT = re.compile(r", (\w+)(?:\([^)]*\))?, (\d+)x(\d+)")
_RATE = re.compile(r", ([\d.]+)(k?) fps")
_AUDIO = re.compile(r"\[info\]   Stream #0:\d+.*?: Audio: ")
_DURATION = re.compile(r"\[info\]   Duration: (\d+):(\d+):([\d.]+)")
_ROTATION = re.compile(r"[Dd]isplay ?[Mm]atrix: rotation of (-?[\d.]+) degrees")


def video_info(lines: Iterable[str]) -> VideoInfo | None:
    """Parses the header of the input from the log.

    Returns:
        A `VideoInfo` of the first video stream, or None if there is none.
        Cover art is not a video stream.
    """
    found: dict[str, Any] = {}
    for line in lines:
        if line.startswith("[info] Output #0"):
            break
        if match := _INPUT.match(line):
            found["container"] = match[1].split(",")[0]
        elif match := _DURATION.match(line):
            hours, minutes = int(match[1]), int(match[2])
            seconds = hours * 3600 + minutes * 60 + float(match[3])
            found["duration_seconds"] = seconds
        elif _AUDIO.match(line):
            found["has_audio"] = True
        elif "codec" not in found and "(attached pic)" not in line:
            found.update(_video_stream(line))
        elif "rotation" not in found and (match := _ROTATION.search(line)):
            found["rotation"] = round(-float(match[1]) / 90) * 90 % 360
    return VideoInfo(**found) if "codec" in found else None


def _video_stream(line: str) -> dict[str, str | int | float]:
    stream = _VIDEO.match(line)
    if not stream:
        return {}
    found: dict[str, str | int | float] = {"codec": stream[1]}
    if match := _FORMAT.search(line):
        found["pixel_format"] = match[1]
        found["width"], found["height"] = int(match[2]), int(match[3])
    if match := _RATE.search(line):
        found["fps"] = float(match[1]) * (1000 if match[2] else 1)
    return found


_REASONS = (
    (r"matches no streams", "no video stream in it"),
    (
        r"exceeds specified max pixel count",
        f"too large: more than {MAX_PIXELS / 1e6:.1f} million pixels",
    ),
    (r"No such file or directory", "the file is missing"),
    (r"Permission denied", "no permission to read it"),
    (r"Format not on whitelist", "not a video container that is read here"),
    (r"detected only with low score", "not a video"),
    (
        r"moov atom not found",
        "its index is missing (no moov atom): writing or copying it was cut "
        "off",
    ),
    (r"[Dd]ecoder.* not found|no decoder", "there is no decoder for its codec"),
    (r"No space left on device", "the disk is full"),
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
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return "the file is missing" if missing else f"{error.strerror}"
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
