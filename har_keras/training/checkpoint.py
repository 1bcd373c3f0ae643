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
from har_keras.files import whole_file

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
    """

    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    wandb_id: str = ""


def save_checkpoint(
    folder: Path, model: keras.Model, state: TrainingState
) -> Path:
    """Writes a checkpoint and removes all but the last two.

    Args:
        folder: Path. The checkpoint folder of a run.
        model: keras.Model. Compiled and built, its optimizer too.
        state: TrainingState. Where the training stands.

    Returns:
        The file, named by its step and the first digits of its SHA-256.
    """
    content = io.BytesIO()
    arrays = {
        name: variable.numpy() for name, variable in _variables(model).items()
    }
    text = json.dumps(asdict(state)).encode()
    arrays[_STATE] = np.frombuffer(text, np.uint8)
    np.savez(content, **arrays)
    data = content.getvalue()
    name = f"{state.epoch:05d}-{state.step:06d}-{_digest(data)}.npz"
    with whole_file(folder / name) as file:
        file.write_bytes(data)
    for old in sorted(folder.glob("*.npz"))[:-_KEPT]:
        old.unlink()
    return folder / name


def load_checkpoint(folder: Path, model: keras.Model) -> TrainingState:
    """Restores the newest whole checkpoint of a run.

    Args:
        folder: Path. The checkpoint folder of a run.
        model: keras.Model. As it was when the checkpoint was written.

    Returns:
        The `TrainingState`.

    Raises:
        DataError: If there is no checkpoint, or none is whole.
    """
    for file in sorted(folder.glob("*.npz"), reverse=True):
        data = file.read_bytes()
        if file.stem.rsplit("-", 1)[-1] == _digest(data):
            return _restore(data, model)
        logger.warning(
            "the checkpoint '%s' is damaged; going back to the one before it.",
            file.name,
        )
    raise DataError(
        f"There is no usable checkpoint in '{folder}', so this run can't be "
        "resumed. Start it again in a new folder."
    )


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
    state_sync = getattr(model, "jax_state_sync", None)
    if state_sync:
        # In a JAX `fit` the live values are elsewhere until they are asked for.
        state_sync()
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
