"""Label Studio: choices for a video, and labels on its timeline."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cells import (
    is_number,
    label_of,
    seconds_between,
)
from har_keras.manifest.formats.document import (
    Document,
    field,
    objects,
    short,
)
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import VideoFiles, suffix_of
from har_keras.video.extensions import EXTENSIONS

# The rate of the timeline where the labelling configuration names none.
_DEFAULT_FPS = 24.0
_RATES = ("fps", "framerate", "frame_rate", "frameRate")
_MIN_FIELDS = {"annotation_id", "annotator", "lead_time"}


@dataclass(frozen=True)
class _Label:
    """A label of a whole task, or of a part in seconds or in frames."""

    name: str
    times: tuple[object, object] = (None, None)
    frames: tuple[float, float] | None = None


def is_label_studio(document: Document) -> bool:
    """Returns whether a JSON or CSV file is an export of Label Studio."""
    if document.suffix == ".csv":
        return {"annotation_id", "lead_time"} <= document.columns
    records = document.json
    if not isinstance(records, list) or not records:
        return False
    first = records[0]
    if not isinstance(first, dict) or "id" not in first:
        return False
    tasks = "data" in first and {"annotations", "completions"} & {*first}
    return bool(tasks or {*first} & _MIN_FIELDS)


def read_label_studio(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads exports in Label Studio's formats JSON, JSON-MIN and CSV."""
    labelled, in_frames = Labelled(documents, files), False
    for document in documents:
        for number, task in enumerate(_tasks(document), 1):
            labelled.not_read("Results of Label Studio", _unused(task))
            name = shown(str(task.get("id", number)), 40)
            place = f"'{document.path}', task {name}"
            labels = _labels(task, place)
            if not labels:
                labelled.leave_out("task")
                continue
            file = _find(labelled, task, place)
            rate, is_default = _rate(task)
            for label in labels if file else ():
                times = label.times
                if label.frames:
                    in_frames |= is_default
                    first, last = label.frames
                    times = ((first - 1) / rate, last / rate)
                labelled.add(place, file, label.name, times)
    note = (
        "Label Studio writes times as frames and not their rate: "
        f"{_DEFAULT_FPS:g}/s is taken, its default. If the labelling "
        'configuration has another frameRate, give it as "fps" in the data of '
        "the tasks."
    )
    return labelled.listing(*([note] if in_frames else []))


def _tasks(document: Document) -> list[dict[str, Any]]:
    """Returns the tasks of an export; CSV has those of JSON-MIN in cells."""
    if document.suffix != ".csv":
        return objects(document.json, f"'{document.path}'")
    rows = [row.cells for row in document.table.rows]
    return [{k: _value(cell) for k, cell in row.items()} for row in rows]


def _value(cell: str) -> Any:
    """Returns the JSON in a cell, else the text itself."""
    if not cell.startswith(("[", "{")):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _find(labelled: Labelled, task: dict[str, Any], place: str) -> str:
    """Returns the file of a task; uploads have eight digits before it."""
    data = task.get("data", task)
    named = [
        value
        for value in (data.values() if isinstance(data, dict) else ())
        if isinstance(value, str) and suffix_of(value) in EXTENSIONS
    ]
    if not named:
        raise DataError(
            f"{place}: no field of the task names a video. Received: "
            f"{short(data)}."
        )
    path = PurePosixPath(named[0].replace("\\", "/"))
    upload = re.fullmatch(r"[0-9a-f]{8}-(.+)", path.name)
    plain = str(path.with_name(upload[1])) if upload else ""
    for name in filter(None, (named[0], plain)):
        if labelled.files.named(name, place):
            return labelled.find(name, place)
    return labelled.find(named[0], place)


def _rate(task: dict[str, Any]) -> tuple[float, bool]:
    """Returns the frames per second of a task, and whether it says none."""
    data = task.get("data", task)
    for name in _RATES:
        value = data.get(name) if isinstance(data, dict) else None
        rate = _number(value)
        if rate > 0:
            return rate, False
    return _DEFAULT_FPS, True


def _number(value: Any) -> float:
    """Returns a number, which may be written as a text; 0 if it is none."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        return 0.0
    return float(number) if is_number(number) else 0.0


def _labels(task: dict[str, Any], place: str) -> list[_Label]:
    """Returns the labels of a task; those of several people must agree."""
    if "data" not in task:
        return [*_of_min(task, place)]
    found = task.get("annotations", task.get("completions"))
    kept = [
        [*_of_results(field(x, "result", list, place), place)]
        for x in _counted(objects(found, place))
    ]
    kept = [labels for labels in kept if labels]
    if any({*labels} != {*kept[0]} for labels in kept):
        raise DataError(
            f"{place}: its {len(kept)} annotations differ. Mark the right one "
            "as ground truth, or delete the others, and export again."
        )
    return kept[0] if kept else []


def _counted(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the ground truth; else all that were not cancelled."""
    kept = [x for x in annotations if not x.get("was_cancelled")]
    return [x for x in kept if x.get("ground_truth")] or kept


def _of_results(results: list[Any], place: str) -> Iterator[_Label]:
    for result in objects(results, place):
        value = field(result, "value", dict, place)
        kind = str(result.get("type", ""))
        if kind == "choices":
            yield _Label(_only(field(value, "choices", list, place), place))
        elif kind in ("timelinelabels", "timeserieslabels", "labels"):
            yield from _of_timeline(value, kind, place)
        elif kind not in _NO_LABELS:
            raise DataError(
                f"{place}: a result of type '{shown(kind)}' is not understood. "
                "Labels are read from Choices, TimelineLabels and Labels."
            )


# What people note beside the label.
_NO_LABELS = frozenset({"textarea", "rating", "number", "datetime", "pairwise"})


def _unused(task: dict[str, Any]) -> set[str]:
    """Returns the kinds of a task's results that are no labels."""
    found = task.get("annotations", task.get("completions"))
    results = [
        result
        for annotation in (found if isinstance(found, list) else [])
        if isinstance(annotation, dict)
        and isinstance(annotation.get("result"), list)
        for result in annotation["result"]
        if isinstance(result, dict)
    ]
    return {str(result.get("type")) for result in results} & _NO_LABELS


def _of_timeline(
    value: dict[str, Any], kind: str, place: str
) -> Iterator[_Label]:
    """Yields labels on the timeline: in frames, or in seconds of the sound."""
    names = [value[x] for x in (kind, "timelinelabels", "labels") if x in value]
    label = _only(names[0] if names else None, place)
    if "ranges" not in value:
        times = value.get("start"), value.get("end")
        yield _Label(label, seconds_between(*times, place))
        return
    for part in objects(value["ranges"], place):
        first, last = part.get("start"), part.get("end")
        if not is_number(first) or not is_number(last):
            raise DataError(
                f"{place}: a range has a start and an end, in frames. "
                f"Received: {short(part)}."
            )
        yield _Label(label, frames=(first, last))


def _only(labels: Any, place: str) -> str:
    """Returns the label of a list of one."""
    if isinstance(labels, list) and len(labels) == 1:
        return label_of(labels, place)
    raise DataError(
        f"{place}: a video, or a part of it, has one class. Received: "
        f"{short(labels)}."
    )


def _of_min(task: dict[str, Any], place: str) -> Iterator[_Label]:
    """Yields the labels of JSON-MIN, in fields named by the configuration."""
    for name, value in task.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for item in objects(value, place):
                if {"timelinelabels", "labels", "timeserieslabels"} & {*item}:
                    yield from _of_timeline(item, "timelinelabels", place)
        elif isinstance(value, dict) and "choices" in value:
            yield _Label(_only(value["choices"], place))
        elif _is_choice(name, value):
            yield _Label(value)


def _is_choice(name: str, value: Any) -> bool:
    """Returns whether a field of JSON-MIN is a label, and no data of a task."""
    return (
        isinstance(value, str)
        and bool(value)
        and any(x in name.lower() for x in ("choice", "label", "class"))
        and not value.startswith(("[", "{"))
    )
