"""How far clips are from those that a model was trained on.

The probabilities of a classifier are of its classes alone: what shows none of
them may still be called one of them, and surely. How far its features are from
those of the training videos tells it apart.
"""

import base64
import functools
from typing import Any

import numpy as np

from har_keras.serving.acceptance import Reference, joined


class Measured:
    """A trained model that also tells how far clips are from its training.

    Args:
        model: `keras.Model` from clips to probabilities, with a method
            `answers`; all else is asked of it.
        reference: Reference or None. What it was trained on; None until that
            is known.

    Attributes:
        wrapped: The model.
    """

    def __init__(self, model: Any, reference: Reference | None = None) -> None:
        self.wrapped = model
        self.reference = reference

    @functools.cached_property
    def network(self) -> Any:
        """A `keras.Model` from what the transformer reads to `(B, K + D)`."""
        from har_keras.model.answers import Answers

        return Answers(getattr(self.wrapped, "reader", self.wrapped))

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips, `(B, K)`."""
        return np.asarray(self.wrapped.predict_on_batch(clips))

    def features_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips, and their features.

        Args:
            clips: `uint8` array of shape `(B, T, H, W, 3)`; or what a backbone
                made of it.

        Returns:
            `float32` array of shape `(B, K + D)`.
        """
        extractor = getattr(self.wrapped, "extractor", None)
        if extractor is not None and clips.dtype == np.uint8:
            clips = extractor.of_clips(clips)
        return np.asarray(self.network.predict_on_batch(clips))

    def answer_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips and their distance, joined."""
        return self.measured(self.features_on_batch(clips))

    def measured(self, rows: np.ndarray) -> np.ndarray:
        """Returns rows of `features_on_batch` as those of `answer_on_batch`."""
        assert self.reference is not None
        width = len(self.reference.whitening)
        return joined(
            rows[:, :-width], self.reference.distances(rows[:, -width:])
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


def answer_on_batch(model: Any, clips: np.ndarray) -> np.ndarray:
    """Returns what any model says of clips.

    Args:
        model: `keras.Model`, `Measured`, or what was exported.
        clips: `uint8` array of shape `(B, T, H, W, 3)`.

    Returns:
        float array of shape `(B, K + 1)`: probabilities, and the distance from
        the training videos; 0 where the model knows of none.
    """
    answer = getattr(model, "answer_on_batch", None)
    if answer is None:
        return joined(model.predict_on_batch(clips))
    return np.asarray(answer(clips))


def keras_model_of(model: Any) -> Any:
    """Returns the `keras.Model` of a run, whether it is measured or not."""
    return model.wrapped if isinstance(model, Measured) else model


def reference_as_json(reference: Reference) -> dict[str, Any]:
    """Returns a reference as `reference_from` takes it."""
    return {
        "shape": list(reference.centers.shape),
        **{
            name: base64.b64encode(
                getattr(reference, name).astype("<f4").tobytes()
            ).decode("ascii")
            for name in ("centers", "whitening")
        },
    }


def reference_from(found: Any) -> Reference:
    """Returns the reference that `reference_as_json` was given.

    Raises:
        ValueError: If it is damaged.

    Example:

    >>> known = Reference(np.ones((3, 2), "f"), np.eye(2, dtype="f"))
    >>> reference_from(reference_as_json(known)).centers.shape
    (3, 2)
    """
    try:
        number, width = map(int, found["shape"])
        arrays = [
            np.frombuffer(base64.b64decode(found[name], validate=True), "<f4")
            for name in ("centers", "whitening")
        ]
        centers = arrays[0].reshape(number, width)
        whitening = arrays[1].reshape(width, width)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from error
    if not centers.size or not all(np.isfinite(x).all() for x in arrays):
        raise ValueError("numbers are missing")
    return Reference(centers.astype("float32"), whitening.astype("float32"))


def fits(model: Any, reference: Reference) -> bool:
    """Returns whether a reference is of the features of a model.

    Args:
        model: `keras.Model`. The trained one.
        reference: Reference. What was read.
    """
    reader = getattr(model, "reader", model)
    head = getattr(getattr(reader, "frame_model", reader), "head", None)
    kernel = getattr(head, "kernel", None)
    if kernel is None or not has_features(model):
        return False
    width, num_classes = kernel.shape
    number = len(reference.centers)
    return len(reference.whitening) == width and number <= num_classes


def has_features(model: Any) -> bool:
    """Returns whether a model gives features beside its probabilities."""
    return hasattr(model, "answers")
