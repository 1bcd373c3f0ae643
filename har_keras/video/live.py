"""Reads the newest frames of a camera or stream, and reconnects."""

import logging
import os
import sys
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np

from har_keras.errors import DataError, EnvironmentFault
from har_keras.video.commands import CONTAINERS, FrameOutput, ffmpeg_binary
from har_keras.video.ffmpeg import FrameReader, Frames
from har_keras.video.ffmpeg_log import MAX_PIXELS
from har_keras.video.sources import Source

logger = logging.getLogger("har_keras")

_STREAMS = f"{CONTAINERS},rtsp,rtp,sdp,mpjpeg,live_flv"
_PROTOCOLS = "http,https,tls,tcp,udp,rtp,rtsp,httpproxy"
_STALLED_SECONDS = 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 2.0
_NEVER_SECONDS = 10.0 * 365 * 24 * 3600


class LiveReader:
    """Buffers the newest frames of a live source, and reconnects to it.

    A thread reads frames as fast as they arrive and drops the oldest ones, so
    that a slow consumer does not fall behind. After an interruption the buffer
    is cleared, so that no clip has a gap.

    Args:
        source: Source. Of kind "live".
        num_frames: int. Frames to keep, T.
        fps: float. Frames per second.
        short_side: int. Pixels of the shorter side of the frames.
        squeeze: bool. As for `read_frames`. Defaults to `False`.
        stalled_seconds: float. A source that sends nothing for this long is
            reopened.

    Attributes:
        num_connections: int. Connections that delivered frames.
        num_frames: int. Frames received over all connections.
        file_seconds: float. Length of the source if it is a file and not a
            stream, else 0. A file is read once.
        reason: str. Why the last connection ended; "" before one did.
    """

    def __init__(
        self,
        source: Source,
        *,
        num_frames: int,
        fps: float,
        short_side: int,
        squeeze: bool = False,
        stalled_seconds: float = _STALLED_SECONDS,
    ) -> None:
        self.source = source
        self.num_connections = 0
        self.num_frames = 0
        self.file_seconds = 0.0
        self.reason = ""
        self._command = live_command(source.address)
        self._output = FrameOutput(fps, short_side, squeeze)
        self._stalled_seconds = stalled_seconds
        self._frames: deque[Frames] = deque(maxlen=num_frames)
        self._arrived = 0.0
        self._reader: FrameReader | None = None
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> "LiveReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def newest(
        self, *, after: int, timeout_seconds: float
    ) -> tuple[int, Frames, float] | None:
        """Waits for a full clip that is newer than the last one.

        Args:
            after: int. The clip must end after this frame number.
            timeout_seconds: float. How long to wait.

        Returns:
            The number of the clip's last frame, counted from 1 over all
            connections; the frames, `uint8` `(T, H, W, 3)`; and the arrival
            time of the last one, by `time.monotonic`. None after the timeout.
        """
        with self._changed:
            there = self._changed.wait_for(
                lambda: (
                    len(self._frames) == self._frames.maxlen
                    and self.num_frames > after
                ),
                timeout_seconds,
            )
            if not there:
                return None
            return self.num_frames, np.stack([*self._frames]), self._arrived

    def close(self) -> None:
        """Ends ffmpeg and the thread."""
        self._stopped.set()
        if self._reader is not None:
            self._reader.stop()
        self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopped.is_set():
            before = self.num_frames
            reason = self.reason = self._read()
            if self._stopped.is_set() or self.file_seconds:
                return
            with self._changed:
                self._frames.clear()
            if self.num_frames > before:
                pause = _FIRST_PAUSE_SECONDS
                logger.warning(
                    "The connection to '%s' was lost: %s.",
                    self.source.name,
                    reason,
                )
            elif pause == _LONGEST_PAUSE_SECONDS:
                logger.warning(
                    "'%s' sends no frames: %s.", self.source.name, reason
                )
            self._stopped.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _read(self) -> str:
        """Reads frames until the source ends; returns the reason."""
        reader = FrameReader(
            Path(self.source.name),
            self._command,
            self._output,
            timeout_seconds=_NEVER_SECONDS,
        )
        self._reader = reader
        if self._stopped.is_set():  # `close` saw the reader before this one
            reader.stop()
        self._arrived = time.monotonic()
        guard = threading.Thread(
            target=self._stop_if_stalled, args=[reader], daemon=True
        )
        guard.start()
        try:
            for frame in reader:
                self._take(frame)
        except DataError:
            return reader.complaint
        finally:
            reader.close()
            guard.join()
        self.file_seconds = reader.info.duration_seconds
        return "it ended"

    def _take(self, frame: Frames) -> None:
        with self._changed:
            if not self._frames:
                self.num_connections += 1
                if self.num_connections > 1:
                    logger.info("Reconnected to '%s'.", self.source.name)
            self._frames.append(frame)
            self.num_frames += 1
            self._arrived = time.monotonic()
            self._changed.notify_all()

    def _stop_if_stalled(self, reader: FrameReader) -> None:
        while reader.running and not self._stopped.wait(0.1):
            if time.monotonic() - self._arrived > self._stalled_seconds:
                reader.stop()
                return


def live_command(address: str) -> list[str]:
    """Returns the part of a command that opens a camera or a stream.

    Args:
        address: str. `camera:0`, or an address of http, https or rtsp.

    Returns:
        A list of str, to be followed by `FrameOutput.arguments`.

    Raises:
        EnvironmentFault: If cameras can't be opened on this system.
    """
    return [
        ffmpeg_binary(),
        *("-hide_banner", "-nostdin", "-nostats"),
        *("-loglevel", "level+verbose", "-max_pixels", str(MAX_PIXELS)),
        *("-threads", "1", "-flags", "low_delay"),
        *(_camera(address) if address.startswith("camera:") else ()),
        *(() if address.startswith("camera:") else _stream(address)),
    ]


def require_camera(source: Source) -> None:
    """Raises `DataError` if a source is a camera that is not there.

    On Linux, where each is a file; elsewhere, and for a source that is no
    camera, nothing is known before it is opened.

    Args:
        source: Source. Of any kind.
    """
    number = source.address.removeprefix("camera:")
    if number == source.address or not sys.platform.startswith("linux"):
        return
    if os.access(f"/dev/video{number}", os.R_OK | os.W_OK):
        return
    if Path(f"/dev/video{number}").exists():
        raise DataError(
            f"'{source.name}' can't be opened: this user may not read "
            f"/dev/video{number}. Join the group video, or run it as a user "
            "who may."
        )
    known = sorted(path.name[5:] for path in Path("/dev").glob("video[0-9]*"))
    there = ", ".join(f"camera:{name}" for name in known)
    raise DataError(
        f"There is no '{source.name}' on this machine. "
        + (f"There are: {there}." if there else "No camera is connected.")
    )


def _camera(address: str) -> tuple[str, ...]:
    number = address.removeprefix("camera:")
    if sys.platform == "darwin":
        return ("-f", "avfoundation", "-framerate", "30", "-i", number)
    if sys.platform.startswith("linux"):
        return ("-f", "v4l2", "-i", f"/dev/video{number}")
    raise EnvironmentFault(
        "Cameras are supported on Linux and macOS. Elsewhere, stream the "
        "camera and give the address of the stream."
    )


def _stream(address: str) -> tuple[str, ...]:
    rtsp = address.startswith("rtsp")
    microseconds = str(round(_STALLED_SECONDS * 1e6))
    return (
        *("-protocol_whitelist", _PROTOCOLS, "-format_whitelist", _STREAMS),
        *("-analyzeduration", "1000000", "-probesize", "1000000"),
        *(("-rtsp_transport", "tcp") if rtsp else ()),
        *("-timeout" if rtsp else "-rw_timeout", microseconds),
        *("-i", address),
    )
