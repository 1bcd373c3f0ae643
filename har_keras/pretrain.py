"""`har-keras pretrain`: a run from videos without labels."""

from __future__ import annotations

import csv
import dataclasses
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from har_keras import cli
from har_keras.config import Config
from har_keras.environment import start_backend
from har_keras.errors import UsageError
from har_keras.progress import plural
from har_keras.ranges import Metavar
from har_keras.run import Run
from har_keras.terminal import log_file, printable, shell_word

logger = logging.getLogger("har_keras")

if TYPE_CHECKING:
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.store import Store


def _defaults() -> Config:
    return Config().replace(recipe="pretrain")


# Without what needs labels, and what the masked autoencoder has not.
_FLAGS = cli.Flags(
    (
        "clip", "store", "split", "model", "training", "hosts", "masking",
        "logging",
    ),
    without=(
        "recipe", "model", "stem", "attention", "num_temporal_layers",
        "label_smoothing", "mixup", "cutmix", "balance", "no_flip_classes",
        "background",
    ),
    common=(
        "epochs", "batch_size", "learning_rate", "crop_size", "mask_ratio",
        "seed", "backend", "wandb",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class PretrainOptions:
    """Pretrains a masked autoencoder on unlabeled videos (VideoMAE).

    `har-keras train VIDEOS --weights RUN` then fine-tunes it.
    """

    videos: Annotated[Path, tyro.conf.Positional, Metavar("[VIDEOS]")] = Path(
        "data"
    )
    """Folder of videos; labels are not used. One that is sorted by class is
    split as train does, and its test videos are left out."""
    run_dir: Path | None = None
    """New folder for the results. Default: runs/<date>-<time>."""
    use_test: bool = False
    """Train on the test videos, too; only if nobody tests on them."""
    resume: Path | None = None
    """Resume the interrupted run in this folder; ends with the same weights
    as an uninterrupted one."""
    config: Path | None = None
    """TOML file of options; command-line flags take precedence."""
    settings: Annotated[Config, _FLAGS] = field(default_factory=_defaults)


def pretrain(
    videos: Path | str,
    run_dir: Path | str | None = None,
    config: Config | None = None,
    *,
    use_test: bool = False,
) -> Run:
    """Pretrains a model on a folder of videos and returns its run.

    A masked autoencoder reconstructs the hidden parts of clips. Its encoder
    gives the initial weights of a classifier, with
    `train(..., Config().replace(weights=run.path))`.

    Args:
        videos: Path or str. A folder of any layout; labels are not used.
        run_dir: Path, str or None. A new folder. Defaults to
            `runs/<date>-<time>`.
        config: Config or None. Every option. Defaults to the recipe
            "pretrain".
        use_test: bool. Whether to train on test videos, too.

    Returns:
        The `Run`, finished.

    Raises:
        UsageError: If a path or an option is wrong.
        DataError: If the folder has no usable video.
        EnvironmentFault: If the disk is full or a package is missing.

    Reference:
        - [Tong et al., 2022](https://arxiv.org/abs/2203.12602).
    """
    config = config or _defaults()
    if config.training.recipe != "pretrain":
        raise UsageError(
            "pretrain has one recipe, pretrain, and flags to change it. "
            f"Received: recipe {config.training.recipe}."
        )
    config = config.replace(backend=start_backend(config.training.backend))
    from har_keras.training.fingerprint import reopened
    from har_keras.training.hosts import start_together
    from har_keras.training.initial_weights import exact_weights

    config = config.replace(weights=exact_weights(config.model.weights))
    run, config, is_chief = start_together(run_dir, config)
    if not is_chief:
        return _pretrain(run, config, *reopened(run, config))
    with run.writing():
        prepared = _prepared(run, Path(videos), config, use_test=use_test)
        return _pretrain(run, *prepared)


def _prepared(
    run: Run, videos: Path, config: Config, *, use_test: bool
) -> tuple[Config, Store, Manifest]:
    """Lists and decodes the videos of a new run, and makes it."""
    from har_keras.manifest.manifest import Manifest
    from har_keras.store.preparation import decode_all, require_usable
    from har_keras.store.scenes import settle_groups

    manifest = Manifest.without_labels(
        videos,
        val_fraction=config.split.val_fraction,
        test_fraction=0.0 if use_test else config.split.test_fraction,
        seed=config.split.split_seed,
        group_by=config.split.group_by,
    )
    store, manifest = decode_all(manifest, config.clip, config.store)
    # The test videos have to be those of train, which looks at the scenes.
    manifest, _ = settle_groups(store, manifest)
    manifest = _without_test(manifest, use_test=use_test)
    require_usable(manifest)
    config = config.replace(cache=store.spec.form)  # not "auto" again
    run.create(config)
    manifest.write(run.manifest_file)
    return config, store, manifest


def _without_test(manifest: Manifest, *, use_test: bool) -> Manifest:
    """Returns the manifest without test videos, or with them to train on."""
    tested = manifest.split("test")
    if use_test:
        return manifest.with_videos(
            dataclasses.replace(video, split="train")
            if video.split == "test"
            else video
            for video in manifest.videos
        )
    if tested:
        logger.info("%s left out.", plural(len(tested), "test video"))
    return manifest.with_videos(v for v in manifest.videos if v.split != "test")


def resume(run: Run, config: Config | None = None) -> Run:
    """Resumes an interrupted run from its last checkpoint.

    Args:
        run: Run. One of `pretrain`.
        config: Config or None. Defaults to the run's own.

    Returns:
        The same `Run`, finished.

    Raises:
        UsageError: If an option is another, or the run is one of `train`.
        DataError: If a video changed, or nothing is left to resume.
    """
    config = config or run.config()
    if not run.is_pretraining:
        raise UsageError(
            f"'{run.path}' is a run of train. Resume it with: "
            f"{run.resume_command}"
        )
    start_backend(config.training.backend)
    from har_keras.training.fingerprint import reopened
    from har_keras.training.hosts import join_hosts

    if not join_hosts(config.hosts).is_chief:
        return _pretrain(run, config, *reopened(run, config))
    with run.writing():
        return _pretrain(run, config, *reopened(run, config))


def _pretrain(
    run: Run, config: Config, store: Store, manifest: Manifest
) -> Run:
    from har_keras.inference.load import load_any_model
    from har_keras.report.film_strips import reconstruction_strips
    from har_keras.report.plots import plot_curves, plot_samples
    from har_keras.training.fit import fit
    from har_keras.training.hosts import current_hosts, leave_hosts
    from har_keras.training.pretraining import PRETRAINING

    if not current_hosts().is_chief:
        fit(run, config, store, manifest, PRETRAINING)
        leave_hosts()
        return run
    with log_file(run.log_file):
        log = fit(run, config, store, manifest, PRETRAINING)
        leave_hosts()
        with run.resumable():
            plot_curves(run.history_file, run.curves_file)
            strips = reconstruction_strips(
                load_any_model(run), store, manifest, config
            )
            plot_samples(strips, run.reconstruction_file)
    log.finish(
        {},
        {
            "curves": run.curves_file,
            "reconstruction": run.reconstruction_file,
        },
    )
    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, pretrains and prints what to do next."""

    def verb() -> None:
        options = cli.parse(PretrainOptions, argv, verb="pretrain")
        if options.resume:
            run = resume(Run.open(options.resume), options.settings)
        else:
            run = pretrain(
                options.videos,
                options.run_dir,
                options.settings,
                use_test=options.use_test,
            )
        from har_keras.training.hosts import is_chief

        if is_chief():
            print(_summary(run))

    code = cli.run_verb(verb)
    # Where the package was never needed, as after --help, none is joined.
    joined = sys.modules.get("har_keras.training.hosts")
    return joined.end_on_error(code) if joined else code


def _summary(run: Run) -> str:
    with run.history_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    name = "val_loss" if rows[0].get("val_loss") else "loss"
    lines = [
        f"Reconstruction error {float(rows[0][name]):.3f} after the first "
        f"epoch, {min(float(row[name]) for row in rows):.3f} at best (1 is "
        "that of a plain gray).",
        f"Examples     {run.reconstruction_file}",
        f"Next         har-keras train VIDEOS --weights {shell_word(run.path)}",
    ]
    return "\n".join(map(printable, lines))


if __name__ == "__main__":
    sys.exit(main())
