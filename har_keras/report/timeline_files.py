"""A timeline as files: a table, JSON, subtitles, a picture.

Labels come from folder names, so each format is told that they are text.
"""

import csv
import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.files import whole_file
from har_keras.inference.timeline import NONE, Timeline
from har_keras.report.evaluation_files import spreadsheet_text
from har_keras.report.plots import GREY, PALETTE, figure_file, plain_text

_WIDTH_INCHES = 8.4


def write_timeline(timeline: Timeline, name: str, base: Path) -> list[Path]:
    """Writes a timeline in every form.

    Args:
        timeline: Timeline. What is seen when.
        name: str. The video, as people know it.
        base: Path. Folder and first part of the names of the files.

    Returns:
        The files: `.csv`, `.json`, `.srt`, `.vtt`, `.png`.
    """
    files = [
        base.with_name(f"{base.name}.{kind}")
        for kind in ("csv", "json", "srt", "vtt", "png")
    ]
    with whole_file(files[0]) as file:
        _write_csv(timeline, file)
    with whole_file(files[1]) as file:
        text = json.dumps(as_json(timeline, name), indent=2, allow_nan=False)
        file.write_text(text + "\n", "utf-8", errors="replace")
    with whole_file(files[2]) as file:
        file.write_text(srt(timeline), "utf-8", errors="replace")
    with whole_file(files[3]) as file:
        file.write_text(webvtt(timeline), "utf-8", errors="replace")
    plot_timeline(timeline, name, files[4])
    return files


def as_json(timeline: Timeline, name: str) -> dict[str, Any]:
    """Returns a timeline as plain lists and dicts."""
    return {
        "video": name,
        "seconds": timeline.seconds,
        "class_names": list(timeline.class_names),
        "segments": [asdict(segment) for segment in timeline.segments],
        "windows": {
            "edges_seconds": timeline.edges.round(4).tolist(),
            "probabilities": timeline.probabilities.round(6).tolist(),
        },
    }


def srt(timeline: Timeline) -> str:
    """Returns subtitles in SubRip's format; stretches of "none" are silent."""
    shown = [x for x in timeline.segments if x.label != NONE]
    return "\n".join(
        f"{number}\n{_clock(x.start_seconds, ',')} --> "
        f"{_clock(x.end_seconds, ',')}\n{_srt_text(x.label)} "
        f"({x.score:.0%})\n"
        for number, x in enumerate(shown, 1)
    )


def webvtt(timeline: Timeline) -> str:
    """Returns subtitles in the format of browsers."""
    shown = [x for x in timeline.segments if x.label != NONE]
    cues = [
        f"{_clock(x.start_seconds, '.')} --> {_clock(x.end_seconds, '.')}\n"
        f"{escape(_one_line(x.label), quote=False)} ({x.score:.0%})\n"
        for x in shown
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _one_line(text: str) -> str:
    return " ".join(text.split()) or "?"


def _srt_text(label: str) -> str:
    """Returns a label in which no player sees markup; there are no escapes.

    Example:

    >>> _srt_text("<b>walk --> gym")
    '(b)walk --) gym'
    """
    return _one_line(label).translate(str.maketrans("<>{}", "()()"))


def _clock(seconds: float, point: str) -> str:
    """Returns a time as subtitles have it.

    Example:

    >>> _clock(3725.5, ",")
    '01:02:05,500'
    """
    milliseconds = round(1000 * seconds)
    whole, rest = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{point}{rest:03d}"


def _write_csv(timeline: Timeline, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow(["start_seconds", "end_seconds", "class", "score"])
        for segment in timeline.segments:
            writer.writerow(
                [
                    f"{segment.start_seconds:.3f}",
                    f"{segment.end_seconds:.3f}",
                    spreadsheet_text(segment.label),
                    f"{segment.score:.4f}",
                ]
            )


def plot_timeline(
    timeline: Timeline,
    name: str,
    path: Path,
    *,
    width_inches: float = _WIDTH_INCHES,
) -> None:
    """Draws segments as a bar, and every class's probability above it.

    Args:
        timeline: Timeline. What is seen when.
        name: str. The video, for the heading.
        path: Path. The PNG file.
        width_inches: float. Of the picture; it is 3 high. Defaults to `8.4`.
    """
    with figure_file(path, width_inches, 3.0) as figure:
        curves, bar = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        draw_probabilities(curves, timeline)
        draw_segments(bar, timeline, width_inches)
        curves.set_title(
            plain_text(Path(name).name, round(7 * width_inches)),
            loc="left",
            fontweight="bold",
        )
        figure.legend(
            *curves.get_legend_handles_labels(),
            loc="outside right upper",
            frameon=False,
        )


def class_colour(label: int) -> str:
    """Returns the colour of a class; they repeat after seven."""
    return PALETTE[label % len(PALETTE)]


def draw_probabilities(panel: Any, timeline: Timeline) -> None:
    """Draws the probability of each class over time.

    Args:
        panel: matplotlib Axes.
        timeline: Timeline.
    """
    # A step a window, and the last one to the very end.
    rows = np.concatenate([timeline.probabilities, timeline.probabilities[-1:]])
    for label, name in enumerate(timeline.class_names):
        panel.step(
            timeline.edges,
            rows[:, label],
            where="post",
            color=class_colour(label),
            linestyle=("-", "--", ":")[label // len(PALETTE) % 3],
            linewidth=1.6,
            label=plain_text(name),
        )
    panel.set_ylim(0, 1.02)
    panel.set_ylabel("probability")
    panel.grid(axis="y", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def draw_segments(panel: Any, timeline: Timeline, width_inches: float) -> None:
    """Draws the segments as one bar, with the names that have room.

    Args:
        panel: matplotlib Axes.
        timeline: Timeline.
        width_inches: float. Width of the panel.
    """
    names = list(timeline.class_names)
    for segment in timeline.segments:
        length = segment.end_seconds - segment.start_seconds
        known = segment.label in names
        colour = (
            class_colour(names.index(segment.label)) if known else "#eeeeee"
        )
        panel.barh(
            0,
            length,
            left=segment.start_seconds,
            color=colour,
            edgecolor="white",
            height=1,
        )
        text = plain_text(segment.label, 16)
        # About 12 letters to an inch: a name that has no room is left out.
        if len(text) < length / timeline.seconds * width_inches * 9:
            panel.text(
                segment.start_seconds + length / 2,
                0,
                text,
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if known else GREY,
            )
    panel.set_yticks([])
    panel.set_xlim(0, timeline.seconds)
    panel.set_xlabel("seconds")
    panel.spines[:].set_visible(False)
