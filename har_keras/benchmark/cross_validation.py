"""The recipe benchmark: recipes compared by cross-validation over groups."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.errors import DataError, Interrupted, UsageError
from har_keras.files import remove, whole_file
from har_keras.manifest.folds import drawn, folds
from har_keras.manifest.manifest import Manifest
from har_keras.run import Run
from har_keras.store.preparation import decode_usable
from har_keras.store.scenes import settle_groups

Predict = Callable[..., np.ndarray]
# Environment variables that limit the threads of libraries.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Trial:
    """One training run and its test.

    Args:
        name: str. The recipe.
        fold: str. The number of the fold that is tested, or "test".
        config: Config. Every option, including the seed.
        manifest: Manifest. Decoded videos; the split "test" is tested.
        folder: Path. The run directory. It stores the result, so that an
            interrupted study can resume.
    """

    name: str
    fold: str
    config: Config
    manifest: Manifest
    folder: Path

    @property
    def result_file(self) -> Path:
        """The file of the result, which exists when the trial is done."""
        return self.folder / "trial.json"


def benchmark_recipes(
    videos: Path,
    recipes: Mapping[str, Config],
    *,
    num_folds: int = 5,
    num_seeds: int = 3,
    on_test: bool = False,
    sizes: Sequence[int] = (0,),
    jobs: int = 1,
    output: Path = Path("study"),
) -> list[dict[str, Any]]:
    """Trains each recipe on each fold with each seed, and prints a table.

    Args:
        videos: Path. The folder of videos.
        recipes: Mapping from recipe name to `Config`.
        num_folds: int. Number of folds. Defaults to `5`.
        num_seeds: int. Runs per recipe and fold. Defaults to `3`.
        on_test: bool. Whether to test on the test split of the folder instead
            of on folds of the other videos. Defaults to `False`.
        sizes: Sequence of int. Videos of each class to train on, with
            `on_test`; 0 is all. Defaults to all.
        jobs: int. Parallel runs. Defaults to `1`.
        output: Path. Folder of the results. Defaults to `study`.

    Returns:
        A list of dicts: a row per recipe and seed, and one per recipe.

    Raises:
        UsageError: If a number is out of range.
        DataError: If the folder has too few groups, or no test split.
    """
    from har_keras.benchmark.study import (
        plot_study,
        study_rows,
        study_table,
        write_study,
    )
    from har_keras.inference.views import predict_videos
    from har_keras.progress import ProgressBar

    for name, number in (("seeds", num_seeds), ("jobs", jobs)):
        if number < 1:
            raise UsageError(
                f"--{name} must be at least 1. Received: {number}."
            )
    trials = [
        Trial(
            name,
            fold,
            chosen.replace(seed=seed),
            part,
            output / "trials" / f"{name}-{seed}-{fold}",
        )
        for recipe, config in recipes.items()
        for chosen, manifest in [_decoded(videos, config, on_test)]
        for size in sizes
        for name in [f"{recipe}, {size} a class" if size else recipe]
        for seed in range(num_seeds)
        for fold, part in _parts(
            manifest, config, seed, size, 0 if on_test else num_folds
        )
    ]
    with ProgressBar("Training", len(trials)) as bar:
        results = []
        for result in run_trials(trials, predict_videos, jobs=jobs):
            results.append(result)
            bar.advance()
    order = list(dict.fromkeys(trial.name for trial in trials))
    results.sort(key=lambda r: (order.index(r["recipe"]), r["seed"], r["fold"]))
    rows = study_rows(results, len(trials[0].manifest.class_names))
    labels = [video["label"] for r in results for video in r["videos"]]
    majority = max(map(labels.count, set(labels))) / len(labels)
    name = "test" if on_test else "study"
    write_study(rows, output / f"{name}.csv")
    plot_study(rows, majority, output / f"{name}.png")
    print(study_table(rows))
    return rows


def run_trials(
    trials: Sequence[Trial], predict: Predict, *, jobs: int = 1
) -> Iterator[dict[str, Any]]:
    """Runs trials in parallel and yields their results as they complete.

    Results that exist are read. Each trial has its own process, so that memory
    and CPU time are its own, and an equal share of the cores.

    Args:
        trials: Sequence of Trial.
        predict: Callable. Returns the probabilities of videos, as
            `har_keras.inference.views.predict_videos` does.
        jobs: int. Parallel trials. Defaults to `1`.

    Yields:
        A dict per trial: `recipe`, `seed`, `fold`, `seconds`, `cpu_seconds`,
        and `videos`, a list of dicts of `file`, `group`, `label` and
        `probabilities`.
    """
    open_trials = []
    for trial in trials:
        if trial.result_file.is_file():
            yield json.loads(trial.result_file.read_text("utf-8"))
        else:
            open_trials.append(trial)
    context = multiprocessing.get_context("spawn")
    with (
        _environment_of_each(jobs),
        ProcessPoolExecutor(
            jobs,
            mp_context=context,
            initializer=_depend_on_parent,
            initargs=(tempfile.gettempdir(),),
            max_tasks_per_child=1,
        ) as pool,
    ):
        waiting = [
            pool.submit(run_trial, trial, predict) for trial in open_trials
        ]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except (KeyboardInterrupt, Interrupted, GeneratorExit):
            for process in multiprocessing.active_children():
                process.kill()  # a trial may take hours
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _depend_on_parent(temporary: str) -> None:
    """Leaves Ctrl-C to the parent process, and ends with it in any case.

    Args:
        temporary: str. The parent's folder of temporary files, which it
            removes, also what a killed trial left.
    """
    tempfile.tempdir = temporary
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def run_trial(trial: Trial, predict: Predict) -> dict[str, Any]:
    """Runs one trial in this process.

    Args:
        trial: Trial.
        predict: Callable. As for `run_trials`.

    Returns:
        dict. The result, which is also written to `trial.result_file`.
    """
    from har_keras.environment import start_backend

    start_backend(trial.config.training.backend)
    from har_keras.features.preparation import prepared_features
    from har_keras.inference.load import load_model
    from har_keras.store.preparation import decode_all
    from har_keras.training.fit import fit

    began, cpu_began = time.monotonic(), time.process_time()
    remove(trial.folder)  # of an interrupted trial
    run = Run(trial.folder)
    run.create(trial.config)
    clip = trial.config.clip
    store, manifest = decode_all(trial.manifest, clip, trial.config.store)
    store = prepared_features(store, manifest, trial.config)
    fit(run, trial.config, store, manifest)
    model = load_model(run)
    tested = manifest.usable("test")
    probabilities = predict(
        model, store, manifest, tested, clip, trial.config.evaluation
    )
    result = {
        "recipe": trial.name,
        "seed": trial.config.training.seed,
        "fold": trial.fold,
        "seconds": time.monotonic() - began,
        "cpu_seconds": time.process_time() - cpu_began,
        "videos": [
            {
                "file": video.name,
                "group": video.group,
                "label": manifest.label(video),
                "probabilities": row.tolist(),
            }
            for video, row in zip(tested, probabilities, strict=True)
        ],
    }
    remove(run.checkpoint_dir)
    with whole_file(trial.result_file) as file:
        file.write_text(json.dumps(result), "utf-8")
    return result


def _parts(
    manifest: Manifest, config: Config, seed: int, size: int, num_folds: int
) -> Iterator[tuple[str, Manifest]]:
    """Yields manifests to train and test on, by the name of their test."""
    val_fraction = config.split.val_fraction
    if num_folds:
        found = folds(
            manifest,
            num_folds,
            val_fraction=val_fraction,
            seed=config.split.split_seed,
        )
        yield from ((str(number), part) for number, part in enumerate(found))
    elif size:
        part = drawn(manifest, size, val_fraction=val_fraction, seed=seed)
        yield "test", part
    else:
        yield "test", manifest


def _decoded(
    videos: Path, config: Config, on_test: bool
) -> tuple[Config, Manifest]:
    """Returns the config with the store's format, and the decoded videos."""
    manifest = Manifest.from_folder(
        videos,
        val_fraction=config.split.val_fraction if on_test else 0.0,
        test_fraction=0.0,
        seed=config.split.split_seed,
        group_by=config.split.group_by,
        background=config.split.background,
    )
    store, manifest = decode_usable(manifest, config.clip, config.decoding)
    manifest, _ = settle_groups(store, manifest)
    if on_test and not manifest.usable("test"):
        raise DataError(f"'{videos}' has no usable videos in a test split.")
    return config.replace(cache=store.spec.form, wandb="off"), manifest


@contextlib.contextmanager
def _environment_of_each(jobs: int) -> Iterator[None]:
    """Divides the cores among the processes that are started meanwhile.

    What they leave in the folder of temporary files goes with this process.
    """
    share = str(max(1, (os.cpu_count() or 1) // jobs))
    before = {name: os.environ.get(name) for name in ("TMPDIR", *_THREADS)}
    os.environ["TMPDIR"] = tempfile.gettempdir()
    if jobs > 1:
        os.environ.update(dict.fromkeys(_THREADS, share))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
