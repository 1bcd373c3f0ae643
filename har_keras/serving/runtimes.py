"""Exported models, opened again: each answers as the Keras model does.

All have the `predict_on_batch` that evaluation and prediction ask of a model,
and say themselves what their classes are and how they are to be asked.
"""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from har_keras.environment import quiet_libraries
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.serving.model_info import ModelInfo

if TYPE_CHECKING:
    import numpy as np


# Of the tensors in every format, and of what is kept with them.
INPUT, OUTPUT = "clips", "probabilities"
NAMES, USAGE = "class_names", "usage"
LABELS_FILE, USAGE_FILE = "labels.txt", "usage.json"
SUFFIXES = (".onnx", ".tflite", ".xml")


class Runtime(Protocol):
    """An exported model that can be asked."""

    class_names: tuple[str, ...]
    usage: ModelInfo

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns probabilities `(B, K)` of uint8 clips `(B, T, S, S, 3)`."""


def open_exported(path: Path) -> Runtime:
    """Opens an exported model by what it looks like.

    Args:
        path: Path. A version of a SavedModel, a folder of versions, of which
            the newest is taken, or a file that ends in `.onnx`, `.tflite` or
            `.xml` (OpenVINO).

    Returns:
        The `Runtime`.

    Raises:
        UsageError: If it is none of these.
        DataError: If it was not written by `har_keras.export`.
        EnvironmentFault: If its package is not installed.
    """
    kinds: dict[str, Callable[[Path], Runtime]] = {
        ".onnx": Onnx,
        ".tflite": LiteRT,
        ".xml": OpenVINO,
    }
    if version := saved_model_in(path):
        return SavedModel(version)
    if path.is_file() and path.suffix in kinds:
        return kinds[path.suffix](path)
    raise UsageError(
        f"'{path}' is no exported model. Give a version of a SavedModel, such "
        "as RUN/saved_model/1, or a file that ends in .onnx, .tflite or .xml."
    )


def saved_model_in(path: Path) -> Path | None:
    """Returns the SavedModel that a folder is, or its newest version."""
    if (path / _GRAPH).is_file():
        return path
    versions = [
        file.parent
        for file in path.glob(f"*/{_GRAPH}")
        if file.parent.name.isdecimal()
    ]
    return max(versions, key=lambda x: int(x.name), default=None)


_GRAPH = "saved_model.pb"


class SavedModel:
    """A version for TensorFlow Serving, in this process.

    Args:
        path: Path. The version's folder.
    """

    def __init__(self, path: Path) -> None:
        tensorflow = package("tensorflow")
        self._loaded = tensorflow.saved_model.load(str(path))
        self._ask = self._loaded.signatures["serving_default"]
        self._constant = tensorflow.constant
        nothing = np.zeros((1, 1, 8, 8, 3), np.uint8)
        said = self._ask(clips=self._constant(nothing))
        names = said[NAMES].numpy()[0]
        self.class_names = tuple(name.decode() for name in names)
        text = said[USAGE].numpy()[0].decode() if USAGE in said else None
        self.usage = ModelInfo.read(text, str(path))

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips; see `Runtime`."""
        return self._ask(clips=self._constant(clips))[OUTPUT].numpy()


class Onnx:
    """An ONNX file in ONNX Runtime.

    Args:
        path: Path. The `.onnx` file.
    """

    def __init__(self, path: Path) -> None:
        runtime = package("onnxruntime")
        options = runtime.SessionOptions()
        # Threads that wait in a loop take the cores from whoever decodes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = runtime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        kept = self._session.get_modelmeta().custom_metadata_map
        self.class_names = _names(kept.get(NAMES), path)
        self.usage = ModelInfo.read(kept.get(USAGE), str(path))

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips; see `Runtime`."""
        return self._session.run([OUTPUT], {INPUT: clips})[0]


class OpenVINO:
    """An OpenVINO model, its `.bin` file beside it.

    Args:
        path: Path. The `.xml` file.
    """

    def __init__(self, path: Path) -> None:
        openvino = package("openvino")
        core = openvino.Core()
        model = core.read_model(str(path))

        def kept(key: str) -> str | None:
            known = model.has_rt_info([key])
            return model.get_rt_info([key]).value if known else None

        self.class_names = _names(kept(NAMES), path)
        self.usage = ModelInfo.read(kept(USAGE), str(path))
        # Half precision, its default on some processors, moves probabilities
        # by a thousandth.
        self._compiled = core.compile_model(
            model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips; see `Runtime`."""
        return np.array(self._compiled(clips)[0])


class LiteRT:
    """A LiteRT (once TensorFlow Lite) file.

    Clips are computed one by one, though the file takes any number: what one
    needs stays in the processor's cache, and eight take a quarter less time.

    Args:
        path: Path. The `.tflite` file.
    """

    def __init__(self, path: Path) -> None:
        interpreter = package("ai_edge_litert.interpreter").Interpreter
        with quiet_libraries():
            self._interpreter = interpreter(
                str(path), num_threads=os.cpu_count() or 1
            )
            self._interpreter.allocate_tensors()  # for one clip
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()
        kept = _zipped(path)
        names = kept.get(LABELS_FILE)
        text = None if names is None else json.dumps(names.split("\n"))
        self.class_names = _names(text, path)
        self.usage = ModelInfo.read(kept.get(USAGE_FILE), str(path))

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips; see `Runtime`."""
        found = np.empty((len(clips), len(self.class_names)), np.float32)
        for row, clip in zip(found, clips, strict=True):
            self._interpreter.set_tensor(self._input["index"], clip[None])
            self._interpreter.invoke()
            row[:] = self._interpreter.get_tensor(self._output["index"])[0]
        return found


def package(name: str) -> Any:
    """Imports a package of the extra `[export]`.

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
    """Returns the texts in a zip at the end of a file, by name."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as kept:
        return {
            name: kept.read(name).decode("utf-8")
            for name in (LABELS_FILE, USAGE_FILE)
            if name in kept.namelist()
        }


def _names(text: str | None, path: Path) -> tuple[str, ...]:
    if text is None:
        raise DataError(
            f"'{path}' holds no class names: it was not written by "
            "`python -m har_keras.export`."
        )
    return tuple(json.loads(text))


class Predict:
    """Keras's `predict`, under the name that exported models have.

    Args:
        model: `keras.Model`.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities of clips."""
        return self.model.predict(clips, batch_size=len(clips), verbose=0)
