"""Callbacks of `fit`: progress, history, best model, checkpoints, events."""

import csv
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from har_keras.errors import Interrupted
from har_keras.files import whole_file
from har_keras.interrupts import is_program
from har_keras.progress import ProgressBar
from har_keras.run import Run
from har_keras.training.checkpoint import (
    TrainingState,
    array_of,
    gather_to_host,
    save_checkpoint,
)
from har_keras.training.guards import end_without_unwinding
from har_keras.training.hosts import Agreement, current_hosts

logger = logging.getLogger("har_keras")

# A host's request to save; a request to stop is a signal's number, above it.
_SAVE = 1


class Progress(keras.callbacks.Callback):
    """Shows the remaining time, and the metrics of each epoch on a line.

    It comes after `KeepBest`, whose choice it tells.

    Args:
        state: TrainingState. The start of training.
        epochs: int. Total number of epochs.
        steps_per_epoch: int. Batches in an epoch.
        names_best: bool. Whether the best epoch so far is named, rather than
            the last one kept.
    """

    def __init__(
        self,
        state: TrainingState,
        epochs: int,
        steps_per_epoch: int,
        *,
        names_best: bool,
    ) -> None:
        super().__init__()
        self.state = state
        self.epochs = epochs
        self.names_best = names_best
        self._is_first = True
        done = state.epoch * steps_per_epoch + state.step
        self.bar = ProgressBar("Training", epochs * steps_per_epoch - done)
        self._text = ""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.bar.advance(text=self._text)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        figures = floats(logs)
        shown = [
            f"{name} {figures[name]:.3f}"
            for name in ("loss", "val_loss", "val_accuracy")
            if name in figures
        ]
        is_best = self.state.best.get("epoch") == epoch + 1 < self.epochs
        if self.names_best and is_best:
            shown.append("best so far")
        if self._is_first:  # its time is that of compiling, with validation
            self._is_first = False
            self.bar.restart_clock()
        place = f"Epoch {epoch + 1}/{self.epochs}"
        left = [self.bar.left] if self.bar.left else []
        self.bar.note(f"{place}: {', '.join([*shown, *left])}")
        # Beside the bar and the times, two words fit in 80 columns.
        self._text = place.lower()


class Record(keras.callbacks.Callback):
    """Records the metrics of each epoch in the state and in `history.csv`.

    Args:
        state: TrainingState. Its history is extended.
        run: Run or None. Whose CSV file is written, one row per epoch; None
            on hosts other than the chief.
    """

    def __init__(self, state: TrainingState, run: Run | None) -> None:
        super().__init__()
        self.state = state
        self.run = run
        self._began = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = {"epoch": epoch + 1, **floats(logs)}
        row["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        row["seconds"] = round(time.monotonic() - self._began, 3)
        self.state.history.append(row)
        if self.run is None:
            return
        # What is written next would make the folder again, a part of a run.
        self.run.require_there()
        name = self.run.history_file
        with whole_file(name) as file, file.open("w", newline="") as out:
            names = {name: 0 for row in self.state.history for name in row}
            writer = csv.DictWriter(out, list(names))
            writer.writeheader()
            writer.writerows(self.state.history)


class KeepBest(keras.callbacks.Callback):
    """Saves the model of the best epoch by validation, or of the last epoch.

    Epochs are compared by validation accuracy; ties, which are common on few
    videos, are broken by validation loss. To keep the last epoch, intermediate
    epochs are saved only every few minutes.

    Args:
        state: TrainingState. Its `best` is replaced.
        file: Path. The `.keras` file.
        last: int. The number of epochs, to keep the last one; `0` keeps the
            best. Defaults to `0`.
        minutes: float. Minimum time between saves before the last epoch.
            Defaults to `0`.
    """

    def __init__(
        self,
        state: TrainingState,
        file: Path,
        *,
        last: int = 0,
        minutes: float = 0.0,
    ) -> None:
        super().__init__()
        self.state = state
        self.file = file
        self.last = last
        self.seconds = 60 * minutes
        self._saved = -math.inf

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        figures = {"epoch": epoch + 1, **floats(logs)}
        if self.last:
            waited = time.monotonic() - self._saved
            needed = epoch + 1 == self.last or waited >= self.seconds
        else:
            needed = self._score(figures) >= self._score(self.state.best)
        if needed:
            with whole_file(self.file) as file:
                self.model.save(file)
            self._saved = time.monotonic()
        if needed or self.last:
            self.state.best = figures

    def _score(self, figures: dict[str, float]) -> tuple[float, float]:
        if not figures:
            return (-math.inf, -math.inf)
        return (
            figures.get("val_accuracy", 0.0),
            -figures.get("val_loss", 0.0),
        )


def kept_epoch(state: TrainingState, epochs: int) -> str:
    """Returns which of the epochs' models was kept, and its figures."""
    best = state.best
    names = [x for x in ("val_accuracy", "val_loss") if x in best]
    figures = ", ".join(f"{name} {best[name]:.3f}" for name in names)
    return f"Kept the model of epoch {best.get('epoch', 0):g} of {epochs}" + (
        f": {figures}." if figures else "."
    )


class Checkpoints(keras.callbacks.Callback):
    """Saves exact checkpoints: periodically, each epoch and before a stop.

    Several hosts save and stop after the same batch.

    Args:
        run: Run. The run, with its folder of checkpoints.
        state: TrainingState. The progress; updated here, so this callback must
            be the last.
        minutes: float. Time between checkpoints within an epoch.
        check: Callable. Raises if the last step must not be saved.
    """

    def __init__(
        self,
        run: Run,
        state: TrainingState,
        minutes: float,
        check: Callable[[], None],
    ) -> None:
        super().__init__()
        self.run = run
        self.state = state
        self.seconds = 60 * minutes
        self.check = check
        self.stop_signal: int | None = None
        self._has_trained = False
        self._agreement = Agreement()
        self._saved = time.monotonic()
        self._metrics: list[Any] = []

    def interrupt(self, number: int) -> None:
        """Requests a stop after the current batch, by a signal's number.

        Compiling the first batch takes seconds, and nothing is trained yet
        that could be lost: the program ends at once then.
        """
        self.stop_signal = number
        alone = is_program() and not current_hosts().are_several
        if alone and not self._has_trained:
            self.run.tell_how_to_go_on()
            end_without_unwinding(number)
        logger.info("Stopping after this batch. Repeat to stop at once.")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._has_trained = True
        self.state.step += 1
        due = time.monotonic() - self._saved >= self.seconds
        request = self._agreement.largest(self.stop_signal or due * _SAVE)
        if request:
            self._save()
        if request > _SAVE:
            raise Interrupted(request)

    def on_test_begin(self, logs: Any = None) -> None:
        # Validation uses the same metric variables as training.
        gather_to_host(self.model)
        self._metrics = [
            array_of(variable) for variable in self.model.metrics_variables
        ]

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        request = self._agreement.largest(self.stop_signal or 0)
        if request <= _SAVE:
            return
        gather_to_host(self.model)
        assign(self.model.metrics_variables, self._metrics)
        self._save()
        raise Interrupted(request)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.state.epoch, self.state.step = epoch + 1, 0
        self._save()

    def _save(self) -> None:
        self.check()
        save_checkpoint(self.run.checkpoint_dir, self.model, self.state)
        self._saved = time.monotonic()


class RestoreMetrics(keras.callbacks.Callback):
    """Restores the metrics of a partial epoch, which `fit` resets.

    Args:
        model: keras.Model. Its current metrics are saved.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.values = [
            array_of(variable) for variable in model.metrics_variables
        ]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        assign(self.model.metrics_variables, self.values)


def assign(variables: list[Any], values: list[Any]) -> None:
    """Sets variables to arrays."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class Events(keras.callbacks.Callback):
    """Writes the metrics of each epoch for TensorBoard.

    Args:
        folder: Path. The folder of event files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(str(folder))
        self._scalar = tf.summary.scalar

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with self.writer.as_default():
            for name, value in floats(logs).items():
                self._scalar(name, value, step=epoch + 1)
        self.writer.flush()


def floats(logs: Any) -> dict[str, float]:
    """Returns the logs of `fit` as Python floats."""
    return {name: float(value) for name, value in (logs or {}).items()}
