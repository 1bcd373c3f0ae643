"""A recording of the browser's camera, which counts once it was decoded."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from pathlib import Path

from har_keras.errors import DataError
from har_keras.files import whole_file
from har_keras.processes import run
from har_keras.video.commands import input_command
from har_keras.video.ffmpeg import VideoError, probe, read_frames

MOST_BYTES = 200 * 10**6
MOST_SECONDS = 120.0
_TIMEOUT_SECONDS = 120.0
_CHECK_FPS, _CHECK_PIXELS = 5.0, 48
# Windows has no such files.
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)")
_KINDS = {"webm": ("webm", ".webm"), "mov": ("mp4", ".mp4")}


def keep_recording(upload: Path, root: Path, class_name: str) -> str:
    """Checks a recording and puts it into the folder of its class.

    The browser writes no length and no index: the packets are copied into a
    file that has them, and are not encoded again.

    Args:
        upload: Path. What the browser sent.
        root: Path. The folder of videos.
        class_name: str. What was recorded.

    Returns:
        str. The new file, relative to the folder.

    Raises:
        DataError: If it can't be decoded to its end, or is too long.
        EnvironmentFault: If the disk is full.
    """
    seconds = _require_decodable(upload)
    info = probe(upload)
    container = "webm" if info.container in ("matroska", "webm") else "mov"
    kind, suffix = _KINDS[container]
    if container == "webm" and info.codec not in ("vp8", "vp9", "av1"):
        kind, suffix = "matroska", ".mkv"
    path = _new_path(root, class_name, suffix)
    with whole_file(path) as temporary:
        _copy(upload, temporary, kind)
        written = _require_decodable(temporary)
        if abs(written - seconds) > 0.5:
            raise DataError(
                "The recording can't be kept: a part of it was lost when it "
                "was written. Record it again."
            )
    return path.relative_to(root).as_posix()


def _require_decodable(path: Path) -> float:
    """Returns the length of a recording that is decoded to its end."""
    count = 0
    try:
        with read_frames(
            path,
            fps=_CHECK_FPS,
            short_side=_CHECK_PIXELS,
            timeout_seconds=_TIMEOUT_SECONDS,
        ) as frames:
            for _ in frames:
                count += 1
                if count > MOST_SECONDS * _CHECK_FPS + 1:
                    raise DataError(
                        f"A recording may have up to {MOST_SECONDS:g} seconds. "
                        "Record a shorter one."
                    )
        damage = frames.damage
    except VideoError as error:
        damage = error.reason
    if damage or not count:
        raise DataError(
            f"The recording can't be used: {damage or 'it is empty'}. Record "
            "it again."
        )
    return count / _CHECK_FPS


def _copy(upload: Path, new: Path, kind: str) -> None:
    command = [
        *input_command(upload, _TIMEOUT_SECONDS),
        *("-map", "0:V:0", "-map", "0:a:0?", "-c", "copy"),
        *("-movflags", "+faststart") * (kind == "mp4"),
        *("-f", kind, "-y", f"file:{new}"),
    ]
    run(command, timeout_seconds=_TIMEOUT_SECONDS)
    if not new.is_file():
        raise DataError("The recording can't be written. Record it again.")


def _new_path(root: Path, class_name: str, suffix: str) -> Path:
    """Returns a path in the folder of a class that nothing has."""
    slug = slug_of(class_name)
    moment = datetime.now().strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        more = f"-{number}" if number > 1 else ""
        path = root / slug / f"{slug}-{moment}{more}{suffix}"
        if not path.resolve().is_relative_to(root):
            raise DataError(
                f"'{root / slug}' is a link out of the folder, so nothing is "
                "recorded into it. Rename the class, or the link."
            )
        if not path.exists():
            return path
        number += 1


def slug_of(class_name: str) -> str:
    """Returns the name of a class as that of a folder on any system.

    Example:

    >>> slug_of("push ups"), slug_of("../<b>"), slug_of("CON")
    ('push ups', '_b_', '_CON')
    """
    text = unicodedata.normalize("NFC", class_name)
    text = re.sub(r"[^\w\- ]+", "_", text).strip(" .")[:60].rstrip()
    text = re.sub(r"_+", "_", text) or "class"
    return f"_{text}" if _RESERVED.fullmatch(text) else text
