"""Reads what ffmpeg says of a file, without decoding it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from har_keras.errors import DataError
from har_keras.files import SpecialFileError, require_regular
from har_keras.processes import Process
from har_keras.video.commands import CONTAINERS, input_command
from har_keras.video.ffmpeg_log import (
    NO_MEMORY,
    FFmpegLog,
    VideoInfo,
    is_passing,
    packets_read,
    reason_from_content,
    reason_from_log,
    video_info,
    video_streams,
)
from har_keras.video.mov import is_mirrored
from har_keras.video.watchdog import Watchdog

_PROBE_SECONDS = 60.0


class VideoError(DataError):
    """A video that can't be decoded.

    Args:
        path: Path. The file.
        reason: str. Why, without the file's name.
        passing: bool. Whether another attempt may succeed, as after a
            timeout.
    """

    def __init__(self, path: Path, reason: str, passing: bool = False) -> None:
        super().__init__(f"'{path}' can't be used: {reason}.")
        self.reason = reason
        self.passing = passing or is_passing(reason)


def probe(
    path: Path,
    *options: str,
    formats: str = CONTAINERS,
    timeout_seconds: float = _PROBE_SECONDS,
) -> VideoInfo:
    """Reads the header of a video without decoding it.

    Args:
        path: Path. The file.
        *options: str. As for `input_command`.
        formats: str. As for `input_command`.
        timeout_seconds: float. Wall-clock limit. Defaults to `60`.

    Returns:
        A `VideoInfo`. A header may be wrong: only decoding is reliable.

    Raises:
        VideoError: If the file has no video stream.
    """
    command = input_command(path, timeout_seconds, *options, formats=formats)
    log = log_of(path, command, timeout_seconds)
    stream = None
    if len(video_streams(log.lines)) > 1:
        stream = best_stream(path, command, log, timeout_seconds)
    info = described(path, log, stream)
    if info is None:
        log.add("matches no streams" if log.search(r"Input #0") else "")
        reason = reason_from_content(path) or reason_from_log(log)
        raise VideoError(path, reason)
    return info


def described(
    path: Path, log: FFmpegLog, stream: int | None
) -> VideoInfo | None:
    """Returns the header as ffmpeg logs it, and what it does not log.

    Args:
        path: Path. The file.
        log: FFmpegLog. Of its header.
        stream: int or None. Index of the video stream. Defaults to the first.

    Returns:
        A `VideoInfo`, or None if there is no video stream.
    """
    info = video_info(log.lines, stream)
    if info is None or info.container != "mov":
        return info
    track = video_streams(log.lines)[0].index if stream is None else stream
    if not is_mirrored(path, track):
        return info
    # The angle that ffmpeg tells is that of an axis which is turned about.
    rotation = (info.rotation + 180) % 360
    return replace(info, mirrored=True, rotation=rotation)


def log_of(
    path: Path, command: Sequence[str], timeout_seconds: float
) -> FFmpegLog:
    """Runs ffmpeg on a file and returns what it logs."""
    require_file(path)
    log = FFmpegLog()
    process = Process(command)
    watchdog = Watchdog(process, timeout_seconds)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with process.stdout, process.stderr, watchdog.waiting():
            log.drain(process.stderr)
            process.wait()
    finally:
        watchdog.kill()
        process.wait()
        watchdog.stop()
    if watchdog.fired:
        reason = f"timed out after {timeout_seconds:g} s"
        raise VideoError(path, reason, passing=True)
    if watchdog.too_large:
        raise VideoError(path, NO_MEMORY, passing=True)
    return log


def require_file(path: Path) -> None:
    """Raises `VideoError` if a path is no regular file, without opening it."""
    try:
        require_regular(path)
    except SpecialFileError as error:
        raise VideoError(path, f"refused: {error.strerror}") from error


def best_stream(
    path: Path,
    command: Sequence[str],
    header: FFmpegLog,
    timeout_seconds: float,
) -> int:
    """Returns the index of the video stream that players show.

    Of those that are not much shorter than the others, as a thumbnail is, the
    one with the most pixels, as the film and not its preview; else the first.
    """
    copy = ("-map", "0:V", "-c", "copy", "-f", "null", "-")
    log = log_of(path, [*command, *copy], timeout_seconds)
    counts = packets_read(log.lines)
    streams = video_streams(header.lines)
    longest = max((counts.get(x.index, 0) for x in streams), default=0)
    long = [x for x in streams if 10 * counts.get(x.index, 0) >= longest]
    return max(long, key=lambda x: x.pixels).index
