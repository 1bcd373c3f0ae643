"""What the browser shows of a video: pictures that move, and small copies.

A video is opened only as far as it is shown. Of a long one, pictures are taken
at single moments, and a copy is made of the half minute that is played.
"""

from __future__ import annotations

import dataclasses
import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from har_keras.errors import DataError
from har_keras.files import SpecialFileError, require_regular
from har_keras.label.cache import PageCache, content_key
from har_keras.manifest.entries import refusal
from har_keras.processes import run
from har_keras.video.commands import input_command
from har_keras.video.ffmpeg import Frames, VideoError, probe
from har_keras.video.ffmpeg_log import VideoInfo

NUM_PICTURES = 10
WIDTH, HEIGHT = 240, 160
PIECE_SECONDS = 30
_PICTURE_SECONDS = 30.0
_PIECE_LIMIT_SECONDS = 240.0
# A shorter one is decoded whole: that is faster than to seek.
_SHORT_SECONDS = 20.0
_BACKGROUND = "0x15181d"
_PLAYABLE = {
    "mov": {"h264", "av1", "vp9"},
    "matroska": {"vp8", "vp9", "av1"},
    "webm": {"vp8", "vp9", "av1"},
}
_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4",
    ".webm": "video/webm", ".mkv": "video/webm",
}  # fmt: skip
# Pictures and copies made at a time: the rest of the machine is the user's.
_AT_A_TIME = 2


@dataclass(frozen=True)
class Header:
    """What the page has to know of a video.

    Args:
        seconds: float. Its length; 0 if nobody knows.
        fps: float. Frames per second; 25 if nobody knows.
        playable: bool. Whether browsers play the file itself.
        what: str. In words, such as "h264, 640 x 480, 25/s".
        fault: str. Why it can't be shown, or "".
    """

    seconds: float = 0.0
    fps: float = 25.0
    playable: bool = False
    what: str = ""
    fault: str = ""


class Media:
    """The videos of a folder as the browser sees them.

    Args:
        root: Path. The folder, resolved.
        cache: PageCache. Where pictures and copies are kept.
    """

    def __init__(self, root: Path, cache: PageCache) -> None:
        self.root = root
        self.cache = cache
        self._turn = threading.BoundedSemaphore(_AT_A_TIME)

    def path(self, file: str) -> Path:
        """Returns the path of a video that may be opened.

        Raises:
            DataError: If it is a link out of the folder, is missing or no
                file.
        """
        reason, path = refusal(self.root, file), self.root / file
        try:
            require_regular(path)
        except SpecialFileError as error:
            reason = reason or f"refused: {error.strerror}"
        if not reason and not path.is_file():
            reason = "the file is missing"
        if reason:
            raise VideoError(path, reason)
        return path

    def header(self, file: str) -> Header:
        """Returns what is known of a video, from its header alone."""
        try:
            path = self.path(file)
            made = self.cache.get(
                content_key(path, "header", 1), ".json",
                lambda new: _write_header(path, new, self._turn),
            )  # fmt: skip
            return Header(**json.loads(made.read_text("utf-8")))
        except DataError as error:
            return Header(fault=str(getattr(error, "reason", error)))
        except (OSError, TypeError, ValueError) as error:
            return Header(fault=f"{error}")

    def pictures(
        self, file: str, start: float | None, end: float | None
    ) -> Path:
        """Returns a strip of pictures of a video or a part, as JPEG.

        Args:
            file: str. The video.
            start: float or None. Where the part begins, in seconds.
            end: float or None. Where it ends.

        Raises:
            DataError: If it can't be decoded.
        """
        path, header = self.path(file), self.header(file)
        if header.fault:
            raise VideoError(path, header.fault)
        first = start or 0.0
        last = end if end is not None else header.seconds
        span = (first, max(last, first))
        return self.cache.get(
            content_key(path, "pictures", 2, *span), ".jpg",
            lambda new: self._draw(path, span, new),
        )  # fmt: skip

    def piece(self, file: str, number: int) -> Path:
        """Returns half a minute of a video, in a form that every browser plays.

        Args:
            file: str. The video.
            number: int. Which half of a minute, from 0.

        Raises:
            DataError: If there is nothing there that can be decoded.
        """
        path = self.path(file)
        return self.cache.get(
            content_key(path, "piece", 2, number), ".mp4",
            lambda new: self._copy(path, number, new),
        )  # fmt: skip

    def _draw(self, path: Path, span: tuple[float, float], new: Path) -> None:
        with self._turn:
            frames = _frames(path, *span)
        if not frames:
            raise VideoError(path, "no picture of it can be decoded")
        frames += frames[-1:] * (NUM_PICTURES - len(frames))
        strip = cv2.cvtColor(np.concatenate(frames, axis=1), cv2.COLOR_RGB2BGR)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 72]
        new.write_bytes(cv2.imencode(".jpg", strip, quality)[1].tobytes())

    def _copy(self, path: Path, number: int, new: Path) -> None:
        command = [
            *_input(path, _PIECE_LIMIT_SECONDS, number * PIECE_SECONDS),
            *("-t", f"{PIECE_SECONDS}", "-map", "0:V:0", "-map", "0:a:0?"),
            *("-sn", "-dn", "-vf"),
            "scale=w='trunc(min(960,iw)/2)*2':h=-2,setsar=1",
            *("-c:v", "libx264", "-preset", "veryfast", "-crf", "25"),
            *("-threads", "2", "-g", "24", "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart"),
            *("-f", "mp4", "-y", f"file:{new}"),
        ]
        with self._turn:
            run(command, timeout_seconds=_PIECE_LIMIT_SECONDS)
        # A damaged video is shown up to its damage.
        if not new.is_file() or not _has_pictures(new):
            raise VideoError(path, "nothing can be decoded there")


def media_type(path: Path) -> str:
    """Returns what the browser is to take a video for."""
    return _TYPES.get(path.suffix.lower(), "application/octet-stream")


def _has_pictures(path: Path) -> bool:
    try:
        return probe(path).duration_seconds > 0
    except VideoError:
        return False


def _write_header(
    path: Path, new: Path, turn: threading.BoundedSemaphore
) -> None:
    with turn:
        info = probe(path, timeout_seconds=_PICTURE_SECONDS)
    header = Header(
        info.duration_seconds, info.fps if 0 < info.fps < 1000 else 25.0,
        _is_playable(path, info), _in_words(info),
    )  # fmt: skip
    new.write_text(json.dumps(dataclasses.asdict(header)), "utf-8")


def _is_playable(path: Path, info: VideoInfo) -> bool:
    """Returns whether every browser of today plays the file itself."""
    plain = info.pixel_format.startswith(("yuv420p", "yuvj420p"))
    deep = info.pixel_format.startswith("yuv420p1")
    known = info.codec in _PLAYABLE.get(info.container, ())
    return known and plain and not deep and path.suffix.lower() in _TYPES


def _in_words(info: VideoInfo) -> str:
    size = f"{info.width} x {info.height}" if info.width else ""
    rate = f"{info.fps:.4g}/s" if info.fps else ""
    return ", ".join(filter(None, (info.codec, size, rate)))


def _input(path: Path, seconds: float, start: float) -> list[str]:
    """Returns the input of a command that begins at a moment.

    Unlike for training, what follows a damage is shown as well.
    """
    options = ("-ss", f"{start:.3f}") if start > 0 else ()
    return [x for x in input_command(path, seconds, *options) if x != "-xerror"]


def _frames(path: Path, start: float, end: float) -> list[Frames]:
    """Returns pictures at equal distances."""
    span = end - start
    if 0 < span <= _SHORT_SECONDS:
        rate = NUM_PICTURES / span
        return _decoded(
            path, start, ("-t", f"{span:.3f}"), f"fps={rate:.6f}:round=up,"
        )
    if span <= 0:  # of unknown length: its beginning
        return _decoded(path, start, ("-t", f"{_SHORT_SECONDS}"), "fps=1,")
    found: list[Frames] = []
    for number in range(NUM_PICTURES):
        moment = start + span * (number + 0.5) / NUM_PICTURES
        found += _decoded(path, moment, (), "", number=1)
    return found


def _decoded(
    path: Path,
    start: float,
    options: tuple[str, ...],
    filters: str,
    *,
    number: int = NUM_PICTURES,
) -> list[Frames]:
    """Decodes up to some pictures, each of the size of a tile."""
    size = f"{WIDTH}:{HEIGHT}"
    shape = (
        f"{filters}scale=w='if(gte(dar,{WIDTH}/{HEIGHT}),{WIDTH},"
        f"max(1,round({HEIGHT}*dar)))':h='if(gte(dar,{WIDTH}/{HEIGHT}),"
        f"max(1,round({WIDTH}/dar)),{HEIGHT})':flags=bilinear,setsar=1,"
        f"pad={size}:(ow-iw)/2:(oh-ih)/2:color={_BACKGROUND}"
    )
    command = _input(path, _PICTURE_SECONDS, start)
    if number == 1:  # the nearest key frame is near enough
        command.insert(command.index("-i"), "-noaccurate_seek")
    command += [
        *options, *("-map", "0:V:0", "-an", "-sn", "-dn", "-vf", shape),
        *("-frames:v", f"{number}", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        "pipe:1",
    ]  # fmt: skip
    data = run(command, timeout_seconds=_PICTURE_SECONDS).stdout
    bytes_each = WIDTH * HEIGHT * 3
    count = math.floor(len(data) / bytes_each)
    flat = np.frombuffer(data[: count * bytes_each], np.uint8)
    return [*flat.reshape(count, HEIGHT, WIDTH, 3)]
