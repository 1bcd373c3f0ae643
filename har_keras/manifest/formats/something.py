"""Something-Something and Jester: labels by the number of a video."""

import re
from collections.abc import Iterator, Sequence

from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.document import Document, field
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.video_files import VideoFiles
from har_keras.progress import plural

_LINE = re.compile(r"(\d+);(.*)")


def is_something_json(document: Document) -> bool:
    """Returns whether a JSON file lists numbered videos of a split."""
    records = document.json
    return (
        bool(document.split)
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
        and bool(document.split)
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
    labelled, bare = Labelled(files), 0
    for document in documents:
        rows = _json(document) if document.json else _csv(document)
        for place, number, label in rows:
            if not label:
                bare += 1
            elif file := labelled.find(number, place, [document.split]):
                labelled.add(place, file, label, split=document.split)
    notes = [f"Listed in {', '.join(d.file for d in documents)}."]
    if bare:
        notes.append(f"{plural(bare, 'video')} without a label left out.")
    return labelled.listing(notes)


def _json(document: Document) -> Iterator[tuple[str, str, str]]:
    for number, record in enumerate(document.json, 1):
        place = f"'{document.path}', record {number}"
        name = str(record.get("id", "")) or field(record, "id", str, place)
        label = str(record.get("template") or record.get("label") or "")
        yield place, name, _without_brackets(label)


def _csv(document: Document) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(document.text.content.splitlines(), 1):
        place = f"'{document.path}', line {number}"
        if found := _LINE.fullmatch(line.strip()):
            yield place, found[1], _without_brackets(found[2].strip())


def _without_brackets(template: str) -> str:
    return template.replace("[", "").replace("]", "")
