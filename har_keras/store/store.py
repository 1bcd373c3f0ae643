"""The frame store: videos are decoded once, with random access to frames.

A store is a folder of shards. A shard is a file of frames, `<name>.bin`, and
its index, `<name>.npz`, which is written last: a shard without an index is
ignored. Shards are named by the hash of their content, so any number of
processes and machines may write to one folder. Videos are identified by the
hash of their content: a renamed file is still found, a changed file is decoded
anew.
"""

import contextlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import platformdirs
from numpy.typing import NDArray

from har_keras.config import Form
from har_keras.errors import EnvironmentFault
from har_keras.files import temporary_prefix
from har_keras.store.shards import (
    StoredVideo,
    Thumbnails,
    read_index,
    read_thumbnails,
)
from har_keras.video.commands import ffmpeg_id
from har_keras.video.ffmpeg import Frames

JPEG_QUALITY = 90
"""39 dB against the resized source, at a tenth of the raw size."""

_FORMAT_VERSION = 2
# A range is read at once if it has at most this many times the wanted bytes.
_LARGEST_WASTE = 4


@dataclass(frozen=True)
class StoreSpec:
    """Size, rate and form of stored frames; each spec has its own store.

    Args:
        short_side: int. Short side of stored frames in pixels.
        fps: float. Stored frames per second.
        form: str. "jpeg" or "raw".
        squeeze: bool. Whether frames are squares. Defaults to `False`.
        images_fps: float. Images per second of folders of images. Defaults to
            `25.0`.
    """

    short_side: int
    fps: float
    form: Form
    squeeze: bool = False
    images_fps: float = 25.0

    @property
    def key(self) -> str:
        """The name of the store's folder.

        Example:

        >>> StoreSpec(short_side=128, fps=16.0, form="jpeg").key
        '128px-16fps-jpeg90-v2'
        """
        form = f"jpeg{JPEG_QUALITY}" if self.form == "jpeg" else "raw"
        size = f"{self.short_side}px{'-square' if self.squeeze else ''}"
        is_usual = self.images_fps == StoreSpec.images_fps
        images = "" if is_usual else f"-{self.images_fps:g}images"
        return f"{size}-{self.fps:g}fps{images}-{form}-v{_FORMAT_VERSION}"


class Store:
    """Reads frames of videos by the hash of their content. Thread-safe.

    Args:
        folder: Path. The folder of a `StoreSpec`; it need not exist.
        spec: StoreSpec. Size, rate and form of its frames.
    """

    def __init__(self, folder: Path, spec: StoreSpec) -> None:
        self.folder = folder
        self.spec = spec
        self._videos: dict[str, StoredVideo] = {}
        self._seen: dict[str, int] = {}
        self.refresh()

    @classmethod
    def passing(cls, spec: StoreSpec) -> "Store":
        """Returns a temporary store, deleted with its last reference."""
        folder = Path(tempfile.mkdtemp(prefix=temporary_prefix()))
        store = cls(folder, spec)
        weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return store

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._videos

    def __iter__(self) -> Iterator[str]:
        return iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)

    def video(self, sha256: str) -> StoredVideo:
        """Returns the entry of a video.

        Raises:
            KeyError: If it isn't in the store.
        """
        return self._videos[sha256]

    def num_frames(self, sha256: str) -> int:
        """Returns the number of stored frames of a video."""
        return self._videos[sha256].num_frames

    def frames(self, key: str, indices: NDArray[np.int64]) -> Frames:
        """Reads frames of a video, or of a part of one.

        Args:
            key: str. Hash of the video's content, and of a part its frames:
                the `key` of a `Video`.
            indices: `int64` array of shape `(T,)`. Stored frames, counted
                from the first of the video or part; repeats are allowed.

        Returns:
            `uint8` array of shape `(T, H, W, 3)` in RGB.

        Raises:
            KeyError: If the video isn't in the store.
            IndexError: If it has no such frame.
            EnvironmentFault: If the store was removed while it was in use.
        """
        lazy = self.lazy_frames(key, indices)
        frames = np.empty(lazy.shape, np.uint8)
        for place, frame in enumerate(lazy):
            frames[place] = frame
        return frames

    def lazy_frames(self, key: str, indices: NDArray[np.int64]) -> "LazyFrames":
        """Returns frames of a video that are read lazily, one by one.

        Args:
            key: str. As for `frames`.
            indices: `int64` array of shape `(T,)`. As for `frames`.

        Returns:
            `LazyFrames`.

        Raises:
            KeyError: If the video isn't in the store.
            IndexError: If it has no such frame.
        """
        sha256, part = _part_of(key)
        video = self._videos[sha256]
        number = len(part) if part else video.num_frames
        if (
            len(indices)
            and not 0 <= np.min(indices) <= np.max(indices) < number
        ):
            raise IndexError(
                f"Frames are counted from 0 to {number - 1}. Received: "
                f"{np.min(indices)} to {np.max(indices)}."
            )
        first = part.start if part else 0
        return LazyFrames(video, self.spec.form, np.asarray(indices) + first)

    def thumbnails(self, hashes: Iterable[str]) -> dict[str, Thumbnails]:
        """Reads the thumbnails of videos, used to find duplicates.

        Args:
            hashes: Iterable of str. Hashes of videos' contents.

        Returns:
            `uint8` arrays of shape `(N, 16, 16)`, gray, of every second
            stored frame, by hash.
        """
        wanted = set(hashes)
        shards = {self._videos[sha256].shard for sha256 in wanted}
        found: dict[str, Thumbnails] = {}
        for shard in shards - {None}:
            assert shard is not None
            with removal_named(shard.parent):
                found |= read_thumbnails(shard.with_suffix(".npz"))
        return {sha256: found[sha256] for sha256 in wanted}

    def refresh(self) -> None:
        """Reads the indices of shards that were written since."""
        for index in sorted(self.folder.glob("[!.]*.npz")):
            number = _file_number(index)
            if self._seen.get(index.name) != number:
                self._seen[index.name] = number
                for video in read_index(index, is_raw=self.spec.form == "raw"):
                    self._add(video)

    def drop_missing(self) -> None:
        """Forgets the videos whose shards were removed since."""
        shards = {video.shard for video in self._videos.values()}
        gone = {x for x in shards if x and not _is_whole(x)}
        for shard in gone:
            self._seen.pop(shard.with_suffix(".npz").name, None)
        self._videos = {
            key: video
            for key, video in self._videos.items()
            if video.shard not in gone
        }

    def _add(self, video: StoredVideo) -> None:
        """Takes an entry, unless it says what another ffmpeg could not do."""
        if not video.reason:
            self._videos[video.sha256] = video
        elif video.decoder == ffmpeg_id():
            self._videos.setdefault(video.sha256, video)


def _file_number(index: Path) -> int:
    """Returns the number of a file, which a new one of its name has not.

    A shard whose frames were lost is written again under the same name.
    """
    try:
        return index.stat().st_ino
    except OSError:  # removed meanwhile
        return 0


def _is_whole(shard: Path) -> bool:
    """Whether a shard has its index, and its frames if it has any."""
    return shard.with_suffix(".npz").is_file() and shard.is_file()


def _part_of(key: str) -> tuple[str, range | None]:
    """Returns the hash in the key of a video, and the frames of a part.

    Example:

    >>> _part_of("1f3a"), _part_of("1f3a@16-32")
    (('1f3a', None), ('1f3a', range(16, 32)))
    """
    sha256, _, frames = key.partition("@")
    first, _, end = frames.partition("-")
    return sha256, range(int(first), int(end)) if frames else None


class LazyFrames:
    """An iterable over frames of a stored video, each read on demand.

    A frame is valid until the next one is read, since its memory may be
    reused.

    Args:
        video: StoredVideo. The video.
        form: str. "jpeg" or "raw".
        indices: `int64` array of shape `(T,)`. Stored frames.
    """

    def __init__(
        self, video: StoredVideo, form: Form, indices: NDArray[np.int64]
    ) -> None:
        self.shape = (len(indices), video.height, video.width, 3)
        self._video = video
        self._each = _each_raw if form == "raw" else _each_jpeg
        self._offsets: list[int] = video.offsets[indices].tolist()
        self._sizes: list[int] = video.sizes[indices].tolist()

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Frames]:
        shard = self._video.shard
        assert shard is not None
        with _opened(shard) as file:
            yield from self._each(
                file, self._offsets, self._sizes, self.shape[1:]
            )


@contextlib.contextmanager
def removal_named(folder: Path) -> Iterator[None]:
    """Says that a frame store was removed, where a file of it is missing.

    Args:
        folder: Path. That of the store.

    Raises:
        EnvironmentFault: In place of `FileNotFoundError`.
    """
    try:
        yield
    except FileNotFoundError as error:
        file = Path(os.fsdecode(error.filename or ""))
        if folder != file and folder not in file.parents:
            raise
        raise removed(folder) from error


def removed(folder: Path) -> EnvironmentFault:
    """Returns the exception for a store that was removed while it was used."""
    return EnvironmentFault(
        f"The frame store '{folder}' was removed while it was in use. Your "
        "videos are unharmed and are decoded again: start again, or go on with "
        "a training that had begun by har-keras train --resume RUN."
    )


def _opened(shard: Path) -> Any:
    """Opens a file of the store for reading.

    Raises:
        EnvironmentFault: If it is gone.
    """
    with removal_named(shard.parent):
        return open(shard, "rb", buffering=0)


def _each_raw(
    file: Any, offsets: list[int], sizes: list[int], shape: tuple[int, ...]
) -> Iterator[Frames]:
    frame = np.empty(shape, np.uint8)
    for offset in offsets:
        file.seek(offset)
        if file.readinto(frame) != frame.nbytes:
            raise OSError(f"'{file.name}' is shorter than its index says.")
        yield frame


def _each_jpeg(
    file: Any, offsets: list[int], sizes: list[int], shape: tuple[int, ...]
) -> Iterator[Frames]:
    begin = min(offsets, default=0)
    span = max(map(sum, zip(offsets, sizes, strict=True)), default=0) - begin
    window = None
    if span <= _LARGEST_WASTE * sum(sizes):
        # One read for all frames: unwanted bytes cost less than more calls.
        file.seek(begin)
        window = np.frombuffer(file.read(span), np.uint8)
    last, frame = None, np.empty(shape, np.uint8)
    for offset, size in zip(offsets, sizes, strict=True):
        if offset != last:
            if window is None:
                file.seek(offset)
                data = np.frombuffer(file.read(size), np.uint8)
            else:
                data = window[offset - begin : offset - begin + size]
            decoded, last = decode_jpeg(data), offset
            if decoded.shape != shape:
                raise OSError(_DAMAGED_FRAME)
            frame = decoded
        yield frame


def encode_jpeg(frame: Frames) -> NDArray[np.uint8]:
    """Encodes a frame, `uint8` `(H, W, 3)` in RGB, as a JPEG."""
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(
        ".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    assert done
    return data


_DAMAGED_FRAME = (
    "A stored frame is damaged. Remove the store and prepare again."
)


def decode_jpeg(data: NDArray[np.uint8]) -> Frames:
    """Decodes a JPEG to a frame in RGB.

    Raises:
        OSError: If the data is not an image.
    """
    frame = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    if frame is None:
        raise OSError(_DAMAGED_FRAME)
    return np.asarray(frame, np.uint8)


def default_store_dir() -> Path:
    """Returns the folder `har_keras` in the user's cache folder."""
    return platformdirs.user_cache_path(
        "har_keras", appauthor=False, opinion=False
    )
