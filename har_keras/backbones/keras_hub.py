"""Presets of keras-hub by name, or a folder in its format.

Images: networks with a feature map, and transformers, whose class and register
tokens are dropped. Clips: VideoPrism.
"""

import importlib.util
import json
import logging
import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from har_keras.backbones.backbone import (
    Backbone,
    BackboneInfo,
    ClipBackbone,
    FrameBackbone,
    Shape,
    Tensor,
)
from har_keras.backbones.nested import Nested
from har_keras.backbones.weight_files import first_line, require_hdf5
from har_keras.config import ClipConfig
from har_keras.errors import DataError, EnvironmentFault, UsageError

logger = logging.getLogger("har_keras")

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_SCALING = "image_converter.json"


@dataclass(frozen=True)
class Preset:
    """What is known of a preset without its files.

    Args:
        parameters: float. Millions, without a classification head.
        macs: float. Billions of multiply-adds of a frame or clip; computed
            from the dimensions, as `docs/backbones.md` says.
        image_size: int. Height and width, in pixels.
        num_frames: int. Frames that it reads at once.
        is_fixed: bool. Whether it reads no other size.
    """

    parameters: float
    macs: float
    image_size: int = 224
    num_frames: int = 1
    is_fixed: bool = False


PRESETS = {
    "resnet_18_imagenet": Preset(11.2, 1.81),
    "resnet_50_imagenet": Preset(23.6, 4.09),
    "resnet_101_imagenet": Preset(42.6, 7.80),
    "resnet_152_imagenet": Preset(58.3, 11.5),
    "resnet_v2_50_imagenet": Preset(23.5, 4.09),
    "resnet_v2_101_imagenet": Preset(42.6, 7.80),
    "resnet_vd_18_imagenet": Preset(11.2, 2.07),
    "resnet_vd_34_imagenet": Preset(21.3, 3.92),
    "resnet_vd_50_imagenet": Preset(23.6, 4.33),
    "resnet_vd_50_ssld_imagenet": Preset(23.6, 4.33),
    "resnet_vd_50_ssld_v2_imagenet": Preset(23.6, 4.33),
    "resnet_vd_101_imagenet": Preset(42.6, 8.04),
    "resnet_vd_101_ssld_imagenet": Preset(42.6, 8.04),
    "resnet_vd_152_imagenet": Preset(58.3, 11.8),
    "resnet_vd_200_imagenet": Preset(72.9, 15.2),
    "vit_base_patch16_224_imagenet": Preset(85.8, 17.6, 224, 1, True),
    "vit_base_patch16_384_imagenet": Preset(86.1, 55.5, 384, 1, True),
    "vit_base_patch32_384_imagenet": Preset(87.5, 13.0, 384, 1, True),
    "vit_large_patch16_224_imagenet": Preset(303.3, 61.6, 224, 1, True),
    "vit_large_patch16_384_imagenet": Preset(303.7, 191.1, 384, 1, True),
    "vit_large_patch32_384_imagenet": Preset(305.6, 45.3, 384, 1, True),
    "vit_base_patch16_224_imagenet21k": Preset(85.8, 17.6, 224, 1, True),
    "vit_base_patch32_224_imagenet21k": Preset(87.5, 4.41, 224, 1, True),
    "vit_large_patch16_224_imagenet21k": Preset(303.3, 61.6, 224, 1, True),
    "vit_large_patch32_224_imagenet21k": Preset(305.5, 15.4, 224, 1, True),
    "vit_huge_patch14_224_imagenet21k": Preset(630.8, 167.3, 224, 1, True),
    "dinov2_small": Preset(22.6, 6.12),
    "dinov2_base": Preset(87.6, 23.2),
    "dinov2_large": Preset(305.8, 81.0),
    "dinov2_giant": Preset(1138.6, 299.4),
    "dinov2_with_registers_small": Preset(22.6, 6.23),
    "dinov2_with_registers_base": Preset(87.6, 23.5),
    "dinov2_with_registers_large": Preset(305.8, 82.3),
    "dinov2_with_registers_giant": Preset(1138.6, 304.2),
    "videoprism_public_v1_base": Preset(114.0, 486.6, 288, 16, True),
    "videoprism_public_v1_large": Preset(354.0, 1499.3, 288, 16, True),
}


@keras.saving.register_keras_serializable(package="har_keras")
class HubFeatures(Nested):
    """A backbone of keras-hub whose output is a map, whatever it was.

    Args:
        backbone: keras.Model. A backbone of keras-hub, of images or clips.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        `(batch_size, height, width, 3)`, or `(batch_size, num_frames, height,
        width, 3)`.

    Output shape:
        `(batch_size, h, w, C)`, or `(batch_size, num_frames, h, w, C)`.
    """

    def __init__(self, backbone: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.built = True  # the backbone is

    parts = ("backbone",)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        inputs = self.backbone.input
        given = dict.fromkeys(inputs, x) if isinstance(inputs, dict) else x
        found = self.backbone(given, training=False)
        grid = self._grid(x.shape)
        if len(found.shape) == 3:  # class and register tokens come first
            found = found[:, -math.prod(grid) :]
        return ops.reshape(found, (-1, *grid, found.shape[-1]))

    def _grid(self, input_shape: Shape) -> tuple[int, ...]:
        """Returns rows and columns of the map, for clips also the frames."""
        _, *places, _ = self.backbone.output.shape
        if len(input_shape) == 5:
            frames, tokens = (int(n or 0) for n in places)
            return frames, math.isqrt(tokens), math.isqrt(tokens)
        if len(places) == 2:
            return int(places[0] or 0), int(places[1] or 0)
        patch = self.backbone.patch_size
        sides = (patch, patch) if isinstance(patch, int) else patch
        rows, columns = (
            int(size or 0) // side
            for size, side in zip(input_shape[1:3], sides, strict=True)
        )
        return rows, columns

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = self.backbone.output.shape[-1]
        return input_shape[0], *self._grid(input_shape), channels


def names() -> list[str]:
    """Returns the names of this family for `--backbone`."""
    return list(PRESETS)


def knows(name: str) -> bool:
    """Returns whether a name is a preset, or a folder in its format.

    Example:

    >>> knows("dinov2_small"), knows("resnet50")
    (True, False)
    """
    if name in PRESETS:
        return True
    settings = _json(Path(name, _CONFIG))
    return str(settings.get("registered_name", "")).startswith("keras_hub>")


def info(name: str) -> BackboneInfo:
    """Returns what is known of a backbone without loading it."""
    preset = PRESETS.get(name)
    if preset is None:
        return _info_of_folder(name)
    return BackboneInfo(
        name,
        kind="clips" if preset.num_frames > 1 else "frames",
        license="see its page on kaggle.com/models/keras",
        source="keras-hub",
        **vars(preset),
    )


def _info_of_folder(name: str) -> BackboneInfo:
    config = _json(Path(name, _CONFIG)).get("config", {})
    rows = (config.get("image_shape") or (None,))[0]
    return BackboneInfo(
        name,
        kind="clips" if config.get("num_frames", 1) > 1 else "frames",
        license="unknown: that of the folder's preset",
        source="a folder of keras-hub",
        image_size=rows or 224,
        num_frames=config.get("num_frames", 1),
        is_fixed=_is_fixed(config),
    )


def _is_fixed(config: dict[str, Any]) -> bool:
    """Returns whether positions were learned for one size of images."""
    return "patch_size" in config and "position_embedding_shape" not in config


def is_here(name: str) -> bool:
    """Returns whether the weights are on this machine."""
    if name not in PRESETS:
        return Path(name, _WEIGHTS).is_file()
    cache = os.environ.get("KAGGLEHUB_CACHE") or "~/.cache/kagglehub"
    found = (
        Path(cache)
        .expanduser()
        .glob(f"models/keras/*/keras/{name}/*/{_WEIGHTS}")
    )
    return any(found)


def require(name: str, weights: Path | None) -> None:
    """Raises what `load` would, without reading the weights.

    Those of a preset are downloaded, unless they are in the cache.

    Args:
        name: str. One of `names()`, or a folder.
        weights: Path or None. A file to load instead.

    Raises:
        UsageError: If a file is missing.
        EnvironmentFault: If keras-hub is missing, or a download fails.
    """
    if importlib.util.find_spec("keras_hub") is None:
        raise EnvironmentFault(
            f"--backbone {name} needs the package keras-hub. Install it with: "
            'pip install "har_keras[pretrained]".'
        )
    if weights is not None and not weights.is_file():
        raise UsageError(
            f"--backbone-weights '{weights}' can't be read: there is no such "
            "file."
        )
    folder = _folder(name, weights is None)
    for file, maker in ((_WEIGHTS, "backbone"), (_SCALING, "image converter")):
        if file == _WEIGHTS and weights is not None:
            continue
        if not (folder / file).is_file():
            raise UsageError(
                f"--backbone '{folder}' has no {file}. Save it there with the "
                f"method save_to_preset of keras-hub's {maker}."
            )


def load(name: str, weights: Path | None, clip: ClipConfig) -> Backbone:
    """Returns the backbone of a name, with its weights.

    Args:
        name: str. One of `names()`, or a folder.
        weights: Path or None. A `.weights.h5` of the same backbone. Defaults
            to that of the preset.
        clip: ClipConfig. Pixels of a frame.

    Returns:
        A `FrameBackbone`, or a `ClipBackbone`.

    Raises:
        UsageError: If a file is missing, the weights are those of another
            network, or the network reads no images.
        EnvironmentFault: If keras-hub is missing, or a download fails.
        DataError: If a file is damaged.
    """
    require(name, weights)
    folder = _folder(name, weights is None)
    path = weights or folder / _WEIGHTS
    require_hdf5(path, "Download or save it again.")
    network = _loaded(name, folder, path, clip.crop_size)
    mean, std = _scaling_of(folder / _SCALING)
    known = info(name)
    kind = ClipBackbone if known.kind == "clips" else FrameBackbone
    return kind(network, mean=mean, std=std, info=known)


def _loaded(name: str, folder: Path, path: Path, size: int) -> HubFeatures:
    import keras_hub

    config = _json(folder / _CONFIG).get("config", {})
    shape = {} if _is_fixed(config) else {"image_shape": (size, size, 3)}
    patch = config.get("patch_size", 1)
    if shape and size % patch:
        raise UsageError(
            f"--crop-size must be a multiple of the {patch} pixels of a patch "
            f"of --backbone {name}. Received: {size}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            backbone = keras_hub.models.Backbone.from_preset(
                str(folder), load_weights=False, **shape
            )
            backbone.load_weights(path)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise UsageError(
            f"--backbone {name}: '{path}' and '{folder / _CONFIG}' don't make "
            f"a network ({first_line(error)}). Save or download them again."
        ) from error
    _require_images(name, backbone)
    return HubFeatures(backbone, name="network")


def _require_images(name: str, backbone: Any) -> None:
    """Raises `UsageError` for a network of text, or of several outputs."""
    inputs = backbone.input
    given = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    output = backbone.output
    if len(given) != 1 or isinstance(output, dict | list | tuple):
        raise UsageError(
            f"--backbone {name} is a {type(backbone).__name__}, which is no "
            "network from images, or clips, to one feature map. Choose "
            "another; `har-keras models` lists them."
        )


def _scaling_of(file: Path) -> tuple[Any, Any]:
    """Returns mean and deviation of pixels, from `x * scale + offset`."""
    try:
        converter = keras.saving.deserialize_keras_object(_json(file))
        scale = np.asarray(converter.scale or 1.0, "float64")
        offset = np.asarray(converter.offset or 0.0, "float64")
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"'{file}' does not say how pixels are scaled "
            f"({first_line(error)}). Save or download it again."
        ) from error
    return (0.0 - offset / scale).tolist(), (1 / scale).tolist()


def _json(file: Path) -> dict[str, Any]:
    """Returns the content of a file; nothing if it is no JSON object."""
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _folder(name: str, with_weights: bool) -> Path:
    """Returns the folder of a preset, downloaded if need be."""
    if name not in PRESETS:
        return Path(name)
    import kagglehub
    import keras_hub

    handle = keras_hub.models.Backbone.presets[name]["kaggle_handle"]
    handle = handle.removeprefix("kaggle://")
    files = [_CONFIG, _SCALING, *([_WEIGHTS] if with_weights else ())]
    if with_weights and not is_here(name):
        logger.info("Downloading the weights of %s.", name)
    try:
        paths = [Path(kagglehub.model_download(handle, x)) for x in files]
    except Exception as error:  # those of its HTTP library are many
        raise EnvironmentFault(
            f"The weights of --backbone {name} are not here, and could not be "
            f"downloaded from Kaggle ({type(error).__name__}). Check the "
            f"network, or give a copy of {handle} as --backbone FOLDER."
        ) from error
    return paths[0].parent
