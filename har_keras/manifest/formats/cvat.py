"""CVAT: labels of tracks and tags, by the number of the frame."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cells import whole_number
from har_keras.manifest.formats.document import Document
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.split_names import split_name
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import VideoFiles, suffix_of
from har_keras.video.extensions import EXTENSIONS

Part = tuple[int, int]


@dataclass(frozen=True)
class _Task:
    """A task of CVAT: one video, of which every `step`th frame was shown."""

    source: str
    step: int
    split: str


def is_cvat(document: Document) -> bool:
    """Returns whether an XML file is an export of CVAT."""
    root = document.xml
    return (
        root is not None
        and root.tag == "annotations"
        and root.find("meta") is not None
    )


def read_cvat(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads "CVAT for video 1.1" and "CVAT for images 1.1" of video tasks.

    A label holds while one of its tracks is to be seen, or where it is the tag
    of a frame. Where in the picture it is is not read.
    """
    labelled = Labelled(documents, files)
    for document in documents:
        assert document.xml is not None
        tasks = _tasks(document.xml, document)
        shown: dict[tuple[str, str], set[Part]] = defaultdict(set)
        for task, label, part in _parts(document.xml, tasks, document):
            shown[task, label].add(part)
        for (task, label), parts in sorted(shown.items()):
            _add(labelled, document, tasks[task], label, parts)
        labelled.not_read(
            "Attributes of CVAT",
            (
                x.get("name", "")
                for tag in ("track", "image")
                for item in document.xml.iter(tag)
                for x in item.iter("attribute")
            ),
        )
    return labelled.listing(
        "A label of CVAT is read as one of the whole picture, whatever its "
        "place in it."
    )


def _tasks(root: Element, document: Document) -> dict[str, _Task]:
    """Returns the tasks by id; "" is the only one of an export of a task."""
    found = [*root.iterfind("meta/task"), *root.iterfind("meta/job")]
    found += root.iterfind("meta/project/tasks/task")
    tasks = {
        task.findtext("id", ""): _Task(
            _source(task, root),
            _step(task.findtext("frame_filter", "")),
            split_name(task.findtext("subset", "")),
        )
        for task in found
    }
    if not tasks:
        raise DataError(
            f"'{document.path}' names no task of CVAT in <meta>, so no video. "
            "Export it as CVAT for video 1.1."
        )
    if len(tasks) == 1:
        tasks |= {"": next(iter(tasks.values()))}
    return tasks


def _source(task: Element, root: Element) -> str:
    """Returns the name of a task's video: its file, else the task's name."""
    return (
        task.findtext("source", "")
        or root.findtext("meta/source", "")
        or task.findtext("name", "")
    ).strip()


def _step(text: str) -> int:
    found = re.search(r"step\s*=\s*(\d{1,9})(?!\d)", text)
    return max(1, int(found[1])) if found else 1


def _parts(
    root: Element, tasks: dict[str, _Task], document: Document
) -> Iterator[tuple[str, str, Part]]:
    """Yields task, label, and the first and last frame that has it."""
    for track in root.iterfind("track"):
        task = _task_of(track, tasks, document)
        for part in _visible(track, tasks[task].step, document):
            yield task, _label(track, document), part
    for image in root.iterfind("image"):
        for tag in image.iterfind("tag"):
            task = _task_of(image, tasks, document)
            first = _frame(image, "id", document)
            last = first + tasks[task].step - 1
            yield task, _label(tag, document), (first, last)


def _task_of(item: Element, tasks: dict[str, _Task], document: Document) -> str:
    task = item.get("task_id", "")
    if task in tasks:
        return task
    if "" in tasks and not task:
        return ""
    raise DataError(
        f"'{document.path}' has a label of task '{shown(task)}', which its "
        "<meta> does not name. Export it again."
    )


def _label(item: Element, document: Document) -> str:
    label = item.get("label", "").strip()
    if not label:
        raise DataError(
            f"'{document.path}' has a <{item.tag}> without a label. Give it "
            "one in CVAT, or delete it, and export again."
        )
    return label


def _frame(item: Element, name: str, document: Document) -> int:
    number = whole_number(item.get(name, ""))
    if number is None:
        raise DataError(
            f"'{document.path}' has a <{item.tag}> whose {name} is no number "
            f"of a frame. Received: {shown(item.get(name, ''))!r}."
        )
    return number


def _visible(track: Element, step: int, document: Document) -> Iterator[Part]:
    """Yields the stretches in which a track is to be seen.

    A shape holds until the next one; `outside` ends a stretch.
    """
    shapes = sorted(
        (_frame(shape, "frame", document), shape.get("outside") == "1")
        for shape in track
        if shape.get("frame") is not None
    )
    first, last = -1, -1
    for frame, is_outside in shapes:
        if is_outside:
            if 0 <= first < frame:
                yield first, frame - 1
            first = -1
            continue
        first, last = (frame if first < 0 else first), frame
    if first >= 0:
        yield first, last + step - 1


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """Joins stretches that touch or overlap.

    Example:

    >>> list(_joined([(0, 4), (3, 9), (10, 12), (20, 20)]))
    [(0, 12), (20, 20)]
    """
    kept: Part | None = None
    for part in sorted(parts):
        if kept and part[0] <= kept[1] + 1:
            kept = kept[0], max(kept[1], part[1])
            continue
        if kept:
            yield kept
        kept = part
    if kept:
        yield kept


def _add(
    labelled: Labelled,
    document: Document,
    task: _Task,
    label: str,
    parts: set[Part],
) -> None:
    place = f"'{document.path}', label '{shown(label)}'"
    name = task.source
    if suffix_of(name) not in EXTENSIONS and suffix_of(name) in _ARCHIVES:
        name = PurePosixPath(name).stem
    file = labelled.find(name, place)
    if not file:
        return
    rate = labelled.frame_rate(file)
    for first, last in _joined(parts):
        times = (first / rate, (last + 1) / rate)
        labelled.add(place, file, label, times, split=task.split)


_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".7z", ".rar"})
