"""`har-keras train`: a folder of videos into a run.

Keras and TensorFlow are imported inside the functions, once the flags are
known to be right, so that `--help` and a wrong flag take no time.
"""

from __future__ import annotations

import logging
import math
import statistics
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
from har_keras.evaluation.result import Evaluation
from har_keras.phases import Phases
from har_keras.ranges import Metavar
from har_keras.recipes import RECIPES
from har_keras.run import Run
from har_keras.terminal import log_file, printable, shell_word

logger = logging.getLogger("har_keras")

if TYPE_CHECKING:
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.store import Store


_FLAGS = cli.Flags(
    (
        "clip", "store", "split", "model", "features", "training", "hosts",
        "evaluation", "logging",
    ),
    common=(
        "recipe", "backbone", "weights", "epochs", "batch_size",
        "learning_rate", "crop_size", "seed", "backend", "wandb",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class TrainOptions:
    """Trains a classifier on a folder of videos, evaluates and exports it."""

    videos: Annotated[Path, tyro.conf.Positional, Metavar("[VIDEOS]")] = Path(
        "data"
    )
    """Folder of videos: <class>/..., {train,val,test}/<class>/..., or one with
    a manifest.csv (columns file and class; optional split, group, start, end)
    or with lists train.txt, val.txt, test.txt (a path and a label per line)."""
    run_dir: Path | None = None
    """New folder for the results. Default: runs/<date>-<time>."""
    sample: bool = False
    """Generate sample videos in VIDEOS/sample and train on them."""
    resume: Path | None = None
    """Resume the interrupted run in this folder; ends with the same weights
    as an uninterrupted one."""
    config: Path | None = None
    """TOML file of options; command-line flags take precedence."""
    settings: Annotated[Config, _FLAGS] = field(default_factory=Config)


def train(
    videos: Path | str,
    run_dir: Path | str | None = None,
    config: Config | None = None,
) -> Run:
    """Trains a classifier on a folder of videos and returns its run.

    The videos are listed and split by group, decoded once into the store and
    trained on; the best model by validation is evaluated on the test videos
    and exported.

    Args:
        videos: Path or str. The folder of videos.
        run_dir: Path, str or None. A new folder. Defaults to
            `runs/<date>-<time>`.
        config: Config or None. Every option. Defaults to `Config()`.

    Returns:
        The `Run`, finished.

    Raises:
        UsageError: If a path or an option is wrong.
        DataError: If the videos can't be trained on.
        EnvironmentFault: If the disk is full or a package is missing.
    """
    config = config or Config()
    _require_train_options(config)
    config = config.replace(backend=start_backend(config.training.backend))
    from har_keras.backbones.catalog import require_backbone
    from har_keras.training.fingerprint import reopened
    from har_keras.training.hosts import start_together
    from har_keras.training.initial_weights import exact_weights

    recipe = config.training.recipe
    config = config.replace(weights=exact_weights(config.model.weights))
    require_backbone(config.features, config.clip)
    logger.info("Recipe %s: %s.", recipe, RECIPES[recipe].reason)
    run, config, is_chief = start_together(run_dir, config)
    phases = Phases()
    if not is_chief:
        return _train_and_test(run, phases, config, *reopened(run, config))
    with run.writing():
        prepared = _prepared(run, phases, Path(videos), config)
        return _train_and_test(run, phases, *prepared)


def _prepared(
    run: Run, phases: Phases, videos: Path, config: Config
) -> tuple[Config, Store, Manifest]:
    """Lists, decodes and checks the videos of a new run, and makes it."""
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.duplicates import report_leaks
    from har_keras.store.preparation import decode_usable
    from har_keras.store.scenes import settle_groups

    with phases("listing"):
        manifest = Manifest.from_folder(
            videos,
            val_fraction=config.split.val_fraction,
            test_fraction=config.split.test_fraction,
            seed=config.split.split_seed,
            group_by=config.split.group_by,
            background=config.split.background,
        )
    with phases("decoding"):
        store, manifest = decode_usable(manifest, config.clip, config.decoding)
    with phases("comparing"):
        manifest, duplicates = settle_groups(store, manifest)
    recommend_recipe(config, len(manifest.usable("train")))
    recommend_rate(config, manifest)
    report_leaks(duplicates, manifest, strict=config.split.strict)
    if config.store.cache == "auto":
        # JPEG is lossy, so a resumed run must find frames in the same format.
        config = config.replace(cache=store.spec.form)
    run.create(config)
    manifest.write(run.manifest_file)
    return config, store, manifest


def resume(run: Run, config: Config | None = None) -> Run:
    """Resumes an interrupted run from its last checkpoint.

    Args:
        run: Run. It has a config, a manifest and, if it got that far, a
            checkpoint.
        config: Config or None. Options that decide the weights must be those
            of the run. Defaults to the run's own.

    Returns:
        The same `Run`, finished.

    Raises:
        UsageError: If an option is another; it is named.
        DataError: If a video changed, or nothing is left to resume.
    """
    config = config or run.config()
    start_backend(config.training.backend)
    from har_keras.training.fingerprint import reopened
    from har_keras.training.hosts import join_hosts

    if run.is_pretraining:
        raise UsageError(
            f"'{run.path}' is a run of pretrain. Resume it with: "
            f"{run.resume_command}"
        )
    phases = Phases()
    if not join_hosts(config.hosts).is_chief:
        return _train_and_test(run, phases, config, *reopened(run, config))
    with run.writing():
        with phases("decoding"):
            prepared = reopened(run, config)
        return _train_and_test(run, phases, config, *prepared)


def recommend_recipe(config: Config, num_videos: int) -> None:
    """Recommends the recipe for few videos, where none was chosen.

    Args:
        config: Config. That of the training.
        num_videos: int. Videos to train on.
    """
    if num_videos <= _FEW_VIDEOS and _starts_from_nothing(config):
        logger.info(
            "%d training videos are few for a transformer trained from "
            "scratch. %s",
            num_videos,
            _RECOMMENDED,
        )


def recommend_rate(config: Config, manifest: Manifest) -> None:
    """Recommends shorter clips where most labels in time are shorter.

    Args:
        config: Config. That of the training.
        manifest: Manifest. The videos, with the times of their labels.
    """
    lengths = [
        video.end - (video.start or 0)
        for video in manifest.usable("train")
        if video.end is not None
    ]
    clip = config.clip
    if not lengths or clip.span_seconds <= 1.5 * statistics.median(lengths):
        return
    typical = statistics.median(lengths)
    logger.info(
        "A clip spans %.1f s, and half of the labels are shorter than %.1f s: "
        "--fps %g finds segments more exactly.",
        clip.span_seconds,
        typical,
        math.ceil(clip.num_frames / typical),
    )


def _starts_from_nothing(config: Config) -> bool:
    pixels = config.model.weights == "random" and config.model.stem == "pixels"
    return pixels and config.features.backbone == "none"


def _require_train_options(config: Config) -> None:
    if config.training.recipe == "pretrain":
        raise UsageError(
            "--recipe pretrain is for `har-keras pretrain`. Choose "
            "plain, quick, small-data, transfer or finetune."
        )
    if config.masking != MaskingConfig():
        raise UsageError(
            "mask_ratio and decoder_dim, _layers and _heads are options of "
            "`har-keras pretrain`. Remove them."
        )


def _train_and_test(
    run: Run, phases: Phases, config: Config, store: Store, manifest: Manifest
) -> Run:
    from har_keras.evaluate import evaluate
    from har_keras.export import export
    from har_keras.features.preparation import prepared_features
    from har_keras.training.fit import fit
    from har_keras.training.hosts import current_hosts, leave_hosts

    with phases("features"), run.resumable():
        store = prepared_features(store, manifest, config)
    if not current_hosts().is_chief:
        fit(run, config, store, manifest)
        leave_hosts()
        return run
    with log_file(run.log_file):
        with phases("training"):
            log = fit(run, config, store, manifest)
        leave_hosts()
        with phases("evaluation"), run.resumable():
            evaluation = evaluate(run, store=store)
        with phases("export"), run.resumable():
            export(run)
        phases.write(run.phases_file)
        logger.info("%s", phases)
    log.finish(
        {f"test_{name}": evaluation[name] for name in _FINAL_FIGURES},
        {
            "curves": run.curves_file,
            "confusion": run.confusion_file,
            "samples": run.samples_file("test"),
        },
    )
    return run


# Up to here the recipe transfer was more accurate.
_FEW_VIDEOS = 500
_RECOMMENDED = (
    "For own videos --recipe transfer starts from a pretrained network; the "
    "README has the difference."
)
_FINAL_FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "majority_accuracy",
    "num_videos",
    "num_failed",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, trains and prints where everything is."""

    def verb() -> None:
        options = cli.parse(TrainOptions, argv, verb="train")
        if options.resume:
            run = resume(Run.open(options.resume), options.settings)
        else:
            run = train(_videos(options), options.run_dir, options.settings)
        from har_keras.training.hosts import is_chief

        if is_chief():
            print(_summary(run))

    code = cli.run_verb(verb)
    # Where the package was never needed, as after --help, none is joined.
    joined = sys.modules.get("har_keras.training.hosts")
    return joined.end_on_error(code) if joined else code


def _videos(options: TrainOptions) -> Path:
    """Returns the folder to train on; generates the sample videos for it."""
    if not options.sample:
        return options.videos
    folder = options.videos / "sample"
    from har_keras.sample.samples import sample

    return folder if folder.is_dir() else sample(folder)


def _summary(run: Run) -> str:
    """Returns the closing words: how good it is, where it is, what next."""
    from har_keras.manifest.manifest import Manifest
    from har_keras.report.segment_files import segment_headline

    found, path = Evaluation.read(run), shell_word(run.path)
    split = "Validation" if found["split"] == "val" else "Test"
    lines = [
        f"{split} accuracy {found.accuracy:.3f} on {found.num_videos} of "
        f"{found.num_videos + found.num_failed} {found.unit} (majority class: "
        f"{found.majority_accuracy:.3f})",
        *(f"  {name:12} {row}" for name, row in found.per_class.items()),
        *([segment_headline(found.segments)] if found.segments else []),
        f"Report       {run.report_file}  (open it in a browser)",
        f"Model        {run.model_file}",
        f"To serve     {run.saved_model_dir}",
        f"Next         har-keras predict {path} VIDEO.mp4"
        + " --timeline" * bool(found.segments),
        f"             har-keras evaluate {path} --videos FOLDER",
    ]
    few = len(Manifest.read(run.manifest_file).usable("train")) <= _FEW_VIDEOS
    if few and _starts_from_nothing(run.config()):
        lines.append(f"Better       {_RECOMMENDED}")
    return "\n".join(map(printable, lines))


if __name__ == "__main__":
    sys.exit(main())
