"""Writes the files of an evaluation: figures, table, plots, report."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config, EvaluationConfig
from har_keras.evaluation.measure import measure, usable
from har_keras.evaluation.metrics import curve
from har_keras.evaluation.result import Evaluation
from har_keras.evaluation.segments import VideoSegments
from har_keras.evaluation.timelines import measure_segments
from har_keras.files import whole_file
from har_keras.inference.attention_rollout import overlay_heatmap
from har_keras.inference.classifier import Classifier
from har_keras.inference.timeline import TimelineConfig
from har_keras.inference.views import view_clips
from har_keras.manifest.division import has_known_group
from har_keras.manifest.formats.cells import guarded
from har_keras.manifest.manifest import Manifest, Video
from har_keras.report.evaluation_page import Report
from har_keras.report.film_strips import (
    Strip,
    read_strip,
    sample_strips,
    training_strips,
)
from har_keras.report.model_card import model_card
from har_keras.report.plots import (
    plot_confusion,
    plot_coverage,
    plot_curves,
    plot_ranking,
    plot_reliability,
    plot_samples,
)
from har_keras.report.segment_files import write_segments
from har_keras.run import ResultFiles, Run
from har_keras.store.store import Store
from har_keras.video.ffmpeg import Frames

_MAX_MISTAKES = 24
_NUM_EXAMPLES = 4
_NUM_ATTENDED = 3
_NUM_SHOWN = 8


@dataclass(frozen=True)
class Results:
    """Videos that were scored, and how to show them.

    Args:
        manifest: Manifest. Every video of the folder.
        store: Store. The decoded frames.
        config: Config. That of the run.
        videos: Sequence of Video. Those that were scored.
        probabilities: float array of shape `(num_videos, K)`.
        figures: Mapping. What goes into `evaluation.json`.
        look: Callable or None. From clips `(B, num_frames, H, W, 3)` to the
            attention on their tubelets `(B, T, H', W')`.
        options: Mapping or None. Options to show. Defaults to all of the run.
        segments: Sequence of VideoSegments. Of the videos with labels in time.
    """

    manifest: Manifest
    store: Store
    config: Config
    videos: Sequence[Video]
    probabilities: np.ndarray
    figures: Mapping[str, Any]
    look: Callable[[Frames], np.ndarray] | None = None
    options: Mapping[str, Any] | None = None
    segments: Sequence[VideoSegments] = ()

    def evaluation(self, files: ResultFiles) -> Evaluation:
        """Returns the figures as an object.

        Args:
            files: ResultFiles. Where they were written.
        """
        return Evaluation(dict(self.figures), files)

    def write(
        self, folder: ResultFiles, title: str, history_file: Path | None
    ) -> None:
        """Writes figures, table, confusion matrix and page into a folder.

        Args:
            folder: ResultFiles. Names the files.
            title: str. Heading of the page.
            history_file: Path or None. That of the training, if there is one.
        """
        with whole_file(folder.evaluation_file) as file:
            text = json.dumps(self.figures, indent=2, allow_nan=False)
            file.write_text(text + "\n", "utf-8")
        with whole_file(folder.videos_file) as file:
            self._write_table(file)
        plot_confusion(
            self.figures["confusion"],
            self.figures["class_names"],
            folder.confusion_file,
        )
        plots: dict[str, Path] = {}
        if self.segments:
            plots |= write_segments(
                self.segments, self.manifest.class_names, folder
            )
        plots["Confusion"] = folder.confusion_file
        plots |= self._plot_probabilities(folder)
        if history_file and history_file.is_file():
            plot_curves(
                history_file,
                folder.curves_file,
                keeps_best=self.config.training.keep == "best",
            )
            plots["Training"] = folder.curves_file
        self._report(title, plots).write(folder.report_file)

    def _plot_probabilities(self, folder: ResultFiles) -> dict[str, Path]:
        """Draws how probabilities rank the videos, and what they are worth."""
        labels = self._labels
        curves = {
            name: curve(labels == label, self.probabilities[:, label])
            for label, name in enumerate(self.manifest.class_names)
        }
        plot_ranking(curves, folder.ranking_file)
        plot_reliability(
            self.figures["calibration"]["bins"],
            self.figures.get("calibrated", {}).get("bins", ()),
            folder.reliability_file,
        )
        drawn = {
            "Each class against the rest": folder.ranking_file,
            "Reliability": folder.reliability_file,
        }
        if found := self.figures.get("acceptance"):
            plot_coverage(
                found["curve"],
                folder.coverage_file,
                criteria=_criteria(self.figures["calibrated"]),
                kept=(found["coverage"], found["accuracy"]),
            )
            drawn["Accuracy against coverage"] = folder.coverage_file
        return drawn

    @property
    def _labels(self) -> np.ndarray:
        return np.array([self.manifest.label(v) for v in self.videos])

    def write_samples(self, folder: Run, split: str) -> None:
        """Draws film strips: of the training's clips, and of those scored."""
        known = {
            video.name: row
            for video, row in zip(self.videos, self.probabilities, strict=True)
        }
        strips = {
            "train": training_strips(self.store, self.manifest, self.config),
            split: sample_strips(
                self.store,
                self.manifest,
                split,
                self.config.clip,
                probabilities=known,
            ),
        }
        for name, drawn in strips.items():
            if drawn:
                plot_samples(drawn, folder.samples_file(name))

    def write_card(self, run: Run, num_parameters: int) -> None:
        """Writes the run's model card."""
        text = model_card(
            run.path.resolve().name,
            self.config,
            self.figures,
            count_videos(self.manifest),
            num_parameters,
        )
        with whole_file(run.card_file) as file:
            file.write_text(text, "utf-8", errors="replace")

    def _write_table(self, path: Path) -> None:
        names = self.manifest.class_names
        with path.open(
            "w", newline="", encoding="utf-8", errors="surrogateescape"
        ) as file:
            writer = csv.writer(file)
            timed = any(video.is_part for video in self.videos)
            times = ["start", "end"] if timed else []
            header = ["file", *times, "label", "prediction", *names]
            writer.writerow(map(guarded, header))
            for video, row in zip(self.videos, self.probabilities, strict=True):
                texts = [video.class_name, names[int(row.argmax())]]
                cells = [
                    guarded(video.file),
                    *([video.start, video.end] if timed else []),
                    *map(guarded, texts),
                ]
                writer.writerow([*cells, *map(float, row)])

    def _report(self, title: str, plots: Mapping[str, Path]) -> Report:
        labels = self._labels
        predictions = self.probabilities.argmax(1)
        surest = np.argsort(-self.probabilities.max(1), kind="stable")
        right = [i for i in surest if labels[i] == predictions[i]]
        wrong = [i for i in surest if labels[i] != predictions[i]]
        return Report(
            title=title,
            evaluation=self.figures,
            plots=plots,
            mistakes=[self._strip(i) for i in wrong[:_MAX_MISTAKES]],
            examples={
                "Right and sure": [
                    self._strip(i) for i in right[:_NUM_EXAMPLES]
                ],
                "Right and unsure": [
                    self._strip(i)
                    for i in right[_NUM_EXAMPLES:][::-1][:_NUM_EXAMPLES]
                ],
            },
            videos=count_videos(self.manifest),
            options=self.options or self.config.flat(),
            attention=[
                self._attended(i)
                for i in [*right[:_NUM_ATTENDED], *wrong[:_NUM_ATTENDED]]
                if self.look
            ],
        )

    def _attended(self, index: int) -> tuple[Strip, Strip]:
        """Returns a strip of the middle clip, and its attention heatmap."""
        assert self.look is not None
        (clip,) = view_clips(
            self.store,
            self.videos[index],
            self.config.clip,
            EvaluationConfig(num_clips=1, num_crops=1),
        )
        lit = overlay_heatmap(clip, self.look(clip[None])[0])
        step = max(1, len(clip) // _NUM_SHOWN)
        strip = self._strip(index)
        return (
            dataclasses.replace(strip, frames=clip[::step], mp4=b""),
            dataclasses.replace(strip, frames=lit[::step], mp4=b""),
        )

    def _strip(self, index: int) -> Strip:
        row = self.probabilities[index]
        return read_strip(
            self.store,
            self.videos[index],
            self.config.clip,
            prediction=self.manifest.class_names[int(row.argmax())],
            score=float(row.max()),
            playable=True,
        )


def _criteria(calibrated: Mapping[str, Any]) -> str:
    """Returns what an answer is accepted by, in a few words."""
    threshold, limit = calibrated["threshold"], calibrated.get("limit")
    texts = [] if threshold is None else [f"threshold {100 * threshold:.1f} %"]
    texts += [] if limit is None else [f"distance {limit:.1f}"]
    return ", ".join(texts)


def count_videos(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Returns how many videos there are, by class and by split.

    Those that could not be decoded are counted apart, under "not usable".
    """
    counts = {}
    for name in manifest.class_names:
        videos = [v for v in manifest.videos if v.class_name == name]
        usable = [v.split for v in videos if v.kept_frames]
        counts[name] = {
            split: usable.count(split) for split in ("train", "val", "test")
        }
        counts[name]["not usable"] = len(videos) - len(usable)
    return counts


@dataclass(frozen=True)
class EvaluationTask:
    """Decoded videos, and the classifier to evaluate on them."""

    classifier: Classifier
    store: Store
    manifest: Manifest
    chosen: Sequence[Video]
    split: str
    timeline: TimelineConfig | None = None

    def measured(self, robustness: bool) -> Results:
        """Returns the figures, and all that shows them."""
        from har_keras.inference.attention_rollout import (
            attention_rollout,
            has_attention,
        )

        model, info = self.classifier.model, self.classifier.info
        known = has_known_group(self.manifest.videos, self.chosen)
        pairs = zip(self.chosen, known, strict=True)
        measured, segments = measure_segments(
            self.classifier, self.store, usable(self.chosen), self.timeline,
            {video.file for video, is_known in pairs if is_known},
        )  # fmt: skip
        figures, probabilities = measure(
            self.classifier, self.store, self.manifest, self.chosen,
            robustness=robustness,
        )  # fmt: skip
        return Results(
            self.manifest,
            self.store,
            self.classifier.config,
            usable(self.chosen),
            probabilities,
            {
                **figures,
                "split": self.split,
                **({"segments": measured} if measured else {}),
            },
            functools.partial(attention_rollout, model)
            if has_attention(model)
            else None,
            info.options() if info else None,
            segments,
        )
