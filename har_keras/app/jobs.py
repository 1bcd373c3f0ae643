"""Classifies a video for the page, and tells how far it is."""

import base64
import copy
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.app.answers import answer_as_json, label_as_json
from har_keras.errors import DataError
from har_keras.inference.classifier import Classifier
from har_keras.inference.distance import answer_on_batch
from har_keras.inference.limits import Limits, require_within
from har_keras.inference.live import LiveLabels
from har_keras.inference.timeline import TimelineConfig
from har_keras.report.attention_video import write_attention
from har_keras.serving.frames import clip_from_images
from har_keras.terminal import printable
from har_keras.video.header import probe

LIVE_OPTIONS = TimelineConfig(hop_seconds=0.5)
_TIMELINE = TimelineConfig()

Event = dict[str, Any]


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


@dataclasses.dataclass
class VideoJob:
    """A video to classify.

    Args:
        path: Path. The file.
        name: str. What the user calls it.
        limits: Limits. What is allowed.
        attention: bool. Whether to draw what the model looks at.
        report: Callable. Takes each event.
        cancelled: threading.Event. Set when nobody waits any more.
    """

    path: Path
    name: str
    limits: Limits
    attention: bool
    report: Callable[[Event], None]
    cancelled: threading.Event = dataclasses.field(
        default_factory=threading.Event
    )

    def watch(self, seconds: float) -> None:
        """Raises if nobody waits, or the video is too long."""
        if self.cancelled.is_set():
            raise Cancelled
        self.limits.require_seconds(seconds)

    def run(self, classifier: Classifier) -> None:
        """Classifies the video; reports its progress and the answer."""
        try:
            for event in self._events(classifier):
                self.report(event)
        except Cancelled:
            pass
        except DataError as error:
            reason = str(getattr(error, "reason", error)).rstrip(".")
            self.report(
                {
                    "event": "error",
                    "sentence": "This video can't be used: "
                    f"{printable(reason)}.",
                }
            )

    def _events(self, classifier: Classifier) -> Iterator[Event]:
        yield progress("Reading the video")
        require_within(self.limits, self.path)
        seconds = probe(self.path).duration_seconds or 0.0
        model = WatchedModel(classifier.model, self._progress(seconds))
        mine = copy.copy(classifier)
        mine.model, mine.watch = model, self.watch
        found = mine.predict(self.path, timeline=_TIMELINE)
        answer = answer_as_json(found, classifier, self.name)
        yield {"event": "answer", **answer}
        if self.attention:
            yield progress("Drawing what the model looks at")
            yield self._attention(classifier, found.seconds)

    def _progress(self, seconds: float) -> Callable[[int], None]:
        """Returns what takes the number of windows that are classified."""
        pace = Pace(seconds)

        def windows_done(number: int) -> None:
            if self.cancelled.is_set():
                raise Cancelled
            done = min(number * _TIMELINE.hop_seconds, seconds or math.inf)
            self.report(pace.at(done, time.monotonic()))

        return windows_done

    def _attention(self, classifier: Classifier, seconds: float) -> Event:
        mine = copy.copy(classifier)
        mine.watch = self._watch_attention(seconds)
        mine.model = classifier.model.wrapped
        base = self.path.with_name(f"{self.path.name}-attention")
        written: Sequence[Path] = ()
        try:
            written = write_attention(
                mine,
                self.path,
                base,
                classifier.config.clip.fps,
                turn=classifier.model.turn,
            )
            movie = written[0].read_bytes()
        finally:
            for file in self.path.parent.glob(f"{base.name}*"):
                file.unlink(missing_ok=True)
        return {"event": "attention", "mp4": base64.b64encode(movie).decode()}

    def _watch_attention(self, seconds: float) -> Callable[[float], None]:
        pace = Pace(seconds, "Drawing what the model looks at")
        told = 0.0

        def watch(done: float) -> None:
            nonlocal told
            self.watch(done)
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                self.report(pace.at(done, told))

        return watch


def progress(
    phase: str, share: float | None = None, seconds_left: float | None = None
) -> Event:
    """Returns the event of a phase.

    Args:
        phase: str. What is being done.
        share: float or None. How much of it is done.
        seconds_left: float or None. How long the rest takes, about.
    """
    return {
        "event": "progress",
        "phase": phase,
        "share": share,
        "seconds_left": seconds_left,
    }


class Pace:
    """Says how far a video is, and how long the rest takes.

    The first part, in which ffmpeg starts, is left out of the estimate; there
    is none before the second.

    Args:
        seconds: float. Length of the video; 0 if it is unknown.
        phase: str. What is being done.

    Example:

    >>> pace = Pace(20.0)
    >>> pace.at(5.0, now=10.0)["seconds_left"]
    >>> pace.at(10.0, now=12.0)["seconds_left"]
    4.0
    """

    def __init__(self, seconds: float, phase: str = "Classifying") -> None:
        self.seconds = seconds
        self.phase = phase
        self._first: tuple[float, float] | None = None

    def at(self, done: float, now: float) -> Event:
        """Returns the event when so many seconds of the video are done."""
        if not self.seconds:
            return progress(f"{self.phase}: {done:.0f} s")
        left = None
        if self._first is None:
            self._first = (done, now)
        elif done > self._first[0]:
            speed = (now - self._first[1]) / (done - self._first[0])
            left = speed * (self.seconds - done)
        return progress(
            f"{self.phase}: {done:.0f} of {self.seconds:.0f} s",
            min(1.0, done / self.seconds),
            left,
        )


class WatchedModel:
    """A model that tells how many clips it has classified.

    Args:
        model: `keras.Model`, or what was exported.
        watch: Callable. Takes their number after each batch.
    """

    def __init__(self, model: Any, watch: Callable[[int], None]) -> None:
        self._model = model
        self._watch = watch
        self._number = 0

    def predict_on_batch(self, clips: np.ndarray) -> Any:
        """Returns the probabilities of clips."""
        return self._counted(self._model.predict_on_batch(clips))

    def answer_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities and distances of clips."""
        return self._counted(answer_on_batch(self._model, clips))

    def _counted(self, rows: np.ndarray) -> np.ndarray:
        self._number += len(rows)
        self._watch(self._number)
        return rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def classify_live(labels: LiveLabels, images: list[bytes]) -> Event:
    """Classifies the newest frames of a camera.

    Args:
        labels: LiveLabels. Those of the camera so far.
        images: list of bytes. JPEG frames, the newest last.

    Raises:
        DataError: If they are no pictures.
    """
    clip = clip_from_images(images, labels.classifier.config.clip)
    return label_as_json(labels.next(clip))
