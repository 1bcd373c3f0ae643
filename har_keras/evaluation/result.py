"""The figures of an evaluation, as an object."""

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from har_keras.errors import DataError
from har_keras.files import read_regular
from har_keras.progress import plural
from har_keras.run import ResultFiles
from har_keras.terminal import shell_word

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is recognized.

    Args:
        precision: float. Fraction of the predictions of the class that are
            right; 0 if there are none. None if it was not tested, as below.
        recall: float or None. Fraction of its videos that are recognized.
        f1: float or None. Harmonic mean of precision and recall.
        support: int. Number of its videos; 0 if it was not tested.
        unit: str. What was scored: a "video", or a "part" of one.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    unit: str = "video"

    def __str__(self) -> str:
        """A line for people."""
        if not self.support:
            return f"not tested: no {self.unit}"
        return (
            f"recall {self.recall:.3f}  precision {self.precision:.3f}  "
            f"{plural(self.support, self.unit)}"
        )


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured: `evaluation.json` with names.

    Args:
        figures: Mapping. All of `evaluation.json`; `evaluation["accuracy"]`
            reads from it, too.
        files: ResultFiles. Where the report and the tables are.

    Example:

    >>> figures = {"accuracy": 0.9, "accuracy_interval": [0.7, 1.0]}
    >>> found = Evaluation(figures, ResultFiles("runs/first"))
    >>> found.accuracy, found.interval
    (0.9, (0.7, 1.0))
    """

    figures: Mapping[str, Any]
    files: ResultFiles = field(compare=False)

    @classmethod
    def read(cls, files: ResultFiles) -> "Evaluation":
        """Reads the evaluation that a folder holds.

        Args:
            files: ResultFiles. A run, or the folder of another evaluation.

        Raises:
            DataError: If there is none, or it is damaged.
        """
        path = files.evaluation_file
        try:
            return cls(json.loads(read_regular(path)), files)
        except FileNotFoundError as error:
            raise DataError(
                f"'{files.path}' has no {path.name}. Measure the run with: "
                f"har-keras evaluate {shell_word(files.path)}"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(
                f"'{path}' can't be read: {error}. Measure the run again."
            ) from error

    def __str__(self) -> str:
        interval = self.interval
        range_text = (
            f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
            if interval
            else ""
        )
        return (
            f"accuracy {self.accuracy:.3f}{range_text} on {self.num_videos} "
            f"of {self.num_videos + self.num_failed} {self.unit}"
        )

    def __getitem__(self, name: str) -> Any:
        return self.figures[name]

    @property
    def accuracy(self) -> float:
        """Fraction of the scored videos that are classified right."""
        return float(self.figures["accuracy"])

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the accuracy over groups of videos.

        None with one group, or where nothing tells which videos belong
        together.
        """
        found = self.figures["accuracy_interval"]
        return (float(found[0]), float(found[1])) if found else None

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes."""
        return float(self.figures["balanced_accuracy"])

    @property
    def majority_accuracy(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        return float(self.figures["majority_accuracy"])

    @property
    def num_videos(self) -> int:
        """Videos that were scored."""
        return int(self.figures["num_videos"])

    @property
    def unit(self) -> str:
        """What was scored: "videos", or "parts" of them with labels in time."""
        return str(self.figures.get("unit", "videos"))

    @property
    def num_failed(self) -> int:
        """Videos that could not be decoded."""
        return int(self.figures["num_failed"])

    @property
    def failed(self) -> dict[str, str]:
        """The reason for each video that could not be decoded, by file."""
        return {row["file"]: row["reason"] for row in self.figures["failed"]}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes in label order."""
        return tuple(self.figures["class_names"])

    @property
    def per_class(self) -> dict[str, ClassFigures]:
        """Precision, recall, F1 and support of each class, by name."""
        return {
            row["class"]: ClassFigures(
                row["precision"],
                row["recall"],
                row["f1"],
                row["support"],
                self.unit.removesuffix("s"),
            )
            for row in self.figures["per_class"]
        }

    @property
    def confusion(self) -> "np.ndarray":
        """Counts, `(K, K)`: true class by row, prediction by column."""
        import numpy as np

        return np.array(self.figures["confusion"])

    @property
    def controls(self) -> dict[str, float]:
        """Accuracy without temporal order: shuffled, reversed, one frame."""
        return dict(self.figures["controls"])

    @property
    def segments(self) -> dict[str, Any] | None:
        """Figures of segments in time; None without labels in time."""
        found = self.figures.get("segments")
        return dict(found) if found else None

    @property
    def report(self) -> Path:
        """The report, a page for people."""
        return self.files.report_file

    @functools.cached_property
    def videos(self) -> list[dict[str, str]]:
        """The rows of `videos.csv`: file, label, prediction, probabilities.

        With labels in time, start and end of a part, too.
        """
        with self.files.videos_file.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
