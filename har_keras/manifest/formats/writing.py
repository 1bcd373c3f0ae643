"""Writes labels: as a `manifest.csv`, and for other programs.

What is written for Label Studio, CVAT, ELAN and FiftyOne is read back by the
readers beside this file, and by these programs.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, get_args
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.files import whole_file
from har_keras.manifest.entries import FoundVideo
from har_keras.manifest.formats import FormatName
from har_keras.manifest.formats.cells import guarded
from har_keras.manifest.rows import seconds_cell
from har_keras.video.ffmpeg_log import VideoInfo
from har_keras.video.header import probe

MANIFEST_COLUMNS = ("file", "class", "split", "group")
# What XML can't hold.
_NO_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def manifest_text(rows: Iterable[Mapping[str, str]]) -> str:
    """Returns the text of a `manifest.csv`.

    Args:
        rows: Iterable of Mapping. Cells by column, `file` and `class` at
            least; start and end are written where any row has them.
    """
    listed = list(rows)
    times = [x for x in ("start", "end") if any(row.get(x) for row in listed)]
    others = dict.fromkeys(k for row in listed for k in row)
    columns = [*MANIFEST_COLUMNS, *times]
    columns += [x for x in others if x not in (*columns, "start", "end")]
    return table_text(columns, listed)


def table_text(
    columns: Sequence[str], rows: Iterable[Mapping[str, str]]
) -> str:
    r"""Returns a table as CSV, in which no spreadsheet runs a cell.

    Args:
        columns: Sequence of str. In order.
        rows: Iterable of Mapping. Cells by column.

    Example:

    >>> table_text(["file", "class"], [{"file": "a.mp4", "class": "=1+1"}])
    "file,class\r\na.mp4,'=1+1\r\n"
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([guarded(row.get(name, "")) for name in columns])
    return out.getvalue()


def rows_of(videos: Sequence[FoundVideo]) -> list[Mapping[str, str]]:
    """Returns the rows of a `manifest.csv` that lists some videos."""
    return [
        {
            "file": video.file,
            "class": video.class_name,
            "split": video.split,
            "group": video.group,
            "start": seconds_cell(video.start),
            "end": seconds_cell(video.end),
            **dict(video.others),
        }
        for video in videos
    ]


def annotations_of(
    videos: Sequence[FoundVideo], root: Path, name: FormatName
) -> dict[str, str]:
    """Returns labels in the format of another program.

    Args:
        videos: Sequence of FoundVideo. Videos and parts with their classes.
        root: Path. Their folder.
        name: str. The format.

    Returns:
        A dict from the name of a file to its content: of CVAT and ELAN one
        for each video, as their tasks and documents are; else one.

    Raises:
        DataError: If there is nothing to write, or a video's header, in which
            the frame rate or the length is, can't be read.
    """
    if not videos:
        raise DataError(
            f"There is no label in '{root}' to write. Name the class of a "
            "video first."
        )
    by_file: dict[str, list[FoundVideo]] = {}
    for video in videos:
        by_file.setdefault(video.file, []).append(video)
    return _WRITERS[name](by_file, root)


def write_annotations(
    videos: Sequence[FoundVideo], root: Path, to: Path, name: FormatName
) -> list[Path]:
    """Writes labels in the format of another program, into new files.

    Args:
        videos: Sequence of FoundVideo. Videos and parts with their classes.
        root: Path. Their folder.
        to: Path. The new file; of CVAT and ELAN a folder, which is made.
        name: str. The format.

    Returns:
        list of Path. What was written.

    Raises:
        UsageError: If a file is there already.
        DataError: If there is nothing to write, or a header can't be read.
        EnvironmentFault: If it can't be written.
    """
    found = annotations_of(videos, root, name)
    is_folder = name in MANY_FILES
    files = {to / x if is_folder else to: text for x, text in found.items()}
    for file in files:
        require_new(file)
    for file, text in files.items():
        write_new(file, text)
    return list(files)


def write_new(file: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    try:
        with whole_file(file) as temporary:
            temporary.write_text(text, "utf-8", "surrogateescape", newline="")
    except OSError as error:
        raise EnvironmentFault(
            f"'{file}' can't be written: {error.strerror}. Name another place "
            "with --to."
        ) from error


def require_new(file: Path) -> None:
    """Raises `UsageError` if there is a file already."""
    if file.exists():
        raise UsageError(
            f"--to must name a new file. '{file}' exists: move it away, or "
            "choose another name."
        )


_ByFile = Mapping[str, Sequence[FoundVideo]]


def _manifest(by_file: _ByFile, root: Path) -> dict[str, str]:
    videos = [video for mine in by_file.values() for video in mine]
    return {"manifest.csv": manifest_text(rows_of(videos))}


def _label_studio(by_file: _ByFile, root: Path) -> dict[str, str]:
    """Returns tasks for Label Studio's import, with its local files.

    The timeline is in frames, counted from 1, at the rate in `fps`, which the
    labelling configuration needs as frameRate="$fps".
    """
    tasks = []
    for number, (file, mine) in enumerate(by_file.items(), 1):
        timed = [video for video in mine if _is_timed(video)]
        rate = _rate(root, file) if timed else 0.0
        data: dict[str, Any] = {
            "video": f"/data/local-files/?d={quote(_bytes(file), safe='/')}"
        }
        data |= {"fps": rate} if timed else {}
        results = [_result(root, video, rate) for video in mine]
        for place, result in enumerate(results):
            result["id"] = f"{number}-{place}"
        annotation = {"result": results, "ground_truth": True}
        tasks.append({"id": number, "data": data, "annotations": [annotation]})
    return {"label_studio.json": _json(tasks)}


def _result(root: Path, video: FoundVideo, rate: float) -> dict[str, Any]:
    label = _text(video.class_name)
    if not _is_timed(video):
        value: dict[str, Any] = {"choices": [label]}
        kind, name = "choices", "class"
    else:
        first, last = _frames(root, video, rate)
        span = {"start": first + 1, "end": last + 1}
        value = {"ranges": [span], "timelinelabels": [label]}
        kind, name = "timelinelabels", "parts"
    return {"type": kind, "from_name": name, "to_name": "video", "value": value}


def _cvat(by_file: _ByFile, root: Path) -> dict[str, str]:
    """Returns "CVAT for video 1.1" of a task for each video.

    A label is a track of the whole picture, for CVAT has none of a part.
    """
    found = {}
    for file, mine in by_file.items():
        info = _info(root, file)
        rate = _rate(root, file)
        document = Element("annotations")
        SubElement(document, "version").text = "1.1"
        task = SubElement(SubElement(document, "meta"), "task")
        _fill(task, {"name": file, "source": PurePosixPath(file).name})
        if mine[0].split:
            _fill(task, {"subset": mine[0].split})
        labels = SubElement(task, "labels")
        for name in sorted({video.class_name for video in mine}):
            _fill(SubElement(labels, "label"), {"name": name})
        for number, video in enumerate(mine):
            _track(document, number, video, info, _frames(root, video, rate))
        found[f"{_plain(file)}.xml"] = _xml(document)
    return found


def _track(
    document: Element,
    number: int,
    video: FoundVideo,
    info: VideoInfo,
    frames: tuple[int, int],
) -> None:
    """Adds a track of the whole picture that ends after its last frame."""
    turned = info.rotation in (90, 270)
    width, height = info.width or 1, info.height or 1
    width, height = (height, width) if turned else (width, height)
    track = SubElement(document, "track", id=f"{number}", source="manual")
    track.set("label", _text(video.class_name))
    for frame, outside in ((frames[0], "0"), (frames[1] + 1, "1")):
        SubElement(
            track, "box", frame=f"{frame}", outside=outside, occluded="0",
            keyframe="1", xtl="0.00", ytl="0.00", xbr=f"{width:.2f}",
            ybr=f"{height:.2f}", z_order="0",
        )  # fmt: skip


def _elan(by_file: _ByFile, root: Path) -> dict[str, str]:
    """Returns a document of ELAN for each video, with a tier `class`."""
    return {
        f"{_plain(file)}.eaf": _xml(_elan_document(file, mine, root))
        for file, mine in by_file.items()
    }


def _elan_document(
    file: str, mine: Sequence[FoundVideo], root: Path
) -> Element:
    document = Element(
        "ANNOTATION_DOCUMENT", AUTHOR="", DATE="2000-01-01T00:00:00+00:00",
        FORMAT="3.0", VERSION="3.0",
    )  # fmt: skip
    header = SubElement(
        document, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds"
    )
    # Paths as they are: ELAN does not encode them.
    SubElement(
        header, "MEDIA_DESCRIPTOR", MEDIA_URL=_text(f"file://{root / file}"),
        RELATIVE_MEDIA_URL=_text(f"./{file}"), MIME_TYPE="video/mp4",
    )  # fmt: skip
    order = SubElement(document, "TIME_ORDER")
    tier = SubElement(
        document, "TIER", TIER_ID="class", LINGUISTIC_TYPE_REF="default-lt"
    )
    times = [_seconds(root, video) for video in mine]
    for number, span in enumerate(times):
        for place, seconds in enumerate(span):
            SubElement(
                order, "TIME_SLOT", TIME_SLOT_ID=f"ts{2 * number + place + 1}",
                TIME_VALUE=f"{round(1000 * seconds)}",
            )  # fmt: skip
        item = SubElement(
            SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION",
            ANNOTATION_ID=f"a{number + 1}",
            TIME_SLOT_REF1=f"ts{2 * number + 1}",
            TIME_SLOT_REF2=f"ts{2 * number + 2}",
        )  # fmt: skip
        _fill(item, {"ANNOTATION_VALUE": mine[number].class_name})
    SubElement(
        document, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="default-lt", TIME_ALIGNABLE="true",
    )  # fmt: skip
    return document


def _fiftyone(by_file: _ByFile, root: Path) -> dict[str, str]:
    """Returns the `labels.json` of FiftyOneTemporalDetectionDataset.

    The label of a whole video is one from its beginning to its end. Videos are
    named by their path without its ending, where that is enough.
    """
    plain = {file: str(PurePosixPath(file).with_suffix("")) for file in by_file}
    twice = [*plain.values()]
    names = sorted({v.class_name for mine in by_file.values() for v in mine})
    labels = {}
    for file, mine in by_file.items():
        name = plain[file] if twice.count(plain[file]) == 1 else file
        labels[_text(name)] = [
            {
                "label": names.index(video.class_name),
                "timestamps": [*_seconds(root, video)],
            }
            for video in mine
        ]
    return {
        "labels.json": _json(
            {"classes": [*map(_text, names)], "labels": labels}
        )
    }


_WRITERS: dict[str, Callable[[_ByFile, Path], dict[str, str]]] = {
    "manifest": _manifest,
    "label-studio": _label_studio,
    "cvat": _cvat,
    "elan": _elan,
    "fiftyone": _fiftyone,
}
FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)
MANY_FILES = frozenset({"cvat", "elan"})
"""Formats of one file for each video."""


def _is_timed(video: FoundVideo) -> bool:
    return video.start is not None or video.end is not None


def _info(root: Path, file: str) -> VideoInfo:
    return probe(root / file)


def _rate(root: Path, file: str) -> float:
    rate = _info(root, file).fps
    if rate <= 0:
        raise DataError(
            f"'{root / file}' names no frame rate, which this format counts "
            "in. Encode it anew, or write another format."
        )
    return rate


def _seconds(root: Path, video: FoundVideo) -> tuple[float, float]:
    """Returns start and end; the length is that of the header."""
    end = video.end
    if end is None:
        end = _info(root, video.file).duration_seconds
    start = video.start or 0.0
    if end <= start:
        raise DataError(
            f"'{root / video.file}' does not say how long it is, which this "
            "format needs. Give its last part an end."
        )
    return start, end


def _frames(root: Path, video: FoundVideo, rate: float) -> tuple[int, int]:
    """Returns the first and the last frame, counted from 0."""
    start, end = _seconds(root, video)
    first = round(start * rate)
    return first, max(first, round(end * rate) - 1)


def _fill(parent: Element, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = _text(text)


def _text(text: str) -> str:
    return _NO_TEXT.sub("\ufffd", text)


def _bytes(file: str) -> bytes:
    return file.encode("utf-8", "surrogateescape")


def _plain(file: str) -> str:
    """Returns a path as the name of one file."""
    return file.replace("/", "__")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def _xml(document: Element) -> str:
    indent(document)
    text = tostring(document, "unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'
