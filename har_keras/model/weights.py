"""Loads pretrained weights of Hugging Face's transformers, without torch.

A `.safetensors` file of a ViViT, VideoMAE, TimeSformer or image ViT is loaded
into a `VideoViT` of the same dimensions. Position embeddings are interpolated
to other numbers of frames or pixels, the patch embedding of an image model is
inflated to tubelets, and the file's normalization of pixels is folded into the
embedding's kernel.
"""

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import ml_dtypes  # noqa: F401  (gives numpy bfloat16)
import numpy as np
import safetensors
import safetensors.numpy

from har_keras.errors import UsageError
from har_keras.files import read_regular
from har_keras.model.initializers import interpolate, resize_positions

logger = logging.getLogger("har_keras")

Arrays = dict[str, np.ndarray]
# A `VideoViT`; its module imports this one.
Transformer = Any
Inflation = Literal["central", "average"]


@dataclass(frozen=True)
class Family:
    """Properties of a family of checkpoints.

    Args:
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel.
        norm: Name of the last layer norm.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    norm: str


_HALF = (0.5, 0.5, 0.5)
FAMILIES = {
    "vivit": Family(_HALF, _HALF, "vivit.layernorm"),
    "videomae": Family((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "fc_norm"),
    "timesformer": Family(
        (0.45, 0.45, 0.45), (0.225, 0.225, 0.225), "timesformer.layernorm"
    ),
    "vit": Family(_HALF, _HALF, "vit.layernorm"),
}


def load_weights(
    model: Transformer, file: Path, *, inflation: Inflation = "central"
) -> list[str]:
    """Loads the weights of a `.safetensors` file into a model.

    The number of frames and the normalization of pixels are read from
    `config.json` and `preprocessor_config.json` beside the file if they exist;
    else they are those of the model family.

    Args:
        model: VideoViT. Built; its weights are overwritten.
        file: Path. The file.
        inflation: How the patch embedding of an image model is inflated:
            `"central"`, to the middle frame of a tubelet, or `"average"`,
            evenly to all its frames.

    Returns:
        Names of the model's weights that are not in the file, such as the
        head's if the classes differ. They keep their values.

    Raises:
        UsageError: If the file is missing, damaged, of an unknown family or
            of other dimensions.

    Reference:
        - [Arnab et al., 2021](https://arxiv.org/abs/2103.15691), section 3.4
          (inflation).
    """
    if getattr(model, "stem", None) != "pixels":  # baselines have no stem
        raise UsageError("--weights is for --model vit --stem pixels.")
    arrays = read_safetensors(file)
    family = _family_of(arrays, file)
    try:
        with np.errstate(all="ignore"):
            found = _converted(arrays, family, model, file, inflation)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UsageError(
            f"'{file}', or a JSON file beside it, is not of a {family} of "
            f"Hugging Face ({type(error).__name__}: {error}). Download both."
        ) from error
    if not all(np.isfinite(value).all() for value in found.values()):
        raise UsageError(
            f"'{file}' has weights that are not finite. Download it again."
        )
    return _assign(model, found, file)


def _converted(
    arrays: Arrays,
    family: str,
    model: Transformer,
    file: Path,
    inflation: Inflation,
) -> Arrays:
    """Returns the weights of a file by our names, for a model."""
    settings = _json_beside(file, "config.json")
    scaling = _json_beside(file, "preprocessor_config.json")
    mean = scaling.get("image_mean", FAMILIES[family].mean)
    std = scaling.get("image_std", FAMILIES[family].std)
    found = block_weights(arrays, family, model.num_layers)
    found |= _pair(arrays, FAMILIES[family].norm, "norm")
    projection = f"{family}.embeddings.patch_embeddings.projection"
    kernel = _tubelets(arrays[f"{projection}.weight"], model, inflation)
    found["embedding/kernel"], found["embedding/bias"] = _rescaled(
        kernel, arrays[f"{projection}.bias"], mean, std
    )
    found |= _positions(arrays, family, model, settings)
    found |= _head(arrays, model)
    if family == "vit" and model.attention == "divided":
        found |= _time_from_space(found)
    return found


def read_safetensors(file: Path) -> Arrays:
    """Reads all arrays of a `.safetensors` file.

    Args:
        file: Path. The file.

    Returns:
        Arrays by name; half precision, bfloat16 too, is converted to float32.

    Raises:
        UsageError: If the file is missing, damaged or of another format.
    """
    if not file.is_file():
        raise UsageError(
            f"--weights '{file}' can't be read: there is no such file."
        )
    try:
        arrays = safetensors.numpy.load_file(file)
    except OSError as error:
        raise UsageError(
            f"--weights '{file}' can't be read: {error.strerror or error}."
        ) from error
    # AttributeError and TypeError: a dtype that numpy lacks, such as FP8;
    # ValueError: a shape that it can't have.
    except (
        safetensors.SafetensorError,
        AttributeError,
        TypeError,
        ValueError,
    ) as error:
        raise UsageError(
            f"--weights '{file}' is damaged or not a .safetensors file "
            f"({error}). Download it again."
        ) from error
    return {
        name: array.astype("float32") if array.itemsize == 2 else array
        for name, array in arrays.items()
    }


def _family_of(arrays: Arrays, file: Path) -> str:
    for family in FAMILIES:
        if f"{family}.embeddings.patch_embeddings.projection.weight" in arrays:
            return family
    raise UsageError(
        f"'{file}' is not a ViViT, VideoMAE, TimeSformer or image ViT of "
        f"Hugging Face. Its first weight is '{min(arrays, default='')}'."
    )


def _json_beside(file: Path, name: str) -> dict[str, Any]:
    path = file.with_name(name)
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(read_regular(path)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"'{path}' is not a JSON object: {error}.") from error


# Our names by those of transformers; only the axes of kernels are permuted.
_BLOCK_NAMES = {
    "layernorm_before": "attention_norm",
    "layernorm_after": "mlp_norm",
    "attention.attention.qkv": "attention/query_key_value",
    "attention.output.dense": "attention/output",
    "intermediate.dense": "mlp/hidden",
    "output.dense": "mlp/output",
    "temporal_layernorm": "temporal_norm",
    "temporal_attention.attention.qkv": "temporal_attention/query_key_value",
    "temporal_attention.output.dense": "temporal_attention/output",
    "temporal_dense": "temporal_dense",
}
_ENDINGS = {"weight": ("kernel", "gamma"), "bias": ("bias", "beta")}


def block_weights(arrays: Arrays, family: str, num_layers: int) -> Arrays:
    """Returns the weights of the encoder's blocks by our names.

    Args:
        arrays: dict. Arrays by the names of transformers.
        family: str. The prefix of their names.
        num_layers: int. Number of blocks.

    Returns:
        Arrays by names such as `block_0/mlp/hidden/kernel`.
    """
    found: Arrays = {}
    arrays = dict(arrays)
    for layer in range(num_layers):
        prefix = f"{family}.encoder.layer.{layer}."
        _fuse_attention(arrays, prefix + "attention.attention.")
        for theirs, ours in _BLOCK_NAMES.items():
            found |= _pair(arrays, prefix + theirs, f"block_{layer}/{ours}")
        biases = prefix + "attention.attention.query_value_bias"
        if biases in arrays:
            name = f"block_{layer}/attention/query_value_bias"
            found[name] = arrays[biases]
    return found


def _pair(arrays: Arrays, theirs: str, ours: str) -> Arrays:
    """Returns the weight and the bias of one layer by our names."""
    found = {}
    for ending, (dense, norm) in _ENDINGS.items():
        value = arrays.get(f"{theirs}.{ending}")
        if value is not None:
            is_norm = "norm" in ours.rsplit("/", 1)[-1]
            found[f"{ours}/{norm if is_norm else dense}"] = value.T
    return found


def _fuse_attention(arrays: Arrays, prefix: str) -> None:
    """Concatenates queries, keys and values if they are separate."""
    names = [prefix + name for name in ("query", "key", "value")]
    if not all(f"{name}.weight" in arrays for name in names):
        return
    arrays[f"{prefix}qkv.weight"] = np.concatenate(
        [arrays[f"{name}.weight"] for name in names]
    )
    if f"{names[1]}.bias" in arrays:
        arrays[f"{prefix}qkv.bias"] = np.concatenate(
            [arrays[f"{name}.bias"] for name in names]
        )
    for query, value in (("q_bias", "v_bias"), ("query.bias", "value.bias")):
        if prefix + query in arrays and f"{names[1]}.bias" not in arrays:
            arrays[f"{prefix}query_value_bias"] = np.stack(
                [arrays[prefix + query], arrays[prefix + value]]
            )


def _tubelets(
    kernel: np.ndarray, model: Transformer, inflation: Inflation
) -> np.ndarray:
    """Returns the kernel of a patch embedding with our axes, inflated.

    Args:
        kernel: Array of shape `(D, C, t, p, p)`, or `(D, C, p, p)` of an image
            model.
        model: VideoViT. Gives the depth of a tubelet.
        inflation: As for `load_weights`.

    Returns:
        Array of shape `(t, p, p, C, D)`.
    """
    if kernel.ndim == 5:
        return kernel.transpose(2, 3, 4, 1, 0)
    frames = model.tubelet_frames
    image = kernel.transpose(2, 3, 1, 0)
    if inflation == "average":
        return np.repeat(image[None] / frames, frames, axis=0)
    tubelet = np.zeros((frames, *image.shape), image.dtype)
    tubelet[frames // 2] = image
    return tubelet


def _rescaled(
    kernel: np.ndarray, bias: np.ndarray, mean: Any, std: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Folds the normalization of pixels into the weights.

    The file's model computes `sum(kernel * (pixel - mean) / std) + bias` for
    pixels in [0, 1]; our input is `2 * pixel - 1`.
    """
    mean, std = (np.asarray(x, "float64")[:, None] for x in (mean, std))
    exact = kernel.astype("float64") / std  # (t, p, p, C, D)
    shift = (exact * (0.5 - mean)).sum(axis=(0, 1, 2, 3))
    return (exact / 2).astype("float32"), (bias + shift).astype("float32")


def _positions(
    arrays: Arrays, family: str, model: Transformer, settings: Mapping[str, Any]
) -> Arrays:
    """Returns the class token and the interpolated position embeddings."""
    prefix = f"{family}.embeddings."
    found: Arrays = {}
    token = arrays.get(f"{prefix}cls_token")
    if token is not None and model.class_token is not None:
        found["class_token/class_token"] = token.reshape(-1)
    positions = arrays.get(f"{prefix}position_embeddings")
    if positions is not None and model.position_kind == "learned":
        positions = positions.reshape(-1, positions.shape[-1])
        first = int(token is not None)
        num_places = len(positions) - first
        time = _frames_of(num_places, family, settings, model)
        side = math.isqrt(num_places // time)
        positions = resize_positions(
            positions, first, (time, side, side), model.position_grid
        )
        dropped = first if model.class_token is None else 0
        found["positions/positions"] = positions[dropped:]
    times = arrays.get(f"{prefix}time_embeddings")
    if times is not None:
        times = times.reshape(times.shape[1], 1, 1, times.shape[2])
        found["temporal_positions/positions"] = interpolate(
            times, (model.grid[0], 1, 1)
        )
    return found


def _frames_of(
    num_places: int,
    family: str,
    settings: Mapping[str, Any],
    model: Transformer,
) -> int:
    """Returns the number of tubelets in time of a file's positions."""
    if family in ("vit", "timesformer"):
        return 1
    if "num_frames" in settings:
        depth = settings.get("tubelet_size", model.tubelet_frames)
        depth = depth[0] if isinstance(depth, list) else depth
        return int(settings["num_frames"]) // int(depth)
    time = model.grid[0]
    if num_places % time or math.isqrt(num_places // time) ** 2 * time != (
        num_places
    ):
        raise UsageError(
            f"The file's {num_places} positions are not a square grid for "
            f"{time} tubelets in time. Put its config.json beside it, which "
            "has the number of frames."
        )
    return time


def _head(arrays: Arrays, model: Transformer) -> Arrays:
    """Returns the head's weights if it has the same number of classes."""
    bias = arrays.get("classifier.bias")
    if bias is None or len(bias) != model.num_classes:
        return {}
    return _pair(arrays, "classifier", "head")


def _time_from_space(found: Arrays) -> Arrays:
    """Returns temporal attention as a copy of the spatial attention."""
    pattern = re.compile(r"/attention(_norm)?/")
    return {
        pattern.sub(r"/temporal_attention\1/", name).replace(
            "temporal_attention_norm", "temporal_norm"
        ): value
        for name, value in found.items()
        if pattern.search(name)
    }


def _assign(model: Transformer, found: Arrays, file: Path | str) -> list[str]:
    """Assigns the model's weights; returns the names of missing ones."""
    weights = {
        name_in(model, weight): weight for weight in model.trainable_weights
    }
    unknown = sorted(set(found) - set(weights))
    if unknown:
        raise UsageError(
            f"'{file}' has weights that this model does not have, such as "
            f"{unknown[0]}. Give the --preset or the dimensions of the file."
        )
    for name, value in found.items():
        if value.shape != tuple(weights[name].shape):
            raise UsageError(
                f"'{file}' does not fit: {name} is {value.shape} in the file "
                f"and {tuple(weights[name].shape)} in the model. Give the "
                "--preset or the dimensions of the file."
            )
    for name, value in found.items():
        weights[name].assign(value)
    missing = sorted(set(weights) - set(found))
    if missing:
        logger.info(
            "'%s' does not have %s; they keep their initial values.",
            file, ", ".join(missing),
        )  # fmt: skip
    return missing


def name_in(model: keras.Model, weight: Any) -> str:
    """Returns the path of a weight within a model, which may be in another."""
    _, model_name, within = weight.path.rpartition(f"{model.name}/")
    return within if model_name else weight.path.split("/", 1)[1]


def copy_weights(
    source: Transformer, target: Transformer, place: str = ""
) -> list[str]:
    """Copies the weights of one model to another, for other clips or classes.

    Args:
        source: VideoViT. The model to copy from.
        target: VideoViT. Same dimensions and attention; frames, pixels and
            classes may differ.
        place: str. Name of the source in messages.

    Returns:
        Names of the target's weights that keep their values: the head's, if
        the classes differ.
    """
    found: Arrays = {}
    first = int(source.class_token is not None)
    for weight in source.trainable_weights:
        name = name_in(source, weight)
        value = keras.ops.convert_to_numpy(weight.value)
        if name == "positions/positions":
            old, new = (m.position_grid for m in (source, target))
            value = resize_positions(value, first, old, new)
        elif name == "temporal_positions/positions":
            kept = first if source.attention == "factorised" else 0
            old, new = ((m.grid[0], 1, 1) for m in (source, target))
            value = resize_positions(value, kept, old, new)
        elif name.startswith(("head/", "linear/")) and (
            source.num_classes != target.num_classes
        ):
            continue
        found[name] = value
    return _assign(target, found, place or source.name)
