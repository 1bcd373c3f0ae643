"""Kills a process that exceeds a time limit."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator


class Watchdog:
    """Kills a process once the time spent waiting for it exceeds a limit.

    Args:
        process: Popen. Leader of a process group.
        timeout_seconds: float. Limit on the total wall-clock time inside
            `waiting`.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", timeout_seconds: float
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.fired = False
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
        if self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    def stop(self) -> None:
        """Stops watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self.timeout_seconds / 10)):
            since = self._since
            now = time.monotonic()
            waited = self._waited + (now - since if since else 0.0)
            if waited > self.timeout_seconds:
                self.fired = True
                self.kill()
                return
