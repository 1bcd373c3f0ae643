"""Writes the sample data set: mp4 files by split and class."""

import csv
import errno
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from har_keras.errors import EnvironmentFault, UsageError
from har_keras.files import final_name, whole_file
from har_keras.processes import last_word, run
from har_keras.sample.actions import ACTIONS
from har_keras.sample.videos import SECONDS, DrawnVideo, Scene, draw_video

Array = np.ndarray

CLASS_NAMES = tuple(sorted(ACTIONS))
VAL_FRACTION, TEST_FRACTION = 0.1, 0.2
"""Fractions of the groups, each at least one group."""

_LENGTHS = (4.0, 8.0)
"""Seconds of an action in an untrimmed video."""

_TIMEOUT_SECONDS = 600.0


def draw_samples(
    folder: Path,
    *,
    videos_per_class: int,
    seed: int,
    by_action: bool = False,
    untrimmed: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Generates a labeled data set of mp4 files.

    Each scene, a person in a place, is a group and has one video of every
    class, so that neither person nor place is correlated with the class, and
    no group is in two splits.

    Args:
        folder: Path. Becomes `{train,val,test}/<class>/<action>_g0000.mp4`
            and a `manifest.csv`.
        videos_per_class: int. Also the number of groups, at least 3.
        seed: int. Video i of a seed is the same whatever the number.
        by_action: bool. Whether the classes are the twelve actions instead of
            the three kinds of them. The videos are the same.
        untrimmed: bool. Whether the actions of a group are joined into one
            video, in random order: `{train,val,test}/g0000.mp4`, with `start`
            and `end` of each in the manifest.
        progress: Callable or None. Called with the number of new videos.

    Returns:
        `folder`.
    """
    splits = _splits(videos_per_class)
    rows: list[dict[str, object]] = []
    # Threads suffice: ffmpeg takes half of the time, and OpenCV frees the GIL.
    pool = ThreadPoolExecutor(os.cpu_count() or 2)
    with whole_file(folder) as temporary, pool:

        def draw(group: int) -> list[dict[str, object]]:
            drawn = _write_untrimmed if untrimmed else _write_group
            return drawn(
                temporary, group, seed, splits[group], by_action=by_action
            )

        for found in pool.map(draw, range(videos_per_class)):
            rows += found
            if progress:
                progress(len(found))
        _write_manifest(temporary / "manifest.csv", rows)
    return folder


def _splits(groups: int) -> list[str]:
    val = max(1, round(groups * VAL_FRACTION))
    test = max(1, round(groups * TEST_FRACTION))
    return ["train"] * (groups - val - test) + ["val"] * val + ["test"] * test


def draw_sample(seed: int, index: int, seconds: float = SECONDS) -> DrawnVideo:
    """Generates video `index` of the sample data of a seed."""
    group, label = divmod(index, len(CLASS_NAMES))
    scene = Scene.draw(np.random.default_rng([seed, 0, group]))
    name = CLASS_NAMES[label]
    # Four groups in a row have the four actions of a class, in random order.
    moves = [move.__name__ for move in ACTIONS[name]]
    block, turn = divmod(group, len(moves))
    order = np.random.default_rng([seed, 1, label, block]).permutation(
        len(moves)
    )
    rng = np.random.default_rng([seed, 2, index])
    action = moves[order[turn]]
    return draw_video(rng, name, scene=scene, action=action, seconds=seconds)


def _write_group(
    folder: Path, group: int, seed: int, split: str, *, by_action: bool
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for label in range(len(CLASS_NAMES)):
        video = draw_sample(seed, group * len(CLASS_NAMES) + label)
        name = video.action if by_action else video.class_name
        file = f"{split}/{name}/{video.action}_g{group:04d}.mp4"
        write_video(folder / file, video.frames, video.fps)
        rows.append({
            "file": file, "class": name, "split": split,
            "group": f"g{group:04d}", "action": video.action,
        })  # fmt: skip
    return rows


def _write_untrimmed(
    folder: Path, group: int, seed: int, split: str, *, by_action: bool
) -> list[dict[str, object]]:
    rng = np.random.default_rng([seed, 3, group])
    order = rng.permutation(len(CLASS_NAMES))
    videos = [
        draw_sample(seed, group * len(order) + label, rng.uniform(*_LENGTHS))
        for label in order
    ]
    file = f"{split}/g{group:04d}.mp4"
    fps = videos[0].fps  # that of the scene
    write_video(folder / file, np.concatenate([x.frames for x in videos]), fps)
    frames = np.cumsum([0, *(len(x.frames) for x in videos)])
    times = [f"{number / fps:.2f}" for number in frames]
    return [
        {
            "file": file, "class": x.action if by_action else x.class_name,
            "split": split, "group": f"g{group:04d}", "action": x.action,
            "start": start, "end": end,
        }
        for x, start, end in zip(videos, times[:-1], times[1:], strict=True)
    ]  # fmt: skip


def _write_manifest(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=_place))


def _place(row: Mapping[str, object]) -> tuple[str, float]:
    return str(row["file"]), float(str(row.get("start", 0)))


def write_video(path: Path, frames: Array, fps: float) -> None:
    """Writes frames `(T, H, W, 3)` as an h264 mp4.

    The bytes depend only on the frames: one thread, and no metadata.

    Raises:
        EnvironmentFault: If ffmpeg could not write it.
        OSError: If the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames.shape[1:3]
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", f"{fps:g}", "-i", "pipe:0", "-an", "-c:v", "libx264",
        "-crf", "20", "-preset", "veryfast", "-pix_fmt", "yuv420p",
        "-threads", "1", "-map_metadata", "-1", "-fflags", "+bitexact",
        "-flags:v", "+bitexact", str(path),
    ]  # fmt: skip
    done = run(command, data=frames.tobytes(), timeout_seconds=_TIMEOUT_SECONDS)
    if done.returncode:
        full = os.strerror(errno.ENOSPC)
        if full.encode() in done.stderr:  # not always in the last line
            raise OSError(errno.ENOSPC, full, str(path))
        raise EnvironmentFault(
            f"ffmpeg could not write '{final_name(path)}': {last_word(done)}"
        )


def sample(
    folder: Path,
    *,
    num_videos: int = 300,
    seed: int = 0,
    by_action: bool = False,
    untrimmed: bool = False,
) -> Path:
    """Generates labeled sample videos in a folder that `train` can read.

    Args:
        folder: Path. A new or empty folder.
        num_videos: int. Videos per class, at least 3. Defaults to `300`.
        seed: int. The same seed gives the same videos. Defaults to `0`.
        by_action: bool. Whether the classes are the twelve actions instead of
            the three kinds of them. Defaults to `False`.
        untrimmed: bool. Whether the videos of one person are joined into one,
            with `start` and `end` as labels. Defaults to `False`.

    Returns:
        `folder`.

    Raises:
        UsageError: If the folder is not empty, or a number is out of range.
        EnvironmentFault: If the disk is full.
    """
    if num_videos < 3:
        raise UsageError(
            "--num-videos must be at least 3, so that train, val and test "
            f"have a video of each class. Received: {num_videos}."
        )
    if seed < 0:
        raise UsageError(f"--seed must be 0 or more. Received: {seed}.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(
            f"'{folder}' exists and is not an empty folder. Choose a new "
            "folder, or remove it."
        )
    from har_keras.progress import ProgressBar

    with ProgressBar("Generating", num_videos * len(CLASS_NAMES)) as bar:
        return draw_samples(
            folder,
            videos_per_class=num_videos,
            seed=seed,
            by_action=by_action,
            untrimmed=untrimmed,
            progress=bar.advance,
        )
