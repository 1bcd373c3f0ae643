"""Many small trainings, each in a process of its own, one result each."""

import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.files import remove, whole_file
from har_keras.manifest.manifest import Manifest
from har_keras.run import Run

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
    from har_keras.cli import start_backend

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
