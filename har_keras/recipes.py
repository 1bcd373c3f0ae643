"""Recipes by name: options that go together, and when they do.

An option that is given beside `--recipe` has the last word.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

RecipeName = Literal["plain", "quick", "small-data", "finetune", "pretrain"]


@dataclass(frozen=True)
class Recipe:
    """A set of options.

    Args:
        reason: str. What it is for, as said at the start of a training.
        options: dict. Values by option name.
    """

    reason: str
    options: dict[str, Any] = field(default_factory=dict)


RECIPES: dict[RecipeName, Recipe] = {
    "plain": Recipe("the stated hyperparameters and nothing else"),
    # A clip of 64 pixels has 128 tokens instead of 392, and small batches make
    # more steps of few passes.
    "quick": Recipe(
        "a first result in minutes on a processor, from small pictures",
        {
            "crop_size": 64,
            "batch_size": 32,
            "epochs": 40,
            "warmup_epochs": 1.0,
            "schedule": "cosine",
            "augment": "light",
        },
    ),
    # Chosen by cross-validation on some two hundred real videos; the README has
    # the figures. From pixels the model learns the videos by heart.
    "small-data": Recipe(
        "for up to some hundred videos: tokens from edges and their motion, "
        "and what keeps a model from learning its videos by heart",
        {
            "stem": "gradients",
            "start": "drawn-actions",
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
    # As the published models are fine-tuned, with fewer epochs.
    "finetune": Recipe(
        "for weights that were trained before (--init or --weights): small "
        "steps, the smaller the nearer to the pixels",
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
    # Nothing but guessing pixels is learned, so there is little to overfit:
    # long training and strong weight decay, as published.
    "pretrain": Recipe(
        "for the verb pretrain: no labels, long training",
        {
            "epochs": 300,
            "warmup_epochs": 10.0,
            "schedule": "cosine",
            "weight_decay": 0.05,
        },
    ),
}
