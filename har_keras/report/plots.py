"""Plots, drawn without a display.

Colors are from the palette of Okabe and Ito, which is safe for color blindness;
color is never the only cue.
"""

import csv
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from har_keras.damaged import damage_named
from har_keras.evaluation.metrics import Curve
from har_keras.files import whole_file
from har_keras.report.film_strips import Strip
from har_keras.report.fonts import families_for, without_glyph_warnings

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#666666"
PALETTE = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#4D4D4D",
)  # fmt: skip
"""Colors of classes."""
WIDTH_INCHES = 8.4
"""Width of plots, so that their letters are of one size on a page."""
_DPI = 120
_MAX_LABEL = 28
# Above this many classes a cell is too small for its count.
_MAX_COUNTED_CLASSES = 20


def plot_curves(
    history_file: Path, path: Path, *, keeps_best: bool = True
) -> None:
    """Plots loss and accuracy by epoch, for training and validation.

    Args:
        history_file: Path. CSV with a line per epoch: `epoch`, `loss`,
            `accuracy`, and with validation `val_loss` and `val_accuracy`.
        path: Path. The PNG file.
        keeps_best: bool. Whether the best epoch is kept, which is then marked.
    """
    with damage_named(history_file), history_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
        names = [name for name in ("loss", "accuracy") if rows[0].get(name)]
        for row in rows:
            list(map(float, filter(None, row.values())))
    with figure_file(path, WIDTH_INCHES, 3.4) as figure:
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for panel, name in zip(panels, names, strict=True):
            _draw_curves(panel, rows, name)
        panels[0].set_ylim(bottom=0)
        if len(names) > 1:
            panels[1].set_ylim(0, 1.02)
        if kept := kept_epoch(rows) if keeps_best else None:
            for panel in panels:
                panel.axvline(
                    kept, color=GRAY, linestyle=":", linewidth=1.4,
                    label=f"kept: epoch {kept}",
                )  # fmt: skip
        panels[-1].legend(frameon=False)


def kept_epoch(rows: Sequence[Mapping[str, str]]) -> int | None:
    """Returns the epoch whose weights are kept: the best on validation.

    The accuracy decides, then the loss, then the later epoch. None without
    validation.

    Args:
        rows: Sequence of Mapping. Lines of `history.csv`.

    Example:

    >>> kept_epoch([{"epoch": "1", "val_accuracy": "0.5", "val_loss": "0.9"},
    ...     {"epoch": "2", "val_accuracy": "0.5", "val_loss": "0.8"},
    ...     {"epoch": "3", "val_accuracy": "0.4", "val_loss": "0.7"}])
    2
    """
    scores = [
        (float(row["val_accuracy"]), -float(row["val_loss"]), int(row["epoch"]))
        for row in rows
        if row.get("val_loss") and row.get("val_accuracy")
    ]
    return max(scores)[2] if scores else None


def _draw_curves(panel: Any, rows: list[dict[str, str]], name: str) -> None:
    kinds = (("", "training", BLUE, "-"), ("val_", "validation", ORANGE, "--"))
    for prefix, label, color, line in kinds:
        points = [
            (int(row["epoch"]), float(row[prefix + name]))
            for row in rows
            if row.get(prefix + name)
        ]
        if points:
            marker = "o" if len(points) < 3 else None
            panel.plot(
                *zip(*points, strict=True),
                color=color,
                linestyle=line,
                marker=marker,
                label=label,
                linewidth=1.8,
            )
    panel.set_title(name.capitalize(), loc="left", fontweight="bold")
    panel.set_xlabel("epoch")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.grid(axis="y", color="#dddddd", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def plot_confusion(
    confusion: Sequence[Sequence[int]], class_names: Sequence[str], path: Path
) -> None:
    """Plots the confusion matrix: counts, colored by the fraction of the row.

    Args:
        confusion: Counts of videos by true class (row) and prediction
            (column).
        class_names: Sequence of str. Class names in label order.
        path: Path. The PNG file.
    """
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [plain_text(name) for name in class_names]
    size = min(14.0, 2.4 + 0.75 * len(names))
    with figure_file(path, size + 0.9, size) as figure:
        panel = figure.subplots()
        drawn = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        panel.set_xticks(range(len(names)), names, rotation=45, ha="right")
        panel.set_yticks(range(len(names)), names)
        if len("".join(names)) <= 24 and len(names) <= 6:
            panel.set_xticks(range(len(names)), names, rotation=0, ha="center")
        panel.set_xlabel("predicted")
        panel.set_ylabel("true class")
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        if len(names) <= _MAX_COUNTED_CLASSES:
            _write_counts(panel, counts, shares)
        else:
            figure.colorbar(drawn, label="share of the true class", shrink=0.6)


def _write_counts(panel: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        panel.text(
            column,
            row,
            f"{count}\n{shares[row, column]:.0%}" if count else "0",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.55 else "black",
            fontsize=11 if count else 9,
            alpha=1.0 if count else 0.45,
            fontweight="bold" if row == column else "normal",
        )


def plot_reliability(
    before: Sequence[Mapping[str, float]],
    after: Sequence[Mapping[str, float]],
    path: Path,
) -> None:
    """Plots a reliability diagram: accuracy against confidence.

    Args:
        before: Bins of `metrics.calibration`, uncalibrated.
        after: Bins at the run's temperature; empty if there is none.
        path: Path. The PNG file.
    """
    kinds = (
        (before, "uncalibrated", BLUE, "o-"),
        (after, "calibrated", ORANGE, "s--"),
    )
    with figure_file(path, 4.6, 4.2) as figure:
        panel = figure.subplots()
        panel.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        for bins, label, color, style in kinds:
            if not bins:
                continue
            rows = [(x["confidence"], x["accuracy"], x["count"]) for x in bins]
            confidence, accuracy, count = zip(*rows, strict=True)
            panel.plot(confidence, accuracy, style, color=color, label=label)
            sizes = 20 + 280 * np.asarray(count) / sum(count)
            panel.scatter(confidence, accuracy, sizes, color=color, alpha=0.25)
        panel.set_xlim(0, 1)
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel("confidence (large dot: many videos)")
        panel.set_ylabel("accuracy")
        panel.legend(frameon=False, loc="upper left")
        panel.spines[["top", "right"]].set_visible(False)


def plot_coverage(
    curve: Sequence[Sequence[float]],
    path: Path,
    *,
    criteria: str = "",
    kept: tuple[float, float | None] = (0.0, None),
) -> None:
    """Plots the accuracy of accepted answers against their share.

    Args:
        curve: Rows of threshold, coverage and accuracy, by descending
            threshold.
        path: Path. The PNG file.
        criteria: str. The model's own, as they are named; "" without any.
        kept: tuple. Coverage and accuracy by them; the accuracy is None where
            they accept nothing.
    """
    _, coverage, accuracy = zip(*curve, strict=True)
    with figure_file(path, 4.6, 3.8) as figure:
        panel = figure.subplots()
        panel.step(coverage, accuracy, where="post", color=BLUE)
        if criteria and kept[1] is not None:
            panel.plot(*kept, "o", color=ORANGE, markersize=9, zorder=3)
            panel.annotate(
                criteria,
                kept,
                (0, -18),
                textcoords="offset points",
                ha="right" if kept[0] > 0.5 else "left",
            )
        panel.set_xlim(0, 1.02)
        panel.set_ylim(min(0.5, min(accuracy)) - 0.02, 1.02)
        panel.set_xlabel("coverage: share of answers that are accepted")
        panel.set_ylabel("accuracy of the accepted")
        panel.spines[["top", "right"]].set_visible(False)


def plot_ranking(curves: Mapping[str, Curve | None], path: Path) -> None:
    """Plots the ROC and precision-recall curves of every class.

    Args:
        curves: Mapping from class to its `Curve`; None if it has none.
        path: Path. The PNG file.
    """
    with figure_file(path, WIDTH_INCHES, 3.8) as figure:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color="#999999", linewidth=1)
        for place, (name, found) in enumerate(curves.items()):
            if found is None:
                continue
            style = {
                "color": PALETTE[place % len(PALETTE)],
                "linestyle": ("-", "--", ":")[place // len(PALETTE) % 3],
                "linewidth": 1.8,
                "label": plain_text(name),
            }
            left.plot(found.false_positive_rate, found.recall, **style)
            right.step(found.recall, found.precision, where="pre", **style)
        left.set_xlabel("false positive rate")
        left.set_ylabel("true positive rate (recall)")
        left.set_title("ROC", loc="left", fontweight="bold")
        right.set_xlabel("recall")
        right.set_ylabel("precision")
        right.set_title("Precision-recall", loc="left", fontweight="bold")
        for panel in (left, right):
            panel.set_xlim(-0.01, 1.01)
            panel.set_ylim(0, 1.03)
            panel.spines[["top", "right"]].set_visible(False)
        if len(curves) <= _MAX_COUNTED_CLASSES:
            handles = left.get_legend_handles_labels()
            figure.legend(*handles, loc="outside right upper", frameon=False)


def plot_samples(strips: Sequence[Strip], path: Path) -> None:
    """Draws film strips in a column, each with a caption of its classes.

    Args:
        strips: Sequence of Strip. At least one, all of the same size.
        path: Path. The PNG file.
    """
    images = [strip.image() for strip in strips]
    height, width, _ = images[0].shape
    caption_pixels = 26
    size = (width + 16, len(images) * (height + caption_pixels + 8) + 8)
    with figure_file(
        path, size[0] / _DPI, size[1] / _DPI, layout=None
    ) as figure:
        for place, (strip, image) in enumerate(
            zip(strips, images, strict=True)
        ):
            top = 8 + place * (height + caption_pixels + 8)
            _write_caption(figure, strip, top + caption_pixels / 2, size)
            top += caption_pixels
            panel = figure.add_axes(
                (
                    8 / size[0],
                    1 - (top + height) / size[1],
                    width / size[0],
                    height / size[1],
                )
            )
            panel.imshow(image, interpolation="none", aspect="auto")
            panel.set_axis_off()


def _write_caption(
    figure: Any, strip: Strip, middle: float, size: tuple[int, int]
) -> None:
    """Writes the classes on the left and the file name on the right."""
    height = 1 - middle / size[1]
    text, color = plain_text(strip.truth), "black"
    if strip.prediction:
        mark, color = ("✓", BLUE) if strip.right else ("✗", ORANGE)
        predicted = (
            "" if strip.right else f", predicted {plain_text(strip.prediction)}"
        )
        text = f"{mark} {text}{predicted} ({strip.score:.2f})"
    style = {"va": "center", "fontsize": 9.5}
    figure.text(
        8 / size[0], height, text, color=color, fontweight="bold", **style
    )
    name = plain_text(Path(strip.file).name, 40)
    figure.text(1 - 8 / size[0], height, name, color=GRAY, ha="right", **style)


def plain_text(text: str, longest: int = _MAX_LABEL) -> str:
    r"""Prepares a name for matplotlib: one line, truncated, no math mode.

    Example:

    >>> plain_text("a very long name of a class of videos")
    'a very long name of a class…'
    >>> plain_text("$5")
    '\\$5'
    """
    shown = "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(letter) in ("Cc", "Cs")
        else letter
        for letter in text
    )
    if len(shown) > longest:
        shown = shown[: longest - 1] + "…"
    return shown.replace("$", r"\$")


@contextmanager
def figure_file(
    path: Path,
    width: float,
    height: float,
    layout: Literal["constrained"] | None = "constrained",
) -> Iterator[Any]:
    """Yields an empty figure, which is written as PNG on exit.

    Args:
        path: Path. The PNG file.
        width: float. Width in inches.
        height: float. Height in inches.
        layout: str or None. Layout engine of matplotlib. Defaults to
            `"constrained"`.

    Yields:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure((width, height), dpi=_DPI, layout=layout)
    yield figure
    texts = figure.findobj(Text)
    families = families_for("".join(x.get_text() for x in texts))
    for text in texts if len(families) > 1 else ():
        text.set_fontfamily(families)
    with whole_file(path) as temporary, without_glyph_warnings():
        figure.savefig(temporary, dpi=_DPI)
