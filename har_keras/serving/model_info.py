"""How an exported model is to be asked, said by the model itself.

A file or a server is all that is at hand then, without the run; with this its
videos are looked at as the run's are, and its confidence means the same.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from har_keras.config import ClipConfig, EvaluationConfig
from har_keras.errors import DataError
from har_keras.store.store import Form


@dataclass(frozen=True)
class ModelInfo:
    """How a model is to be asked about videos.

    Args:
        clip: ClipConfig. What it was trained on.
        evaluation: EvaluationConfig. Views of a video that it was tested on.
        temperature: float. That of whole videos; 1 changes nothing.
        window_temperature: float. That of one clip by itself.
        form: str. "jpeg" or "raw": how frames were stored for the test.
        lossless: bool. Whether frames must reach it as they are: JPEG changes
            the counts of faint gradients that it sees.

    Example:

    >>> usage = ModelInfo(ClipConfig(fps=4.0), temperature=1.5)
    >>> ModelInfo.read(usage.text(), "model.onnx") == usage
    True
    """

    clip: ClipConfig = field(default_factory=ClipConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    temperature: float = 1.0
    window_temperature: float = 1.0
    form: Form = "jpeg"
    lossless: bool = False

    def options(self) -> dict[str, Any]:
        """Returns the options of a run that it says, by name."""
        return {
            **dataclasses.asdict(self.clip),
            **dataclasses.asdict(self.evaluation),
        }

    def text(self) -> str:
        """Returns all of it in a line."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def read(cls, text: str | None, name: str) -> "ModelInfo":
        """Reads the line that a model holds.

        Args:
            text: str or None. The line; None where there is none.
            name: str. The file or address, for the error.

        Returns:
            The `ModelInfo`.

        Raises:
            DataError: If it is missing or makes no sense.
        """
        try:
            found = json.loads(text or "")
            usage = cls(
                ClipConfig(**found.pop("clip")),
                EvaluationConfig(**found.pop("evaluation")),
                **found,
            )
            usage.require_sensible()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"'{name}' doesn't say how it is to be asked about videos: it "
                "was not written by this version of `python -m "
                "har_keras.export`. Export the run again."
            ) from error
        return usage

    def require_sensible(self) -> None:
        """Raises `ValueError` if a number can't be: it came from elsewhere."""
        whole = (
            self.clip.num_frames,
            self.clip.crop_size,
            self.evaluation.num_clips,
            self.evaluation.num_crops,
        )
        rates = (self.clip.fps, self.temperature, self.window_temperature)
        if not all(isinstance(x, int) and 1 <= x <= _MOST for x in whole):
            raise ValueError(f"These must be whole, from 1 on: {whole}.")
        if not all(0 < x <= _MOST for x in rates):
            raise ValueError(f"These must be above 0: {rates}.")
        if self.form not in ("jpeg", "raw"):
            raise ValueError(f"This must be jpeg or raw: {self.form}.")


_MOST = 4096
