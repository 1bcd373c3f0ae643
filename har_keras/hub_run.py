"""A run on a hub, by its address `hf://owner/name[@revision]`.

`har-keras push` wrote it. Only what `load` needs is downloaded, each
file by its name, and the model is read as that of a run on this machine: from
its config and weights, without pickles and without code.
"""

import logging
import zipfile
from pathlib import Path
from typing import overload

from har_keras.errors import DataError, HarError, UsageError
from har_keras.hub import (
    HubName,
    damaged_file,
    exact_name,
    hub_address,
    hub_file,
)
from har_keras.run import Run

logger = logging.getLogger("har_keras")

_NAMES = Run("")
_CONFIG = _NAMES.config_file.name
_MODEL = _NAMES.model_file.name
NEEDED = (_CONFIG, _NAMES.class_names_file.name, _MODEL)
"""Files without which a model on a hub can't be loaded; the last is large."""
OPTIONAL = (_NAMES.calibration_file.name,)
"""Files that go with them where the run has them."""


@overload
def pinned(where: str) -> str: ...
@overload
def pinned(where: Path) -> Path: ...
@overload
def pinned(where: str | Path) -> str | Path: ...


def pinned(where: str | Path) -> str | Path:
    """Returns an address on a hub with its commit, and says it.

    Args:
        where: Path or str. What `har_keras.load` takes.

    Returns:
        `hf://owner/name@<commit>`; anything else than such an address as it
        is.

    Raises:
        UsageError: If it is no address, or the hub has no such model.
        EnvironmentFault: If the hub can't be reached, access is refused, or
            huggingface_hub is missing.
    """
    name = hub_address(str(where))
    if name is None or name.is_exact:
        return where
    exact = exact_name(name, _CONFIG, _MODEL, _without_run)
    logger.info("'%s' is now '%s'.", name, exact)
    return str(exact)


def local_run(where: str | Path) -> str | Path:
    """Returns the folder of a model on a hub, downloaded unless it is cached.

    Args:
        where: Path or str. What `har_keras.load` takes.

    Returns:
        A folder in the cache, to be read like a run; anything else than an
        address on a hub as it is.

    Raises:
        UsageError: If the hub has no such model, or one of another kind.
        DataError: If a file is damaged; the next download replaces it.
        EnvironmentFault: As for `pinned`.
    """
    name = hub_address(str(pinned(where)))
    if name is None:
        return where
    exact = exact_name(name, _CONFIG, _MODEL, _without_run)
    found = {x: hub_file(exact, x, _MODEL) for x in (*NEEDED, *OPTIONAL)}
    for file in NEEDED:
        if found[file] is None:
            raise _incomplete(exact, file)
    model, config = found[_MODEL], found[_CONFIG]
    assert model is not None
    assert config is not None
    _require_whole(exact, model)
    return config.parent


def _require_whole(exact: HubName, model: Path) -> None:
    """Raises `DataError` if a model was damaged on its way or in the cache."""
    try:
        with zipfile.ZipFile(model) as archive:
            broken = archive.testzip()
        if broken is None:
            return
        error: Exception = ValueError(f"its checksum of {broken} is wrong")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as reason:
        error = reason
    raise damaged_file(exact, model, error)


def _without_run(name: HubName) -> HarError:
    return UsageError(
        f"'{name}' has no {_CONFIG}, so it is no model that `har-keras "
        "push` wrote. One of transformers is a start for training: "
        f"--weights {name.repo}"
    )


def _incomplete(exact: HubName, file: str) -> DataError:
    return DataError(
        f"'{exact}' has no {file}, without which it can't be loaded. Push its "
        "run again, or give an earlier revision."
    )
