"""`har-keras evaluate`: accuracy of a model on videos apart."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from har_keras import cli
from har_keras.errors import UsageError
from har_keras.hub_run import pinned
from har_keras.predict import TimelineOptions
from har_keras.ranges import RATIO, Metavar
from har_keras.run import ResultFiles, Run
from har_keras.terminal import printable

if TYPE_CHECKING:
    from har_keras.evaluation.result import Evaluation
    from har_keras.inference.timeline import TimelineConfig
    from har_keras.manifest.manifest import Manifest, Video
    from har_keras.store.store import Store

logger = logging.getLogger("har_keras")


@dataclass(frozen=True)
class EvaluateOptions(TimelineOptions):
    """Evaluates a run on its test split, or any model on a folder of videos.

    Where labels have times, whole videos are evaluated too, as predict
    --timeline localizes actions in them.
    """

    run: Annotated[str, tyro.conf.Positional, Metavar("RUN")]
    """Folder of a run; or, with --videos and --output, one on a hub, an
    exported model or the address of one on TensorFlow Serving, as for
    predict."""
    videos: Path | None = None
    """Another folder of videos, laid out as for train. Default: the run's."""
    split: Literal["train", "val", "test"] | None = None
    """Split to evaluate. Default: test of the run's own videos, all of another
    folder."""
    output: Path | None = None
    """Folder of the results. Default: the run for its test split, else
    RUN/evaluations/<folder or split>."""
    robustness: bool = False
    """Also measure accuracy under corruption: blur, noise, low light and so
    on."""
    accept_errors: Annotated[float | None, RATIO] = None
    """Choose the run's threshold of "none of these" anew: the share of
    accepted answers that may be wrong. Exports keep theirs until the next."""


def evaluate(
    run: Run | Path | str,
    videos: Path | str | None = None,
    *,
    split: str | None = None,
    output: Path | str | None = None,
    store: Store | None = None,
    robustness: bool = False,
    timeline: TimelineConfig | None = None,
    accept_errors: float | None = None,
) -> Evaluation:
    """Evaluates a model and writes figures, plots and a report.

    Args:
        run: Run, Path or str. A trained run; or, with `videos` and `output`,
            an exported model or the address of one, as `har_keras.load` takes.
        videos: Path, str or None. Another folder. Defaults to the run's own
            videos.
        split: str or None. Defaults to "test" of the run's own videos, and to
            every video of another folder.
        output: Path, str or None. Folder of the results. Defaults to the run
            for its own test split, else to a folder in `RUN/evaluations`.
        store: Store or None. The decoded frames of the run's own videos, where
            they are at hand; otherwise they are decoded.
        robustness: bool. Whether to measure on corrupted frames, too.
        timeline: TimelineConfig or None. How segments of whole videos are
            predicted where labels have times. Defaults to that of `predict`.
        accept_errors: float or None. Share of accepted answers that may be
            wrong, for which the threshold is chosen on the run's validation
            videos. Defaults to that of the run.

    Returns:
        An `Evaluation`: what is written to `evaluation.json`, with names.

    Raises:
        UsageError: If a path is wrong, or a class is none of the model's.
        DataError: If no video can be scored, or the run has no model.
    """
    from har_keras.inference.load import kind_of, start_backend_of

    if accept_errors is not None:
        _require_accept_errors(accept_errors, videos, run)
    where = pinned(run.path if isinstance(run, Run) else run)
    other = None if videos is None else Path(videos)
    chosen_output = None if output is None else Path(output)
    if kind_of(where) != "run":
        files = _output_apart(str(where), other, chosen_output)
        start_backend_of(where)
        return _evaluate_folder(
            where, other, files, split, robustness, timeline
        )
    opened = Run.open(where)
    files = _output(opened, other, split, chosen_output)
    start_backend_of(where)
    if other is not None:
        return _evaluate_folder(
            where, other, files, split, robustness, timeline
        )
    with opened.writing():
        return _evaluate_own(
            opened, files, split, store, robustness, timeline, accept_errors
        )


def _require_accept_errors(
    accept_errors: float, videos: Path | str | None, run: Run | Path | str
) -> None:
    """Refuses a new threshold where there are no validation videos for it."""
    from har_keras.inference.load import kind_of

    if not RATIO.holds(accept_errors):
        raise UsageError(
            f"--accept-errors must be {RATIO.text}. Received: {accept_errors}."
        )
    if videos is not None or not (
        isinstance(run, Run) or kind_of(run) == "run"
    ):
        raise UsageError(
            "--accept-errors chooses a run's threshold on its own validation "
            "videos. Leave out --videos, and name the folder of a run."
        )


def _evaluate_own(
    run: Run,
    files: ResultFiles,
    split: str | None,
    store: Store | None,
    robustness: bool,
    timeline: TimelineConfig | None,
    accept_errors: float | None,
) -> Evaluation:
    """Evaluates a run on a split of its own videos."""
    from har_keras.evaluation.measure import (
        fit_on_validation,
        own_videos,
        usable,
        with_views,
    )
    from har_keras.evaluation.timelines import require_labels_in_time
    from har_keras.inference.load import load, load_model
    from har_keras.manifest.manifest import Manifest
    from har_keras.report.evaluation_files import EvaluationTask

    listed = Manifest.read(run.manifest_file)
    tested = listed.split(split or "test") or listed.split(split or "val")
    require_labels_in_time(tested, timeline)
    manifest, store = own_videos(run, store)
    chosen, split = _chosen(manifest, split)
    model = load_model(run)
    videos = [*manifest.usable("val"), *usable(chosen)]
    store = with_views(store, model, run.config(), videos)
    config = run.config()
    if accept_errors is not None:
        config = config.changed({"accept_errors": accept_errors})
    fitted = fit_on_validation(run, model, store, manifest, config)
    logger.info("%s", fitted.verdict)
    task = EvaluationTask(
        load(run.path, model), store, manifest, chosen, split, timeline
    )
    results = task.measured(robustness)
    title = f"{run.path.resolve().name}: {split} videos"
    results.write(files, title, run.history_file)
    if files.path.resolve() == run.path.resolve():
        results.write_samples(run, split)
        results.write_card(run, model.count_params())
    return results.evaluation(files)


def _evaluate_folder(
    where: Path | str,
    videos: Path | None,
    files: ResultFiles,
    split: str | None,
    robustness: bool,
    timeline: TimelineConfig | None,
) -> Evaluation:
    """Evaluates a run, an exported model or a server on another folder."""
    from har_keras.evaluation.measure import other_videos, usable, with_views
    from har_keras.inference.load import load
    from har_keras.report.evaluation_files import EvaluationTask
    from har_keras.video.sources import without_password

    assert videos is not None
    classifier = load(where)
    manifest, store = other_videos(videos, classifier, timeline)
    chosen = manifest.split(split) if split else manifest.videos
    store = with_views(
        store, classifier.model, classifier.config, usable(chosen)
    )
    task = EvaluationTask(
        classifier, store, manifest, chosen, split or "all", timeline
    )
    results = task.measured(robustness)
    run = Run(where) if Run(where).config_file.is_file() else None
    name = run.path.resolve().name if run else str(where)
    name = without_password(name) if "://" in name else name
    title = f"{name} on {videos.resolve().name}: {task.split} videos"
    results.write(files, title, run.history_file if run else None)
    return results.evaluation(files)


def _chosen(
    manifest: Manifest, split: str | None
) -> tuple[Sequence[Video], str]:
    """Returns the videos to measure on and the name of their split."""
    chosen = manifest.split(split or "test")
    if not chosen and split is None:
        logger.warning(
            "There are no test videos, so the figures are of the validation "
            "videos, which chose the best epoch: they are optimistic."
        )
        return manifest.split("val"), "val"
    return chosen, split or "test"


def _output(
    run: Run, videos: Path | None, split: str | None, output: Path | None
) -> ResultFiles:
    """Returns the folder of the results of a run."""
    if output is not None:
        return _folder(output)
    run.require_no_links()
    if videos is not None:
        name = os.path.basename(os.path.realpath(videos)) or "videos"
        return ResultFiles(run.evaluations_dir / name)
    if split in (None, "test"):
        return run
    return ResultFiles(run.evaluations_dir / str(split))


def _output_apart(
    where: str, videos: Path | None, output: Path | None
) -> ResultFiles:
    """Returns the folder of the results of a model that is in no run."""
    if videos is None:
        raise UsageError(
            f"'{where}' is not a run, so it has no test videos of its own. "
            "Name a folder of them with --videos."
        )
    if output is None:
        raise UsageError(
            f"'{where}' is not a run, so there is no run directory for the "
            "results. Name a folder for them with --output."
        )
    return _folder(output)


def _folder(output: Path) -> ResultFiles:
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output must be a folder. '{output}' is a file.")
    return ResultFiles(output)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, evaluates and prints the figures."""

    def verb() -> None:
        options = cli.parse(EvaluateOptions, argv, verb="evaluate")
        found = evaluate(
            options.run,
            options.videos,
            split=options.split,
            output=options.output,
            robustness=options.robustness,
            timeline=_timeline(options),
            accept_errors=options.accept_errors,
        )
        print(_summary(found))

    return cli.run_verb(verb)


def _timeline(options: EvaluateOptions) -> TimelineConfig | None:
    """Returns how to merge windows, None if nothing was said of it."""
    from har_keras.inference.timeline import TimelineConfig

    chosen = options.timeline_config()
    return None if chosen == TimelineConfig() else chosen


def _summary(found: Evaluation) -> str:
    from har_keras.report.segment_files import segment_headline
    from har_keras.report.verdict import headline, percent

    lines = [f"Accuracy {percent(found.accuracy)}: {headline(found.figures)}"]
    lines += [segment_headline(found.segments)] if found.segments else []
    lines += [
        f"Not scored: {file}: {reason}" for file, reason in found.failed.items()
    ]
    return "\n".join(map(printable, [*lines, f"Report: {found.report}"]))


if __name__ == "__main__":
    sys.exit(main())
