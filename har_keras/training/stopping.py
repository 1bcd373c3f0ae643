"""Ctrl-C and SIGTERM: the first asks for a stop, the second is one."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

logger = logging.getLogger("har_keras")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_signals(ask: Callable[[int], None]) -> Iterator[None]:
    """Passes the first signal on within the block; a second ends the process.

    Python runs its signal handlers between two of its own instructions, and a
    training step or a compilation is one long instruction. So a thread listens
    where the interpreter writes the number of each signal as it comes.

    Args:
        ask: Callable. Given the number of the first signal, in that thread.

    Yields:
        Nothing.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        before = [signal.signal(number, _nothing) for number in _SIGNALS]
    except ValueError:  # Not the main thread: its owner handles signals.
        os.close(reading)
        os.close(writing)
        yield
        return
    wakeup = signal.set_wakeup_fd(writing)
    listener = threading.Thread(
        target=_listen, args=(reading, ask), daemon=True
    )
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)
        os.close(writing)
        listener.join()
        os.close(reading)


def _listen(reading: int, ask: Callable[[int], None]) -> None:
    asked = False
    while received := os.read(reading, 1):
        number = received[0]
        if number not in _SIGNALS:
            continue
        if asked:
            sys.stderr.flush()
            os._exit(128 + number)
        asked = True
        logger.info("Stopping after this batch; once more to stop at once.")
        ask(number)


def _nothing(*_: object) -> None:
    """Stands in for what the signal would do by itself."""
