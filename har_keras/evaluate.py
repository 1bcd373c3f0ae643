"""`python -m har_keras.evaluate`: what a model is worth, on videos apart."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from har_keras import cli
from har_keras.errors import UsageError
from har_keras.evaluation.measure import _decoded, _own
from har_keras.inference.load import load_model
from har_keras.report.evaluation_files import EvaluationTask
from har_keras.run import Run

if TYPE_CHECKING:
    from har_keras.inference.classifier import Classifier
    from har_keras.inference.load import Kind
    from har_keras.manifest.manifest import Manifest, Video
    from har_keras.store.store import Store

logger = logging.getLogger("har_keras")


@dataclass(frozen=True)
class EvaluateOptions:
    """Measures a run on its test split, or any model on a folder of videos."""

    run: Annotated[str, tyro.conf.Positional]
    """What is measured: the folder of a run; an exported model or the address
    of one on TensorFlow Serving, as for predict, with --videos and --output."""
    videos: Path | None = None
    """Another folder of videos, laid out as for train. Default: the run's."""
    split: Literal["train", "val", "test"] | None = None
    """Which part. Default: test of the run's videos, all of another folder."""
    output: Path | None = None
    """Folder of the results. Default: the run for its test split, else
    RUN/evaluations/<folder or split>."""
    robustness: bool = False
    """Measure on worse pictures, too: blurred, dark, grainy and so on."""


def evaluate(
    run: Run,
    videos: Path | None = None,
    *,
    split: str | None = None,
    output: Path | None = None,
    store: Store | None = None,
    robustness: bool = False,
) -> dict[str, Any]:
    """Measures a run and writes figures, pictures and a page about it.

    Args:
        run: Run. A trained one.
        videos: Path or None. Another folder. Defaults to the run's own videos.
        split: str or None. Defaults to "test" of the run's own videos, and to
            every video of another folder.
        output: Path or None. Folder of the results. Defaults to the run for
            its own test split, else to a folder in `RUN/evaluations`.
        store: Store or None. The decoded frames of the run's own videos, where
            they are at hand; otherwise they are decoded.
        robustness: bool. Whether to measure on worse pictures, too.

    Returns:
        What is written to `evaluation.json`.

    Raises:
        UsageError: If a path is wrong, or a class is none of the run's.
        DataError: If no video can be scored, or the run has no model.
    """
    from har_keras.evaluation.measure import fit_on_validation
    from har_keras.inference.load import load

    folder = _output(run, videos, split, output)
    if videos is not None:
        return evaluate_folder(
            load(run.path),
            videos,
            folder.path,
            name=run.path.resolve().name,
            split=split,
            robustness=robustness,
            history_file=run.history_file,
        )
    manifest, store = _own(run, store)
    chosen, split = _chosen(manifest, split)
    model = load_model(run)
    fit_on_validation(run, model, store, manifest, run.config())
    found = EvaluationTask(
        load(run.path, model), store, manifest, chosen, split
    )
    results = found.measured(robustness)
    title = f"{run.path.resolve().name}: {split} videos"
    results.write(folder, title, run.history_file)
    if folder.path.resolve() == run.path.resolve():
        results.write_samples(run, split)
        results.write_card(run, model.count_params())
    return dict(results.figures)


def evaluate_folder(
    classifier: Classifier,
    videos: Path,
    output: Path,
    *,
    name: str,
    split: str | None = None,
    robustness: bool = False,
    history_file: Path | None = None,
) -> dict[str, Any]:
    """Measures whatever answers on a folder of videos.

    Args:
        classifier: Classifier. As `har_keras.load` returns it.
        videos: Path. A folder, laid out as for train.
        output: Path. Folder of the results.
        name: str. What is measured, for the page.
        split: str or None. Defaults to every video.
        robustness: bool. Whether to measure on worse pictures, too.
        history_file: Path or None. That of the training, if it is known.

    Returns:
        What is written to `evaluation.json`.

    Raises:
        UsageError: If a path is wrong, or a class is none of the model's.
        DataError: If no video can be scored.
    """
    manifest, store = _decoded(videos, classifier)
    chosen = manifest.split(split) if split else manifest.videos
    found = EvaluationTask(classifier, store, manifest, chosen, split or "all")
    results = found.measured(robustness)
    title = f"{name} on {videos.resolve().name}: {found.split} videos"
    results.write(Run(output), title, history_file)
    return dict(results.figures)


def _chosen(
    manifest: Manifest, split: str | None
) -> tuple[Sequence[Video], str]:
    """Returns the videos to measure on and what to call them."""
    chosen = manifest.split(split or "test")
    if not chosen and split is None:
        logger.warning(
            "There are no test videos, so the figures are of the validation "
            "videos, by which the best epoch was chosen: they flatter."
        )
        return manifest.split("val"), "val"
    return chosen, split or "test"


def _output(
    run: Run, videos: Path | None, split: str | None, output: Path | None
) -> Run:
    """Returns the folder of the results, with the names of its files."""
    if output is not None:
        _require_folder(output)
        return Run(output)
    if videos is not None:
        return Run(run.evaluations_dir / (videos.resolve().name or "videos"))
    if split in (None, "test"):
        return run
    return Run(run.evaluations_dir / str(split))


def _require_folder(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output must be a folder. '{output}' is a file.")


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, measures and says what came out."""

    def verb() -> None:
        options = cli.parse(EvaluateOptions, argv, verb="evaluate")
        from har_keras.inference.load import kind_of, start_backend_of

        kind = kind_of(options.run)
        _require_sensible(options, kind)
        start_backend_of(options.run)
        if kind == "run":
            run = Run.open(Path(options.run))
            chosen = (options.videos, options.split, options.output)
            folder = _output(run, *chosen)
            figures = evaluate(
                run,
                options.videos,
                split=options.split,
                output=options.output,
                robustness=options.robustness,
            )
        else:
            figures, folder = _evaluate_apart(options)
        print(_summary(figures, folder))

    return cli.run_verb(verb)


def _evaluate_apart(options: EvaluateOptions) -> tuple[dict[str, Any], Run]:
    """Measures a model that is in no run directory."""
    from har_keras.inference.load import load
    from har_keras.video.sources import without_password

    assert options.videos is not None
    assert options.output is not None
    _require_folder(options.output)
    where = options.run
    figures = evaluate_folder(
        load(where),
        options.videos,
        options.output,
        name=without_password(where) if "://" in where else where,
        split=options.split,
        robustness=options.robustness,
    )
    return figures, Run(options.output)


def _require_sensible(options: EvaluateOptions, kind: Kind) -> None:
    """Refuses what can't work with a model that is in no run directory."""
    if kind == "run":
        return
    if options.videos is None:
        raise UsageError(
            f"'{options.run}' is no run, so it has no test videos of its own. "
            "Name a folder of them with --videos."
        )
    if options.output is None:
        raise UsageError(
            f"'{options.run}' is no run, so there is no run directory for the "
            "results. Name a folder for them with --output."
        )


def _summary(figures: dict[str, Any], folder: Run) -> str:
    from har_keras.report.evaluation_page import headline, percent

    lines = [f"Accuracy {percent(figures['accuracy'])}: {headline(figures)}"]
    lines += [
        f"Not scored: {video['file']}: {video['reason']}"
        for video in figures["failed"]
    ]
    return "\n".join([*lines, f"Report: {folder.report_file}"])


if __name__ == "__main__":
    sys.exit(main())
