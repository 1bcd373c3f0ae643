"""A folder of videos in; a trained, evaluated and served classifier out.

The verbs are modules of their own, `python -m har_keras.train` and the rest,
and are not imported here: importing the package costs nothing. What a program
needs of a trained run is `har_keras.load(run).predict(video)`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from har_keras.inference.classifier import Classifier, Prediction
    from har_keras.inference.load import load

__version__ = "0.1.0"
__all__ = ["Classifier", "Prediction", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'har_keras' has no attribute '{name}'")
    from har_keras.inference import classifier
    from har_keras.inference import load as opening

    if name == "load":
        return opening.load

    return getattr(classifier, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
