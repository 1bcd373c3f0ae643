"""The arguments of a `VideoViT` for a configuration or a preset."""

import difflib
from typing import Any

from har_keras.config import Config, ModelConfig
from har_keras.errors import UsageError
from har_keras.ranges import MOST_WIDTH
from har_keras.recipes import PRESETS

# Settings of published model families, besides their dimensions.
_FAMILY_OPTIONS: dict[str, dict[str, Any]] = {
    "vivit": {"activation": "gelu_tanh"},
    "videomae": {
        "positions": "sinusoid",
        "key_bias": False,
        "norm_epsilon": 1e-12,
    },
}


def transformer_options(model: ModelConfig) -> dict[str, Any]:
    """Returns the arguments of a `VideoViT` for a model's options."""
    names = (
        "patch_size", "tubelet_frames", "hidden_dim", "num_layers",
        "num_heads", "mlp_dim", "dropout_rate", "attention_dropout_rate",
        "drop_path_rate", "stem", "pooling", "attention", "num_temporal_layers",
    )  # fmt: skip
    options = {name: getattr(model, name) for name in names}
    return options | _FAMILY_OPTIONS.get(model.preset.split("-")[0], {})


def preset_options(name: str) -> dict[str, Any]:
    """Returns the arguments of a `VideoViT` for a preset.

    Raises:
        UsageError: If there is no such preset; the nearest one is named.

    Example:

    >>> options = preset_options("videomae-b")
    >>> options["hidden_dim"], options["num_frames"]
    (768, 16)
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.0)
        raise UsageError(
            f"There is no preset '{name}'. Did you mean '{near[0]}'? The "
            f"presets are {', '.join(PRESETS)}."
        )
    config = Config().replace(preset=name)
    return {
        "num_frames": config.clip.num_frames,
        "crop_size": config.clip.crop_size,
        **transformer_options(config.model),
    }


def require_at_most(most: int, **numbers: int) -> None:
    """Raises `ValueError` for a model that no machine can build."""
    for name, number in numbers.items():
        if not 0 <= number <= most:
            raise ValueError(
                f"`{name}` must be at most {most}. Received: {number}."
            )


def require_arguments(num_classes: int, pooling: str, attention: str) -> None:
    """Raises `ValueError` for arguments of a `VideoViT` that don't exist."""
    if num_classes < 2:
        raise ValueError(
            f"`num_classes` must be at least 2. Received: {num_classes=}."
        )
    require_at_most(MOST_WIDTH, num_classes=num_classes)
    if pooling not in ("mean", "mean_norm", "class_token"):
        raise ValueError(
            "`pooling` must be 'mean', 'mean_norm' or 'class_token'. "
            f"Received: {pooling=}."
        )
    if attention not in ("joint", "factorised", "divided"):
        raise ValueError(
            "`attention` must be 'joint', 'factorised' or 'divided'. "
            f"Received: {attention=}."
        )
