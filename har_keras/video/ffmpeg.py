"""Decodes video files with the ffmpeg binary of imageio-ffmpeg.

All video files are opened here, and every file is treated as untrusted: only
regular files are opened, with limits on pixels, time and memory, by a process
that is killed when it hangs. ffmpeg itself chooses frames by time and applies
rotation, so variable frame rates, rotation tags and edit lists are handled
correctly.
"""

import base64
import functools
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from io import RawIOBase
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from har_keras.errors import EnvironmentFault
from har_keras.files import temporary_prefix
from har_keras.processes import Process
from har_keras.video.clock import FrameClock
from har_keras.video.commands import (
    MAX_ASPECT,
    FrameOutput,
    ffmpeg_binary,
    input_command,
)
from har_keras.video.ffmpeg_log import (
    NO_MEMORY,
    FFmpegLog,
    VideoInfo,
    reason_from_content,
    reason_from_log,
    video_streams,
)
from har_keras.video.header import VideoError as VideoError
from har_keras.video.header import best_stream, described, require_file
from har_keras.video.header import probe as probe
from har_keras.video.watchdog import Watchdog

Frames = NDArray[np.uint8]
"""Decoded frames, of shape `(T, H, W, 3)` in RGB, or one of `(H, W, 3)`."""

_SAMPLE_SECONDS = 60.0
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
# A frame that is to stay longer than this is where a clock was set, and not
# what a camera saw; in all, frames of one file may be held for a day.
_LONG_HOLD_SECONDS = 600.0  # is told
_LONGEST_HOLD_SECONDS = 6 * 3600.0
_LONGEST_HOLDS_SECONDS = 24 * 3600.0


def read_frames(
    path: Path,
    *,
    fps: float,
    short_side: int,
    timeout_seconds: float,
    squeeze: bool = False,
) -> "FrameReader":
    """Decodes a video at a constant frame rate, one frame at a time.

    Frame `k` is the one displayed `k / fps` seconds after the first, upright
    and with square pixels; a frame that stays on show is the same array again.
    Decoding stops at the first damaged packet, since nothing after it can be
    trusted. Of several video streams, the one that players show is read.

    Args:
        path: Path. The file.
        fps: float. Frames per second to return, whatever the file's rate.
        short_side: int. Pixels of the shorter side of the frames.
        timeout_seconds: float. Limit on the time spent waiting for ffmpeg;
            time spent by the caller between frames is not counted.
        squeeze: bool. Whether frames are squares of `short_side`, whatever
            the shape of the video. Defaults to `False`.

    Returns:
        A `FrameReader`, an iterator over `uint8` arrays of shape
        `(height, width, 3)` in RGB. Iterating raises `VideoError` if no
        frame can be decoded or the time limit is exceeded, and
        `EnvironmentFault` if this ffmpeg decodes nothing at all.

    Raises:
        VideoError: If it is no regular file; that is never opened.
    """
    require_file(path)
    return FrameReader(
        Path(path),
        input_command(path, timeout_seconds),
        FrameOutput(fps, short_side, squeeze),
        timeout_seconds=timeout_seconds,
        is_file=True,
    )


class FrameReader(Iterator[np.ndarray]):
    """An iterator over the frames that ffmpeg decodes; see `read_frames`.

    After the last frame, `damage` is "" if the whole file was decoded, else
    for example "truncated at 3.2 s". Use it as a context manager, or call
    `close`, unless all frames are read.

    Args:
        path: Path. What is read, for messages.
        command: Sequence of str. Its part of the command, of `input_command`.
        output: FrameOutput. The frames to read.
        timeout_seconds: float. As for `read_frames`.
        is_file: bool. Whether it is a video file, which may have several
            video streams. Defaults to `False`.
    """

    def __init__(
        self,
        path: Path,
        command: Sequence[str],
        output: FrameOutput,
        *,
        timeout_seconds: float,
        is_file: bool = False,
    ) -> None:
        self.path = path
        self.num_frames = 0
        self.damage = ""
        self.changed_seconds: float | None = None
        self._command, self._output = command, output
        self._timeout_seconds = timeout_seconds
        self._undecided = is_file
        self._stream: int | None = None
        self._frame: Frames | None = None
        self._repeats = 0
        self._held_seconds = 0.0
        self._longest_hold = (0.0, 0.0)
        self._stopped = False
        self._begin()

    def _begin(self) -> None:
        """Starts ffmpeg on the chosen stream."""
        stream = "0:V:0" if self._stream is None else f"0:{self._stream}"
        arguments = self._output.arguments(stream)
        self._clock = FrameClock(self._output)
        self._log = FFmpegLog(self._clock)
        self._process = Process([*self._command, *arguments])
        self._watchdog = Watchdog(self._process, self._timeout_seconds)
        assert self._process.stderr is not None
        self._drain = threading.Thread(
            target=self._log.drain, args=[self._process.stderr], daemon=True
        )
        self._drain.start()

    def __iter__(self) -> "FrameReader":
        return self

    def __next__(self) -> np.ndarray:
        while not self._repeats:
            with self._watchdog.waiting():
                going_on = self._read()
            if not going_on:
                self._end()
                raise StopIteration
        self._repeats -= 1
        self.num_frames += 1
        assert self._frame is not None
        return self._frame

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
        found = described(self.path, self._log, self._stream)
        return found or VideoInfo()

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

    @property
    def note(self) -> str:
        """What else is to be known of the frames, or ""."""
        told = []
        if self.changed_seconds is not None:
            told.append(
                f"its shape changes at {self.changed_seconds:.1f} s: what "
                "follows is cropped and padded to the first shape"
            )
        length, begin = self._longest_hold
        if length > _LONG_HOLD_SECONDS:
            told.append(
                f"it stands still for {length / 60:.0f} minutes at "
                f"{begin:.1f} s"
            )
        return "; ".join(told)

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
        self._stopped = True
        self._watchdog.kill()

    def _read(self) -> bool:
        """Reads the next frame, and how often it is shown; False at the end."""
        if self.damage:
            return False
        shown = self._clock.next()
        if self._undecided:
            self._undecided = False
            if self._choose_stream():
                return True  # the next round waits with the new watchdog
        if shown is None or max(shown.size) >= self._output.longest:
            return False
        if not shown.lost:
            frame = self._read_frame(shown.size)
            if frame is None:
                return False
            self._frame = self._shaped(frame)
        if self._frame is not None:
            self._hold(self._clock.shown_until() - shown.tick)
        return True

    def _choose_stream(self) -> bool:
        """Begins again if another video stream is the one to read."""
        streams = video_streams(self._log.lines)
        if len(streams) < 2:
            return False
        best = best_stream(
            self.path, self._command, self._log, self._timeout_seconds
        )
        if best == streams[0].index:
            return False
        self.close()
        self._stream = best
        self._begin()
        if self._stopped:
            self._watchdog.kill()
        return True

    def _read_frame(self, size: tuple[int, int]) -> Frames | None:
        """Returns the next whole frame, or None at the end."""
        width, height = size
        frame = np.empty((height, width, 3), np.uint8)
        rest, stream = frame.data.cast("B"), self._process.stdout
        while rest:
            if stream is None or stream.closed:
                return None
            count = cast(RawIOBase, stream).readinto(rest)
            if not count:
                return None
            rest = rest[count:]
        return frame

    def _shaped(self, frame: Frames) -> Frames:
        """Returns a frame in the shape of the first one.

        Cropped and padded about the center and never resized, for the short
        side is the same: what a clip shows keeps its proportions and its size.
        """
        if self._frame is None or frame.shape == self._frame.shape:
            return frame
        if self.changed_seconds is None:
            self.changed_seconds = self._seconds
        shaped = np.zeros_like(self._frame)
        there, here = [], []
        for new, own in zip(shaped.shape[:2], frame.shape[:2], strict=True):
            length = min(new, own)
            begin, own_begin = (new - length) // 2, (own - length) // 2
            there.append(slice(begin, begin + length))
            here.append(slice(own_begin, own_begin + length))
        shaped[tuple(there)] = frame[tuple(here)]
        return shaped

    def _hold(self, repeats: int) -> None:
        """Shows a frame as often as it should be, but not for days."""
        self._repeats = repeats
        seconds = (repeats - 1) / self._output.fps
        self._held_seconds += seconds
        self._longest_hold = max(self._longest_hold, (seconds, self._seconds))
        if seconds > _LONGEST_HOLD_SECONDS:
            gap = f"a gap of {seconds / 3600:.1f} h"
        elif self._held_seconds > _LONGEST_HOLDS_SECONDS:
            gap = f"gaps of {self._held_seconds / 3600:.1f} h in all"
        else:
            return
        self._repeats = 1
        self.damage = f"{gap} at {self._seconds:.1f} s"
        self._watchdog.kill()

    def _end(self) -> None:
        """Determines why there are no more frames."""
        if self._process.stdout is None or self._process.stdout.closed:
            return
        size = self._clock.next()
        thin = size is not None and max(size.size) >= self._output.longest
        if thin:
            self._watchdog.kill()
        with self._watchdog.waiting():
            status = self._process.wait()
        self.close()
        if thin and not self.num_frames:
            reason = f"one side is over {MAX_ASPECT} times the other"
            raise VideoError(self.path, reason)
        if self.damage:
            return
        self._raise_if_killed(status)
        if not self.num_frames:
            raise self._fault()
        if thin or status or self._log.search("File ended prematurely"):
            self.damage = f"{self._kind_of_damage()} at {self._seconds:.1f} s"

    def _fault(self) -> VideoError:
        """Returns why there is no frame at all, if it is the file's fault."""
        known = reason_from_content(self.path)
        fault = VideoError(self.path, known or reason_from_log(self._log))
        if not known and not fault.passing and self.path != _SAMPLE:
            require_working_ffmpeg()
        return fault

    def _raise_if_killed(self, status: int) -> None:
        limit = self._watchdog.timeout_seconds
        reason = ""
        if self._watchdog.fired or status == -getattr(signal, "SIGXCPU", 24):
            reason = f"timed out after {limit:g} s"
        elif self._watchdog.too_large:
            reason = NO_MEMORY
        elif status < 0:
            reason = f"ffmpeg was ended by signal {-status}"
            if -status in _CRASHES:
                reason = (
                    f"ffmpeg itself crashed (signal {-status}): try another "
                    "version, and see har-keras doctor"
                )
        if reason:
            raise VideoError(self.path, reason, passing=True)

    def _kind_of_damage(self) -> str:
        """Returns "truncated" if the file ended within a packet."""
        in_stream = self.info.container in ("mpegts", "mpeg")
        cut = self._log.search("corrupt input packet|ended prematurely")
        return "truncated" if cut and not in_stream else "damaged"

    @property
    def _seconds(self) -> float:
        return self.num_frames / self._output.fps


_SAMPLE = Path("a GIF of two frames")
_GIF = (
    "R0lGODlhEAAQAIEAAAAAAAAAAAAAAAAAACH5BAAKAAAALAAAAAAQABAAAAgdAAEIHEiwoMGD"
    "CBMqXMiwocOHECNKnEixosWBAQEAIfkEAQoAAQAsAAAAABAAEACB////AAAAAAAAAAAACB0A"
    "AQgcSLCgwYMIEypcyLChw4cQI0qcSLGixYEBAQA7"
)


@functools.cache
def require_working_ffmpeg() -> None:
    """Decodes a tiny video that is known to be right, once a process.

    Asked before a file is blamed: where ffmpeg can't decode anything, no file
    is at fault.

    Raises:
        EnvironmentFault: If ffmpeg can't decode it.
    """
    with tempfile.NamedTemporaryFile(
        prefix=temporary_prefix(), suffix=".gif", delete=False
    ) as file:
        file.write(base64.b64decode(_GIF))
    path = Path(file.name)
    try:
        reader = FrameReader(
            _SAMPLE,
            input_command(path, _SAMPLE_SECONDS),
            FrameOutput(10.0, 16),
            timeout_seconds=_SAMPLE_SECONDS,
        )
        levels = [int(frame.mean()) for frame in reader]
        told = f"it shows {levels}" if levels != [0, 255] else ""
    except VideoError as error:
        complaint = reader._log.search(r"\[(?:error|fatal)\] (.*)")
        told = complaint[1].strip() if complaint else error.reason
    finally:
        path.unlink()
    if told:
        raise EnvironmentFault(
            f"The ffmpeg at '{ffmpeg_binary()}' can't decode a GIF of two "
            f"frames ({told.rstrip('.')}), so no video is at fault. Install "
            "one that works: pip install --upgrade imageio-ffmpeg; or set "
            "IMAGEIO_FFMPEG_EXE to an ffmpeg of version 6 or later."
        )
