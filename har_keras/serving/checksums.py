"""SHA-256 checksums of an exported folder.

An exported model is a program: the checksums prove that a deployed one is the
one that was exported.
"""

import hashlib
from pathlib import Path

from har_keras.errors import DataError

CHECKSUMS_NAME = "SHA256SUMS"
_CHUNK_BYTES = 2**20


def write_checksums(version: Path) -> Path:
    """Writes the SHA-256 checksum of every file, in `sha256sum` format.

    Args:
        version: Path. The exported folder.

    Returns:
        The written file.
    """
    lines = [
        f"{_checksum(path)}  {name}\n"
        for name, path in sorted(_files_in(version).items())
    ]
    (version / CHECKSUMS_NAME).write_text("".join(lines), "utf-8")
    return version / CHECKSUMS_NAME


def require_checksums(version: Path) -> None:
    """Verifies the checksums of an exported folder.

    Args:
        version: Path. The exported folder.

    Raises:
        DataError: If it has none, or a file was changed, removed or added.
    """
    listed: dict[str, str] = {}
    for line in _lines(version / CHECKSUMS_NAME):
        checksum, _, name = line.partition("  ")
        listed[name] = checksum
    found = _files_in(version)
    for name in sorted(listed.keys() | found.keys()):
        if name not in found or _checksum(found[name]) != listed.get(name):
            raise DataError(
                f"'{version}' was changed since its export: '{name}' differs. "
                "Export the run again."
            )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"'{file.parent}' has no readable {file.name}: its export is not "
            "complete, or was changed. Export the run again."
        ) from error


def _files_in(version: Path) -> dict[str, Path]:
    return {
        path.relative_to(version).as_posix(): path
        for path in version.rglob("*")
        if path.is_file() and path.name != CHECKSUMS_NAME
    }


def _checksum(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
