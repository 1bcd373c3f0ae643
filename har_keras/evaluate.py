"""`python -m har_keras.evaluate`: what a run is worth, on videos apart."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from har_keras import cli
from har_keras.errors import DataError, UsageError
from har_keras.run import Run

if TYPE_CHECKING:
    import numpy as np

    from har_keras.config import Config
    from har_keras.video.manifest import Manifest, Video
    from har_keras.video.store import Store

logger = logging.getLogger("har_keras")


@dataclass(frozen=True)
class EvaluateOptions:
    """Measures a run on its test split, or on another folder of videos."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    videos: Path | None = None
    """Another folder of videos, laid out as for train. Default: the run's."""
    split: Literal["train", "val", "test"] | None = None
    """Which part. Default: test of the run's videos, all of another folder."""
    output: Path | None = None
    """Folder of the results. Default: the run for its test split, else
    RUN/evaluations/<folder or split>."""


def evaluate(
    run: Run,
    videos: Path | None = None,
    *,
    split: str | None = None,
    output: Path | None = None,
    store: Store | None = None,
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

    Returns:
        What is written to `evaluation.json`.

    Raises:
        UsageError: If a path is wrong, or a class is none of the run's.
        DataError: If no video can be scored, or the run has no model.
    """
    from har_keras.reporting.results import Results

    config = run.config()
    manifest, store = _decoded(run, videos, store, config)
    folder = _output(run, videos, split, output)
    chosen, split = _chosen(manifest, split, every=videos is not None)
    model = load_model(run)
    figures, probabilities = _measured(model, store, manifest, chosen, config)
    figures["split"] = split
    results = Results(
        manifest, store, config, _usable(chosen), probabilities, figures
    )
    results.write(folder, _title(run, videos, split), run.history_file)
    if folder.path.resolve() == run.path.resolve():
        results.write_samples(run, split)
        results.write_card(run, model.count_params())
    return figures


def load_model(run: Run) -> Any:
    """Returns the trained model of a run, a `keras.Model`.

    Raises:
        DataError: If the run has none.
    """
    import keras

    import har_keras.model.build  # noqa: F401  (registers the models' classes)

    if not run.model_file.is_file():
        raise DataError(
            f"'{run.path}' has no {run.model_file.name}: its training was "
            "stopped before the end of an epoch. Go on with `python -m "
            f"har_keras.train --resume {run.path}`."
        )
    return keras.models.load_model(run.model_file, compile=False)


def _decoded(
    run: Run, videos: Path | None, store: Store | None, config: Config
) -> tuple[Manifest, Store]:
    """Returns the videos to measure on, under the run's classes, decoded."""
    from har_keras.prepare import prepare
    from har_keras.video.manifest import Manifest

    own = Manifest.read(run.manifest_file)
    if videos is None:
        if store is not None:
            return own, store
        store, own = prepare(own, config.clip, config.store)
        return own, store
    other = Manifest.from_folder(
        videos, val_fraction=0.0, test_fraction=0.0, seed=0
    )
    _demand_known_classes(own, other)
    splits = [video.split for video in other.videos]
    store, other = prepare(_all_in(other, "train"), config.clip, config.store)
    other = other.with_videos(
        dataclasses.replace(video, split=name)
        for video, name in zip(other.videos, splits, strict=True)
    )
    return dataclasses.replace(other, class_names=own.class_names), store


def _all_in(manifest: Manifest, split: str) -> Manifest:
    """Returns a manifest in one split, for there is nothing to train on."""
    return manifest.with_videos(
        dataclasses.replace(video, split=split) for video in manifest.videos
    )


def _demand_known_classes(run: Manifest, other: Manifest) -> None:
    strange = sorted(set(other.class_names) - set(run.class_names))
    if strange:
        raise UsageError(
            f"'{other.root}' has classes that the run was not trained on: "
            f"{', '.join(strange)}. The run's are {', '.join(run.class_names)}."
        )


def _chosen(
    manifest: Manifest, split: str | None, *, every: bool
) -> tuple[Sequence[Video], str]:
    """Returns the videos to measure on and what to call them."""
    if split is None and every:
        return manifest.videos, "all"
    chosen = manifest.split(split or "test")
    if not chosen and split is None:
        logger.warning(
            "There are no test videos, so the figures are of the validation "
            "videos, by which the best epoch was chosen: they flatter."
        )
        return manifest.split("val"), "val"
    return chosen, split or "test"


def _measured(
    model: Any,
    store: Store,
    manifest: Manifest,
    chosen: Sequence[Video],
    config: Config,
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the figures, and the probabilities of the videos scored."""
    import numpy as np

    from har_keras.progress import ProgressBar
    from har_keras.reporting.metrics import evaluate_predictions
    from har_keras.reporting.results import versions
    from har_keras.reporting.views import CONTROLS, predict_videos

    scored = _usable(chosen)
    labels = np.array([manifest.label(video) for video in scored], dtype=int)
    found = {}
    with ProgressBar("Evaluating", len(scored) * (1 + len(CONTROLS))) as bar:
        for control in (None, *CONTROLS):
            found[control] = predict_videos(
                model, store, manifest, scored, config.clip, config.evaluation,
                control=control, progress=bar.advance,
            )  # fmt: skip
    figures = evaluate_predictions(
        labels,
        found[None],
        class_names=manifest.class_names,
        groups=[video.group for video in scored],
        failed=[(v.file, v.reason) for v in chosen if not v.kept_frames],
    )
    figures["views"] = dataclasses.asdict(config.evaluation)
    figures["controls"] = {
        control: float((found[control].argmax(1) == labels).mean())
        for control in CONTROLS
    }
    figures["damaged"] = [
        {"file": v.file, "reason": v.reason} for v in scored if v.reason
    ]
    figures["versions"] = versions()
    return figures, found[None]


def _usable(videos: Sequence[Video]) -> list[Video]:
    return [video for video in videos if video.kept_frames]


def _title(run: Run, videos: Path | None, split: str) -> str:
    name = run.path.resolve().name
    where = f" on {videos.resolve().name}" if videos else ""
    return f"{name}{where}: {split} videos"


def _output(
    run: Run, videos: Path | None, split: str | None, output: Path | None
) -> Run:
    """Returns the folder of the results, with the names of its files."""
    if output is not None:
        if output.exists() and not output.is_dir():
            raise UsageError(
                f"--output must be a folder. '{output}' is a file."
            )
        return Run(output)
    if videos is not None:
        return Run(run.evaluations_dir / (videos.resolve().name or "videos"))
    if split in (None, "test"):
        return run
    return Run(run.evaluations_dir / str(split))


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, measures the run and says what came out."""

    def verb() -> None:
        options = cli.parse(EvaluateOptions, argv, verb="evaluate")
        run = Run.open(options.run)
        cli.start_backend(run.config().training.backend)
        figures = evaluate(
            run, options.videos, split=options.split, output=options.output
        )
        folder = _output(run, options.videos, options.split, options.output)
        print(_summary(figures, folder))

    return cli.run_verb(verb)


def _summary(figures: dict[str, Any], folder: Run) -> str:
    from har_keras.reporting.report import headline, percent

    lines = [f"Accuracy {percent(figures['accuracy'])}: {headline(figures)}"]
    lines += [
        f"Not scored: {video['file']}: {video['reason']}"
        for video in figures["failed"]
    ]
    return "\n".join([*lines, f"Report: {folder.report_file}"])


if __name__ == "__main__":
    sys.exit(main())
