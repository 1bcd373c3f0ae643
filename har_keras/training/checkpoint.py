"""Exact checkpoints: everything that the next step depends on, in one file.

Keras's own `BackupAndRestore` leaves out the state of seed generators, goes
back to the start of the epoch and writes in place; a run continued from it is
another run. Here order and augmentation are pure functions of (seed, epoch,
index), so variables and a position are all there is to keep.
"""

import hashlib
import io
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from har_keras.errors import DataError
from har_keras.files import remove_leftovers, whole_file
from har_keras.training.hosts import current_hosts, from_first

logger = logging.getLogger("har_keras")

_KEPT = 2
_STATE = "state"


@dataclass
class TrainingState:
    """Where a training stands, besides its variables.

    Args:
        epoch: int. The epoch under way, counted from 0.
        step: int. Batches of it that are done.
        history: list of dict. The figures of each finished epoch.
        best: dict. The figures of the best epoch so far; empty before one.
        fingerprint: str. Of the config and the videos; a checkpoint is only
            good for the run that it was made in.
        wandb_id: str. The W&B run to go on with.
        micro_batch_size: int. Clips at once, if memory ran out with more; 0
            if it didn't.
    """

    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    wandb_id: str = ""
    micro_batch_size: int = 0


def save_checkpoint(
    folder: Path, model: keras.Model, state: TrainingState
) -> Path | None:
    """Writes a checkpoint and removes all but it and the one before.

    Of several hosts, which have the same to save, only the first does.

    Args:
        folder: Path. The checkpoint folder of a run.
        model: keras.Model. Compiled and built, its optimizer too.
        state: TrainingState. Where the training stands.

    Returns:
        The file, named by its step and the first digits of its SHA-256; None
        on other hosts than the first.

    Raises:
        EnvironmentFault: If the disk is full. What was there stays.
    """
    gather_to_host(model)
    if not current_hosts().is_chief:
        return None
    content = io.BytesIO()
    arrays: dict[str, Any] = {
        name: array_of(variable) for name, variable in _variables(model).items()
    }
    text = json.dumps(asdict(state)).encode()
    arrays[_STATE] = np.frombuffer(text, np.uint8)
    np.savez(content, **arrays)
    data = content.getvalue()
    name = f"{state.epoch:05d}-{state.step:06d}-{_digest(data)}.npz"
    with whole_file(folder / name) as file:
        file.write_bytes(data)
    _prune(folder, name)
    return folder / name


def _prune(folder: Path, newest: str) -> None:
    """Keeps a new checkpoint and the one before it.

    One that says to be newer was found damaged, or we would not be here.
    """
    older = [name for name in _names(folder) if name < newest]
    kept = {newest, *older[1 - _KEPT :]}
    for name in _names(folder):
        if name not in kept:
            (folder / name).unlink()


def has_checkpoint(folder: Path) -> bool:
    """Tells whether a run came as far as its first checkpoint."""
    return bool(_names(folder))


def load_checkpoint(folder: Path, model: keras.Model) -> TrainingState:
    """Restores the newest whole checkpoint of a run.

    Of several hosts only the first reads, and sends it to the others.

    Args:
        folder: Path. The checkpoint folder of a run.
        model: keras.Model. As it was when the checkpoint was written.

    Returns:
        The `TrainingState`.

    Raises:
        DataError: If there is no checkpoint, or none is whole.
    """
    data = _newest(folder) if current_hosts().is_chief else b""
    return _restore(from_first(data), model)


def _newest(folder: Path) -> bytes:
    remove_leftovers(folder)
    for name in reversed(_names(folder)):
        data = _read(folder / name)
        if name.removesuffix(".npz").rsplit("-", 1)[-1] == _digest(data):
            return data
        logger.warning(
            "the checkpoint '%s' is damaged; going back to the one before it.",
            name,
        )
    raise DataError(
        f"There is no usable checkpoint in '{folder}', so this run can't be "
        "resumed. Start it again in a new folder."
    )


def array_of(variable: Any) -> np.ndarray:
    """Returns the value of a variable, which several devices may share."""
    tensor = keras.ops.convert_to_tensor(variable)
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def gather_to_host(model: keras.Model) -> None:
    """Puts the live values of a `fit` under JAX back into the variables."""
    state_sync = getattr(model, "jax_state_sync", None)
    if state_sync:
        state_sync()


def _names(folder: Path) -> list[str]:
    """Returns the names of the checkpoints, oldest first."""
    # Half-written ones begin with a dot, which this pattern leaves out.
    return sorted(path.name for path in folder.glob("[0-9]*.npz"))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # A bad sector: as damaged as wrong bytes are.
        return b""


def _restore(data: bytes, model: keras.Model) -> TrainingState:
    variables = _variables(model)
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        state = TrainingState(**json.loads(arrays[_STATE].tobytes()))
        if set(arrays) != {*variables, _STATE}:
            raise DataError(
                "The checkpoint holds other variables than this model. Resume "
                "with the versions of har_keras and keras that began the run."
            )
        for name, variable in variables.items():
            variable.assign(arrays[name])
    return state


def _variables(model: keras.Model) -> dict[str, Any]:
    """Returns all state that a training step reads, by a stable name."""
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}/{number:04d}": variable
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
