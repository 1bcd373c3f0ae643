"""Live inference on a camera or a stream."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from har_keras.clips.sampling import crop_clip
from har_keras.errors import DataError
from har_keras.inference.classifier import Classifier, Prediction
from har_keras.inference.distance import answer_on_batch
from har_keras.inference.timeline import NONE, TimelineConfig, next_label
from har_keras.serving.acceptance import (
    FAR,
    UNSURE,
    apply_temperature,
    parted,
)
from har_keras.serving.frames import clip_from_frames
from har_keras.store.spool import as_stored
from har_keras.video.live import LiveReader
from har_keras.video.sources import Source

_WAIT_SECONDS = 0.5


def watch(
    classifier: Classifier,
    source: Source,
    options: TimelineConfig,
    *,
    max_seconds: float = 0.0,
) -> Iterator[Prediction]:
    """Classifies a live source, once per hop.

    Each prediction is for the newest clip. If the model is slower than the
    hop, clips are skipped, so that the delay does not grow.

    Args:
        classifier: Classifier. The model.
        source: Source. A live source.
        options: TimelineConfig. Hop, smoothing, threshold and hysteresis.
        max_seconds: float. When to stop; 0 never stops. Defaults to `0`.

    Yields:
        A `Prediction` per hop, its label smoothed over `smooth_seconds`;
        "none" below the threshold. `seconds` counts from the start.

    Raises:
        DataError: If the address is that of a file, which ends, or sends no
            frame before `max_seconds`.
    """
    clip = classifier.config.clip
    labels = LiveLabels(classifier, source.name, options)
    _compile(classifier)
    hop = max(1, round(options.hop_seconds * clip.fps))
    began = time.monotonic()
    last, connection = 0, 0
    with LiveReader(
        source,
        num_frames=clip.num_frames,
        fps=clip.fps,
        short_side=clip.short_side,
        squeeze=clip.squeeze,
    ) as reader:
        while not max_seconds or time.monotonic() - began < max_seconds:
            found = reader.newest(
                after=last + hop - 1 if last else 0,
                timeout_seconds=_WAIT_SECONDS,
            )
            if found is None and reader.file_seconds:
                raise DataError(
                    f"'{source.name}' is a file of {reader.file_seconds:.0f} s "
                    "and not live. Download it and predict the file."
                )
            if found is None:
                continue
            last, frames, arrived = found
            if reader.num_connections != connection:
                connection = reader.num_connections
                labels.forget()
            stored = [as_stored(x, classifier.form) for x in frames]
            window = crop_clip(np.stack(stored), clip.crop_size)
            known = labels.next(window)
            yield replace(
                known,
                seconds=time.monotonic() - began,
                delay_seconds=time.monotonic() - arrived,
            )
        if not reader.num_frames:
            raise DataError(
                f"'{source.name}' sent no frames in {max_seconds:g} s: "
                f"{reader.reason or 'no connection'}."
            )


def watch_clips(
    classifier: Classifier,
    clips: Iterable[np.ndarray],
    options: TimelineConfig,
) -> Iterator[Prediction]:
    """Classifies clips as they come, as `watch` does those of a camera.

    Args:
        classifier: Classifier. The model.
        clips: Iterable of `uint8` arrays of shape `(T, H, W, 3)` in RGB: the
            newest frames, at the rate of the model's clips.
        options: TimelineConfig. Smoothing, threshold and hysteresis.

    Yields:
        A `Prediction` each.
    """
    labels = LiveLabels(classifier, "frames", options)
    _compile(classifier)
    began = time.monotonic()
    for frames in clips:
        arrived = time.monotonic()
        clip = clip_from_frames(frames, classifier.config.clip)
        known = labels.next(clip)
        now = time.monotonic()
        yield replace(known, seconds=now - began, delay_seconds=now - arrived)


def _compile(classifier: Classifier) -> None:
    """Calls the model once, which compiles it, before frames arrive."""
    clip = classifier.config.clip
    shape = (1, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    answer_on_batch(classifier.model, np.zeros(shape, np.uint8))


class LiveLabels:
    """The labels of a live source, clip by clip.

    Args:
        classifier: Classifier. The model.
        name: str. Name of the source.
        options: TimelineConfig. Hop, smoothing, threshold and hysteresis.
    """

    def __init__(
        self, classifier: Classifier, name: str, options: TimelineConfig
    ) -> None:
        self.classifier = classifier
        self.name = name
        self.options = options.of_model(classifier.calibration)
        number = options.smooth_windows
        self._rows: deque[np.ndarray] = deque(maxlen=max(1, number))
        self._label = -1

    def forget(self) -> None:
        """Starts anew: what came before an interruption is outdated."""
        self._label = -1
        self._rows.clear()

    def next(self, clip: np.ndarray) -> Prediction:
        """Classifies the next clip.

        Args:
            clip: `uint8` array of shape `(T, crop_size, crop_size, 3)`.

        Returns:
            A `Prediction`, its label smoothed over `smooth_seconds`; "none"
            below the threshold, or too far from the training videos.
        """
        names = self.classifier.class_names
        row = answer_on_batch(self.classifier.model, clip[None])[0]
        self._rows.append(row.astype("float64"))
        mean, distance = parted(np.mean(self._rows, axis=0))
        temperature = self.classifier.calibration.window_temperature
        calibrated = apply_temperature(mean, temperature)
        most = self.options.max_distance
        is_far = most is not None and bool(distance > most)
        self._label = label = -1 if is_far else next_label(
            self._label,
            calibrated,
            self.options.threshold or 0.0,
            self.options.hysteresis,
        )  # fmt: skip
        return Prediction(
            self.name,
            NONE if label < 0 else names[label],
            float(calibrated.max() if label < 0 else calibrated[label]),
            dict(zip(names, map(float, mean), strict=True)),
            accepted=label >= 0,
            calibrated=dict(zip(names, map(float, calibrated), strict=True)),
            refusal="" if label >= 0 else FAR if is_far else UNSURE,
            distance=None if most is None else float(distance),
        )
