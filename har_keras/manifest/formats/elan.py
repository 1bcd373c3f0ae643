"""ELAN: annotations on a tier of a recording, in milliseconds."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element

from har_keras.errors import DataError
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cells import whole_number
from har_keras.manifest.formats.document import Document
from har_keras.manifest.formats.labelled import Labelled
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import VideoFiles, suffix_of
from har_keras.video.extensions import EXTENSIONS

_CLASS_TIERS = frozenset({"class", "label", "action", "activity"})


def is_elan(document: Document) -> bool:
    """Returns whether an XML file is a document of ELAN."""
    root = document.xml
    return root is not None and root.tag == "ANNOTATION_DOCUMENT"


def read_elan(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads `.eaf` files: the values on one tier are the classes."""
    labelled = Labelled(documents, files)
    for document in documents:
        root = document.xml
        assert root is not None
        times = _time_slots(root, document)
        tier, others = _tier(root, document)
        labelled.not_read("Tiers of ELAN", others)
        found = [] if tier is None else tier.findall(".//ALIGNABLE_ANNOTATION")
        videos = _videos(root, document, labelled) if found else []
        for item in found:
            name = shown(item.get("ANNOTATION_ID", ""))
            place = f"'{document.path}', {name}"
            label = (item.findtext("ANNOTATION_VALUE") or "").strip()
            part = [
                times.get(item.get(f"TIME_SLOT_REF{i}", "")) for i in (1, 2)
            ]
            if not label or None in part:
                labelled.leave_out(
                    "annotation", "of ELAN without a value or a time"
                )
                continue
            for file, origin in videos:
                start, end = (origin + (x or 0.0) for x in part)
                group = document.path.stem if len(videos) > 1 else ""
                labelled.add(place, file, label, (start, end), group=group)
    return labelled.listing()


def _time_slots(root: Element, document: Document) -> dict[str, float]:
    """Returns the times in seconds by id; slots without a time are left out."""
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "")
    if units not in ("milliseconds", ""):
        raise DataError(
            f"'{document.path}' has times in {shown(units)!r}. Save it with "
            "times in milliseconds."
        )
    found = {}
    for slot in root.iterfind("TIME_ORDER/TIME_SLOT"):
        value = whole_number(slot.get("TIME_VALUE", ""))
        if value is not None:
            found[slot.get("TIME_SLOT_ID", "")] = value / 1000
    return found


def _tier(root: Element, document: Document) -> tuple[Element | None, set[str]]:
    """Returns the tier of the classes (None if all are empty), and others."""
    tiers = [
        tier
        for tier in root.iterfind("TIER")
        if tier.find(".//ALIGNABLE_ANNOTATION") is not None
    ]
    named = [
        tier
        for tier in tiers
        if tier.get("TIER_ID", "").strip().lower() in _CLASS_TIERS
    ]
    chosen = named or tiers
    if len(chosen) > 1:
        listed = ", ".join(tier.get("TIER_ID", "") for tier in chosen)
        raise DataError(
            f"'{document.path}' has annotations on several tiers ({listed}). "
            "Name the one that holds the classes 'class' in ELAN, and save it "
            "again."
        )
    others = [tier for tier in root.iterfind("TIER") if tier not in chosen]
    unread = {x.get("TIER_ID", "") for x in others if len(x)}
    return chosen[0] if chosen else None, unread


def _videos(
    root: Element, document: Document, labelled: Labelled
) -> list[tuple[str, float]]:
    """Returns the videos of a recording, and the offset of each in seconds."""
    media = [
        (item, item.get("RELATIVE_MEDIA_URL") or item.get("MEDIA_URL") or "")
        for item in root.iterfind("HEADER/MEDIA_DESCRIPTOR")
    ]
    videos = [(x, url) for x, url in media if suffix_of(url) in EXTENSIONS]
    if not videos:
        # Without a media file, the video has the document's name.
        videos = [(Element("none"), PurePosixPath(document.file).stem)]
    place = f"'{document.path}'"
    found = []
    for item, url in videos:
        origin = item.get("TIME_ORIGIN", "0")
        offset = (whole_number(origin.removeprefix("-")) or 0) / 1000
        offset = -offset if origin.startswith("-") else offset
        if file := labelled.find(url, place):
            found.append((file, offset))
    return found
