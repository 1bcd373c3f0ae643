"""Collects what annotations of other programs say of the videos of a folder."""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from har_keras.errors import DataError
from har_keras.manifest.collecting import Collected
from har_keras.manifest.entries import FolderListing, FoundVideo
from har_keras.manifest.formats.cells import seconds_between
from har_keras.manifest.formats.document import Document
from har_keras.manifest.texts import shown
from har_keras.manifest.video_files import VideoFiles
from har_keras.progress import plural
from har_keras.video.ffmpeg import VideoError, probe

_MOST_NAMED = 3


class Labelled:
    """Labels of videos and of their parts, with the videos that are there.

    Other programs name a video by an address, by a path on another machine or
    by a number: it is found by the end of that. Those that are not in the
    folder are counted, and so is what is left out or not read.

    Args:
        documents: Sequence of Document. Where the labels are. At least one.
        files: VideoFiles. The files of the folder.
    """

    def __init__(
        self, documents: Sequence[Document], files: VideoFiles
    ) -> None:
        self.documents = documents
        self.files = files
        self._collected = Collected(files.root)
        self._absent: dict[str, None] = {}
        self._there: set[str] = set()
        self._left: Counter[tuple[str, str]] = Counter()
        self._unread: dict[str, set[str]] = defaultdict(set)
        self._header = functools.cache(lambda file: probe(files.root / file))

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
            split: str. The name of a split, as it is written, or "".
            group: str. What it was cut from, or "".

        Raises:
            DataError: If the part has a label already, or the label is empty.
        """
        if not class_name.strip():
            raise DataError(f"{place}: the label of '{file}' is empty.")
        start, end = seconds_between(*times, place)
        video = FoundVideo(file, class_name, split, group, start=start, end=end)
        self._collected.add(place, video)

    def leave_out(self, noun: str, why: str = "without a label") -> None:
        """Counts something that has no label, for a note.

        Args:
            noun: str. What it is, such as "video".
            why: str. Why it is left out. Defaults to `"without a label"`.
        """
        self._left[noun, why] += 1

    def not_read(self, what: str, names: Iterable[str]) -> None:
        """Names what is not read, for a note.

        Args:
            what: str. What it is, such as "Tiers of ELAN".
            names: Iterable of str.
        """
        self._unread[what] |= {*names}

    def seconds(self, file: str) -> float:
        """Returns the length of a video by its header; 0 if it says none."""
        try:
            return self._header(file).duration_seconds
        except VideoError:
            return 0.0  # Decoding will say why.

    def frame_rate(self, file: str) -> float:
        """Returns the frames per second of a video, from its header.

        Args:
            file: str. A video of the folder.

        Raises:
            DataError: If it says none: frames of it can't be told as times.
        """
        path = self.files.root / file
        try:
            rate = self._header(file).fps
        except VideoError as error:
            raise DataError(
                f"The labels of '{path}' are numbers of frames, but its frame "
                f"rate can't be read: {error.reason}. Mend the file, or leave "
                "its labels out."
            ) from error
        if rate <= 0:
            raise DataError(
                f"The labels of '{path}' are numbers of frames, but it names "
                "no frame rate. Encode it anew, or give the labels in seconds."
            )
        return rate

    def listing(self, *notes: str, listed: str = "") -> FolderListing:
        """Returns the videos, with notes on what is not there or not read.

        Args:
            *notes: str. What else there is to say.
            listed: str. What lists them. Defaults to the documents' names.

        Raises:
            DataError: If none is there.
        """
        absent = list(self._absent)
        if absent and not self._there:
            raise DataError(
                "None of the videos that the annotations name "
                f"({len(absent)}) is in '{self.files.root}', such as "
                f"'{shown(absent[0])}'. Put the videos into that folder; names "
                "of folders may differ, names of files may not."
            )
        said = [f"Listed in {listed or self._names()}."]
        said += [
            f"{plural(number, noun)} {why} left out."
            for (noun, why), number in self._left.items()
        ]
        said += [
            f"{what} that are not read: {', '.join(sorted(names))}."
            for what, names in self._unread.items()
            if names
        ]
        if absent:
            total = len(absent) + len(self._there)
            said.append(
                f"{len(absent)} of {plural(total, 'labelled video')} are not "
                f"in the folder and are left out, such as '{shown(absent[0])}'."
            )
        return self._collected.listing([*said, *notes])

    def _names(self) -> str:
        named = [document.file for document in self.documents[:_MOST_NAMED]]
        more = len(self.documents) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")
