"""Filling the store: one ffmpeg per core, each writing shards of its own."""

import contextlib
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from har_keras.errors import EnvironmentFault
from har_keras.files import whole_file
from har_keras.progress import ProgressBar
from har_keras.video.ffmpeg import VideoError, read_frames
from har_keras.video.manifest import content_hash
from har_keras.video.shards import (
    THUMBNAIL_STRIDE,
    Frames,
    StoredVideo,
    Thumbnails,
    thumbnail,
    write_index,
)
from har_keras.video.store import Store, StoreSpec, encode_jpeg

# A shard is closed when it holds so much or was open for so long: what a
# killed program can lose.
_SHARD_BYTES = 256 * 2**20
_SHARD_SECONDS = 60.0
_STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Task:
    """A file to decode, and the hash that its content should have."""

    sha256: str
    path: Path


def fill(
    store: Store,
    tasks: Sequence[Task],
    *,
    workers: int = 0,
    timeout_seconds: float,
    title: str = "Decoding",
) -> dict[str, str]:
    """Decodes files into a store.

    What was finished stays, whatever happens: an interrupted filling goes on
    where it stopped, and two at once do no harm.

    Args:
        store: Store. Its new videos can be read afterwards.
        tasks: Sequence of Task. Files that the store doesn't have.
        workers: int. Files decoded at once; 0 is one per processor core.
        timeout_seconds: float. Limit for one file.
        title: str. What the progress bar says.

    Returns:
        Reasons by hash, of files that weren't decoded this time but might be
        another time. Lasting reasons are in the store.

    Raises:
        EnvironmentFault: If the disk is full or can't be written to.
    """
    if not tasks:
        return {}
    _make_folder(store.folder)
    _remove_stale(store.folder)
    # The largest first, so that no core ends up alone with it.
    work = _Work(sorted(tasks, key=_size, reverse=True))
    number = min(workers or num_cores(), len(tasks))
    with (
        ProgressBar(title, total=len(tasks)) as bar,
        ThreadPoolExecutor(number) as pool,
        work.stopped_on_exit(),
    ):
        fillers = [
            _Filler(store, work, bar, timeout_seconds) for _ in range(number)
        ]
        for future in [pool.submit(filler.run) for filler in fillers]:
            future.result()
    store.refresh()
    return {k: v for filler in fillers for k, v in filler.passing.items()}


def num_cores() -> int:
    """Returns how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Work:
    """What is left to do, handed out to threads."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = deque(tasks)
        self.stopped = threading.Event()

    def next(self) -> Task | None:
        """Returns a task, or None if all are taken or it was stopped."""
        with contextlib.suppress(IndexError):
            if not self.stopped.is_set():
                return self._tasks.popleft()
        return None

    @contextlib.contextmanager
    def stopped_on_exit(self) -> Iterator[None]:
        """Ends every thread's work when the block is left, by Ctrl-C too."""
        try:
            yield
        finally:
            self.stopped.set()


class _Filler:
    """One thread's part: decodes task after task into shards of its own."""

    def __init__(
        self,
        store: Store,
        work: _Work,
        bar: ProgressBar,
        timeout_seconds: float,
    ) -> None:
        self.passing: dict[str, str] = {}
        self._spec = store.spec
        self._folder = store.folder
        self._work = work
        self._bar = bar
        self._timeout_seconds = timeout_seconds

    def run(self) -> None:
        """Works until there is no task left."""
        try:
            while task := self._work.next():
                self._write_shard(task)
        except BaseException:
            self._work.stopped.set()
            raise

    def _write_shard(self, first: Task) -> None:
        """Writes one shard that begins with a task, and goes on to others."""
        name = uuid.uuid4().hex
        began = time.monotonic()
        videos: list[StoredVideo] = []
        with (
            whole_file(self._folder / f"{name}.bin") as shard,
            shard.open("wb") as file,
        ):
            task: Task | None = first
            while task:
                videos += self._decode(task, file)
                full = file.tell() > _SHARD_BYTES
                old = time.monotonic() - began > _SHARD_SECONDS
                task = None if full or old else self._work.next()
        with whole_file(self._folder / f"{name}.npz") as index:
            write_index(index, videos)

    def _decode(self, task: Task, file: BinaryIO) -> list[StoredVideo]:
        """Appends a video's frames; returns its entry, or none."""
        begin = file.tell()
        if content_hash(task.path) != task.sha256:
            self.passing[task.sha256] = "its content changed, or it is gone"
            return []
        try:
            video = self._append(task, file)
        except VideoError as error:
            file.seek(begin)
            file.truncate()
            video = None
            if error.passing:
                self.passing[task.sha256] = error.reason
            else:
                video = StoredVideo(task.sha256, reason=error.reason)
        if video is None:
            return []
        self._bar.advance()
        return [video]

    def _append(self, task: Task, file: BinaryIO) -> StoredVideo | None:
        """Appends a video's frames; None if the work was stopped."""
        writer = _FrameWriter(file, self._spec)
        with read_frames(
            task.path,
            fps=self._spec.fps,
            short_side=self._spec.short_side,
            timeout_seconds=self._timeout_seconds,
        ) as reader:
            for frame in reader:
                writer.add(frame)
                if self._work.stopped.is_set():
                    return None
            height, width = frame.shape[:2]
            return StoredVideo(
                task.sha256,
                height=height,
                width=width,
                damage=reader.damage,
                variable_rate=reader.variable_rate,
                source_frames=reader.source_frames,
                info=reader.info,
                offsets=np.array(writer.offsets, np.int64),
                sizes=np.array(writer.sizes, np.int32),
                thumbnails=np.stack(writer.thumbnails),
            )


class _FrameWriter:
    """Writes frames one after the other, one that stands still only once."""

    def __init__(self, file: BinaryIO, spec: StoreSpec) -> None:
        self.offsets: list[int] = []
        self.sizes: list[int] = []
        self.thumbnails: list[Thumbnails] = []
        self._file = file
        self._spec = spec
        self._end = file.tell()
        self._last: Frames | None = None

    def add(self, frame: Frames) -> None:
        """Appends a frame."""
        if len(self.offsets) % THUMBNAIL_STRIDE == 0:
            self.thumbnails.append(thumbnail(frame))
        if self._last is not None and np.array_equal(frame, self._last):
            self.offsets.append(self.offsets[-1])
            self.sizes.append(self.sizes[-1])
            return
        data = frame if self._spec.form == "raw" else encode_jpeg(frame)
        self._file.write(data.data)
        self.offsets.append(self._end)
        self.sizes.append(data.nbytes)
        self._end += data.nbytes
        self._last = frame


def _size(task: Task) -> int:
    try:
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


def _remove_stale(folder: Path) -> None:
    """Removes what killed programs left half-written, once it is a day old."""
    for path in folder.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()
