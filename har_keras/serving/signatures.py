"""A trained model as a SavedModel that TensorFlow Serving loads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from har_keras.config import ClipConfig, Config
from har_keras.errors import UsageError
from har_keras.files import whole_file
from har_keras.serving.preprocessing import Tensor, clips_from_frames

_NUM_TOP = 5


def export_saved_model(
    model: Any, class_names: Sequence[str], config: Config, base: Path
) -> Path:
    """Writes the next version of a model for TensorFlow Serving.

    The version is written beside its final name and renamed when it is whole,
    so that a server which polls `base` never loads half of one. The graph
    holds TensorFlow ops only: no Python, nothing random, no optimizer.

    Args:
        model: `keras.Model` on the TensorFlow backend, from uint8 clips
            `(B, T, crop_size, crop_size, 3)` to probabilities `(B, K)`.
        class_names: Names in label order, K of them.
        config: Config. That of the run, for the clip's dimensions.
        base: Path. Folder of versions, such as `RUN/saved_model`.

    Returns:
        `base/<version>`, the next free integer.

    Raises:
        UsageError: If Keras runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            "A SavedModel is written by the TensorFlow backend. Received: "
            f"{keras.backend.backend()}. Use `python -m har_keras.export RUN`, "
            "which starts that backend by itself."
        )
    folder = base / str(next_version(base))
    module, signatures = serving_module(model, class_names, config.clip)
    with whole_file(folder) as temporary:
        tf.saved_model.save(module, str(temporary), signatures=signatures)
    return folder


def next_version(base: Path) -> int:
    """Returns the number after the highest version in a folder.

    Example:

    >>> next_version(Path("no such folder"))
    1
    """
    if not base.is_dir():
        return 1
    taken = [int(p.name) for p in base.iterdir() if p.name.isdecimal()]
    return max(taken, default=0) + 1


def serving_module(
    model: Any, class_names: Sequence[str], clip: ClipConfig
) -> tuple[tf.Module, dict[str, Any]]:
    """Returns what a SavedModel keeps, and its functions by signature.

    Args:
        model: `keras.Model` from uint8 clips to probabilities.
        class_names: Names in label order.
        clip: ClipConfig. What the model was trained on.

    Returns:
        A `tf.Module` that holds the weights, and concrete functions.
    """
    module = tf.Module()
    # Only the weights: tracking the model itself would save its optimizer.
    module.weights = [weight.value for weight in model.weights]
    answer = _answer(model, class_names)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, None, None, None, 3), tf.uint8, "clips")
        ]
    )
    def serving_default(clips: Tensor) -> dict[str, Tensor]:
        return answer(clips_from_frames(clips, clip))

    return module, {"serving_default": serving_default.get_concrete_function()}


def _answer(
    model: Any, class_names: Sequence[str]
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Returns the function from clips to the outputs of every signature."""
    names = tf.constant(list(class_names))

    def answer(clips: Tensor) -> dict[str, Tensor]:
        probabilities = tf.cast(model(clips, training=False), tf.float32)
        scores, labels = tf.math.top_k(
            probabilities, k=min(_NUM_TOP, len(class_names))
        )
        # A row for each clip: servers batch and split along axis 0.
        num_clips = tf.shape(probabilities)[0]
        return {
            "probabilities": probabilities,
            "top_labels": tf.gather(names, labels),
            "top_scores": scores,
            "class_names": tf.tile(names[None], (num_clips, 1)),
        }

    return answer
