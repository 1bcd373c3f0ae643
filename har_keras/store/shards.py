"""Shards of the store: reading and writing the index of videos."""

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.damaged import UNREADABLE
from har_keras.errors import DataError, reason_of
from har_keras.files import open_regular, require_regular
from har_keras.terminal import printable
from har_keras.video.ffmpeg import Frames
from har_keras.video.ffmpeg_log import VideoInfo

logger = logging.getLogger(__name__)

Thumbnails = NDArray[np.uint8]

THUMBNAIL_PIXELS = 16
THUMBNAIL_STRIDE = 2
"""Stored frames from one thumbnail to the next."""

_TEXTS = ("sha256", "damage", "reason", "note", "decoder")
# No number in a header of a video is larger, and no product of two overflows.
_LARGEST = 1e12


@dataclass(frozen=True)
class StoredVideo:
    """The store's entry of a video.

    Args:
        sha256: str. Hash of the file's content.
        height: int. Height of its frames in pixels.
        width: int. Width of its frames in pixels.
        damage: str. Where decoding stopped, such as "truncated at 3.2 s".
        reason: str. Why it has no frames.
        note: str. What else is to be known of its frames, such as that its
            shape changes.
        decoder: str. With a reason, the ffmpeg that failed, as `ffmpeg_id`
            names it: another one may be able to decode the file.
        variable_rate: bool. Whether the source's frames are unevenly spaced.
        source_frames: int. Frames of the source that were decoded.
        info: VideoInfo. The file's header.
        offsets: `int64` array of shape `(num_frames,)`, in bytes. Repeated
            frames share one offset.
        sizes: `int32` array of shape `(num_frames,)`, in bytes.
        shard: Path or None. The file with the frames.
        thumbnails: `uint8` array of shape `(N, 16, 16)`, gray, of every
            second frame. Written with the index, read by `read_thumbnails`.
    """

    sha256: str
    height: int = 0
    width: int = 0
    damage: str = ""
    reason: str = ""
    note: str = ""
    decoder: str = ""
    variable_rate: bool = False
    source_frames: int = 0
    info: VideoInfo = field(default_factory=VideoInfo)
    offsets: NDArray[np.int64] = field(
        default_factory=lambda: np.empty(0, np.int64), repr=False
    )
    sizes: NDArray[np.int32] = field(
        default_factory=lambda: np.empty(0, np.int32), repr=False
    )
    shard: Path | None = None
    thumbnails: Thumbnails = field(
        default_factory=lambda: np.empty((0, 16, 16), np.uint8), repr=False
    )

    @property
    def num_frames(self) -> int:
        """Stored frames; 0 if nothing could be decoded."""
        return len(self.offsets)


def write_index(path: Path, videos: Iterable[StoredVideo]) -> None:
    """Writes the index of a shard, to be read by `read_index`."""
    listed = list(videos)
    words = [
        {
            "sha256": video.sha256,
            "num_frames": video.num_frames,
            "num_thumbnails": len(video.thumbnails),
            "height": video.height,
            "width": video.width,
            "damage": video.damage,
            "reason": video.reason,
            "note": video.note,
            "decoder": video.decoder,
            "variable_rate": video.variable_rate,
            "source_frames": video.source_frames,
            "info": asdict(video.info),
        }
        for video in listed
    ]
    text = json.dumps(words).encode()
    with path.open("wb") as file:
        np.savez(
            file,
            videos=np.frombuffer(text, np.uint8),
            offsets=_joined([video.offsets for video in listed], ()),
            sizes=_joined([video.sizes for video in listed], ()),
            thumbnails=_joined(
                [video.thumbnails for video in listed],
                (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS),
            ),
        )


def _joined(arrays: list[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[Any]:
    """Concatenates arrays of items of a shape; the list may be empty."""
    return np.concatenate(arrays) if arrays else np.empty((0, *shape), np.uint8)


def read_index(path: Path, *, is_raw: bool = False) -> list[StoredVideo]:
    """Reads the index of a shard.

    Args:
        path: Path. The index.
        is_raw: bool. Whether each frame must have three bytes a pixel.
            Defaults to `False`.

    Returns:
        Its videos; none, with a warning, if the index or the frames are
        missing or damaged, so that the videos are decoded again.
    """
    shard = path.with_suffix(".bin")
    try:
        with _arrays(path) as index:
            words = json.loads(index["videos"].tobytes())
            offsets, sizes = index["offsets"], index["sizes"]
            _require_sense(words, offsets, sizes)
            _require_thumbnails(words, index)
        require_regular(shard)
        if len(offsets) and shard.stat().st_size < int((offsets + sizes).max()):
            raise ValueError(f"{shard.name} is too short")
        videos = _videos_from_index(words, offsets, sizes, shard)
        if is_raw and not all(map(_is_raw, videos)):
            raise ValueError("frames have another size")
        return videos
    except UNREADABLE as error:
        logger.warning(
            "'%s' is left out of the store: %s.", path, reason_of(error)
        )
        return []


@contextlib.contextmanager
def _arrays(path: Path) -> Iterator[Any]:
    """Opens the arrays of an index, which take no more than its file."""
    with (
        open_regular(path) as file,
        np.load(file, allow_pickle=False) as index,
    ):
        num_bytes = sum(member.file_size for member in index.zip.infolist())
        if num_bytes > os.fstat(file.fileno()).st_size:
            raise ValueError("it is compressed")
        yield index


def _require_sense(
    words: list[dict[str, Any]],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int32],
) -> None:
    """Raises `ValueError` for what no index of ours says."""
    numbers = ("num_frames", "num_thumbnails", "height", "width")
    for item in words:
        if not all(_is_count(item[x]) for x in (*numbers, "source_frames")):
            raise ValueError("a size is none")
        if (
            item["num_frames"]
            and not 0 < item["height"] * item["width"] < 2**32
        ):
            raise ValueError("frames have no size")
        if not all(isinstance(item[x], str) for x in _TEXTS):
            raise ValueError("a text is none")
        if type(item["variable_rate"]) is not bool:
            raise ValueError("variable_rate is none")
        _require_header(item["info"])
    if sum(item["num_frames"] for item in words) != len(offsets):
        raise ValueError("frames are missing")
    if offsets.ndim != 1 or offsets.shape != sizes.shape:
        raise ValueError("places are missing")
    for places in (offsets, sizes):
        if places.dtype.kind not in "iu" or (places < 0).any():
            raise ValueError("a place is none")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _require_header(info: Mapping[str, Any]) -> None:
    """Raises `ValueError` for what no header of a video says."""
    for name, usual in asdict(VideoInfo()).items():
        value = info.get(name, usual)
        if type(usual) is float and type(value) is int:
            value = float(value)
        if type(value) is not type(usual):
            raise ValueError(f"{name} is none")
        if isinstance(value, int | float) and not 0 <= value < _LARGEST:
            raise ValueError(f"{name} is none")


def _require_thumbnails(words: list[dict[str, Any]], index: Any) -> None:
    """Raises `ValueError` unless there is one of every second frame.

    They are read when they are needed; here only what they are.
    """
    if any(
        item["num_thumbnails"] != -(-item["num_frames"] // THUMBNAIL_STRIDE)
        for item in words
    ):
        raise ValueError("its thumbnails are missing")
    number = sum(item["num_thumbnails"] for item in words)
    with index.zip.open("thumbnails.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, kind = np.lib.format.read_array_header_1_0(member)
    if shape != (number, THUMBNAIL_PIXELS, THUMBNAIL_PIXELS) or kind != "uint8":
        raise ValueError("its thumbnails are others")


def _is_raw(video: StoredVideo) -> bool:
    return bool((video.sizes == 3 * video.height * video.width).all())


def _videos_from_index(
    words: list[dict[str, Any]],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int32],
    shard: Path,
) -> list[StoredVideo]:
    videos, begin = [], 0
    for item in words:
        end = begin + item.pop("num_frames")
        del item["num_thumbnails"]
        info = VideoInfo(**_printable(item.pop("info")))
        videos.append(
            StoredVideo(
                **_printable(item),
                info=info,
                offsets=offsets[begin:end],
                sizes=sizes[begin:end],
                shard=shard,
            )
        )
        begin = end
    return videos


def _printable(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an item with its texts as people may see them."""
    return {
        name: printable(value) if isinstance(value, str) else value
        for name, value in item.items()
    }


def read_thumbnails(path: Path) -> dict[str, Thumbnails]:
    """Reads the thumbnails of a shard's videos, by hash.

    Returns:
        `uint8` arrays of shape `(N, 16, 16)`, gray, of every second frame.

    Raises:
        DataError: If they are damaged.
        FileNotFoundError: If the shard is gone.
    """
    try:
        with _arrays(path) as index:
            words = json.loads(index["videos"].tobytes())
            thumbnails = index["thumbnails"]
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise DataError(
            f"'{path}' of the frame store is damaged ({error}). Remove the "
            "file; its videos are decoded again."
        ) from error
    ends = np.cumsum([item["num_thumbnails"] for item in words])
    parts = np.split(thumbnails, ends[:-1]) if words else []
    return {
        item["sha256"]: part for item, part in zip(words, parts, strict=True)
    }


def thumbnail(frame: Frames) -> Thumbnails:
    """Returns a 16 x 16 grayscale thumbnail of a frame of any size."""
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    size = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
