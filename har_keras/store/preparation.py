"""From a manifest to a store: what to decode, and what came of it."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from har_keras.config import ClipConfig, StoreConfig
from har_keras.errors import DataError
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store.decoding import Fill, Task, fill
from har_keras.store.forms import open_store
from har_keras.store.store import Store
from har_keras.video.ffmpeg_log import reason_from_content

logger = logging.getLogger(__name__)

_NOT_YET = "not decoded yet"
_HELD = "shorter than a clip: its last frame is held"


def decode_all(
    manifest: Manifest,
    clip: ClipConfig,
    store: StoreConfig,
    *,
    shard: tuple[int, int] = (1, 1),
    fill: Fill = fill,
) -> tuple[Store, Manifest]:
    """Decodes the videos of a manifest that the store doesn't have yet.

    Args:
        manifest: Manifest. Its videos have hashes.
        clip: ClipConfig. Gives size and rate of the frames.
        store: StoreConfig. Gives form, folder, workers and time limit.
        shard: pair of int. Do the i-th of n parts only. Defaults to all.
        fill: Callable. What decodes. Defaults to threads of this program.

    Returns:
        The store, and the manifest with the number of kept frames of every
        video or the reason why there is none.

    Raises:
        EnvironmentFault: If the disk is full or can't be written to.
    """
    tasks = _tasks(manifest, shard)
    opened = open_store(clip, store, tasks)
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
    _say_what_failed(kept)
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
    reasons: Mapping[str, str],
) -> Video:
    """Returns a video with what the store has of it."""
    if not video.sha256:
        found = reason_from_content(manifest.path(video))
        reason = video.reason or found or "it could not be read"
        return dataclasses.replace(video, kept_frames=0, reason=reason)
    if video.sha256 not in store:
        reason = reasons.get(video.sha256, _NOT_YET)
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


def demand_usable(manifest: Manifest) -> None:
    """Asks for a usable video of every class.

    Args:
        manifest: Manifest. As `decode_all` returns it.

    Raises:
        DataError: If a class has no usable video to train on; where nothing
            is for training, if no video is usable.
    """
    training = manifest.split("train")
    if not training and not any(v.kept_frames for v in manifest.videos):
        raise DataError(
            f"None of the {len(manifest.videos)} videos can be used "
            f"({_reasons(manifest.videos)}). Mend or replace them."
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
                f"None of the {len(mine)} training videos of class '{name}' "
                f"can be used ({_reasons(mine)}). Mend or replace them, or "
                "remove the class."
            )


def _reasons(videos: Iterable[Video]) -> str:
    counts = Counter(video.reason for video in videos).most_common(3)
    return "; ".join(f"{count}: {reason}" for reason, count in counts)
