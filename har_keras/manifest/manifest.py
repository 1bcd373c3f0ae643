"""The list of videos: class, split, group and content of every file."""

import csv
import dataclasses
import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from har_keras.errors import DataError
from har_keras.files import whole_file
from har_keras.manifest.entries import FolderListing, FoundVideo, require_folder
from har_keras.manifest.folders import find_every_video, find_videos
from har_keras.manifest.groups import guess_groups, join_groups, split_groups
from har_keras.manifest.parts import (
    counted,
    is_part,
    require_background,
    require_parts,
    sample_name,
    whole_videos,
)
from har_keras.manifest.rows import columns_of, fields_of, rows_of
from har_keras.progress import ProgressBar, plural

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Video:
    """A video, or a labelled part of one, with its class, split and group.

    Args:
        file: str. Path under the manifest's root, with `/`. Bytes that are
            not UTF-8 are kept as surrogates.
        class_name: str. Its label.
        split: str. "train", "val" or "test".
        group: str. Videos with the same group are in the same split.
        sha256: str. Hash of the content; "" if the file can't be read.
        kept_frames: int. Frames in the store; 0 if it is not usable, or not
            decoded yet.
        reason: str. Why it is not usable, or which part was dropped.
        others: Sequence of pairs. Further columns of a user's manifest.
        start: float or None. Where a part begins, in seconds; None is where
            the video does.
        end: float or None. Where a part ends, in seconds; None is where the
            video does.
        first_frame: int. The first of the kept frames in the store.
    """

    file: str
    class_name: str
    split: str
    group: str
    sha256: str = ""
    kept_frames: int = 0
    reason: str = ""
    others: tuple[tuple[str, str], ...] = ()
    start: float | None = None
    end: float | None = None
    first_frame: int = 0

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a video, with other parts beside it."""
        return is_part(self)

    @property
    def name(self) -> str:
        """For people: the file, and of a part its time."""
        return sample_name(self)

    @property
    def key(self) -> str:
        """What a store calls its frames: the file's hash, and of a part which.

        Example:

        >>> Video("a.mp4", "walk", "train", "", "1f3a", kept_frames=16).key
        '1f3a'
        >>> Video("a.mp4", "walk", "train", "", "1f3a", 16, start=1.0, end=2.0,
        ...     first_frame=16).key
        '1f3a@16-32'
        """
        if not self.is_part:
            return self.sha256
        end = self.first_frame + self.kept_frames
        return f"{self.sha256}@{self.first_frame}-{end}"


@dataclass(frozen=True)
class Manifest:
    """All videos of a folder, usable or not.

    Args:
        root: Path. The folder; no video lies outside of it.
        class_names: Sequence of str, sorted: the order of labels.
        videos: Sequence of Video.
        notes: Sequence of str. How it was made, for the log.
        background: bool. Whether what lies between labels in time becomes a
            class of its own once the lengths of the videos are known.
    """

    root: Path
    class_names: tuple[str, ...]
    videos: tuple[Video, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)
    background: bool = field(default=False, compare=False)

    @classmethod
    def from_folder(
        cls,
        root: Path,
        *,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
        background: str = "none",
    ) -> "Manifest":
        """Lists the videos of a folder and splits them if they are not split.

        Four layouts are supported; the first match wins: a `manifest.csv` with
        columns `file` and `class` (optionally `split` and `group`, and `start`
        and `end` in seconds of a labelled part), lists
        `train.txt` or `.csv` (and val, test) with a path and a label per line,
        `{train,val,test}/<class>/...`, and `<class>/...`. A missing split is
        drawn from the training videos, by group and stratified by class.
        Files with the same content are one group, and so are the parts of a
        video.

        Args:
            root: Path. The folder.
            val_fraction: float. Share of "val", if that split is missing.
            test_fraction: float. Share of "test", if that split is missing.
            seed: int. Seed of the random split.
            background: str. "class" makes a class of what lies between labels
                in time; "none" leaves it out.

        Returns:
            A `Manifest` with the hash of every file.

        Raises:
            UsageError: If there is no such folder, or there can be no
                background.
            DataError: If it has no videos, or fewer than two classes, or
                labels in time contradict each other.
        """
        folder = require_folder(root)
        found = find_videos(folder)
        require_parts(found.videos)
        adds_class = background == "class"
        note = require_background(found.videos) if adds_class else ""
        _require_classes(folder, found.videos, fewest=1 if adds_class else 2)
        found = dataclasses.replace(
            found, notes=(*found.notes, *([note] if note else []))
        )
        fractions = {"val": val_fraction, "test": test_fraction}
        manifest = cls._divided(folder, found, fractions, seed)
        return dataclasses.replace(manifest, background=adds_class)

    @classmethod
    def without_labels(
        cls,
        root: Path,
        *,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
    ) -> "Manifest":
        """Lists the videos of a folder that need not have classes.

        A folder with classes is split as by `from_folder`, so that
        pre-training does not see the test videos; with labels in time, each
        video is taken whole. Of any other folder, all videos at any depth are
        listed, and no test split is made.

        Args:
            root: Path. The folder.
            val_fraction: float. Share of "val", if that split is missing.
            test_fraction: float. Share of "test", if it is missing and the
                folder is sorted by class.
            seed: int. Seed of the random split.

        Returns:
            A `Manifest`, of class "unlabelled" if there are no classes.

        Raises:
            UsageError: If there is no such folder.
            DataError: If it has no videos.
        """
        folder = require_folder(root)
        found = find_videos(folder)
        require_parts(found.videos)
        found = whole_videos(found)
        if len({video.class_name for video in found.videos}) < 2:
            found, test_fraction = find_every_video(folder, "unlabelled"), 0.0
        if not found.videos:
            raise DataError(f"There is no video in '{folder}'.")
        fractions = {"val": val_fraction, "test": test_fraction}
        return cls._divided(folder, found, fractions, seed)

    @classmethod
    def _divided(
        cls,
        folder: Path,
        found: FolderListing,
        fractions: dict[str, float],
        seed: int,
    ) -> "Manifest":
        """Hashes, groups and splits the videos that were found."""
        hashes = _hashes(folder, found.videos)
        groups, how = _groups(found.videos, hashes)
        splits, divided = _splits(
            found.videos,
            groups,
            fractions,
            seed,
        )
        videos = tuple(
            Video(
                file=item.file,
                class_name=item.class_name,
                split=split,
                group=group,
                sha256=content,
                reason=item.reason,
                others=item.others,
                start=item.start,
                end=item.end,
            )
            for item, content, group, split in zip(
                found.videos, hashes, groups, splits, strict=True
            )
        )
        names = tuple(sorted({video.class_name for video in videos}))
        notes = (*found.notes, how, *divided)
        for note in notes:
            logger.info("%s", note)
        return cls(folder, names, videos, notes)

    @classmethod
    def read(cls, file: Path, root: Path | None = None) -> "Manifest":
        """Reads the manifest of a run.

        Args:
            file: Path. A file written by `write`.
            root: Path or None. The folder of the videos, if it has moved.

        Returns:
            The `Manifest`, equal to the one that was written.

        Raises:
            DataError: If the file is missing or not the manifest of a run.
        """
        try:
            with file.open(
                encoding="utf-8", errors="surrogateescape", newline=""
            ) as stream:
                rows = list(csv.DictReader(stream))
            videos = tuple(Video(**fields_of(row)) for row in rows)
            folder = root or Path(rows[0]["root"])
        except (
            OSError,
            csv.Error,
            LookupError,
            TypeError,
            ValueError,
        ) as error:
            raise DataError(
                f"'{file}' is not the manifest of a run: {error}."
            ) from error
        names = tuple(sorted({video.class_name for video in videos}))
        return cls(folder, names, videos)

    def write(self, file: Path) -> None:
        """Writes a CSV file with one row per video, to be read by `read`."""
        with (
            whole_file(file) as temporary,
            temporary.open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as stream,
        ):
            writer = csv.DictWriter(stream, columns_of(self.videos))
            writer.writeheader()
            for row in rows_of(self.videos, self.root):
                writer.writerow(row)

    def split(self, name: str) -> tuple[Video, ...]:
        """Returns the videos of a split, usable or not."""
        return tuple(video for video in self.videos if video.split == name)

    def usable(self, name: str) -> tuple[Video, ...]:
        """Returns the videos of a split that have frames in the store."""
        return tuple(video for video in self.split(name) if video.kept_frames)

    @property
    def failed(self) -> tuple[Video, ...]:
        """The videos that can't be used; each has a `reason`."""
        return tuple(video for video in self.videos if not video.kept_frames)

    def label(self, video: Video) -> int:
        """Returns the index of a video's class in `class_names`."""
        return self._labels[video.class_name]

    @functools.cached_property
    def _labels(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.class_names)}

    def path(self, video: Video) -> Path:
        """Returns the path of a video."""
        return self.root / video.file

    def with_videos(self, videos: Iterable[Video]) -> "Manifest":
        """Returns a copy with other videos and the same classes."""
        return dataclasses.replace(self, videos=tuple(videos))


def _require_classes(
    root: Path, videos: Sequence[FoundVideo], *, fewest: int
) -> None:
    names = sorted({video.class_name for video in videos})
    if not videos:
        raise DataError(
            f"There is no video in '{root}'. Put videos in a folder per class, "
            "as in data/walk/one.mp4 and data/gym/two.mp4."
        )
    if len(names) < fewest:
        raise DataError(
            f"Every video in '{root}' ({len(videos)}) is of one class, "
            f"'{names[0]}'; a classifier needs at least two. Put the videos of "
            "each class in a folder of its own."
        )


def _hashes(root: Path, videos: Sequence[FoundVideo]) -> list[str]:
    """Returns the hash of each file's content, "" if it can't be read."""
    paths = ["" if v.reason else os.path.join(root, v.file) for v in videos]
    hashes: dict[str, str] = dict.fromkeys(paths, "")  # of many parts once
    # Hashing releases the GIL; more than a few threads compete for the disk.
    with (
        ProgressBar("Reading files", total=len(hashes)) as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for path, content in zip(
            hashes, pool.map(content_hash, hashes), strict=True
        ):
            hashes[path] = content
            bar.advance()
    return [hashes[path] for path in paths]


def content_hash(path: str | Path) -> str:
    """Returns the SHA-256 of a file, in hex; "" if it can't be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _groups(
    videos: Sequence[FoundVideo], hashes: Sequence[str]
) -> tuple[list[str], str]:
    """Returns the group of each video, and a note on how it was found."""
    if any(video.group for video in videos):
        groups = [video.group or video.file for video in videos]
        rule = "the manifest's column"
    else:
        # A file is one vote, however many parts of it are labelled.
        classes = {video.file: video.class_name for video in videos}
        guessed, rule = guess_groups(list(classes.items()))
        by_file = dict(zip(classes, guessed, strict=True))
        groups = [by_file[video.file] for video in videos]
    groups = join_groups(groups, [video.file for video in videos])
    groups = join_groups(groups, hashes)
    number = len(set(groups))
    counts = f"{counted(videos)} in {plural(number, 'group')}"
    return groups, f"{counts}, by {rule}."


def _splits(
    videos: Sequence[FoundVideo],
    groups: Sequence[str],
    fractions: dict[str, float],
    seed: int,
) -> tuple[list[str], list[str]]:
    """Returns the split of each video, and notes on splits that were made."""
    splits = [video.split or "train" for video in videos]
    missing = {
        name: fraction
        for name, fraction in fractions.items()
        if name not in splits and fraction > 0
    }
    if not missing:
        return splits, []
    pool = [i for i, split in enumerate(splits) if split == "train"]
    divided = split_groups(
        [groups[i] for i in pool],
        [videos[i].class_name for i in pool],
        missing,
        seed=seed,
    )
    for i, split in zip(pool, divided, strict=True):
        splits[i] = split
    counts = Counter(splits)
    sizes = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    names = " and ".join(missing)
    return splits, [f"Cut {names} from the training videos: {sizes}."]
