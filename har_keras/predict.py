"""`python -m har_keras.predict`: what videos show, and when."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from har_keras import cli
from har_keras.beam import Pool, require_pool
from har_keras.errors import DataError, UsageError

if TYPE_CHECKING:
    from har_keras.inference.classifier import Classifier, Prediction
    from har_keras.inference.timeline import TimelineConfig
    from har_keras.video.sources import Source

logger = logging.getLogger("har_keras")

Format = Literal["table", "json", "csv"]


@dataclass(frozen=True)
class PredictOptions:
    """Says what videos show; with --timeline, what is seen when.

    A video that can't be read is named and the rest go on; the exit code at
    the end is 3.
    """

    run: Annotated[str, tyro.conf.Positional]
    """What answers: the folder of a run; an exported model (a folder of
    saved_model, or a file .onnx, .tflite or .xml); or a model on TensorFlow
    Serving, as http://HOST:8501/v1/models/har or grpc://HOST:8500/har."""
    videos: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Files, folders, globs, folders of pictures, camera:0, addresses; - reads
    a list from the standard input, one a line."""
    format: Format = "table"
    """How answers are printed: a table for people, JSON lines, or CSV."""
    timeline: bool = False
    """Find segments, and write each video's into OUTPUT as CSV, JSON, SRT,
    WebVTT and a picture."""
    output: Path = Path("predictions")
    """Folder of the files about timelines and attention."""
    overlay: Path | None = None
    """Write the video with the answer drawn on it: a file for one video, a
    folder for several. Finds segments, too."""
    attention: bool = False
    """Write where the model looked into OUTPUT: a video and a strip."""
    hop_seconds: float = 1.0
    """Seconds from one window of a timeline to the next."""
    smooth_seconds: float = 3.0
    """Seconds over which a timeline's probabilities are averaged."""
    threshold: float = 0.5
    """Calibrated probability from which a segment has a class; else "none"."""
    hysteresis: float = 0.1
    """Lead that another class needs to end a segment."""
    min_seconds: float = 2.0
    """Shorter segments go to their longer neighbour."""
    pictures_fps: float = 25.0
    """Pictures per second in a folder of pictures."""
    allow_network: bool = False
    """Open addresses: http, https, rtsp."""
    max_seconds: float = 0.0
    """End a live source after so long; 0 goes on until Ctrl-C."""
    pool: Pool = "local"
    """What answers: this program, or an Apache Beam pipeline, whose machines
    see RUN, the videos and OUTPUT under the same names. Its answers are kept
    in OUTPUT, and not asked for again."""
    beam_options: str = ""
    """Options of the pipeline, as in "runner=FlinkRunner
    flink_master=host:8081". Default: Beam's runner on this machine."""


def predict(
    classifier: Classifier,
    sources: Sequence[Source],
    *,
    timeline: TimelineConfig | None = None,
    pictures_fps: float = 25.0,
) -> Iterator[Prediction]:
    """Says what each of many videos shows.

    Args:
        classifier: Classifier. A loaded one.
        sources: Sequence of Source. Files and folders of pictures.
        timeline: TimelineConfig or None. Whether and how to find segments.
        pictures_fps: float. Pictures per second in a folder of pictures.

    Yields:
        A `Prediction` each, in order; one that failed has a reason.
    """
    paths = [source.path for source in sources]
    yield from classifier.predict_all(
        paths, fps=pictures_fps, timeline=timeline
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags and prints what the videos show."""

    def verb() -> None:
        options = cli.parse(PredictOptions, argv, verb="predict")
        sources = _sources(options)
        _require_sensible(options, sources)
        from har_keras.inference.load import load, start_backend_of
        from har_keras.report.printing import PRINTERS

        start_backend_of(options.run)
        classifier = load(options.run)
        show = PRINTERS[options.format](classifier.class_names)
        if sources[0].kind == "live":
            from har_keras.inference.live import watch

            for found in watch(
                classifier,
                sources[0],
                _timeline_config(options),
                max_seconds=options.max_seconds,
            ):
                show(found)
            return
        failed = 0
        for found in _answers(classifier, sources, options):
            _say_what_is_wrong(found, not found.failed)
            show(found)
            failed += found.failed
        if failed:
            raise DataError(
                f"{failed} of {len(sources)} videos could not be used; the "
                "reasons are above."
            )

    return cli.run_verb(verb)


def _answers(
    classifier: Classifier, sources: Sequence[Source], options: PredictOptions
) -> Iterator[Prediction]:
    """Returns what the pool of the options says of videos."""
    from har_keras.report.predictions import (
        PredictRequest,
        answers,
        predict_many_by_beam,
    )
    from har_keras.video.sources import own_names

    question = PredictRequest(
        options.run,
        options.output,
        _timeline(options),
        options.timeline,
        options.overlay,
        options.attention,
        options.pictures_fps,
    )
    named = list(zip(sources, own_names(sources), strict=True))
    if options.pool == "beam":
        return predict_many_by_beam(question, named, options.beam_options)
    return answers(classifier, question, named)


def _say_what_is_wrong(found: Prediction, usable: bool) -> None:
    if not usable:
        logger.warning("'%s' can't be used: %s.", found.name, found.reason)
    elif found.reason:
        logger.warning("'%s' is used in part: %s.", found.name, found.reason)


def _timeline(options: PredictOptions) -> TimelineConfig | None:
    """Returns how to find segments, or None where nobody asks for them."""
    chosen = _timeline_config(options)
    return chosen if options.timeline or options.overlay else None


def _timeline_config(options: PredictOptions) -> TimelineConfig:
    from har_keras.inference.timeline import TimelineConfig

    return TimelineConfig(
        options.hop_seconds,
        options.smooth_seconds,
        options.threshold,
        options.hysteresis,
        options.min_seconds,
    ).validated()


def _sources(options: PredictOptions) -> list[Source]:
    from har_keras.video.sources import find_sources

    sources = find_sources(
        options.videos, lines=sys.stdin, allow_network=options.allow_network
    )
    if not sources:
        raise UsageError(
            "There is nothing to look at. Name a video, a folder, a glob, "
            "camera:0 or an address after the run."
        )
    return sources


def _require_sensible(
    options: PredictOptions, sources: Sequence[Source]
) -> None:
    """Refuses combinations that can't work, before anything is loaded."""
    _timeline_config(options)
    require_pool(options.pool, options.beam_options)
    one_file = options.overlay and options.overlay.suffix.lower() == ".mp4"
    if one_file and len(sources) > 1:
        raise UsageError(
            f"--overlay {options.overlay} is one file, for {len(sources)} "
            "videos. Give a folder."
        )
    live = [source.name for source in sources if source.kind == "live"]
    if live and len(sources) > 1:
        raise UsageError(
            f"'{live[0]}' goes on without end, so nothing else is looked at "
            "beside it. Start another program for each."
        )
    if live and (options.timeline or options.attention):
        raise UsageError(
            "--timeline and --attention write files about videos that end; "
            f"'{live[0]}' is live."
        )
    files = {source.address for source in sources if source.kind == "file"}
    if options.overlay and str(options.overlay) in files:
        raise UsageError(
            f"--overlay {options.overlay} is the video itself. Give another "
            "name."
        )
    if options.overlay and live:
        raise UsageError(
            f"--overlay draws on videos that end; '{live[0]}' is live."
        )
    _require_possible(options, live)


def _require_possible(options: PredictOptions, live: Sequence[str]) -> None:
    """Refuses what the kind of model that answers can't do."""
    from har_keras.inference.load import kind_of

    kind = kind_of(options.run)
    if options.pool == "beam" and (kind == "server" or live):
        raise UsageError(
            "--pool beam loads a model on each of its machines, about videos "
            "that end: give a run or an exported model, and files."
        )
    if options.attention and kind != "run":
        raise UsageError(
            "--attention looks into the model, which only the folder of a run "
            f"has. Received: {options.run}."
        )


if __name__ == "__main__":
    sys.exit(main())
