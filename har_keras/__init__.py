"""A folder of videos in; a trained, evaluated and served classifier out.

`VideoClassifier` does what the commands do: train, load, predict, evaluate,
export. Names are imported when they are first used, so importing the package
costs nothing, and keras starts with the first model.

Example:

```python
import har_keras

classifier = har_keras.VideoClassifier.train("videos", recipe="quick")
print(classifier.evaluation.accuracy, classifier.evaluation.interval)
print(classifier.predict("video.mp4").label)
```
"""

from har_keras import interrupts  # isort: skip

if interrupts.is_program():
    interrupts.end_at_once()

import importlib
from typing import TYPE_CHECKING, Any

from har_keras._version import __version__

if TYPE_CHECKING:
    from har_keras.api import VideoClassifier, load
    from har_keras.config import Config
    from har_keras.evaluation.result import Evaluation
    from har_keras.inference.classifier import Prediction
    from har_keras.inference.timeline import TimelineConfig
    from har_keras.model.vit import VideoViT
    from har_keras.run import Run

_HOMES = {
    "Config": "config",
    "Evaluation": "evaluation.result",
    "Prediction": "inference.classifier",
    "Run": "run",
    "TimelineConfig": "inference.timeline",
    "VideoClassifier": "api",
    "VideoViT": "model.vit",
    "load": "api",
}
__all__ = [
    "Config",
    "Evaluation",
    "Prediction",
    "Run",
    "TimelineConfig",
    "VideoClassifier",
    "VideoViT",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'har_keras' has no attribute '{name}'")
    if name == "VideoViT":
        from har_keras.environment import start_backend

        start_backend()
    module = importlib.import_module(f"har_keras.{_HOMES[name]}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
