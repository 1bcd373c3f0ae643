"""How fast a server answers: latency and throughput of any address."""

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
from har_keras.report.evaluation_files import spreadsheet_text
from har_keras.serving.client import Answer, ServingClient

logger = logging.getLogger("har_keras")

if TYPE_CHECKING:
    from har_keras.inference.classifier import Classifier
    from har_keras.video.sources import Source


@dataclass(frozen=True)
class Load:
    """How fast a server answers.

    Args:
        num_requests: int. Answered ones.
        num_failed: int. Those that were not.
        p50_ms: float. Half of the answers took no longer, in milliseconds.
        p95_ms: float. 95 of 100 took no longer.
        p99_ms: float. 99 of 100 took no longer.
        clips_per_second: float. Over the whole time, all clients together.
        num_clients: int. How many asked at once.
        failure: str. Why the first one failed that did; "" if none.
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
            f"requests    {self.num_requests} answered, {self.num_failed} "
            f"failed, {self.num_clients} at once",
            f"latency     p50 {self.p50_ms:.1f} ms, p95 {self.p95_ms:.1f} ms, "
            f"p99 {self.p99_ms:.1f} ms",
            f"throughput  {self.clips_per_second:.1f} clips/s",
        ]
        return "\n".join(lines)

    def require_answers(self) -> None:
        """Raises `EnvironmentFault` if a request was not answered."""
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
) -> Load:
    """Measures how fast a server classifies clips of some videos.

    Args:
        server: str. Address of a model, as `har_keras.load` takes it.
        videos: Sequence of str. Files, folders and globs; the middle of up to
            64 videos is sent, one clip a request, in turn.
        num_requests: int. In all, at least 1. Defaults to `1000`.
        num_clients: int. Requests in flight at once. Defaults to `8`.

    Returns:
        The `Load`.

    Raises:
        UsageError: If a number is below 1, or `server` is no address.
        DataError: If no video can be read.
        EnvironmentFault: If the server can't be reached or mixes up answers.
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
            "`benchmark server` sends clips of video files to a server. Give "
            "its address, such as http://HOST:8501/v1/models/har, and videos. "
            f"Received: {server}."
        )
    classifier = load(server)
    clips = np.concatenate(_middle_clips(classifier, sources))
    client = classifier.model.client
    return measure_load(
        client,
        clips,
        num_requests=num_requests,
        num_clients=num_clients,
        check=own_answers(client, clips),
    )


def _middle_clips(
    classifier: Classifier, sources: Sequence[Source]
) -> list[np.ndarray]:
    """Returns a clip of each video that can be read; names the others."""
    clips = []
    for source in sources[:_MOST_VIDEOS]:
        views, known = classifier.read_views(
            source.path, classifier.config.clip.fps
        )
        if len(views):
            clips.append(views[len(views) // 2][None])
        else:
            logger.warning("'%s' can't be used: %s.", source.name, known.reason)
    if not clips:
        raise DataError("No video can be read, so there is nothing to send.")
    return clips


_MOST_VIDEOS = 64


def measure_load(
    client: ServingClient,
    clips: np.ndarray,
    *,
    num_requests: int,
    num_clients: int = 8,
    check: Callable[[int, Answer], None] | None = None,
) -> Load:
    """Sends requests of one clip from several clients at once.

    Args:
        client: ServingClient. Where to.
        clips: uint8 array of shape `(B, T, H, W, 3)`, sent in turn.
        num_requests: int. In all.
        num_clients: int. Threads that each wait for their answer.
        check: Callable or None. Gets the index of the clip and its answer,
            and raises if the answer is another clip's.

    Returns:
        The `Load`.
    """
    numbers = iter(range(num_requests))
    taking = threading.Lock()
    seconds: list[float] = []
    failed: list[HarError] = []

    def ask() -> None:
        while True:
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            index = number % len(clips)
            began = time.perf_counter()
            try:
                answer = client.predict(clips[index : index + 1])
            except HarError as error:
                failed.append(error)
                continue
            seconds.append(time.perf_counter() - began)
            if check:
                check(index, answer)

    began = time.perf_counter()
    _in_threads(ask, num_clients)
    whole = time.perf_counter() - began
    if not seconds:
        raise failed[0]
    p50, p95, p99 = 1000 * np.percentile(seconds, [50, 95, 99])
    return Load(
        len(seconds),
        len(failed),
        float(p50),
        float(p95),
        float(p99),
        len(seconds) / whole,
        num_clients,
        str(failed[0]) if failed else "",
    )


def own_answers(
    client: ServingClient, clips: np.ndarray
) -> Callable[[int, Answer], None]:
    """Asks about each clip by itself, to know its answer under load.

    Args:
        client: ServingClient. Where to.
        clips: uint8 array of shape `(B, T, H, W, 3)`.

    Returns:
        A `check` for `measure_load`, which raises `EnvironmentFault` if an
        answer is not that of its clip.
    """
    expected = [client.predict(clip[None]).probabilities[0] for clip in clips]

    def check(index: int, answer: Answer) -> None:
        away = np.abs(answer.probabilities[0] - expected[index]).max()
        if not away <= _TOLERANCE:
            raise EnvironmentFault(
                f"The server at {client.address.host} mixed up its answers: "
                f"one is {away:.3f} away from what the same clip got by "
                "itself."
            )

    return check


# A server may compute clips together, in another order of sums.
_TOLERANCE = 1e-3


def _in_threads(work: Callable[[], None], number: int) -> None:
    """Runs the same work in several threads; raises what the first raised."""
    with ThreadPoolExecutor(number, "clients") as pool:
        for future in [pool.submit(work) for _ in range(number)]:
            future.result()


def print_load(found: Load, form: str) -> None:
    """Prints how fast a server answers, in one of the forms of `PRINTERS`."""
    figures = asdict(found)
    if form == "json":
        print(json.dumps(figures, allow_nan=False))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(figures)
        writer.writerow(spreadsheet_text(str(x)) for x in figures.values())
    else:
        print(found)
