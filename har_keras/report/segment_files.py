"""Segments of an evaluation: a table, a plot, and their part of the page."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from markupsafe import Markup

from har_keras.evaluation.segments import VideoSegments, joined, overlap_of
from har_keras.files import whole_file
from har_keras.inference.timeline import NONE, Segment
from har_keras.manifest.formats.cells import guarded
from har_keras.manifest.parts import BACKGROUND
from har_keras.report.html import paragraphs, table
from har_keras.report.plots import PALETTE, figure_file, plain_text
from har_keras.run import ResultFiles

_WIDTH_INCHES = 8.4
_ROW_INCHES = 0.52
_MAX_SHOWN = 16
_NO_ACTION = (NONE, BACKGROUND)
_COLUMNS = (
    "file", "what", "start_seconds", "end_seconds", "class", "score", "overlap",
)  # fmt: skip


def write_segments(
    videos: Sequence[VideoSegments],
    class_names: Sequence[str],
    folder: ResultFiles,
) -> dict[str, Path]:
    """Writes labels and predicted segments as a table and as a plot.

    Args:
        videos: Sequence of VideoSegments. At least one.
        class_names: Sequence of str. Class names in label order.
        folder: ResultFiles. Names the files.

    Returns:
        The plot, by its heading.
    """
    with (
        whole_file(folder.segments_file) as path,
        path.open(
            "w", newline="", encoding="utf-8", errors="surrogateescape"
        ) as file,
    ):
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(chain.from_iterable(map(_rows, videos)))
    plot_segments(videos, class_names, folder.segments_plot_file)
    return {_heading(len(videos)): folder.segments_plot_file}


def _heading(number: int) -> str:
    if number > _MAX_SHOWN:
        return f"Timelines of {_MAX_SHOWN} of {number} videos"
    return "Timelines"


def _rows(video: VideoSegments) -> Iterator[list[str]]:
    """Yields a row per label and per predicted segment of a video.

    The overlap is the intersection over union with the best of its class on
    the other side.
    """
    for what, mine, others in (
        ("label", joined(video.truth), joined(video.predicted)),
        ("prediction", joined(video.predicted), joined(video.truth)),
    ):
        for item in mine:
            best = max(
                (overlap_of(item, x) for x in others if x.label == item.label),
                default=0.0,
            )
            yield [
                guarded(video.file),
                what,
                f"{item.start_seconds:.3f}",
                f"{item.end_seconds:.3f}",
                guarded(item.label),
                f"{item.score:.4f}" if what == "prediction" else "",
                f"{best:.4f}",
            ]


def plot_segments(
    videos: Sequence[VideoSegments], class_names: Sequence[str], path: Path
) -> None:
    """Plots the labels of videos, and below each what was predicted.

    Args:
        videos: Sequence of VideoSegments. The first 16 are shown.
        class_names: Sequence of str. Class names in label order.
        path: Path. The PNG file.
    """
    shown = videos[:_MAX_SHOWN]
    height = 0.9 + _ROW_INCHES * len(shown)
    with figure_file(path, _WIDTH_INCHES, height) as figure:
        panel = figure.subplots()
        for row, video in enumerate(shown):
            _draw(panel, video.truth, -row + 0.21, class_names)
            _draw(panel, video.predicted, -row - 0.21, class_names)
        panel.set_yticks(
            [-row for row in range(len(shown))],
            [plain_text(Path(video.file).name, 24) for video in shown],
        )
        longest = max(video.num_frames / video.fps for video in shown)
        panel.set_xlim(0, longest)
        panel.set_ylim(-len(shown) + 0.5, 0.5)
        panel.set_xlabel("seconds (above: label, below: prediction)")
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
        figure.legend(
            handles=_legend(panel, class_names),
            loc="outside upper left",
            ncols=6,
            frameon=False,
        )


def _draw(
    panel: Any,
    segments: Sequence[Segment],
    height: float,
    class_names: Sequence[str],
) -> None:
    for item in segments:
        panel.barh(
            height,
            item.end_seconds - item.start_seconds,
            left=item.start_seconds,
            height=0.38,
            color=_color(item.label, class_names),
            edgecolor="white",
            linewidth=0.6,
        )


def _color(name: str, class_names: Sequence[str]) -> str:
    if name in _NO_ACTION:
        return "#e4e4e4"
    return PALETTE[list(class_names).index(name) % len(PALETTE)]


def _legend(panel: Any, class_names: Sequence[str]) -> list[Any]:
    """Returns a patch for each class, and one for none of them."""
    colors = {
        plain_text(name): _color(name, class_names)
        for name in class_names
        if name not in _NO_ACTION
    }
    colors["none of them"] = _color(NONE, class_names)
    return [
        panel.barh(0, 0, color=color, label=name)
        for name, color in colors.items()
    ]


def segment_headline(found: Mapping[str, Any]) -> str:
    """Summarizes the figures of segments in two sentences.

    Args:
        found: Mapping. `segments` of `evaluation.json`.
    """
    f1, scores = found["f1"], found["mean_average_precision"]
    marks = " / ".join(f"{100 * f1[key]:.1f}" for key in f1)
    interval = found["f1_interval"]["0.5"]
    range_text = ""
    if interval:
        low, high = (100 * end for end in interval)
        range_text = f" (at 0.5: 95 % interval {low:.1f} to {high:.1f})"
    means = " / ".join(_percent(scores[key]) for key in f1)
    return (
        f"Segments, {found['num_segments']} labelled and "
        f"{found['num_predicted']} predicted in {found['num_videos']} videos: "
        f"F1 at overlap {' / '.join(f1)}: {marks} %{range_text}; mean average "
        f"precision {means} %; edit score {_percent(found['edit_score'])} %. "
        f"Frames: {found['num_correct_frames']} of {found['num_frames']} "
        f"right, {_percent(found['frame_accuracy'])} %; of those with an "
        f"action, {_percent(found['labelled_frame_accuracy'])} %."
    )


def segment_tables(found: Mapping[str, Any]) -> Markup:
    """Returns the tables of segments for the page; none without any.

    Args:
        found: Mapping. `segments` of `evaluation.json`, or empty.
    """
    if not found:
        return Markup()
    overlaps = list(found["f1"])
    header = ["class", "labelled", "predicted"]
    header += [f"F1@{key}" for key in overlaps]
    header += [f"AP@{key}" for key in overlaps]
    rows = [_class_cells(row, overlaps) for row in found["per_class"]]
    scores = found["mean_average_precision"]
    rows.append(
        [
            "all",
            str(found["num_segments"]),
            str(found["num_predicted"]),
            *(_percent(found["f1"][key]) for key in overlaps),
            *(_percent(scores[key]) for key in overlaps),
        ]
    )
    none = " or ".join(f'"{name}"' for name in found["no_action"])
    note = (
        "In percent. A segment counts as found if its intersection over union "
        "with a label of its class reaches the number after @. What is "
        f"{none}, or has no label, is no segment. Mean average precision over "
        f"overlaps of 0.3 to 0.7: {_percent(scores['0.3:0.7'])}; of 0.5 to "
        f"0.95: {_percent(scores['0.5:0.95'])}."
    )
    made: Markup = table(header, rows) + paragraphs([note], "note")
    return made


def _class_cells(row: Mapping[str, Any], overlaps: Sequence[str]) -> list[str]:
    scores, precisions = row["f1"] or {}, row["average_precision"]
    return [
        row["class"],
        str(row["num_segments"]),
        str(row["num_predicted"]),
        *(_percent(scores.get(key)) for key in overlaps),
        *(_percent(precisions[key]) for key in overlaps),
    ]


def _percent(value: float | None) -> str:
    return "not tested" if value is None else f"{100 * value:.1f}"
