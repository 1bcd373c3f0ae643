"""The one door to video files: ffmpeg, as imageio-ffmpeg bundles it.

Every call treats the file as hostile: it is opened as a file and never as an
address, in one of a few containers, up to a size, for a time, by a process
that is killed when it hangs. Frames are chosen by time and turned upright by
ffmpeg itself, so variable rates, rotation tags and edit lists come out right.
"""

import functools
import math
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from har_keras.errors import DataError, EnvironmentFault
from har_keras.video.ffmpeg_log import (
    MAX_PIXELS,
    FFmpegLog,
    VideoInfo,
    reason_from_content,
    reason_from_log,
    video_info,
)
from har_keras.video.watchdog import Watchdog

Frames = NDArray[np.uint8]
"""Decoded frames, of shape `(T, H, W, 3)` in RGB, or one of `(H, W, 3)`."""

CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,gif,ogg"
"""Demuxers that may open a file. None of them follows a name in the file."""

MAX_ASPECT = 8
"""Longest side over shortest; a thinner picture is refused."""

_PROBE_SECONDS = 60.0


class VideoError(DataError):
    """A video from which no frame can be had.

    Args:
        path: Path. The file.
        reason: str. Why, in plain words without the file's name.
        passing: bool. Whether another try may go better, as after a time-out.
    """

    def __init__(self, path: Path, reason: str, passing: bool = False) -> None:
        super().__init__(f"'{path}' can't be used: {reason}.")
        self.reason = reason
        self.passing = passing


@functools.cache
def ffmpeg_binary() -> str:
    """Returns the path of the ffmpeg program.

    Raises:
        EnvironmentFault: If imageio-ffmpeg brings none for this machine.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise EnvironmentFault(
            "There is no ffmpeg for this machine: imageio-ffmpeg bundles none "
            "for it. Install ffmpeg and set IMAGEIO_FFMPEG_EXE to its path."
        ) from error


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
        A `VideoInfo`. A header may lie: only decoding shows what is there.

    Raises:
        VideoError: If there is no video in the file.
    """
    log = FFmpegLog()
    try:
        done = subprocess.run(
            input_command(path, timeout_seconds, *options, formats=formats),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        reason = f"timed out after {timeout_seconds:g} s"
        raise VideoError(path, reason, passing=True) from error
    for line in done.stderr.decode("utf-8", "replace").splitlines():
        log.add(line)
    info = video_info(log.lines)
    if info is None:
        log.add("matches no streams" if log.search(r"Input #0") else "")
        reason = reason_from_content(path) or reason_from_log(log)
        raise VideoError(path, reason)
    return info


def read_frames(
    path: Path,
    *,
    fps: float,
    short_side: int,
    timeout_seconds: float,
    max_frames: int | None = None,
    start_seconds: float = 0.0,
) -> "FrameReader":
    """Decodes a video at an even rate, one frame at a time.

    Frame `k` is the picture on show `k / fps` seconds after the first one (or
    after `start_seconds`), upright and in its true proportions. Decoding stops
    at the first damage, for nothing after it can be trusted.

    Args:
        path: Path. The file.
        fps: float. Frames per second to return, whatever the file's own.
        short_side: int. Pixels of the shorter side of the frames.
        timeout_seconds: float. Limit on the time spent waiting for ffmpeg;
            what the caller does between frames doesn't count.
        max_frames: int or None. Stop after so many frames.
        start_seconds: float. Skip so much, decoding it: right for any file,
            but not a fast seek. Defaults to `0`.

    Returns:
        A `FrameReader`, an iterator over `uint8` arrays of shape
        `(height, width, 3)` in RGB. Iterating raises `VideoError` if there is
        no frame at all, or if the time is over.
    """
    limit = () if max_frames is None else ("-frames:v", str(max_frames))
    command = [
        *input_command(path, timeout_seconds),
        *frame_arguments(fps, short_side, start_seconds, *limit),
    ]
    return FrameReader(
        Path(path),
        command,
        fps=fps,
        short_side=short_side,
        timeout_seconds=timeout_seconds,
    )


def input_command(
    path: Path,
    timeout_seconds: float,
    *options: str,
    formats: str = CONTAINERS,
) -> list[str]:
    """Returns the part of a command that opens a file, as a hostile one.

    Args:
        path: Path. The file.
        timeout_seconds: float. Limit in processor time.
        *options: str. What else ffmpeg should know of the input.
        formats: str. Demuxers that may open it. Defaults to `CONTAINERS`.

    Returns:
        A list of str, to be followed by `frame_arguments`.
    """
    return [
        ffmpeg_binary(),
        *("-hide_banner", "-nostdin", "-nostats"),
        *("-loglevel", "level+verbose"),
        # A second limit, in processor time, that holds if we are killed.
        *("-timelimit", str(math.ceil(timeout_seconds) + 1)),
        # Stops at the first damaged packet or frame.
        "-xerror",
        *("-protocol_whitelist", "file", "-format_whitelist", formats),
        *("-max_pixels", str(MAX_PIXELS), "-threads", "1"),
        *options,
        # With "file:" before it, no name is an option or an address.
        *("-i", f"file:{os.path.abspath(path)}"),
    ]


def frame_arguments(
    fps: float, short_side: int, start_seconds: float = 0.0, *options: str
) -> list[str]:
    """Returns the part of a command that writes frames to its output.

    The same for files, pictures and cameras, so that pixels agree.
    """
    return [
        *("-map", "0:V:0", "-an", "-sn", "-dn"),
        *("-vf", _filters(fps, short_side, start_seconds)),
        *("-filter_threads", "1", "-fps_mode", "passthrough"),
        *options,
        *("-f", "rawvideo", "-c:v", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"),
    ]


def _filters(fps: float, short_side: int, start_seconds: float) -> str:
    """Returns the filter graph: even times, then true proportions.

    `round=up` gives tick `k` the last picture that starts at or before it.
    `dar` is the display aspect ratio, in which pixels need not be square.
    """
    side, longest = short_side, MAX_ASPECT * short_side
    skip = round(start_seconds * fps)
    return ",".join(
        [
            "vfrdet",
            "setpts=PTS-STARTPTS",
            f"fps={fps!r}:round=up",
            *([f"trim=start_frame={skip}"] if skip else []),
            f"scale=w='if(lte(dar,1),{side},min(round({side}*dar),{longest}))'"
            f":h='if(lte(dar,1),min(round({side}/dar),{longest}),{side})'"
            ":flags=bicubic",
        ]
    )


class FrameReader(Iterator[np.ndarray]):
    """Frames of one video as ffmpeg decodes them. Made by `read_frames`.

    After the last frame, `damage` says whether the file went on: "" or words
    such as "truncated at 3.2 s". Use it as a context manager, or call `close`,
    when not all frames are wanted.
    """

    def __init__(
        self,
        path: Path,
        command: list[str],
        *,
        fps: float,
        short_side: int,
        timeout_seconds: float,
    ) -> None:
        self.path = path
        self.num_frames = 0
        self.damage = ""
        self._fps = fps
        self._short_side = short_side
        self._log = FFmpegLog()
        self._process = _start(command)
        self._watchdog = Watchdog(self._process, timeout_seconds)
        assert self._process.stderr is not None
        self._drain = threading.Thread(
            target=self._log.drain, args=[self._process.stderr], daemon=True
        )
        self._drain.start()

    def __iter__(self) -> "FrameReader":
        return self

    def __next__(self) -> np.ndarray:
        with self._watchdog.waiting():
            frame = self._read()
        if frame is None:
            self._end()
            raise StopIteration
        self.num_frames += 1
        return frame

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_drain"):
            self.close()

    @property
    def info(self) -> VideoInfo:
        """What the header declares; complete once a frame was read."""
        return video_info(self._log.lines) or VideoInfo()

    @property
    def variable_rate(self) -> bool:
        """Whether the source's frames are unevenly spaced; after the end."""
        found = self._log.search(r"VFR:0\.\d*[1-9]")
        return found is not None

    @property
    def source_frames(self) -> int:
        """Source frames that were decoded; known after the end."""
        found = self._log.search(r"\(video\): .*; (\d+) frames decoded")
        return int(found[1]) if found else 0

    def close(self) -> None:
        """Ends ffmpeg and its threads, if they still run."""
        self._watchdog.kill()
        self._process.wait()
        self._watchdog.stop()
        self._drain.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def running(self) -> bool:
        """Whether ffmpeg still runs."""
        return self._process.poll() is None

    @property
    def complaint(self) -> str:
        """What ffmpeg says against the source, in plain words."""
        return reason_from_log(self._log)

    def stop(self) -> None:
        """Ends ffmpeg, from any thread; then there are no more frames."""
        self._watchdog.kill()

    def _read(self) -> np.ndarray | None:
        """Returns the next whole frame, or None at the end."""
        self._log.output_known.wait()
        if self._log.output_size is None or self._process.stdout is None:
            return None
        width, height = self._log.output_size
        if max(width, height) >= MAX_ASPECT * self._short_side:
            return None
        frame = np.empty((height, width, 3), np.uint8)
        rest = frame.data.cast("B")
        while rest:
            count = (
                0
                if self._process.stdout.closed
                else self._process.stdout.readinto(rest)  # type: ignore[attr-defined]
            )
            if not count:
                return None
            rest = rest[count:]
        return frame

    def _end(self) -> None:
        """Finds out why there are no more frames."""
        if self._process.stdout is None or self._process.stdout.closed:
            return
        size = self._log.output_size
        thin = size and max(size) >= MAX_ASPECT * self._short_side
        if thin:
            self._watchdog.kill()
        with self._watchdog.waiting():
            status = self._process.wait()
        self.close()
        if thin:
            reason = f"one side is over {MAX_ASPECT} times the other"
            raise VideoError(self.path, reason)
        self._raise_if_killed(status)
        if not self.num_frames:
            reason = reason_from_content(self.path)
            raise VideoError(self.path, reason or reason_from_log(self._log))
        if status or self._log.search("File ended prematurely"):
            self.damage = f"{self._kind_of_damage()} at {self._seconds:.1f} s"

    def _raise_if_killed(self, status: int) -> None:
        limit = self._watchdog.timeout_seconds
        if self._watchdog.fired or status == -getattr(signal, "SIGXCPU", 24):
            reason = f"timed out after {limit:g} s"
            raise VideoError(self.path, reason, passing=True)
        if status < 0:
            reason = f"ffmpeg was ended by signal {-status}"
            raise VideoError(self.path, reason, passing=True)

    def _kind_of_damage(self) -> str:
        """Returns "truncated" if the file ended within a packet."""
        in_stream = self.info.container in ("mpegts", "mpeg")
        cut = self._log.search("corrupt input packet|ended prematurely")
        return "truncated" if cut and not in_stream else "damaged"

    @property
    def _seconds(self) -> float:
        return self.num_frames / self._fps


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # Ctrl-C goes to us alone, and we end ffmpeg and what it started.
            start_new_session=True,
        )
    except OSError as error:
        raise EnvironmentFault(
            f"ffmpeg could not be started from '{command[0]}': "
            f"{error.strerror}. Install imageio-ffmpeg again, or set "
            "IMAGEIO_FFMPEG_EXE to an ffmpeg."
        ) from error
