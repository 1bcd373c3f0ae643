"""Decodes video files with the ffmpeg binary of imageio-ffmpeg.

All video files are opened here, and every file is treated as untrusted: it is
opened as a file and never as an address, in one of a few containers, with
limits on pixels and time, by a process that is killed when it hangs. ffmpeg
itself samples frames by time and applies rotation, so variable frame rates,
rotation tags and edit lists are handled correctly.
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
"""Demuxers that may open a file. None follows references to other files."""

MAX_ASPECT = 8
"""Largest aspect ratio (longest side over shortest) that is decoded."""

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
        self.passing = passing


@functools.cache
def ffmpeg_binary() -> str:
    """Returns the path of the ffmpeg binary.

    Raises:
        EnvironmentFault: If imageio-ffmpeg has none for this machine.
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
        A `VideoInfo`. A header may be wrong: only decoding is reliable.

    Raises:
        VideoError: If the file has no video stream.
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
    squeeze: bool = False,
) -> "FrameReader":
    """Decodes a video at a constant frame rate, one frame at a time.

    Frame `k` is the one displayed `k / fps` seconds after the first (or after
    `start_seconds`), upright and with square pixels. Decoding stops at the
    first damaged packet, since nothing after it can be trusted.

    Args:
        path: Path. The file.
        fps: float. Frames per second to return, whatever the file's rate.
        short_side: int. Pixels of the shorter side of the frames.
        timeout_seconds: float. Limit on the time spent waiting for ffmpeg;
            time spent by the caller between frames is not counted.
        max_frames: int or None. Stop after this many frames.
        start_seconds: float. Where to start. What is before it is decoded and
            dropped: exact for any file, but not a fast seek. Defaults to `0`.
        squeeze: bool. Whether frames are squares of `short_side`, whatever
            the shape of the video. Defaults to `False`.

    Returns:
        A `FrameReader`, an iterator over `uint8` arrays of shape
        `(height, width, 3)` in RGB. Iterating raises `VideoError` if no
        frame can be decoded or the time limit is exceeded.
    """
    limit = () if max_frames is None else ("-frames:v", str(max_frames))
    command = [
        *input_command(path, timeout_seconds),
        *frame_arguments(
            fps, short_side, start_seconds, *limit, squeeze=squeeze
        ),
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
    """Returns the part of a command that opens an untrusted file.

    Args:
        path: Path. The file.
        timeout_seconds: float. Limit in CPU time.
        *options: str. Further input options of ffmpeg.
        formats: str. Demuxers that may open it. Defaults to `CONTAINERS`.

    Returns:
        A list of str, to be followed by `frame_arguments`.
    """
    return [
        ffmpeg_binary(),
        *("-hide_banner", "-nostdin", "-nostats"),
        *("-loglevel", "level+verbose"),
        # A second limit, in CPU time, that holds if this process is killed.
        *("-timelimit", str(math.ceil(timeout_seconds) + 1)),
        # Stops at the first damaged packet or frame.
        "-xerror",
        *("-protocol_whitelist", "file", "-format_whitelist", formats),
        *("-max_pixels", str(MAX_PIXELS), "-threads", "1"),
        *options,
        # The prefix "file:" keeps a name from being an option or an address.
        *("-i", f"file:{os.path.abspath(path)}"),
    ]


def frame_arguments(
    fps: float,
    short_side: int,
    start_seconds: float = 0.0,
    *options: str,
    squeeze: bool = False,
) -> list[str]:
    """Returns the part of a command that writes frames to its output.

    The same for files, images and cameras, so that pixels agree.
    """
    return [
        *("-map", "0:V:0", "-an", "-sn", "-dn"),
        *("-vf", _filters(fps, short_side, start_seconds, squeeze)),
        *("-filter_threads", "1", "-fps_mode", "passthrough"),
        *options,
        *("-f", "rawvideo", "-c:v", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"),
    ]


def _filters(
    fps: float, short_side: int, start_seconds: float, squeeze: bool
) -> str:
    """Returns the filter graph: resampling in time, then scaling.

    `round=up` gives output frame `k` the last input frame that starts at or
    before it. `dar` is the display aspect ratio; pixels need not be square.
    """
    side, longest = short_side, MAX_ASPECT * short_side
    skip = round(start_seconds * fps)
    size = (
        f"w={side}:h={side}"
        if squeeze
        else f"w='if(lte(dar,1),{side},min(round({side}*dar),{longest}))'"
        f":h='if(lte(dar,1),min(round({side}/dar),{longest}),{side})'"
    )
    return ",".join(
        [
            "vfrdet",
            "setpts=PTS-STARTPTS",
            f"fps={fps!r}:round=up",
            *([f"trim=start_frame={skip}"] if skip else []),
            f"scale={size}:flags=bicubic",
        ]
    )


class FrameReader(Iterator[np.ndarray]):
    """An iterator over the frames that ffmpeg decodes; see `read_frames`.

    After the last frame, `damage` is "" if the whole file was decoded, else
    for example "truncated at 3.2 s". Use it as a context manager, or call
    `close`, unless all frames are read.
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
        """The file's header; complete after the first frame."""
        return video_info(self._log.lines) or VideoInfo()

    @property
    def variable_rate(self) -> bool:
        """Whether the source has a variable frame rate; known after the end."""
        found = self._log.search(r"VFR:0\.\d*[1-9]")
        return found is not None

    @property
    def source_frames(self) -> int:
        """Number of decoded source frames; known after the end."""
        found = self._log.search(r"\(video\): .*; (\d+) frames decoded")
        return int(found[1]) if found else 0

    def close(self) -> None:
        """Ends ffmpeg and the reading threads, if they still run."""
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
        """The reason in ffmpeg's log why the source can't be read."""
        return reason_from_log(self._log)

    def stop(self) -> None:
        """Ends ffmpeg, from any thread; iteration then stops."""
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
        """Determines why there are no more frames."""
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
            # Ctrl-C reaches this process only, which then ends ffmpeg.
            start_new_session=True,
        )
    except OSError as error:
        raise EnvironmentFault(
            f"ffmpeg could not be started from '{command[0]}': "
            f"{error.strerror}. Install imageio-ffmpeg again, or set "
            "IMAGEIO_FFMPEG_EXE to an ffmpeg."
        ) from error
