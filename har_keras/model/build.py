"""From options to a network."""

from typing import Any

import keras

from har_keras.config import ClipConfig, ModelConfig
from har_keras.model.baselines import CNN3D, FrameViT, VideoSwin
from har_keras.model.vit import VideoViT

# What a published family does its own way, besides its dimensions.
_FAMILY_OPTIONS: dict[str, dict[str, Any]] = {
    "vivit": {"activation": "gelu_tanh"},
    "videomae": {
        "positions": "sinusoid",
        "key_bias": False,
        "norm_epsilon": 1e-12,
    },
}


def build_model(
    model: ModelConfig, clip: ClipConfig, num_classes: int, seed: int = 0
) -> keras.Model:
    """Returns a model with its weights, ready to call, save and export.

    Args:
        model: ModelConfig. The network and its dimensions.
        clip: ClipConfig. Frames and pixels of a clip.
        num_classes: int. Classes, at least 2.
        seed: int. Seed of the weights. Defaults to `0`.

    Returns:
        A `keras.Model` from uint8 clips `(B, T, H, W, 3)` to probabilities
        `(B, K)`, with a method `logits` and `num_tokens`.

    Raises:
        EnvironmentFault: If a baseline's package is not installed.

    Example:

    >>> build_model(ModelConfig(), ClipConfig(), num_classes=3).count_params()
    205923
    """
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "num_frames": clip.num_frames,
        "crop_size": clip.crop_size,
        "dtype": "float32"
        if model.precision == "float32"
        else "mixed_bfloat16",
    }
    if model.model == "cnn3d":
        network = CNN3D(**options, seed=seed)
    elif model.model == "videoswin-tiny":
        network = VideoSwin(**options)
    else:
        options |= transformer_options(model) | {"seed": seed}
        kind = FrameViT if model.model == "frame-vit" else VideoViT
        network = kind(**options)
    # A model that was never called can't be exported; a symbolic call counts.
    shape = (None, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    network(keras.KerasTensor(shape, dtype="uint8"))
    return network


def transformer_options(model: ModelConfig) -> dict[str, Any]:
    """Returns the arguments of a `VideoViT` that a model's options give."""
    names = (
        "patch_size", "tubelet_frames", "hidden_dim", "num_layers",
        "num_heads", "mlp_dim", "dropout_rate", "attention_dropout_rate",
        "drop_path_rate", "stem", "pooling", "attention", "num_temporal_layers",
    )  # fmt: skip
    options = {name: getattr(model, name) for name in names}
    return options | _FAMILY_OPTIONS.get(model.preset.split("-")[0], {})
