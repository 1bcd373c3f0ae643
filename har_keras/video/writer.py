"""Encodes frames as an MP4 that browsers and players open."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from har_keras.errors import DataError, EnvironmentFault, HarError
from har_keras.files import final_name, full_disk_named, temporary_prefix
from har_keras.processes import Process
from har_keras.video.commands import CONTAINERS, ffmpeg_binary
from har_keras.video.ffmpeg import Frames
from har_keras.video.header import require_file

_END_SECONDS = 60.0


class VideoWriter:
    """Encodes frames as H.264 in an MP4, optionally with another file's audio.

    Use it as a context manager. On an exception ffmpeg is killed, and the
    file is incomplete.

    Args:
        path: Path. The MP4 file.
        size: pair of int. Width and height in pixels; odd sizes are cropped
            by one pixel, since the format needs even ones.
        fps: float. Frames per second.
        sound: Path or None. A file whose first audio track is copied.
        quality: int. Constant rate factor of x264; lower is better and larger.
            Defaults to `23`.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: float,
        *,
        sound: Path | None = None,
        quality: int = 23,
    ) -> None:
        if sound:
            require_file(sound)
        self.path = path
        self._sound = sound
        self._complaints = tempfile.TemporaryFile()
        command = [
            *(ffmpeg_binary(), "-hide_banner", "-nostats", "-loglevel"),
            *("error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-s", f"{size[0]}x{size[1]}", "-r", repr(fps), "-i", "pipe:0"),
            *(_sound(sound) if sound else ()),
            *("-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0"),
            *("-c:v", "libx264", "-preset", "veryfast", "-threads", "2"),
            *("-crf", str(quality), "-pix_fmt", "yuv420p"),
            *("-movflags", "+faststart", "-f", "mp4"),
            f"file:{os.path.abspath(path)}",
        ]
        self._process = Process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
        )

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            self._process.end()
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # the exit status is checked below
        status = self._process.wait(_END_SECONDS)
        if status and kind is None:
            raise self._fault()
        self._complaints.close()

    def write(self, frame: Frames) -> None:
        """Adds a frame.

        Args:
            frame: `uint8` array of shape `(height, width, 3)` in RGB.

        Raises:
            EnvironmentFault: If ffmpeg failed, for example on a full disk.
            DataError: If it failed at this video, such as at its sound.
        """
        assert self._process.stdin is not None
        rest = memoryview(frame.tobytes())
        try:
            while rest:  # a signal may cut a write short
                rest = rest[self._process.stdin.write(rest) :]
        except BrokenPipeError as error:
            self._process.wait(_END_SECONDS)
            raise self._fault() from error

    def _fault(self) -> HarError:
        self._complaints.seek(0)
        text = self._complaints.read(2000).decode("utf-8", "replace").strip()
        said = text.splitlines()[-1] if text else "it gave no reason"
        told = (
            f"'{final_name(self.path)}' could not be written by ffmpeg: {said}."
        )
        if text and not _OF_THE_DISK.search(text):  # of this video alone
            sound = (
                f" Its sound is from '{self._sound}'." if self._sound else ""
            )
            return DataError(told + sound)
        return EnvironmentFault(
            f"{told} Choose a folder with free space that can be written to."
        )


_OF_THE_DISK = re.compile(
    "No space left|quota|File too large|Permission denied|Read-only|"
    "No such file",
    re.IGNORECASE,
)


def _sound(file: Path) -> tuple[str, ...]:
    """Returns the arguments that add the audio of an untrusted file."""
    return (
        *("-protocol_whitelist", "file,pipe", "-format_whitelist", CONTAINERS),
        *("-i", f"file:{os.path.abspath(file)}"),
        *("-map", "0:v:0", "-map", "1:a:0?", "-c:a", "aac"),
    )


def encode_mp4(frames: Frames, fps: float, *, quality: int = 30) -> bytes:
    """Returns a clip as a small MP4 without audio.

    Args:
        frames: `uint8` array of shape `(T, H, W, 3)` in RGB.
        fps: float. Frames per second.
        quality: int. As for `VideoWriter`. Defaults to `30`.

    Returns:
        bytes. The file.
    """
    height, width = frames.shape[1:3]
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        file = Path(folder) / "clip.mp4"
        with (
            full_disk_named(file),
            VideoWriter(file, (width, height), fps, quality=quality) as writer,
        ):
            for frame in frames:
                writer.write(frame)
        return file.read_bytes()
