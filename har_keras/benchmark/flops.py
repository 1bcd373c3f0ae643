"""How much arithmetic a model needs."""

import math

from har_keras.model.gradient_embedding import GradientEmbedding
from har_keras.model.vit import VideoViT


def step_flops(model: VideoViT) -> int:
    """Returns the floating-point operations of training on one clip.

    Of products alone, a multiplication and an addition counted as two. With
    N tokens of width D, pixels P in a tubelet, an MLP of width M and sequences
    of length n in which tokens read each other:

        embedding = 2 P D N
        attention = (2 D 3D + 2 D D) + 4 n D      a token and layer
        MLP       = 4 D M                         a token and layer
        forward   = embedding + layers
        step      = 2 embedding + 3 layers

    as the gradient of a product is two products, but none is asked for with
    respect to pixels. The class token is left out. Where the stem counts
    gradients, P is the counts of a tubelet, and the counting, 72 for each
    pixel, has no gradient.

    Args:
        model: VideoViT.

    Returns:
        FLOPs of one clip, forward and backward.

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
    else:  # two attentions, and a dense layer after the first
        layer = 2 * dense + 2 * width**2 + 4 * (time + space) * width + mlp
        layers = model.num_layers * tokens * layer
    return counting + 2 * embedding + 3 * layers
