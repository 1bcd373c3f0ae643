"""Published models by name: their dimensions, as options.

An option that is given beside `--preset` has the last word.
"""

from typing import Any, Literal

Preset = Literal[
    "tiny",
    "vivit-b-16x2",
    "vivit-b-16x2-fe",
    "videomae-s",
    "videomae-b",
    "videomae-l",
    "timesformer-b",
]


def _transformer(dim: int, num_layers: int, num_heads: int) -> dict[str, Any]:
    """Returns the dimensions of a Vision Transformer, whose MLP is 4 wide."""
    return {
        "hidden_dim": dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "mlp_dim": 4 * dim,
        "patch_size": 16,
        "crop_size": 224,
    }


# Frames a second are those of Kinetics, 25, by the papers' strides.
_VIVIT = _transformer(768, 12, 12) | {
    "num_frames": 32, "tubelet_frames": 2, "fps": 12.5,
    "pooling": "class_token",
}  # fmt: skip
_VIDEOMAE = {
    "num_frames": 16, "tubelet_frames": 2, "fps": 6.25,
    "pooling": "mean_norm",
}  # fmt: skip
_TIMESFORMER = _transformer(768, 12, 12) | {
    "num_frames": 8, "tubelet_frames": 1, "fps": 25 / 32,
    "pooling": "class_token", "attention": "divided",
}  # fmt: skip

PRESETS: dict[Preset, dict[str, Any]] = {
    # Every default of `ModelConfig` and `ClipConfig`.
    "tiny": {},
    # Arnab et al., 2021 (2103.15691), section 4.1 and table 2.
    "vivit-b-16x2": _VIVIT,
    "vivit-b-16x2-fe": _VIVIT
    | {"attention": "factorised", "num_temporal_layers": 4},
    # Tong et al., 2022 (2203.12602), appendix, table 7.
    "videomae-s": _transformer(384, 12, 6) | _VIDEOMAE,
    "videomae-b": _transformer(768, 12, 12) | _VIDEOMAE,
    "videomae-l": _transformer(1024, 24, 16) | _VIDEOMAE,
    # Bertasius et al., 2021 (2102.05095), section 4.
    "timesformer-b": _TIMESFORMER,
}
