"""Recipes and presets: sets of options by name.

An option that is given beside `--recipe` or `--preset` takes precedence.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

RecipeName = Literal[
    "plain", "quick", "small-data", "transfer", "finetune", "pretrain"
]


@dataclass(frozen=True)
class Recipe:
    """A set of options.

    Args:
        reason: str. What it is for, as printed when training starts.
        options: dict. Values by option name.
    """

    reason: str
    options: dict[str, Any] = field(default_factory=dict)


RECIPES: dict[RecipeName, Recipe] = {
    "plain": Recipe("the stated hyperparameters and nothing else"),
    # A clip of 64 pixels has 128 tokens instead of 392, and small batches make
    # more steps of few passes.
    "quick": Recipe(
        "a first result in minutes on a CPU, from small frames",
        {
            "crop_size": 64,
            "batch_size": 32,
            "epochs": 24,
            "warmup_epochs": 1.0,
            "schedule": "cosine",
            "augment": "light",
        },
    ),
    # Chosen by cross-validation on some two hundred real videos; the README has
    # the figures. On pixels the model overfits.
    "small-data": Recipe(
        "for up to a few hundred videos: HOG3D features, weights pretrained "
        "on synthetic actions, and regularization",
        {
            "stem": "gradients",
            "weights": "synthetic-actions",
            "crop_size": 64,
            "batch_size": 32,
            "epochs": 60,
            "warmup_epochs": 2.0,
            "schedule": "cosine",
            "mixup": 0.4,
            "drop_path_rate": 0.2,
            "label_smoothing": 0.1,
            "keep": "last",
        },
    ),
    "transfer": Recipe(
        "for own videos, few or many: the transformer reads the features of a "
        "network that was pretrained on ImageNet",
        {
            "backbone": "efficientnet-lite0",
            "feature_pooling": "motion",
            "backbone_stride": 2,
            "optical_flow": True,
            "num_frames": 32,
            "crop_size": 320,
            "fit": "squeeze",
            "fps": 3.2,
            "short_videos": "stretch",
            "num_crops": 1,
            "tubelet_frames": 1,
            "batch_size": 32,
            "epochs": 60,
            "learning_rate": 0.003,
            "warmup_epochs": 6.0,
            "schedule": "cosine",
            "augment": "none",
            "feature_dropout_rate": 0.5,
            "keep": "last",
        },
    ),
    # As the published models are fine-tuned, with fewer epochs.
    "finetune": Recipe(
        "for pretrained weights (--weights): a small learning rate, lower "
        "towards the input",
        {
            "batch_size": 32,
            "epochs": 40,
            "learning_rate": 0.0005,
            "warmup_epochs": 4.0,
            "schedule": "cosine",
            "weight_decay": 0.05,
            "layer_decay": 0.75,
            "drop_path_rate": 0.1,
            "label_smoothing": 0.1,
        },
    ),
    # Reconstruction hardly overfits: long training and strong weight decay, as
    # published.
    "pretrain": Recipe(
        "for pretraining without labels: long training",
        {
            "epochs": 300,
            "warmup_epochs": 10.0,
            "schedule": "cosine",
            "weight_decay": 0.05,
        },
    ),
}


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
