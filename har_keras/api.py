"""`VideoClassifier`: everything a program does with a classifier."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.evaluation.result import Evaluation
from har_keras.progress import is_unseen
from har_keras.run import Run, with_model_of_weights

if TYPE_CHECKING:
    import numpy as np

    from har_keras.inference.classifier import (
        Classifier,
        Prediction,
        VideoLike,
    )
    from har_keras.inference.timeline import TimelineConfig

logger = logging.getLogger("har_keras")


class VideoClassifier:
    """A trained classifier of videos, and what can be done with it.

    Made by `train`, `resume` or `load`. The backend starts by itself; while
    something takes long, its progress is printed.

    Args:
        where: Path or str. The folder of a run, an exported model, or the
            address of one: `hf://owner/name[@revision]` on Hugging Face's hub,
            or on TensorFlow Serving.

    Example:

    ```python
    classifier = VideoClassifier.train("videos", recipe="quick", epochs=24)
    print(classifier.evaluation.accuracy, classifier.evaluation.interval)
    print(classifier.predict("video.mp4").label)
    classifier.export("onnx")
    ```
    """

    def __init__(self, where: Path | str) -> None:
        from har_keras.hub_run import pinned
        from har_keras.inference.load import kind_of, load

        with _messages():
            where = pinned(where)
        self.run = Run(where) if kind_of(where) == "run" else None
        self._where = where
        self._classifier: Classifier = load(where)

    @classmethod
    def train(
        cls,
        videos: Path | str,
        run_dir: Path | str | None = None,
        *,
        config: Config | None = None,
        resume: bool = False,
        **options: Any,
    ) -> VideoClassifier:
        """Trains on a folder of videos, evaluates and exports.

        Args:
            videos: Path or str. The folder of videos.
            run_dir: Path, str or None. A new folder. Defaults to
                `runs/<date>-<time>`.
            config: Config or None. Options to start from. Defaults to
                `Config()`.
            resume: bool. Whether to go on with what is in `run_dir` already:
                an interrupted run is resumed, a finished one loaded. Defaults
                to `False`.
            **options: Options by name, as flags have them: `recipe="quick"`,
                `epochs=40`, `weights="runs/pretrained"`.

        Returns:
            The trained `VideoClassifier`; `run` is its folder.

        Raises:
            UsageError: If a path or an option is wrong, or is another than
                that of the run to resume.
            DataError: If the videos can't be trained on.
            EnvironmentFault: If the disk is full or a package is missing.
        """
        from har_keras.train import train

        begun = Run(run_dir) if resume and run_dir else None
        if begun and begun.config_file.is_file():
            given = {**(config.flat() if config else {}), **options}
            with _messages():
                return cls(_gone_on(begun, Path(videos), given).path)
        given = with_model_of_weights(options)
        chosen = (config or Config()).replace(**given)
        with _messages():
            return cls(train(videos, run_dir, chosen).path)

    @classmethod
    def resume(cls, run_dir: Path | str) -> VideoClassifier:
        """Resumes an interrupted training.

        Args:
            run_dir: Path or str. The folder of the run.

        Returns:
            The trained `VideoClassifier`.

        Raises:
            DataError: If there is no such run, or a video changed.
        """
        from har_keras.train import resume

        with _messages():
            return cls(resume(Run.open(run_dir)).path)

    @classmethod
    def load(cls, where: Path | str) -> VideoClassifier:
        """Loads a trained classifier.

        Args:
            where: Path or str. The folder of a run, an exported model, or the
                address of one: `hf://owner/name[@revision]` on Hugging Face's
                hub, where `har-keras push` put it, or on TensorFlow
                Serving.

        Raises:
            UsageError: If it is no exported model, or no address.
            DataError: If there is no run, or it has no model.
            EnvironmentFault: If a server or a hub can't be reached, or a
                package is missing.
        """
        return cls(where)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in label order."""
        return self._classifier.class_names

    @property
    def config(self) -> Config:
        """The options of the run; of an exported model, clip and views."""
        return self._classifier.config

    @property
    def model(self) -> Any:
        """The network: a `keras.Model` for a run, such as a `VideoViT`."""
        from har_keras.inference.distance import keras_model_of

        return keras_model_of(self._classifier.model)

    @property
    def evaluation(self) -> Evaluation:
        """The figures on the run's test videos, as training left them.

        Raises:
            UsageError: If the classifier is in no run.
            DataError: If the run was not evaluated.
        """
        return Evaluation.read(self._own_run("evaluation"))

    def predict(
        self,
        video: VideoLike,
        *,
        timeline: TimelineConfig | bool = False,
        fps: float | None = None,
    ) -> Prediction:
        """Classifies a video.

        Args:
            video: Path, str or array. A file, a folder of images, or frames:
                `uint8` of shape `(T, H, W, 3)` in RGB.
            timeline: TimelineConfig or bool. Whether to localize actions in
                time, too. Defaults to `False`.
            fps: float or None. Frame rate of frames or images. Defaults to
                that of the model's clips.

        Returns:
            A `Prediction`.

        Raises:
            DataError: If the video can't be read.
        """
        return self._classifier.predict(video, fps=fps, timeline=timeline)

    def predict_all(
        self,
        videos: Iterable[VideoLike],
        *,
        timeline: TimelineConfig | None = None,
        fps: float | None = None,
    ) -> Iterator[Prediction]:
        """Classifies many videos, decoding ahead of the model.

        Args:
            videos: Iterable. As for `predict`.
            timeline: TimelineConfig or None. Whether to localize actions.
            fps: float or None. As for `predict`.

        Yields:
            A `Prediction` each, in order. For a video that can't be read it
            has a reason and no probabilities.
        """
        return self._classifier.predict_all(videos, fps=fps, timeline=timeline)

    def watch(
        self,
        source: str | Iterable[np.ndarray],
        *,
        timeline: TimelineConfig | None = None,
        max_seconds: float = 0.0,
        allow_network: bool = False,
    ) -> Iterator[Prediction]:
        """Classifies what is live: a camera, a stream, or frames of a program.

        Args:
            source: str or iterable. "camera:0", an address, or an iterable of
                `uint8` arrays of shape `(T, H, W, 3)` in RGB: the newest
                frames at each moment, at the rate of the model's clips.
            timeline: TimelineConfig or None. Time between predictions,
                smoothing and threshold. Defaults to `TimelineConfig()`.
            max_seconds: float. When to stop a camera or stream; 0 never does.
                Defaults to `0.0`.
            allow_network: bool. Whether an address may be opened. Defaults to
                `False`.

        Yields:
            A `Prediction` each, its label smoothed over time.

        Raises:
            UsageError: If the source is not live.
            DataError: If there is no such camera.
        """
        from har_keras.inference.live import watch, watch_clips
        from har_keras.inference.timeline import TimelineConfig
        from har_keras.video.live import require_camera
        from har_keras.video.sources import find_sources

        options = timeline or TimelineConfig()
        if not isinstance(source, str):
            return watch_clips(self._classifier, source, options)
        found = find_sources([source], lines=(), allow_network=allow_network)
        if [x.kind for x in found] != ["live"]:
            raise UsageError(
                "`watch` is for a camera or a stream, and `predict` for videos "
                f"that end. Received: {source}."
            )
        require_camera(found[0])
        return watch(
            self._classifier, found[0], options, max_seconds=max_seconds
        )

    def evaluate(
        self,
        videos: Path | str | None = None,
        *,
        split: str | None = None,
        output: Path | str | None = None,
        robustness: bool = False,
        timeline: TimelineConfig | None = None,
        accept_errors: float | None = None,
    ) -> Evaluation:
        """Evaluates the classifier and writes a report.

        Args:
            videos: Path, str or None. A folder of videos. Defaults to the
                run's own.
            split: str or None. Defaults to "test" of the run's own videos, and
                to every video of another folder.
            output: Path, str or None. Folder of the results. Defaults to one
                in the run.
            robustness: bool. Whether to measure on corrupted frames, too.
            timeline: TimelineConfig or None. How segments of whole videos are
                predicted where labels have times. Defaults to that of
                `predict`.
            accept_errors: float or None. Share of accepted answers that may
                be wrong: the threshold of "none of these" is chosen anew.
                Predictions keep theirs until the classifier is loaded again.

        Returns:
            An `Evaluation`.

        Raises:
            UsageError: If a path is wrong, or a class is none of the model's.
            DataError: If no video can be scored.
        """
        from har_keras.evaluate import evaluate

        with _messages():
            return evaluate(
                self._where,
                videos,
                split=split,
                output=output,
                robustness=robustness,
                timeline=timeline,
                accept_errors=accept_errors,
            )

    def export(self, *formats: str) -> Path:
        """Exports the next SavedModel version of the run.

        Args:
            *formats: str. Further formats: "onnx", "openvino", "litert",
                "litert-int8".

        Returns:
            `RUN/saved_model/<version>`.

        Raises:
            UsageError: If the classifier is in no run.
            EnvironmentFault: If an exported model predicts otherwise.
        """
        from har_keras.export import export

        with _messages():
            return export(self._own_run("export"), formats)

    def clips(self, split: str = "test", number: int = 8) -> np.ndarray:
        """Returns middle clips of the run's videos, spread over the classes.

        Args:
            split: str. "train", "val" or "test". Defaults to `"test"`.
            number: int. Videos to take them from. Defaults to `8`.

        Returns:
            `uint8` array of shape `(number, T, crop_size, crop_size, 3)`.

        Raises:
            UsageError: If the classifier is in no run.
        """
        from har_keras.evaluation.measure import RunVideos

        return RunVideos(self._own_run("clips")).clips(split, number)

    def attention(self, clip: np.ndarray) -> np.ndarray:
        """Returns the contribution of each tubelet to the prediction.

        Args:
            clip: `uint8` array of shape `(T, crop_size, crop_size, 3)`.

        Returns:
            `float64` array of shape `(T / tubelet_frames, H', W')` that sums
            to 1: attention, rolled out over the layers.

        Raises:
            UsageError: If the model is not a `VideoViT`.

        Reference:
            - [Abnar and Zuidema, 2020](https://arxiv.org/abs/2005.00928).
        """
        from har_keras.inference.attention_rollout import attention_rollout

        found: np.ndarray = attention_rollout(self.model, clip[None])[0]
        return found

    def _own_run(self, name: str) -> Run:
        if self.run is None:
            raise UsageError(
                f"`{name}` needs the folder of a run. Received: {self._where}."
            )
        if not self.run.config_file.is_file():
            raise DataError(f"The run '{self.run.path}' is gone.")
        return self.run


load = VideoClassifier.load


def _gone_on(run: Run, videos: Path, options: dict[str, Any]) -> Run:
    """Resumes a run; one that is finished stays as it is.

    Raises:
        UsageError: If it was begun with other videos or options.
    """
    from har_keras.manifest.manifest import Manifest
    from har_keras.train import resume
    from har_keras.training.fingerprint import RunFingerprint

    own = run.config()
    config = own.replace(**_but_those_settled(options, own))
    if run.manifest_file.is_file():
        folder = Manifest.read(run.manifest_file).root
        if folder.resolve() != videos.resolve():
            raise UsageError(
                f"The run in '{run.path}' was begun with the videos in "
                f"'{folder}'. Received: '{videos}'. Choose another run_dir."
            )
    if not run.phases_file.is_file():  # the last one that training writes
        return resume(run, config)
    began = RunFingerprint.read(run.fingerprint_file)
    began.refuse_options(config, run.path)
    logger.info("The run in '%s' is finished and is loaded.", run.path)
    return run


def _but_those_settled(options: dict[str, Any], own: Config) -> dict[str, Any]:
    """Returns options without those that a run records more exactly."""
    weights = own.model.weights
    return {
        name: value
        for name, value in options.items()
        if not (name in ("backend", "cache") and value == "auto")
        and not (name == "weights" and weights.startswith(f"{value}@"))
    }


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Prints progress and warnings, unless the program logs them itself."""
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        yield
        return
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(is_unseen)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # else other handlers print it once more
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before
