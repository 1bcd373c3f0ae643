"""FiftyOne: its own export of a data set, and that of temporal detections."""

from collections.abc import Sequence
from typing import Any

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cells import is_number, label_of
from har_keras.manifest.formats.document import (
    Document,
    field,
    objects,
    short,
)
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.split_names import split_name, split_of
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import VideoFiles


def is_fiftyone(document: Document) -> bool:
    """Returns whether a JSON file is the `samples.json` of an export."""
    found = document.json
    samples = found.get("samples") if isinstance(found, dict) else None
    return isinstance(samples, list) and all(
        isinstance(x, dict) and "filepath" in x for x in samples
    )


def is_fiftyone_labels(document: Document) -> bool:
    """Returns whether a JSON file is the `labels.json` of an export."""
    found = document.json
    return (
        isinstance(found, dict)
        and isinstance(found.get("labels"), dict)
        and {*found} <= {"classes", "labels", "info"}
    )


def read_fiftyone(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads exports of type FiftyOneDataset.

    The class is a `Classification`, or the parts are `TemporalDetections`; a
    tag that is the name of a split is the split.
    """
    labelled = Labelled(documents, files)
    for document in documents:
        place = f"'{document.path}'"
        samples = objects(document.json["samples"], place)
        name, others = _label_field(samples, place)
        labelled.not_read("Fields of FiftyOne", others)
        for number, sample in enumerate(samples, 1):
            where = f"{place}, sample {number}"
            items = _items(sample, name, where)
            if not items:
                labelled.leave_out("video")
            path = field(sample, "filepath", str, where)
            file = labelled.find(path, where) if items else ""
            for item in items if file else ():
                times = _times(item, labelled, file, where, _rate(sample))
                label = label_of(item.get("label"), where)
                split = _split(sample, where)
                labelled.add(where, file, label, times, split=split)
    return labelled.listing()


def read_fiftyone_labels(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads exports of type FiftyOneTemporalDetectionDataset.

    `labels` maps the name of a video to its parts, or to its one label.
    """
    labelled = Labelled(documents, files)
    for document in documents:
        place = f"'{document.path}'"
        classes = document.json.get("classes")
        labels = document.json["labels"]
        for name, value in labels.items():
            where = f"{place}, '{shown(name)}'"
            items = value if isinstance(value, list) else [{"label": value}]
            items = [] if value is None else items
            if not items:
                labelled.leave_out("video")
            file = labelled.find(name, where) if items else ""
            for item in objects(items, where) if file else ():
                times = _times(item, labelled, file, where, 0.0)
                label = _class(item.get("label"), classes, where)
                split = split_name(document.path.parent.name)
                labelled.add(where, file, label, times, split=split)
    return labelled.listing()


def _items(
    sample: dict[str, Any], name: str, place: str
) -> list[dict[str, Any]]:
    """Returns the labels of a sample, each an object."""
    if not sample.get(name):
        return []
    labels = field(sample, name, dict, place)
    return objects(labels.get("detections", [labels]), place)


def _label_field(
    samples: list[dict[str, Any]], place: str
) -> tuple[str, list[str]]:
    """Returns the field that holds the class, and the names of others."""
    kinds = {
        name: str(value.get("_cls"))
        for sample in samples
        for name, value in sample.items()
        if isinstance(value, dict) and "_cls" in value and name != "metadata"
    }
    names = [k for k, kind in kinds.items() if kind in _LABEL_KINDS]
    chosen = [x for x in names if x == "ground_truth"] or names
    if len(chosen) != 1:
        listed = ", ".join(names) or "none"
        raise DataError(
            f"{place}: one field must hold labels, a Classification or "
            f"TemporalDetections. Found: {listed}. Export one, or name the "
            "right one ground_truth."
        )
    return chosen[0], [name for name in kinds if name != chosen[0]]


_LABEL_KINDS = ("Classification", "TemporalDetections")


def _split(sample: dict[str, Any], place: str) -> str:
    tags = sample.get("tags")
    named = map(str, tags if isinstance(tags, list) else [])
    splits = [tag for tag in named if split_of(tag)]
    if len({*map(split_of, splits)}) > 1:
        raise DataError(
            f"{place}: its tags name several splits. Received: {short(tags)}."
        )
    return splits[0] if splits else ""


def _rate(sample: dict[str, Any]) -> float:
    """Returns the frame rate in the metadata of a sample, or 0."""
    metadata = sample.get("metadata")
    rate = metadata.get("frame_rate") if isinstance(metadata, dict) else None
    return float(rate) if is_number(rate) else 0.0


def _times(
    item: dict[str, Any],
    labelled: Labelled,
    file: str,
    place: str,
    rate: float,
) -> tuple[object, object]:
    """Returns start and end in seconds; frames are counted from 1."""
    pair = item.get("timestamps") or item.get("support")
    if pair is None:
        return None, None
    numbers = isinstance(pair, list) and len(pair) == 2
    if not numbers or not all(map(is_number, pair)):
        raise DataError(
            f"{place}: 'support' must be the first and the last frame. "
            f"Received: {short(item)}."
        )
    if item.get("timestamps"):
        return pair[0], pair[1]
    rate = rate or labelled.frame_rate(file)
    return (pair[0] - 1) / rate, pair[1] / rate


def _class(target: Any, classes: Any, place: str) -> str:
    """Returns the name of a label, which may be a number in `classes`."""
    if isinstance(target, str):
        return target
    is_index = isinstance(target, int) and not isinstance(target, bool)
    if is_index and isinstance(classes, list) and 0 <= target < len(classes):
        return label_of(classes[target], place)
    raise DataError(
        f"{place}: a label must be a name, or a number in 'classes'. "
        f"Received: {short(target)}."
    )
