"""Decodes the videos of a manifest into a store and records the result."""

import dataclasses
import functools
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from har_keras.config import ClipConfig, Form, StoreConfig
from har_keras.environment import free_memory_bytes, num_cores
from har_keras.errors import DataError, EnvironmentFault
from har_keras.manifest.manifest import Manifest, Video
from har_keras.manifest.parts import counted
from har_keras.store.decoding import Fill, Task, fill
from har_keras.store.limit import keep_within_limit, limit_of
from har_keras.store.parts import (
    is_cut,
    is_padded,
    kept_frames,
    require_background_class,
    require_within,
    with_background,
)
from har_keras.store.store import Store, StoreSpec, default_store_dir
from har_keras.store.use import hold
from har_keras.video.ffmpeg import VideoError
from har_keras.video.ffmpeg_log import reason_from_content
from har_keras.video.images import probe_video

logger = logging.getLogger(__name__)

_NOT_YET = "not decoded yet"


def decode_all(
    manifest: Manifest,
    clip: ClipConfig,
    store: StoreConfig,
    *,
    shard: tuple[int, int] = (1, 1),
    fill: Fill = fill,
) -> tuple[Store, Manifest]:
    """Decodes the videos of a manifest that are not in the store yet.

    Args:
        manifest: Manifest. Its videos have hashes.
        clip: ClipConfig. Gives size and rate of the frames.
        store: StoreConfig. Gives form, folder, workers and time limit.
        shard: pair of int. Decode only the i-th of n parts. Defaults to all.
        fill: Callable. The function that decodes. Defaults to threads of this
            process.

    Returns:
        The store, and the manifest with the number of kept frames of every
        video or the reason why there is none; with what is not labelled as
        class "background", if the manifest asks for it.

    Raises:
        DataError: If most labels in time lie beyond the ends of their videos.
        EnvironmentFault: If the disk is full or can't be written to.
    """
    tasks = _tasks(manifest, shard)
    opened = open_store(clip, store, tasks)
    require_within(manifest, opened, {task.sha256 for task in tasks})
    is_new = any(task.sha256 not in opened for task in tasks)
    reasons = fill(
        opened,
        tasks,
        workers=store.workers,
        timeout_seconds=store.timeout_seconds,
    )
    kept = manifest.with_videos(
        _kept(manifest, video, opened, clip, reasons)
        for video in manifest.videos
    )
    if manifest.background:
        kept = with_background(kept, opened, clip)
    _say_what_failed(kept, opened, clip)
    if is_new and store.cache != "off":
        keep_within_limit(opened.folder.parent)
    return opened, kept


def _tasks(manifest: Manifest, shard: tuple[int, int]) -> list[Task]:
    """Returns one task per distinct content, of the i-th of n parts."""
    paths = {
        video.sha256: manifest.path(video)
        for video in manifest.videos
        if video.sha256
    }
    part, number = shard
    # By hash, so that every machine computes the same parts.
    mine = sorted(paths)[part - 1 :: number]
    return [Task(content, paths[content]) for content in mine]


def _kept(
    manifest: Manifest,
    video: Video,
    store: Store,
    clip: ClipConfig,
    reasons: Mapping[str, str],
) -> Video:
    """Returns a video with its number of stored frames, or the reason."""
    if not video.sha256:
        found = reason_from_content(manifest.path(video))
        reason = video.reason or found or "it could not be read"
        return dataclasses.replace(video, kept_frames=0, reason=reason)
    if video.sha256 not in store:
        reason = reasons.get(video.sha256, _NOT_YET)
        return dataclasses.replace(video, kept_frames=0, reason=reason)
    return kept_frames(video, store.video(video.sha256), clip)


def _say_what_failed(
    manifest: Manifest, store: Store, clip: ClipConfig
) -> None:
    """Logs every video that is not used, or only in part."""
    failed = [v for v in manifest.failed if v.reason != _NOT_YET]
    told = [
        video for video in manifest.videos if video.kept_frames and video.reason
    ]
    padded: list[Video] = []
    partly: list[Video] = []
    noted: list[Video] = []
    for video in told:
        if is_cut(video, store.video(video.sha256), clip):
            partly.append(video)
        elif is_padded(video, clip):
            padded.append(video)
        else:
            noted.append(video)
    _warn(failed, "'%s'%s is not used: %s.")
    _warn(partly, "'%s'%s is used in part: %s.")
    _warn(noted, "'%s'%s: %s.")
    if padded:
        logger.info(
            "%s shorter than a clip, such as '%s': the last frame is repeated.",
            counted(padded),
            padded[0].name,
        )
    kept = sum(video.kept_frames > 0 for video in manifest.videos)
    logger.info("%d of %s can be used.", kept, counted(manifest.videos))


def _warn(videos: Iterable[Video], text: str) -> None:
    """Logs names with their reasons; of many parts of a file once."""
    found: dict[tuple[str, str], list[Video]] = {}
    for video in videos:
        found.setdefault((video.file, video.reason), []).append(video)
    for (file, reason), (first, *others) in found.items():
        name = file if others else first.name
        number = f" ({1 + len(others)} parts)" if others else ""
        logger.warning(text, name, number, reason)


def require_usable(manifest: Manifest) -> None:
    """Raises if a class has no usable training video.

    Args:
        manifest: Manifest. As `decode_all` returns it.

    Raises:
        DataError: If a class has no usable training video. Without a training
            split, if no video is usable.
    """
    require_background_class(manifest)
    training = manifest.split("train")
    if not training and not any(v.kept_frames for v in manifest.videos):
        raise DataError(
            f"None of the {counted(manifest.videos)} can be used "
            f"({_reasons(manifest.videos)}). Repair or replace them."
        )
    for name in manifest.class_names if training else ():
        mine = [video for video in training if video.class_name == name]
        if not mine:
            raise DataError(
                f"Class '{name}' has no training video: all of its videos are "
                "in other splits. Add some to train."
            )
        if not any(video.kept_frames for video in mine):
            raise DataError(
                f"None of the {_training(mine)} of class '{name}' "
                f"can be used ({_reasons(mine)}). Repair or replace them, or "
                "remove the class."
            )


def _training(videos: Sequence[Video]) -> str:
    """Returns how many training videos there are, or parts of them."""
    if not any(video.is_part for video in videos):
        return f"{len(videos)} training videos"
    return f"{counted(videos)} for training"


def _reasons(videos: Iterable[Video]) -> str:
    counts = Counter(video.reason for video in videos).most_common(3)
    return "; ".join(f"{count}: {reason}" for reason, count in counts)


def decode_usable(
    manifest: Manifest, clip: ClipConfig, store: StoreConfig
) -> tuple[Store, Manifest]:
    """Decodes the videos of a manifest and checks that every class has one.

    Args:
        manifest: Manifest. Its videos have hashes.
        clip: ClipConfig. Gives size and rate of the frames.
        store: StoreConfig. Gives form, folder, workers and time limit.

    Returns:
        The store, and the manifest with the number of kept frames of every
        video or the reason why there is none.

    Raises:
        DataError: If a class has no usable training video.
        EnvironmentFault: If the disk is full or can't be written to.
    """
    opened, kept = decode_all(manifest, clip, store)
    require_usable(kept)
    return opened, dataclasses.replace(kept, background=False)


# Raw frames are fastest to read while they are in the page cache, so they may
# take this share of free memory and of the free disk space.
_SHARE_OF_FREE = 0.25
_PROBED_FILES = 24


def open_store(
    clip: ClipConfig, config: StoreConfig, tasks: Sequence[Task]
) -> Store:
    """Opens the store of some videos, which may still be empty.

    With `auto`, a form that already has all videos is used; else raw, if its
    estimated size fits this machine, else jpeg.

    Args:
        clip: ClipConfig. Gives size and rate of the frames.
        config: StoreConfig. Gives form and folder.
        tasks: Sequence of Task. The videos.

    Returns:
        A `Store`. With `off`, a temporary one. What it has of the videos is
        not removed while it is used.

    Raises:
        UsageError: If the limit in `HAR_KERAS_STORE_LIMIT` is no size.
        EnvironmentFault: If its folder is a link.
    """
    if config.cache == "off":
        return Store.passing(_spec(clip, config, "jpeg"))
    folder = config.store_dir or default_store_dir()
    limit_of(folder)  # refused before something is decoded
    store = _open_chosen(folder, clip, config, tasks)
    hold(store, (task.sha256 for task in tasks))
    return store


def _open_chosen(
    folder: Path, clip: ClipConfig, config: StoreConfig, tasks: Sequence[Task]
) -> Store:
    """Opens the store in the form that was chosen, or that is best here."""
    if config.cache in ("jpeg", "raw"):
        return _open(folder, _spec(clip, config, config.cache))
    for form in ("raw", "jpeg"):
        store = _open(folder, _spec(clip, config, form))
        if all(task.sha256 in store for task in tasks):
            return store
    form = choose_form(clip, config, tasks)
    return _open(folder, _spec(clip, config, form))


def choose_form(
    clip: ClipConfig, config: StoreConfig, tasks: Sequence[Task]
) -> Form:
    """Returns raw if the frames fit a quarter of free space, else jpeg."""
    paths = [task.path for task in tasks]
    needed = raw_bytes(clip, paths, config.images_fps)
    folder = config.store_dir or default_store_dir()
    while not folder.exists():
        folder = folder.parent
    room = min(free_memory_bytes(), shutil.disk_usage(folder).free)
    return "raw" if needed <= _SHARE_OF_FREE * room else "jpeg"


def raw_bytes(
    clip: ClipConfig, paths: Sequence[Path], images_fps: float
) -> float:
    """Estimates the size of all raw frames from the headers of a few files."""
    some = paths[:: max(1, len(paths) // _PROBED_FILES)]
    with ThreadPoolExecutor(num_cores()) as pool:
        of_one = functools.partial(_raw_bytes, clip, images_fps)
        sizes = [*pool.map(of_one, some)]
    known = [size for size in sizes if size]
    return sum(known) / max(1, len(known)) * len(paths)


def _raw_bytes(clip: ClipConfig, images_fps: float, path: Path) -> float:
    """Returns the size of one video's raw frames; 0 if unknown."""
    try:
        info = probe_video(path, images_fps)
    except VideoError:
        return 0.0
    short, long = sorted((info.width, info.height))
    aspect = 1.0 if clip.squeeze else long / max(1, short)
    pixels = clip.short_side**2 * aspect
    return 3 * pixels * info.duration_seconds * clip.store_fps


def _spec(clip: ClipConfig, config: StoreConfig, form: Form) -> StoreSpec:
    return StoreSpec(
        clip.short_side,
        clip.store_fps,
        form,
        clip.squeeze,
        config.images_fps,
    )


def _open(folder: Path, spec: StoreSpec) -> Store:
    if (folder / spec.key).is_symlink():
        raise EnvironmentFault(
            f"The frame store '{folder / spec.key}' is a link, which har_keras "
            "never makes. Remove it, or choose another folder with "
            "--store-dir."
        )
    return Store(folder / spec.key, spec)
