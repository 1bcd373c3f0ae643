"""Weights to start from: a published model's, another run's, or ours."""

import logging
from pathlib import Path

import keras

import har_keras.model.baselines
import har_keras.model.mae  # noqa: F401  (registers the models' classes)
from har_keras.config import ModelConfig
from har_keras.errors import DataError, UsageError
from har_keras.model.vit import VideoViT
from har_keras.model.weights import copy_weights, load_weights
from har_keras.run import Run

logger = logging.getLogger("har_keras")

DRAWN_ACTIONS = Path(__file__).with_name("drawn_actions.keras")
"""A model of the stated size that tells the twelve drawn actions apart.

No video but those of `har_keras.sample` went into it. docs/training.md has the
two commands that made it, and what it reached.
"""


def initialize_weights(model: keras.Model, config: ModelConfig) -> None:
    """Puts the weights into a model that its options say it starts from.

    Args:
        model: keras.Model. Its weights are overwritten, or left random.
        config: ModelConfig. Says which: `weights`, then `init`, then `start`.
            The later ones have the last word where several are given, but
            `start` is only for models that have nothing else.

    Raises:
        DataError: If a run has no model yet, or a file is damaged.
        UsageError: If the dimensions differ.
    """
    if config.weights:
        load_weights(model, config.weights)
    if config.init:
        start_from(model, Run.open(config.init))
    elif config.start == "drawn-actions" and not config.weights:
        logger.info("Starting from weights that know drawn actions.")
        source = keras.models.load_model(DRAWN_ACTIONS, compile=False)
        copy_weights(source, model, config.start)


def start_from(model: keras.Model, run: Run) -> None:
    """Puts the weights of a run's model into another model.

    Args:
        model: keras.Model. A `VideoViT`; its weights are overwritten.
        run: Run. Of `pretrain`, whose encoder is taken, or of `train`. Frames
            and pixels may differ; where classes do, the head stays as it is.

    Raises:
        DataError: If the run has no model yet.
        UsageError: If the dimensions differ, or a model is no `VideoViT`.
    """
    if not run.model_file.is_file():
        raise DataError(
            f"--init '{run.path}' has no {run.model_file.name} yet: its "
            "training was stopped before the end of an epoch."
        )
    source = keras.models.load_model(run.model_file, compile=False)
    source = getattr(source, "encoder", source)
    if not isinstance(source, VideoViT) or not isinstance(model, VideoViT):
        raise UsageError(
            f"--init is for --model vit. '{run.path}' holds a "
            f"{type(source).__name__}, and this model is a "
            f"{type(model).__name__}."
        )
    logger.info("Starting from the weights of '%s'.", run.path)
    copy_weights(source, model, str(run.path))
