"""Builds a network from options."""

from typing import Any

import keras

from har_keras.config import ClipConfig, ModelConfig
from har_keras.model.baselines import CNN3D, FrameViT
from har_keras.model.options import transformer_options
from har_keras.model.vit import VideoViT


def build_model(
    model: ModelConfig, clip: ClipConfig, num_classes: int, seed: int = 0
) -> keras.Model:
    """Returns a built model, ready to call, save and export.

    Args:
        model: ModelConfig. The network and its dimensions.
        clip: ClipConfig. Frames and pixels of a clip.
        num_classes: int. Classes, at least 2.
        seed: int. Seed of the weights. Defaults to `0`.

    Returns:
        A `keras.Model` from uint8 clips `(B, T, H, W, 3)` to probabilities
        `(B, K)`, with a method `logits` and a property `num_tokens`.

    Example:

    >>> build_model(ModelConfig(), ClipConfig(), num_classes=3).count_params()
    205923
    """
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "num_frames": clip.num_frames,
        "crop_size": clip.crop_size,
        "dtype": POLICIES[model.precision],
    }
    if model.model == "cnn3d":
        network = CNN3D(**options, seed=seed)
    else:
        options |= transformer_options(model) | {"seed": seed}
        kind = FrameViT if model.model == "frame-vit" else VideoViT
        network = kind(**options)
    # A model must have been called to be exported; a symbolic call is enough.
    shape = (None, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    network(keras.KerasTensor(shape, dtype="uint8"))
    return network


POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
