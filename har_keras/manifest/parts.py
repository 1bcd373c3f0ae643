"""Labels in time: parts of a video, each a sample of its own."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from har_keras.errors import DataError, UsageError
from har_keras.manifest.entries import FolderListing, FoundVideo
from har_keras.progress import plural

BACKGROUND = "background"
"""The class of what no label covers, with `--background class`."""

TOUCHING_SECONDS = 0.1
"""Labels that overlap or are apart by less touch: no hand is more exact."""


class Timed(Protocol):
    """What has a file, a class, and the times of a part in seconds."""

    @property
    def file(self) -> str: ...
    @property
    def class_name(self) -> str: ...
    @property
    def start(self) -> float | None: ...
    @property
    def end(self) -> float | None: ...


@dataclass(frozen=True)
class Span:
    """A stretch of time, in seconds; the end is not in it."""

    start: float
    end: float

    @classmethod
    def of(cls, part: Timed) -> "Span":
        """Returns the time of a part, which may be open at both ends."""
        end = math.inf if part.end is None else part.end
        return cls(part.start or 0.0, end)


def is_part(item: Timed) -> bool:
    """Returns whether a label has a time, and is not of a whole video."""
    return item.start is not None or item.end is not None


def sample_name(item: Timed) -> str:
    """Returns the name of a sample for people: the file, and the time in it.

    Example:

    >>> sample_name(FoundVideo("a.mp4", "walk"))
    'a.mp4'
    >>> sample_name(FoundVideo("a.mp4", "walk", start=2.5, end=7.0))
    'a.mp4 (2.5 to 7 s)'
    """
    return f"{item.file} ({_times(item)})" if is_part(item) else item.file


def _times(item: Timed) -> str:
    if not is_part(item):
        return "the whole video"
    start = seconds_text(item.start or 0.0)
    if item.end is None:
        return f"from {start} s"
    return f"{start} to {seconds_text(item.end)} s"


def seconds_text(seconds: float) -> str:
    """Formats a time to a millisecond, without zeros at its end.

    Example:

    >>> seconds_text(7.0), seconds_text(1234.56789)
    ('7', '1234.568')
    """
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def counted(videos: Iterable[Timed]) -> str:
    """Returns how many samples there are, in words.

    Example:

    >>> counted([FoundVideo("a.mp4", "walk"), FoundVideo("b.mp4", "walk")])
    '2 videos'
    >>> counted([FoundVideo("a.mp4", "walk", end=3.0)])
    '1 part of 1 video'
    """
    listed = list(videos)
    files = plural(len({video.file for video in listed}), "video")
    if not any(map(is_part, listed)):
        return plural(len(listed), "video")
    return f"{plural(len(listed), 'part')} of {files}"


def part_frames(part: Timed, fps: float, num_frames: int) -> range:
    """Returns the frames of a part, from those at a constant rate.

    A frame belongs to a part if its time does, so parts that touch share none.

    Args:
        part: FoundVideo or Video. Its times.
        fps: float. Frames per second.
        num_frames: int. Frames of the whole video.

    Returns:
        range, empty if the part begins after the video's end.

    Example:

    >>> part_frames(FoundVideo("a.mp4", "walk", start=1.0, end=2.0), 8.0, 12)
    range(8, 12)
    """
    span = Span.of(part)
    first = math.ceil(span.start * fps - 1e-6)
    stop = num_frames
    if span.end * fps < num_frames:
        stop = math.ceil(span.end * fps - 1e-6)
    return range(min(first, num_frames), max(min(first, num_frames), stop))


def by_file(videos: Iterable[FoundVideo]) -> dict[str, list[FoundVideo]]:
    """Returns the samples of each file that has parts, in order of time."""
    found: dict[str, list[FoundVideo]] = defaultdict(list)
    for video in videos:
        found[video.file].append(video)
    return {
        file: sorted(mine, key=lambda item: Span.of(item).start)
        for file, mine in found.items()
        if any(map(is_part, mine))
    }


def require_parts(videos: Sequence[FoundVideo]) -> None:
    """Checks labels in time against each other, before a video is opened.

    Args:
        videos: Sequence of FoundVideo. All of a folder.

    Raises:
        DataError: If a part ends before it begins, two overlap, or the parts
            of a video are in several splits.
    """
    parts = by_file(videos)
    for mine in parts.values():
        for part in mine:
            _require_order(part)
    clashes = [
        (first, second)
        for mine in parts.values()
        for first, second in _overlapping(mine)
    ]
    if clashes:
        _refuse(clashes)
    for file, mine in parts.items():
        splits = sorted({part.split for part in mine if part.split})
        if len(splits) > 1:
            raise DataError(
                f"Parts of '{file}' are in {' and '.join(splits)}, but all "
                "parts of a video show the same place and people. Give them "
                "one split."
            )


def _require_order(part: FoundVideo) -> None:
    span = Span.of(part)
    known = (x for x in (part.start, part.end) if x is not None)
    if not all(math.isfinite(x) and x >= 0 for x in known):
        raise DataError(
            f"A label of '{part.file}', '{part.class_name}', has the times "
            f"{part.start} and {part.end}. start and end are seconds from the "
            "beginning of the video, 0 or more."
        )
    if span.end <= span.start:
        raise DataError(
            f"A label of '{part.file}', '{part.class_name}', ends at "
            f"{seconds_text(span.end)} s and begins at "
            f"{seconds_text(span.start)} s. Correct its start or end."
        )


def _overlapping(
    parts: Sequence[FoundVideo],
) -> Iterable[tuple[FoundVideo, FoundVideo]]:
    """Yields parts, sorted by start, that overlap with an earlier one."""
    last = parts[0]
    for part in parts[1:]:
        if Span.of(last).end - Span.of(part).start > TOUCHING_SECONDS:
            yield last, part
        last = max(last, part, key=lambda item: Span.of(item).end)


def _refuse(clashes: Sequence[tuple[FoundVideo, FoundVideo]]) -> None:
    first, second = clashes[0]
    number = len(clashes)
    others = f" (the first of {number} such pairs)" if number > 1 else ""
    raise DataError(
        f"Labels of '{first.file}' overlap: '{first.class_name}', "
        f"{_times(first)}, and '{second.class_name}', {_times(second)}"
        f"{others}. A moment has one class: correct a start or end, or leave "
        "one out."
    )


def require_background(videos: Sequence[FoundVideo]) -> str:
    """Checks that a folder can have a class of what is not labelled.

    Args:
        videos: Sequence of FoundVideo. All of the folder.

    Returns:
        str. A note where the class is there already, else "".

    Raises:
        UsageError: If no label has a time.
    """
    if not any(map(is_part, videos)):
        raise UsageError(
            "--background class is for what lies between labels in time, and "
            "there are none: no start or end in manifest.csv, nor in "
            "annotations. Leave it out, or put videos of none of the classes "
            "into a class of their own."
        )
    own = [video for video in videos if video.class_name == BACKGROUND]
    if not own:
        return ""
    return (
        f"Class '{BACKGROUND}' has labels already ({counted(own)}); what is "
        "not labelled joins it."
    )


def whole_videos(found: FolderListing) -> FolderListing:
    """Returns each video once and whole, for what needs no labels."""
    if not any(map(is_part, found.videos)):
        return found
    first: dict[str, FoundVideo] = {}
    for video in found.videos:
        first.setdefault(video.file, video)
    videos = tuple(
        dataclasses.replace(video, start=None, end=None)
        for video in first.values()
    )
    note = "Labels in time are not used: each video is taken whole."
    return FolderListing(videos, (*found.notes, note), found.is_list)


def unlabelled(parts: Iterable[Timed], seconds: float) -> list[Span]:
    """Returns the stretches of a video that no label covers.

    Labels that touch have nothing between them.

    Args:
        parts: Iterable of FoundVideo or Video. The labels of one file.
        seconds: float. Length of the video.

    Returns:
        list of Span, in order.

    Example:

    >>> unlabelled([FoundVideo("a.mp4", "walk", start=2.0, end=5.0)], 9.0)
    [Span(start=0.0, end=2.0), Span(start=5.0, end=9.0)]
    """
    spans = sorted(map(Span.of, parts), key=lambda span: span.start)
    ends = [0.0]
    for span in spans:
        ends.append(max(ends[-1], min(span.end, seconds)))
    starts = [min(span.start, seconds) for span in spans] + [seconds]
    return [
        Span(end, start)
        for end, start in zip(ends, starts, strict=True)
        if start - end > TOUCHING_SECONDS
    ]
