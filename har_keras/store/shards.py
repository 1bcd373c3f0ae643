"""Shards of the store: reading and writing the index of videos."""

import json
import logging
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.errors import reason_of
from har_keras.files import open_regular, require_regular
from har_keras.video.ffmpeg import Frames
from har_keras.video.ffmpeg_log import VideoInfo

logger = logging.getLogger(__name__)

Thumbnails = NDArray[np.uint8]

THUMBNAIL_PIXELS = 16
THUMBNAIL_STRIDE = 2
"""Stored frames from one thumbnail to the next."""

_HEADER = asdict(VideoInfo())
_COUNTED = {"source_frames": 0, "variable_rate": False}
_TEXTS = ("sha256", "damage", "reason", "note", "decoder")


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


def read_index(path: Path) -> list[StoredVideo]:
    """Reads the index of a shard.

    Returns:
        Its videos; none, with a warning, if the index or the frames are
        missing or damaged, so that the videos are decoded again.
    """
    shard = path.with_suffix(".bin")
    try:
        with (
            open_regular(path) as file,
            np.load(file, allow_pickle=False) as index,
        ):
            words = json.loads(index["videos"].tobytes())
            offsets, sizes = index["offsets"], index["sizes"]
            shape = _shape_of_thumbnails(index)
        _require_sense(words, offsets, sizes)
        if shape[0] != sum(item["num_thumbnails"] for item in words):
            raise ValueError("thumbnails are missing")
        require_regular(shard)
        if len(offsets) and shard.stat().st_size < int((offsets + sizes).max()):
            raise ValueError(f"{shard.name} is too short")
        return _videos_from_index(words, offsets, sizes, shard)
    except (
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        RecursionError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        logger.warning(
            "'%s' is left out of the store: %s.", path, reason_of(error)
        )
        return []


def _shape_of_thumbnails(index: Any) -> tuple[int, ...]:
    """Returns the shape of the thumbnails, which are read when needed.

    Raises:
        ValueError: If they are none.
    """
    with index.zip.open("thumbnails.npy") as opened:
        np.lib.format.read_magic(opened)
        shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
    size = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
    if dtype != np.uint8 or tuple(shape[1:]) != size:
        raise ValueError("its thumbnails are none")
    return tuple(shape)


def _require_sense(
    words: list[dict[str, Any]],
    offsets: NDArray[np.int64],
    sizes: NDArray[np.int32],
) -> None:
    """Raises `ValueError` for what no index of ours says."""
    numbers = ("num_frames", "num_thumbnails", "height", "width")
    for item in words:
        if not all(type(item[x]) is int and item[x] >= 0 for x in numbers):
            raise ValueError("a size is none")
        if (
            item["num_frames"]
            and not 0 < item["height"] * item["width"] < 2**32
        ):
            raise ValueError("frames have no size")
        if not all(isinstance(item[x], str) for x in _TEXTS):
            raise ValueError("a text is none")
        _require_types(_HEADER, item["info"])
        _require_types(_COUNTED, item)
    if sum(item["num_frames"] for item in words) != len(offsets):
        raise ValueError("frames are missing")
    for places in (offsets, sizes):
        if places.dtype.kind not in "iu" or (places < 0).any():
            raise ValueError("a place is none")


def _require_types(
    examples: Mapping[str, object], found: Mapping[str, Any]
) -> None:
    """Raises `ValueError` if a value is of another type than its example."""
    for name, example in examples.items():
        value = found.get(name, example)
        is_number = type(example) is float and type(value) is int
        if type(value) is not type(example) and not is_number:
            raise ValueError(f"{name} is none")
        if type(value) is float and not math.isfinite(value):
            raise ValueError(f"{name} is not finite")


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
        info = VideoInfo(**item.pop("info"))
        videos.append(
            StoredVideo(
                **item,
                info=info,
                offsets=offsets[begin:end],
                sizes=sizes[begin:end],
                shard=shard,
            )
        )
        begin = end
    return videos


def read_thumbnails(path: Path) -> dict[str, Thumbnails]:
    """Reads the thumbnails of a shard's videos, by hash.

    Returns:
        `uint8` arrays of shape `(N, 16, 16)`, gray, of every second frame.
    """
    with path.open("rb") as file, np.load(file, allow_pickle=False) as index:
        words = json.loads(index["videos"].tobytes())
        thumbnails = index["thumbnails"]
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
