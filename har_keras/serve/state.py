"""What the parts of a running server share."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from har_keras.environment import num_cores
from har_keras.inference.distance import answer_on_batch
from har_keras.serve.batcher import Batcher
from har_keras.serve.exports import Export, Source
from har_keras.serve.metrics import Metrics
from har_keras.serve.options import Keys, ServeOptions
from har_keras.serve.repository import Repository, Servable
from har_keras.serve.trial import Plan
from har_keras.serving.runtimes import Runtime
from har_keras.web.refusal import Refusal
from har_keras.web.uploads import UploadFolder

# Model input that waits, of all requests together.
_MAX_WAITING_BYTES = 2**29
_RETRY_VIDEO_SECONDS = 5
_LONGEST_RETRY_SECONDS = 60


@dataclass
class ServerState:
    """A server: its options, models, queues and counters.

    Numbers are changed by the thread of the event loop only.

    Args:
        options: ServeOptions. The flags.
        keys: Keys. Who may ask.
        repository: Repository. The models.
        uploads: UploadFolder. Where videos are while they are classified.
        metrics: Metrics. What is measured.
    """

    options: ServeOptions
    keys: Keys
    repository: Repository
    uploads: UploadFolder
    metrics: Metrics
    draining: bool = False
    in_flight: int = 0
    num_preparing: int = 0
    num_videos: int = 0
    # Decoding of requests: C code that lets other threads run.
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(num_cores(), "requests")
    )
    video_pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(num_cores(), "videos")
    )
    stopped: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts a request, if there is room for it.

        Raises:
            Refusal: If there are too many, or the server is about to end.
        """
        if self.draining:
            raise Refusal(
                503, "The server is shutting down.",
                reason="shutdown", retry_seconds=1,
            )  # fmt: skip
        if self.in_flight >= self.options.max_queue:
            raise self.busy()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Counts a request whose clips are on their way to the model."""
        self.num_preparing += 1
        try:
            yield
        finally:
            self.num_preparing -= 1

    @contextlib.contextmanager
    def video(self) -> Iterator[None]:
        """Counts a video, if there is room for it.

        Raises:
            Refusal: If there are too many.
        """
        if self.num_videos >= self.options.max_videos:
            raise Refusal(
                429,
                f"The server already has {self.num_videos} videos to "
                "classify. Send this one again later.",
                reason="queue_full",
                retry_seconds=_RETRY_VIDEO_SECONDS,
            )
        self.num_videos += 1
        try:
            yield
        finally:
            self.num_videos -= 1

    def require_room(self, servable: Servable, num_clips: int) -> None:
        """Raises `Refusal` if too many clips already wait for a model."""
        clip = servable.info.clip
        size = clip.num_frames * clip.crop_size**2 * 3
        waiting = servable.batcher.num_waiting
        if waiting and (waiting + num_clips) * size > _MAX_WAITING_BYTES:
            raise self.busy()

    def busy(self) -> Refusal:
        """Returns the refusal of a request for which there is no room."""
        return Refusal(
            429,
            "The server is busy: its queue is full. Send the request again "
            "later.",
            reason="queue_full",
            retry_seconds=self._retry_seconds(),
        )

    def _retry_seconds(self) -> int:
        """Returns when the clips that wait now will be done, about."""
        longest = 0.0
        for servable in self.repository.servables:
            batcher = servable.batcher
            speed = batcher.clips_per_second or 1.0
            longest = max(longest, batcher.num_waiting / speed)
        return min(max(1, math.ceil(longest)), _LONGEST_RETRY_SECONDS)

    def is_ready(self) -> bool:
        """Whether every model has a version, and requests are accepted."""
        return not self.draining and not self.repository.missing()

    def is_healthy(self) -> bool:
        """Whether the threads that run the models are alive."""
        return all(x.batcher.is_alive for x in self.repository.servables)

    def show(self) -> None:
        """Brings the metrics up to date that are not counted on the way."""
        servables = self.repository.servables
        self.metrics.in_flight.set(self.in_flight)
        self.metrics.waiting.set(sum(x.batcher.num_waiting for x in servables))
        self.metrics.show_versions(
            [(x.name, x.version, x.export.runtime) for x in servables],
            self.repository.num_refused,
        )

    def close(self) -> None:
        """Ends the threads and removes the uploads."""
        self.stopped.set()
        self.pool.shutdown()
        self.video_pool.shutdown(cancel_futures=True)
        self.repository.close()
        self.uploads.close()


def make_state(
    options: ServeOptions,
    sources: list[Source],
    labels: dict[str, dict[str, int]],
    keys: Keys,
) -> ServerState:
    """Makes a server that has not loaded its models yet."""
    metrics = Metrics()

    def batcher(
        source: Source, export: Export, runtime: Runtime, plan: Plan
    ) -> Batcher:
        return Batcher(
            functools.partial(answer_on_batch, runtime),
            max_batch=plan.max_batch,
            num_threads=plan.streams,
            max_delay_seconds=options.max_delay_ms / 1000,
            is_expecting=lambda: state.num_preparing > 0,
            observe=metrics.observer(source.name, export.version),
        )

    repository = Repository(
        sources,
        batcher,
        runtime=options.runtime,
        num_versions=options.num_versions,
        labels=labels,
        max_batch=options.max_batch,
    )
    uploads = UploadFolder("serve", options.upload_dir)
    state = ServerState(options, keys, repository, uploads, metrics)
    return state
