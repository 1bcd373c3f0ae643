"""A model that answers: videos in, classes out."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.clips.sampling import FRAME_STRIDE
from har_keras.config import Config
from har_keras.errors import DataError
from har_keras.inference.calibration import Calibration, apply_temperature
from har_keras.inference.timeline import (
    Segment,
    Timeline,
    TimelineConfig,
    build_timeline,
)
from har_keras.inference.views import predict_views, view_clips
from har_keras.inference.windows import read_ahead, windows
from har_keras.manifest.manifest import Video
from har_keras.store.spool import FrameSpool
from har_keras.store.store import Form
from har_keras.video.ffmpeg import FrameReader, VideoError, read_frames
from har_keras.video.images import read_array, read_pictures

VideoLike = str | Path | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What a model says of a video.

    Args:
        name: str. The video, as it was named.
        label: str. The likeliest class; "" where there is no answer.
        confidence: float. Its probability, calibrated: of many videos with
            0.8, eight in ten are right, if they are like the validation ones.
        probabilities: dict from class to float, as `evaluate` has them.
        seconds: float. Length of what was looked at.
        reason: str. Why there is no answer, or what is wrong with the file.
        timeline: Timeline or None. What is seen when, if that was asked for.
        delay_seconds: float or None. Of a live source: from the arrival of
            the newest frame that was looked at to the answer.
    """

    name: str
    label: str = ""
    confidence: float = 0.0
    probabilities: dict[str, float] | None = None
    seconds: float = 0.0
    reason: str = ""
    timeline: Timeline | None = None
    delay_seconds: float | None = None

    @property
    def failed(self) -> bool:
        """Whether there is no answer."""
        return not self.probabilities

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What is seen when; empty unless it was asked for."""
        return self.timeline.segments if self.timeline else ()


class Classifier:
    """A model with its classes and its way of looking at videos.

    Args:
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`, or
            anything else with a `predict_on_batch`.
        class_names: tuple of str. Names in label order.
        config: Config. That of the run.
        calibration: Calibration. Defaults to one that changes nothing.
        form: str. "jpeg" or "raw": how frames were stored for the evaluation.
    """

    def __init__(
        self,
        model: Any,
        class_names: tuple[str, ...],
        config: Config,
        *,
        calibration: Calibration | None = None,
        form: Form = "jpeg",
    ) -> None:
        self.model = model
        self.class_names = class_names
        self.config = config
        self.calibration = calibration or Calibration()
        self.form = form

    def predict(
        self,
        video: VideoLike,
        *,
        fps: float | None = None,
        timeline: TimelineConfig | bool = False,
    ) -> Prediction:
        """Says what a video shows.

        Args:
            video: Path of a file or of a folder of pictures; or frames,
                `uint8` of shape `(T, H, W, 3)` in RGB.
            fps: float or None. Rate of frames or pictures. Defaults to the
                rate of the model's clips.
            timeline: TimelineConfig or bool. Whether to say what is seen
                when; then probabilities are means over all windows.

        Returns:
            A `Prediction`.

        Raises:
            DataError: If the video can't be read.
        """
        options = TimelineConfig() if timeline is True else timeline or None
        (found,) = self.predict_all([video], fps=fps, timeline=options)
        if found.failed:
            raise DataError(f"'{found.name}' can't be used: {found.reason}.")
        return found

    def predict_all(
        self,
        videos: Iterable[VideoLike],
        *,
        fps: float | None = None,
        timeline: TimelineConfig | None = None,
    ) -> Iterator[Prediction]:
        """Says what each of many videos shows, decoding ahead of the model.

        Args:
            videos: Iterable. As for `predict`.
            fps: float or None. As for `predict`.
            timeline: TimelineConfig or None. As for `predict`.

        Yields:
            A `Prediction` each, in order. Of a video that can't be read it
            has no probabilities and a reason.
        """
        rate = fps or self.config.clip.fps
        if timeline is None:
            yield from self._predict_views(videos, rate)
            return
        for video in videos:
            try:
                yield self._predict_timeline(video, rate, timeline)
            except DataError as error:
                yield Prediction(_name(video), reason=_reason(error))

    def open(
        self,
        video: VideoLike,
        fps: float | None = None,
        *,
        rate: float | None = None,
    ) -> FrameReader:
        """Opens a video, its frames at the size of the store.

        Args:
            video: As for `predict`.
            fps: float or None. As for `predict`.
            rate: float or None. Frames per second to read. Defaults to those
                of the store.

        Returns:
            A `FrameReader`.
        """
        clip, own = self.config.clip, fps or self.config.clip.fps
        options: dict[str, Any] = {
            "fps": rate or clip.store_fps,
            "short_side": clip.short_side,
            "timeout_seconds": self.config.store.timeout_seconds,
        }
        if isinstance(video, np.ndarray):
            return read_array(video, frames_fps=own, **options)
        if Path(video).is_dir():
            return read_pictures(Path(video), pictures_fps=own, **options)
        return read_frames(Path(video), **options)

    def read_views(
        self, video: VideoLike, fps: float
    ) -> tuple[np.ndarray, Prediction]:
        """Reads the views of a video, without asking about them.

        Args:
            video: As for `predict`.
            fps: float. Rate of frames or pictures.

        Returns:
            The views, `uint8` of shape `(V, T, crop_size, crop_size, 3)`, none
            if the video can't be read; and what is known of it.
        """
        known, clip = Prediction(_name(video)), self.config.clip
        if self._is_clip(video, fps):
            seconds = clip.span_seconds
            return np.asarray(video)[None], replace(known, seconds=seconds)
        try:
            with self.open(video, fps) as reader:
                spool = FrameSpool(reader, self.form)
            with contextlib.closing(spool):
                span = FRAME_STRIDE * (clip.num_frames - 1) + 1
                self._require_whole(reader, span)
                shown = Video(
                    known.name, "", "", "", kept_frames=spool.num_frames
                )
                views = view_clips(spool, shown, clip, self.config.evaluation)
        except DataError as error:
            return np.empty((0,)), replace(known, reason=_reason(error))
        seconds = spool.num_frames / clip.store_fps
        return views, replace(known, seconds=seconds, reason=reader.damage)

    def answer(
        self,
        known: Prediction,
        row: np.ndarray,
        temperature: float | None = None,
    ) -> Prediction:
        """Returns a prediction with its classes filled in.

        Args:
            known: Prediction. What is known without the model.
            row: float array of shape `(K,)`. Probabilities.
            temperature: float or None. Defaults to that of whole videos.
        """
        label = int(row.argmax())
        calibrated = apply_temperature(
            row, temperature or self.calibration.temperature
        )
        return replace(
            known,
            label=self.class_names[label],
            confidence=float(calibrated[label]),
            probabilities=dict(
                zip(self.class_names, map(float, row), strict=True)
            ),
        )

    def _predict_views(
        self, videos: Iterable[VideoLike], fps: float
    ) -> Iterator[Prediction]:
        known: dict[int, Prediction] = {}

        def read(item: tuple[int, VideoLike]) -> np.ndarray:
            index, video = item
            views, known[index] = self.read_views(video, fps)
            return views

        rows = predict_views(self.model, read, enumerate(videos))
        for index, views in enumerate(rows):
            found = known.pop(index)
            yield self.answer(found, views.mean(0)) if len(views) else found

    def _predict_timeline(
        self, video: VideoLike, fps: float, options: TimelineConfig
    ) -> Prediction:
        """Returns an answer with a timeline, in memory that doesn't grow."""
        clip = self.config.clip
        starts: list[int] = []

        def clips() -> Iterator[np.ndarray]:
            for start, window in windows(
                reader, clip, options.hop_seconds, self.form
            ):
                starts.append(start)
                yield window[None]

        with self.open(video, fps, rate=clip.fps) as reader:
            views = predict_views(self.model, _as_it_is, read_ahead(clips()))
            rows = np.concatenate([*views])
        self._require_whole(reader, clip.num_frames)
        seconds = reader.num_frames / clip.fps
        timeline = build_timeline(
            np.array(starts) / clip.fps,
            rows,
            class_names=self.class_names,
            seconds=seconds,
            window_seconds=clip.span_seconds,
            options=options,
            temperature=self.calibration.window_temperature,
        )
        known = Prediction(
            _name(video),
            seconds=seconds,
            reason=reader.damage,
            timeline=timeline,
        )
        return self.answer(known, rows.mean(0))

    def _is_clip(self, video: VideoLike, fps: float) -> bool:
        """Whether frames are just what the model takes."""
        clip = self.config.clip
        shape = (clip.num_frames, clip.crop_size, clip.crop_size, 3)
        return (
            isinstance(video, np.ndarray)
            and video.shape == shape
            and video.dtype == np.uint8
            and fps == clip.fps
        )

    def _require_whole(self, reader: FrameReader, num_frames: int) -> None:
        """Refuses what `prepare` refuses: damage before one clip is full."""
        if reader.damage and reader.num_frames < num_frames:
            reason = f"{reader.damage}, before one clip is full"
            raise VideoError(reader.path, reason)


def _as_it_is(views: np.ndarray) -> np.ndarray:
    return views


def _name(video: VideoLike) -> str:
    return "frames" if isinstance(video, np.ndarray) else str(video)


def _reason(error: DataError) -> str:
    return str(getattr(error, "reason", error))
