"""`python -m har_keras.train`: a folder of videos into a run.

Keras and TensorFlow are imported inside the functions, once the flags are
known to be right: `--help` and a slip on the command line answer at once.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from har_keras import cli
from har_keras.config import Config, MaskingConfig
from har_keras.environment import start_backend
from har_keras.errors import UsageError
from har_keras.recipes import RECIPES
from har_keras.run import Run
from har_keras.training.fingerprint import reopened
from har_keras.training.hosts import is_chief

logger = logging.getLogger("har_keras")

if TYPE_CHECKING:
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.store import Store


@dataclass(frozen=True)
class TrainOptions:
    """Trains a classifier on a folder of videos, tests it and exports it."""

    videos: Annotated[Path, tyro.conf.Positional] = Path("data")
    """Folder of videos: <class>/..., {train,val,test}/<class>/..., or one with
    a manifest.csv (columns file and class; optional split and group) or with
    lists train.txt, val.txt, test.txt (a path and a label a line)."""
    run_dir: Path | None = None
    """New folder for everything the run makes. Default: runs/<date>-<time>."""
    sample: bool = False
    """Draw the sample videos first, into VIDEOS/sample, and train on them."""
    resume: Path | None = None
    """Go on with the run in this folder, exactly where it stopped."""
    config: Path | None = None
    """TOML file of options; flags have the last word."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


def train(
    videos: Path, run_dir: Path | None = None, config: Config | None = None
) -> Run:
    """Trains a classifier on a folder of videos and returns its run.

    The videos are listed and split by group, decoded once into the store,
    trained on, and the best model by validation is tested and exported.

    Args:
        videos: Path. The folder of videos.
        run_dir: Path or None. A new folder. Defaults to `runs/<date>-<time>`.
        config: Config or None. Every option. Defaults to `Config()`.

    Returns:
        The `Run`, finished.

    Raises:
        UsageError: If a path or an option is wrong.
        DataError: If the videos can't be trained on.
        EnvironmentFault: If the disk is full or a package is missing.
    """
    import keras

    from har_keras.manifest.manifest import Manifest
    from har_keras.store.duplicates import report_leaks
    from har_keras.store.preparation import prepare
    from har_keras.training.hosts import start_together

    config = config or Config()
    config = config.replace(backend=keras.config.backend())
    recipe = config.training.recipe
    _require_options_of_train(config)
    logger.info("Recipe %s: %s.", recipe, RECIPES[recipe].reason)
    run, config, is_chief = start_together(run_dir, config)
    if not is_chief:
        return _train_and_test(run, config, *reopened(run, config))
    manifest = Manifest.from_folder(
        videos,
        val_fraction=config.split.val_fraction,
        test_fraction=config.split.test_fraction,
        seed=config.split.split_seed,
    )
    store, manifest = prepare(manifest, config.clip, config.store)
    recommend_recipe(config, len(manifest.usable("train")))
    report_leaks(store, manifest, strict=config.split.strict)
    if config.store.cache == "auto":
        # JPEG loses a little, so a run that goes on must find the same form.
        config = config.replace(cache=store.spec.form)
    run.create(config)
    manifest.write(run.manifest_file)
    return _train_and_test(run, config, store, manifest)


def resume(run: Run, config: Config | None = None) -> Run:
    """Goes on with a run that was stopped, from its last checkpoint.

    Args:
        run: Run. It has a config, a manifest and, if it got that far, a
            checkpoint.
        config: Config or None. Options that decide the weights must be those
            of the run. Defaults to the run's own.

    Returns:
        The same `Run`, finished.

    Raises:
        UsageError: If an option is another; it is named.
        DataError: If a video is another, or nothing whole is left to go on
            from.
    """
    from har_keras.training.hosts import join_hosts

    config = config or run.config()
    if run.is_pretraining:
        raise UsageError(
            f"'{run.path}' is a run of pretrain. Go on with it by `python -m "
            f"har_keras.pretrain --resume {run.path}`."
        )
    join_hosts(config.hosts)
    return _train_and_test(run, config, *reopened(run, config))


def recommend_recipe(config: Config, num_videos: int) -> None:
    """Says which recipe is for so few videos, where none was chosen.

    Args:
        config: Config. That of the training.
        num_videos: int. Videos to train on.
    """
    chosen = config.training.recipe != "plain" or config.model.stem != "pixels"
    if num_videos <= _FEW_VIDEOS and not chosen:
        logger.info(
            "%d training videos are few for a transformer that starts from "
            "nothing: --recipe small-data is for that.",
            num_videos,
        )


def _require_options_of_train(config: Config) -> None:
    if config.training.recipe == "pretrain":
        raise UsageError("The recipe pretrain is for the verb pretrain.")
    if config.masking != MaskingConfig():
        raise UsageError("--mask-ratio and --decoder-... are for pretrain.")


def _train_and_test(
    run: Run, config: Config, store: Store, manifest: Manifest
) -> Run:
    from har_keras.evaluate import evaluate
    from har_keras.export import export
    from har_keras.training.fit import fit
    from har_keras.training.hosts import current_hosts, leave_hosts

    if not current_hosts().is_chief:
        fit(run, config, store, manifest)
        leave_hosts()
        return run
    with cli.log_file(run.log_file):
        log = fit(run, config, store, manifest)
        leave_hosts()
        evaluation = evaluate(run, store=store)
        export(run)
    log.finish(
        {f"test_{name}": evaluation[name] for name in _FINAL_FIGURES},
        {
            "curves": run.curves_file,
            "confusion": run.confusion_file,
            "samples": run.samples_file("test"),
        },
    )
    return run


# Where the recipe small-data was found to do better.
_FEW_VIDEOS = 500
_FINAL_FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "majority_accuracy",
    "num_videos",
    "num_failed",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, trains and says where everything is."""

    def verb() -> None:
        options = cli.parse(TrainOptions, argv, verb="train")
        start_backend(options.settings.training.backend)
        if options.resume:
            run = resume(Run.open(options.resume), options.settings)
        else:
            run = train(_videos(options), options.run_dir, options.settings)
        if is_chief():
            print(_summary(run))

    code = cli.run_verb(verb)
    # Where the package was never needed, as after --help, none is joined.
    joined = sys.modules.get("har_keras.training.hosts")
    return joined.end_on_error(code) if joined else code


def _videos(options: TrainOptions) -> Path:
    """Returns the folder to train on; draws the sample videos if asked."""
    if not options.sample:
        return options.videos
    from har_keras.sample.samples import sample

    folder = options.videos / "sample"
    return folder if folder.is_dir() else sample(folder)


def _summary(run: Run) -> str:
    """Returns the closing words: how good it is, where it is, what next."""
    evaluation = json.loads(run.evaluation_file.read_text("utf-8"))
    tested = evaluation["num_videos"]
    lines = [
        f"Test accuracy {evaluation['accuracy']:.3f} on {tested} of "
        f"{tested + evaluation['num_failed']} videos (majority class: "
        f"{evaluation['majority_accuracy']:.3f})",
        *(
            f"  {row['class']:12} recall {row['recall']:.3f}  "
            f"precision {row['precision']:.3f}  {row['support']} videos"
            for row in evaluation["per_class"]
        ),
        f"Report       {run.report_file}  (open it in a browser)",
        f"Model        {run.model_file}",
        f"To serve     {run.saved_model_dir}",
        f"Next         python -m har_keras.predict {run.path} VIDEO.mp4",
        f"             python -m har_keras.evaluate {run.path} --videos FOLDER",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
