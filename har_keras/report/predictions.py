"""Answers about many videos: by this program, or by an Apache Beam pipeline."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras import __version__
from har_keras.beam import each_by_beam, everywhere
from har_keras.errors import EnvironmentFault
from har_keras.files import whole_file
from har_keras.inference.classifier import Classifier, Prediction
from har_keras.inference.load import kind_of, load, start_backend_of
from har_keras.inference.timeline import Segment, Timeline, TimelineConfig
from har_keras.manifest.manifest import content_hash
from har_keras.run import Run
from har_keras.video.sources import Source

# What one machine of a pipeline takes at once; of long videos it takes one.
_VIDEOS_AT_ONCE = 8

Named = tuple[Source, str]


@dataclass(frozen=True)
class PredictRequest:
    """What is asked about videos, and what is written about each.

    Args:
        run: str. Who answers, as `load` has it.
        output: Path. Folder of the files.
        timeline: TimelineConfig or None. Whether and how to find segments.
        timeline_files: bool. Whether to write them.
        overlay: Path or None. A video with the answer drawn on it, or the
            folder of several.
        attention: bool. Whether to write where the model looked.
        pictures_fps: float. Pictures per second in a folder of pictures.
    """

    run: str
    output: Path
    timeline: TimelineConfig | None = None
    timeline_files: bool = False
    overlay: Path | None = None
    attention: bool = False
    pictures_fps: float = 25.0

    def everywhere(self) -> "PredictRequest":
        """Returns the same question, whatever the working directory."""
        return dataclasses.replace(
            self,
            run=str(everywhere(Path(self.run))),
            output=everywhere(self.output),
            overlay=self.overlay and everywhere(self.overlay),
        )

    def fingerprint(self) -> str:
        """Returns a hash of the model and of how it is asked."""
        files = sorted(_files_of(Path(self.run)))
        found = [(str(file), content_hash(file)) for file in files]
        return hashlib.sha256(
            repr((__version__, self, found)).encode()
        ).hexdigest()


@dataclass(frozen=True)
class PredictionCache:
    """A folder of answers, a file for each video.

    Args:
        folder: Path. The folder; it need not exist.
        fingerprint: str. Of the model and how it is asked. Answers to other
            questions are not found.
    """

    folder: Path
    fingerprint: str

    def holds(self, source: Source, content: str) -> bool:
        """Returns whether a video has been answered about.

        Args:
            source: Source. The video.
            content: str. Hash of its content as it is now; "" if that is not
                known.
        """
        record = self._record(source)
        return bool(content) and record.get("content") == content

    def read(self, source: Source) -> Prediction | None:
        """Returns the answer about a video, or None if there is none."""
        record = self._record(source)
        return prediction_from(record["answer"]) if record else None

    def write(self, source: Source, content: str, found: Prediction) -> None:
        """Keeps an answer; one that failed is to be tried again.

        Args:
            source: Source. The video.
            content: str. Hash of its content before it was looked at.
            found: Prediction. The answer.
        """
        kept = "" if found.failed else content
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
    fields = dataclasses.asdict(found)
    if found.timeline:
        for name in ("edges", "probabilities"):
            fields["timeline"][name] = fields["timeline"][name].tolist()
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
        timeline = Timeline(
            tuple(timeline["class_names"]),
            np.array(timeline["edges"]),
            np.array(timeline["probabilities"]),
            tuple(Segment(**segment) for segment in timeline["segments"]),
        )
    return Prediction(**{**fields, "timeline": timeline})


def answers(
    classifier: Classifier, question: PredictRequest, named: Iterable[Named]
) -> Iterator[Prediction]:
    """Says what videos show, and writes what was asked for about each.

    Args:
        classifier: Classifier. A loaded one.
        question: PredictRequest. What is asked.
        named: Iterable of pairs. A `Source` and the name of the files about
            it; no two have the same.

    Yields:
        A `Prediction` each, in order; one that failed has a reason.
    """
    listed = list(named)
    found = classifier.predict_all(
        [source.path for source, _ in listed],
        fps=question.pictures_fps,
        timeline=question.timeline,
    )
    for (source, name), prediction in zip(listed, found, strict=True):
        shown = dataclasses.replace(prediction, name=source.name)
        if not shown.failed:
            base = question.output / name
            _write_files(classifier, question, source, shown, base)
        yield shown


def predict_many_by_beam(
    question: PredictRequest, named: Sequence[Named], options: str = ""
) -> Iterator[Prediction]:
    """Says what `answers` says, as an Apache Beam pipeline.

    Each answer is kept in the folder `answers` of the output, so that a
    pipeline which was stopped goes on where it was. One is asked for again if
    the model, the options or the video changed, or if it failed.

    Args:
        question: PredictRequest. What is asked. Model, videos and output are
            seen by all machines under the same names.
        named: Sequence of pairs. As for `answers`.
        options: str. Those of the pipeline, as `each_by_beam` has them.

    Yields:
        A `Prediction` each, in order; one that failed has a reason.

    Raises:
        UsageError: If the pipeline's options are wrong.
        EnvironmentFault: If Beam is missing, or a machine lacks something.
    """
    question = question.everywhere()
    kept = PredictionCache(question.output / "answers", question.fingerprint())
    found = [
        (
            dataclasses.replace(source, address=str(everywhere(source.path))),
            name,
        )
        for source, name in named
    ]
    size = 1 if question.timeline else _VIDEOS_AT_ONCE
    each_by_beam(
        [
            [(*dataclasses.astuple(source), name) for source, name in some]
            for some in (
                found[i : i + size] for i in range(0, len(found), size)
            )
        ],
        functools.partial(_keep, question, kept),
        question.output,
        options,
    )
    for source, _ in found:
        answer = kept.read(source)
        if answer is None:
            raise EnvironmentFault(
                f"The pipeline left no answer about '{source.name}' in "
                f"'{kept.folder}'. All its machines must see that folder "
                "under this name."
            )
        yield answer


def _keep(
    question: PredictRequest,
    kept: PredictionCache,
    listed: Sequence[Sequence[Any]],
) -> dict[str, str]:
    """Keeps the answers about some videos; returns why some have none."""
    named = [(Source(*fields), name) for *fields, name in listed]
    # Hashed before they are looked at: what changes meanwhile is asked again.
    contents = [content_hash(source.path) for source, _ in named]
    asked = [
        not kept.holds(source, content)
        for (source, _), content in zip(named, contents, strict=True)
    ]
    failed: dict[str, str] = {}
    missing = list(itertools.compress(named, asked))
    if not missing:
        return failed
    classifier = _loaded(question.run, kept.fingerprint)
    found = answers(classifier, question, missing)
    for (source, _), content, answer in zip(
        missing, itertools.compress(contents, asked), found, strict=True
    ):
        kept.write(source, content, answer)
        if answer.failed:
            failed[source.name] = answer.reason
    return failed


@functools.cache
def _loaded(where: str, fingerprint: str) -> Classifier:
    """Returns what answers, loaded once a process."""
    start_backend_of(where)
    return load(where)


def _files_of(path: Path) -> Iterable[Path]:
    """Returns the files that decide what a model answers."""
    if kind_of(path) == "run":
        run = Run(path)
        return (
            run.model_file, run.config_file, run.manifest_file,
            run.calibration_file, run.evaluation_file,
        )  # fmt: skip
    if path.is_dir():
        return (file for file in path.rglob("*") if file.is_file())
    return path.parent.glob(f"{path.stem}.*")


def _write_files(
    classifier: Classifier,
    question: PredictRequest,
    source: Source,
    found: Prediction,
    base: Path,
) -> None:
    """Writes what was asked for about one video."""
    from har_keras.report.attention_video import write_attention
    from har_keras.report.overlay import write_overlay
    from har_keras.report.timeline_files import write_timeline

    if found.timeline and question.timeline_files:
        write_timeline(found.timeline, found.name, base)
    if found.timeline and question.overlay:
        path = question.overlay
        if path.suffix.lower() != ".mp4":
            path /= f"{base.name}.mp4"
        limit = classifier.config.store.timeout_seconds
        write_overlay(
            source.path,
            found.timeline,
            path,
            timeout_seconds=limit,
            pictures_fps=question.pictures_fps,
        )
    if question.attention:
        write_attention(classifier, source.path, base, question.pictures_fps)
