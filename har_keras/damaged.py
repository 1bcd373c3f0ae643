"""Reads files of a run that may be damaged, or somebody else's."""

import contextlib
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from har_keras.errors import (
    DataError,
    EnvironmentFault,
    HarError,
    reason_of,
)
from har_keras.files import is_of_full_disk, read_regular, require_regular

# What Keras says before is for those who write models.
_REASON = re.compile(r"(?:Exception|Error) encountered[^:\n]*: ")
UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # a few words, said to be many gigabytes
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading an archive of arrays raises that is none of ours."""
LONGEST_NAME = 1000
"""Characters in the name of a class that comes from elsewhere."""


def read_json(file: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        file: Path. The file.

    Raises:
        DataError: If it can't be read, or holds something else.
    """
    try:
        found = json.loads(read_regular(file))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(file, error) from error
    if not isinstance(found, dict):
        raise _damaged(file, "it is no JSON object")
    return found


def read_model(file: Path) -> Any:
    """Reads a model of this package; no code of the file is run.

    The modules of the model's classes must have been imported before.

    Args:
        file: Path. The `.keras` file.

    Returns:
        A `keras.Model`.

    Raises:
        DataError: If it can't be read, or is another kind of model.
    """
    import keras
    import numpy as np

    with damage_named(file), warnings.catch_warnings():
        # It would go on without weights.
        warnings.filterwarnings("error", ".*the model cannot be built")
        model = keras.models.load_model(file, compile=False, safe_mode=True)
    if not type(model).__module__.startswith("har_keras."):
        raise _damaged(file, f"it is a {type(model).__name__}")
    if not all(np.isfinite(values).all() for values in model.get_weights()):
        raise _damaged(file, "its weights are not all finite")
    return model


@contextlib.contextmanager
def damage_named(file: Path) -> Iterator[None]:
    """Turns what a library raises about a model into a sentence.

    Args:
        file: Path. The model.

    Raises:
        DataError: In place of any other exception: libraries raise what their
            files made fail.
        EnvironmentFault: If the disk is full: they copy before they read.
    """
    try:
        yield
    except (HarError, MemoryError):
        raise
    except Exception as error:
        if is_of_full_disk(error):
            raise EnvironmentFault(
                f"The disk is full: '{file}' could not be loaded. Free some "
                "space, or set TMPDIR to a folder of another disk."
            ) from error
        raise _damaged(file, error) from error


def require_regular_files(files: Iterable[Path]) -> None:
    """Refuses a named pipe among the files of a model: a reader would wait.

    Args:
        files: Iterable of Path. Those that are missing pass.

    Raises:
        DataError: If one is there and no regular file.
    """
    for file in files:
        with damage_named(file):
            require_regular(file)


def different_texts(found: object) -> tuple[str, ...]:
    """Returns class names that were read from a file.

    Raises:
        ValueError: If they are something else, for `damage_named`.
    """
    if (
        not isinstance(found, list)
        or not all(isinstance(name, str) for name in found)
        or len(set(found)) != len(found)
    ):
        raise ValueError("its class names are no list of different texts")
    if max(map(len, found), default=0) > LONGEST_NAME:
        raise ValueError(
            f"a class name has more than {LONGEST_NAME} characters"
        )
    return tuple(found)


def _damaged(file: Path, reason: object) -> DataError:
    told = reason_of(reason) if isinstance(reason, Exception) else str(reason)
    told = _REASON.split(told)[-1]
    first, *_ = told.strip().splitlines() or [type(reason).__name__]
    return DataError(
        f"'{file}' is damaged, or not of har_keras: {first.rstrip('.')}. Copy "
        "it again from where it was made, or train again."
    )
