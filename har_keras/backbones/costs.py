"""What a network costs: parameters, and multiply-adds of its products."""

import math
from typing import Any

import keras
import numpy as np

from har_keras.backbones.backbone import Backbone


def parameters_of(backbone: Backbone) -> float:
    """Returns the millions of parameters of a loaded backbone."""
    return float(backbone.network.count_params()) / 1e6


def macs_of(backbone: Backbone) -> float:
    """Returns the billions of multiply-adds of a frame, or of a clip.

    Counted in TensorFlow's graph: convolutions and matrix products.

    Args:
        backbone: Backbone. Its `info` has the size of the frames.

    Returns:
        float. 0 under other Keras backends, which have no such graph.
    """
    if keras.config.backend() != "tensorflow":
        return 0.0
    import tensorflow as tf

    info = backbone.info
    frames = (info.num_frames,) if info.kind == "clips" else ()
    shape = (1, *frames, info.image_size, info.image_size, 3)
    call = tf.function(lambda x: backbone(x, training=False), autograph=False)
    graph = call.get_concrete_function(tf.TensorSpec(shape, tf.uint8)).graph
    return sum(map(_macs, graph.get_operations())) / 1e9


def _macs(operation: Any) -> int:
    """Returns the multiply-adds of an operation of a graph."""
    kind = operation.type
    if kind not in (*_CONVOLUTIONS, *_PRODUCTS, "Einsum"):
        return 0
    first, second = (tuple(x.shape) for x in operation.inputs[:2])
    if kind == "Einsum":
        return _of_einsum(
            operation.get_attr("equation").decode(), first, second
        )
    result = tuple(operation.outputs[0].shape)
    if kind in _CONVOLUTIONS:
        # A depthwise kernel's last axes are those of the result, too.
        return math.prod(second) * math.prod(result[1:-1])
    turned = operation.get_attr(_PRODUCTS[kind])
    return math.prod(result) * first[-2 if turned else -1]


def _of_einsum(
    equation: str, first: tuple[int, ...], second: tuple[int, ...]
) -> int:
    """Returns the multiply-adds of `np.einsum` of two arrays.

    Example:

    >>> _of_einsum("ab,bc->ac", (2, 3), (3, 4))
    24
    """
    ones, twos = equation.partition("->")[0].split(",")
    sizes = dict(zip(ones + twos, first + second, strict=True))
    return int(np.prod(list(sizes.values())))


_CONVOLUTIONS = ("Conv2D", "Conv3D", "DepthwiseConv2dNative")
_PRODUCTS = {
    "MatMul": "transpose_a", "BatchMatMul": "adj_x", "BatchMatMulV2": "adj_x",
}  # fmt: skip
