"""The page that people read after an evaluation: one file, no network.

Every name in it came from a folder or a file, so all of it is escaped, and the
page forbids itself scripts and anything from elsewhere.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from har_keras.files import whole_file
from har_keras.report.film_strips import Strip
from har_keras.report.html import page, section, table


@dataclass(frozen=True)
class Report:
    """What a report shows, besides the figures of `evaluation.json`.

    Args:
        title: str. The name of the run or of the folder.
        evaluation: Mapping. The figures.
        pictures: Mapping from a heading to a PNG file that exists.
        mistakes: Sequence of Strip. Wrong videos, the surest first.
        examples: Mapping from a heading to strips of right videos.
        videos: Mapping from class to counts of videos by split.
        options: Mapping. Every option of the run by name.
        attention: Sequence of pairs: a strip, and the same with attention
            drawn over it.
    """

    title: str
    evaluation: Mapping[str, Any]
    pictures: Mapping[str, Path]
    mistakes: Sequence[Strip]
    examples: Mapping[str, Sequence[Strip]]
    videos: Mapping[str, Mapping[str, int]]
    options: Mapping[str, Any]
    attention: Sequence[tuple[Strip, Strip]] = ()

    def write(self, path: Path) -> None:
        """Writes the page, at once."""
        with whole_file(path) as file:
            file.write_text(self.html(), "utf-8", errors="replace")

    def html(self) -> str:
        """Returns the page."""
        sections = [
            self._headline(),
            section("Classes", self._classes()),
            *(
                section(heading, _picture(picture, heading))
                for heading, picture in self.pictures.items()
            ),
            section("What time is worth", self._controls()),
            section("Worse pictures", self._robustness()),
            section("Confidence", self._confidence()),
            section("Where it looked", self._attention()),
            section(self._mistakes_heading(), _gallery(self.mistakes)),
            *(
                section(heading, _gallery(strips))
                for heading, strips in self.examples.items()
            ),
            section("Videos that were not scored", self._failed()),
            section("Videos that were cut short", self._damaged()),
            section("Data", _counts_table(self.videos)),
            section("Options", _details("Every option", self.options)),
            section("Versions", _pairs(self.evaluation.get("versions", {}))),
        ]
        return page(self.title, sections)

    def _headline(self) -> str:
        found = self.evaluation
        return (
            f"<h1>{escape(self.title)}</h1>\n"
            f'<p class="headline">{percent(found["accuracy"])} accuracy</p>\n'
            f"<p>{escape(headline(found))}</p>\n"
        )

    def _classes(self) -> str:
        found = self.evaluation
        ranks = found.get("ranking") or [{} for _ in found["per_class"]]
        rows = [
            [
                row["class"],
                *(_figure(row[key]) for key in _CLASS_FIGURES),
                *(_figure(rank.get(key)) for key in _RANK_FIGURES),
            ]
            for row, rank in zip(found["per_class"], ranks, strict=True)
        ]
        header = ["class", *_CLASS_FIGURES, *_RANK_FIGURES.values()]
        return table(header, rows)

    def _controls(self) -> str:
        controls = self.evaluation.get("controls")
        if not controls:
            return ""
        rows = [["the video as it is", percent(self.evaluation["accuracy"])]]
        rows += [
            [text, percent(controls[name])]
            for name, text in _CONTROL_TEXTS.items()
            if name in controls
        ]
        return table(["what the model sees", "accuracy"], rows) + (
            '<p class="note">Where a still frame does as well, the model '
            "reads the scene and not the motion; where the background does, "
            "it hardly looks at who moves.</p>"
        )

    def _robustness(self) -> str:
        found = self.evaluation.get("robustness")
        if not found:
            return ""
        rows = [["as they are", percent(self.evaluation["accuracy"])]]
        rows += [[row["what"], percent(row["accuracy"])] for row in found]
        return table(["the pictures are", "accuracy"], rows)

    def _confidence(self) -> str:
        found = self.evaluation["calibration"]
        text = (
            "<p>Expected calibration error: "
            f"{found['ece']:.3f} (0 is best; a model that says 0.8 should be "
            "right in 8 of 10 videos).</p>"
        )
        fitted = self.evaluation.get("calibrated")
        if fitted and fitted["num_videos"]:
            text += (
                f"<p>At temperature {fitted['temperature']:.2f}, fitted on "
                f"{fitted['num_videos']} validation videos, it is "
                f"{fitted['ece']:.3f}. What <code>predict</code> calls "
                "confidence is at that temperature.</p>"
            )
        return text + _bins_table(found["bins"])

    def _attention(self) -> str:
        if not self.attention:
            return ""
        note = (
            '<p class="note">Attention rollout: the brighter the glow, the '
            "more of the answer was read there. It shows where, not why.</p>"
        )
        return note + "\n".join(
            _figure_of(
                _image(strip.jpeg(), "jpeg", f"Frames of {strip.file}")
                + _image(seen.jpeg(), "jpeg", f"Attention on {strip.file}"),
                strip,
            )
            for strip, seen in self.attention
        )

    def _mistakes_heading(self) -> str:
        wrong = self.evaluation["num_videos"] - self.evaluation["num_correct"]
        shown = len(self.mistakes)
        if shown < wrong:
            return f"Mistakes: the {shown} surest of {wrong}"
        return f"Mistakes: {wrong}"

    def _failed(self) -> str:
        rows = [[x["file"], x["reason"]] for x in self.evaluation["failed"]]
        return table(["video", "reason"], rows) if rows else ""

    def _damaged(self) -> str:
        damaged = self.evaluation.get("damaged", [])
        rows = [[x["file"], x["reason"]] for x in damaged]
        return table(["video", "what happened"], rows) if rows else ""


_CLASS_FIGURES = ("precision", "recall", "f1", "support")
_RANK_FIGURES = {"roc_auc": "ROC area", "average_precision": "PR area"}
_CONTROL_TEXTS = {
    "single_frame": "its middle frame, repeated",
    "shuffled": "its frames in random order",
    "reversed": "its frames backwards",
    "background": "only what stays in place (the median of its frames)",
}


def headline(evaluation: Mapping[str, Any]) -> str:
    """Returns the result in a sentence or three, with the counts.

    Example:

    >>> headline({"num_correct": 3, "num_videos": 4, "num_failed": 1,
    ...     "accuracy_interval": [0.5, 1.0], "num_groups": 4,
    ...     "balanced_accuracy": 0.75, "majority_accuracy": 0.5})
    '3 of 4 videos right (95 % interval 50.0 % to 100.0 %, over 4 groups).
    Balanced accuracy 75.0 %. Always naming the commonest class would reach
    50.0 %. 1 of 5 videos could not be scored and is not counted.'
    """
    found = evaluation
    interval = ""
    if found["accuracy_interval"]:
        low, high = map(percent, found["accuracy_interval"])
        groups = found["num_groups"]
        interval = f" (95 % interval {low} to {high}, over {groups} groups)"
    text = (
        f"{found['num_correct']} of {found['num_videos']} videos right"
        f"{interval}. Balanced accuracy "
        f"{percent(found['balanced_accuracy'])}. Always naming the commonest "
        f"class would reach {percent(found['majority_accuracy'])}."
    )
    if failed := found["num_failed"]:
        verb = "is" if failed == 1 else "are"
        text += (
            f" {failed} of {found['num_videos'] + failed} videos could not be "
            f"scored and {verb} not counted."
        )
    return text


def percent(share: float) -> str:
    """Returns a share as people read it.

    Example:

    >>> percent(0.4444)
    '44.4 %'
    """
    return f"{100 * share:.1f} %"


def _figure(value: float | int | None) -> str:
    """Returns a cell: a count, a share to three places, or nothing."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _picture(file: Path, text: str) -> str:
    return _image(file.read_bytes(), "png", text)


def _image(content: bytes, kind: str, text: str) -> str:
    encoded = base64.b64encode(content).decode("ascii")
    return (
        f'<img alt="{escape(text)}" src="data:image/{kind};base64,{encoded}">'
    )


def _gallery(strips: Sequence[Strip]) -> str:
    return "\n".join(map(_strip, strips))


def _strip(strip: Strip) -> str:
    image = _image(strip.jpeg(), "jpeg", f"Frames of {strip.file}")
    if not strip.mp4:
        return _figure_of(image, strip)
    encoded = base64.b64encode(strip.mp4).decode("ascii")
    video = (
        '<video controls loop muted playsinline preload="auto" '
        f'aria-label="{escape(strip.file)}" '
        f'src="data:video/mp4;base64,{encoded}"></video>'
    )
    return _figure_of(f'<div class="clip">{video}{image}</div>', strip)


def _figure_of(content: str, strip: Strip) -> str:
    """Returns pictures of a video over what was said of it."""
    said = f"{strip.prediction} ({strip.score:.2f})"
    if strip.right:
        caption = f'<span class="right">✓ {escape(said)}</span>'
    else:
        caption = (
            f'<span class="wrong">✗ {escape(said)}</span>, truth '
            f"<b>{escape(strip.truth)}</b>"
        )
    return (
        f"<figure>{content}<figcaption>{caption} "
        f'<span class="note">{escape(strip.file)}</span></figcaption></figure>'
    )


def _bins_table(bins: Sequence[Mapping[str, float]]) -> str:
    rows = [
        [
            f"{row['low']:.1f} to {row['high']:.1f}",
            str(row["count"]),
            percent(row["confidence"]),
            percent(row["accuracy"]),
        ]
        for row in bins
    ]
    return table(["confidence", "videos", "mean", "accuracy"], rows)


def _counts_table(videos: Mapping[str, Mapping[str, int]]) -> str:
    splits = list(next(iter(videos.values()), {}))
    rows = [
        [name, *(str(counts[split]) for split in splits)]
        for name, counts in videos.items()
    ]
    total = [str(sum(c[split] for c in videos.values())) for split in splits]
    return table(["videos", *splits], [*rows, ["all", *total]])


def _pairs(pairs: Mapping[str, Any]) -> str:
    rows = [[name, str(value)] for name, value in pairs.items()]
    return table(["name", "value"], rows) if rows else ""


def _details(summary: str, pairs: Mapping[str, Any]) -> str:
    return (
        f"<details><summary>{escape(summary)}</summary>"
        f"{_pairs(pairs)}</details>"
    )
