"""The report of `check`: HTML page, CSV tables and terminal text."""

import csv
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from har_keras.files import whole_file
from har_keras.inference.views import evenly
from har_keras.manifest.formats.cells import guarded
from har_keras.manifest.manifest import Manifest, Video
from har_keras.manifest.parts import counted
from har_keras.manifest.split_names import SPLITS
from har_keras.progress import plural
from har_keras.report.film_strips import picture_of
from har_keras.report.html import contents_list, page, parts, section, table
from har_keras.store.duplicates import Duplicate, leaking_groups
from har_keras.store.scenes import (
    Scene,
    classes_of,
    group_warnings,
    scene_notes,
)
from har_keras.store.shards import StoredVideo, Thumbnails
from har_keras.store.store import Store
from har_keras.terminal import printable

Cell = str | int | float

# Of 255. Noise changes a 16 x 16 thumbnail by less.
_LARGEST_STILL_CHANGE = 2
_BRIGHTEST_BLACK = 24
# On the page: pictures of all classes, of one, pairs and groups.
_MOST_PICTURES, _MOST_OF_CLASS, _MOST_PAIRS, _MOST_GROUPS = 400, 48, 40, 100
# Headers may count lead-in or last frames that are not decoded.
_MIN_DECODED = 0.9

_VIDEO_COLUMNS = (
    "file", "class", "split", "group", "verdict", "reason", "remarks",
    "seconds", "width", "height", "fps", "variable_rate", "rotation", "audio",
    "container", "codec", "pixel_format", "decoded_frames", "sha256",
)  # fmt: skip


@dataclass(frozen=True)
class CheckReport:
    """The findings about a folder of videos.

    Args:
        title: str. Name of the folder.
        manifest: Manifest. The videos, with kept frames and reasons.
        store: Store. The decoded frames.
        duplicates: Sequence of Duplicate. Pairs of near-duplicates.
        scenes: Sequence of Scene. Videos of one place in several groups.
    """

    title: str
    manifest: Manifest
    store: Store
    duplicates: Sequence[Duplicate]
    scenes: Sequence[Scene] = ()

    @property
    def leaks(self) -> list[Duplicate]:
        """Duplicates across splits (leakage)."""
        return [pair for pair in self.duplicates if pair.is_leak]

    def write(self, folder: Path) -> None:
        """Writes `videos.csv`, `duplicates.csv` and `report.html`."""
        rows = [self._video_row(*found) for found in self._remarked]
        columns: tuple[str, ...] = _VIDEO_COLUMNS
        if self._has_parts:
            columns = (*columns, "start", "end")
            rows = [
                (*row, _time(video.start), _time(video.end))
                for row, video in zip(rows, self.manifest.videos, strict=True)
            ]
        _write_csv(folder / "videos.csv", columns, rows)
        pairs = [
            (pair.first.file, pair.first.split, pair.second.file,
             pair.second.split, pair.kind, round(pair.agreement, 2),
             round(pair.shift_seconds, 2), _yes(pair.is_leak))
            for pair in self.duplicates
        ]  # fmt: skip
        _write_csv(folder / "duplicates.csv", _PAIR_COLUMNS, pairs)
        with whole_file(folder / "report.html") as file:
            file.write_text(self.html(), "utf-8", errors="replace")

    def html(self) -> str:
        """Renders the page."""
        bad = [
            [
                video.name,
                "used in part" if video.kept_frames else "not used",
                video.reason,
            ]
            for video in self.manifest.videos
            if video.reason
        ]
        remarks = [[v.file, "; ".join(r)] for v, r in self._remarked if r]
        leaking = [
            [g, " and ".join(s)]
            for g, s in leaking_groups(self.manifest).items()
        ]
        contents = {
            "Classes and splits": table(self._count_columns, self.counts()),
            "Videos not fully used": _table(_BAD_HEADER, bad),
            f"Duplicates: {plural(len(self.duplicates), 'pair')}, "
            f"{len(self.leaks)} across splits": self._pairs(),
            "Groups in several splits": _table(_GROUP_HEADER, leaking),
            "Unusual videos": _table(["video", "remark"], remarks),
            "What the names say of groups": _table(_SEEN_HEADER, self.seen()),
            self._groups_heading: _table(_GROUPS_HEADER, self.groups()),
            "Scenes": _table(_SCENE_HEADER, self.places()),
            "Properties": table(["class", *_KINDS], self.kinds()),
            **{
                f"Class {name}": self._sheet(name)
                for name in self.manifest.class_names
            },
        }
        shown = {name: content for name, content in contents.items() if content}
        opening = parts("check.html").opening(
            self.title,
            self.headline(),
            group_warnings(self.manifest),
            self.notes(),
        )
        return page(
            f"Check of {self.title}",
            [
                opening,
                contents_list(list(shown)),
                *(section(name, content) for name, content in shown.items()),
            ],
        )

    def _sheet(self, class_name: str) -> Markup:
        """Returns a picture of each video of a class, if there are few."""
        videos = [x for x in self._of_class[class_name] if x.kept_frames]
        most = _MOST_PICTURES // max(1, len(self.manifest.class_names))
        chosen = evenly(videos, min(_MOST_OF_CLASS, max(4, most)))
        pictures = [picture_of(self.store, video) for video in chosen]
        rest = len(videos) - len(chosen)
        made: Markup = parts("check.html").sheet(pictures, rest)
        return made if videos else Markup()

    def _pairs(self) -> Markup:
        """Returns duplicates side by side, those across splits first."""
        found = sorted(self.duplicates, key=lambda pair: not pair.is_leak)
        shown = [
            (pair, *(picture_of(self.store, x, num_frames=4)
                     for x in (pair.first, pair.second)))
            for pair in found[:_MOST_PAIRS]
        ]  # fmt: skip
        rest = len(found) - len(shown)
        made: Markup = parts("check.html").pairs(shown, rest)
        return made if found else Markup()

    @functools.cached_property
    def _by_group(self) -> dict[str, list[Video]]:
        found: dict[str, list[Video]] = defaultdict(list)
        for video in self.manifest.videos:
            found[video.group].append(video)
        return found

    @property
    def _groups_heading(self) -> str:
        total = len(self._by_group)
        if total <= _MOST_GROUPS:
            return f"Groups: {total}"
        return f"Groups: the {_MOST_GROUPS} largest of {total}"

    def groups(self) -> list[list[str]]:
        """Returns a row per group, the largest first: what is in it."""
        found = sorted(self._by_group.items(), key=lambda x: -len(x[1]))
        return [
            [
                group,
                str(len(videos)),
                ", ".join(sorted({video.class_name for video in videos})),
                ", ".join(x for x in SPLITS if x in {v.split for v in videos}),
                videos[0].file,
            ]
            for group, videos in found[:_MOST_GROUPS]
        ]

    def headline(self) -> str:
        """Summarizes the result in a sentence."""
        videos = self.manifest.videos
        usable = sum(video.kept_frames > 0 for video in videos)
        seconds = sum(video.kept_frames for video in videos) / self._fps
        return (
            f"{usable} of {counted(videos)} can be used, "
            f"{seconds / 60:.1f} minutes; "
            f"{plural(len(self.duplicates), 'pair')} of duplicates, "
            f"{len(self.leaks)} across splits."
        )

    def notes(self) -> list[str]:
        """Returns how groups and splits were made."""
        division = self.manifest.division
        return [
            *self.manifest.notes,
            *scene_notes(self.scenes),
            *division.notes(self.manifest.videos),
        ]

    def seen(self) -> list[list[str]]:
        """Returns a row per class: what its names say of the source."""
        return [
            [row.class_name, row.seen, row.meaning or "nothing", row.example,
             str(row.videos), str(row.groups), str(row.largest)]
            for row in self.manifest.division.rows
        ]  # fmt: skip

    def places(self) -> list[list[str]]:
        """Returns a row per scene that is in several groups by names."""
        return [
            [
                ", ".join(sorted(classes_of(self.manifest, scene.videos))),
                str(len(scene.videos)),
                str(scene.groups),
                "one group" if scene.is_joined else "apart",
                scene.videos[0].file,
            ]
            for scene in self.scenes
        ]

    def counts(self) -> list[list[str]]:
        """Returns a row per class and split: videos, usable, seconds."""
        rows = []
        for name in self.manifest.class_names:
            for split in SPLITS:
                mine = [x for x in self._of_class[name] if x.split == split]
                usable = [video for video in mine if video.kept_frames]
                seconds = sum(v.kept_frames for v in usable) / self._fps
                groups = len({video.group for video in mine})
                counts = (len(mine), len(usable), groups, round(seconds))
                rows.append([name, split, *map(str, counts)])
        return rows

    def kinds(self) -> list[list[str]]:
        """Returns a row per class: its frame sizes, rates, codecs and so on."""
        return [
            [name, *(_most_common(map(kind, mine)) for kind in _KINDS.values())]
            for name in self.manifest.class_names
            for mine in [self._stored(name)]
        ]

    def text(self) -> str:
        """Formats the report for a terminal."""
        lines = [*group_warnings(self.manifest)]
        lines += [""] * bool(lines)
        lines += [*_columns(self._count_columns, self.counts()), ""]
        if seen := self.seen():
            lines += [*_columns(_SEEN_HEADER, seen), ""]
        lines += [*scene_notes(self.scenes)]
        for name, *values in self.kinds():
            pairs = zip(_KINDS, values, strict=True)
            listed = [f"{kind} {value}" for kind, value in pairs if value]
            lines += [f"{name}: {'; '.join(listed)}"] * bool(listed)
        for video, remarks in self._remarked:
            lines += [f"'{video.file}': {'; '.join(remarks)}"] * bool(remarks)
        lines += [f"Duplicates: {pair}" for pair in self.duplicates]
        for group, splits in leaking_groups(self.manifest).items():
            lines.append(f"Group '{group}' is in {' and '.join(splits)}")
        return "\n".join(map(printable, [*lines, "", self.headline()]))

    @functools.cached_property
    def _has_parts(self) -> bool:
        return any(video.is_part for video in self.manifest.videos)

    @property
    def _count_columns(self) -> tuple[str, ...]:
        what = "parts" if self._has_parts else "videos"
        return ("class", "split", what, "usable", "groups", "seconds")

    @property
    def _fps(self) -> float:
        return self.store.spec.fps

    def _stored(self, class_name: str) -> list[StoredVideo]:
        files = {
            video.file: self.store.video(video.sha256)
            for video in self._of_class[class_name]
            if video.kept_frames
        }
        return list(files.values())

    @functools.cached_property
    def _of_class(self) -> dict[str, list[Video]]:
        found: dict[str, list[Video]] = defaultdict(list)
        for video in self.manifest.videos:
            found[video.class_name].append(video)
        return found

    @functools.cached_property
    def _remarked(self) -> list[tuple[Video, list[str]]]:
        """Every video with its remarks, which the first part of a file has."""
        videos = self.manifest.videos
        first = {video.file: video for video in reversed(videos)}
        hashes = {video.sha256 for video in videos if video.kept_frames}
        thumbnails = self.store.thumbnails(hashes)
        found = {
            sha256: remarks(self.store.video(sha256), thumbnails[sha256])
            for sha256 in hashes
        }
        return [
            (v, found.get(v.sha256, []) if first[v.file] is v else [])
            for v in videos
        ]

    def _video_row(
        self, video: Video, found: Sequence[str]
    ) -> tuple[Cell, ...]:
        known = video.sha256 in self.store
        stored = self.store.video(video.sha256) if known else StoredVideo("")
        info = stored.info
        verdict = "used" if video.kept_frames else "not used"
        verdict += " in part" if video.kept_frames and stored.damage else ""
        return (
            video.file, video.class_name, video.split, video.group, verdict,
            video.reason, "; ".join(found),
            round(video.kept_frames / self._fps, 2), info.width, info.height,
            info.fps, _yes(stored.variable_rate), info.rotation,
            _yes(info.has_audio), info.container, info.codec,
            info.pixel_format, stored.source_frames, video.sha256,
        )  # fmt: skip


def remarks(video: StoredVideo, thumbnails: Thumbnails) -> list[str]:
    """Returns remarks on a decodable but unusual video.

    Args:
        video: StoredVideo. Properties of the decoded video.
        thumbnails: `uint8` array of shape `(N, 16, 16)`, grayscale.

    Returns:
        A list of str, such as "frozen throughout".
    """
    found = []
    declared = round(video.info.duration_seconds * video.info.fps)
    if not video.damage and video.source_frames < _MIN_DECODED * declared - 1:
        found.append(
            f"declares {declared} frames but {video.source_frames} decode"
        )
    change = (thumbnails.max(0) - thumbnails.min(0)).max()
    if int(thumbnails.max()) <= _BRIGHTEST_BLACK:
        found.append("black throughout")
    elif len(thumbnails) > 1 and change <= _LARGEST_STILL_CHANGE:
        found.append("frozen throughout")
    elif len(thumbnails) == 1:
        found.append("hardly more than one frame")
    return found


_SEEN_HEADER = (
    "class", "groups by", "meaning", "such as", "videos", "groups", "largest",
)  # fmt: skip
_SCENE_HEADER = ("classes", "videos", "groups", "joined", "such as")
_GROUP_HEADER = ("group", "splits")
_GROUPS_HEADER = ("group", "videos", "classes", "splits", "such as")
_BAD_HEADER = ("video", "verdict", "reason")
_PAIR_COLUMNS = (
    "first", "first_split", "second", "second_split", "kind", "agreement",
    "shift_seconds", "leak",
)  # fmt: skip
_KINDS: dict[str, Callable[[StoredVideo], str]] = {
    "sizes": lambda video: f"{video.info.width}x{video.info.height}",
    "rates": lambda video: f"{video.info.fps:g}/s",
    "codecs": lambda video: f"{video.info.codec} in {video.info.container}",
    "rotation": lambda video: (
        f"{video.info.rotation}\N{DEGREE SIGN}"
        + (", mirrored" if video.info.mirrored else "")
    ),
    "timing": lambda video: "variable" if video.variable_rate else "even",
    "audio": lambda video: "with" if video.info.has_audio else "without",
}


def _most_common(values: Iterable[str]) -> str:
    """Returns values with their counts, the most frequent first.

    Example:

    >>> _most_common(["a", "b", "a"])
    'a (2), b (1)'
    """
    counts = Counter(values)
    listed = [f"{value} ({count})" for value, count in counts.most_common(4)]
    others = counts.total() - sum(n for _, n in counts.most_common(4))
    return ", ".join([*listed, *([f"others ({others})"] if others else [])])


def _time(seconds: float | None) -> Cell:
    return "" if seconds is None else seconds


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    return table(header, rows) if rows else Markup()


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligns rows in columns of plain text, numbers to the right.

    Example:

    >>> _columns(["class", "videos"], [["walk", "7"], ["gym", "12"]])
    ['class  videos', 'walk        7', 'gym        12']
    """
    every = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]
    lines = []
    for row in every:
        cells = zip(row, rows[0] if rows else row, widths, strict=True)
        lines.append(
            "  ".join(
                cell.rjust(width) if model.isdecimal() else cell.ljust(width)
                for cell, model, width in cells
            ).rstrip()
        )
    return lines


def _write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Cell]]
) -> None:
    with (
        whole_file(path) as temporary,
        temporary.open(
            "w", newline="", encoding="utf-8", errors="surrogateescape"
        ) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            writer.writerow(
                guarded(cell) if isinstance(cell, str) else cell for cell in row
            )
