"""Collects what annotations of other programs say of the videos of a folder."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

from har_keras.errors import DataError
from har_keras.manifest.collecting import Collected
from har_keras.manifest.entries import FolderListing, FoundVideo
from har_keras.manifest.formats.cells import seconds_between
from har_keras.manifest.video_files import VideoFiles
from har_keras.progress import plural
from har_keras.video.ffmpeg import VideoError, probe


class Labelled:
    """Labels of videos and of their parts, with the videos that are there.

    Other programs name a video by an address, by a path on another machine or
    by a number: it is found by the end of that. Those that are not in the
    folder are counted.

    Args:
        files: VideoFiles. The files of the folder.
    """

    def __init__(self, files: VideoFiles) -> None:
        self.files = files
        self._collected = Collected(files.root)
        self._absent: dict[str, None] = {}
        self._there: set[str] = set()

    def find(self, name: str, place: str, folders: Sequence[str] = ()) -> str:
        """Returns the file of a video, relative to the root, or "".

        Args:
            name: str. As the annotation names it.
            place: str. Where, for messages.
            folders: Sequence of str. Folders that decide between several.
        """
        file = self.files.named(name, place, folders)
        if file:
            self._there.add(file)
        else:
            self._absent[name] = None
        return file

    def add(
        self,
        place: str,
        file: str,
        class_name: str,
        times: tuple[object, object] = (None, None),
        *,
        split: str = "",
        group: str = "",
    ) -> None:
        """Adds a label of a video, or of a part of it.

        Args:
            place: str. Where it is said, for messages.
            file: str. A video of the folder.
            class_name: str. The label.
            times: pair. Start and end in seconds; None for the whole video.
            split: str. "train", "val", "test" or "".
            group: str. What it was cut from, or "".

        Raises:
            DataError: If the part has a label already, or the label is empty.
        """
        if not class_name.strip():
            raise DataError(f"{place}: the label of '{file}' is empty.")
        start, end = seconds_between(*times, place)
        video = FoundVideo(file, class_name, split, group, start=start, end=end)
        self._collected.add(place, video)

    def listing(self, notes: Iterable[str]) -> FolderListing:
        """Returns the videos, with a note on those that are not there.

        Raises:
            DataError: If none is there.
        """
        absent = list(self._absent)
        if absent and not self._there:
            raise DataError(
                f"None of the {plural(len(absent), 'video')} that the "
                f"annotations name is in '{self.files.root}', such as "
                f"'{absent[0]}'. Put the videos into that folder; names of "
                "folders may differ, names of files may not."
            )
        said = []
        if absent:
            total = len(absent) + len(self._there)
            said.append(
                f"{len(absent)} of {plural(total, 'labelled video')} are not "
                f"in the folder and are left out, such as '{absent[0]}'."
            )
        return self._collected.listing([*notes, *said])


@functools.lru_cache(maxsize=4096)
def frame_rate(path: Path) -> float:
    """Returns the frames per second of a video, from its header.

    Args:
        path: Path. The file.

    Raises:
        DataError: If it says none: frames of it can't be told as times.
    """
    try:
        rate = probe(path).fps
    except VideoError as error:
        raise DataError(
            f"The labels of '{path}' are numbers of frames, but its frame rate "
            f"can't be read: {error.reason}. Mend the file, or leave its "
            "labels out."
        ) from error
    if rate <= 0:
        raise DataError(
            f"The labels of '{path}' are numbers of frames, but it names no "
            "frame rate. Encode it anew, or give the labels in seconds."
        )
    return rate
