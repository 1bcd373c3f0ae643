"""Exact checkpoints: all state that the next step depends on, in one file.

`keras.callbacks.BackupAndRestore` does not save the state of seed generators,
restarts the epoch and writes in place, so a resumed run differs from an
uninterrupted one. Here order and augmentation are pure functions of (seed,
epoch, index), so variables and the position in training are sufficient.
"""

import contextlib
import hashlib
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from har_keras.config import TrainingConfig
from har_keras.damaged import UNREADABLE
from har_keras.errors import DataError
from har_keras.files import open_regular, remove_leftovers, whole_file
from har_keras.training.hosts import current_hosts, from_first

logger = logging.getLogger("har_keras")

_KEPT = 2
_STATE = "state"
_NAME = re.compile(r"\d{5}-\d{6}-[0-9a-f]{16}\.npz")


@dataclass
class TrainingState:
    """The progress of training, besides variables.

    Args:
        epoch: int. The current epoch, counted from 0.
        step: int. Finished batches of it.
        history: list of dict. The metrics of each finished epoch.
        best: dict. The metrics of the best epoch so far; empty before one.
        fingerprint: str. Digest of the config and the videos; a checkpoint is
            valid only for the run that wrote it.
        wandb_id: str. The W&B run to resume.
        micro_batch_size: int. Clips in a micro-batch, if memory ran out with
            more; else 0.
    """

    epoch: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    fingerprint: str = ""
    wandb_id: str = ""
    micro_batch_size: int = 0

    def require_valid(self) -> None:
        """Raises `ValueError` or `TypeError` for what no training has."""
        numbers = (self.epoch, self.step, self.micro_batch_size)
        names = (self.fingerprint, self.wandb_id)
        metrics = [dict(row) for row in (*self.history, self.best)]
        if not (
            all(type(x) is int and x >= 0 for x in numbers)
            and all(isinstance(x, str) for x in names)
            and isinstance(self.history, list)
            and all(
                type(x) in (int, float) for row in metrics for x in row.values()
            )
        ):
            raise ValueError(f"No state of a training: {self}.")

    def is_within(self, config: TrainingConfig, steps: int) -> bool:
        """Whether a training of `steps` per epoch can have got there."""
        return (
            self.epoch <= config.epochs
            and self.step <= steps
            and self.micro_batch_size <= config.batch_size
        )


def save_checkpoint(
    folder: Path, model: keras.Model, state: TrainingState
) -> Path | None:
    """Writes a checkpoint and removes all but it and the previous one.

    Of several hosts, which have the same state, only the chief writes.

    Args:
        folder: Path. The checkpoint folder of a run.
        model: keras.Model. Compiled and built, its optimizer too.
        state: TrainingState. The progress.

    Returns:
        The file, named by its step and the first digits of its SHA-256; None
        on hosts other than the chief.

    Raises:
        EnvironmentFault: If the disk is full. Older checkpoints are kept.
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
    """Removes all but a new checkpoint and the one before it.

    Files with a later name were found damaged and skipped on resume.
    """
    older = [name for name in _names(folder) if name < newest]
    kept = {newest, *older[1 - _KEPT :]}
    for name in _names(folder):
        if name not in kept:
            (folder / name).unlink()


def has_checkpoint(folder: Path) -> bool:
    """Returns whether a run has a checkpoint."""
    return bool(_names(folder))


def load_checkpoint(folder: Path, model: keras.Model) -> TrainingState:
    """Restores the newest intact checkpoint of a run.

    Of several hosts only the chief reads, and sends it to the others.

    Args:
        folder: Path. The checkpoint folder of a run.
        model: keras.Model. The model that the checkpoint was written from.

    Returns:
        The `TrainingState`.

    Raises:
        DataError: If there is no intact checkpoint.
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
            "The checkpoint '%s' is damaged; using the one before it.",
            name,
        )
    raise DataError(
        f"There is no usable checkpoint in '{folder}', so this run can't be "
        "resumed. Start it again in a new folder."
    )


def array_of(variable: Any) -> np.ndarray:
    """Returns the value of a variable, also one on several devices."""
    tensor = keras.ops.convert_to_tensor(variable)
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def gather_to_host(model: keras.Model) -> None:
    """Copies the state of a running `fit` under JAX to the variables."""
    state_sync = getattr(model, "jax_state_sync", None)
    if state_sync:
        state_sync()


def _names(folder: Path) -> list[str]:
    """Returns the names of the checkpoints, oldest first.

    Raises:
        DataError: If the folder is a link: what is in another is not ours to
            remove.
    """
    if folder.is_symlink():
        raise DataError(
            f"'{folder}' is a link, which har_keras never makes. Put the "
            "folder itself there."
        )
    return sorted(x.name for x in folder.glob("*.npz") if _NAME.match(x.name))


def _read(file: Path) -> bytes:
    try:
        with open_regular(file) as opened:
            return opened.read()
    except OSError:  # a bad sector: treated as damage
        return b""


def _restore(data: bytes, model: keras.Model) -> TrainingState:
    variables = _variables(model)
    with _damage_named(), np.load(io.BytesIO(data), allow_pickle=False) as file:
        if sum(x.file_size for x in file.zip.infolist()) > len(data):
            raise ValueError("Compressed, which ours are not.")
        state = TrainingState(**json.loads(file[_STATE].tobytes()))
        state.require_valid()
        arrays = {name: file[name] for name in file if name != _STATE}
        _require_numbers(arrays)
    if _shapes(arrays) != _shapes(variables):
        raise DataError(
            "The checkpoint has other variables than this model. Resume with "
            "the versions of har_keras and keras that started the run, or copy "
            "its own checkpoint back."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return state


def _require_numbers(arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind not in "biufV":  # V is bfloat16
            raise ValueError(f"{name} is of {array.dtype}.")
        if name.startswith("model/") and array.dtype.kind == "f":
            if not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite.")


def _shapes(arrays: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    """Turns what reading a checkpoint raises into a sentence."""
    try:
        yield
    except UNREADABLE as error:
        raise DataError(_DAMAGED) from error


_DAMAGED = (
    "The checkpoint is damaged, or not of har_keras. Copy the run again from "
    "where it was made, or start a new one."
)


def _variables(model: keras.Model) -> dict[str, Any]:
    """Returns all state that a training step depends on, by a stable name."""
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
