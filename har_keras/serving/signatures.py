"""A trained model as a SavedModel that TensorFlow Serving loads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import keras
import numpy as np
import tensorflow as tf

from har_keras.config import ClipConfig
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.files import whole_file
from har_keras.serving.acceptance import Reference, accepted
from har_keras.serving.checksums import write_checksums
from har_keras.serving.model_info import (
    DISTANCE,
    INFO,
    NUM_TOP,
    ModelInfo,
)
from har_keras.serving.plain_path import plain_path
from har_keras.serving.preprocessing import (
    Tensor,
    clips_from_frames,
    clips_from_gifs,
    clips_from_images,
)
from har_keras.serving.runtimes import clips_at_once, in_slices
from har_keras.serving.tensorflow_serving import write_warm_up

_NUM_CHECKED = 3
_SQUARE = 4
_TOLERANCE = 1e-5
# Of a distance, relative to it: its features are some powers of ten apart.
_DISTANCE_TOLERANCE = 1e-3


def export_saved_model(
    model: Any,
    class_names: Sequence[str],
    info: ModelInfo,
    base: Path,
    reference: Reference | None = None,
) -> Path:
    """Exports the next version of a model for TensorFlow Serving.

    The version is written under a temporary name and renamed when complete,
    so that a server that polls `base` never loads a partial one. The graph
    contains TensorFlow ops only: no Python functions, no random ops and no
    optimizer.

    Args:
        model: `keras.Model` on the TensorFlow backend, from uint8 clips
            `(B, T, crop_size, crop_size, 3)` to probabilities `(B, K)`.
        class_names: Names in label order, K of them.
        info: ModelInfo. Clip, views and calibration; stored in the graph.
        base: Path. Folder of versions, such as `RUN/saved_model`.
        reference: Reference or None. What distances are from, if there is a
            limit for them in `info`.

    Returns:
        Path. `base/<version>`, the next free integer.

    Raises:
        UsageError: If Keras runs on another backend.
        EnvironmentFault: If its predictions differ from the model's; then
            nothing is published.
    """
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            "A SavedModel is written by the TensorFlow backend. Received: "
            f"{keras.backend.backend()}. Use `har-keras export RUN`, "
            "which starts that backend itself."
        )
    folder = base / str(next_version(base))
    module, signatures = serving_module(model, class_names, info, reference)
    with whole_file(folder) as temporary:
        temporary.mkdir()
        with plain_path(temporary, writing=True) as plain:
            tf.saved_model.save(module, str(plain), signatures=signatures)
        require_same_predictions(temporary, model, info.clip, reference)
        write_warm_up(temporary, info.clip)
        write_checksums(temporary)
    return folder


def require_same_predictions(
    version: Path,
    model: Any,
    clip: ClipConfig,
    reference: Reference | None = None,
) -> None:
    """Verifies each signature of an exported model against the Keras model.

    Args:
        version: Path. Folder of the exported version.
        model: `keras.Model` that was exported.
        clip: ClipConfig. Clip geometry of the model.
        reference: Reference or None. What its distances are from.

    Raises:
        EnvironmentFault: If a probability differs by more than 1e-5, or a
            distance by a thousandth of it.
    """
    with plain_path(version) as plain:
        served = tf.saved_model.load(str(plain)).signatures
    for name, (sent, clips) in example_requests(clip).items():
        outputs = served[name](**sent)
        found = outputs["probabilities"].numpy()
        expected = in_slices(
            lambda x: keras.ops.convert_to_numpy(model(x, training=False)),
            clips,
        )
        difference = float(np.abs(found - expected).max())
        if not difference <= _TOLERANCE:
            raise EnvironmentFault(
                "The exported model was not published: the probabilities of "
                f"{name} differ by {difference:.1e} from the trained model's, "
                f"where {_TOLERANCE:.0e} is allowed. Export on another "
                "machine, or report this with the versions in evaluation.json."
            )
        if reference is not None:
            require_same_distances(
                outputs[DISTANCE].numpy(),
                in_slices(lambda x: distances_of(model, x, reference), clips),
                name,
            )


def distances_of(
    model: Any, clips: np.ndarray, reference: Reference
) -> np.ndarray:
    """Returns the distances of clips as a run has them, `(B,)`."""
    _, features = model.answers(clips)
    return np.asarray(reference.distances(keras.ops.convert_to_numpy(features)))


def require_same_distances(
    found: np.ndarray, expected: np.ndarray, name: str
) -> None:
    """Raises `EnvironmentFault` if distances are not those of the model."""
    worst = float(np.abs(found / np.maximum(expected, 1e-6) - 1).max())
    if not worst <= _DISTANCE_TOLERANCE:
        raise EnvironmentFault(
            f"The exported model was not published: the distances of {name} "
            f"differ by {worst:.1e} of the trained model's, where "
            f"{_DISTANCE_TOLERANCE:.0e} is allowed. Export on another machine, "
            "or report this with the versions in evaluation.json."
        )


def example_requests(
    clip: ClipConfig,
) -> dict[str, tuple[dict[str, Tensor], np.ndarray]]:
    """Returns a request for each signature, and the clips that it encodes.

    The clips of lossy encodings are decoded from the request.
    """
    shape = _clip_shape(clip)
    # Of large clips two, for a backbone takes half a gigabyte for each; and
    # one of them encoded.
    number = max(2, min(_NUM_CHECKED, clips_at_once(shape)))
    encoded = number if number == _NUM_CHECKED else 1
    clips = _noise((number, *shape))
    # The last frame of each clip as a PNG, the others as JPEGs.
    encoders = [*[tf.io.encode_jpeg] * (clip.num_frames - 1), tf.io.encode_png]
    images = [
        [encode(x).numpy() for encode, x in zip(encoders, one, strict=True)]
        for one in clips[:encoded]
    ]
    gifs = [
        imageio.imwrite("<bytes>", one, extension=".gif", loop=0)
        for one in clips[:encoded]
    ]
    return {
        "serving_default": ({"clips": tf.constant(clips)}, clips),
        "serving_jpeg": (
            {"frames_bytes": tf.constant(images)},
            _decoded(images),
        ),
        "serving_gif": (
            {"gif_bytes": tf.constant(gifs)},
            np.stack([tf.io.decode_gif(gif) for gif in gifs]),
        ),
    }


def _noise(shape: tuple[int, int, int, int, int]) -> np.ndarray:
    """Returns clips of random squares, which are encoded faster than pixels."""
    batch, frames, height, width, channels = shape
    rows, columns = -(-height // _SQUARE), -(-width // _SQUARE)
    squares = np.random.default_rng(0).integers(
        0, 256, (batch, frames, rows, columns, channels), "uint8"
    )
    pixels = squares.repeat(_SQUARE, 2).repeat(_SQUARE, 3)
    return pixels[:, :, :height, :width]


def _clip_shape(clip: ClipConfig) -> tuple[int, int, int, int]:
    return clip.num_frames, clip.crop_size, clip.crop_size, 3


def _decoded(images: list[list[bytes]]) -> np.ndarray:
    # This op also decodes PNG.
    frames = [
        [tf.io.decode_jpeg(x, dct_method="INTEGER_ACCURATE") for x in one]
        for one in images
    ]
    return np.stack(frames)


def next_version(base: Path) -> int:
    """Returns one more than the highest version number in a folder.

    Example:

    >>> next_version(Path("no such folder"))
    1
    """
    if not base.is_dir():
        return 1
    taken = [int(p.name) for p in base.iterdir() if p.name.isdecimal()]
    return max(taken, default=0) + 1


def serving_module(
    model: Any,
    class_names: Sequence[str],
    info: ModelInfo,
    reference: Reference | None = None,
) -> tuple[tf.Module, dict[str, Any]]:
    """Returns the module to save, and its concrete functions by signature.

    Args:
        model: `keras.Model` from uint8 clips to probabilities.
        class_names: Names in label order.
        info: ModelInfo. Clip, views and calibration.
        reference: Reference or None. As for `export_saved_model`.

    Returns:
        A `tf.Module` that tracks the weights, and a dict of concrete
        functions.
    """
    module = tf.Module()
    # Only the weights: tracking the model itself would save its optimizer.
    module.weights = [weight.value for weight in model.weights]
    clip = info.clip
    # Traced once for all signatures: of a backbone it takes seconds.
    predict = tf.function(
        _predict(model, class_names, info, reference),
        input_signature=[tf.TensorSpec((None, *_clip_shape(clip)), tf.uint8)],
        autograph=False,
    )

    def signature(name: str, shape: tuple[int | None, ...], make: Any) -> Any:
        dtype = tf.uint8 if name == "clips" else tf.string
        spec = tf.TensorSpec(shape, dtype, name)
        # Without AutoGraph, which parses all code and finds nothing to change.
        function = tf.function(
            lambda sent: predict(make(sent, clip)), autograph=False
        )
        return function.get_concrete_function(spec)

    return module, {
        "serving_default": signature(
            "clips", (None, None, None, None, 3), clips_from_frames
        ),
        "serving_jpeg": signature(
            "frames_bytes", (None, None), clips_from_images
        ),
        "serving_gif": signature("gif_bytes", (None,), clips_from_gifs),
    }


def _predict(
    model: Any,
    class_names: Sequence[str],
    info: ModelInfo,
    reference: Reference | None,
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Returns the function from clips to the outputs of every signature."""
    names, text = tf.constant(list(class_names)), tf.constant([info.text()])

    def predict(clips: Tensor) -> dict[str, Tensor]:
        probabilities, distances = answers_in_graph(
            model, clips, info, reference
        )
        scores, labels = tf.math.top_k(
            probabilities, k=min(NUM_TOP, len(class_names))
        )
        # One row per clip: servers batch and split along axis 0.
        num_clips = tf.shape(probabilities)[0]
        outputs = {
            "probabilities": probabilities,
            "top_labels": tf.gather(names, labels),
            "top_scores": scores,
            "accepted": accepted(
                probabilities,
                info.window_temperature,
                info.threshold,
                keras.ops,
                distances=distances,
                limit=info.window_limit,
            ),
            "class_names": tf.tile(names[None], (num_clips, 1)),
            INFO: tf.tile(text, (num_clips,)),
        }
        return outputs if distances is None else outputs | {DISTANCE: distances}

    return predict


def answers_in_graph(
    model: Any, clips: Tensor, info: ModelInfo, reference: Reference | None
) -> tuple[Tensor, Tensor | None]:
    """Returns probabilities and distances, in one pass of the network.

    Args:
        model: `keras.Model`. The trained one.
        clips: uint8 tensor of shape `(B, T, crop_size, crop_size, 3)`.
        info: ModelInfo. Whether there are distances.
        reference: Reference or None. What they are from.

    Returns:
        float32 tensors of shapes `(B, K)` and `(B,)`; None for distances that
        there are not.
    """
    if info.has_distance != (reference is not None):
        raise ValueError("A limit and what it is of go together.")
    if reference is None:
        return tf.cast(model(clips, training=False), tf.float32), None
    probabilities, features = model.answers(clips)
    distances = reference.distances(features, keras.ops)
    return tf.cast(probabilities, tf.float32), distances
