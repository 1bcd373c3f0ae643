"""`python -m har_keras.evaluate`: what a run is worth, on videos apart."""

from __future__ import annotations

import dataclasses
import functools
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from har_keras import cli
from har_keras.errors import UsageError
from har_keras.reporting.loading import load_model
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
    from har_keras.reporting.results import Results
    from har_keras.reporting.rollout import attention_rollout

    config = run.config()
    manifest, store = _decoded(run, videos, store, config)
    folder = _output(run, videos, split, output)
    chosen, split = _chosen(manifest, split, every=videos is not None)
    model = load_model(run)
    if videos is None:
        fit_on_validation(run, model, store, manifest, config)
    figures, probabilities = _measured(
        model, store, manifest, chosen, config, robustness
    )
    figures["split"] = split
    figures["frames"] = store.spec.form
    figures["calibrated"] = _calibrated(
        run, manifest, _usable(chosen), probabilities
    )
    results = Results(
        manifest,
        store,
        config,
        _usable(chosen),
        probabilities,
        figures,
        functools.partial(attention_rollout, model)
        if config.model.model == "vit"
        else None,
    )
    results.write(folder, _title(run, videos, split), run.history_file)
    if folder.path.resolve() == run.path.resolve():
        results.write_samples(run, split)
        results.write_card(run, model.count_params())
    return figures


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
    robustness: bool,
) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the figures, and the probabilities of the videos scored."""
    import numpy as np

    from har_keras.progress import ProgressBar
    from har_keras.reporting.metrics import evaluate_predictions
    from har_keras.reporting.ranking import ranking
    from har_keras.reporting.results import versions
    from har_keras.reporting.robustness import DAMAGES
    from har_keras.reporting.views import CONTROLS, predict_videos

    scored = _usable(chosen)
    labels = np.array([manifest.label(video) for video in scored], dtype=int)
    damages = DAMAGES if robustness else ()
    passes = 1 + len(CONTROLS) + len(damages)
    with ProgressBar("Evaluating", len(scored) * passes) as bar:

        def predicted(**options: Any) -> np.ndarray:
            return predict_videos(
                model, store, manifest, scored, config.clip, config.evaluation,
                progress=bar.advance, **options,
            )  # fmt: skip

        def accuracy(**options: Any) -> float:
            return float((predicted(**options).argmax(1) == labels).mean())

        probabilities = predicted()
        controls = {name: accuracy(control=name) for name in CONTROLS}
        worse = [
            {
                "name": damage.name,
                "what": damage.text,
                "accuracy": accuracy(change=damage.change),
            }
            for damage in damages
        ]
    figures = evaluate_predictions(
        labels,
        probabilities,
        class_names=manifest.class_names,
        groups=[video.group for video in scored],
        failed=[(v.file, v.reason) for v in chosen if not v.kept_frames],
    )
    figures["views"] = dataclasses.asdict(config.evaluation)
    figures["controls"] = controls
    figures["robustness"] = worse
    figures["ranking"] = ranking(labels, probabilities, manifest.class_names)
    figures["damaged"] = [
        {"file": v.file, "reason": v.reason} for v in scored if v.reason
    ]
    figures["versions"] = versions()
    return figures, probabilities


def fit_on_validation(
    run: Run, model: Any, store: Store, manifest: Manifest, config: Config
) -> None:
    """Fits the run's temperatures on its validation videos, and keeps them.

    Args:
        run: Run. Where they are written.
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`.
        store: Store. The decoded frames.
        manifest: Manifest. The run's own videos.
        config: Config. That of the run.
    """
    import numpy as np

    from har_keras.progress import ProgressBar
    from har_keras.reporting.calibration import fit_calibration
    from har_keras.reporting.views import predict_views_of_videos

    videos = manifest.usable("val")
    labels = np.array([manifest.label(video) for video in videos], dtype=int)
    with ProgressBar("Calibrating", len(videos)) as bar:
        views = predict_views_of_videos(
            model, store, manifest, videos, config.clip, config.evaluation,
            progress=bar.advance,
        )  # fmt: skip
    fit_calibration(labels, views).write(run)


def _calibrated(
    run: Run,
    manifest: Manifest,
    scored: Sequence[Video],
    probabilities: np.ndarray,
) -> dict[str, Any]:
    """Returns the calibration at the temperature of the run."""
    import numpy as np

    from har_keras.reporting.calibration import Calibration, soften
    from har_keras.reporting.metrics import calibration

    fitted = Calibration.read(run)
    labels = np.array([manifest.label(video) for video in scored], dtype=int)
    softened = soften(probabilities, fitted.temperature)
    return {
        **dataclasses.asdict(fitted),
        **calibration(labels, softened),
    }


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
            run,
            options.videos,
            split=options.split,
            output=options.output,
            robustness=options.robustness,
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
