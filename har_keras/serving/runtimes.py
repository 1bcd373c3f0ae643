"""Inference with exported models: SavedModel, ONNX, OpenVINO and LiteRT.

All have the `predict_on_batch` of a Keras model, and hold their class names and
their `ModelInfo`.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from har_keras.damaged import (
    damage_named,
    different_texts,
    require_regular_files,
)
from har_keras.environment import num_cores, quiet_libraries
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.serving.acceptance import joined, parted
from har_keras.serving.model_info import DISTANCE, INFO, ModelInfo
from har_keras.serving.plain_path import plain_path

# Names of the tensors and of the metadata, the same in every format.
INPUT, OUTPUT = "clips", "probabilities"
NAMES = "class_names"
LABELS_FILE, INFO_FILE = "labels.txt", f"{INFO}.json"
NAMES_FILE = f"{NAMES}.json"
SUFFIXES = (".onnx", ".tflite", ".xml")
_TOLERANCE = 0.001
# Beside a file of another format: the version of the SavedModel it is like.
VERSION_FILE = "VERSION"


class Runtime(Protocol):
    """The interface of an exported model."""

    class_names: tuple[str, ...]
    info: ModelInfo

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the class probabilities of clips.

        Args:
            clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`.

        Returns:
            float32 array of shape `(B, K)`.
        """

    def answer_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips, joined with their distance.

        Args:
            clips: As for `predict_on_batch`.

        Returns:
            float32 array of shape `(B, K + 1)`; the distance is 0 where the
            model has none.
        """


class Exported:
    """What exported models have in common; each has its own `_whole`."""

    path: Path
    class_names: tuple[str, ...]
    info: ModelInfo

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the class probabilities of clips; see `Runtime`."""
        return parted(self.answer_on_batch(clips))[0]

    def answer_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns probabilities and distances of clips; see `Runtime`."""
        if not len(clips):
            return np.zeros((0, len(self.class_names) + 1), np.float32)
        with damage_named(self.path):
            found = in_slices(self._whole, clips)
            self._require_probabilities(found, len(clips))
        return found

    def _require_probabilities(self, found: np.ndarray, number: int) -> None:
        """Raises `ValueError` for what no model of ours answers."""
        shape = (number, len(self.class_names) + 1)
        if found.shape != shape:
            raise ValueError(f"its output has the shape {found.shape}")
        shares = parted(found)[0]
        sums = shares.sum(1)
        if (
            not (shares > -_TOLERANCE).all()
            or np.abs(sums - 1).max(initial=0)
            > len(self.class_names) * _TOLERANCE
        ):
            raise ValueError("its probabilities do not sum to 1")

    def _whole(self, clips: np.ndarray) -> np.ndarray:
        """Returns rows of `answer_on_batch`, of all clips at once."""
        raise NotImplementedError


def open_exported(path: Path, *, streams: int = 1) -> Runtime:
    """Opens an exported model; its type is inferred from the path.

    Args:
        path: Path. A version of a SavedModel; a folder of versions, of which
            the latest is opened; or a file that ends in `.onnx`, `.tflite`
            or `.xml` (OpenVINO).
        streams: int. Threads that call the model at a time, each with its
            share of the cores. A small model is then faster as a whole: no
            thread waits for another in every layer. LiteRT has one. Defaults
            to `1`.

    Returns:
        A `Runtime`.

    Raises:
        UsageError: If the path is none of these.
        DataError: If it was not written by `har_keras.export`.
        EnvironmentFault: If the runtime's package is not installed.
    """
    kinds: dict[str, Callable[[Path], Runtime]] = {
        ".onnx": lambda file: Onnx(file, streams=streams),
        ".tflite": LiteRT,
        ".xml": lambda file: OpenVINO(file, streams=streams),
    }
    if version := saved_model_in(path):
        require_regular_files(x for x in version.rglob("*") if not x.is_dir())
        with damage_named(version):
            return SavedModel(version)
    if path.is_file() and path.suffix in kinds:
        require_regular_files([path.with_suffix(".bin")])
        with damage_named(path):
            return kinds[path.suffix](path)
    raise UsageError(
        f"'{path}' is not an exported model. Expected a SavedModel, such as "
        "RUN/saved_model/1, or a file that ends in .onnx, .tflite or .xml."
    )


def saved_model_in(path: Path) -> Path | None:
    """Returns a folder if it is a SavedModel, else its latest version."""
    if (path / _GRAPH).is_file():
        return path
    versions = [
        file.parent
        for file in path.glob(f"*/{_GRAPH}")
        if file.parent.name.isdecimal() and file.is_file()
    ]
    return max(versions, key=lambda x: int(x.name), default=None)


_GRAPH = "saved_model.pb"


class SavedModel(Exported):
    """A SavedModel, run in this process.

    Args:
        path: Path. Folder of the version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with quiet_libraries():
            tensorflow = package("tensorflow")
        with plain_path(path) as plain:
            self._loaded = tensorflow.saved_model.load(str(plain))
        self._predict = self._loaded.signatures["serving_default"]
        self._constant = tensorflow.constant
        black = np.zeros((1, 1, 8, 8, 3), np.uint8)
        outputs = self._predict(clips=self._constant(black))
        names = outputs[NAMES].numpy()[0]
        self.class_names = tuple(name.decode() for name in names)
        text = outputs[INFO].numpy()[0].decode() if INFO in outputs else None
        self.info = ModelInfo.read(text, str(path))

    def _whole(self, clips: np.ndarray) -> np.ndarray:
        found = self._predict(clips=self._constant(clips))
        distances = found[DISTANCE] if self.info.has_distance else None
        return joined(found[OUTPUT], distances)


class Onnx(Exported):
    """An ONNX model, run by ONNX Runtime.

    Args:
        path: Path. The `.onnx` file.
        streams: int. As for `open_exported`. Defaults to `1`.
    """

    def __init__(self, path: Path, *, streams: int = 1) -> None:
        self.path = path
        # It would tell Microsoft of every model, and mark the machine by a
        # file among the temporary ones.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        runtime = package("onnxruntime")
        options = runtime.SessionOptions()
        # What fails is raised; what is printed would quote names of the file.
        options.log_severity_level = 4
        if streams > 1:
            options.intra_op_num_threads = max(1, num_cores() // streams)
        # Spinning threads would take the cores from video decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with plain_path(path.parent) as plain:
            self._session = runtime.InferenceSession(
                str(plain / path.name),
                options,
                providers=["CPUExecutionProvider"],
            )
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.class_names = _names(metadata.get(NAMES), path)
        self.info = ModelInfo.read(metadata.get(INFO), str(path))

    def _whole(self, clips: np.ndarray) -> np.ndarray:
        names = [OUTPUT, DISTANCE] if self.info.has_distance else [OUTPUT]
        return joined(*self._session.run(names, {INPUT: clips}))


class OpenVINO(Exported):
    """An OpenVINO model.

    Args:
        path: Path. The `.xml` file; its `.bin` file is beside it.
        streams: int. As for `open_exported`. Defaults to `1`.
    """

    def __init__(self, path: Path, *, streams: int = 1) -> None:
        self.path = path
        openvino = package("openvino")
        core = openvino.Core()
        # It tries the formats of others, too.
        with quiet_libraries(), plain_path(path.parent) as plain:
            model = core.read_model(str(plain / path.name))

        def metadata(key: str) -> str | None:
            known = model.has_rt_info([key])
            return model.get_rt_info([key]).value if known else None

        self.class_names = _names(metadata(NAMES), path)
        self.info = ModelInfo.read(metadata(INFO), str(path))
        # Half precision, the default on some processors, changes
        # probabilities by up to 0.001.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if streams > 1:
            options["NUM_STREAMS"] = streams
            options["INFERENCE_NUM_THREADS"] = num_cores()
            # A thread bound to a core would wait for what else runs there.
            options["ENABLE_CPU_PINNING"] = False
        self._compiled = core.compile_model(model, "CPU", options)
        self._own = threading.local()  # a request is of one thread

    def _whole(self, clips: np.ndarray) -> np.ndarray:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer(clips)
        if not self.info.has_distance:
            return joined(found[0])
        return joined(found[OUTPUT], found[DISTANCE])


class LiteRT(Exported):
    """A LiteRT (formerly TensorFlow Lite) model.

    Clips are run one at a time: the activations of one clip fit the CPU cache,
    so eight clips take a quarter less time than as one batch.

    Args:
        path: Path. The `.tflite` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        interpreter = package("ai_edge_litert.interpreter").Interpreter
        with quiet_libraries():
            self._interpreter = interpreter(
                str(path), num_threads=os.cpu_count() or 1
            )
            self._interpreter.allocate_tensors()  # for one clip
        (self._input,) = self._interpreter.get_input_details()
        # Of probabilities, and of distances where there are some: the
        # converter keeps no names.
        self._outputs = sorted(
            self._interpreter.get_output_details(),
            key=lambda x: -len(x["shape"]),
        )
        metadata = _zipped(path)
        text, labels = map(metadata.get, (NAMES_FILE, LABELS_FILE))
        if text is None and labels is not None:  # of earlier versions
            text = json.dumps(labels.split("\n"))
        self.class_names = _names(text, path)
        self.info = ModelInfo.read(metadata.get(INFO_FILE), str(path))

    def _whole(self, clips: np.ndarray) -> np.ndarray:
        found = np.zeros((len(clips), len(self.class_names) + 1), np.float32)
        for row, clip in zip(found, clips, strict=True):
            self._interpreter.set_tensor(self._input["index"], clip[None])
            self._interpreter.invoke()
            row[:] = joined(
                *(
                    self._interpreter.get_tensor(x["index"])[0]
                    for x in self._outputs
                )
            )
        return found


# Of 16 frames of 112 pixels, 24 clips. The activations of a backbone would take
# gigabytes for as many clips of 224 pixels.
_PIXELS_AT_ONCE = 24 * 16 * 112**2


def in_slices(
    predict: Callable[[np.ndarray], np.ndarray], clips: np.ndarray
) -> np.ndarray:
    """Predicts clips, as many at once as memory is meant to be used for.

    Args:
        predict: Callable. From clips to probabilities `(B, K)`.
        clips: uint8 array of shape `(B, T, H, W, 3)`.

    Returns:
        float32 array of shape `(B, K)`.

    Example:

    >>> sizes = []
    >>> def predict(clips):
    ...     sizes.append(len(clips))
    ...     return np.zeros((len(clips), 2), "float32")
    >>> in_slices(predict, np.zeros((8, 16, 224, 224, 3), "uint8")).shape
    (8, 2)
    >>> sizes
    [6, 2]
    """
    size = clips_at_once(clips.shape[1:])
    parts = [clips[i : i + size] for i in range(0, len(clips), size)]
    return np.concatenate([predict(part) for part in parts])


def clips_at_once(shape: Sequence[int]) -> int:
    """Returns how many clips of a shape, `(T, H, W, 3)`, a batch should have.

    Example:

    >>> clips_at_once((16, 112, 112, 3)), clips_at_once((32, 320, 320, 3))
    (24, 1)
    """
    return max(1, _PIXELS_AT_ONCE // math.prod(shape[:3]))


def package(name: str) -> Any:
    """Imports a package of the extra `export`.

    Raises:
        EnvironmentFault: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnvironmentFault(
            f"The package {name.partition('.')[0]} is not installed. Install "
            'it with: pip install "har_keras[export]".'
        ) from error


def _zipped(path: Path) -> dict[str, str]:
    """Returns the metadata files in the zip archive at the end of a file."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return {
            name: archive.read(name).decode("utf-8")
            for name in (NAMES_FILE, LABELS_FILE, INFO_FILE)
            if name in archive.namelist()
        }


def _names(text: str | None, path: Path) -> tuple[str, ...]:
    if text is None:
        raise DataError(
            f"'{path}' has no class names: it was not written by "
            "`har-keras export`."
        )
    return different_texts(json.loads(text))


class Predict:
    """A Keras model with the interface of an exported model.

    Args:
        model: `keras.Model`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the class probabilities of clips; see `Runtime`."""
        return in_slices(self._whole, clips)

    def _whole(self, clips: np.ndarray) -> np.ndarray:
        return self.model.predict(clips, batch_size=len(clips), verbose=0)
