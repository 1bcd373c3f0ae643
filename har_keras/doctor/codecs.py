"""Makes a video in each codec and container that matters, and reads it."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from har_keras.doctor.finding import Finding
from har_keras.errors import EnvironmentFault, HarError
from har_keras.files import temporary_prefix
from har_keras.processes import last_word, run
from har_keras.video.commands import ffmpeg_binary, ffmpeg_version
from har_keras.video.ffmpeg import read_frames, require_working_ffmpeg

_UPGRADE = (
    'pip install --upgrade "imageio-ffmpeg>=0.8", or set IMAGEIO_FFMPEG_EXE '
    "to a working ffmpeg"
)
_OLDEST = 6
_TIMEOUT_SECONDS = 60
_LEVELS = np.arange(30, 230, 25)  # gray, a level a frame
_FPS, _SIZE = 8, 128
# What a codec may change a level by, with the rounding of limited range.
_TOLERANCE = 6


@dataclass(frozen=True)
class Sample:
    """A kind of video that ffmpeg is asked to make and to read.

    Args:
        name: str. What people call it.
        suffix: str. Of its files.
        encoders: tuple of str. Those that can make it, the first that is there
            is used.
        options: tuple of str. Of the encoder.
        affected: str. Which files can't be read without it.
    """

    name: str
    suffix: str
    encoders: tuple[str, ...]
    options: tuple[str, ...] = ()
    affected: str = ""


SAMPLES = (
    Sample("H.264", ".mp4", ("libx264", "libopenh264"), (), "most videos"),
    Sample("MPEG-TS", ".ts", ("libx264", "mpeg2video"), (),
           "files .ts, .mts, .m2ts"),
    Sample("HEVC", ".mp4", ("libx265",), ("-x265-params", "log-level=none"),
           "videos of recent phones"),
    Sample("AV1", ".mp4", ("libsvtav1", "libaom-av1"), (),
           "videos of recent phones and sites"),
    Sample("VP9", ".webm", ("libvpx-vp9",), (), "recordings of browsers"),
)  # fmt: skip


def check_ffmpeg() -> Iterator[Finding]:
    """Yields what ffmpeg can decode, each shown by a video that it made."""
    try:
        binary = ffmpeg_binary()
        require_working_ffmpeg()
        known = _encoders()
    except HarError as error:
        reason = str(error).partition(", so no video is at fault")[0]
        text = f"videos can't be read: {reason}{_known_fault()}"
        yield Finding("bad", "ffmpeg", text, _UPGRADE)
        return
    failed = {}
    read = []
    for sample in SAMPLES:
        encoder = next((x for x in sample.encoders if x in known), None)
        if encoder is None:
            continue
        if fault := _fault(sample, encoder):
            failed[sample] = fault
        else:
            read.append(sample.name)
    tried = f"reads {', '.join(read)}" if read else "can make no video to read"
    yield Finding("ok", "ffmpeg", f"{version()}, {tried}; {binary}")
    for sample, fault in failed.items():
        text = f"{sample.name} can't be read ({sample.affected}): {fault}"
        bad = sample is SAMPLES[0]
        text += _known_fault()
        yield Finding("bad" if bad else "look", "ffmpeg", text, _UPGRADE)


def version() -> str:
    """Returns the version of ffmpeg, such as `9.0.2`.

    Example:

    >>> version().partition(".")[0].isdecimal()
    True
    """
    found = re.search(r"version n?(\d+(?:\.\d+)*)", ffmpeg_version())
    words = ffmpeg_version().split()
    if found:
        return found[1]
    return words[2] if len(words) > 2 else "of unknown version"


def _known_fault() -> str:
    """Returns what is known of this version, as the end of a sentence."""
    own = version()
    major = own.partition(".")[0]
    if major.isdecimal() and int(major) < _OLDEST:
        return (
            f". It is ffmpeg {own}, which is too old, as is that of "
            "imageio-ffmpeg 0.5"
        )
    if own == "7.0.2":
        return (
            ". The ffmpeg 7.0.2 of imageio-ffmpeg 0.6 and 0.7 is known to "
            "crash on MPEG-TS under Linux"
        )
    return ""


def _encoders() -> set[str]:
    command = [ffmpeg_binary(), "-hide_banner", "-nostdin", "-encoders"]
    done = run(command, timeout_seconds=_TIMEOUT_SECONDS)
    text = done.stdout.decode("utf-8", "replace")
    return set(re.findall(r"^ V\S* (\S+)", text, re.MULTILINE))


def _fault(sample: Sample, encoder: str) -> str:
    """Makes a video and reads it; returns what went wrong, or ""."""
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        path = Path(folder) / f"sample{sample.suffix}"
        try:
            _make(path, sample, encoder)
            with read_frames(
                path,
                fps=_FPS,
                short_side=32,
                timeout_seconds=_TIMEOUT_SECONDS,
            ) as reader:
                levels = [float(frame.mean()) for frame in reader]
        except HarError as error:
            return str(getattr(error, "reason", error)).rstrip(".")
    if len(levels) != len(_LEVELS):
        return f"{len(levels)} of {len(_LEVELS)} frames came out"
    if np.abs(levels - _LEVELS).max() > _TOLERANCE:
        return "other colors came out than went in"
    return ""


def _make(path: Path, sample: Sample, encoder: str) -> None:
    frames = np.repeat(_LEVELS.astype(np.uint8), _SIZE * _SIZE * 3)
    done = run(
        [
            *(ffmpeg_binary(), "-hide_banner", "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{_SIZE}x{_SIZE}"),
            *("-r", str(_FPS), "-i", "pipe:0", "-c:v", encoder),
            *(*sample.options, "-pix_fmt", "yuv420p", str(path)),
        ],
        data=frames.tobytes(),
        timeout_seconds=_TIMEOUT_SECONDS,
    )
    if done.returncode:
        raise EnvironmentFault(
            f"{encoder} could not make one: {last_word(done)}"
        )
