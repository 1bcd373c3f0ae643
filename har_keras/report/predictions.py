"""Predictions of many videos, their files, and a cache of them."""

import dataclasses
import errno
import functools
import glob
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras._version import __version__
from har_keras.beam import each_by_beam, everywhere
from har_keras.errors import DataError, EnvironmentFault
from har_keras.files import whole_file
from har_keras.hub_run import local_run
from har_keras.inference.classifier import Classifier, Prediction
from har_keras.inference.load import kind_of, load
from har_keras.inference.timeline import Segment, Timeline, TimelineConfig
from har_keras.manifest.manifest import content_hash
from har_keras.run import Run
from har_keras.video.sources import Source

# What one machine of a pipeline takes at once; of long videos it takes one.
_VIDEOS_AT_ONCE = 8
# What ends a batch: no other file could be written either.
_OF_ALL_FILES = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM,
)  # fmt: skip

Named = tuple[Source, str]


@dataclass(frozen=True)
class PredictRequest:
    """Which model classifies videos, how, and what is written of each.

    Args:
        run: str. A run, an exported model or an address, as `load` takes it.
        output: Path. Folder of the files. Defaults to `predictions`.
        timeline: TimelineConfig or None. Whether and how to localize actions
            in time, which files and an overlay need.
        timeline_files: bool. Whether to write the segments.
        overlay: Path or None. A video with the predictions drawn on it, or
            the folder of several.
        attention: bool. Whether to write attention maps.
        images_fps: float. Frame rate of a folder of images.
    """

    run: str
    output: Path = Path("predictions")
    timeline: TimelineConfig | None = None
    timeline_files: bool = False
    overlay: Path | None = None
    attention: bool = False
    images_fps: float = 25.0

    @property
    def needs_run(self) -> bool:
        """Whether a run itself is needed or faster than its export.

        Of a timeline, its windows share what a backbone makes of a frame.
        """
        return self.attention or self.timeline is not None

    def everywhere(self) -> "PredictRequest":
        """Returns the same request, with absolute paths."""
        return dataclasses.replace(
            self,
            run=self.run
            if kind_of(self.run) == "hub"
            else str(everywhere(Path(self.run))),
            output=everywhere(self.output),
            overlay=self.overlay and everywhere(self.overlay),
        )

    def fingerprint(self) -> str:
        """Returns a hash of the model and the request."""
        files = sorted(_files_of(Path(local_run(self.run))))
        found = [(str(file), content_hash(file)) for file in files]
        return hashlib.sha256(
            repr((__version__, self, found)).encode()
        ).hexdigest()


@dataclass(frozen=True)
class PredictionCache:
    """A folder of predictions, a file for each video.

    Args:
        folder: Path. The folder; it need not exist.
        fingerprint: str. Of the model and the request. Predictions of other
            requests are not found.
    """

    folder: Path
    fingerprint: str

    def holds(self, source: Source, content: str) -> bool:
        """Returns whether there is a prediction of a video.

        Args:
            source: Source. The video.
            content: str. Hash of its content as it is now; "" if that is not
                known.
        """
        record = self._record(source)
        return bool(content) and record.get("content") == content

    def read(self, source: Source) -> Prediction | None:
        """Returns the prediction of a video, or None if there is none."""
        record = self._record(source)
        return prediction_from(record["answer"]) if record else None

    def write(self, source: Source, content: str, found: Prediction) -> None:
        """Stores a prediction; one that failed will be tried again.

        Args:
            source: Source. The video.
            content: str. Hash of its content before it was decoded.
            found: Prediction. What to store.
        """
        kept = "" if found.failed or found.unwritten else content
        record = {"content": kept, "answer": as_json(found)}
        with whole_file(self._file(source)) as file:
            file.write_text(json.dumps(record), "utf-8")

    def _file(self, source: Source) -> Path:
        name = f"{self.fingerprint} {source.address}"
        digest = hashlib.sha256(name.encode(errors="surrogateescape"))
        return self.folder / f"{digest.hexdigest()[:32]}.json"

    def _record(self, source: Source) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self._file(source).read_bytes())
        except (OSError, ValueError):  # not there, or damaged since
            return {}
        return record


def as_json(found: Prediction) -> dict[str, Any]:
    """Returns a prediction as `prediction_from` takes it."""
    fields = dataclasses.asdict(dataclasses.replace(found, pictures=()))
    if found.timeline:
        for name in ("edges", "probabilities", "distances"):
            kept = fields["timeline"][name]
            fields["timeline"][name] = None if kept is None else kept.tolist()
    return fields


def prediction_from(fields: dict[str, Any]) -> Prediction:
    """Returns the prediction that `as_json` was given, to the last bit.

    Example:

    >>> found = Prediction("a.mp4", "walk", 1 / 3, {"gym": 2 / 3, "walk": 1.0})
    >>> prediction_from(json.loads(json.dumps(as_json(found)))) == found
    True
    """
    timeline = fields["timeline"]
    if timeline:
        distances = timeline.get("distances")
        timeline = Timeline(
            tuple(timeline["class_names"]),
            np.array(timeline["edges"]),
            np.array(timeline["probabilities"]),
            tuple(Segment(**segment) for segment in timeline["segments"]),
            timeline["threshold"],
            None if distances is None else np.array(distances),
            timeline.get("max_distance"),
        )
    known = {"timeline": timeline, "files": tuple(fields.get("files", ()))}
    return Prediction(**{**fields, **known})


def predict_many(
    classifier: Classifier, request: PredictRequest, named: Iterable[Named]
) -> Iterator[Prediction]:
    """Classifies videos, and writes the files requested of each.

    Args:
        classifier: Classifier. A loaded one.
        request: PredictRequest. Timeline and files.
        named: Iterable of pairs. A `Source` and the name of its files; no two
            have the same.

    Yields:
        A `Prediction` each, in order; one that failed has a reason.
    """
    listed = list(named)
    found = classifier.predict_all(
        [source.path for source, _ in listed],
        fps=request.images_fps,
        timeline=request.timeline,
    )
    for (source, name), prediction in zip(listed, found, strict=True):
        shown = dataclasses.replace(prediction, name=source.name)
        if not shown.failed:
            shown = _with_files(
                classifier, request, source, shown, request.output / name
            )
        yield shown


def predict_many_by_beam(
    request: PredictRequest, named: Sequence[Named], options: str = ""
) -> Iterator[Prediction]:
    """Does what `predict_many` does, as an Apache Beam pipeline.

    Predictions are cached in the folder `answers` of the output, so that a
    pipeline that was stopped can be started again. One is computed again if
    the model, the request or the video changed, or if it failed.

    Args:
        request: PredictRequest. Model, videos and output are seen by all
            machines under the same paths.
        named: Sequence of pairs. As for `predict_many`.
        options: str. Those of the pipeline, as `each_by_beam` has them.

    Yields:
        A `Prediction` each, in order; one that failed has a reason.

    Raises:
        UsageError: If the pipeline's options are wrong.
        EnvironmentFault: If Beam is missing, or a machine lacks something.
    """
    request = request.everywhere()
    kept = PredictionCache(request.output / "answers", request.fingerprint())
    found = [
        (
            dataclasses.replace(source, address=str(everywhere(source.path))),
            name,
        )
        for source, name in named
    ]
    size = 1 if request.timeline else _VIDEOS_AT_ONCE
    each_by_beam(
        [
            [(*dataclasses.astuple(source), name) for source, name in some]
            for some in (
                found[i : i + size] for i in range(0, len(found), size)
            )
        ],
        functools.partial(_keep, request, kept),
        request.output,
        options,
    )
    for source, _ in found:
        prediction = kept.read(source)
        if prediction is None:
            raise EnvironmentFault(
                f"The pipeline left no prediction of '{source.name}' in "
                f"'{kept.folder}'. All its machines must see that folder "
                "under this path."
            )
        yield prediction


def _keep(
    request: PredictRequest,
    kept: PredictionCache,
    listed: Sequence[Sequence[Any]],
) -> dict[str, str]:
    """Caches predictions of some videos; returns why some have none."""
    named = [(Source(*fields), name) for *fields, name in listed]
    # Hashed before decoding: what changes meanwhile is predicted again.
    contents = [content_hash(source.path) for source, _ in named]
    wanted = [
        not kept.holds(source, content)
        for (source, _), content in zip(named, contents, strict=True)
    ]
    failed: dict[str, str] = {}
    missing = list(itertools.compress(named, wanted))
    if not missing:
        return failed
    classifier = _loaded(request.run, kept.fingerprint)
    found = predict_many(classifier, request, missing)
    for (source, _), content, prediction in zip(
        missing, itertools.compress(contents, wanted), found, strict=True
    ):
        kept.write(source, content, prediction)
        if prediction.failed or prediction.unwritten:
            failed[source.name] = prediction.unwritten or prediction.reason
    return failed


@functools.cache
def _loaded(where: str, fingerprint: str) -> Classifier:
    """Returns the classifier, loaded once per process."""
    return load(where)


def _files_of(path: Path) -> Iterable[Path]:
    """Returns the files that decide what a model predicts."""
    if kind_of(path) == "run":
        run = Run(path)
        return (
            run.model_file, run.config_file, run.manifest_file,
            run.class_names_file, run.calibration_file, run.evaluation_file,
        )  # fmt: skip
    if path.is_dir():
        return (file for file in path.rglob("*") if file.is_file())
    return path.parent.glob(f"{glob.escape(path.stem)}.*")


def _with_files(
    classifier: Classifier,
    request: PredictRequest,
    source: Source,
    found: Prediction,
    base: Path,
) -> Prediction:
    """Writes the files of one video; says why where that can't be done."""
    written: list[str] = []
    reasons = []
    for write in _writers(classifier, request, source, found, base):
        try:
            written += map(str, write())
        except DataError as error:  # of this file alone: the rest go on
            reasons.append(str(getattr(error, "reason", error)).rstrip("."))
        except OSError as error:
            if error.errno in _OF_ALL_FILES:
                raise
            name = error.filename2 or error.filename
            reasons.append(f"'{name}': {error.strerror}")
    unwritten = "; ".join(dict.fromkeys(reasons))
    return dataclasses.replace(found, files=tuple(written), unwritten=unwritten)


def _writers(
    classifier: Classifier,
    request: PredictRequest,
    source: Source,
    found: Prediction,
    base: Path,
) -> Iterator[Callable[[], Iterable[Path]]]:
    """Yields what writes each kind of file requested of one video."""
    from har_keras.report.attention_video import write_attention
    from har_keras.report.overlay import write_overlay
    from har_keras.report.timeline_files import write_timeline

    timeline, fps = found.timeline, request.images_fps
    if timeline and request.timeline_files:
        yield functools.partial(
            write_timeline, timeline, found.name, base, found.pictures
        )
    if timeline and request.overlay:
        path = request.overlay
        if path.suffix.lower() != ".mp4":
            path /= f"{base.name}.mp4"
        limit = classifier.config.store.timeout_seconds
        yield lambda: [
            write_overlay(
                source.path,
                timeline,
                path,
                timeout_seconds=limit,
                images_fps=fps,
            )
        ]
    if request.attention:
        yield functools.partial(
            write_attention, classifier, source.path, base, fps
        )
