"""Dynamic batching: clips of many requests, one call of the model."""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

logger = logging.getLogger("har_keras")

# Share of the newest batch in the mean of the speed.
_NEWEST = 0.2


class Closed(Exception):
    """The model was replaced; ask for it again."""


@dataclass(eq=False)
class _Job:
    clips: np.ndarray
    future: Future[np.ndarray] = field(default_factory=Future)


class Batcher:
    """Runs a model on batches of clips in threads of its own.

    A batch is started as soon as a thread is idle, unless further requests
    are on their way: then it waits for these, `max_delay_seconds` at most. So
    a single client has no delay, and many clients have full batches.

    Args:
        predict: Callable. From clips `(B, T, H, W, 3)` to a row for each,
            such as probabilities and distance, `(B, K + 1)`.
        max_batch: int. Clips in a batch; a request with more is a batch.
        max_delay_seconds: float. Maximum wait for further clips.
        num_threads: int. Batches at a time; `predict` is called by as many
            threads. Defaults to `1`.
        is_expecting: Callable. Whether requests are on their way.
        observe: Callable or None. Called with the clips and the seconds of
            each batch.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], np.ndarray],
        *,
        max_batch: int,
        max_delay_seconds: float,
        num_threads: int = 1,
        is_expecting: Callable[[], bool] = lambda: False,
        observe: Callable[[int, float], None] | None = None,
    ) -> None:
        self._predict = predict
        self._max_batch = max_batch
        self._max_delay = max_delay_seconds
        self._is_expecting = is_expecting
        self._observe = observe
        self._jobs: collections.deque[_Job] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._speed = 0.0
        self._threads = [
            threading.Thread(target=self._work, name="batcher", daemon=True)
            for _ in range(num_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether every thread runs."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def clips_per_second(self) -> float:
        """The speed of late; 0 before the first batch."""
        return self._speed * len(self._threads)

    @property
    def num_waiting(self) -> int:
        """Clips that wait for the model."""
        with self._changed:
            return sum(len(job.clips) for job in self._jobs)

    def submit(self, clips: np.ndarray) -> Future[np.ndarray]:
        """Queues clips; the result is their probabilities.

        Args:
            clips: uint8 array of shape `(B, T, H, W, 3)`, B at least 1.

        Returns:
            A `Future`. If it is cancelled in time, the clips are not run.

        Raises:
            Closed: If the batcher is closed.
        """
        job = _Job(clips)
        with self._changed:
            if self._closed:
                raise Closed
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Runs what is queued and ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            began = time.perf_counter()
            self._run(batch)
            self._measured(
                sum(len(job.clips) for job in batch),
                time.perf_counter() - began,
            )

    def _next_batch(self) -> list[_Job]:
        """Returns jobs that weren't cancelled; none at the end."""
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                if not self._jobs:
                    return []
                self._wait_for_more()
                taken = self._taken()
            batch = [
                job
                for job in taken
                if job.future.set_running_or_notify_cancel()
            ]
            if batch:
                return batch

    def _wait_for_more(self) -> None:
        end = time.monotonic() + self._max_delay
        while not self._closed and self._is_expecting():
            left = end - time.monotonic()
            queued = sum(len(job.clips) for job in self._jobs)
            if left <= 0 or queued >= self._max_batch:
                return
            self._changed.wait(left)

    def _taken(self) -> list[_Job]:
        taken: list[_Job] = []
        number = 0
        while self._jobs:
            number += len(self._jobs[0].clips)
            if taken and number > self._max_batch:
                break
            taken.append(self._jobs.popleft())
        return taken

    def _run(self, batch: list[_Job]) -> None:
        try:
            rows = self._checked(np.concatenate([x.clips for x in batch]))
        except Exception as error:
            if len(batch) > 1:  # one request must not fail the others
                for job in batch:
                    self._run([job])
                return
            logger.exception("A batch failed.")
            batch[0].future.set_exception(error)
            return
        begin = 0
        for job in batch:
            end = begin + len(job.clips)
            # A waiter may be gone, with its event loop.
            with contextlib.suppress(RuntimeError):
                job.future.set_result(rows[begin:end])
            begin = end

    def _checked(self, clips: np.ndarray) -> np.ndarray:
        rows = np.asarray(self._predict(clips), np.float32)
        if len(rows) != len(clips) or not np.isfinite(rows).all():
            raise ValueError(
                f"The model answered {len(clips)} clips with {rows.shape}, or "
                "with values that are not finite."
            )
        return rows

    def _measured(self, num_clips: int, seconds: float) -> None:
        speed = num_clips / max(seconds, 1e-6)
        known = self._speed or speed
        self._speed = known + _NEWEST * (speed - known)
        if self._observe:
            self._observe(num_clips, seconds)
