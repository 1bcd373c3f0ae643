"""Answers about many videos: by this program, or by an Apache Beam pipeline."""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from har_keras import __version__
from har_keras.beam import each_by_beam, everywhere
from har_keras.errors import EnvironmentFault
from har_keras.inference.classifier import Classifier, Prediction
from har_keras.inference.load import kind_of, load, start_backend_of
from har_keras.inference.timeline import TimelineConfig
from har_keras.manifest.manifest import content_hash
from har_keras.report.kept_answers import KeptAnswers
from har_keras.run import Run
from har_keras.video.sources import Source

# What one machine of a pipeline takes at once; of long videos it takes one.
_VIDEOS_AT_ONCE = 8

Named = tuple[Source, str]


@dataclass(frozen=True)
class Question:
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

    def everywhere(self) -> "Question":
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


def answers(
    classifier: Classifier, question: Question, named: Iterable[Named]
) -> Iterator[Prediction]:
    """Says what videos show, and writes what was asked for about each.

    Args:
        classifier: Classifier. A loaded one.
        question: Question. What is asked.
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


def answers_by_beam(
    question: Question, named: Sequence[Named], options: str = ""
) -> Iterator[Prediction]:
    """Says what `answers` says, as an Apache Beam pipeline.

    Each answer is kept in the folder `answers` of the output, so that a
    pipeline which was stopped goes on where it was. One is asked for again if
    the model, the options or the video changed, or if it failed.

    Args:
        question: Question. What is asked. Model, videos and output are seen
            by all machines under the same names.
        named: Sequence of pairs. As for `answers`.
        options: str. Those of the pipeline, as `each_by_beam` has them.

    Yields:
        A `Prediction` each, in order; one that failed has a reason.

    Raises:
        UsageError: If the pipeline's options are wrong.
        EnvironmentFault: If Beam is missing, or a machine lacks something.
    """
    question = question.everywhere()
    kept = KeptAnswers(question.output / "answers", question.fingerprint())
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
    question: Question, kept: KeptAnswers, listed: Sequence[Sequence[Any]]
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
    question: Question,
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
