"""Writes a timeline as CSV, JSON, subtitles and a plot.

Labels come from folder names, so they are escaped in each format.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.files import whole_file
from har_keras.inference.timeline import NONE, Timeline
from har_keras.manifest.formats.cells import guarded
from har_keras.report.plots import (
    PALETTE,
    WIDTH_INCHES,
    figure_file,
    plain_text,
)
from har_keras.terminal import printable

_NUM_FRAMES = 9

Pictures = Sequence[tuple[float, np.ndarray]]
_TEXT_KINDS = ("csv", "json", "srt", "vtt")


def write_timeline(
    timeline: Timeline, name: str, base: Path, pictures: Pictures = ()
) -> list[Path]:
    """Writes a timeline in all formats.

    Args:
        timeline: Timeline. The timeline.
        name: str. Name of the video.
        base: Path. The files' path without suffix.
        pictures: Sequence of pairs. Frames to show above it, each with its
            time in seconds.

    Returns:
        A list of Path: `.csv`, `.json`, `.srt`, `.vtt` and `.png`; without
        subtitles where every segment is "none".
    """
    texts = timeline_texts(timeline, name)
    written = []
    for kind in _TEXT_KINDS:
        path = base.with_name(f"{base.name}.{kind}")
        if kind not in texts:
            # That of an earlier timeline would be taken for its own.
            path.unlink(missing_ok=True)
            continue
        with whole_file(path) as file:
            file.write_bytes(texts[kind].encode("utf-8", "replace"))
        written.append(path)
    plot = base.with_name(f"{base.name}.png")
    plot_timeline(timeline, name, plot, pictures)
    return [*written, plot]


def timeline_texts(timeline: Timeline, name: str) -> dict[str, str]:
    """Returns the text of each kind of file of a timeline.

    Args:
        timeline: Timeline. The timeline.
        name: str. Name of the video.

    Returns:
        A dict from "csv", "json", "srt" and "vtt" to the text; without
        subtitles where every segment is "none".
    """
    text = json.dumps(as_json(timeline, name), indent=2, allow_nan=False)
    texts = {"csv": _csv(timeline), "json": text + "\n"}
    if any(segment.label != NONE for segment in timeline.segments):
        texts |= {"srt": srt(timeline), "vtt": webvtt(timeline)}
    return texts


def as_json(timeline: Timeline, name: str) -> dict[str, Any]:
    """Converts a timeline to lists and dicts."""
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
    """Returns subtitles in SubRip format, without segments of "none"."""
    shown = [x for x in timeline.segments if x.label != NONE]
    return "\n".join(
        f"{number}\n{_clock(x.start_seconds, ',')} --> "
        f"{_clock(x.end_seconds, ',')}\n{_srt_text(x.label)} "
        f"({x.score:.0%})\n"
        for number, x in enumerate(shown, 1)
    )


def webvtt(timeline: Timeline) -> str:
    """Returns subtitles in WebVTT format, without segments of "none"."""
    shown = [x for x in timeline.segments if x.label != NONE]
    cues = [
        f"{_clock(x.start_seconds, '.')} --> {_clock(x.end_seconds, '.')}\n"
        f"{escape(_one_line(x.label), quote=False)} ({x.score:.0%})\n"
        for x in shown
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _one_line(text: str) -> str:
    r"""Returns a text for one line of subtitles, which steers no player.

    Example:

    >>> _one_line("walk\n\x1b[31m")
    'walk \\x1b[31m'
    """
    return printable(" ".join(text.split())) or "?"


def _srt_text(label: str) -> str:
    """Replaces characters that players take for markup; SRT has no escapes.

    Example:

    >>> _srt_text("<b>walk --> gym")
    '(b)walk --) gym'
    """
    return _one_line(label).translate(str.maketrans("<>{}", "()()"))


def _clock(seconds: float, point: str) -> str:
    """Formats a time for subtitles.

    Example:

    >>> _clock(3725.5, ",")
    '01:02:05,500'
    """
    milliseconds = round(1000 * seconds)
    whole, rest = divmod(milliseconds, 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{point}{rest:03d}"


def _csv(timeline: Timeline) -> str:
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["start_seconds", "end_seconds", "class", "score"])
    for segment in timeline.segments:
        writer.writerow(
            [
                f"{segment.start_seconds:.3f}",
                f"{segment.end_seconds:.3f}",
                guarded(segment.label),
                f"{segment.score:.4f}",
            ]
        )
    return table.getvalue()


def plot_timeline(
    timeline: Timeline, name: str, path: Path, pictures: Pictures = ()
) -> None:
    """Plots the class probabilities over time, and the segments as a bar.

    Args:
        timeline: Timeline. The timeline.
        name: str. Name of the video, for the title.
        path: Path. The PNG file.
        pictures: Sequence of pairs. Frames to show above it, each with its
            time in seconds.
    """
    width = WIDTH_INCHES
    heights = [0.9, 3.2, 1] if pictures else [3.2, 1]
    with figure_file(path, width, 3.0 + 0.8 * bool(pictures)) as figure:
        panels = figure.subplots(
            len(heights), 1, sharex=True, height_ratios=heights
        )
        *frames, curves, bar = panels
        if pictures:
            draw_frames(frames[0], timeline, pictures)
        draw_probabilities(curves, timeline)
        draw_segments(bar, timeline, width)
        panels[0].set_title(
            plain_text(Path(name).name, round(7 * width)),
            loc="left",
            fontweight="bold",
        )
        figure.legend(
            *curves.get_legend_handles_labels(),
            loc="outside right upper",
            frameon=False,
        )


def draw_frames(panel: Any, timeline: Timeline, pictures: Pictures) -> None:
    """Draws frames in a row, each above its own time.

    Args:
        panel: matplotlib Axes.
        timeline: Timeline. The timeline.
        pictures: Sequence of pairs. Frames and their times in seconds.
    """
    times = (np.arange(_NUM_FRAMES) + 0.5) / _NUM_FRAMES * timeline.seconds
    known = np.array([seconds for seconds, _ in pictures])
    for number, time in enumerate(times):
        frame = pictures[int(np.abs(known - time).argmin())][1]
        height, columns = frame.shape[:2]
        side = min(columns, round(height * 1.15))
        left = (columns - side) // 2
        begin = number * timeline.seconds / _NUM_FRAMES
        end = begin + timeline.seconds / _NUM_FRAMES
        panel.imshow(
            frame[:, left : left + side],
            extent=(begin, end, 0, 1),
            aspect="auto",
        )
    panel.set_xlim(0, timeline.seconds)
    panel.set_ylim(0, 1)
    panel.set_axis_off()


def class_color(label: int) -> str:
    """Returns the color of a class; colors repeat after seven classes."""
    return PALETTE[label % len(PALETTE)]


def ink_on(color: str) -> str:
    """Returns black or white: the one that is easier to read on a color.

    Example:

    >>> ink_on("#0072B2"), ink_on("#E69F00")
    ('white', 'black')
    """
    parts = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(
        parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4
    )
    bright = float(linear @ (0.2126, 0.7152, 0.0722)) > 0.179
    return "black" if bright else "white"


def draw_probabilities(panel: Any, timeline: Timeline) -> None:
    """Draws the probability of each class over time.

    Args:
        panel: matplotlib Axes.
        timeline: Timeline. The timeline.
    """
    # One step per window; the last one is extended to the end.
    rows = np.concatenate([timeline.probabilities, timeline.probabilities[-1:]])
    for label, name in enumerate(timeline.class_names):
        panel.step(
            timeline.edges,
            rows[:, label],
            where="post",
            color=class_color(label),
            linestyle=("-", "--", ":")[label // len(PALETTE) % 3],
            linewidth=1.6,
            label=plain_text(name),
        )
    if timeline.threshold:
        panel.axhline(
            timeline.threshold,
            color="black",
            linestyle=(0, (4, 3)),
            linewidth=1.1,
            label=f"threshold {100 * timeline.threshold:.0f} %",
        )
    for number, (begin, end) in enumerate(timeline.far_spans):
        # Of what begins with an underscore, the legend says nothing.
        name = "_" if number else "far from the training videos"
        panel.axvspan(begin, end, color="#dddddd", linewidth=0, label=name)
    panel.set_ylim(0, 1.02)
    panel.set_ylabel("probability")
    panel.grid(axis="y", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def draw_segments(panel: Any, timeline: Timeline, width_inches: float) -> None:
    """Draws the segments as one bar, with labels where they fit.

    Args:
        panel: matplotlib Axes.
        timeline: Timeline. The timeline.
        width_inches: float. Width of the panel.
    """
    names = list(timeline.class_names)
    for segment in timeline.segments:
        length = segment.end_seconds - segment.start_seconds
        known = segment.label in names
        color = class_color(names.index(segment.label)) if known else "#eeeeee"
        panel.barh(
            0,
            length,
            left=segment.start_seconds,
            color=color,
            edgecolor="white",
            height=1,
        )
        text = plain_text(segment.label, 16)
        # About 12 letters per inch; a label that does not fit is left out.
        if len(text) < length / timeline.seconds * width_inches * 9:
            panel.text(
                segment.start_seconds + length / 2,
                0,
                text,
                ha="center",
                va="center",
                fontsize=8.5,
                color=ink_on(color),
            )
    panel.set_yticks([])
    panel.set_xlim(0, timeline.seconds)
    panel.set_xlabel("seconds")
    panel.spines[:].set_visible(False)
