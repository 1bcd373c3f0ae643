"""Video-level inference: videos in, classes out."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.clips.read_ahead import read_ahead
from har_keras.config import Config, Form
from har_keras.errors import DataError
from har_keras.inference.calibration import Calibration
from har_keras.inference.forward import answers_of
from har_keras.inference.limits import Watch, watched
from har_keras.inference.pictures import Pictures
from har_keras.inference.timeline import (
    Segment,
    Timeline,
    TimelineConfig,
    build_timeline,
)
from har_keras.inference.views import predict_views, views_of_frames
from har_keras.inference.windows import windows
from har_keras.serving.acceptance import FAR, UNSURE, parted
from har_keras.serving.model_info import ModelInfo
from har_keras.store.spool import FrameSpool
from har_keras.video.ffmpeg import FrameReader, VideoError
from har_keras.video.images import read_array, read_video

VideoLike = str | Path | np.ndarray

_WINDOWS_AT_ONCE = 8


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for a video.

    Args:
        name: str. The video, as it was named.
        label: str. The most likely class; "" if the video can't be used. With
            a timeline, the class of most of its seconds.
        confidence: float. Its calibrated probability: of many videos with
            0.8, eight in ten are right if they resemble the validation ones.
        probabilities: dict from class to float, as `evaluate` has them.
        seconds: float. Duration of the part that was used.
        reason: str. Why the video can't be used, or what is wrong with it.
        timeline: Timeline or None. Segments in time, if requested.
        unwritten: str. Why its files, such as an overlay, are not there.
        delay_seconds: float or None. Of a live source: from the arrival of
            the newest frame to the prediction.
        accepted: bool. Whether it is sure enough, and the video enough like
            those of the training, by what was chosen on validation. Otherwise
            the video shows none of the classes, as far as the model can tell;
            `label` is the nearest.
        files: tuple of str. What was written of it.
        calibrated: dict from class to float, or None. The calibrated
            probabilities, which sum to 1; `confidence` is one of them.
        pictures: tuple of pairs. Of a timeline: a few frames, spread over
            the video, each with its time in seconds.
        refusal: str. Why it is not accepted: "unsure" or "far".
        distance: float or None. From the training videos, where it counts.
    """

    name: str
    label: str = ""
    confidence: float = 0.0
    probabilities: dict[str, float] | None = None
    seconds: float = 0.0
    reason: str = ""
    timeline: Timeline | None = None
    unwritten: str = ""
    delay_seconds: float | None = None
    accepted: bool = True
    files: tuple[str, ...] = ()
    calibrated: dict[str, float] | None = None
    pictures: tuple[tuple[float, np.ndarray], ...] = field(
        default=(), repr=False, compare=False
    )
    refusal: str = ""
    distance: float | None = None

    @property
    def failed(self) -> bool:
        """Whether the video could not be used."""
        return not self.probabilities

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments of the timeline; empty without one."""
        return self.timeline.segments if self.timeline else ()


class Classifier:
    """A model with its classes, clip, views and calibration.

    Args:
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`, or
            any object with a `predict_on_batch`.
        class_names: tuple of str. Names in label order.
        config: Config. That of the run.
        calibration: Calibration. Defaults to one that changes nothing.
        form: str. "jpeg" or "raw": how frames were stored for the evaluation.
        info: ModelInfo or None. What an exported model says of itself; None
            for a run.

    Attributes:
        watch: Callable or None. Called after each frame that is read, with
            the seconds of video so far; what it raises ends the reading.
    """

    def __init__(
        self,
        model: Any,
        class_names: tuple[str, ...],
        config: Config,
        *,
        calibration: Calibration | None = None,
        form: Form = "jpeg",
        info: ModelInfo | None = None,
    ) -> None:
        self.model, self.config = model, config
        self.class_names = class_names
        self.calibration = calibration or Calibration()
        self.form = form
        self.info = info
        self.watch: Watch | None = None

    def predict(
        self,
        video: VideoLike,
        *,
        fps: float | None = None,
        timeline: TimelineConfig | bool = False,
    ) -> Prediction:
        """Classifies a video.

        Args:
            video: Path, str or array. A file, a folder of images, or frames:
                `uint8` of shape `(T, H, W, 3)` in RGB.
            fps: float or None. Frame rate of frames or images. Defaults to
                that of the model's clips.
            timeline: TimelineConfig or bool. Whether to localize actions in
                time; then probabilities are means over all windows.

        Returns:
            A `Prediction`.

        Raises:
            DataError: If the video can't be read.
        """
        options = TimelineConfig() if timeline is True else timeline or None
        (found,) = self.predict_all([video], fps=fps, timeline=options)
        if found.failed:
            raise VideoError(Path(found.name), found.reason)
        return found

    def predict_all(
        self,
        videos: Iterable[VideoLike],
        *,
        fps: float | None = None,
        timeline: TimelineConfig | None = None,
    ) -> Iterator[Prediction]:
        """Classifies many videos, decoding ahead of the model.

        Args:
            videos: Iterable. As for `predict`.
            fps: float or None. As for `predict`.
            timeline: TimelineConfig or None. As for `predict`.

        Yields:
            A `Prediction` each, in order. For a video that can't be read it
            has a reason and no probabilities.
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
        """Opens a video, its frames resized as in the store.

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
            "squeeze": clip.squeeze,
            "timeout_seconds": self.config.store.timeout_seconds,
        }
        if isinstance(video, np.ndarray):
            reader = read_array(video, frames_fps=own, **options)
        else:
            reader = read_video(Path(video), images_fps=own, **options)
        return watched(reader, options["fps"], self.watch)

    def read_views(
        self, video: VideoLike, fps: float
    ) -> tuple[list[np.ndarray], Prediction]:
        """Reads the views of a video, without classifying them.

        Args:
            video: As for `predict`.
            fps: float. Frame rate of frames or images.

        Returns:
            The views, `uint8` of shape `(T, crop_size, crop_size, 3)`, none if
            the video can't be read; and a `Prediction` without classes.
        """
        known, clip = Prediction(_name(video)), self.config.clip
        if self._is_clip(video, fps):
            seconds = clip.span_seconds
            return [np.asarray(video)], replace(known, seconds=seconds)
        try:
            with self.open(video, fps) as reader:
                spool = FrameSpool(reader, self.form)
            with contextlib.closing(spool):
                self._require_whole(reader, clip.stored_frames)
                views = views_of_frames(
                    spool.frames,
                    spool.num_frames,
                    clip,
                    self.config.evaluation,
                )
        except DataError as error:
            return [], replace(known, reason=_reason(error))
        seconds = _seconds_of(reader, clip.store_fps)
        return views, replace(known, seconds=seconds, reason=_told(reader))

    def with_classes(
        self, known: Prediction, row: np.ndarray, distance: Any = 0.0
    ) -> Prediction:
        """Returns a prediction with its classes filled in.

        What a timeline says decides, so that the two never disagree.

        Args:
            known: Prediction. Of `read_views`, or with a timeline.
            row: float array of shape `(K,)`. Probabilities.
            distance: float. From the training videos. Defaults to 0.
        """
        name = self.class_names[int(row.argmax())]
        accepts = bool(self.calibration.accepts(row, distance))
        is_far = bool(self.calibration.is_far(distance))
        if known.timeline:
            longest = known.timeline.longest
            name, accepts = longest or name, bool(longest)
            is_far = known.timeline.is_far
        label, limit = self.class_names.index(name), self.calibration.limit
        calibrated = self.calibration.calibrated(row)
        return replace(
            known,
            label=name,
            accepted=accepts,
            refusal="" if accepts else FAR if is_far else UNSURE,
            confidence=float(calibrated[label]),
            probabilities=self._named(row),
            calibrated=self._named(calibrated),
            distance=None if limit is None else float(distance),
        )

    def _named(self, row: np.ndarray) -> dict[str, float]:
        return dict(zip(self.class_names, map(float, row), strict=True))

    def _predict_views(
        self, videos: Iterable[VideoLike], fps: float
    ) -> Iterator[Prediction]:
        def read(video: VideoLike) -> tuple[list[np.ndarray], Prediction]:
            return self.read_views(video, fps)

        several = len(videos) if isinstance(videos, Sized) else 0
        views = self.config.evaluation
        num_clips = several * views.num_clips * views.num_crops
        for rows, known in predict_views(
            self.model, read, videos, lambda: num_clips, run=answers_of
        ):
            if len(rows):
                known = self.with_classes(known, *parted(rows.mean(0)))
            yield known

    def _predict_timeline(
        self, video: VideoLike, fps: float, options: TimelineConfig
    ) -> Prediction:
        """Returns a prediction with a timeline, in constant memory."""
        clip = self.config.clip
        pictures = Pictures()
        with self.open(video, fps, rate=clip.fps) as reader:
            starts, rows = self._windows(
                pictures.seen(reader), options, self.form,
                lambda: reader.info.duration_seconds,
            )  # fmt: skip
        self._require_whole(reader, clip.num_frames)
        seconds = _seconds_of(reader, clip.fps)
        timeline = self._timeline(starts, rows, seconds, options)
        known = Prediction(
            _name(video),
            seconds=seconds,
            reason=_told(reader),
            timeline=timeline,
            pictures=tuple((i / clip.fps, x) for i, x in pictures.kept),
        )
        return self.with_classes(known, *parted(rows.mean(0)))

    def stored_timeline(
        self, frames: Iterable[np.ndarray], options: TimelineConfig
    ) -> Timeline:
        """Localizes actions in frames that were in a store.

        Args:
            frames: Iterable of `uint8` arrays of shape `(H, W, 3)`, at the
                rate of a clip; at least one.
            options: TimelineConfig. How to merge windows.

        Returns:
            A `Timeline`, as `predict_all` gives it for the file.
        """
        count = 0

        def counted() -> Iterator[np.ndarray]:
            nonlocal count
            for frame in frames:
                count += 1
                yield frame

        # JPEG or not, a store's frames are as the model knows them.
        starts, rows = self._windows(counted(), options, "raw")
        seconds = count / self.config.clip.fps
        return self._timeline(starts, rows, seconds, options)

    def _windows(
        self,
        frames: Iterable[np.ndarray],
        options: TimelineConfig,
        form: Form,
        seconds: Callable[[], float] = lambda: 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns each window's first frame and its answer, `(K + 1,)`."""
        hop = options.hop_seconds
        several = _some(
            read_ahead(windows(frames, self.config.clip, hop, form))
        )
        answered = predict_views(
            self.model, lambda x: x, several, lambda: seconds() / hop,
            run=answers_of,
        )  # fmt: skip
        rows, starts = zip(*answered, strict=True)
        return np.concatenate(starts), np.concatenate(rows)

    def _timeline(
        self,
        starts: np.ndarray,
        rows: np.ndarray,
        seconds: float,
        options: TimelineConfig,
    ) -> Timeline:
        clip = self.config.clip
        probabilities, distances = parted(rows)
        return build_timeline(
            starts / clip.fps,
            probabilities,
            distances=distances,
            class_names=self.class_names,
            seconds=seconds,
            window_seconds=clip.span_seconds,
            options=options.of_model(self.calibration),
            temperature=self.calibration.window_temperature,
        )

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


def _some(
    found: Iterable[tuple[int, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields a few windows together, and where they begin.

    Of one alone a backbone has few new frames, and a batch is filled up.
    """
    rest = iter(found)
    while part := list(itertools.islice(rest, _WINDOWS_AT_ONCE)):
        starts, shown = zip(*part, strict=True)
        yield np.stack(shown), np.array(starts)


def _name(video: VideoLike) -> str:
    if isinstance(video, np.ndarray):
        return "frames"
    if isinstance(video, str | Path):
        return str(video)
    raise TypeError(
        "A video is a path, or its frames as a uint8 array of shape (T, H, W, "
        f"3) in RGB. Received: {type(video).__name__}. For several videos "
        "there is predict_all."
    )


def _seconds_of(reader: FrameReader, fps: float) -> float:
    """Returns how long a video is; its last frame is not shown for as long.

    What its header says counts only where the frames bear it out.
    """
    seconds, declared = reader.num_frames / fps, reader.info.duration_seconds
    return declared if 0 < seconds - declared < 1 / fps else seconds


def _told(reader: FrameReader) -> str:
    """Returns what is to be known of the frames that were read, or ""."""
    return reader.damage or reader.note


def _reason(error: DataError) -> str:
    return str(getattr(error, "reason", error))
