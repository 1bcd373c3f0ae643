"""The exports of a model: which versions there are, and in which formats."""

from __future__ import annotations

import importlib.util
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from har_keras.errors import DataError, UsageError
from har_keras.run import Run, require_here
from har_keras.serving.checksums import CHECKSUMS_NAME
from har_keras.serving.model_info import MODEL_NAME
from har_keras.serving.runtimes import VERSION_FILE
from har_keras.terminal import shell_word

# Fastest first, as far as that is the same everywhere; `auto` measures.
RUNTIMES = {
    "openvino": ("openvino", "model.xml"),
    "onnx": ("onnxruntime", "model.onnx"),
    "saved_model": ("tensorflow", "saved_model.pb"),
}
_SUFFIXES = {".onnx": "onnx", ".xml": "openvino"}
_NAME = re.compile(r"[\w.~-]+")


@dataclass(frozen=True)
class Export:
    """A version of a model in one format.

    Args:
        version: int. Its number.
        runtime: str. "saved_model", "onnx" or "openvino".
        path: Path. What `open_exported` takes.
        checksums: Path or None. The folder whose checksums are to hold.
        stamp: tuple. Changes when the files are replaced.
    """

    version: int
    runtime: str
    path: Path
    checksums: Path | None
    stamp: tuple[int, ...]

    @property
    def is_installed(self) -> bool:
        """Whether its runtime is there."""
        return importlib.util.find_spec(RUNTIMES[self.runtime][0]) is not None


@dataclass(frozen=True)
class Source:
    """A model to serve, by the name that it has in addresses.

    Args:
        name: str. Its name.
        path: Path. A run, a folder of versions, a version, or a file.
    """

    name: str
    path: Path

    def exports(self) -> list[Export]:
        """Returns what is exported now, in no order."""
        path, run = self.path, Run(self.path)
        if path.is_file():
            return [_export(1, _SUFFIXES[path.suffix], path, None)]
        if _is_saved_model(path):
            number = int(path.name) if path.name.isdecimal() else 1
            return [_of_version(number, path)]
        is_run = run.config_file.is_file()
        found = _versions(run.saved_model_dir if is_run else path)
        if is_run:
            found += _formats(run)
        return found


def find_sources(names: Sequence[str]) -> list[Source]:
    """Finds the models that are named on the command line.

    Args:
        names: Sequence of str. Paths, each with an optional `NAME=` before
            it.

    Returns:
        A list of `Source`.

    Raises:
        UsageError: If a name is taken, or unfit for an address, or a model is
            on a hub.
        DataError: If nothing is exported at a path.
    """
    found: dict[str, Source] = {}
    for text in names:
        name, path = _split(text)
        require_here(path)
        name = name or (MODEL_NAME if len(names) == 1 else path.resolve().name)
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"'{name}' can't be the name of a model in an address. Give "
                f"another one, of letters, digits, - and _: NAME={path}"
            )
        if name in found:
            raise UsageError(
                f"Two models have the name '{name}'. Give them others: "
                f"NAME={path}"
            )
        found[name] = Source(name, path)
    for source in found.values():
        _require_exported(source)
    return list(found.values())


def _split(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists():
        return "", Path(text)
    return name, Path(path)


def _require_exported(source: Source) -> None:
    path = source.path
    if not path.exists():
        raise DataError(
            f"'{path}' does not exist. Give the folder of a run, such as "
            "runs/first, or an exported model."
        )
    if path.is_file() and path.suffix not in _SUFFIXES:
        raise UsageError(
            f"'{path}' can't be served. Expected a run, a SavedModel, or a "
            "file that ends in .onnx or .xml."
        )
    if source.exports():
        return
    if Run(path).config_file.is_file():
        raise DataError(
            f"The run '{path}' is not exported yet. Export it with: har-keras "
            f"export {shell_word(path)} --formats onnx"
        )
    raise DataError(
        f"'{path}' is neither a run nor an exported model: it has no "
        "config.toml, and no version such as 1/saved_model.pb."
    )


def read_labels(
    text: str, sources: Sequence[Source]
) -> dict[str, dict[str, int]]:
    """Parses `--labels`: versions by label, by model.

    Args:
        text: str. The option, such as "stable=3,new=4".
        sources: Sequence of Source. The models.

    Returns:
        A dict such as `{"har": {"stable": 3, "new": 4}}`.

    Raises:
        UsageError: If it has another form, or names no model, or a version
            that is not exported.
    """
    found: dict[str, dict[str, int]] = {x.name: {} for x in sources}
    by_name = {x.name: x for x in sources}
    for item in filter(None, (x.strip() for x in text.split(","))):
        match = re.fullmatch(r"(?:([^/=]+)/)?([\w.~-]+)=([0-9]{1,18})", item)
        name = (match[1] or sources[0].name) if match else ""
        ambiguous = match and not match[1] and len(sources) > 1
        if not match or ambiguous or name not in found:
            raise UsageError(
                "--labels must be LABEL=VERSION, or MODEL/LABEL=VERSION of "
                f"one of {', '.join(found)}. Received: {item}."
            )
        found[name][match[2]] = int(match[3])
        _require_version(by_name[name], int(match[3]), item)
    return found


def _require_version(source: Source, version: int, item: str) -> None:
    """Refuses a label of no version, as TensorFlow Serving does."""
    there = {x.version for x in source.exports()}
    if version not in there:
        raise UsageError(
            "--labels must name versions that are there: the latest of "
            f"'{source.name}' is {max(there, default=0)}. Received: {item}."
        )


def address(name: str) -> str:
    """Returns the path of a model in addresses."""
    return f"/v1/models/{urllib.parse.quote(name, safe='')}"


def _versions(folder: Path) -> list[Export]:
    if not folder.is_dir():
        return []
    return [
        _of_version(int(path.name), path)
        for path in folder.iterdir()
        if path.name.isdecimal() and _is_saved_model(path)
    ]


def _of_version(number: int, path: Path) -> Export:
    return _export(number, "saved_model", path, path)


def _formats(run: Run) -> list[Export]:
    """Returns the exports in other formats, which name their version."""
    found = []
    for runtime, (_, file) in RUNTIMES.items():
        folder = run.formats_dir / runtime
        path, version = folder / file, _version_in(folder)
        if runtime != "saved_model" and path.is_file() and version:
            found.append(_export(version, runtime, path, folder))
    return found


def _version_in(folder: Path) -> int:
    """Returns the version of an export; 0 if it does not say."""
    try:
        text = (folder / VERSION_FILE).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if re.fullmatch(r"\d{1,18}", text) else 0


def _is_saved_model(path: Path) -> bool:
    return (path / RUNTIMES["saved_model"][1]).is_file()


def _export(
    version: int, runtime: str, path: Path, checksums: Path | None
) -> Export:
    listed = [path] if checksums is None else [path, checksums / CHECKSUMS_NAME]
    stamp: list[int] = []
    for file in listed:
        try:
            known = file.stat()
        except OSError:  # replaced at this moment; the next look sees it
            continue
        stamp += [known.st_ino, known.st_mtime_ns, known.st_size]
    return Export(version, runtime, path, checksums, tuple(stamp))
