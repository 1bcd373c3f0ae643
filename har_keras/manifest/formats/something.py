"""Something-Something and Jester: labels by the number of a video."""

import re
from collections.abc import Iterator, Sequence

from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cells import label_of
from har_keras.manifest.formats.document import Document, field
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.split_names import split_of
from har_keras.manifest.video_files import VideoFiles

_LINE = re.compile(r"(\d+);(.*)")


def is_something_json(document: Document) -> bool:
    """Returns whether a JSON file lists numbered videos of a split."""
    records = document.json
    return (
        bool(document.split_name)
        and isinstance(records, list)
        and bool(records)
        and all(isinstance(x, dict) and "id" in x for x in records[:10])
        and {*records[0]} <= {"id", "label", "template", "placeholders"}
    )


def is_something_csv(document: Document) -> bool:
    """Returns whether lines are `number;label`, as in version 1 and Jester."""
    lines = [x for x in document.head.splitlines()[:10] if x.strip()]
    return (
        document.suffix == ".csv"
        and bool(document.split_name)
        and bool(lines)
        and all(_LINE.fullmatch(x.strip()) for x in lines[:-1] or lines)
    )


def read_something(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads lists of numbered videos; the class is the template.

    A template is a label such as "Holding [something]", whose brackets are
    left out, as in the data set's own list of labels.
    """
    labelled = Labelled(documents, files)
    for document in documents:
        split = document.split_name
        folders = [split, split_of(split)]
        rows = _json(document) if document.json else _csv(document)
        for place, number, label in rows:
            if not label:
                labelled.leave_out("video")
            elif file := labelled.find(number, place, folders):
                labelled.add(place, file, label, split=split)
    return labelled.listing()


def _json(document: Document) -> Iterator[tuple[str, str, str]]:
    for number, record in enumerate(document.json, 1):
        place = f"'{document.path}', record {number}"
        name = label_of(record.get("id"), place)
        name = name or field(record, "id", str, place)
        label = label_of(record.get("template") or record.get("label"), place)
        yield place, name, _without_brackets(label)


def _csv(document: Document) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(document.text.content.splitlines(), 1):
        place = f"'{document.path}', line {number}"
        if found := _LINE.fullmatch(line.strip()):
            yield place, found[1], _without_brackets(found[2].strip())


def _without_brackets(template: str) -> str:
    return template.replace("[", "").replace("]", "")
