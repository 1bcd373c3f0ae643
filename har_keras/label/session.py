"""What the page shows and does: a folder, its labels, and those who help."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from har_keras.errors import DataError
from har_keras.label.assistant import Assistant
from har_keras.label.cache import Notes, PageCache, folder_key
from har_keras.label.labels import (
    Change,
    Labels,
    class_name_of,
    require_one_spelling,
)
from har_keras.label.media import Media
from har_keras.label.rows import LabelRow, seconds_of
from har_keras.label.training import Training, default_backbone
from har_keras.manifest.entries import refusal
from har_keras.manifest.video_files import VideoFiles
from har_keras.store.store import default_store_dir
from har_keras.terminal import printable

_LOOK_SECONDS = 10.0  # between looks for new videos
_MOST_CHANGES = 20_000


class Session:
    """A folder of videos as one server has it.

    Args:
        root: Path. The folder, resolved.
        by: str. Who labels, for `labelled_by`.
        run: Path or None. A run whose answers are the suggestions.
        backbone: str. The network for suggestions without a run, and for
            training; "" is that of the recipe transfer.
        runs: Path. The folder for new runs.
        store_dir: Path or None. The store. Defaults to the user's cache.
        unsorted: bool. Whether folders say nothing of classes.
        train_options: Sequence of str. Further flags of `train`.
    """

    def __init__(
        self,
        root: Path,
        *,
        by: str,
        run: Path | None = None,
        backbone: str = "",
        runs: Path = Path("runs"),
        store_dir: Path | None = None,
        unsorted: bool = False,
        train_options: Sequence[str] = (),
    ) -> None:
        self.root, self.by = root, by
        folder = (store_dir or default_store_dir()) / "label"
        own = folder / "folders" / folder_key(root)
        self.notes = Notes(own / "page.json")
        self.labels = Labels(root, unsorted=unsorted)
        self.media = Media(root, PageCache(folder / "media"))
        flags = [*train_options]
        flags += ["--backbone", backbone] if backbone else []
        flags += ["--store-dir", str(store_dir)] if store_dir else []
        self.training = Training(
            root, Notes(own / "training.json"), own / "train.log", runs,
            tuple(flags),
        )  # fmt: skip
        self.assistant = Assistant(
            root, store_dir, backbone or default_backbone()
        )
        self.uploads = own / "uploads"
        self.wants_help = run is not None
        self._run = str(run) if run else ""
        self._was_training = False
        self._lock = threading.RLock()
        self._files: dict[str, str] = {}
        self._refused: set[str] = set()
        self._looked = float("-inf")
        self._number = 0
        self._look()

    @property
    def files(self) -> Mapping[str, str]:
        """The videos by their number, which is all that the page knows."""
        return self._files

    def file(self, number: str) -> str:
        """Returns the video of a number.

        Raises:
            DataError: If there is none.
        """
        found = self._files.get(number)
        if found is None:
            raise DataError("There is no such video here. Load the page again.")
        return found

    def state(self) -> dict[str, Any]:
        """Returns all that the page shows when it is opened."""
        self.labels.refresh()
        self._look()
        rows = self.labels.rows
        return {
            "folder": printable(self.root.name or str(self.root)),
            "path": printable(self.root),
            "by": self.by,
            "videos": self._videos(),
            "rows": [self.as_json(row) for row in rows],
            **self._news(),
        }

    def changes(self, since: int, number: int) -> dict[str, Any]:
        """Returns what is new since a revision, and how things stand.

        Args:
            since: int. The revision that the page has.
            number: int. The number of the list of videos that it has.
        """
        self.labels.refresh()
        if time.monotonic() > self._looked + _LOOK_SECONDS:
            self._look()
        self._help()
        rows, gone = self.labels.changed_since(since)
        found = self._news() | {
            "rows": [self.as_json(row) for row in rows],
            "gone": [[video_number(k[0]), k[1], k[2]] for k in gone],
        }
        if number != self._number or any(
            video_number(row.file) not in self._files for row in rows
        ):
            self._look()
            found |= {"videos": self._videos(), "number": self._number}
        return found

    def _news(self) -> dict[str, Any]:
        return {
            "revision": self.labels.revision,
            "number": self._number,
            "classes": self.classes(),
            "fault": printable(self.labels.fault),
            "origin": self.labels.origin,
            "saved": self.labels.path.is_file(),
            "training": self.training.status().as_json(),
            "help": self._help_state(),
        }

    def change(self, sent: Any, by: str = "") -> None:
        """Makes the changes that the page sent, all or none.

        Args:
            sent: list of dict. As `_change_of` reads them.
            by: str. Who makes them. Defaults to that of the server.

        Raises:
            Conflict: If a row is not as the page showed it.
            DataError: If a change can't be made.
            EnvironmentFault: If the manifest can't be written.
        """
        if not isinstance(sent, list) or not 0 < len(sent) <= _MOST_CHANGES:
            raise DataError("A list of changes was expected.")
        changes = [self._change_of(item) for item in sent]
        names = {
            class_name_of(x.values["class_name"])
            for x in changes
            if x.values and x.values.get("class_name")
        }
        self.labels.apply(changes, by or self.by)
        for name in sorted(names):
            self.add_class(name)

    def _change_of(self, item: Any) -> Change:
        """Reads a change: the video `v`, times `s`, `e`, version `r`, `set`."""
        if not isinstance(item, dict) or not isinstance(item.get("v"), str):
            raise DataError("A change names a video.")
        file = self.file(item["v"])
        key = (file, seconds_of(item.get("s")), seconds_of(item.get("e")))
        values = item.get("set")
        if values is None:
            return Change(key, str(item.get("r", "")), None)
        if not isinstance(values, dict) or not {*values} <= {*_FIELDS}:
            raise DataError("A change sets fields of a row.")
        named = {_FIELDS[k]: v for k, v in values.items()}
        for name in ("start", "end"):
            if name in named:
                named[name] = seconds_of(named[name])
        if "left_out" in named:
            named["left_out"] = named["left_out"] is True
        return Change(key, str(item.get("r", "")), named)

    def as_json(self, row: LabelRow) -> dict[str, Any]:
        """Returns a row as the page has it."""
        return {
            "v": video_number(row.file), "s": row.start, "e": row.end,
            "c": row.class_name, "g": row.group, "p": row.split,
            "n": row.note, "b": row.labelled_by, "x": row.left_out,
            "r": row.version,
        }  # fmt: skip

    def classes(self) -> list[str]:
        """Returns the classes in the order of their keys."""
        noted = self.notes.read().get("classes", [])
        noted = [x for x in noted if isinstance(x, str)]
        rows = sorted({row.class_name for row in self.labels.rows} - {""})
        return list(dict.fromkeys([*noted, *rows]))

    def add_class(self, name: str) -> None:
        """Adds a class that may have no video yet.

        Raises:
            DataError: If it can't be the name of a class.
        """
        name, known = class_name_of(name), self.classes()
        require_one_spelling(name, known)
        with self._lock:
            self.notes.update(classes=[*dict.fromkeys([*known, name])])

    def order_classes(self, names: Iterable[Any]) -> None:
        """Keeps classes in another order; those without a video may go."""
        wanted = [class_name_of(name) for name in names]
        with self._lock:
            self.notes.update(classes=[*dict.fromkeys(wanted)])

    def set_help(self, on: bool) -> None:
        """Turns suggestions on or off."""
        self.wants_help = on
        if not on:
            self.assistant.stop()
        self._help()

    def _help(self) -> None:
        """Asks for suggestions, where they are wanted and labels are new."""
        found = self.training.status()
        # A model that was just trained shows what it makes of the rest.
        self.wants_help |= self._was_training and found.state == "done"
        self._was_training = found.state == "running"
        if not self.wants_help:
            return
        run = found.run if found.state == "done" else self._run
        self.assistant.run = run or self._run
        self.assistant.ask(self.samples())

    def samples(self) -> list[LabelRow]:
        """Returns the videos and parts that are to be used, in order."""
        rows = self.labels.rows
        cut = {row.file for row in rows}
        whole = [LabelRow(x) for x in self._files.values() if x not in cut]
        return [
            x
            for x in (*rows, *whole)
            if not x.left_out and x.file not in self._refused
        ]

    def _help_state(self) -> dict[str, Any]:
        found = self.assistant.help
        return {
            "on": self.wants_help, "state": found.state, "text": found.text,
            "fraction": found.fraction, "number": found.number,
            "run": Path(self.assistant.run).name,
        }  # fmt: skip

    def suggestions(self) -> dict[str, Any]:
        """Returns the last suggestions, by video and times."""
        found = self.assistant.help
        keys = [[video_number(x.file), x.start, x.end] for x in found.samples]
        return {"number": found.number, "samples": keys, **found.answer}

    def _look(self) -> None:
        """Looks which videos are in the folder, and which are only listed."""
        with self._lock:
            listed = [row.file for row in self.labels.rows]
            names = [*VideoFiles(self.root).videos, *listed]
            files = {video_number(x): x for x in dict.fromkeys(names)}
            self._looked = time.monotonic()
            if files.keys() != self._files.keys():
                self._number += 1
                self._refused = {
                    file for file in files.values() if refusal(self.root, file)
                }
            self._files = files

    def _videos(self) -> list[list[str]]:
        return [
            [number, printable(_shown(file))]
            for number, file in self._files.items()
        ]

    def close(self) -> None:
        """Ends what helps; a training goes on."""
        self.assistant.stop()


_FIELDS = {
    "c": "class_name", "g": "group", "p": "split", "n": "note",
    "x": "left_out", "s": "start", "e": "end", "b": "labelled_by",
}  # fmt: skip


def video_number(file: str) -> str:
    """Returns what stands for a video in addresses, whatever its name is."""
    return hashlib.sha256(os.fsencode(file)).hexdigest()[:16]


def _shown(file: str) -> str:
    """Returns a name as text; bytes of an old encoding are replaced."""
    return os.fsencode(file).decode("utf-8", "replace")
