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
from har_keras.report.html import contents_list, page, section, table
from har_keras.report.segment_files import segment_headline, segment_tables
from har_keras.report.verdict import (
    big_figure,
    headline,
    is_few,
    percent,
    verdict,
)


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
        contents = {
            self._mistakes_heading(): _gallery(self.mistakes),
            "Classes": self._classes(),
            "Segments in time": self._segments(),
            **{name: _plot(plot, name) for name, plot in self._plots.items()},
            "Temporal controls": self._controls(),
            "Robustness to corruptions": self._robustness(),
            "Calibration": self._confidence(),
            "None of these": self._acceptance(),
            "Attention": self._attention(),
            **{name: _gallery(some) for name, some in self.examples.items()},
            "Videos that were not scored": self._failed(),
            "Videos used in part": self._damaged(),
            "Data": _counts_table(self.videos, self._unit),
            "The run": self._run(),
            "Options": _details("Every option", self.options),
        }
        shown = {name: content for name, content in contents.items() if content}
        return page(
            self.title,
            [
                self._headline(),
                contents_list(list(shown)),
                *(section(name, content) for name, content in shown.items()),
            ],
        )

    @property
    def _plots(self) -> Mapping[str, Path]:
        """The plots, without those that few videos can't carry."""
        if not is_few(self.evaluation):
            return self.plots
        return {
            name: plot
            for name, plot in self.plots.items()
            if name not in _PLOTS_OF_MANY
        }

    def _run(self) -> str:
        found, options = self.evaluation, self.options
        backbone = found.get("backbone", {})
        rows = {
            "recipe": options.get("recipe", ""),
            "model": _model_text(options),
            "backbone": backbone.get("name", ""),
            "licence of the backbone": backbone.get("license", ""),
            "initial weights": options.get("weights", ""),
            "clip": _clip_text(options),
            "epochs": options.get("epochs", ""),
            **found.get("versions", {}),
        }
        return _pairs({name: value for name, value in rows.items() if value})

    @property
    def _unit(self) -> str:
        return str(self.evaluation.get("unit", "videos"))

    def _headline(self) -> str:
        found = self.evaluation
        said = verdict(found, self.videos, self.options)
        steps = "".join(f"<li>{escape(step)}</li>" for step in said.steps)
        rows = {
            "How good": escape(said.good),
            "How sure": escape(said.sure),
            "Mixed up": escape(said.mixed),
            "What next": f"<ol>{steps}</ol>" if steps else _NOTHING_NEXT,
        }
        return (
            f"<h1>{escape(self.title)}</h1>\n"
            f'<p class="headline">{escape(big_figure(found))}</p>\n'
            '<dl class="verdict">'
            + "".join(f"<dt>{a}</dt><dd>{b}</dd>" for a, b in rows.items())
            + f'</dl>\n<p class="note">{escape(headline(found))}</p>\n'
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


_PLOTS_OF_MANY = ("Each class against the rest", "Reliability")
_NOTHING_NEXT = (
    "Nothing is amiss. Try it on videos of people and places of your own."
)
_NOT_TESTED = "not tested"
_CLASS_FIGURES = ("precision", "recall", "f1", "support")
_RANK_FIGURES = {"roc_auc": "ROC AUC", "average_precision": "AP"}
_CONTROL_TEXTS = {
    "single_frame": "the middle frame, repeated",
    "shuffled": "the frames in random order",
    "reversed": "the frames in reverse order",
    "background": "the background (the median over frames)",
}


def _model_text(options: Mapping[str, Any]) -> str:
    names = ("num_layers", "num_heads", "hidden_dim", "mlp_dim")
    if options.get("model") != "vit" or any(x not in options for x in names):
        return str(options.get("model", ""))
    layers, heads, hidden, mlp = (options[name] for name in names)
    return (
        f"vit: {layers} layers, {heads} heads, hidden {hidden}, "
        f"intermediate {mlp}"
    )


def _clip_text(options: Mapping[str, Any]) -> str:
    names = ("num_frames", "fps", "crop_size")
    if any(name not in options for name in names):
        return ""
    frames, fps, size = (options[name] for name in names)
    seconds = frames / fps
    return (
        f"{frames} frames of {size} pixels at {fps:g} a second: {seconds:.1f} s"
    )


def _of_groups(fitted: Mapping[str, Any]) -> str:
    groups = fitted.get("num_groups")
    return f" of {plural(groups, 'group')}" if groups else ""


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
