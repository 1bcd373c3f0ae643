"""Labelled parts of decoded videos, and what lies between them."""

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from har_keras.config import ClipConfig
from har_keras.environment import num_cores
from har_keras.errors import DataError
from har_keras.manifest.manifest import Manifest, Video
from har_keras.manifest.parts import (
    BACKGROUND,
    part_frames,
    seconds_text,
    unlabelled,
)
from har_keras.progress import plural
from har_keras.store.shards import StoredVideo
from har_keras.store.store import Store
from har_keras.video.ffmpeg import VideoError
from har_keras.video.images import probe_video

logger = logging.getLogger(__name__)

# Lengths in headers are off by a little.
_HEADER_SECONDS = 1.0
# With more of the labels beyond the videos' ends, their unit is wrong.
_MOST_BEYOND = 0.5
# With more, the background should not be what training mostly sees.
_LARGE_SHARE = 0.5


def is_cut(video: Video, stored: StoredVideo, clip: ClipConfig) -> bool:
    """Returns whether the stored frames end before a video or a part does.

    Args:
        video: Video. Whole, or a labelled part.
        stored: StoredVideo. The whole video in the store.
        clip: ClipConfig. Gives the rate of the frames.
    """
    if video.end is None:
        return bool(stored.damage)
    seconds = stored.num_frames / clip.store_fps
    return video.end > seconds + 1 / clip.fps


def is_padded(video: Video, clip: ClipConfig) -> bool:
    """Returns whether the last of the kept frames is repeated."""
    is_short = 0 < video.kept_frames < clip.stored_frames
    return is_short and clip.short_videos == "repeat"


def kept_frames(video: Video, stored: StoredVideo, clip: ClipConfig) -> Video:
    """Returns a video with its frames in the store, or why it has none.

    Args:
        video: Video. Whole, or a labelled part.
        stored: StoredVideo. The whole video in the store.
        clip: ClipConfig. Gives the rate of the frames and a clip's length.
    """
    frames = part_frames(video, clip.store_fps, stored.num_frames)
    reason = _why_none(video, stored, clip, len(frames))
    if reason:
        return dataclasses.replace(video, kept_frames=0, reason=reason)
    kept = dataclasses.replace(
        video, kept_frames=len(frames), first_frame=frames.start
    )
    return dataclasses.replace(kept, reason=_told(kept, stored, clip))


def _why_none(
    video: Video, stored: StoredVideo, clip: ClipConfig, number: int
) -> str:
    """Returns why a video has no frames to use; "" if it has some."""
    seconds, begin = stored.num_frames / clip.store_fps, video.start or 0.0
    whole = stored.damage or f"ends at {seconds:.1f} s"
    if not stored.num_frames:
        return stored.reason
    if begin >= seconds:
        return f"it begins at {seconds_text(begin)} s, the video {_is(whole)}"
    if not number:
        least = f"{1 / clip.store_fps:.2f} s, one stored frame"
        return f"it is shorter than {least}"
    broken = stored.damage and is_cut(video, stored, clip)
    if broken and number < clip.stored_frames:
        of_it = " of it" if video.is_part else ""
        return f"{stored.damage}, before one clip{of_it} is full"
    return ""


def _told(video: Video, stored: StoredVideo, clip: ClipConfig) -> str:
    """Returns what is to be known of the frames that are kept, or ""."""
    kept = f"{video.kept_frames / clip.store_fps:.1f} s"
    if is_cut(video, stored, clip):
        if stored.damage:
            return f"{stored.damage}, kept {kept}"
        assert video.end is not None
        seconds = stored.num_frames / clip.store_fps
        return (
            f"its label ends at {seconds_text(video.end)} s, the video at "
            f"{seconds:.1f} s; kept {kept}"
        )
    if is_padded(video, clip):
        return f"{kept} long, shorter than a clip: its last frame is repeated"
    return stored.note


def _is(whole: str) -> str:
    return whole if whole.startswith("ends") else f"is {whole}"


def require_within(
    manifest: Manifest, store: Store, contents: Collection[str]
) -> None:
    """Checks before decoding that labels in time lie within their videos.

    A few that don't are named after decoding, when lengths are exact.

    Args:
        manifest: Manifest. The labels.
        store: Store. What is in it is not opened again.
        contents: Collection of str. Hashes of the videos to check.

    Raises:
        DataError: If most labels begin after their video's end.
    """
    parts = [v for v in manifest.videos if v.is_part and v.sha256 in contents]
    first = {video.sha256: video for video in parts}

    def seconds(video: Video) -> float:
        if video.sha256 in store:
            return store.num_frames(video.sha256) / store.spec.fps
        path, images_fps = manifest.path(video), store.spec.images_fps
        try:
            return probe_video(path, images_fps).duration_seconds
        except VideoError:
            return 0.0

    with ThreadPoolExecutor(num_cores()) as pool:
        found = pool.map(seconds, first.values())
        lengths = dict(zip(first, found, strict=True))
    known = [video for video in parts if lengths[video.sha256]]
    beyond = [
        video
        for video in known
        if (video.start or 0) > lengths[video.sha256] + _HEADER_SECONDS
    ]
    if len(beyond) > _MOST_BEYOND * len(known):
        length = lengths[beyond[0].sha256]
        raise DataError(
            "Most labels begin after the end of their video "
            f"({len(beyond)} of {len(known)}), such as '{beyond[0].name}': it "
            f"is {length:.1f} s long. start and end must be in seconds, not "
            "in milliseconds or frames."
        )


def with_background(
    manifest: Manifest, store: Store, clip: ClipConfig
) -> Manifest:
    """Returns a manifest with what no label covers as a class of its own.

    Only videos with labels in time have such stretches. Those shorter than a
    clip are left out.

    Args:
        manifest: Manifest. Decoded videos.
        store: Store. Their frames.
        clip: ClipConfig. Gives a clip's length.

    Returns:
        The `Manifest` with the class "background", if there is any.
    """
    by_file: dict[str, list[Video]] = defaultdict(list)
    for video in manifest.videos:
        if video.sha256 in store:
            by_file[video.file].append(video)
    parts = [
        part
        for mine in by_file.values()
        if any(video.is_part for video in mine)
        for part in _background_of(mine, store.video(mine[0].sha256), clip)
    ]
    least = clip.stored_frames
    found = [part for part in parts if part.kept_frames >= least]
    if not found:
        return manifest
    _say_background(manifest, found, len(parts) - len(found), clip)
    videos = sorted(
        (*manifest.videos, *found), key=lambda v: (v.file, v.start or 0.0)
    )
    names = tuple(sorted({*manifest.class_names, BACKGROUND}))
    return dataclasses.replace(manifest.with_videos(videos), class_names=names)


def _background_of(
    labels: Sequence[Video], stored: StoredVideo, clip: ClipConfig
) -> list[Video]:
    """Returns the stretches of one video that no label covers."""
    fps = clip.store_fps
    return [
        kept_frames(
            Video(
                file=labels[0].file,
                class_name=BACKGROUND,
                split=labels[0].split,
                group=labels[0].group,
                sha256=labels[0].sha256,
                others=tuple((name, "") for name, _ in labels[0].others),
                start=span.start,
                end=span.end,
            ),
            stored,
            clip,
        )
        for span in unlabelled(labels, stored.num_frames / fps)
    ]


def _say_background(
    manifest: Manifest, found: Sequence[Video], short: int, clip: ClipConfig
) -> None:
    frames = sum(part.kept_frames for part in found)
    logger.info(
        "Class '%s': %s without a label, %.1f minutes; %d shorter than a clip "
        "left out.",
        BACKGROUND,
        plural(len(found), "part"),
        frames / clip.store_fps / 60,
        short,
    )
    share = frames / (frames + sum(v.kept_frames for v in manifest.videos))
    if share > _LARGE_SHARE:
        logger.info(
            "It is %.0f %% of the footage. --balance sampling shows every "
            "class equally often.",
            100 * share,
        )


def require_background_class(manifest: Manifest) -> None:
    """Checks that there is background where it was asked for.

    Args:
        manifest: Manifest. As `decode_all` returns it.

    Raises:
        DataError: If no part of a video without a label is as long as a clip.
    """
    if manifest.background and BACKGROUND not in manifest.class_names:
        raise DataError(
            "--background class found nothing: no part of a video without a "
            "label is as long as a clip. Leave it out, or add videos with "
            "more around the labels."
        )
