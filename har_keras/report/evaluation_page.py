"""The HTML report of an evaluation: one file without external resources.

Names come from folders and files, so all text is escaped, and the page's
content security policy forbids scripts and external resources.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from har_keras.files import whole_file
from har_keras.inference.calibration import Calibration
from har_keras.progress import plural
from har_keras.report.film_strips import Strip
from har_keras.report.html import page, section, table
from har_keras.report.segment_files import segment_headline, segment_tables


@dataclass(frozen=True)
class Report:
    """The content of the HTML report of an evaluation.

    Args:
        title: str. The name of the run or of the folder.
        evaluation: Mapping. The figures of `evaluation.json`.
        plots: Mapping from a heading to an existing PNG file.
        mistakes: Sequence of Strip. Misclassified videos, by descending
            confidence.
        examples: Mapping from a heading to strips of correctly classified
            videos.
        videos: Mapping from class to counts of videos by split.
        options: Mapping. Every option of the run by name.
        attention: Sequence of pairs: a strip, and the same strip with the
            attention heatmap.
    """

    title: str
    evaluation: Mapping[str, Any]
    plots: Mapping[str, Path]
    mistakes: Sequence[Strip]
    examples: Mapping[str, Sequence[Strip]]
    videos: Mapping[str, Mapping[str, int]]
    options: Mapping[str, Any]
    attention: Sequence[tuple[Strip, Strip]] = ()

    def write(self, path: Path) -> None:
        """Writes the page to a file."""
        with whole_file(path) as file:
            file.write_text(self.html(), "utf-8", errors="replace")

    def html(self) -> str:
        """Renders the page."""
        sections = [
            self._headline(),
            section("Classes", self._classes()),
            section("Segments in time", self._segments()),
            *(
                section(heading, _plot(plot, heading))
                for heading, plot in self.plots.items()
            ),
            section("Temporal controls", self._controls()),
            section("Robustness to corruptions", self._robustness()),
            section("Calibration", self._confidence()),
            section("None of these", self._acceptance()),
            section("Attention", self._attention()),
            section(self._mistakes_heading(), _gallery(self.mistakes)),
            *(
                section(heading, _gallery(strips))
                for heading, strips in self.examples.items()
            ),
            section("Videos that were not scored", self._failed()),
            section("Videos used in part", self._damaged()),
            section("Data", _counts_table(self.videos, self._unit)),
            section("Options", _details("Every option", self.options)),
            section("Versions", _pairs(self.evaluation.get("versions", {}))),
        ]
        return page(self.title, sections)

    @property
    def _unit(self) -> str:
        return str(self.evaluation.get("unit", "videos"))

    def _headline(self) -> str:
        found = self.evaluation
        return (
            f"<h1>{escape(self.title)}</h1>\n"
            f'<p class="headline">{escape(_big(found))}</p>\n'
            f"<p>{escape(headline(found))}</p>\n"
        )

    def _classes(self) -> str:
        found = self.evaluation
        ranks = found.get("ranking") or [{} for _ in found["per_class"]]
        rows = [
            [
                row["class"],
                *(_figure(row[key]) or _NOT_TESTED for key in _CLASS_FIGURES),
                *(_figure(rank.get(key)) for key in _RANK_FIGURES),
            ]
            for row, rank in zip(found["per_class"], ranks, strict=True)
        ]
        header = ["class", *_CLASS_FIGURES, *_RANK_FIGURES.values()]
        return table(header, rows)

    def _segments(self) -> str:
        found = self.evaluation.get("segments")
        if not found:
            return ""
        return f"<p>{escape(segment_headline(found))}</p>" + segment_tables(
            found
        )

    def _controls(self) -> str:
        controls = self.evaluation.get("controls")
        if not controls:
            return ""
        rows = [["the whole clip", percent(self.evaluation["accuracy"])]]
        rows += [
            [text, percent(controls[name])]
            for name, text in _CONTROL_TEXTS.items()
            if name in controls
        ]
        return table(["input of the model", "accuracy"], rows) + (
            '<p class="note">If a single frame reaches the same accuracy, the '
            "model uses appearance, not motion; if the background does, it "
            "uses the scene, not the person.</p>"
        )

    def _robustness(self) -> str:
        found = self.evaluation.get("robustness")
        if not found:
            return ""
        rows = [["none", percent(self.evaluation["accuracy"])]]
        rows += [[row["what"], percent(row["accuracy"])] for row in found]
        return table(["corruption", "accuracy"], rows)

    def _confidence(self) -> str:
        found = self.evaluation["calibration"]
        text = (
            "<p>Expected calibration error: "
            f"{found['ece']:.3f} (0 is best: of videos with confidence 0.8, "
            "8 in 10 should be correct).</p>"
        )
        fitted = self.evaluation.get("calibrated")
        if fitted and not Calibration.of(fitted).is_fitted:
            text += (
                "<p>No temperature was fitted, for there are "
                f"{plural(fitted['num_videos'], 'validation video')}"
                f"{_of_groups(fitted)}: "
                "<code>predict</code> reports the model's own confidences.</p>"
            )
        elif fitted and fitted["num_videos"]:
            text += (
                "<p>With temperature scaling "
                f"({fitted['temperature']:.2f}, fitted on "
                f"{fitted['num_videos']} validation videos"
                f"{_of_groups(fitted)}) it is "
                f"{fitted['ece']:.3f}. <code>predict</code> reports these "
                "calibrated confidences.</p>"
            )
        return text + _bins_table(found["bins"])

    def _acceptance(self) -> str:
        fitted = self.evaluation.get("calibrated", {})
        verdict = Calibration.of(fitted).verdict if fitted else ""
        found = self.evaluation.get("acceptance")
        if not verdict or not found:
            return ""
        text = f"<p>{escape(verdict)}</p>"
        if fitted["threshold"] is not None:
            total = self.evaluation["num_videos"]
            right = (
                f", {percent(found['accuracy'])} of them right"
                if found["num_accepted"]
                else ""
            )
            text += (
                f"<p>Of these {total} {self._unit}, {found['num_accepted']} "
                f"are accepted ({percent(found['coverage'])}){right}.</p>"
            )
        return text

    def _attention(self) -> str:
        if not self.attention:
            return ""
        note = (
            '<p class="note">Attention rollout: the brighter a region, the '
            "more it contributes to the prediction. It shows where the model "
            "looks, not why.</p>"
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
            return f"Mistakes: the {shown} most confident of {wrong}"
        return f"Mistakes: {wrong}"

    def _failed(self) -> str:
        rows = [[x["file"], x["reason"]] for x in self.evaluation["failed"]]
        return table(["video", "reason"], rows) if rows else ""

    def _damaged(self) -> str:
        damaged = self.evaluation.get("damaged", [])
        rows = [[x["file"], x["reason"]] for x in damaged]
        return table(["video", "reason"], rows) if rows else ""


# Of fewer, the accuracy of similar videos may be ten points away.
_FEW_VIDEOS = 50
_NOT_TESTED = "not tested"
_CLASS_FIGURES = ("precision", "recall", "f1", "support")
_RANK_FIGURES = {"roc_auc": "ROC AUC", "average_precision": "AP"}
_CONTROL_TEXTS = {
    "single_frame": "the middle frame, repeated",
    "shuffled": "the frames in random order",
    "reversed": "the frames in reverse order",
    "background": "the background (the median over frames)",
}


def headline(evaluation: Mapping[str, Any]) -> str:
    """Summarizes the result in up to three sentences.

    Example:

    >>> headline({"num_correct": 60, "num_videos": 80, "num_failed": 1,
    ...     "accuracy_interval": [0.5, 1.0], "num_groups": 20,
    ...     "balanced_accuracy": 0.75, "majority_accuracy": 0.5})
    '60 of 80 videos correct (95 % confidence interval 50.0 % to 100.0 %, over
    20 groups). Balanced accuracy 75.0 %. Always predicting the largest class
    gives 50.0 %. 1 of 81 videos could not be scored and is not counted.'
    """
    found, unit = evaluation, evaluation.get("unit", "videos")
    interval = ""
    if found["accuracy_interval"]:
        low, high = map(percent, found["accuracy_interval"])
        groups = found["num_groups"]
        interval = (
            f" (95 % confidence interval {low} to {high}, over {groups} groups)"
        )
    text = (
        f"{_caution(found)}{found['num_correct']} of {found['num_videos']} "
        f"{unit} correct"
        f"{interval}. Balanced accuracy "
        f"{percent(found['balanced_accuracy'])}. Always predicting the largest "
        f"class gives {percent(found['majority_accuracy'])}."
    )
    if failed := found["num_failed"]:
        verb = "is" if failed == 1 else "are"
        text += (
            f" {failed} of {found['num_videos'] + failed} {unit} could not be "
            f"scored and {verb} not counted."
        )
    return text


def _few(found: Mapping[str, Any]) -> bool:
    return bool(found["num_videos"] < _FEW_VIDEOS)


def _big(found: Mapping[str, Any]) -> str:
    """Returns the accuracy in large letters; of few videos, its range."""
    interval = found.get("interval_if_independent")
    if not _few(found) or not interval:
        return f"{percent(found['accuracy'])} accuracy"
    low, high = (f"{100 * end:.0f} %" for end in interval)
    return f"{low} to {high} accuracy"


def _caution(found: Mapping[str, Any]) -> str:
    """Returns what to know before the figures are read."""
    text = ""
    unknown = found.get("num_unknown_groups", 0)
    if 2 * unknown > found["num_videos"]:
        text += (
            "The test may flatter: nothing tells which videos are of one "
            "person, place or recording, so some of them may have been "
            "trained on. "
        )
    if not _few(found):
        return text
    interval = found.get("interval_if_independent")
    margin = ""
    if interval and not found["accuracy_interval"]:
        low, high = map(percent, interval)
        margin = f": between {low} and {high}, even if all are independent"
    return (
        f"{text}With only {found['num_videos']} test videos the accuracy is "
        f"uncertain{margin}. "
    )


def _of_groups(fitted: Mapping[str, Any]) -> str:
    groups = fitted.get("num_groups")
    return f" of {plural(groups, 'group')}" if groups else ""


def percent(share: float) -> str:
    """Formats a fraction as a percentage.

    Example:

    >>> percent(0.4444)
    '44.4 %'
    """
    return f"{100 * share:.1f} %"


def _figure(value: float | int | None) -> str:
    """Formats a cell: a count, a fraction to three places, or nothing."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _plot(file: Path, text: str) -> str:
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
    """Returns images of a video with a caption of its classes."""
    predicted = f"{strip.prediction} ({strip.score:.2f})"
    if strip.right:
        caption = f'<span class="right">✓ {escape(predicted)}</span>'
    else:
        caption = (
            f'<span class="wrong">✗ {escape(predicted)}</span>, true class '
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


def _counts_table(videos: Mapping[str, Mapping[str, int]], unit: str) -> str:
    splits = list(next(iter(videos.values()), {}))
    rows = [
        [name, *(str(counts[split]) for split in splits)]
        for name, counts in videos.items()
    ]
    total = [str(sum(c[split] for c in videos.values())) for split in splits]
    return table([unit, *splits], [*rows, ["all", *total]])


def _pairs(pairs: Mapping[str, Any]) -> str:
    rows = [[name, str(value)] for name, value in pairs.items()]
    return table(["name", "value"], rows) if rows else ""


def _details(summary: str, pairs: Mapping[str, Any]) -> str:
    return (
        f"<details><summary>{escape(summary)}</summary>"
        f"{_pairs(pairs)}</details>"
    )
