"""Whatever answers, opened: a run, an exported model, a model on a server.

All become a `Classifier`, so that there is one way from a video to an answer.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from har_keras.config import Config, StoreConfig
from har_keras.environment import start_backend
from har_keras.errors import DataError
from har_keras.inference.calibration import Calibration
from har_keras.inference.classifier import Classifier
from har_keras.manifest.manifest import Manifest
from har_keras.run import Run
from har_keras.serving.client import Remote, ServingClient
from har_keras.serving.model_info import ModelInfo
from har_keras.serving.runtimes import (
    SUFFIXES,
    Runtime,
    open_exported,
    saved_model_in,
)
from har_keras.store.store import Form

Kind = Literal["run", "exported", "server"]


def kind_of(where: str | Path) -> Kind:
    """Returns what a name stands for; one that is nothing counts as a run.

    Example:

    >>> kind_of("grpc://localhost:8500/har"), kind_of("model.onnx")
    ('server', 'exported')
    """
    if "://" in str(where):
        return "server"
    path = Path(where)
    if Run(path).config_file.is_file():
        return "run"
    named = path.is_file() or path.suffix in SUFFIXES
    return "exported" if named or saved_model_in(path) else "run"


def load(where: str | Path, model: Any = None) -> Classifier:
    """Loads a model, to ask it about videos.

    Args:
        where: Path or str. The folder that training made; an exported model
            (see `open_exported`); or the address of a model on TensorFlow
            Serving, such as `http://localhost:8501/v1/models/har`. A
            SavedModel is a program: load only one that you trust.
        model: `keras.Model` or None. That of the run, where it is at hand.

    Returns:
        A `Classifier`.

    Raises:
        UsageError: If it is no exported model, or no address.
        DataError: If there is no run, it has no model, or what was exported
            doesn't say how it is to be asked.
        EnvironmentFault: If a server can't be reached, or a package is
            missing.
    """
    kind = kind_of(where)
    if kind == "server":
        return answering(Remote(ServingClient(str(where))))
    if kind == "exported":
        return answering(open_exported(Path(where)))
    run = Run.open(Path(where))
    return Classifier(
        model or load_model(run),
        Manifest.read(run.manifest_file).class_names,
        run.config(),
        calibration=Calibration.read(run),
        form=stored_form(run),
    )


def answering(model: Runtime) -> Classifier:
    """Returns a `Classifier` around what says itself how it is asked."""
    usage = model.usage
    config = dataclasses.replace(
        Config(),
        clip=usage.clip,
        evaluation=usage.evaluation,
        store=StoreConfig(cache=usage.form),
    )
    return Classifier(
        model,
        model.class_names,
        config,
        calibration=Calibration(usage.temperature, usage.window_temperature),
        form=usage.form,
    )


def start_backend_of(where: str | Path) -> None:
    """Starts the backend of a run; what was exported needs none of Keras."""
    kind = kind_of(where)
    if kind == "run":
        config = Run.open(Path(where)).config()
        start_backend(config.training.backend)
    elif kind == "exported" and saved_model_in(Path(where)):
        start_backend("tensorflow")


def model_info_of(run: Run) -> ModelInfo:
    """Returns how the model of a run is to be asked, for its exports."""
    config, calibration = run.config(), Calibration.read(run)
    return ModelInfo(
        config.clip,
        config.evaluation,
        calibration.temperature,
        calibration.window_temperature,
        stored_form(run),
        lossless=config.model.stem == "gradients",
    )


def stored_form(run: Run) -> Form:
    """Returns the form that frames had when the run was measured."""
    if run.evaluation_file.is_file():
        figures = json.loads(run.evaluation_file.read_text("utf-8"))
        if figures.get("frames") in ("jpeg", "raw"):
            return "raw" if figures["frames"] == "raw" else "jpeg"
    return "raw" if run.config().store.cache == "raw" else "jpeg"


def load_model(run: Run) -> Any:
    """Returns the trained classifier of a run, a `keras.Model`.

    Raises:
        DataError: If the run has none.
    """
    if run.is_pretraining:
        raise DataError(
            f"'{run.path}' is a run of pretrain, which tells no classes. Make "
            "a classifier of it with `python -m har_keras.train VIDEOS --init "
            f"{run.path}`."
        )
    return load_any_model(run)


def load_any_model(run: Run) -> Any:
    """Returns the model of a run, a classifier or a masked autoencoder.

    Raises:
        DataError: If the run has none.
    """
    import keras

    import har_keras.model.build
    import har_keras.model.mae  # noqa: F401  (registers the models' classes)

    if not run.model_file.is_file():
        raise DataError(
            f"'{run.path}' has no {run.model_file.name}: its training was "
            "stopped before the end of an epoch. Go on with `python -m "
            f"har_keras.{'pre' * run.is_pretraining}train --resume {run.path}`."
        )
    return keras.models.load_model(run.model_file, compile=False)
