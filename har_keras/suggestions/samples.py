"""Samples to label: videos, and parts of them, decoded into the store."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from har_keras.config import Config
from har_keras.errors import DataError
from har_keras.manifest.manifest import Manifest, Video, content_hash
from har_keras.run import Run
from har_keras.store.decoding import Task, fill
from har_keras.store.parts import kept_frames
from har_keras.store.preparation import open_store
from har_keras.store.store import Store

Progress = Callable[[str, int, int], object]
"""Told what is being done, how much of it is done, and of how much."""

_UNREADABLE = "it could not be read"
# A file is hashed again when its size or time is another.
_KNOWN_FILES = 65536


@dataclass(frozen=True)
class Sample:
    """A video, or a part of one, that has or needs a label.

    Args:
        path: Path. The video.
        start: float or None. Where a part begins, in seconds; None is where
            the video does.
        end: float or None. Where a part ends, in seconds; None is where the
            video does.
    """

    path: Path
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class DecodedSamples:
    """Samples whose frames are in a store.

    Args:
        store: Store. Their frames.
        videos: tuple of Video. One for each sample: with its number of frames,
            or the reason why there is none.
    """

    store: Store
    videos: tuple[Video, ...]

    @property
    def usable(self) -> list[int]:
        """The samples that have frames."""
        return [i for i, video in enumerate(self.videos) if video.kept_frames]

    @property
    def reasons(self) -> list[str]:
        """Why each sample can't be used; "" if it can."""
        return ["" if v.kept_frames else v.reason for v in self.videos]

    @property
    def manifest(self) -> Manifest:
        """The samples as a manifest, without classes."""
        return Manifest(Path(), (), self.videos)


def transfer_config(
    store_dir: Path | None, backbone: str = "efficientnet-lite0"
) -> Config:
    """Returns the options with which recipe `transfer` trains.

    What is decoded and computed with them, a training finds in the store.

    Args:
        store_dir: Path or None. The store. Defaults to that of the user.
        backbone: str. The network. Defaults to `"efficientnet-lite0"`.
    """
    return Config().replace(
        recipe="transfer", backbone=backbone, store_dir=store_dir
    )


def run_config(run: str | Path, store_dir: Path | None) -> Config:
    """Returns the options of a run, to read other videos in another store.

    Args:
        run: str or Path. The run.
        store_dir: Path or None. The store. Defaults to that of the user.

    Raises:
        DataError: If there is no run.
    """
    return Run.open(Path(run)).config().replace(store_dir=store_dir)


def decode_samples(
    samples: Sequence[Sample],
    config: Config,
    progress: Progress | None = None,
) -> DecodedSamples:
    """Decodes the videos of samples that are not in the store yet.

    An interrupted call is resumed by the next. Frames go to the disk as they
    are read, so memory stays the same for any number of videos.

    Args:
        samples: Sequence of Sample.
        config: Config. The sections `clip` and `store`.
        progress: Callable or None. Called after each video.

    Returns:
        `DecodedSamples`, in the order of the samples.

    Raises:
        EnvironmentFault: If the disk is full or can't be written to.
    """
    hashes = content_hashes([sample.path for sample in samples])
    paths = {hashes[sample.path]: sample.path for sample in samples}
    tasks = [Task(content, path) for content, path in paths.items() if content]
    store = open_store(config.clip, config.decoding, tasks)
    missing = sum(task.sha256 not in store for task in tasks)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress("Decoding videos", done, missing)

    reasons = fill(
        store,
        tasks,
        workers=config.store.workers,
        timeout_seconds=config.store.timeout_seconds,
        advance=advance,
    )

    def video(sample: Sample) -> Video:
        content = hashes[sample.path]
        file = sample.path.as_posix()
        found = Video(
            file, "", "train", file, content,
            start=sample.start, end=sample.end,
        )  # fmt: skip
        if content in store:
            return kept_frames(found, store.video(content), config.clip)
        reason = reasons.get(content, _UNREADABLE)
        return dataclasses.replace(found, reason=reason)

    return DecodedSamples(store, tuple(map(video, samples)))


def content_hashes(paths: Sequence[Path]) -> dict[Path, str]:
    """Returns the hash of each file's content, "" if it can't be read.

    A file that was hashed before and has not changed since is not read again.
    """
    distinct = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(distinct, pool.map(_hash_of, distinct), strict=True))


def _hash_of(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return ""
    if path.is_dir():  # of images, each of which may change
        return content_hash(path)
    return _hash_of_version(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(_KNOWN_FILES)
def _hash_of_version(path: Path, size: int, modified: int) -> str:
    return content_hash(path)


def require_some(samples: Sequence[Sample], decoded: DecodedSamples) -> None:
    """Checks that some sample can be used.

    Raises:
        DataError: If there are samples, and none can be used.
    """
    if samples and not decoded.usable:
        (reason, _), *_ = Counter(decoded.reasons).most_common(1)
        raise DataError(
            f"None of the {len(samples)} samples can be used, such as "
            f"'{decoded.videos[0].name}': {reason}. Repair or replace them."
        )
