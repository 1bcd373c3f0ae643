"""Results of the recipe benchmark: table, CSV file and plot."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.evaluation.metrics import (
    accuracy_interval,
    balanced_accuracy,
    confusion_matrix,
)
from har_keras.files import whole_file
from har_keras.report.plots import BLUE, GRAY, figure_file, plain_text

COLUMNS = (
    "recipe", "seed", "accuracy", "low", "high", "balanced_accuracy",
    "num_videos", "cpu_minutes",
)  # fmt: skip
_ALL = "all"


def study_rows(
    results: Sequence[Mapping[str, Any]], num_classes: int
) -> list[dict[str, Any]]:
    """Aggregates trials: one row per recipe and seed, and one over seeds.

    Accuracy is pooled over the test videos of all folds; its interval is a
    bootstrap over groups. In the row over seeds, the accuracy of a video is
    its mean over seeds.

    Args:
        results: Sequence of dict, from `run_trials`.
        num_classes: int. Number of classes, K.

    Returns:
        A list of dicts with the keys `COLUMNS`, in the order of the recipes.
    """
    rows = []
    for recipe in dict.fromkeys(result["recipe"] for result in results):
        mine = [result for result in results if result["recipe"] == recipe]
        seeds = sorted({result["seed"] for result in mine})
        by_seed = [[r for r in mine if r["seed"] == seed] for seed in seeds]
        rows += [
            _row(recipe, seed, trials, num_classes)
            for seed, trials in zip(seeds, by_seed, strict=True)
        ]
        rows.append(_row(recipe, _ALL, mine, num_classes))
    return rows


def _row(
    recipe: str,
    seed: int | str,
    trials: Sequence[Mapping[str, Any]],
    num_classes: int,
) -> dict[str, Any]:
    videos = [video for trial in trials for video in trial["videos"]]
    labels = np.array([video["label"] for video in videos])
    found = np.array([np.argmax(video["probabilities"]) for video in videos])
    groups = [video["group"] for video in videos]
    low, high = accuracy_interval(labels == found, groups) or (np.nan, np.nan)
    seeds = len({trial["seed"] for trial in trials})
    confusion = confusion_matrix(labels, found, num_classes)
    return {
        "recipe": recipe,
        "seed": seed,
        "accuracy": round(float((labels == found).mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "balanced_accuracy": round(balanced_accuracy(confusion), 4),
        "num_videos": len(videos) // seeds,
        "cpu_minutes": round(sum(t["cpu_seconds"] for t in trials) / 60, 2),
    }


def write_study(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes rows as CSV.

    Args:
        rows: Sequence of dict, from `study_rows`.
        path: Path. The file.
    """
    with whole_file(path) as file, file.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def study_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Formats rows for a terminal of 80 columns."""
    width = max(6, *(len(row["recipe"]) for row in rows))
    lines = [
        f"{'recipe':{width}}  seed  accuracy (95 % by group)  balanced  videos"
        "  cpu min"
    ]
    lines += [
        f"{row['recipe']:{width}}  {row['seed']!s:>4}  "
        f"{row['accuracy']:.3f} ({row['low']:.3f}-{row['high']:.3f})"
        f"{row['balanced_accuracy']:16.3f}  {row['num_videos']:6}  "
        f"{row['cpu_minutes']:7.1f}"
        for row in rows
    ]
    return "\n".join(lines)


def plot_study(
    rows: Sequence[Mapping[str, Any]], majority: float, path: Path
) -> None:
    """Plots the accuracy of each recipe: mean, interval and seeds.

    Args:
        rows: Sequence of dict, from `study_rows`.
        majority: float. Accuracy of always predicting the largest class.
        path: Path. The PNG file.
    """
    means = [row for row in rows if row["seed"] == _ALL]
    with figure_file(path, 6.4, 1.0 + 0.45 * len(means)) as figure:
        panel = figure.subplots()
        for place, mean in enumerate(means):
            seeds = [
                row["accuracy"]
                for row in rows
                if row["recipe"] == mean["recipe"] and row["seed"] != _ALL
            ]
            panel.plot(
                [mean["low"], mean["high"]], [place] * 2,
                color=BLUE, linewidth=2, solid_capstyle="butt",
            )  # fmt: skip
            panel.plot(mean["accuracy"], place, "o", color=BLUE, markersize=8)
            panel.plot(
                seeds, [place + 0.22] * len(seeds), "|", color=GRAY,
                markersize=7,
            )  # fmt: skip
        panel.axvline(majority, color=GRAY, linestyle="--", linewidth=1)
        panel.text(majority, -0.75, " majority class", color=GRAY, fontsize=8)
        panel.set_yticks(
            range(len(means)), [plain_text(row["recipe"]) for row in means]
        )
        panel.set_ylim(len(means) - 0.4, -0.9)
        panel.set_xlim(0, 1)
        panel.set_xlabel("accuracy, 95 % interval by group; ticks are seeds")
        panel.spines[["top", "right"]].set_visible(False)
