"""Results of the labeling benchmark: tables, CSV file and plot."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from har_keras.files import whole_file
from har_keras.report.plots import PALETTE, figure_file

_NUM_LINES = 10
_NUM_RESAMPLED = 2000
_SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class DoubtRow:
    """How many labels that were changed are found.

    Args:
        changed: int. Labels that were changed.
        found: int. Labels that are in doubt.
        right: int. Of these, labels that were changed.
        right_first: int. Of as many of the most doubtful as were changed,
            those that were.
    """

    changed: int
    found: int
    right: int
    right_first: int


@dataclass(frozen=True)
class LabelingStudy:
    """What simulated people got for their answers.

    Args:
        curves: Mapping from strategy to a float array of shape `(starts,
            len(answers))`: the accuracy. The first is what the others are
            compared with.
        answers: Sequence of int. After how many answers.
        doubts: Sequence of DoubtRow. One for each start.
        wrong_share: float. Share of labels that were changed.
    """

    curves: Mapping[str, np.ndarray]
    answers: Sequence[int]
    doubts: Sequence[DoubtRow]
    wrong_share: float


def answers_needed(
    curve: np.ndarray, answers: Sequence[int], accuracy: float
) -> float:
    """Returns after how many answers a mean curve reaches an accuracy.

    Between two points of the curve it is a straight line.

    Args:
        curve: float array of shape `(starts, len(answers))`.
        answers: Sequence of int.
        accuracy: float.

    Returns:
        float. Infinity if it does not.

    Example:

    >>> answers_needed(np.array([[0.5, 0.7]]), [10, 20], 0.6)
    15.0
    """
    mean = curve.mean(0)
    (reached,) = np.nonzero(mean >= accuracy - 1e-9)
    if not len(reached):
        return float("inf")
    place = int(reached[0])
    if place == 0:
        return float(answers[0])
    low, high = mean[place - 1], mean[place]
    share = (accuracy - low) / (high - low)
    first, second = answers[place - 1], answers[place]
    return float(round(first + share * (second - first), 9))


def labeling_tables(study: LabelingStudy) -> str:
    """Formats a study for a terminal of 80 columns."""
    base, *others = study.curves
    parts = [_curve_table(study, base, name) for name in others]
    parts += [_needed_table(study, base, name) for name in others]
    return "\n\n".join([*parts, _doubts_text(study)])


def _curve_table(study: LabelingStudy, base: str, name: str) -> str:
    number = len(study.curves[base])
    width = max(len(base), len(name), 5)
    lines = [
        f"Accuracy, mean of {number} starts; 95 % interval of the paired "
        "difference",
        f"answers  {base:>{width}}  {name:>{width}}  difference",
    ]
    step = max(1, len(study.answers) // _NUM_LINES)
    places = [*range(len(study.answers))][step - 1 :: step]
    for place in places:
        one, other = (study.curves[x][:, place] for x in (base, name))
        lines.append(
            f"{study.answers[place]:7}  {one.mean():{width}.3f}  "
            f"{other.mean():{width}.3f}  {_interval(other - one)}"
        )
    mean = (study.curves[name] - study.curves[base]).mean(1)
    lines.append(f"{'mean':>7}  {'':{width}}  {'':{width}}  {_interval(mean)}")
    return "\n".join(lines)


def _interval(values: np.ndarray) -> str:
    """Formats a mean over starts with its interval."""
    low, high = _resampled(len(values), lambda i: float(values[i].mean()))
    return f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def _resampled(
    number: int, figure: Callable[[np.ndarray], float]
) -> tuple[float, float]:
    """Returns the 95 % interval of a figure, by a bootstrap over starts."""
    rng = np.random.default_rng(0)
    found = [
        figure(rng.integers(number, size=number)) for _ in range(_NUM_RESAMPLED)
    ]
    low, high = np.quantile(found, (0.025, 0.975), method="nearest")
    return float(low), float(high)


def _needed_table(study: LabelingStudy, base: str, name: str) -> str:
    lines = [
        "Answers needed for an accuracy; 95 % interval of the share saved",
        f"accuracy  {base:>8}  {name:>9}  saved",
    ]
    mean, answers = study.curves[base].mean(0), study.answers
    for share in _SHARES:
        target = float(mean[round(share * len(answers)) - 1])
        one, other = (
            answers_needed(study.curves[x], answers, target)
            for x in (base, name)
        )

        def saved(rows: np.ndarray, target: float = target) -> float:
            some = [study.curves[x][rows] for x in (base, name)]
            one, other = (answers_needed(x, answers, target) for x in some)
            # Beyond the last answer nobody knows: at least that many.
            one, other = (min(x, answers[-1]) for x in (one, other))
            return 1 - other / one

        low, high = _resampled(len(study.curves[base]), saved)
        lines.append(
            f"{target:8.3f}  {one:8.0f}  {_count(other):>9}  "
            f"{1 - min(other, answers[-1]) / one:.0%} "
            f"({low:.0%} to {high:.0%})"
        )
    return "\n".join(lines)


def _count(number: float) -> str:
    return "never" if number == float("inf") else f"{number:.0f}"


def _doubts_text(study: LabelingStudy) -> str:
    rows = study.doubts
    changed = np.array([row.changed for row in rows])
    found = np.array([row.found for row in rows])
    right = np.array([row.right for row in rows])
    first = np.array([row.right_first for row in rows])

    def share(of: np.ndarray, total: np.ndarray) -> str:
        low, high = _resampled(
            len(rows), lambda i: of[i].sum() / max(1, total[i].sum())
        )
        value = of.sum() / max(1, total.sum())
        return f"{value:.2f} ({low:.2f} to {high:.2f})"

    return "\n".join(
        [
            f"Labels that look wrong, with {study.wrong_share:.0%} changed at "
            f"random, {len(rows)} starts",
            f"changed {changed.mean():.1f}, in doubt {found.mean():.1f}",
            f"precision              {share(right, found)}",
            f"recall                 {share(right, changed)}",
            f"precision of as many   {share(first, changed)}",
        ]
    )


def write_labeling(study: LabelingStudy, path: Path) -> None:
    """Writes the accuracy of each strategy, start and number of answers.

    Args:
        study: LabelingStudy.
        path: Path. The CSV file.
    """
    with whole_file(path) as file, file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("strategy", "start", "answers", "accuracy"))
        for name, curve in study.curves.items():
            for start, row in enumerate(curve):
                for number, accuracy in zip(study.answers, row, strict=True):
                    writer.writerow((name, start, number, f"{accuracy:.4f}"))


def plot_labeling(study: LabelingStudy, path: Path) -> None:
    """Plots the accuracy by the number of answers, with 95 % intervals.

    Args:
        study: LabelingStudy.
        path: Path. The PNG file.
    """
    markers = "os^Dv"
    with figure_file(path, 6.4, 4.0) as figure:
        panel = figure.subplots()
        for place, (name, curve) in enumerate(study.curves.items()):
            color = PALETTE[(1, 0, 2, 3, 4)[place % 5]]
            mean = curve.mean(0)
            spread = 1.96 * curve.std(0, ddof=1) / np.sqrt(len(curve))
            panel.fill_between(
                study.answers, mean - spread, mean + spread, color=color,
                alpha=0.2, linewidth=0,
            )  # fmt: skip
            panel.plot(
                study.answers, mean, color=color, marker=markers[place % 5],
                markersize=4, linewidth=1.8, label=name,
            )  # fmt: skip
        panel.set_xlabel("answers")
        panel.set_ylabel("accuracy on videos of other groups")
        panel.grid(axis="y", color="#dddddd", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, loc="lower right")
