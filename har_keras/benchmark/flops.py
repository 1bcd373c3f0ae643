"""Floating-point operations of a model."""

import math

from har_keras.model.gradient_embedding import GradientEmbedding
from har_keras.model.vit import VideoViT


def step_flops(model: VideoViT) -> int:
    """Returns the floating-point operations of a training step on one clip.

    Matrix products are counted, with two operations per multiply-add. For N
    tokens of dimension D, P pixel values per tubelet, MLP dimension M and
    attention over n tokens:

        embedding = 2 P D N
        attention = (2 D 3D + 2 D D) + 4 n D      per token and layer
        MLP       = 4 D M                         per token and layer
        forward   = embedding + layers
        step      = 2 embedding + 3 layers

    The backward pass of a product is two products; the gradient with respect
    to pixels is not computed. The class token is ignored. With HOG3D features,
    P is the number of features per tubelet; computing them takes 72 operations
    per pixel and has no backward pass.

    Args:
        model: VideoViT.

    Returns:
        int. FLOPs of one clip, forward and backward.

    Example:

    >>> round(step_flops(VideoViT(3)) / 1e6, 1)
    729.8
    """
    time, rows, columns = model.grid
    space, tokens = rows * columns, model.num_tokens
    width = model.hidden_dim
    pixels = math.prod((model.tubelet_frames, *[model.patch_size] * 2, 3))
    counting = 0
    if isinstance(model.embedding, GradientEmbedding):
        counting = 72 * tokens * pixels // 3
        pixels = model.embedding.num_counts
    dense = 8 * width**2
    mlp = 4 * width * model.mlp_dim
    embedding = 2 * pixels * width * tokens
    if model.attention == "joint":
        layer = dense + 4 * tokens * width + mlp
        layers = model.num_layers * tokens * layer
    elif model.attention == "factorised":
        layer = dense + 4 * space * width + mlp
        layers = model.num_layers * tokens * layer
        layer = dense + 4 * time * width + mlp
        layers += model.num_temporal_layers * time * layer
    else:  # divided: two attentions, and a dense layer after the first
        layer = 2 * dense + 2 * width**2 + 4 * (time + space) * width + mlp
        layers = model.num_layers * tokens * layer
    return counting + 2 * embedding + 3 * layers
