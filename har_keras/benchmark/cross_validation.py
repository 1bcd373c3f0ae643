"""Many small trainings, each in a process of its own, one result each."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.files import remove, whole_file
from har_keras.manifest.folds import folds
from har_keras.manifest.manifest import Manifest
from har_keras.run import Run
from har_keras.store.preparation import prepare

Predict = Callable[..., np.ndarray]
# What a library reads to know how many threads it may have.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Trial:
    """One training on some videos, and its answers about others.

    Args:
        name: str. The recipe.
        fold: str. What is tested: the number of a fold, or "test".
        config: Config. Every option, the seed too.
        manifest: Manifest. Decoded; "test" is what it is asked about.
        folder: Path. A run directory; it keeps the result, so that a study
            that was stopped goes on where it was.
    """

    name: str
    fold: str
    config: Config
    manifest: Manifest
    folder: Path

    @property
    def result_file(self) -> Path:
        """Returns the file of the result, there when the trial is done."""
        return self.folder / "trial.json"


def run_trials(
    trials: Sequence[Trial], predict: Predict, *, jobs: int = 1
) -> Iterator[dict[str, Any]]:
    """Trains and asks, several at once, and yields results as they come.

    Those that were done before are read, not done again. Each has a process
    of its own, so that memory and processor time are its own, too, and an
    equal share of the cores.

    Args:
        trials: Sequence of Trial.
        predict: Callable. What gives the probabilities of videos, as
            `har_keras.inference.views.predict_videos` does.
        jobs: int. Trials at once.

    Yields:
        A dict a trial: `recipe`, `seed`, `fold`, `seconds`, `cpu_seconds`,
        and `videos`, a dict each of `file`, `group`, `label` and
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
        _threads_for_each(jobs),
        ProcessPoolExecutor(
            jobs, mp_context=context, max_tasks_per_child=1
        ) as pool,
    ):
        waiting = [
            pool.submit(run_trial, trial, predict) for trial in open_trials
        ]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def run_trial(trial: Trial, predict: Predict) -> dict[str, Any]:
    """Trains and asks once, in this process.

    Args:
        trial: Trial.
        predict: Callable. See `run_trials`.

    Returns:
        The result, which is also written to `trial.result_file`.
    """
    from har_keras.environment import start_backend

    start_backend(trial.config.training.backend)
    import keras

    from har_keras.store.preparation import decode_all
    from har_keras.training.fit import fit

    began, cpu_began = time.monotonic(), time.process_time()
    remove(trial.folder)  # what a trial that was stopped left
    run = Run(trial.folder)
    run.create(trial.config)
    clip = trial.config.clip
    store, manifest = decode_all(trial.manifest, clip, trial.config.store)
    fit(run, trial.config, store, manifest)
    model = keras.models.load_model(run.model_file, compile=False)
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
                "file": video.file,
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


@contextlib.contextmanager
def _threads_for_each(jobs: int) -> Iterator[None]:
    """Divides the cores among processes that are started meanwhile."""
    share = str(max(1, (os.cpu_count() or 1) // jobs))
    before = {name: os.environ.get(name) for name in _THREADS}
    if jobs > 1:
        os.environ.update(dict.fromkeys(_THREADS, share))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def benchmark_recipes(
    videos: Path,
    recipes: Mapping[str, Config],
    *,
    num_folds: int = 5,
    num_seeds: int = 3,
    on_test: bool = False,
    jobs: int = 1,
    output: Path = Path("study"),
) -> list[dict[str, Any]]:
    """Trains every recipe on every fold with every seed, and compares them.

    Args:
        videos: Path. The folder of videos.
        recipes: Mapping from names to configs.
        num_folds: int. Parts of the videos, each tested once. Defaults to `5`.
        num_seeds: int. Trainings of each recipe and fold. Defaults to `3`.
        on_test: bool. Whether to test on the folder's own test videos
            instead of folds of the others. Defaults to `False`.
        jobs: int. Trainings at once. Defaults to `1`.
        output: Path. Folder of the results. Defaults to `study`.

    Returns:
        A row for each recipe and seed, and one for all its seeds.

    Raises:
        UsageError: If a number is out of its range.
        DataError: If the folder has too few groups, or no test videos.
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
        for name, config in recipes.items()
        for chosen, parts in [
            _on_test(videos, config)
            if on_test
            else _in_folds(videos, config, num_folds)
        ]
        for seed in range(num_seeds)
        for fold, part in parts.items()
    ]
    with ProgressBar("Training", len(trials)) as bar:
        results = []
        for result in run_trials(trials, predict_videos, jobs=jobs):
            results.append(result)
            bar.advance()
    order = list(recipes)
    results.sort(key=lambda r: (order.index(r["recipe"]), r["seed"], r["fold"]))
    rows = study_rows(results, len(trials[0].manifest.class_names))
    labels = [video["label"] for r in results for video in r["videos"]]
    majority = max(map(labels.count, set(labels))) / len(labels)
    name = "test" if on_test else "study"
    write_study(rows, output / f"{name}.csv")
    plot_study(rows, majority, output / f"{name}.png")
    print(study_table(rows))
    return rows


Parts = tuple[Config, dict[str, Manifest]]


def _in_folds(videos: Path, config: Config, num_folds: int) -> Parts:
    """Returns a config, and the manifest of each fold, its part as test."""
    decoded, manifest = _decoded(videos, config, val_fraction=0.0)
    found = folds(
        manifest,
        num_folds,
        val_fraction=config.split.val_fraction,
        seed=config.split.split_seed,
    )
    return decoded, {str(number): part for number, part in enumerate(found)}


def _on_test(videos: Path, config: Config) -> Parts:
    """Returns a config, and the manifest with the folder's own test videos."""
    share = config.split.val_fraction
    decoded, manifest = _decoded(videos, config, val_fraction=share)
    if not manifest.usable("test"):
        raise DataError(f"'{videos}' has no test videos of its own.")
    return decoded, {"test": manifest}


def _decoded(
    videos: Path, config: Config, *, val_fraction: float
) -> tuple[Config, Manifest]:
    """Returns the config with the store's form, and the decoded videos."""
    manifest = Manifest.from_folder(
        videos,
        val_fraction=val_fraction,
        test_fraction=0.0,
        seed=config.split.split_seed,
    )
    store, manifest = prepare(manifest, config.clip, config.store)
    return config.replace(cache=store.spec.form, wandb="off"), manifest
