"""Kills a process that exceeds a limit on time or memory."""

import contextlib
import threading
import time
from collections.abc import Iterator

from har_keras.processes import MAX_BYTES, Process


class Watchdog:
    """Kills a process once the time spent waiting for it exceeds a limit.

    Also once its memory exceeds `MAX_BYTES`, where the system does not limit
    it.

    Args:
        process: Process. What is watched.
        timeout_seconds: float. Limit on the total wall-clock time inside
            `waiting`.

    Attributes:
        fired: bool. Whether it took too long.
        too_large: bool. Whether it took too much memory.
    """

    def __init__(self, process: Process, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.fired = False
        self.too_large = False
        self._process = process
        self._waited = 0.0
        self._since: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time spent inside."""
        since = self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None
            self._waited += time.monotonic() - since

    def kill(self) -> None:
        """Kills the process and its children."""
        self._process.end()

    def stop(self) -> None:
        """Stops watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self.timeout_seconds / 10)):
            since = self._since
            now = time.monotonic()
            waited = self._waited + (now - since if since else 0.0)
            self.fired = waited > self.timeout_seconds
            self.too_large = (
                not self._process.limited
                and self._process.memory_bytes() > MAX_BYTES
            )
            if self.fired or self.too_large:
                self.kill()
                return
