"""Detects non-finite losses and out-of-memory errors; graceful shutdown."""

import contextlib
import logging
import math
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np

from har_keras.files import remove_own_folders
from har_keras.training.checkpoint import (
    TrainingState,
    array_of,
    gather_to_host,
    save_checkpoint,
)

logger = logging.getLogger("har_keras")


class NonFiniteLossError(Exception):
    """The mean loss of an epoch became NaN or infinite.

    Args:
        loss: float. The loss.
        epoch: int. The epoch, counted from 0.
        step: int. The batch of that epoch, counted from 0.
    """

    def __init__(self, loss: float, epoch: int, step: int) -> None:
        super().__init__(loss)
        self.loss = loss
        self.epoch = epoch
        self.step = step


class LossGuard(keras.callbacks.Callback):
    """Stops at the first batch with a non-finite loss.

    The loss in the logs is the mean since the start of the epoch, in which a
    NaN persists. It is read one step late, to not wait for the device, and
    immediately before anything is saved, so this callback must be the first.

    Args:
        state: TrainingState. The progress before each batch.
    """

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state
        self._unread: tuple[Any, int, int] | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.check()
        loss = (logs or {}).get("loss", 0.0)
        self._unread = (loss, self.state.epoch, self.state.step)

    def on_test_begin(self, logs: Any = None) -> None:
        self.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.check()

    def check(self) -> None:
        """Raises `NonFiniteLossError` if the latest loss is not finite."""
        if self._unread is None:
            return
        loss, epoch, step = self._unread
        self._unread = None
        if not math.isfinite(float(loss)):
            raise NonFiniteLossError(float(loss), epoch, step)


class KeepFinite(keras.callbacks.Callback):
    """Saves a checkpoint after the last steps with finite weights.

    Args:
        folder: Path. The checkpoint folder of the run.
        state: TrainingState. The progress.
        last: int. The batch of the epoch whose loss is not finite.
    """

    def __init__(self, folder: Path, state: TrainingState, last: int) -> None:
        super().__init__()
        self.folder = folder
        self.state = state
        self.last = last

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.state.step += 1
        # The step before the non-finite loss may have made the weights so.
        if self.state.step < self.last - 1:
            return
        gather_to_host(self.model)
        if all(_is_finite(weight) for weight in self.model.weights):
            save_checkpoint(self.folder, self.model, self.state)


def _is_finite(variable: Any) -> bool:
    value = array_of(variable)
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that a device is out of memory.

    Args:
        error: BaseException. An error of TensorFlow, JAX, PyTorch or Python.

    Returns:
        bool. False for a full disk, which TensorFlow reports similarly.

    Example:

    >>> is_out_of_memory(MemoryError())
    True
    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to ..."))
    True
    >>> is_out_of_memory(ValueError("out of range"))
    False
    """
    if isinstance(error, MemoryError):
        return True
    words = f"{type(error).__name__} {error}"
    return bool(_MEMORY.search(words)) and not _DISK.search(words)


_MEMORY = re.compile(
    "ResourceExhausted|RESOURCE_EXHAUSTED|OutOfMemory|out of memory|"
    "not enough memory|can't allocate memory"
)
_DISK = re.compile("No space left|Disk quota|File too large", re.IGNORECASE)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_signals(ask: Callable[[int], None]) -> Iterator[None]:
    """Handles SIGTERM and Ctrl-C: the first requests a stop, the second exits.

    Python runs signal handlers between bytecode instructions, and a training
    step or a compilation is one long instruction. So a thread reads the
    wakeup file descriptor, to which the interpreter writes each signal's
    number immediately.

    Args:
        ask: Callable. Called with the number of the first signal, in the
            thread.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # the main thread handles signals
        return
    # What a shell ignores for a job in the background stays ignored.
    heard = [x for x in _SIGNALS if signal.getsignal(x) is not signal.SIG_IGN]
    before = [signal.signal(number, _nothing) for number in heard]
    reading, writing = socket.socketpair()  # Windows wakes up no pipe
    writing.setblocking(False)
    wakeup = signal.set_wakeup_fd(writing.fileno())
    listener = threading.Thread(
        target=_listen, args=(reading, ask), daemon=True
    )
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(heard, before, strict=True):
            signal.signal(number, handler)
        writing.close()
        listener.join()
        reading.close()


def _listen(reading: socket.socket, ask: Callable[[int], None]) -> None:
    asked = False
    while received := reading.recv(1):
        number = received[0]
        if number not in _SIGNALS:
            continue
        if asked:
            end_without_unwinding(number)
        asked = True
        ask(number)


def end_without_unwinding(number: int) -> NoReturn:
    """Ends the process at a signal, from any thread.

    Args:
        number: int. The signal's number.
    """
    remove_own_folders()
    sys.stderr.flush()
    os._exit(128 + number)


def _nothing(*_: object) -> None:
    """Replaces the default handler of a signal."""
