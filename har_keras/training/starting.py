"""Weights to start from: those of another run."""

import logging

import keras

import har_keras.model.baselines
import har_keras.model.mae  # noqa: F401  (registers the models' classes)
from har_keras.errors import DataError, UsageError
from har_keras.model.vit import VideoViT
from har_keras.model.weights import copy_weights
from har_keras.run import Run

logger = logging.getLogger("har_keras")


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
