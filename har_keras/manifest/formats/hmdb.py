"""HMDB51: a text a class and division, with 1 for train and 2 for test."""

import re
from collections.abc import Sequence

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.document import Document
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.video_files import VideoFiles

_NAME = re.compile(r"(.+)_test_split(\d)\.txt")
_LINE = re.compile(r"(\S.*\S)\s+([012])")
_SPLITS = {"1": "train", "2": "test"}


def is_hmdb(document: Document) -> bool:
    """Returns whether a file is one of HMDB51's lists."""
    if not _NAME.fullmatch(document.path.name):
        return False
    return bool(_LINE.fullmatch(document.head.split("\n")[0].strip()))


def read_hmdb(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads the first of HMDB51's divisions that is in the folder."""
    numbers = sorted({_parts(document)[1] for document in documents})
    labelled = Labelled(documents, files)
    for document in documents:
        class_name, number = _parts(document)
        if number != numbers[0]:
            continue
        for place, name, mark in _lines(document):
            if mark == "0":
                labelled.leave_out(
                    "video", "marked 0 in the lists, in neither split,"
                )
            elif file := labelled.find(f"{class_name}/{name}", place):
                split = _SPLITS[mark]
                labelled.add(place, file, class_name, split=split)
    folder = documents[0].path.parent.name
    listed = f"{folder}/*_test_split{numbers[0]}.txt"
    note = (
        f"Division {numbers[0]} of {len(numbers)} is read; for another, leave "
        "only its lists in the folder."
    )
    notes = [note] if len(numbers) > 1 else []
    return labelled.listing(*notes, listed=listed)


def _parts(document: Document) -> tuple[str, str]:
    found = _NAME.fullmatch(document.path.name)
    assert found is not None
    return found[1], found[2]


def _lines(document: Document) -> list[tuple[str, str, str]]:
    lines = []
    for number, line in enumerate(document.text.content.splitlines(), 1):
        found = _LINE.fullmatch(line.strip())
        place = f"'{document.path}', line {number}"
        if found:
            lines.append((place, found[1], found[2]))
        elif line.strip():
            raise DataError(
                f"{place}: expected the name of a video and 0, 1 (train) or 2 "
                f"(test). Received: {line[:80]!r}."
            )
    return lines
