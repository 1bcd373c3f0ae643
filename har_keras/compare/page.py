"""The comparison of runs, for a terminal and as a page."""

import json
from pathlib import Path

from markupsafe import Markup

from har_keras.compare.comparison import Comparison, Difference, RunResult
from har_keras.files import whole_file
from har_keras.progress import duration
from har_keras.report.html import image, page, parts, section, table
from har_keras.report.plots import figure_file, plain_text
from har_keras.report.verdict import percent
from har_keras.terminal import printable

_HEADER = ("run", "accuracy", "95 % interval", "balanced", "epochs", "trained")


def comparison_text(found: Comparison) -> str:
    """Formats a comparison for a terminal, 80 columns wide."""
    rows = [[printable(x) for x in row] for row in (_HEADER, *_rows(found))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True))
        for row in rows
    ]
    lines += [""] + [verdict(found, one) for one in found.differences]
    lines += list(found.notes)
    if found.options:
        lines += ["", "What differs:"]
        lines += [
            f"  {name}: {' | '.join(map(str, values))}"
            for name, values in found.options.items()
        ]
    return "\n".join(map(printable, (line.rstrip() for line in lines)))


def verdict(found: Comparison, difference: Difference) -> str:
    """Says whether a run is better than the first, and how sure that is."""
    first, other = found.results[0].name, difference.name
    total = len(found.shared)
    counts = (
        f"of {total} shared test videos, {other} alone is right on "
        f"{difference.better} and {first} alone on {difference.worse} "
        f"(p = {difference.p_value:.3f})"
    )
    if not difference.is_real:
        return (
            f"{other} and {first}: the difference is not shown to be real; "
            f"{counts}."
        )
    word = "better" if difference.better > difference.worse else "worse"
    return f"{other} is {word} than {first}: {counts}."


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Writes `index.html`, `curves.png` and `comparison.json`.

    Args:
        found: Comparison.
        folder: Path. Where to; made if it is missing.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curves = folder / "curves.png"
    drawn = _plot_curves(found, curves)
    with whole_file(folder / "comparison.json") as file:
        file.write_text(json.dumps(_as_json(found), indent=2), "utf-8")
    names = [result.name for result in found.results]
    options = [
        [name, *map(str, values)] for name, values in found.options.items()
    ]
    differing = table(["option", *names], options) if options else ""
    content = [
        parts("comparison.html").opening(
            " and ".join(names),
            [verdict(found, one) for one in found.differences],
            found.notes,
        ),
        section("Runs", table(_HEADER, _rows(found))),
        section("What differs", differing),
        section("Accuracy on validation", _picture(curves) if drawn else ""),
    ]
    index = folder / "index.html"
    with whole_file(index) as file:
        file.write_text(page(", ".join(names), content), "utf-8")
    return index


def _rows(found: Comparison) -> list[list[str]]:
    return [
        [
            result.name,
            percent(found.accuracy(result)),
            _interval(result),
            percent(result.evaluation.balanced_accuracy),
            str(len(result.history)),
            duration(result.seconds),
        ]
        for result in found.results
    ]


def _interval(result: RunResult) -> str:
    interval = result.evaluation.interval
    if interval is None:
        return "unknown"
    return " to ".join(percent(end) for end in interval)


def _as_json(found: Comparison) -> dict[str, object]:
    return {
        "num_videos": len(found.shared),
        "runs": [
            {
                "run": str(result.run.path),
                "accuracy": found.accuracy(result),
                "seconds": result.seconds,
            }
            for result in found.results
        ],
        "differences": [
            {**vars(one), "is_real": one.is_real} for one in found.differences
        ],
        "options": {
            name: [str(value) for value in values]
            for name, values in found.options.items()
        },
        "notes": list(found.notes),
    }


def _plot_curves(found: Comparison, path: Path) -> bool:
    """Draws validation accuracy over the epochs; returns whether there is."""
    curves = {
        result.name: [
            float(row["val_accuracy"])
            for row in result.history
            if row.get("val_accuracy")
        ]
        for result in found.results
    }
    if not any(curves.values()):
        return False
    with figure_file(path, 6.4, 3.6) as figure:
        panel = figure.add_subplot()
        for name, values in curves.items():
            epochs = range(1, len(values) + 1)
            panel.plot(epochs, values, label=plain_text(name), linewidth=1.6)
        panel.set_xlabel("epoch")
        panel.set_ylabel("accuracy on validation")
        panel.set_ylim(0, 1.03)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    return True


def _picture(file: Path) -> Markup:
    text = "Accuracy on validation over the epochs"
    return image(file.read_bytes(), "png", text)
