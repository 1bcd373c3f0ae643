"""The list of videos: class, split, group and content of every file."""

import csv
import dataclasses
import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from har_keras.errors import DataError
from har_keras.files import whole_file
from har_keras.manifest.entries import FolderListing, FoundVideo, require_folder
from har_keras.manifest.folders import find_every_video, find_videos
from har_keras.manifest.groups import guess_groups, join_groups, split_groups
from har_keras.progress import ProgressBar

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

_COLUMNS = (
    "file", "class", "split", "group", "sha256", "kept_frames", "reason",
    "root",
)  # fmt: skip


@dataclass(frozen=True)
class Video:
    """One video file and what is known of it.

    Args:
        file: str. Path under the manifest's root, with `/`. Bytes that are no
            UTF-8 are kept as surrogates.
        class_name: str. What is done in it.
        split: str. "train", "val" or "test".
        group: str. Videos with the same group are in the same split.
        sha256: str. Hash of the content; "" if the file can't be read.
        kept_frames: int. Frames in the store; 0 if it is not usable, or not
            decoded yet.
        reason: str. Why it is not usable, or what was left out of it.
        others: Sequence of pairs. Further columns of a user's manifest.
    """

    file: str
    class_name: str
    split: str
    group: str
    sha256: str = ""
    kept_frames: int = 0
    reason: str = ""
    others: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Every video of a folder, usable or not. Nothing is left out.

    Args:
        root: Path. The folder; no video lies outside of it.
        class_names: Sequence of str, sorted: the order of labels.
        videos: Sequence of Video.
        notes: Sequence of str. Sentences for people on how it was made.
    """

    root: Path
    class_names: tuple[str, ...]
    videos: tuple[Video, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def from_folder(
        cls,
        root: Path,
        *,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
    ) -> "Manifest":
        """Lists the videos of a folder and divides them where they aren't.

        Four forms are read, the first that matches: a `manifest.csv` with
        columns `file` and `class` (and perhaps `split` and `group`), lists
        `train.txt` or `.csv` (and val, test) with a path and a label a line,
        `{train,val,test}/<class>/...`, and `<class>/...`. A split that is
        missing is cut from the training videos, by group, with the same share
        of every class. Files of the same content are one group.

        Args:
            root: Path. The folder.
            val_fraction: float. Share of "val", if it is missing.
            test_fraction: float. Share of "test", if it is missing.
            seed: int. Seed of the division.

        Returns:
            A `Manifest` with the hash of every file.

        Raises:
            UsageError: If there is no such folder.
            DataError: If it has no videos, or fewer than two classes.
        """
        folder = require_folder(root)
        found = find_videos(folder)
        _require_classes(folder, found.videos)
        fractions = {"val": val_fraction, "test": test_fraction}
        return cls._divided(folder, found, fractions, seed)

    @classmethod
    def without_labels(
        cls,
        root: Path,
        *,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
    ) -> "Manifest":
        """Lists the videos of a folder that need not be sorted by class.

        One that is sorted is divided as `from_folder` divides it, so that
        what will be tested on stays apart. Of any other, every video is
        listed, however deep it lies, and none is kept for a test.

        Args:
            root: Path. The folder.
            val_fraction: float. Share of "val", if it is missing.
            test_fraction: float. Share of "test", if it is missing and the
                folder is sorted by class.
            seed: int. Seed of the division.

        Returns:
            A `Manifest`, of class "unlabelled" where there are no classes.

        Raises:
            UsageError: If there is no such folder.
            DataError: If it has no videos.
        """
        folder = require_folder(root)
        found = find_videos(folder)
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
        """Returns the manifest of what was found, hashed, grouped, split."""
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
            file: Path. A file that `write` made.
            root: Path or None. The folder of the videos, if it was moved.

        Returns:
            The `Manifest`, equal to the one that was written.

        Raises:
            DataError: If the file is missing or is no manifest of a run.
        """
        try:
            with file.open(
                encoding="utf-8", errors="surrogateescape", newline=""
            ) as stream:
                rows = list(csv.DictReader(stream))
            videos = tuple(_video_from_row(row) for row in rows)
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
        """Writes a CSV file with a line per video, to be opened by `read`."""
        others = list(
            dict.fromkeys(k for v in self.videos for k, _ in v.others)
        )
        with (
            whole_file(file) as temporary,
            temporary.open(
                "w", encoding="utf-8", errors="surrogateescape", newline=""
            ) as stream,
        ):
            writer = csv.DictWriter(stream, [*_COLUMNS, *others])
            writer.writeheader()
            for video in self.videos:
                writer.writerow(_row_from_video(video, self.root))

    def split(self, name: str) -> tuple[Video, ...]:
        """Returns the videos of a split, usable or not."""
        return tuple(video for video in self.videos if video.split == name)

    def usable(self, name: str) -> tuple[Video, ...]:
        """Returns the videos of a split that have frames in the store."""
        return tuple(video for video in self.split(name) if video.kept_frames)

    @property
    def failed(self) -> tuple[Video, ...]:
        """The videos that can't be used; each has a reason."""
        return tuple(video for video in self.videos if not video.kept_frames)

    def label(self, video: Video) -> int:
        """Returns the index of a video's class in `class_names`."""
        return self._labels[video.class_name]

    @functools.cached_property
    def _labels(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.class_names)}

    def path(self, video: Video) -> Path:
        """Returns where a video lies."""
        return self.root / video.file

    def with_videos(self, videos: Iterable[Video]) -> "Manifest":
        """Returns a manifest of other videos, with the same classes."""
        return dataclasses.replace(self, videos=tuple(videos))


def _require_classes(root: Path, videos: Sequence[FoundVideo]) -> None:
    names = sorted({video.class_name for video in videos})
    if not videos:
        raise DataError(
            f"There is no video in '{root}'. Put videos in a folder per class, "
            "as in data/walk/one.mp4 and data/gym/two.mp4."
        )
    if len(names) < 2:
        raise DataError(
            f"All {len(videos)} videos in '{root}' are of one class, "
            f"'{names[0]}'; a classifier needs at least two. Put the videos of "
            "each class in a folder of its own."
        )


def _hashes(root: Path, videos: Sequence[FoundVideo]) -> list[str]:
    """Returns the hash of each file's content, "" if it can't be read."""
    paths = ["" if v.reason else os.path.join(root, v.file) for v in videos]
    # Hashing lets other threads run; more than a few only fight for the disk.
    with (
        ProgressBar("Reading files", total=len(paths)) as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        hashes = []
        for content in pool.map(content_hash, paths):
            hashes.append(content)
            bar.advance()
    return hashes


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
    """Returns a group per video, and how it was found in a sentence."""
    files = [(video.file, video.class_name) for video in videos]
    if any(video.group for video in videos):
        groups = [video.group or video.file for video in videos]
        rule = "the manifest's column"
    else:
        groups, rule = guess_groups(files)
    groups = join_groups(groups, hashes)
    number = len(set(groups))
    return groups, f"{len(files)} videos in {number} groups, by {rule}."


def _splits(
    videos: Sequence[FoundVideo],
    groups: Sequence[str],
    fractions: dict[str, float],
    seed: int,
) -> tuple[list[str], list[str]]:
    """Returns a split per video, and a sentence if some were cut."""
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


# A spreadsheet runs a cell that begins so. Cells that begin so, or with
# quotes before it, get one quote more, which `read` takes off again.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def guarded(cell: str) -> str:
    """Returns a cell of a table that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.lstrip("'").startswith(_FORMULA) else cell


def unguarded(cell: str) -> str:
    """Returns what `guarded` was given."""
    is_guarded = cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA)
    return cell[1:] if is_guarded else cell


def _row_from_video(video: Video, root: Path) -> dict[str, Any]:
    row = {
        "file": video.file,
        "class": video.class_name,
        "split": video.split,
        "group": video.group,
        "sha256": video.sha256,
        "kept_frames": str(video.kept_frames),
        "reason": video.reason,
        "root": str(root),
    }
    return {name: guarded(cell) for name, cell in (*row.items(), *video.others)}


def _video_from_row(row: dict[str, str]) -> Video:
    cells = {name: unguarded(cell) for name, cell in row.items()}
    take: Callable[[str], str] = cells.pop
    root_and_others = {k: v for k, v in cells.items() if k not in _COLUMNS}
    return Video(
        file=take("file"),
        class_name=take("class"),
        split=take("split"),
        group=take("group"),
        sha256=take("sha256"),
        kept_frames=int(take("kept_frames")),
        reason=take("reason"),
        others=tuple(root_and_others.items()),
    )
