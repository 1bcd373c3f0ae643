"""Prometheus metrics of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300,
)  # fmt: skip
_CLIPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What is counted and measured; one per server.

    Names of models and versions are labels; addresses as sent by clients are
    not, so that nobody can make more series.
    """

    def __init__(self) -> None:
        # Twice as many lines, which nobody reads.
        disable_created_metrics()
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        options: dict[str, Any] = {"registry": registry}
        self.requests = Counter(
            "har_requests", "Requests, by route and status.",
            ["route", "method", "status"], **options,
        )  # fmt: skip
        self.seconds = Histogram(
            "har_request_seconds", "Time from request to response.",
            ["route"], buckets=_SECONDS, **options,
        )  # fmt: skip
        self.refused = Counter(
            "har_refused", "Requests that were refused, by reason.",
            ["reason"], **options,
        )  # fmt: skip
        self.in_flight = Gauge(
            "har_requests_in_flight", "Requests under way.", **options
        )
        self.clips = Counter(
            "har_clips", "Clips that were classified.",
            ["model", "version"], **options,
        )  # fmt: skip
        self.batch_size = Histogram(
            "har_batch_clips", "Clips in a batch.",
            ["model"], buckets=_CLIPS, **options,
        )  # fmt: skip
        self.batch_seconds = Histogram(
            "har_batch_seconds", "Time of the model for a batch.",
            ["model"], buckets=_SECONDS, **options,
        )  # fmt: skip
        self.videos = Counter(
            "har_videos", "Videos, by outcome.", ["outcome"], **options
        )
        self.loaded = Gauge(
            "har_model_version_loaded", "1 for a version that is served.",
            ["model", "version", "runtime"], **options,
        )  # fmt: skip
        self.versions_refused = Gauge(
            "har_model_versions_refused",
            "Exports that could not be loaded since the start.", **options,
        )  # fmt: skip
        self.waiting = Gauge(
            "har_clips_waiting", "Clips that wait for a model.", **options
        )

    def observer(
        self, model: str, version: int
    ) -> Callable[[int, float], None]:
        """Returns what a batcher calls after each batch."""
        clips = self.clips.labels(model, str(version))
        size = self.batch_size.labels(model)
        seconds = self.batch_seconds.labels(model)

        def observe(num_clips: int, taken: float) -> None:
            clips.inc(num_clips)
            size.observe(num_clips)
            seconds.observe(taken)

        return observe

    def show_versions(
        self, loaded: Iterable[tuple[str, int, str]], num_refused: int
    ) -> None:
        """Says which versions are served: model, version and runtime each."""
        self.loaded.clear()
        for model, version, runtime in loaded:
            self.loaded.labels(model, str(version), runtime).set(1)
        self.versions_refused.set(num_refused)

    def text(self) -> bytes:
        """Returns them in the text format."""
        return bytes(generate_latest(self.registry))
