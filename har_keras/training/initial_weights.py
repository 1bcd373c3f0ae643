"""Initial weights: random, synthetic actions, a run, a file, or a hub's."""

import logging
from pathlib import Path
from typing import Literal

import keras

import har_keras.model.baselines
import har_keras.model.mae  # noqa: F401  (registers the models' classes)
from har_keras.damaged import read_model
from har_keras.errors import DataError, UsageError
from har_keras.hub import download, hub_name
from har_keras.model.vit import VideoViT
from har_keras.model.weights import copy_weights, load_weights
from har_keras.run import Run

logger = logging.getLogger("har_keras")

SYNTHETIC_ACTIONS = Path(__file__).with_name("synthetic_actions.keras")
"""A model of the default size, trained to classify twelve synthetic actions.

It saw no video but those of `har_keras.sample`. docs/training.md has the two
commands that made it, and its accuracy.
"""

Kind = Literal["random", "synthetic-actions", "run", "file", "hub"]


def require_weights(weights: str) -> Kind:
    """Returns what an option `--weights` names, before any video is read.

    Args:
        weights: str. "random", "synthetic-actions", the folder of a run, a
            `.safetensors` file, or `owner/name[@revision]` on a hub, which is
            downloaded.

    Returns:
        "random", "synthetic-actions", "run", "file" or "hub".

    Raises:
        UsageError: If there is no such run, file or model, or it is of another
            kind.
        DataError: If the run has no model yet, or a download is damaged.
        EnvironmentFault: If the hub can't be reached, access is refused, or
            huggingface_hub is missing.

    Example:

    >>> require_weights("random")
    'random'
    """
    path = Path(weights)
    if weights == "random":
        return "random"
    if weights == "synthetic-actions":
        return "synthetic-actions"
    if name := hub_name(weights):
        download(name)
        return "hub"
    if not path.exists():
        raise UsageError(
            "--weights must be random, synthetic-actions, the folder of a run, "
            "a .safetensors file, or owner/name of a model on a hub. There is "
            f"no file or folder of that name. Received: {weights}."
        )
    if path.is_file() and path.suffix == ".safetensors":
        return "file"
    run = Run(path)
    if not run.config_file.is_file():
        raise UsageError(
            f"--weights '{weights}' is neither the folder of a run, which has "
            f"a {run.config_file.name}, nor a .safetensors file."
        )
    _require_model(run)
    return "run"


def exact_weights(weights: str) -> str:
    """Returns what `--weights` names as a run records it.

    Args:
        weights: str. As for `require_weights`, which checks it.

    Returns:
        The same; of a model on a hub, `owner/name@<commit>`.
    """
    if name := hub_name(weights):
        return str(download(name)[0])
    require_weights(weights)
    return weights


def _require_model(run: Run) -> None:
    if not run.model_file.is_file():
        raise DataError(
            f"--weights '{run.path}' has no {run.model_file.name} yet: its "
            "training was stopped before the end of an epoch. Resume it with: "
            f"{run.resume_command}"
        )


def initialize_weights(model: keras.Model, weights: str) -> None:
    """Sets the initial weights of a model.

    Args:
        model: keras.Model. Its weights are overwritten, or left random.
        weights: str. As for `require_weights`.

    Raises:
        UsageError: If there are no such weights, or the dimensions differ.
        DataError: If the run has no model yet, or the file is damaged.
        EnvironmentFault: As for `require_weights`.
    """
    if name := hub_name(weights):
        exact, file = download(name)
        logger.info("Initial weights: those of '%s'.", exact)
        load_weights(model, file)
        return
    kind = require_weights(weights)
    if kind == "file":
        load_weights(model, Path(weights))
    elif kind == "run":
        copy_run_weights(model, Run(Path(weights)))
    elif kind == "synthetic-actions":
        logger.info("Initial weights: pretrained on synthetic actions.")
        source = keras.models.load_model(SYNTHETIC_ACTIONS, compile=False)
        copy_weights(source, model, weights)


def copy_run_weights(model: keras.Model, run: Run) -> None:
    """Copies the weights of a run's model into another model.

    Args:
        model: keras.Model. A `VideoViT`; its weights are overwritten.
        run: Run. Of `pretrain`, whose encoder is taken, or of `train`. The
            number of frames and pixels may differ; where the number of
            classes does, the head keeps its weights.

    Raises:
        UsageError: If the dimensions differ, or a model is no `VideoViT`.
        DataError: If the run has no model yet.
    """
    _require_model(run)
    source = read_model(run.model_file)
    source = getattr(source, "encoder", getattr(source, "reader", source))
    if not isinstance(source, VideoViT) or not isinstance(model, VideoViT):
        raise UsageError(
            f"--weights RUN needs --model vit. '{run.path}' has a "
            f"{type(source).__name__}, and this model is a "
            f"{type(model).__name__}."
        )
    logger.info("Initial weights: those of the run '%s'.", run.path)
    copy_weights(source, model, str(run.path))
