"""The HTML report of an evaluation: one file without external resources.

Names come from folders and files, so all text is escaped, and the page's
content security policy forbids scripts and external resources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from har_keras.files import whole_file
from har_keras.inference.calibration import Calibration
from har_keras.progress import plural
from har_keras.report.film_strips import Strip
from har_keras.report.html import (
    contents_list,
    image,
    page,
    paragraphs,
    parts,
    section,
    table,
)
from har_keras.report.segment_files import segment_headline, segment_tables
from har_keras.report.verdict import (
    big_figure,
    is_few,
    percent,
    remainder,
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
            **{
                name: image(plot.read_bytes(), "png", name)
                for name, plot in self._plots.items()
            },
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
                self._opening(),
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

    def _run(self) -> Markup:
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

    def _opening(self) -> Markup:
        found = self.evaluation
        said = verdict(found, self.videos, self.options)
        made: Markup = _parts().opening(
            self.title, big_figure(found), said, remainder(found)
        )
        return made

    def _classes(self) -> Markup:
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

    def _segments(self) -> Markup:
        found = self.evaluation.get("segments")
        if not found:
            return Markup()
        return paragraphs([segment_headline(found)]) + segment_tables(found)

    def _controls(self) -> Markup:
        controls = self.evaluation.get("controls")
        if not controls:
            return Markup()
        rows = [["the whole clip", percent(self.evaluation["accuracy"])]]
        rows += [
            [text, percent(controls[name])]
            for name, text in _CONTROL_TEXTS.items()
            if name in controls
        ]
        note: Markup = _parts().controls_note()
        return table(["input of the model", "accuracy"], rows) + note

    def _robustness(self) -> Markup:
        found = self.evaluation.get("robustness")
        if not found:
            return Markup()
        rows = [["none", percent(self.evaluation["accuracy"])]]
        rows += [[row["what"], percent(row["accuracy"])] for row in found]
        return table(["corruption", "accuracy"], rows)

    def _confidence(self) -> Markup:
        found = self.evaluation["calibration"]
        fitted = self.evaluation.get("calibrated") or {}
        text: Markup = _parts().calibration(
            found["ece"],
            fitted
            and {
                **fitted,
                "is_fitted": Calibration.of(fitted).is_fitted,
                "videos": plural(fitted["num_videos"], "validation video"),
            },
            _of_groups(fitted),
        )
        return text + _bins_table(found["bins"])

    def _acceptance(self) -> Markup:
        fitted = self.evaluation.get("calibrated", {})
        verdict = Calibration.of(fitted).verdict if fitted else ""
        found = self.evaluation.get("acceptance")
        if not verdict or not found:
            return Markup()
        texts = [verdict]
        limit = fitted.get("limit")
        if fitted["threshold"] is not None or limit is not None:
            total = self.evaluation["num_videos"]
            right = (
                f", {percent(found['accuracy'])} of them right"
                if found["num_accepted"]
                else ""
            )
            texts.append(
                f"Of these {total} {self._unit}, {found['num_accepted']} are "
                f"accepted ({percent(found['coverage'])}){right}."
            )
        if limit is not None:
            number = found["num_far"]
            texts.append(
                f"{number or 'None'} of them {'is' if number == 1 else 'are'} "
                f"farther from the training videos than {limit:.1f}."
            )
        return paragraphs(texts)

    def _attention(self) -> Markup:
        if not self.attention:
            return Markup()
        note: Markup = _parts().attention_note()
        return note + _parts().attention(self.attention)

    def _mistakes_heading(self) -> str:
        wrong = self.evaluation["num_videos"] - self.evaluation["num_correct"]
        shown = len(self.mistakes)
        if shown < wrong:
            return f"Mistakes: the {shown} most confident of {wrong}"
        return f"Mistakes: {wrong}"

    def _failed(self) -> Markup:
        rows = [[x["file"], x["reason"]] for x in self.evaluation["failed"]]
        return table(["video", "reason"], rows) if rows else Markup()

    def _damaged(self) -> Markup:
        damaged = self.evaluation.get("damaged", [])
        rows = [[x["file"], x["reason"]] for x in damaged]
        return table(["video", "reason"], rows) if rows else Markup()


_PLOTS_OF_MANY = ("Each class against the rest", "Reliability")
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


def _parts() -> Any:
    return parts("evaluation.html")


def _gallery(strips: Sequence[Strip]) -> Markup:
    made: Markup = _parts().gallery(strips)
    return made


def _bins_table(bins: Sequence[Mapping[str, float]]) -> Markup:
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


def _counts_table(videos: Mapping[str, Mapping[str, int]], unit: str) -> Markup:
    splits = list(next(iter(videos.values()), {}))
    rows = [
        [name, *(str(counts[split]) for split in splits)]
        for name, counts in videos.items()
    ]
    total = [str(sum(c[split] for c in videos.values())) for split in splits]
    return table([unit, *splits], [*rows, ["all", *total]])


def _pairs(pairs: Mapping[str, Any]) -> Markup:
    rows = [[name, str(value)] for name, value in pairs.items()]
    return table(["name", "value"], rows) if rows else Markup()


def _details(summary: str, pairs: Mapping[str, Any]) -> Markup:
    made: Markup = parts("parts.html").details(summary, _pairs(pairs))
    return made
