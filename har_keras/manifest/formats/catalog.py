"""The table of formats: what each is, how it is recognized, and its reader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from har_keras.manifest.collecting import videos_from_table
from har_keras.manifest.entries import FolderListing
from har_keras.manifest.formats.cvat import is_cvat, read_cvat
from har_keras.manifest.formats.document import Document
from har_keras.manifest.formats.elan import is_elan, read_elan
from har_keras.manifest.formats.fiftyone import (
    is_fiftyone,
    is_fiftyone_labels,
    read_fiftyone,
    read_fiftyone_labels,
)
from har_keras.manifest.formats.hmdb import is_hmdb, read_hmdb
from har_keras.manifest.formats.kinetics import (
    is_activitynet,
    is_kinetics_csv,
    is_kinetics_json,
    read_activitynet,
    read_kinetics_csv,
    read_kinetics_json,
)
from har_keras.manifest.formats.label_studio import (
    is_label_studio,
    read_label_studio,
)
from har_keras.manifest.formats.lists import is_named_so
from har_keras.manifest.formats.something import (
    is_something_csv,
    is_something_json,
    read_something,
)
from har_keras.manifest.formats.tables import ROLES
from har_keras.manifest.formats.via import (
    is_other_via,
    is_via,
    read_via,
    refuse_other_via,
)
from har_keras.manifest.video_files import VideoFiles

Reader = Callable[[Sequence[Document], VideoFiles], FolderListing]


@dataclass(frozen=True)
class Format:
    """A format of annotations.

    Args:
        name: str. As people know it.
        claims: Callable. Whether a `Document` is in this format.
        read: Callable. From the documents and the videos to a listing.
    """

    name: str
    claims: Callable[[Document], bool]
    read: Reader


def is_table_of_videos(document: Document) -> bool:
    """Returns whether a table has columns of files and classes.

    Such as `metadata.csv` of Hugging Face, or Apple's `video,label,start,end`.
    """
    columns = document.columns
    # Below the root only what is named so, and no results of a run.
    at_place = not document.depth or document.path.stem.lower() == "metadata"
    return (
        at_place
        and not is_named_so(document.path)  # that is a list
        and bool(columns & {*ROLES["file"]})
        and bool(columns & {*ROLES["class"]})
        and not columns & RESULTS
    )


RESULTS = frozenset({"verdict", "prediction", "predicted", "kept_frames"})
"""Columns of tables that this package writes as results."""


def read_tables(
    documents: Sequence[Document], files: VideoFiles
) -> FolderListing:
    """Reads tables of videos."""
    tables = [(document.table, document.split_name) for document in documents]
    return videos_from_table(files, tables)


FORMATS = (
    Format("Kinetics (CSV)", is_kinetics_csv, read_kinetics_csv),
    Format("Kinetics (JSON)", is_kinetics_json, read_kinetics_json),
    Format("ActivityNet", is_activitynet, read_activitynet),
    Format("HMDB51", is_hmdb, read_hmdb),
    Format("Label Studio", is_label_studio, read_label_studio),
    Format("CVAT", is_cvat, read_cvat),
    Format("VIA 3", is_via, read_via),
    Format("VIA", is_other_via, refuse_other_via),
    Format("ELAN", is_elan, read_elan),
    Format("FiftyOne", is_fiftyone, read_fiftyone),
    Format("FiftyOne (labels)", is_fiftyone_labels, read_fiftyone_labels),
    Format("Something-Something (JSON)", is_something_json, read_something),
    Format("Something-Something (CSV)", is_something_csv, read_something),
    Format("a table", is_table_of_videos, read_tables),
)
"""All formats, the first that claims a document reads it."""
