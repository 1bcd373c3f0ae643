"""The server benchmark: latency and throughput of TensorFlow Serving."""

from __future__ import annotations

import csv
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from har_keras.errors import DataError, EnvironmentFault, HarError, UsageError
from har_keras.manifest.formats.cells import guarded
from har_keras.serving.client import ClientPrediction, ServingClient

if TYPE_CHECKING:
    from har_keras.inference.classifier import Classifier
    from har_keras.video.sources import Source

logger = logging.getLogger("har_keras")

_MAX_VIDEOS = 64
# Batching on the server changes the order of floating-point sums.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LoadTestResult:
    """Latency and throughput of a server.

    Args:
        num_requests: int. Successful requests.
        num_failed: int. Failed requests.
        p50_ms: float. Median latency of successful requests, in milliseconds.
        p95_ms: float. 95th percentile of the latency.
        p99_ms: float. 99th percentile of the latency.
        clips_per_second: float. Throughput of all clients together.
        num_clients: int. Concurrent clients.
        failure: str. Error message of the first failed request; "" if none
            failed.
    """

    num_requests: int
    num_failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    clips_per_second: float
    num_clients: int
    failure: str = ""

    def __str__(self) -> str:
        lines = [
            f"requests    {self.num_requests} succeeded, {self.num_failed} "
            f"failed, {self.num_clients} clients",
            f"latency     p50 {self.p50_ms:.1f} ms, p95 {self.p95_ms:.1f} ms, "
            f"p99 {self.p99_ms:.1f} ms",
            f"throughput  {self.clips_per_second:.1f} clips/s",
        ]
        return "\n".join(lines)

    def require_success(self) -> None:
        """Raises `EnvironmentFault` if a request failed."""
        if self.num_failed:
            total = self.num_requests + self.num_failed
            raise EnvironmentFault(
                f"{self.num_failed} of {total} requests failed; the first "
                f"error: {self.failure}"
            )


def benchmark_server(
    server: str,
    videos: Sequence[str],
    *,
    num_requests: int = 1000,
    num_clients: int = 8,
) -> LoadTestResult:
    """Measures how fast a server classifies clips of some videos.

    Each prediction is compared with that of the same clip sent alone.

    Args:
        server: str. Address of a model on TensorFlow Serving.
        videos: Sequence of str. Files, folders and globs. The middle clips of
            up to 64 videos are sent in turn, one clip per request.
        num_requests: int. Total number of requests, at least 1. Defaults to
            `1000`.
        num_clients: int. Concurrent requests, at least 1. Defaults to `8`.

    Returns:
        A `LoadTestResult`.

    Raises:
        UsageError: If a number is below 1, or `server` is not an address.
        DataError: If no video can be read.
        EnvironmentFault: If the server can't be reached, or returns the
            prediction of another clip.
    """
    from har_keras.inference.load import kind_of, load
    from har_keras.video.sources import find_sources

    if num_requests < 1 or num_clients < 1:
        raise UsageError(
            "--requests and --clients must be at least 1. Received: "
            f"{num_requests} and {num_clients}."
        )
    sources = find_sources(videos)
    if kind_of(server) != "server" or any(x.kind == "live" for x in sources):
        raise UsageError(
            "`benchmark server` needs the address of a server, such as "
            "http://HOST:8501/v1/models/har, and video files. Received: "
            f"{server} {' '.join(videos)}."
        )
    classifier = load(server)
    clips = np.concatenate(_middle_clips(classifier, sources))
    client = classifier.model.client
    return measure_load(
        client,
        clips,
        num_requests=num_requests,
        num_clients=num_clients,
        check=prediction_check(client, clips),
    )


def measure_load(
    client: ServingClient,
    clips: np.ndarray,
    *,
    num_requests: int,
    num_clients: int = 8,
    check: Callable[[int, ClientPrediction], None] | None = None,
) -> LoadTestResult:
    """Sends requests of one clip each from concurrent clients.

    The clips are encoded beforehand, so that it is the server that is measured
    and not this process, where both share the cores.

    Args:
        client: ServingClient. The connection.
        clips: uint8 array of shape `(B, T, H, W, 3)`, sent in turn.
        num_requests: int. Total number of requests.
        num_clients: int. Threads, each with one request at a time. Defaults
            to `8`.
        check: Callable or None. Called with the index of a clip and its
            prediction; raises if the prediction is wrong.

    Returns:
        A `LoadTestResult`.

    Raises:
        HarError: If all requests fail: the error of the first.
    """
    requests = [client.encode(clip[None]) for clip in clips]
    numbers = iter(range(num_requests))
    lock = threading.Lock()
    seconds: list[float] = []
    failed: list[HarError] = []

    def send() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            index = number % len(clips)
            began = time.perf_counter()
            try:
                found = client.send(requests[index])
            except HarError as error:
                failed.append(error)
                continue
            seconds.append(time.perf_counter() - began)
            if check:
                check(index, found)

    began = time.perf_counter()
    _in_threads(send, num_clients)
    whole = time.perf_counter() - began
    if not seconds:
        raise failed[0]
    p50, p95, p99 = 1000 * np.percentile(seconds, [50, 95, 99])
    return LoadTestResult(
        len(seconds),
        len(failed),
        float(p50),
        float(p95),
        float(p99),
        len(seconds) / whole,
        num_clients,
        str(failed[0]) if failed else "",
    )


def prediction_check(
    client: ServingClient, clips: np.ndarray
) -> Callable[[int, ClientPrediction], None]:
    """Returns a check that predictions under load belong to their clips.

    Sends each clip alone to get the expected predictions.

    Args:
        client: ServingClient. The connection.
        clips: uint8 array of shape `(B, T, H, W, 3)`.

    Returns:
        Callable. The `check` of `measure_load`; raises `EnvironmentFault` if
        a prediction differs from that of the clip sent alone.
    """
    expected = [client.predict(clip[None]).probabilities[0] for clip in clips]

    def check(index: int, found: ClientPrediction) -> None:
        difference = np.abs(found.probabilities[0] - expected[index]).max()
        if not difference <= _TOLERANCE:
            raise EnvironmentFault(
                f"The server at {client.address.host} mixes up its responses: "
                f"a probability differs by {difference:.3f} from that of the "
                "same clip sent alone."
            )

    return check


def print_result(found: LoadTestResult, form: str) -> None:
    """Prints a result as "table", "json" or "csv"."""
    figures = asdict(found)
    if form == "json":
        print(json.dumps(figures, allow_nan=False))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(figures)
        writer.writerow(guarded(str(x)) for x in figures.values())
    else:
        print(found)


def _middle_clips(
    classifier: Classifier, sources: Sequence[Source]
) -> list[np.ndarray]:
    """Returns a clip of each readable video; warns of the others."""
    clips = []
    for source in sources[:_MAX_VIDEOS]:
        views, known = classifier.read_views(
            source.path, classifier.config.clip.fps
        )
        if len(views):
            clips.append(views[len(views) // 2][None])
        else:
            logger.warning("'%s' can't be used: %s.", source.name, known.reason)
    if not clips:
        raise DataError("No video can be read, so there are no clips to send.")
    return clips


def _in_threads(work: Callable[[], None], number: int) -> None:
    """Runs the same function in several threads; raises the first error."""
    with ThreadPoolExecutor(number, "clients") as pool:
        for future in [pool.submit(work) for _ in range(number)]:
            future.result()
