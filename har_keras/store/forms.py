"""Which form the frame store takes on this machine."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from har_keras.config import ClipConfig, StoreConfig
from har_keras.store.decoding import Task, num_cores
from har_keras.store.store import Form, Store, StoreSpec, default_store_dir
from har_keras.video.ffmpeg import VideoError, probe

# Raw frames read fastest while they stay in memory, so they may take this
# share of what is free of it, and of the disk.
_SHARE_OF_FREE = 0.25
_PROBED_FILES = 24


def open_store(
    clip: ClipConfig, config: StoreConfig, tasks: Sequence[Task]
) -> Store:
    """Opens the store that videos belong in, which may be empty yet.

    With `auto` a form that has all the videos already is taken; else raw, if
    its estimated size is small for this machine, else jpeg.

    Args:
        clip: ClipConfig. Gives size and rate of the frames.
        config: StoreConfig. Gives form and folder.
        tasks: Sequence of Task. The videos.

    Returns:
        A `Store`. With `off` it is one that ends with the program.
    """
    if config.cache == "off":
        return Store.passing(_spec(clip, "jpeg"))
    folder = config.store_dir or default_store_dir()
    if config.cache != "auto":
        return _open(folder, _spec(clip, config.cache))
    for form in ("raw", "jpeg"):
        store = _open(folder, _spec(clip, form))
        if all(task.sha256 in store for task in tasks):
            return store
    form = choose_form(clip, folder, tasks)
    return _open(folder, _spec(clip, form))


def choose_form(clip: ClipConfig, folder: Path, tasks: Sequence[Task]) -> Form:
    """Returns raw where the frames fit a quarter of what is free, else jpeg."""
    needed = raw_bytes(clip, [task.path for task in tasks])
    while not folder.exists():
        folder = folder.parent
    room = min(free_memory_bytes(), shutil.disk_usage(folder).free)
    return "raw" if needed <= _SHARE_OF_FREE * room else "jpeg"


def raw_bytes(clip: ClipConfig, paths: Sequence[Path]) -> float:
    """Estimates the size of all frames from the headers of a few files."""
    some = paths[:: max(1, len(paths) // _PROBED_FILES)]
    with ThreadPoolExecutor(num_cores()) as pool:
        sizes = [*pool.map(lambda path: _raw_bytes(clip, path), some)]
    known = [size for size in sizes if size]
    return sum(known) / max(1, len(known)) * len(paths)


def _raw_bytes(clip: ClipConfig, path: Path) -> float:
    """Returns the size of one video's frames; 0 if it can't be told."""
    try:
        info = probe(path)
    except VideoError:
        return 0.0
    short, long = sorted((info.width, info.height))
    pixels = clip.short_side**2 * long / max(1, short)
    return 3 * pixels * info.duration_seconds * clip.store_fps


def free_memory_bytes() -> int:
    """Returns the memory that is free for this process, caches included."""
    found = [_meminfo(), _cgroup()]
    return min([size for size in found if size], default=4 * 2**30)


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
        return pages * os.sysconf("SC_PAGE_SIZE") // 2 if pages else 0
    kilobytes = [x.split()[1] for x in lines if x.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else 0


def _cgroup() -> int:
    """Returns what a container's limit leaves; 0 without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text("ascii"))
        used = int((folder / "memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return 0
    return max(1, limit - used)


def _spec(clip: ClipConfig, form: Form) -> StoreSpec:
    return StoreSpec(clip.short_side, clip.store_fps, form)


def _open(folder: Path, spec: StoreSpec) -> Store:
    return Store(folder / spec.key, spec)
