"""The list of videos: class, split, group and content of every file."""

import csv
import dataclasses
import functools
import hashlib
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from har_keras.errors import DataError
from har_keras.files import open_regular, whole_file
from har_keras.manifest.division import Division, grouping_of
from har_keras.manifest.entries import FolderListing, FoundVideo, require_folder
from har_keras.manifest.folders import (
    find_every_video,
    find_videos,
    require_classes,
    require_training,
    require_videos,
)
from har_keras.manifest.groups import join_groups
from har_keras.manifest.layouts import NoClassFolders
from har_keras.manifest.parts import (
    counted,
    is_part,
    require_background,
    require_parts,
    sample_name,
    whole_videos,
)
from har_keras.manifest.rows import columns_of, fields_of, rows_of
from har_keras.progress import ProgressBar
from har_keras.video.images import images_in

logger = logging.getLogger(__name__)

_MOST_CLASSES = 10_000


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
        division: Division. How groups and splits were made.
        background: bool. Whether what lies between labels in time becomes a
            class of its own once the lengths of the videos are known.
        listing: FolderListing. The videos as the folder describes them, before
            they were divided.
    """

    root: Path
    class_names: tuple[str, ...]
    videos: tuple[Video, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)
    division: Division = field(default_factory=Division, compare=False)
    background: bool = field(default=False, compare=False)
    listing: FolderListing = field(
        default=FolderListing((), ()), compare=False, repr=False
    )

    @classmethod
    def from_folder(
        cls,
        root: Path,
        *,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
        group_by: str = "auto",
        background: str = "none",
    ) -> "Manifest":
        """Lists the videos of a folder and splits them if they are not split.

        The first description that there is counts: a `manifest.csv` with
        columns `file` and `class` (optionally `split` and `group`, and `start`
        and `end` in seconds of a labelled part); annotations of another program
        or data set, as they are; lists `train.txt` or `.csv` (and val, test)
        with a path and a label per line; `{train,val,test}/<class>/...`;
        `<class>/...`. A missing split is
        drawn from the training videos, by group and stratified by class.
        Files with the same content are one group, and so are the parts of a
        video.

        Args:
            root: Path. The folder.
            val_fraction: float. Share of "val", if that split is missing.
            test_fraction: float. Share of "test", if that split is missing.
            seed: int. Seed of the random split.
            group_by: str. What groups come from, as `group_by_names` takes it.
            background: str. "class" makes a class of what lies between labels
                in time; "none" leaves it out.

        Returns:
            A `Manifest` with the hash of every file.

        Raises:
            UsageError: If there is no such folder, or there can be no
                background.
            DataError: If it has no videos, fewer than two classes, splits
                without one for training, or labels in time that contradict
                each other.
        """
        folder = require_folder(root)
        found = find_videos(folder)
        require_parts(found.videos)
        adds_class = background == "class"
        note = require_background(found.videos) if adds_class else ""
        require_classes(folder, found.videos, fewest=1 if adds_class else 2)
        require_training(folder, found.videos)
        found = dataclasses.replace(
            found, notes=(*found.notes, *([note] if note else []))
        )
        fractions = {"val": val_fraction, "test": test_fraction}
        manifest = cls._divided(folder, found, fractions, seed, group_by)
        return dataclasses.replace(manifest, background=adds_class)

    @classmethod
    def to_evaluate(
        cls, root: Path, class_names: Collection[str]
    ) -> "Manifest":
        """Lists the videos of a folder on which a model is to be evaluated.

        They are read as by `from_folder`, but may be of a single class and of
        a single split, and none is drawn. The folder may be that of a class.

        Args:
            root: Path. The folder.
            class_names: Collection of str. The model's classes.

        Returns:
            A `Manifest` with the classes that were found.

        Raises:
            UsageError: If there is no such folder.
            DataError: If it has no videos, or labels in time contradict each
                other.
        """
        folder = require_folder(root)
        found = find_videos(folder, class_names)
        require_videos(folder, found.videos)
        require_parts(found.videos)
        return cls._divided(folder, found, {}, seed=0, group_by="auto")

    @classmethod
    def without_labels(
        cls,
        root: Path,
        *,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
        group_by: str = "auto",
    ) -> "Manifest":
        """Lists the videos of a folder that need not have classes.

        A folder with classes is split as by `from_folder`, so that
        pre-training does not see the test videos; with labels in time, each
        video is taken whole. Of a list of one class its videos are taken. Of
        any other folder, all videos at any depth are listed, and of neither is
        a test split made.

        Args:
            root: Path. The folder.
            val_fraction: float. Share of "val", if that split is missing.
            test_fraction: float. Share of "test", if it is missing and the
                folder is sorted by class.
            seed: int. Seed of the random split.
            group_by: str. What groups come from, as `group_by_names` takes it.

        Returns:
            A `Manifest`, of class "unlabelled" if there are no classes.

        Raises:
            UsageError: If there is no such folder.
            DataError: If it has no videos.
        """
        folder = require_folder(root)
        try:
            found = find_videos(folder)
        except NoClassFolders:
            found = FolderListing((), ())
        require_parts(found.videos)
        found = whole_videos(found)
        if len({video.class_name for video in found.videos}) < 2:
            test_fraction = 0.0
            if not found.is_list:
                found = find_every_video(folder, "unlabelled")
        if not found.videos:
            raise DataError(f"There is no video in '{folder}'.")
        fractions = {"val": val_fraction, "test": test_fraction}
        return cls._divided(folder, found, fractions, seed, group_by)

    @classmethod
    def _divided(
        cls,
        folder: Path,
        found: FolderListing,
        fractions: dict[str, float],
        seed: int,
        group_by: str,
    ) -> "Manifest":
        """Hashes, groups and splits the videos that were found."""
        names = tuple(sorted({item.class_name for item in found.videos}))
        if len(names) > _MOST_CLASSES:
            raise DataError(
                f"'{folder}' has {len(names)} classes, such as "
                f"'{names[0][:80]}'; {_MOST_CLASSES} are the most. Name the "
                "column or the folders that hold the classes."
            )
        hashes = _hashes(folder, found.videos)
        grouping = grouping_of(found.videos, group_by)
        groups = join_groups(grouping.groups, hashes)
        given = [video.split or "train" for video in found.videos]
        videos = tuple(
            Video(
                file=item.file,
                class_name=item.class_name,
                split=split,
                group="",
                sha256=content,
                reason=item.reason,
                others=item.others,
                start=item.start,
                end=item.end,
            )
            for item, content, split in zip(
                found.videos, hashes, given, strict=True
            )
        )
        division = Division.of(grouping, given, fractions, seed)
        undivided = cls(folder, names, videos, division=division, listing=found)
        manifest = undivided.with_groups(groups)
        notes = (*found.notes, grouping.summary(groups, counted(videos)))
        for note in notes:
            logger.info("%s", note)
        return dataclasses.replace(manifest, notes=notes)

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
                rows = list(csv.DictReader(stream, restval=""))
            if any(None in row for row in rows):
                raise ValueError("a line has too many cells")
            videos = tuple(Video(**fields_of(row)) for row in rows)
            folder = root or Path(rows[0]["root"])
        except FileNotFoundError as error:
            raise DataError(
                f"'{file.parent}' has no {file.name}, as a model from a hub "
                "has none: its videos are not known here. Name others, such "
                "as with --videos and --output of evaluate."
            ) from error
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

    def with_groups(self, groups: Sequence[str]) -> "Manifest":
        """Returns a copy with other groups; splits that were cut follow them.

        Args:
            groups: Sequence of str. The group of each video.
        """
        splits = self.division.splits(self.videos, groups)
        return self.with_videos(
            dataclasses.replace(video, group=group, split=split)
            for video, group, split in zip(
                self.videos, groups, splits, strict=True
            )
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
    """Returns the SHA-256 of a file, in hex; "" if it can't be read.

    That of a folder of images is of their names and contents, in order.
    """
    try:
        if os.path.isdir(path):
            return _hash_of_images(Path(path))
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _hash_of_images(folder: Path) -> str:
    """Returns the hash of a folder of images; "" if there is none in it."""
    found = hashlib.sha256()
    images = images_in(folder)
    for image in images:
        found.update(os.fsencode(image.name) + b"\0")
        with image.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest() if images else ""
