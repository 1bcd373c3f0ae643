"""The commands of ffmpeg: how a file is opened, and how frames come out.

A file is untrusted: it is opened as a file and never as an address, in one of
a few containers, with limits on pixels and time.
"""

import functools
import hashlib
import math
import os
import random
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg

from har_keras.errors import EnvironmentFault
from har_keras.processes import run
from har_keras.video.ffmpeg_log import MAX_PIXELS

CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,gif,ogg"
"""Demuxers that may open a file. None follows references to other files."""

MAX_ASPECT = 8
"""Largest aspect ratio (longest side over shortest) that is decoded."""

# ffmpeg takes a rate as a fraction with a denominator up to this.
_LARGEST_DENOMINATOR = 1001000
_VERSION_SECONDS = 30


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


@functools.cache
def ffmpeg_version() -> str:
    """Returns the version and the build options that ffmpeg prints, or ""."""
    command = [ffmpeg_binary(), "-version"]
    try:
        done = run(command, timeout_seconds=_VERSION_SECONDS)
    except EnvironmentFault:
        return ""
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return "\n".join(line.strip() for line in lines[:3])


@functools.cache
def ffmpeg_id() -> str:
    """Returns a short hash of ffmpeg's version and build options."""
    return hashlib.sha256(ffmpeg_version().encode()).hexdigest()[:16]


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
        A list of str, to be followed by `FrameOutput.arguments`.
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


@dataclass(frozen=True)
class FrameOutput:
    """Frames as ffmpeg writes them: of a rate, a size, upright, in RGB.

    The same for files, images and cameras, so that pixels agree.

    Frame `k` is the last one that starts at or before `k / fps` seconds after
    the first. ffmpeg drops those that are never shown before it resizes the
    others, and writes each of these once; how often it is repeated is for a
    `FrameClock` to say, from what is printed here. If ffmpeg repeated frames
    itself (its filter `fps`), a gap of hours in a small file would take
    gigabytes: all repeats are made before the first is written.

    Args:
        fps: float. Frames per second.
        short_side: int. Pixels of the shorter side.
        squeeze: bool. Whether frames are squares. Defaults to `False`.
        thinned: bool. Whether frames that are never shown are dropped before
            they are resized. That holds back one frame, which is lost if the
            next one has another size. Defaults to `True`.
    """

    fps: float
    short_side: int
    squeeze: bool = False
    thinned: bool = True
    # In what is printed: no name of a file can pretend to be such a line.
    secret: int = field(default_factory=lambda: random.randrange(10**5))

    @property
    def longest(self) -> int:
        """The side at which a frame counts as too thin, in pixels."""
        return MAX_ASPECT * self.short_side

    @property
    def rate(self) -> Fraction:
        """The frame rate as ffmpeg takes it."""
        return Fraction(self.fps).limit_denominator(_LARGEST_DENOMINATOR)

    def arguments(self, stream: str = "0:V:0", *options: str) -> list[str]:
        """Returns the part of a command that follows `input_command`.

        Args:
            stream: str. The video stream, as `-map` takes it. Defaults to the
                first that is no cover art.
            *options: str. Further output options of ffmpeg.
        """
        return [
            *("-map", stream, "-an", "-sn", "-dn", "-noautoscale"),
            *("-vf", self._filters()),
            *("-filter_threads", "1", "-fps_mode", "passthrough"),
            *options,
            *("-f", "rawvideo", "-c:v", "rawvideo", "-pix_fmt", "rgb24"),
            "pipe:1",
        ]

    def _filters(self) -> str:
        return ",".join(
            ["vfrdet", *self._in_time(), f"scale={self._size()}:flags=bicubic"]
        )

    def _in_time(self) -> list[str]:
        """Returns the filters that drop frames and print when each is shown.

        `print` writes the start of the graph in milliseconds, and the tick of
        each frame that is written. Registers: 0 the tick, 1 the last one, 2
        the number of frames that are written.
        """
        # A time that is exactly on a tick must not be rounded past it.
        tick = f"ceil((PTS-STARTPTS)*TB*{self.rate}-1e-7)"
        start = f"if(eq(N,0),print(floor(T*1000)+0.1{self.secret:05d}))*0"
        shown = f"print(ld(0)+0.2{self.secret:05d})*0"
        first = f"st(0,if(isnan(T),0,max(0,{tick})));{start}"
        if not self.thinned:
            return [f"setpts='{first};{shown}+PTS'"]
        new = f"{shown}+st(1,ld(0))*0"
        # The time of frame `i` becomes tick `i`, so that `fps` drops frames of
        # one tick, but for the last, and has none to repeat.
        number = (
            f"if(eq(N,0),{new}+st(2,0),if(gt(ld(0),ld(1)),{new}+st(2,ld(2)+1)))"
        )
        return [
            # Fine enough for any rate, and every time stays exact.
            "settb='intb/ceil(90000*intb)'",
            f"setpts='{first};{number};floor(ld(2)/({self.rate})/TB-0.25)'",
            f"fps={self.rate}:round=up",
        ]

    def _size(self) -> str:
        """Returns the size; `dar` is the aspect ratio as displayed."""
        side, longest = self.short_side, self.longest
        if self.squeeze:
            return f"w={side}:h={side}"
        return (
            f"w='if(lte(dar,1),{side},min(round({side}*dar),{longest}))'"
            f":h='if(lte(dar,1),min(round({side}/dar),{longest}),{side})'"
        )
