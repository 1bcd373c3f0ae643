"""Loads an export, tries it, and measures how it runs best on this machine."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from har_keras.environment import num_cores
from har_keras.errors import DataError
from har_keras.inference.distance import answer_on_batch
from har_keras.serve.exports import Export
from har_keras.serving.acceptance import parted
from har_keras.serving.runtimes import Runtime, open_exported

# A clip that takes longer on one core is for all cores together: else a single
# client waits, and each core has a batch in memory.
_LONGEST_ON_ONE_CORE_SECONDS = 0.25
_TRIAL_SECONDS = 0.1
_MOST_ROUNDS = 20


@dataclass(frozen=True)
class Plan:
    """How a model is run.

    Args:
        streams: int. Batches at a time, each with its share of the cores.
        max_batch: int. Clips in a batch.
        clips_per_second: float. What was measured so.
    """

    streams: int
    max_batch: int
    clips_per_second: float


def opened(
    export: Export, max_batch: int, plan: Plan | None = None
) -> tuple[Runtime, Plan]:
    """Loads an export, for as many streams as suit it.

    Args:
        export: Export. The files.
        max_batch: int. Clips in a batch, at most.
        plan: Plan or None. That of an earlier version, which is then not
            measured.

    Returns:
        The loaded model and its plan.

    Raises:
        DataError: If its answer is not a probability per class.
    """
    streams = plan.streams if plan else num_cores()
    runtime = open_exported(export.path, streams=streams)
    require_sane(runtime, export)
    if plan:
        return runtime, plan
    if streams > 1 and _seconds(runtime, 1) > _LONGEST_ON_ONE_CORE_SECONDS:
        streams = 1
        runtime = open_exported(export.path)
        require_sane(runtime, export)
    return runtime, measured(runtime, streams, max_batch)


def require_sane(runtime: Runtime, export: Export) -> None:
    """Runs a loaded model once, also to warm it up.

    Raises:
        DataError: If its answer is not a probability per class.
    """
    rows, _ = parted(answer_on_batch(runtime, example(runtime, 1)))
    fits = rows.shape == (1, len(runtime.class_names))
    if not fits or not np.abs(rows.sum() - 1) < 1e-3:
        raise DataError(
            f"'{export.path}' does not answer with a probability for each of "
            f"its {len(runtime.class_names)} classes. Export the run again."
        )


def measured(runtime: Runtime, streams: int, max_batch: int) -> Plan:
    """Measures a model on batches of 1, 2, 4, ... clips, for about a second.

    Larger batches need not be faster: what a few clips need may fit into the
    cache of a core.

    Args:
        runtime: Runtime. A loaded model.
        streams: int. Batches at a time.
        max_batch: int. Clips in a batch, at most.

    Returns:
        The fastest `Plan`.
    """
    best = Plan(streams, 1, 0.0)
    with ThreadPoolExecutor(streams, "trial") as pool:
        for size in itertools.takewhile(
            lambda x: x <= max_batch, (2**power for power in range(16))
        ):
            speed = _clips_per_second(runtime, streams, size, pool)
            if speed > best.clips_per_second:
                best = Plan(streams, size, speed)
            if size > 2 * best.max_batch or size / speed > _TRIAL_SECONDS:
                break
    return best


def _clips_per_second(
    runtime: Runtime, streams: int, size: int, pool: ThreadPoolExecutor
) -> float:
    clips = example(runtime, size)
    # Some compile for each thread and size.
    list(pool.map(lambda _: answer_on_batch(runtime, clips), range(streams)))
    began, end = time.perf_counter(), time.perf_counter() + _TRIAL_SECONDS

    def run(_: int) -> int:
        rounds = 0
        while not rounds or time.perf_counter() < end:
            answer_on_batch(runtime, clips)
            rounds += 1
            if rounds == _MOST_ROUNDS:
                break
        return rounds * size

    done = sum(pool.map(run, range(streams)))
    return done / (time.perf_counter() - began)


def _seconds(runtime: Runtime, number: int) -> float:
    clips = example(runtime, number)
    began = time.perf_counter()
    answer_on_batch(runtime, clips)
    return time.perf_counter() - began


def example(runtime: Runtime, number: int) -> np.ndarray:
    """Returns clips of noise as a model takes them."""
    clip = runtime.info.clip
    shape = (number, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
