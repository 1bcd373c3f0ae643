"""What a run began with, so that it is resumed with nothing else."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from har_keras.config import Config
from har_keras.environment import versions
from har_keras.errors import DataError, UsageError
from har_keras.files import read_regular, stamp, whole_file
from har_keras.manifest.manifest import Manifest, Video, content_hash
from har_keras.ranges import flag
from har_keras.run import Run
from har_keras.toml import renamed_options

if TYPE_CHECKING:
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.store import Store


logger = logging.getLogger("har_keras")

# Options that leave every number of the training as it is.
FREE = frozenset(
    {
        "store_dir", "workers", "timeout_seconds", "wandb", "wandb_project",
        "checkpoint_minutes", "host_index", "coordinator", "join_seconds",
    }
)  # fmt: skip
_NAMED = 3


class RunFingerprint:
    """The options, videos and versions that a run began with.

    Args:
        options: dict. The text of each option that matters, by name.
        videos: dict. Content, class, split and number of frames of each file
            or labelled part, and the file's size and time of change, to see
            without reading it all whether it was touched.
        versions: dict. Of the packages that compute.
        token: str. Random, so that a run of the same options and videos has
            another digest. Defaults to none, as in runs of before.

    Attributes:
        digest: str. A hash of the options, videos and token, as they were
            recorded: the checkpoints of the run hold it, too.
    """

    def __init__(
        self,
        options: dict[str, str],
        videos: dict[str, dict[str, Any]],
        versions: dict[str, str],
        token: str = "",
    ) -> None:
        self.digest = _digest(options, videos, token)
        self.options: dict[str, str] = renamed_options(options)
        self.videos = videos
        self.versions = versions
        self.token = token

    @classmethod
    def of(cls, config: Config, manifest: Manifest) -> RunFingerprint:
        """Returns the fingerprint of a training that began now."""
        videos = {
            video.name: {
                "sha256": video.sha256,
                "class": video.class_name,
                "split": video.split,
                "frames": video.kept_frames,
                "stamp": _settled(manifest.path(video)),
            }
            for video in manifest.videos
        }
        return cls(_texts(config), videos, _versions(), secrets.token_hex(8))

    @classmethod
    def read(cls, file: Path) -> RunFingerprint:
        """Reads what `write` wrote.

        Raises:
            DataError: If the file is missing or damaged.
        """
        try:
            content = json.loads(read_regular(file))
            return cls(**content)
        except (
            AttributeError,
            LookupError,
            OSError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise DataError(
                f"'{file}', the record of the run's options, can't be read: "
                f"{error}. Start the run again in a new folder."
            ) from error

    def write(self, file: Path) -> None:
        """Writes it as JSON."""
        content = {k: v for k, v in vars(self).items() if k != "digest"}
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps(content), "utf-8")

    def refuse_changes(self, now: RunFingerprint, place: Path) -> None:
        """Checks that a training can be resumed exactly.

        Args:
            now: RunFingerprint. Of the training that resumes.
            place: Path. The run, for the sentence.

        Raises:
            UsageError: If an option differs; names it.
            DataError: If a video differs; names it.
        """
        _refuse_options(self.options, now.options, place)
        changes = [
            _change(file, self.videos.get(file), now.videos.get(file))
            for file in {**self.videos, **now.videos}
        ]
        found = [change for change in changes if change]
        if found:
            raise DataError(
                f"The run in '{place}' can't be resumed with other videos than "
                f"it began with: {_some(found)}. Put them back, or start a "
                "new run."
            )
        if [*self.videos] != [*now.videos]:  # which decides that of the clips
            raise DataError(
                f"The manifest.csv of the run in '{place}' lists the videos in "
                "another order than the run began with. Put its rows back, or "
                "start a new run."
            )
        for name, version in self.versions.items():
            if now.versions.get(name) != version:
                logger.warning(
                    "the run began with %s %s and resumes with %s: weights may "
                    "differ from those of an uninterrupted run.",
                    name,
                    version,
                    now.versions.get(name, "none"),
                )

    def refuse_options(self, config: Config, place: Path) -> None:
        """Checks that options are those that the run began with.

        Args:
            config: Config. The options.
            place: Path. The run, for the sentence.

        Raises:
            UsageError: If one differs; names it.
        """
        _refuse_options(self.options, _texts(config), place)

    def refuse_touched(self, manifest: Manifest) -> None:
        """Checks that no video file was replaced since the run began.

        Only those whose size or time of change is another are read. One that
        is gone matters only if its frames are, which is found later.

        Args:
            manifest: Manifest. The videos of the run.

        Raises:
            DataError: If the content of a file is another; names it.
        """

        def differs(video: Video) -> bool:
            known = self.videos.get(video.name, {})
            path = manifest.path(video)
            now = stamp(path)
            if not video.sha256 or now in (None, known.get("stamp")):
                return False
            return content_hash(path) != video.sha256

        files = {video.file: video for video in manifest.videos}.values()
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            flags = list(pool.map(differs, files))
        touched = [
            f"'{video.file}' has other content"
            for video, is_other in zip(files, flags, strict=True)
            if is_other
        ]
        if touched:
            raise DataError(
                f"Videos in '{manifest.root}' changed since the run began: "
                f"{_some(touched)}. Put them back, or start a new run."
            )


def _settled(path: Path) -> list[int] | None:
    """Returns the stamp of a file, None if it changed in this process's time.

    Then it may be another than the one that was listed and decoded, and is
    read whole when the run is resumed.
    """
    try:
        began = psutil.Process().create_time()
        return stamp(path) if path.stat().st_ctime < began else None
    except OSError:
        return None


def _texts(config: Config) -> dict[str, str]:
    """Returns the text of each option that matters."""
    flat = config.flat().items()
    return {name: str(value) for name, value in flat if name not in FREE}


_DECISIVE = ("sha256", "class", "split", "frames")


def _digest(
    options: dict[str, str], videos: dict[str, dict[str, Any]], token: str
) -> str:
    """Returns a hash of what decides the weights, as the run recorded it."""
    rows = [
        (file, *(row[key] for key in _DECISIVE)) for file, row in videos.items()
    ]
    parts = [options, rows, *([token] if token else [])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _refuse_options(
    before: dict[str, str], now: dict[str, str], place: Path
) -> None:
    # An option that the run's version did not have yet was as it is by default.
    defaults = {name: str(value) for name, value in Config().flat().items()}
    before = defaults | before
    changes = [
        f"{flag(name)} was {before[name]} and is now {now.get(name, 'unknown')}"
        for name in before
        if before[name] != now.get(name) and name not in FREE
    ]
    if changes:
        raise UsageError(
            f"The run in '{place}' can't be resumed with other options than "
            f"it began with: {_some(changes)}. Put them back, or start a new "
            "run."
        )


def _change(
    file: str, before: dict[str, Any] | None, now: dict[str, Any] | None
) -> str:
    """Returns what became of a video, in words; "" if nothing did."""
    if before is None:
        return f"'{file}' is new"
    if now is None:
        return f"'{file}' is gone from the manifest"
    for key, words in (
        ("sha256", "has other content"),
        ("class", "is of another class"),
        ("split", "is in another split"),
    ):
        if before[key] != now[key]:
            return f"'{file}' {words}"
    if before["frames"] != now["frames"]:
        return (
            f"'{file}' gave {before['frames']} frames and gives now "
            f"{now['frames']}"
        )
    return ""


def _some(changes: list[str]) -> str:
    """Returns the first few of a list, and how many more there are."""
    more = len(changes) - _NAMED
    text = "; ".join(changes[:_NAMED])
    return f"{text}; and {more} more" if more > 0 else text


def _versions() -> dict[str, str]:
    """Returns the versions that decide the weights."""
    found = versions()
    return {
        name: found[name] for name in ("keras", "backend", found["backend"])
    }


def reopened(run: Run, config: Config) -> tuple[Store, Manifest]:
    """Returns the frames and the videos of a run that was stopped.

    Args:
        run: Run. It has a manifest.
        config: Config. That of the run.

    Raises:
        DataError: If there is none, or a video has other content.
    """
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.preparation import decode_usable

    if not run.manifest_file.is_file():
        raise DataError(
            f"The run in '{run.path}' was stopped before its videos were "
            "listed, so there is nothing to resume. Remove it and start again; "
            "what was decoded is kept."
        )
    manifest = Manifest.read(run.manifest_file)
    if run.fingerprint_file.is_file():
        RunFingerprint.read(run.fingerprint_file).refuse_touched(manifest)
    return decode_usable(manifest, config.clip, config.store)
