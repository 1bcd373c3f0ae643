"""Decodes videos into the store: one ffmpeg per core, one shard each."""

import contextlib
import hashlib
import math
import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from har_keras.environment import num_cores
from har_keras.errors import EnvironmentFault
from har_keras.files import passing_file, publish, remove_leftovers
from har_keras.manifest.manifest import content_hash
from har_keras.progress import ProgressBar
from har_keras.store.shards import (
    THUMBNAIL_PIXELS,
    THUMBNAIL_STRIDE,
    StoredVideo,
    Thumbnails,
    thumbnail,
    write_index,
)
from har_keras.store.store import (
    Store,
    StoreSpec,
    encode_jpeg,
    removal_named,
)
from har_keras.video.commands import ffmpeg_id
from har_keras.video.ffmpeg import FrameReader, Frames, VideoError
from har_keras.video.images import images_in, read_video

# Bytes of video files per shard, which bounds the work lost on each core when
# the process is killed. Few videos make smaller shards, to use all cores.
_SHARD_BYTES = 128 * 2**20
_FEWEST_SHARDS = 64
_STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Task:
    """A file to decode, and the expected hash of its content."""

    sha256: str
    path: Path


class Stop:
    """Ends decoding in all threads, also those that wait for a frame."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._readers: set[FrameReader] = set()

    def set(self) -> None:
        """Stops all readers, now and later."""
        self._event.set()
        with self._lock:
            readers = set(self._readers)
        for reader in readers:
            reader.stop()

    def is_set(self) -> bool:
        """Returns whether `set` was called."""
        return self._event.is_set()

    @contextlib.contextmanager
    def stopping(self, reader: FrameReader) -> Iterator[None]:
        """Lets `set` stop a reader meanwhile."""
        with self._lock:
            self._readers.add(reader)
        try:
            if self.is_set():
                reader.stop()
            yield
        finally:
            with self._lock:
                self._readers.discard(reader)


class Fill(Protocol):
    """A function that decodes files into a store, such as `fill`."""

    def __call__(
        self,
        store: Store,
        tasks: Sequence[Task],
        *,
        workers: int = 0,
        timeout_seconds: float,
    ) -> dict[str, str]:
        """Decodes the files that are not in the store."""


def fill(
    store: Store,
    tasks: Sequence[Task],
    *,
    workers: int = 0,
    timeout_seconds: float,
    advance: Callable[[], object] | None = None,
) -> dict[str, str]:
    """Decodes the files that are not in a store yet.

    Finished shards are kept: an interrupted call is resumed by the next, and
    concurrent calls are safe. The resulting files are identical, byte for
    byte, whoever writes them and however often decoding was interrupted.

    Args:
        store: Store. Includes the new videos afterwards.
        tasks: Sequence of Task. All files that the store should have.
        workers: int. Files decoded at once; 0 is one per processor core.
        timeout_seconds: float. Limit for one file.
        advance: Callable or None. Called after each file, by any thread.

    Returns:
        Reasons by hash, of files that can't be used. Permanent ones are also
        in the store; others, such as timeouts, may not recur.

    Raises:
        EnvironmentFault: If the disk is full or can't be written to.
    """
    shards = planned_shards(store, tasks)
    if not shards:
        return {}
    number = min(workers or num_cores(), len(shards))
    stopped = Stop()
    with (
        ProgressBar("Decoding", total=sum(map(len, shards))) as bar,
        ThreadPoolExecutor(number) as pool,
        _ending(pool, stopped),
    ):

        def counted() -> None:
            bar.advance()
            if advance:
                advance()

        def write(tasks: Sequence[Task]) -> dict[str, str]:
            try:
                return write_shard(
                    store.folder,
                    store.spec,
                    tasks,
                    timeout_seconds=timeout_seconds,
                    advance=counted,
                    stopped=stopped,
                )
            except BaseException:
                stopped.set()  # ends the other threads
                raise

        futures = [pool.submit(write, shard) for shard in shards]
        found = [future.result() for future in as_completed(futures)]
    store.refresh()
    return {k: v for reasons in found for k, v in reasons.items()}


def planned_shards(
    store: Store, tasks: Sequence[Task]
) -> list[tuple[Task, ...]]:
    """Divides the files that are missing in a store into shards.

    The shards follow from all files, so that a resumed call writes the same
    shards.

    Args:
        store: Store. Its folder is created.
        tasks: Sequence of Task. All files that the store should have.

    Returns:
        list of tuple of Task, the largest first, so that all cores finish at
        about the same time.

    Raises:
        EnvironmentFault: If the folder can't be written to.
    """
    if store.folder.is_dir():
        remove_leftovers(store.folder, older_than_seconds=_STALE_SECONDS)
    if all(task.sha256 in store for task in tasks):
        return []
    _make_folder(store.folder)
    sizes = {task: _size(task) for task in tasks}
    full = min(_SHARD_BYTES, sum(sizes.values()) / _FEWEST_SHARDS)
    shards: list[list[Task]] = []
    held = math.inf
    for task in sorted(tasks, key=lambda task: task.sha256):
        if held >= full:
            shards.append([])
            held = 0
        shards[-1].append(task)
        held += sizes[task]
    missing = [
        tuple(task for task in shard if task.sha256 not in store)
        for shard in shards
    ]
    return sorted(
        filter(None, missing),
        key=lambda shard: sum(sizes[task] for task in shard),
        reverse=True,
    )


@contextlib.contextmanager
def _ending(pool: ThreadPoolExecutor, stopped: Stop) -> Iterator[None]:
    """Stops all threads when the block is left, also by Ctrl-C."""
    try:
        yield
    finally:
        stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


def write_shard(
    folder: Path,
    spec: StoreSpec,
    tasks: Sequence[Task],
    *,
    timeout_seconds: float,
    advance: Callable[[], object] | None = None,
    stopped: Stop | None = None,
) -> dict[str, str]:
    """Decodes files into one shard, which is published when it is complete.

    Its name is the hash of its content, so that writing it twice is harmless.

    Args:
        folder: Path. The folder of a store, which exists.
        spec: StoreSpec. Size, rate and form of its frames.
        tasks: Sequence of Task. The files, in the order of the shard.
        timeout_seconds: float. Limit for one file.
        advance: Callable or None. Called after each file.
        stopped: Stop or None. If set, decoding ends and nothing is
            written.

    Returns:
        Reasons by hash, of files that can't be used; as for `fill`.

    Raises:
        EnvironmentFault: If the disk is full, or the folder was removed.
    """
    reasons: dict[str, str] = {}
    videos: list[StoredVideo] = []
    with (
        removal_named(folder),
        passing_file(folder / "shard.bin") as shard,
        passing_file(folder / "shard.npz") as index,
    ):
        with shard.open("wb") as file:
            for task in tasks:
                if stopped and stopped.is_set():
                    return {}
                video = _decoded(task, file, spec, timeout_seconds, stopped)
                if stopped and stopped.is_set():
                    return {}
                if isinstance(video, StoredVideo):
                    videos.append(video)
                    reason = video.reason
                else:
                    reason = video
                if reason:
                    reasons[task.sha256] = reason
                if advance:
                    advance()
        if videos:
            write_index(index, videos)
            name = _hash_of(shard, index)
            publish(shard, folder / f"{name}.bin")
            publish(index, folder / f"{name}.npz")
    return reasons


def _hash_of(*files: Path) -> str:
    """Returns a hash of the contents of files."""
    hashes = [content_hash(file) for file in files]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:32]


def _decoded(
    task: Task,
    file: BinaryIO,
    spec: StoreSpec,
    timeout_seconds: float,
    stopped: Stop | None,
) -> StoredVideo | str:
    """Appends a video's frames; returns its entry, or a temporary reason."""
    begin = file.tell()
    if content_hash(task.path) != task.sha256:
        return "its content changed, or it was removed"
    try:
        return _append(task, file, spec, timeout_seconds, stopped)
    except VideoError as error:
        file.seek(begin)
        file.truncate()
        if error.passing:
            return error.reason
        return StoredVideo(
            task.sha256, reason=error.reason, decoder=ffmpeg_id()
        )


def _append(
    task: Task,
    file: BinaryIO,
    spec: StoreSpec,
    timeout_seconds: float,
    stopped: Stop | None,
) -> StoredVideo:
    """Appends a video's frames, until `stopped` is set."""
    writer = _FrameWriter(file, spec)
    reading = read_video(
        task.path,
        images_fps=spec.images_fps,
        fps=spec.fps,
        short_side=spec.short_side,
        squeeze=spec.squeeze,
        timeout_seconds=timeout_seconds,
    )
    with (
        reading as reader,
        stopped.stopping(reader) if stopped else contextlib.nullcontext(),
    ):
        for frame in reader:
            writer.add(frame)
            if stopped and stopped.is_set():
                break
        height, width = frame.shape[:2]
        return StoredVideo(
            task.sha256,
            height=height,
            width=width,
            damage=reader.damage,
            note=reader.note,
            variable_rate=reader.variable_rate,
            source_frames=reader.source_frames,
            info=reader.info,
            offsets=writer.offsets,
            sizes=writer.sizes,
            thumbnails=writer.thumbnails,
        )


class _FrameWriter:
    """Writes frames one after the other; repeated frames are stored once.

    A frame that is held for hours takes a few bytes a repeat.
    """

    def __init__(self, file: BinaryIO, spec: StoreSpec) -> None:
        self._offsets, self._sizes = array("q"), array("i")
        self._thumbnails = bytearray()
        self._file = file
        self._spec = spec
        self._end = file.tell()
        self._last: Frames | None = None
        self._thumbnail = b""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each frame begins, in bytes."""
        return np.frombuffer(self._offsets, np.int64)

    @property
    def sizes(self) -> NDArray[np.int32]:
        """The size of each frame, in bytes."""
        return np.frombuffer(self._sizes, np.int32)

    @property
    def thumbnails(self) -> Thumbnails:
        """Thumbnails of every second frame."""
        size = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
        return np.frombuffer(self._thumbnails, np.uint8).reshape(-1, *size)

    def add(self, frame: Frames) -> None:
        """Appends a frame."""
        again = self._is_last(frame)
        if not again:
            self._thumbnail = b""
        if len(self._offsets) % THUMBNAIL_STRIDE == 0:
            self._thumbnail = self._thumbnail or thumbnail(frame).tobytes()
            self._thumbnails += self._thumbnail
        if again:
            self._offsets.append(self._offsets[-1])
            self._sizes.append(self._sizes[-1])
            return
        data = frame if self._spec.form == "raw" else encode_jpeg(frame)
        self._file.write(data.data)
        self._offsets.append(self._end)
        self._sizes.append(data.nbytes)
        self._end += data.nbytes
        self._last = frame

    def _is_last(self, frame: Frames) -> bool:
        return frame is self._last or (
            self._last is not None and np.array_equal(frame, self._last)
        )


def _size(task: Task) -> int:
    try:
        if task.path.is_dir():
            return sum(file.stat().st_size for file in images_in(task.path))
        return task.path.stat().st_size
    except OSError:
        return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise EnvironmentFault(
            f"The frame store '{folder}' can't be written to. Choose another "
            "folder with --store-dir."
        )
