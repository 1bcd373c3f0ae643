"""Paths that libraries take as they are: some are patterns, or no UTF-8."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from har_keras.files import temporary_prefix

_PATTERN = r"[][*?\\]" if os.name == "posix" else r"[][*?]"
# What is no UTF-8 stands in a path as half a character.
_SPECIAL = re.compile(_PATTERN + "|[\ud800-\udfff]")


@contextlib.contextmanager
def plain_path(folder: Path, *, writing: bool = False) -> Iterator[Path]:
    """Yields a path to a folder in which no character is special.

    TensorFlow looks for the variables of a SavedModel by a pattern, so that in
    `run [1]` it finds none; of names that are no UTF-8, other libraries don't
    take any. A link in a temporary folder leads there; where
    links can't be made, as on some Windows machines, a copy is used.

    Args:
        folder: Path. The folder, which exists.
        writing: bool. Whether it is to be filled. Defaults to `False`.

    Yields:
        `folder`, or a link to it, or its copy.

    Example:

    >>> with plain_path(Path("runs/first")) as path:
    ...     print(path.as_posix())
    runs/first
    """
    if not _SPECIAL.search(os.path.abspath(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(
        prefix=temporary_prefix(), dir=_plain_parent()
    ) as parent:
        plain = Path(parent) / "model"
        try:
            os.symlink(os.path.abspath(folder), plain, target_is_directory=True)
        except (OSError, NotImplementedError):  # Windows, without the right
            shutil.copytree(folder, plain)
            yield plain
            if writing:
                shutil.copytree(plain, folder, dirs_exist_ok=True)
        else:
            yield plain


def _plain_parent() -> str | None:
    """Returns a folder for temporary files whose name is plain itself."""
    if not _SPECIAL.search(tempfile.gettempdir()):
        return None
    return "/tmp" if os.path.isdir("/tmp") else None
