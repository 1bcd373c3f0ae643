"""Classifies an uploaded video, with the code of `predict`."""

from __future__ import annotations

import dataclasses
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.errors import DataError
from har_keras.inference.classifier import (
    Classifier,
    Prediction,
)
from har_keras.inference.limits import BeyondLimits, Limits, require_within
from har_keras.inference.load import exported_classifier
from har_keras.inference.timeline import TimelineConfig
from har_keras.serve.batcher import Closed
from har_keras.serve.repository import Servable
from har_keras.serving.acceptance import parted
from har_keras.serving.client import distinct
from har_keras.video.header import probe
from har_keras.web.refusal import Refusal, timed_out


@dataclasses.dataclass(frozen=True)
class VideoJob:
    """How a video is classified, and until when.

    Args:
        limits: Limits. Of the video.
        timeline: bool or None. Whether to localize actions in time; None
            decides by the length.
        timeline_seconds: float. The length from which None means to.
        end: float. The time limit, of `time.monotonic`.
        timeout_seconds: float. The same, for the message.
        cancelled: threading.Event. Set when nobody waits any more.
        beyond: threading.Event. Set when it turns out to be too long.
    """

    limits: Limits
    timeline: bool | None
    timeline_seconds: float
    end: float
    timeout_seconds: float
    cancelled: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )

    beyond: threading.Event = dataclasses.field(default_factory=threading.Event)

    def require_time(self) -> None:
        """Raises `Refusal` if the time is over, or nobody waits."""
        if self.cancelled.is_set() or time.monotonic() > self.end:
            raise timed_out(self.timeout_seconds)

    def watch(self, seconds: float) -> None:
        """Raises if the time is over, or the video is too long."""
        self.require_time()
        try:
            self.limits.require_seconds(seconds)
        except BeyondLimits:
            self.beyond.set()
            raise

    @property
    def seconds_left(self) -> float:
        return max(0.01, self.end - time.monotonic())


def classify(
    servable: Servable, job: VideoJob, path: Path, name: str
) -> dict[str, Any]:
    """Classifies a video.

    Args:
        servable: Servable. The model.
        job: VideoJob. Limits and options.
        path: Path. The file.
        name: str. What the client calls it.

    Returns:
        The response, as JSON has it.

    Raises:
        Refusal: If the video can't be used, exceeds a limit, or takes too
            long.
    """
    try:
        require_within(job.limits, path)
        options = TimelineConfig() if _wants_timeline(job, path) else None
        classifier = bounded_classifier(servable, job)
        (found,) = classifier.predict_all([path], timeline=options)
    except BeyondLimits as error:
        raise Refusal(413, str(error), reason="too_large") from error
    except DataError as error:
        raise _unusable(name, str(getattr(error, "reason", error))) from error
    if found.failed:
        if job.beyond.is_set():
            raise Refusal(413, found.reason, reason="too_large")
        job.require_time()
        raise _unusable(name, found.reason)
    return answer(servable, name, found)


def answer(servable: Servable, name: str, found: Prediction) -> dict[str, Any]:
    """Returns a prediction as the response has it."""
    segments = None
    if found.timeline is not None:
        segments = [dataclasses.asdict(x) for x in found.segments]
    return {
        "model": servable.name,
        "version": str(servable.version),
        "video": name,
        "seconds": found.seconds,
        "label": found.label,
        "confidence": found.confidence,
        "accepted": found.accepted,
        "refusal": found.refusal,
        "distance": found.distance,
        "probabilities": found.probabilities,
        "segments": segments,
        "note": found.reason,
    }


def _unusable(name: str, reason: str) -> Refusal:
    return Refusal(
        422,
        f"'{name}' can't be used: {reason.rstrip('.')}.",
        reason="video",
    )


def _wants_timeline(job: VideoJob, path: Path) -> bool:
    """Whether to localize actions: as asked for, else in a long video."""
    if job.timeline is not None:
        return job.timeline
    seconds = probe(path).duration_seconds
    # A recording of a browser does not tell its length.
    return seconds is None or seconds >= job.timeline_seconds


def bounded_classifier(servable: Servable, job: VideoJob) -> Classifier:
    """Returns a classifier whose model shares its batches with all others."""
    model: Any = BatchedModel(servable, job)
    made = exported_classifier(model)
    made.watch = job.watch
    store = dataclasses.replace(
        made.config.store, timeout_seconds=job.seconds_left
    )
    made.config = dataclasses.replace(made.config, store=store)
    return made


class BatchedModel:
    """A served model, with the interface of an exported one.

    Args:
        servable: Servable. The model.
        job: VideoJob. The time limit.
    """

    def __init__(self, servable: Servable, job: VideoJob) -> None:
        self.class_names = servable.class_names
        self.info = servable.info
        self._batcher = servable.batcher
        self._job = job

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips, float32 of shape `(B, K)`."""
        return parted(self.answer_on_batch(clips))[0]

    def answer_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns probabilities and distances; equal clips are run once.

        Args:
            clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`.

        Returns:
            float32 array of shape `(B, K + 1)`.
        """
        chosen, places = distinct(clips)
        self._job.require_time()
        futures: list[Future[np.ndarray]] = []
        try:
            # One by one: a batch of theirs and of others' clips is no larger
            # than is best.
            futures += [self._batcher.submit(clips[[i]]) for i in chosen]
            rows = [x.result(self._job.seconds_left) for x in futures]
        except (TimeoutError, Closed) as error:
            for future in futures:
                future.cancel()
            raise timed_out(self._job.timeout_seconds) from error
        return np.concatenate(rows)[places]
