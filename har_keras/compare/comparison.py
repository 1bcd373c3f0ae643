"""Compares the predictions of runs on the videos that all of them tested."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.damaged import damage_named
from har_keras.errors import DataError, UsageError
from har_keras.evaluation.result import Evaluation
from har_keras.manifest.manifest import Manifest
from har_keras.progress import duration
from har_keras.run import Run
from har_keras.training.fingerprint import FREE

_LEVEL = 0.05
_NUM_FLIPS = 10_000

Key = tuple[str, str, str]  # content, start and end of a test video


@dataclass(frozen=True)
class RunResult:
    """What a run says of itself.

    Args:
        run: Run.
        evaluation: Evaluation. Of its test videos.
        answers: Mapping from a test video to whether it was classified right.
        groups: Mapping from a test video to its group.
        options: Mapping. The options that decide its weights.
        history: Sequence of Mapping. The rows of `history.csv`.
    """

    run: Run
    evaluation: Evaluation
    answers: Mapping[Key, bool]
    groups: Mapping[Key, str]
    options: Mapping[str, Any]
    history: Sequence[Mapping[str, str]]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.run.path.name

    @property
    def seconds(self) -> float:
        """Duration of the training, by its epochs."""
        return sum(float(row["seconds"]) for row in self.history)


@dataclass(frozen=True)
class Difference:
    """A run held against the first, on the test videos that all share.

    Args:
        name: str. The run.
        better: int. Videos that only this run classified right.
        worse: int. Videos that only the first run classified right.
        p_value: float. Probability of such a difference, or a larger one, by
            chance; the larger of that by video and that by group.
    """

    name: str
    better: int
    worse: int
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether chance is an unlikely reason, at the level of 5 %."""
        return self.p_value < _LEVEL


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        results: tuple of RunResult. The first is what others are held against.
        shared: tuple of Key. Test videos of all runs.
        differences: tuple of Difference. One for each run but the first.
        options: Mapping from an option to its values, where these differ.
        notes: tuple of str. What else to know.
    """

    results: tuple[RunResult, ...]
    shared: tuple[Key, ...]
    differences: tuple[Difference, ...]
    options: Mapping[str, tuple[Any, ...]]
    notes: tuple[str, ...]

    def accuracy(self, result: RunResult) -> float:
        """Returns the accuracy of a run on the shared test videos."""
        return sum(result.answers[key] for key in self.shared) / len(
            self.shared
        )


def compare(runs: Sequence[Path | str]) -> Comparison:
    """Compares runs on the test videos that all of them have.

    Args:
        runs: Sequence of Path or str. The folders of evaluated runs.

    Returns:
        A `Comparison`.

    Raises:
        DataError: If there is no run, it was not evaluated, or no test video
            is in all of them.
        UsageError: If a run is given twice.
    """
    _require_distinct(runs)
    results = tuple(map(_result, runs))
    first, *others = results
    shared = tuple(
        key
        for key in first.answers
        if all(key in other.answers for other in others)
    )
    if not shared:
        raise DataError(
            "The runs have no test video in common, so their accuracies can't "
            "be compared. Evaluate all of them on one folder: har-keras "
            "evaluate RUN --videos FOLDER --output RUN"
        )
    return Comparison(
        results,
        shared,
        tuple(_difference(first, other, shared) for other in others),
        _differing(results),
        tuple(_notes(results, shared)),
    )


def _require_distinct(runs: Sequence[Path | str]) -> None:
    # Before Python 3.13 `Path.resolve` raises where a link leads to itself.
    places = [os.path.realpath(run) for run in runs]
    for run, place in zip(runs, places, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"The run '{run}' is given twice. Name each once.")


def _result(path: Path | str) -> RunResult:
    run = Run.open(path)
    evaluation = Evaluation.read(run)
    manifest = Manifest.read(run.manifest_file)
    videos = {
        (video.file, _text(video.start), _text(video.end)): video
        for video in manifest.videos
    }
    answers, groups = {}, {}
    with damage_named(run.videos_file):
        for row in evaluation.videos:
            start, end = row.get("start", ""), row.get("end", "")
            video = videos.get((row["file"], start, end))
            key = (video.sha256 if video else row["file"], start, end)
            answers[key] = row["label"] == row["prediction"]
            groups[key] = video.group if video and video.group else key[0]
    options = {
        name: value
        for name, value in run.config().flat().items()
        if name not in FREE
    }
    result = RunResult(run, evaluation, answers, groups, options, _history(run))
    _require_figures(result)
    return result


def _require_figures(result: RunResult) -> None:
    """Raises `DataError` where a file of a run lacks what is compared."""
    found = result.evaluation
    with damage_named(found.files.evaluation_file):
        shares = (
            found.accuracy, found.balanced_accuracy, found.majority_accuracy
        )  # fmt: skip
        if not str(found) or not all(0 <= share <= 1 for share in shares):
            raise ValueError("its figures are no shares")
    with damage_named(result.run.history_file):
        duration(result.seconds)


def _text(seconds: float | None) -> str:
    return "" if seconds is None else str(seconds)


def _history(run: Run) -> list[dict[str, str]]:
    if not run.history_file.is_file():
        return []
    with (
        damage_named(run.history_file),
        run.history_file.open(newline="", encoding="utf-8") as file,
    ):
        return list(csv.DictReader(file))


def _difference(
    first: RunResult, other: RunResult, shared: Sequence[Key]
) -> Difference:
    gains = np.array(
        [int(other.answers[key]) - int(first.answers[key]) for key in shared]
    )
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    groups = [first.groups[key] for key in shared]
    p_value = max(mcnemar(better, worse), by_group(gains, groups))
    return Difference(other.name, better, worse, p_value)


def mcnemar(better: int, worse: int) -> float:
    """Returns the p value of the exact test of two classifiers by video.

    Args:
        better: int. Videos that only one of them classified right.
        worse: int. Videos that only the other did.

    Returns:
        float. The probability of this difference or a larger one, in either
        direction, if both were equally good.

    Reference:
        - [McNemar, 1947](https://doi.org/10.1007/BF02295996); exact, as in
          Dietterich, 1998, section 3.1.

    Example:

    >>> mcnemar(8, 1)
    0.0390625
    >>> mcnemar(0, 0)
    1.0
    """
    number, fewer = better + worse, min(better, worse)
    tail = sum(math.comb(number, k) for k in range(fewer + 1)) / 2**number
    return min(1.0, 2 * tail)


def by_group(gains: np.ndarray, groups: Sequence[str]) -> float:
    """Returns the p value of a difference whose videos come in groups.

    Videos of one recording are right or wrong together, so the sign of each
    group's difference is flipped at random, not that of each video.

    Args:
        gains: int array of shape `(N,)`. 1, 0 or -1 of each video.
        groups: Sequence of str. The group of each video.

    Example:

    >>> by_group(np.array([1, 1, 1, 1]), ["a", "a", "a", "a"])
    1.0
    """
    _, index = np.unique(np.array(groups), return_inverse=True)
    sums = np.bincount(index, gains)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    rng = np.random.default_rng(0)
    signs = rng.choice((-1, 1), (_NUM_FLIPS, len(sums)))
    extreme = np.abs(signs @ sums) >= abs(sums.sum())
    return float((extreme.sum() + 1) / (_NUM_FLIPS + 1))


def _differing(results: Sequence[RunResult]) -> dict[str, tuple[Any, ...]]:
    names = dict.fromkeys(name for one in results for name in one.options)
    values = {
        name: tuple(one.options.get(name) for one in results) for name in names
    }
    return {
        name: found
        for name, found in values.items()
        if len({str(value) for value in found}) > 1
    }


def _notes(results: Sequence[RunResult], shared: Sequence[Key]) -> list[str]:
    notes = []
    for result in results:
        if len(result.answers) > len(shared):
            notes.append(
                f"{result.name} was tested on {len(result.answers)} videos, of "
                f"which {len(shared)} are in all runs and are compared."
            )
    trained = [_trained(result) for result in results]
    if any(videos != trained[0] for videos in trained):
        numbers = ", ".join(str(len(videos)) for videos in trained)
        notes.append(f"The training videos differ: {numbers}.")
    for result, videos in zip(results, trained, strict=True):
        seen = sum(key[0] in videos for key in shared)
        if seen:
            notes.append(
                f"{result.name} was trained on {seen} of the shared test "
                "videos, so it is not tested on them."
            )
    return notes


def _trained(result: RunResult) -> set[str]:
    manifest = Manifest.read(result.run.manifest_file)
    return {video.sha256 for video in manifest.usable("train")}
