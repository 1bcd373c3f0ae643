"""`python -m har_keras.prepare`: decode a folder of videos, once."""

import dataclasses
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.config import ClipConfig, Config, StoreConfig
from har_keras.errors import DataError, UsageError
from har_keras.video.ffmpeg_log import reason_from_content
from har_keras.video.filling import Task, fill
from har_keras.video.forms import open_store
from har_keras.video.manifest import Manifest, Video
from har_keras.video.store import Store

logger = logging.getLogger("har_keras")

_NOT_YET = "not decoded yet"
_HELD = "shorter than a clip: its last frame is held"


@dataclass(frozen=True)
class PrepareOptions:
    """Decodes every video into the frame store, which training reads.

    Can be stopped and started again. With --shard each of several machines
    does a part; they share one --store-dir, or their folders are put together.
    """

    videos: Annotated[Path, tyro.conf.Positional] = Path("data")
    """Folder of videos."""
    shard: str = "1/1"
    """Which part to do, as i/n: 2/4 is the second of four."""
    manifest: Path | None = None
    """Write the list of videos, with frames kept and reasons, to this file."""
    config: Path | None = None
    """TOML file of options; flags have the last word."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


def prepare(
    manifest: Manifest,
    clip: ClipConfig,
    store: StoreConfig,
    *,
    shard: tuple[int, int] = (1, 1),
) -> tuple[Store, Manifest]:
    """Decodes the videos of a manifest that the store doesn't have yet.

    Args:
        manifest: Manifest. Its videos have hashes.
        clip: ClipConfig. Gives size and rate of the frames.
        store: StoreConfig. Gives form, folder, workers and time limit.
        shard: pair of int. Do the i-th of n parts only. Defaults to all.

    Returns:
        The store, and the manifest with the number of kept frames of every
        video or the reason why there is none.

    Raises:
        DataError: If a class has no usable training video.
        EnvironmentFault: If the disk is full or can't be written to.
    """
    tasks = _tasks(manifest, shard)
    opened = open_store(clip, store, tasks)
    missing = [task for task in tasks if task.sha256 not in opened]
    passing = fill(
        opened,
        missing,
        workers=store.workers,
        timeout_seconds=store.timeout_seconds,
    )
    kept = manifest.with_videos(
        _kept(manifest, video, opened, clip, passing)
        for video in manifest.videos
    )
    _say_what_failed(kept)
    if shard == (1, 1):
        _demand_usable(kept)
    return opened, kept


def _tasks(manifest: Manifest, shard: tuple[int, int]) -> list[Task]:
    """Returns one task for each content, of the i-th part of n."""
    paths = {
        video.sha256: manifest.path(video)
        for video in manifest.videos
        if video.sha256
    }
    part, number = shard
    # By hash: every machine comes to the same parts, in any order of files.
    mine = sorted(paths)[part - 1 :: number]
    return [Task(content, paths[content]) for content in mine]


def _kept(
    manifest: Manifest,
    video: Video,
    store: Store,
    clip: ClipConfig,
    passing: Mapping[str, str],
) -> Video:
    """Returns a video with what the store has of it."""
    if not video.sha256:
        found = reason_from_content(manifest.path(video))
        reason = video.reason or found or "it could not be read"
        return dataclasses.replace(video, kept_frames=0, reason=reason)
    if video.sha256 not in store:
        reason = passing.get(video.sha256, _NOT_YET)
        return dataclasses.replace(video, kept_frames=0, reason=reason)
    stored = store.video(video.sha256)
    frames, reason = stored.num_frames, stored.reason
    seconds = f"{frames / clip.store_fps:.1f} s"
    fills_clip = frames >= _clip_frames(clip)
    if stored.damage and fills_clip:
        reason = f"{stored.damage}, kept {seconds}"
    elif stored.damage:
        frames, reason = 0, f"{stored.damage}, before one clip is full"
    elif frames and not fills_clip:
        reason = f"{seconds} long, {_HELD}"
    return dataclasses.replace(video, kept_frames=frames, reason=reason)


def _clip_frames(clip: ClipConfig) -> float:
    """Returns the stored frames from a clip's first frame to its last."""
    return clip.store_fps / clip.fps * (clip.num_frames - 1) + 1


def _say_what_failed(manifest: Manifest) -> None:
    """Names every video that is not, or not wholly, used."""
    held = [v.file for v in manifest.videos if v.reason.endswith(_HELD)]
    for video in manifest.videos:
        if not video.kept_frames and video.reason != _NOT_YET:
            logger.warning("'%s' is not used: %s.", video.file, video.reason)
        elif video.kept_frames and video.reason and video.file not in held:
            logger.warning(
                "'%s' is used in part: %s.", video.file, video.reason
            )
    if held:
        logger.info(
            "%d videos are shorter than a clip, such as '%s': their last frame "
            "is held.",
            len(held),
            held[0],
        )
    kept = sum(video.kept_frames > 0 for video in manifest.videos)
    logger.info("%d of %d videos can be used.", kept, len(manifest.videos))


def _demand_usable(manifest: Manifest) -> None:
    usable = {video.class_name for video in manifest.usable("train")}
    for name in manifest.class_names:
        if name in usable:
            continue
        mine = [v for v in manifest.split("train") if v.class_name == name]
        if not mine:
            raise DataError(
                f"Class '{name}' has no training video: all of its videos are "
                "in other splits. Add some to train."
            )
        reasons = Counter(video.reason for video in mine).most_common(3)
        words = "; ".join(f"{count}: {reason}" for reason, count in reasons)
        raise DataError(
            f"None of the {len(mine)} training videos of class '{name}' can be "
            f"used ({words}). Mend or replace them, or remove the class."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, decodes and says what came of it."""

    def verb() -> None:
        options = cli.parse(PrepareOptions, argv, verb="prepare")
        shard = _shard(options.shard)
        split = options.settings.split
        manifest = Manifest.from_folder(
            options.videos,
            val_fraction=split.val_fraction,
            test_fraction=split.test_fraction,
            seed=split.split_seed,
        )
        store, manifest = prepare(
            manifest,
            options.settings.clip,
            options.settings.store,
            shard=shard,
        )
        if options.manifest:
            manifest.write(options.manifest)
        print(f"Frames are in {store.folder}")

    return cli.run_verb(verb)


def _shard(text: str) -> tuple[int, int]:
    """Reads a part such as "2/4".

    Example:

    >>> _shard("2/4")
    (2, 4)
    """
    part, _, number = text.partition("/")
    if part.isdecimal() and number.isdecimal():
        if 1 <= int(part) <= int(number):
            return int(part), int(number)
    raise UsageError(
        f"--shard must be i/n with i from 1 to n, as in 2/4. Received: {text}."
    )


if __name__ == "__main__":
    sys.exit(main())
