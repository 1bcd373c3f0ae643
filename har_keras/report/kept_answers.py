"""Answers about videos in files, so that none is asked for twice."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.files import whole_file
from har_keras.inference.classifier import Prediction
from har_keras.inference.timeline import Segment, Timeline
from har_keras.video.sources import Source


@dataclass(frozen=True)
class KeptAnswers:
    """A folder of answers, a file for each video.

    Args:
        folder: Path. The folder; it need not exist.
        fingerprint: str. Of the model and how it is asked. Answers to other
            questions are not found.
    """

    folder: Path
    fingerprint: str

    def holds(self, source: Source, content: str) -> bool:
        """Returns whether a video has been answered about.

        Args:
            source: Source. The video.
            content: str. Hash of its content as it is now; "" if that is not
                known.
        """
        record = self._record(source)
        return bool(content) and record.get("content") == content

    def read(self, source: Source) -> Prediction | None:
        """Returns the answer about a video, or None if there is none."""
        record = self._record(source)
        return prediction_from(record["answer"]) if record else None

    def write(self, source: Source, content: str, found: Prediction) -> None:
        """Keeps an answer; one that failed is to be tried again.

        Args:
            source: Source. The video.
            content: str. Hash of its content before it was looked at.
            found: Prediction. The answer.
        """
        kept = "" if found.failed else content
        record = {"content": kept, "answer": as_json(found)}
        with whole_file(self._file(source)) as file:
            file.write_text(json.dumps(record), "utf-8")

    def _file(self, source: Source) -> Path:
        name = f"{self.fingerprint} {source.address}"
        digest = hashlib.sha256(name.encode(errors="surrogateescape"))
        return self.folder / f"{digest.hexdigest()[:32]}.json"

    def _record(self, source: Source) -> dict[str, Any]:
        try:
            record: dict[str, Any] = json.loads(self._file(source).read_bytes())
        except (OSError, ValueError):  # not there, or damaged since
            return {}
        return record


def as_json(found: Prediction) -> dict[str, Any]:
    """Returns a prediction as `prediction_from` takes it."""
    fields = dataclasses.asdict(found)
    if found.timeline:
        for name in ("edges", "probabilities"):
            fields["timeline"][name] = fields["timeline"][name].tolist()
    return fields


def prediction_from(fields: dict[str, Any]) -> Prediction:
    """Returns the prediction that `as_json` was given, to the last bit.

    Example:

    >>> found = Prediction("a.mp4", "walk", 1 / 3, {"gym": 2 / 3, "walk": 1.0})
    >>> prediction_from(json.loads(json.dumps(as_json(found)))) == found
    True
    """
    timeline = fields["timeline"]
    if timeline:
        timeline = Timeline(
            tuple(timeline["class_names"]),
            np.array(timeline["edges"]),
            np.array(timeline["probabilities"]),
            tuple(Segment(**segment) for segment in timeline["segments"]),
        )
    return Prediction(**{**fields, "timeline": timeline})
