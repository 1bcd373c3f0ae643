"""Kinetics and ActivityNet: videos of YouTube, by id and time.

A clip that was cut is a file such as `ID_000010_000020.mp4`; else the video is
`ID.mp4` (ActivityNet: `v_ID.mp4`), and the label is of a part of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cells import label_of, seconds_between
from har_keras.manifest.formats.document import (
    Document,
    field,
    objects,
    short,
)
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.split_names import split_of
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import VideoFiles

_TIMES = ("time_start", "time_end")
_COLUMNS = {"label", "youtube_id", *_TIMES, "split", ""}
# A clip may be longer than its label by the distance of key frames.
_SLACK_SECONDS = 1.5


@dataclass(frozen=True)
class _Clip:
    """A labelled part of a video of YouTube."""

    place: str
    video: str
    label: str
    start: float
    end: float
    split: str


def is_kinetics_csv(document: Document) -> bool:
    """Returns whether a table has Kinetics' columns."""
    return {"youtube_id", *_TIMES} <= document.columns


def is_kinetics_json(document: Document) -> bool:
    """Returns whether a JSON file maps ids to Kinetics' annotations."""
    records = document.json
    if not isinstance(records, dict) or "database" in records:
        return False
    first = next(iter(records.values()), None)
    return isinstance(first, dict) and {"annotations", "subset"} <= {*first}


def is_activitynet(document: Document) -> bool:
    """Returns whether a JSON file is a database of ActivityNet."""
    records = document.json
    return isinstance(records, dict) and isinstance(
        records.get("database"), dict
    )


def read_kinetics_csv(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads tables `label,youtube_id,time_start,time_end,split`."""
    return _read(documents, files, _from_csv)


def read_kinetics_json(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads objects of Kinetics' `annotations`, `subset` by id."""
    return _read(documents, files, _from_kinetics_json)


def read_activitynet(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads the `database` of ActivityNet: labelled segments by id."""
    return _read(documents, files, _from_activitynet)


def _read(
    documents: Sequence[Document], files: VideoFiles, clips_of: Any
) -> FolderListing:
    labelled = Labelled(documents, files)
    for document in documents:
        for clip in clips_of(document):
            if clip.label:
                _add(labelled, clip)
            else:
                labelled.leave_out("video")
    others = {name for document in documents for name in document.columns}
    labelled.not_read("Columns of Kinetics", others - _COLUMNS)
    return labelled.listing()


def _add(labelled: Labelled, clip: _Clip) -> None:
    """Adds a clip, as a file of its own or as a part of the whole video."""
    folders = [
        clip.split, split_of(clip.split), clip.label,
        clip.label.replace(" ", "_"),
    ]  # fmt: skip
    first, last = int(clip.start), int(clip.end)
    names = [
        f"{clip.video}_{first:06d}_{last:06d}",
        f"{clip.video}_{first}_{last}",
        clip.video,
        f"v_{clip.video}",
    ]
    known = [x for x in names if labelled.files.named(x, clip.place, folders)]
    file = labelled.find((known or names)[0], clip.place, folders)
    if not file:
        return
    is_cut = known[0] in names[:2] or _is_cut(labelled, file, clip)
    labelled.add(
        clip.place,
        file,
        clip.label,
        (None, None) if is_cut else (clip.start, clip.end),
        split=clip.split,
        group=clip.video,
    )


def _is_cut(labelled: Labelled, file: str, clip: _Clip) -> bool:
    """Returns whether a file under the video's name has the label's part only.

    Some copies of Kinetics keep the names of the videos for the cut clips.
    """
    length = labelled.seconds(file)
    is_short = length <= clip.end - clip.start + _SLACK_SECONDS
    return 0 < length < clip.end and is_short and clip.start > 0


def _from_csv(document: Document) -> Iterator[_Clip]:
    for row in document.table.rows:
        yield _clip(
            row.place,
            row.cells["youtube_id"].strip(),
            row.cells.get("label", "").strip(),
            (row.cells["time_start"], row.cells["time_end"]),
            row.cells.get("split", "").strip() or document.split_name,
        )


def _from_kinetics_json(document: Document) -> Iterator[_Clip]:
    for video in document.json:
        place = f"'{document.path}', video '{shown(video, 40)}'"
        record = field(document.json, video, dict, place)
        annotation = field(record, "annotations", dict, place)
        times = field(annotation, "segment", list, place)
        yield _clip(
            place,
            video,
            label_of(annotation.get("label"), place),
            times,
            label_of(record.get("subset"), place) or document.split_name,
        )


def _from_activitynet(document: Document) -> Iterator[_Clip]:
    database = document.json["database"]
    for video in database:
        place = f"'{document.path}', video '{shown(video, 40)}'"
        record = field(database, video, dict, place)
        split = label_of(record.get("subset"), place) or document.split_name
        annotations = objects(record.get("annotations") or [], place)
        if not annotations:
            yield _Clip(place, video, "", 0.0, 0.0, split)
        for annotation in annotations:
            yield _clip(
                place,
                video,
                label_of(annotation.get("label"), place),
                field(annotation, "segment", list, place),
                split,
            )


def _clip(
    place: str, video: str, label: str, times: Sequence[Any], split: str
) -> _Clip:
    if len(times) != 2:
        raise DataError(
            f"{place}: a part has a start and an end, in seconds. Received: "
            f"{short(times)}."
        )
    start, end = seconds_between(times[0], times[1], place)
    if not video or start is None or end is None:
        raise DataError(f"{place}: the id, the start or the end is empty.")
    if split and not split_of(split):
        raise DataError(
            f"{place}: the split must be train, val or test. Received: "
            f"{shown(split)!r}."
        )
    return _Clip(place, video, label, start, end, split)
