"""What the validation videos tell of answers: temperatures, what is accepted.

Temperatures make a confidence the share of right answers. The threshold is
the confidence below which an answer is "none of these"; the limits are the
distances from the training videos beyond which it is, too.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from har_keras.damaged import read_json
from har_keras.errors import DataError
from har_keras.files import whole_file
from har_keras.inference.coverage import groups_needed
from har_keras.inference.distance import reference_as_json, reference_from
from har_keras.progress import plural
from har_keras.run import Run
from har_keras.serving.acceptance import (
    Reference,
    accepted,
    apply_temperature,
)
from har_keras.terminal import shell_word

SMALLEST, LARGEST = 0.05, 20.0
"""The range in which a temperature is looked for."""
# Fewer groups of videos tell nothing of confidence.
_FEWEST_GROUPS = 10
# Of a timeline, in runs of versions that chose no threshold on validation.
_EARLIER_THRESHOLD = 0.5


@dataclass(frozen=True)
class Calibration:
    """The calibration temperatures of a run, and its threshold.

    Args:
        temperature: float. Temperature for probabilities of whole videos,
            which are means over views. 1 is uncalibrated, above 1 less
            confident.
        window_temperature: float. Temperature for probabilities of single
            clips, as in a timeline.
        num_videos: int. Validation videos that there were.
        num_groups: int or None. Groups of these videos. With less than ten,
            nothing was fitted, and both temperatures are 1. None in runs of
            earlier versions, which fitted on any number of videos.
        threshold: float or None. Smallest calibrated confidence of an answer
            that is accepted; below it, it is "none of these". None accepts
            everything.
        accept_errors: float or None. Share of accepted answers that may be
            wrong, for which it was chosen. None in runs of earlier versions,
            which chose no threshold.
        num_known_groups: int. Groups of validation videos it was chosen on.
        coverage: float. Share of these that are accepted.
        accepted_error: float. Share of the accepted that are wrong.
        error_bound: float. Upper end of its 95 % interval.
        limit: float or None. Largest distance of a whole video from the
            training videos; beyond it, it is "none of these", however sure
            the answer. None accepts everything.
        window_limit: float or None. That of a single clip.
        far_share: float or None. Share of the known groups that may be
            beyond the limit. None in runs of earlier versions, and where the
            network has no features to tell distances by.
        reference: Reference or None. What distances are from; there is none
            without a limit, and an exported model has its own.
    """

    temperature: float = 1.0
    window_temperature: float = 1.0
    num_videos: int = 0
    num_groups: int | None = 0
    threshold: float | None = None
    accept_errors: float | None = None
    num_known_groups: int = 0
    coverage: float = 1.0
    accepted_error: float = 0.0
    error_bound: float = 1.0
    limit: float | None = None
    window_limit: float | None = None
    far_share: float | None = None
    reference: Reference | None = field(default=None, repr=False, compare=False)

    @property
    def segment_threshold(self) -> float:
        """The threshold of a timeline's segments where none is given."""
        if self.threshold is None and self.accept_errors is None:
            return _EARLIER_THRESHOLD
        return self.threshold or 0.0

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Returns the calibrated probabilities of whole videos.

        Args:
            probabilities: float array of shape `(..., K)`, as of the model.
        """
        return np.asarray(apply_temperature(probabilities, self.temperature))

    def accepts(
        self, probabilities: np.ndarray, distances: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Returns which answers of whole videos are accepted.

        Args:
            probabilities: float array of shape `(..., K)`, as of the model.
            distances: float array of shape `(...)`. From the training videos.
                Defaults to 0.

        Returns:
            bool array of shape `(...)`.
        """
        return np.asarray(
            accepted(
                probabilities,
                self.temperature,
                self.threshold,
                distances=distances,
                limit=self.limit,
            )
        )

    def is_far(self, distances: np.ndarray | float) -> np.ndarray:
        """Returns which whole videos are too far from the training videos.

        Args:
            distances: float array of any shape.
        """
        limit = math.inf if self.limit is None else self.limit
        return np.asarray(distances > limit)

    @property
    def verdict(self) -> str:
        """What is accepted and what that is worth, or why everything is."""
        if self.accept_errors is None:
            return ""
        return " ".join(
            filter(None, (self._of_threshold, self._of_limit, self._worth))
        )

    @property
    def _of_threshold(self) -> str:
        if self.threshold is not None:
            return (
                f"Answers with a confidence below {100 * self.threshold:.1f} % "
                'are "none of these".'
            )
        all_are = 'Every answer is accepted, none is "none of these"'
        if self.limit is not None:
            all_are = 'No answer is "none of these" for being unsure'
        errors = f"--accept-errors {self.accept_errors:g}"
        needed = groups_needed(self.accept_errors or 1.0)
        if self.num_known_groups < needed:
            return (
                f"{all_are}: {errors} needs {needed} known groups of "
                "validation videos, and there "
                f"{'is' if self.num_known_groups == 1 else 'are'} "
                f"{self.num_known_groups}. Add videos, raise --val-fraction, "
                "or allow more errors."
            )
        return (
            f"{all_are}: on {plural(self.num_known_groups, 'group')} of "
            "validation videos, no confidence keeps the share of wrong "
            f"answers within {errors}. Add videos, or allow more errors."
        )

    @property
    def _of_limit(self) -> str:
        if self.limit is not None:
            far = f"unlike the training videos (distance over {self.limit:.1f})"
            if self.threshold is not None:
                return f"So are videos {far}."
            return f'Videos {far} are "none of these".'
        if self.far_share is None:
            return ""
        return (
            "Videos unlike the training videos are not refused: that needs "
            f"{groups_needed(self.far_share)} known groups."
        )

    @property
    def _worth(self) -> str:
        has_criteria = self.threshold is not None or self.limit is not None
        if not has_criteria or not self.num_known_groups:  # of an export
            return ""
        return (
            f"On validation, {100 * self.coverage:.0f} % of "
            f"{self.num_known_groups} groups are accepted, of which "
            f"{100 * self.accepted_error:.1f} % are wrong (at most "
            f"{100 * self.error_bound:.0f} %, with a confidence of 95 %)."
        )

    @property
    def is_fitted(self) -> bool:
        """Whether there were enough validation videos to fit it on."""
        if self.num_groups is None:
            return self.num_videos > 0
        return self.num_groups >= _FEWEST_GROUPS

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> "Calibration":
        """Returns that of a file of a run, whichever version wrote it.

        Args:
            figures: Mapping. Its fields, among others.
        """
        known = {x.name for x in dataclasses.fields(cls)} & {*figures}
        known -= {"reference"}
        found = cls(**{name: figures[name] for name in known})
        if "num_groups" in figures:
            return found
        return dataclasses.replace(found, num_groups=None)

    def figures(self) -> dict[str, Any]:
        """Returns its numbers, all that `of` takes."""
        return {
            x.name: getattr(self, x.name)
            for x in dataclasses.fields(self)
            if x.name != "reference"
        }

    def write(self, run: Run) -> None:
        """Writes it into a run: one file, so that all of it is of one fit."""
        found = self.figures()
        if self.reference is not None:
            found["reference"] = reference_as_json(self.reference)
        with whole_file(run.calibration_file) as file:
            file.write_text(json.dumps(found, indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, run: Run) -> "Calibration":
        """Reads that of a run; one that changes nothing if it has none.

        Raises:
            DataError: If the file is damaged.
        """
        if not run.calibration_file.is_file():
            return cls()
        found = read_json(run.calibration_file)
        try:
            read = cls.of(found)
            both = (found["temperature"], found["window_temperature"])
            shares = (read.threshold, read.accept_errors)
            if all(
                SMALLEST / 2 <= x <= 2 * LARGEST and x is not True for x in both
            ) and all(x is None or 0 <= x <= 1 for x in shares):
                return read._with_reference(found)
        except (KeyError, TypeError, ValueError):  # no numbers
            pass
        raise DataError(
            f"'{run.calibration_file}' holds no temperatures, or only part of "
            "what was fitted with them. Make it again with: har-keras "
            f"evaluate {shell_word(run.path)}"
        )

    def _with_reference(self, found: Mapping[str, Any]) -> "Calibration":
        """Returns it with what its limits are of.

        Raises:
            ValueError: If one is there without the other, or is none.
        """
        limits = (self.limit, self.window_limit)
        if limits == (None, None) and found.get("reference") is None:
            return self
        if not all(x is not None and 0 <= x < math.inf for x in limits):
            raise ValueError("limits are missing")
        known = reference_from(found["reference"])
        return dataclasses.replace(self, reference=known)
