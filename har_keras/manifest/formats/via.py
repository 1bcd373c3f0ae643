"""VGG Image Annotator 3: segments of time of videos."""

from collections.abc import Sequence
from typing import Any

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cells import label_of
from har_keras.manifest.formats.document import Document, field, short
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import VideoFiles

# What VIA writes where nothing was chosen.
_EMPTY = frozenset({"", "_DEFAULT", "-1"})
_CLASS_NAMES = frozenset({"class", "label", "action", "activity", "category"})
_CHECKBOX = 2


def is_via(document: Document) -> bool:
    """Returns whether a JSON file is a project of VIA 3."""
    project = document.json
    return isinstance(project, dict) and (
        {"project", "attribute", "file", "metadata", "view"} <= {*project}
    )


def is_other_via(document: Document) -> bool:
    """Returns whether a file is VIA's, but no project of version 3."""
    project = document.json
    is_second = isinstance(project, dict) and "_via_img_metadata" in project
    is_csv = document.suffix == ".csv"
    return is_second or (
        is_csv and "# CSV_HEADER = metadata_id" in document.head
    )


def refuse_other_via(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Refuses what is no project of VIA 3, with the way to make one."""
    raise DataError(
        f"'{documents[0].path}' is of VIA, but no project of VIA 3. Open it in "
        "VIA 3 for video and save the project (JSON)."
    )


def read_via(documents: Sequence[Document], files: VideoFiles) -> FolderListing:
    """Reads projects: an attribute's value is the class of a segment."""
    labelled = Labelled(documents, files)
    for document in documents:
        project, place = document.json, f"'{document.path}'"
        metadata = field(project, "metadata", dict, place)
        attribute, others = _attribute(project, metadata, place)
        labelled.not_read("Attributes of VIA", others)
        for key in metadata:
            where = f"{place}, segment '{shown(key, 40)}'"
            record = field(metadata, key, dict, where)
            label = _label(project, record, attribute, where)
            times = _times(record, where)
            if not label or times is None:
                labelled.leave_out(
                    "segment",
                    "of VIA without a label, of a single frame or of a region",
                )
                continue
            for name in _names(project, record, where):
                if file := labelled.find(name, where):
                    labelled.add(where, file, label, times)
    return labelled.listing()


def _attribute(
    project: dict[str, Any], metadata: dict[str, Any], place: str
) -> tuple[str, set[str]]:
    """Returns the id of the class's attribute, and the names of others."""
    known = field(project, "attribute", dict, place)
    used = {
        key
        for record in metadata.values()
        if isinstance(record, dict) and not record.get("xy")
        for key, value in field(record, "av", dict, place).items()
        if str(value) not in _EMPTY
    }
    named = {
        key: str(field(known, key, dict, place).get("aname", key))
        for key in used
    }
    chosen = [k for k, name in named.items() if name.lower() in _CLASS_NAMES]
    chosen = chosen or list(named)
    if len(chosen) > 1:
        listed = ", ".join(sorted(named.values()))
        raise DataError(
            f"{place} has several attributes of segments ({listed}). Name the "
            "one that holds the class 'class' in VIA, and save it again."
        )
    others = {name for key, name in named.items() if key not in chosen}
    return chosen[0] if chosen else "", others


def _label(
    project: dict[str, Any], record: dict[str, Any], attribute: str, place: str
) -> str:
    """Returns the label of an entry: the option's text, or what was typed."""
    value = label_of(field(record, "av", dict, place).get(attribute), place)
    if value in _EMPTY:
        return ""
    known = field(project["attribute"], attribute, dict, place)
    options = field(known, "options", dict, place)
    if known.get("type") == _CHECKBOX and "," in value:
        raise DataError(
            f"{place}: a part of a video has one class. Received: "
            f"{short(value)}."
        )
    return label_of(options.get(value, value), place)


def _times(record: dict[str, Any], place: str) -> tuple[object, object] | None:
    """Returns start and end; None for a frame or a region."""
    z = field(record, "z", list, place)
    if record.get("xy") or len(z) == 1:
        return None
    if not z or z == [-1, -1]:
        return None, None
    if len(z) != 2:
        raise DataError(
            f"{place}: 'z' must be empty, or a start and an end in seconds. "
            f"Received: {short(z)}."
        )
    return z[0], z[1]


def _names(
    project: dict[str, Any], record: dict[str, Any], place: str
) -> list[str]:
    """Returns the names of the files that an entry is about."""
    views = field(project, "view", dict, place)
    view = field(views, str(record.get("vid", "")), dict, place)
    known = field(project, "file", dict, place)
    return [
        field(field(known, str(key), dict, place), "fname", str, place)
        for key in field(view, "fid_list", list, place)
    ]
