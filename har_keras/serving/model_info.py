"""Metadata of an exported model: clip, views and calibration.

It is stored in the export, so that a file or a server without its run samples
videos and calibrates confidences exactly as the run does.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from har_keras.config import ClipConfig, EvaluationConfig, Form
from har_keras.errors import DataError
from har_keras.ranges import CLIP_RATE, VIEW_PIXELS, view_pixels

# Name of the metadata in every export; fixed, so that old exports open.
INFO = "usage"
# The output of distances from the training videos, where there is one.
DISTANCE = "distance"
# The name of a model on a server, unless several are served.
MODEL_NAME = "har"
# Classes in `top_labels` and `top_scores`.
NUM_TOP = 5
_MAX = 4096


@dataclass(frozen=True)
class ModelInfo:
    """How videos are prepared for a model and its outputs calibrated.

    Args:
        clip: ClipConfig. Clip geometry of training.
        evaluation: EvaluationConfig. Views per video in evaluation.
        temperature: float. Calibration temperature of whole videos; 1 is
            uncalibrated.
        window_temperature: float. Calibration temperature of single clips.
        form: str. Format of the frame store in evaluation, "jpeg" or "raw".
        lossless: bool. Whether frames must be sent without JPEG compression,
            as HOG3D features are sensitive to its artifacts.
        backbone: dict from str to str. Name, licence, source and hash of the
            weights of a pretrained network in the model; empty without one.
        threshold: float or None. Smallest calibrated confidence of an
            accepted answer; below it, it is "none of these". None accepts
            everything.
        accept_errors: float or None. Share of accepted answers that may be
            wrong, for which it was chosen; None in older exports.
        limit: float or None. Largest distance of a whole video from the
            training videos that is accepted. None accepts everything, and
            then the model has no output of distances.
        window_limit: float or None. That of a single clip.
        model_sha256: str. Hash of the run's model.keras that was exported;
            empty in older exports.

    Example:

    >>> info = ModelInfo(ClipConfig(fps=4.0), temperature=1.5)
    >>> ModelInfo.read(info.text(), "model.onnx") == info
    True
    """

    clip: ClipConfig = field(default_factory=ClipConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    temperature: float = 1.0
    window_temperature: float = 1.0
    form: Form = "jpeg"
    lossless: bool = False
    backbone: dict[str, str] = field(default_factory=dict)
    threshold: float | None = None
    accept_errors: float | None = None
    limit: float | None = None
    window_limit: float | None = None
    model_sha256: str = ""

    @property
    def has_distance(self) -> bool:
        """Whether the model has an output of distances."""
        return self.window_limit is not None

    def options(self) -> dict[str, Any]:
        """Returns the options of the run that it holds, by name."""
        return {
            **dataclasses.asdict(self.clip),
            **dataclasses.asdict(self.evaluation),
        }

    def text(self) -> str:
        """Returns it as one line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def read(cls, text: str | None, name: str) -> "ModelInfo":
        """Parses the metadata of an exported model.

        Args:
            text: str or None. One line of JSON; None if the model has none.
            name: str. The file or address, for error messages.

        Returns:
            The `ModelInfo`.

        Raises:
            DataError: If it is missing or invalid.
        """
        try:
            found = json.loads(text or "")
            info = cls(
                ClipConfig(**found.pop("clip")),
                EvaluationConfig(**found.pop("evaluation")),
                **found,
            )
            info.require_valid()
        except (
            AttributeError,
            KeyError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise DataError(
                f"'{name}' has no valid model info (clip, views and "
                "calibration): it was not written by this version of "
                "`har-keras export`. Export the run again."
            ) from error
        return info

    def require_valid(self) -> None:
        """Raises `ValueError` if a value is out of range."""
        whole = (
            self.clip.num_frames,
            self.clip.crop_size,
            self.evaluation.num_clips,
            self.evaluation.num_crops,
        )
        temperatures = (self.temperature, self.window_temperature)
        if not all(type(x) is int and 1 <= x <= _MAX for x in whole):
            raise ValueError(f"Not integers of at least 1: {whole}.")
        if not CLIP_RATE.holds(self.clip.fps):
            raise ValueError(f"Its rate must be {CLIP_RATE.text}.")
        if not all(0 < x <= _MAX and x is not True for x in temperatures):
            raise ValueError(f"Not above 0: {temperatures}.")
        if view_pixels(self.options()) > VIEW_PIXELS:
            raise ValueError("Too many pixels in the views of a video.")
        shares = (
            self.threshold,
            self.accept_errors,
            self.evaluation.accept_errors,
        )
        for share in shares:
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"Not in [0, 1]: {share}.")
        limits = (self.limit, self.window_limit)
        if limits != (None, None) and not all(
            x is not None and 0 <= x < math.inf for x in limits
        ):
            raise ValueError(f"Not two limits: {limits}.")
        for value, known in (
            (self.form, ("jpeg", "raw")),
            (self.clip.fit, ("crop", "squeeze")),
            (self.clip.short_videos, ("repeat", "stretch")),
        ):
            if value not in known:
                raise ValueError(f"None of {known}: {value}.")
