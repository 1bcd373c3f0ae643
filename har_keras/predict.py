"""`har-keras predict`: classes of videos, and segments in time."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from har_keras import cli
from har_keras.beam import Pool, require_pool
from har_keras.errors import DataError, UsageError
from har_keras.hub_run import pinned
from har_keras.progress import plural
from har_keras.ranges import NOT_NEGATIVE, RATE, Metavar, require_ranges

if TYPE_CHECKING:
    from har_keras.inference.classifier import Prediction
    from har_keras.inference.timeline import TimelineConfig
    from har_keras.report.predictions import PredictRequest
    from har_keras.video.sources import Source

logger = logging.getLogger("har_keras")

Format = Literal["table", "json", "csv"]


@dataclass(frozen=True, kw_only=True)
class TimelineOptions:
    """How segments in time are predicted, by predict and by evaluate."""

    hop_seconds: Annotated[float, cli.Advanced] = 1.0
    """Seconds between the windows of a timeline."""
    smooth_seconds: Annotated[float, cli.Advanced] = 3.0
    """Length of the moving average over a timeline's probabilities."""
    threshold: float | None = None
    """Smallest calibrated probability of a segment's class; else "none".
    Default: that of the model, chosen on validation."""
    max_distance: Annotated[float | None, cli.Advanced] = None
    """Largest distance of a segment from the training videos; else "none".
    Default: that of the model, chosen on validation."""
    hysteresis: Annotated[float, cli.Advanced] = 0.1
    """Lead in probability that another class needs to end a segment."""
    min_seconds: Annotated[float, cli.Advanced] = 2.0
    """Segments shorter than this are merged into their longer neighbor."""

    def timeline_config(self) -> TimelineConfig:
        """Returns them, checked."""
        from har_keras.inference.timeline import TimelineConfig

        names = [x.name for x in dataclasses.fields(TimelineConfig)]
        values = {name: getattr(self, name) for name in names}
        return TimelineConfig(**values).validated()


@dataclass(frozen=True)
class PredictOptions(TimelineOptions):
    """Classifies videos; --timeline also localizes actions in time.

    A video that shows none of the classes, as far as the model can tell, is
    "none of these"; the nearest class is named beside it. A video that can't
    be read is named and the others are classified; the exit code is then 3.
    """

    run: Annotated[str, tyro.conf.Positional, Metavar("RUN")]
    """Folder of a run; one on Hugging Face's hub, hf://OWNER/NAME[@REVISION];
    an exported model (a folder of saved_model, or a file .onnx, .tflite or
    .xml); or the address of a model on TensorFlow Serving, as
    http://HOST:8501/v1/models/har or grpc://HOST:8500/har."""
    videos: Annotated[
        tuple[str, ...], tyro.conf.Positional, Metavar("VIDEO ...")
    ]
    """Files, folders, globs, folders of images, camera:0, addresses; - reads a
    list from standard input, one per line."""
    format: Format = "table"
    """Output format: table for people, json (lines) or csv."""
    timeline: bool = False
    """Localize actions in time; write the segments of each video into OUTPUT
    as CSV, JSON, SRT, WebVTT and a plot."""
    output: Path | None = None
    """Folder for the files of --timeline and --attention. Default:
    predictions."""
    overlay: Path | None = None
    """Write the video with its predictions drawn on it: a file for one video,
    a folder for several. Also localizes actions."""
    attention: bool = False
    """Write attention maps into OUTPUT: a video and a film strip."""
    images_fps: Annotated[float, RATE, cli.Advanced] = 25.0
    """Frame rate of a folder of images."""
    allow_network: bool = False
    """Allow addresses to be opened: http, https, rtsp."""
    max_seconds: Annotated[float, NOT_NEGATIVE, cli.Advanced] = 0.0
    """Stop a live source after so many seconds; 0 runs until Ctrl-C."""
    pool: Annotated[Pool, cli.Advanced] = "local"
    """Where to compute: local, or an Apache Beam pipeline whose machines see
    RUN, the videos and OUTPUT under the same paths (extra beam). Predictions
    are cached in OUTPUT."""
    beam_options: Annotated[str, cli.Advanced] = ""
    """Options of the pipeline, as in "runner=FlinkRunner
    flink_master=host:8081". Default: Beam's runner on this machine."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of many videos, computed as they are iterated over.

    Args:
        class_names: tuple of str. Classes in label order.
        each: Iterator of Prediction. In the order of the videos; one that
            failed has a reason.
    """

    class_names: tuple[str, ...]
    each: Iterator[Prediction]

    def __iter__(self) -> Iterator[Prediction]:
        return self.each


def predict(
    request: PredictRequest,
    videos: Sequence[str],
    *,
    allow_network: bool = False,
    live: TimelineConfig | None = None,
    max_seconds: float = 0.0,
    pool: Pool = "local",
    beam_options: str = "",
) -> Predictions:
    """Classifies videos, and writes the files that were requested of each.

    Args:
        request: PredictRequest. The model, timeline, and files to write.
        videos: Sequence of str. Files, folders, globs, folders of images, "-"
            for a list on standard input; or one camera or stream.
        allow_network: bool. Whether addresses may be opened.
        live: TimelineConfig or None. How predictions of a live source are
            smoothed. Defaults to `TimelineConfig()`.
        max_seconds: float. When to stop a live source; 0 never does.
        pool: str. "local" or "beam". Defaults to `"local"`.
        beam_options: str. Options of the pipeline.

    Returns:
        `Predictions`, which compute one `Prediction` after the other.

    Raises:
        UsageError: If nothing is found, or the options contradict.
        DataError: If there is no such run, or no such camera.
        EnvironmentFault: If a server or a package is missing.
    """
    require_pool(pool, beam_options)
    sources = _sources(videos, allow_network)
    _require_sensible(request, sources, pool)
    from har_keras.inference.live import watch
    from har_keras.inference.load import load
    from har_keras.inference.timeline import TimelineConfig
    from har_keras.report.predictions import predict_many, predict_many_by_beam
    from har_keras.video.live import require_camera
    from har_keras.video.sources import own_names

    require_camera(sources[0])
    request = dataclasses.replace(request, run=pinned(request.run))
    is_live = sources[0].kind == "live"
    allow_export = not (is_live or request.needs_run)
    classifier = load(request.run, allow_export=allow_export)
    if is_live:
        live = live or TimelineConfig()
        logger.info(
            "Watching '%s': the first answer comes when a clip of %g s is "
            "full. Ctrl-C ends it.",
            sources[0].name,
            round(classifier.config.clip.span_seconds, 1),
        )
        found = watch(classifier, sources[0], live, max_seconds=max_seconds)
        return Predictions(classifier.class_names, found)
    named = list(zip(sources, own_names(sources), strict=True))
    if pool == "beam":
        found = predict_many_by_beam(request, named, beam_options)
    else:
        found = predict_many(classifier, request, named)
    return Predictions(classifier.class_names, found)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags and prints the predictions."""

    def verb() -> None:
        options = cli.parse(PredictOptions, argv, verb="predict")
        require_ranges(options)
        predictions = predict(
            _request(options),
            options.videos,
            allow_network=options.allow_network,
            live=options.timeline_config(),
            max_seconds=options.max_seconds,
            pool=options.pool,
            beam_options=options.beam_options,
        )
        from har_keras.report.printing import PRINTERS

        show = PRINTERS[options.format](predictions.class_names)
        counts: Counter[str] = Counter()
        for found in _shown(predictions, show):
            counts[_outcome(found)] += 1
        show.close()
        _require_all(counts)

    return cli.run_verb(verb)


def _request(options: PredictOptions) -> PredictRequest:
    from har_keras.report.predictions import PredictRequest

    timeline = options.timeline_config()
    writes = options.timeline or options.attention or options.pool == "beam"
    if options.output is not None and not writes:
        raise UsageError(
            "--output is the folder of the files of --timeline and "
            f"--attention. Received: --output {options.output} without either; "
            "add --timeline, or write the table with --format csv > FILE."
        )
    return PredictRequest(
        options.run,
        options.output or Path("predictions"),
        timeline if options.timeline or options.overlay else None,
        options.timeline,
        options.overlay,
        options.attention,
        options.images_fps,
    )


def _shown(
    predictions: Iterable[Prediction], show: Callable[[Prediction], object]
) -> Iterator[Prediction]:
    """Prints predictions as they come."""
    for found in predictions:
        _warn_of(found)
        show(found)
        yield found


def _outcome(found: Prediction) -> str:
    if found.failed:
        return "failed"
    return "unwritten" if found.unwritten else "done"


def _require_all(counts: Counter[str]) -> None:
    """Raises if something was not done; counts are by `_outcome`."""
    total = plural(counts.total(), "video")
    told = []
    if counts["failed"]:
        told.append(f"{counts['failed']} of {total} could not be used")
    if counts["unwritten"]:
        told.append(f"files of {counts['unwritten']} of {total} are missing")
    if told:
        raise DataError(f"{', and '.join(told)}; the reasons are above.")


def _warn_of(found: Prediction) -> None:
    if found.failed:
        logger.warning("'%s' can't be used: %s.", found.name, found.reason)
    elif found.reason:
        logger.warning("'%s': %s.", found.name, found.reason)
    if found.unwritten:
        logger.warning(
            "The files of '%s' could not all be written: %s.",
            found.name,
            found.unwritten,
        )


def _sources(videos: Sequence[str], allow_network: bool) -> list[Source]:
    from har_keras.video.sources import find_sources

    sources = find_sources(videos, lines=sys.stdin, allow_network=allow_network)
    if not sources:
        raise UsageError(
            "No video was found. Name a video, a folder, a glob, camera:0 or "
            "an address after the run."
        )
    return sources


def _require_sensible(
    request: PredictRequest, sources: Sequence[Source], pool: Pool
) -> None:
    """Refuses combinations that can't work, before anything is loaded."""
    overlay = request.overlay
    one_file = overlay and overlay.suffix.lower() == ".mp4"
    if one_file and len(sources) > 1:
        raise UsageError(
            f"--overlay {overlay} is one file, for {len(sources)} videos. "
            "Give a folder."
        )
    files = {source.address for source in sources if source.kind == "file"}
    if overlay and str(overlay) in files:
        raise UsageError(
            f"--overlay {overlay} is the video itself. Give another name."
        )
    live = [source.name for source in sources if source.kind == "live"]
    if live:
        _require_live(request, live[0], len(sources))
    _require_possible(request, pool, bool(live))


def _require_live(request: PredictRequest, name: str, num_sources: int) -> None:
    """Refuses what a source that does not end can't have."""
    if num_sources > 1:
        raise UsageError(
            f"'{name}' is live and does not end, so it must be the only "
            "source. Start another process for each."
        )
    if request.timeline_files or request.attention:
        raise UsageError(
            "--timeline and --attention write files of videos that end; "
            f"'{name}' is live."
        )
    if request.overlay:
        raise UsageError(
            f"--overlay draws on videos that end; '{name}' is live."
        )


def _require_possible(request: PredictRequest, pool: Pool, live: bool) -> None:
    """Refuses what the kind of model can't do."""
    from har_keras.inference.load import kind_of

    kind = kind_of(request.run)
    if pool == "beam" and (kind == "server" or live):
        raise UsageError(
            "--pool beam loads a model on each of its machines and reads "
            "videos that end: give a run or an exported model, and files."
        )
    if request.attention and kind not in ("run", "hub"):
        raise UsageError(
            "--attention needs the weights, which only a run has. Received: "
            f"{request.run}."
        )


if __name__ == "__main__":
    sys.exit(main())
