"""Load a model for inference: a run, an exported model or a server.

All become a `Classifier`, so that there is one way from a video to its
prediction.
"""

import dataclasses
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from har_keras.config import Config, Form, StoreConfig
from har_keras.damaged import (
    damage_named,
    different_texts,
    read_json,
    read_model,
)
from har_keras.environment import quiet_libraries, start_backend
from har_keras.errors import DataError
from har_keras.hub import SCHEME
from har_keras.hub_run import local_run
from har_keras.inference.calibration import Calibration
from har_keras.inference.classifier import Classifier
from har_keras.inference.distance import Measured, fits
from har_keras.manifest.manifest import Manifest, content_hash
from har_keras.run import Run
from har_keras.serving.client import Remote, ServingClient
from har_keras.serving.model_info import ModelInfo
from har_keras.serving.runtimes import (
    SUFFIXES,
    Runtime,
    open_exported,
    saved_model_in,
)
from har_keras.terminal import printable, shell_word

logger = logging.getLogger("har_keras")

# Exports that answer in place of a run, with the package that each needs.
_WITHOUT_KERAS = {
    "onnx": ("onnxruntime", "model.onnx"),
    "openvino": ("openvino", "model.xml"),
}

Kind = Literal["run", "hub", "exported", "server"]


def kind_of(where: str | Path) -> Kind:
    """Returns what kind of model a name stands for; by default a run.

    Example:

    >>> kind_of("grpc://localhost:8500/har"), kind_of("model.onnx")
    ('server', 'exported')
    >>> kind_of("hf://owner/name")
    'hub'
    """
    if str(where).startswith(SCHEME):
        return "hub"
    if "://" in str(where):
        return "server"
    path = Path(where)
    if Run(path).config_file.is_file():
        return "run"
    named = path.is_file() or path.suffix in SUFFIXES
    return "exported" if named or saved_model_in(path) else "run"


def load(
    where: str | Path, model: Any = None, *, allow_export: bool = False
) -> Classifier:
    """Loads a model for inference.

    Starts the backend of a run, where none runs yet.

    Args:
        where: Path or str. The folder that training made; a run on Hugging
            Face's hub, `hf://owner/name[@revision]`; an exported model
            (see `open_exported`); or the address of a model on TensorFlow
            Serving, such as `http://localhost:8501/v1/models/har`. A
            SavedModel is a program: load only one that you trust.
        model: `keras.Model` or None. That of the run, where it is at hand.
        allow_export: bool. Whether a run's own ONNX or OpenVINO export, if it
            is of the same model and calibration, may answer in its place: no
            backend is started then. Defaults to `False`.

    Returns:
        A `Classifier`.

    Raises:
        UsageError: If it is no exported model, or no address.
        DataError: If there is no run, it has no model, or what was exported
            was not written by `har_keras.export`.
        EnvironmentFault: If a server or a hub can't be reached, or a package
            is missing.
    """
    where = local_run(where)
    kind = kind_of(where)
    if kind == "run" and allow_export:
        run = Run.open(Path(where))
        if exported := fresh_export(run):
            names, calibration = exported.class_names, Calibration.read(run)
            return _classifier(run, exported, names, calibration)
    start_backend_of(where)
    if kind == "server":
        return exported_classifier(Remote(ServingClient(str(where))))
    if kind == "exported":
        return exported_classifier(open_exported(Path(where)))
    return _of_run(Run.open(Path(where)), model)


def _of_run(run: Run, model: Any) -> Classifier:
    """Returns a classifier around the Keras model of a run."""
    names = class_names_of(run)
    model = model or load_model(run)
    _require_classes(run, model, names)
    if extractor := getattr(model, "extractor", None):
        # Windows of a timeline and of a stream overlap.
        extractor.num_remembered = 2 * model.num_frames
    calibration = calibration_of(run, model)
    if calibration.reference is not None:
        model = Measured(model, calibration.reference)
    return _classifier(run, model, names, calibration)


def _classifier(
    run: Run, model: Any, names: tuple[str, ...], calibration: Calibration
) -> Classifier:
    return Classifier(
        model,
        names,
        run.config_to_open(),
        calibration=calibration,
        form=stored_form(run),
    )


def fresh_export(run: Run) -> Runtime | None:
    """Returns an export that answers as a run does, without its backend.

    Args:
        run: Run. A trained one.

    Returns:
        A `Runtime`; None if there is no ONNX or OpenVINO export of the same
        model and calibration, its package is missing, or a backend runs or is
        asked for.
    """
    if "keras" in sys.modules or "KERAS_BACKEND" in os.environ:
        return None
    for name, (package, file) in _WITHOUT_KERAS.items():
        path = run.formats_dir / name / file
        if path.is_file() and importlib.util.find_spec(package):
            try:
                model = open_exported(path)
            except DataError as error:
                logger.warning(
                    "The run answers in place of its export: %s", error
                )
                continue
            if _is_fresh(model, run):
                logger.info("Computed by its export, %s.", printable(path))
                return model
    return None


def _is_fresh(model: Runtime, run: Run) -> bool:
    """Whether an export is of a run's model and calibration as they are."""
    expected = dataclasses.replace(
        model_info_of(run), backbone=model.info.backbone
    )
    return model.info == expected and model.class_names == class_names_of(run)


def calibration_of(run: Run, model: Any) -> Calibration:
    """Returns the calibration of a run.

    Args:
        run: Run. A trained one.
        model: `keras.Model`. Its own.

    Raises:
        DataError: If it is damaged, or was fitted to another model.
    """
    found = Calibration.read(run)
    if found.reference is not None and not fits(model, found.reference):
        raise DataError(
            f"'{run.calibration_file}' was fitted to another model than "
            f"'{run.model_file.name}' beside it. Make it again with: har-keras "
            f"evaluate {shell_word(run.path)}"
        )
    return found


def _require_classes(run: Run, model: Any, names: Sequence[str]) -> None:
    clip = run.config().clip
    shape = (None, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    try:
        num_classes = model.compute_output_shape(shape)[-1]
    except (TypeError, ValueError):  # of clips of another size
        num_classes = None
    size = (clip.num_frames, clip.crop_size)
    fits_clips = size == (
        getattr(model, "num_frames", size[0]),
        getattr(model, "crop_size", size[1]),
    )
    if num_classes != len(names) or not fits_clips:
        raise DataError(
            f"'{run.model_file}' does not fit the run's config.toml and "
            f"manifest.csv, with {len(names)} classes. Copy the whole run "
            "again from where it was made."
        )


def class_names_of(run: Run) -> tuple[str, ...]:
    """Returns the classes of a run in label order.

    Raises:
        DataError: If neither its manifest nor the list of a model on a hub
            can be read.
    """
    if run.manifest_file.is_file() or not run.class_names_file.is_file():
        return Manifest.read(run.manifest_file).class_names
    with damage_named(run.class_names_file):
        names = read_json(run.class_names_file).get("class_names")
        return different_texts(names)


def exported_classifier(model: Runtime) -> Classifier:
    """Returns a `Classifier` around an exported model, by its own info."""
    info = model.info
    config = dataclasses.replace(
        Config(),
        clip=info.clip,
        evaluation=info.evaluation,
        store=StoreConfig(cache=info.form),
    )
    return Classifier(
        model,
        model.class_names,
        config,
        calibration=Calibration(
            info.temperature,
            info.window_temperature,
            threshold=info.threshold,
            accept_errors=info.accept_errors,
            limit=info.limit,
            window_limit=info.window_limit,
        ),
        form=info.form,
        info=info,
    )


def start_backend_of(where: str | Path) -> None:
    """Starts the backend of a run, unless one runs already.

    Any backend loads the model of a run, and of what was exported only a
    SavedModel needs TensorFlow.
    """
    where = local_run(where)
    kind = kind_of(where)
    if kind == "run":
        config = Run.open(Path(where)).config()
        running = "keras" in sys.modules
        start_backend("auto" if running else config.training.backend)
    elif kind == "exported" and saved_model_in(Path(where)):
        with quiet_libraries():
            importlib.import_module("tensorflow")


def model_info_of(run: Run, model: Any = None) -> ModelInfo:
    """Returns clip, views, calibration and hash of a run, for its exports.

    Args:
        run: Run. A trained one.
        model: `keras.Model` or None. That of the run, whose backbone is named.
    """
    config, calibration = run.config(), Calibration.read(run)
    backbone = getattr(model, "backbone", None)
    return ModelInfo(
        config.clip,
        config.evaluation,
        calibration.temperature,
        calibration.window_temperature,
        stored_form(run),
        lossless=config.model.stem == "gradients",
        backbone=backbone.described() if backbone else {},
        threshold=calibration.threshold,
        accept_errors=calibration.accept_errors,
        limit=calibration.limit,
        window_limit=calibration.window_limit,
        model_sha256=content_hash(run.model_file),
    )


def stored_form(run: Run) -> Form:
    """Returns how frames were stored when the run was evaluated."""
    if run.evaluation_file.is_file():
        figures = read_json(run.evaluation_file)
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
            f"'{run.path}' is a run of pretrain, which has no classes. "
            "Fine-tune it with: har-keras train VIDEOS --weights "
            f"{shell_word(run.path)}"
        )
    return load_any_model(run)


def load_any_model(run: Run) -> Any:
    """Returns the model of a run, a classifier or a masked autoencoder.

    Raises:
        DataError: If the run has none.
    """
    import har_keras.backbones.classifier
    import har_keras.model.mae  # noqa: F401  (registers the models' classes)

    if not run.model_file.is_file():
        raise DataError(
            f"'{run.path}' has no {run.model_file.name}: its training was "
            "stopped before the end of an epoch. Resume it with: "
            f"{run.resume_command}"
        )
    return read_model(run.model_file)
