"""A trained model in the files of other runtimes, each held against Keras."""

import contextlib
import io
import json
import logging
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from har_keras import cli
from har_keras.errors import EnvironmentFault, HarError
from har_keras.files import whole_file
from har_keras.serving.model_info import Usage
from har_keras.serving.runtimes import (
    INPUT,
    LABELS_FILE,
    NAMES,
    OUTPUT,
    USAGE,
    USAGE_FILE,
    Runtime,
    open_exported,
    package,
)

TOLERANCE = 1e-5
# Whole numbers lose something: so many of the top labels must stay the same.
MIN_INT8_AGREEMENT = 0.95
_OPSET = 17


@dataclass(frozen=True)
class Source:
    """What a file is written from.

    Args:
        model: `keras.Model` from uint8 clips to probabilities.
        class_names: Names in label order.
        usage: Usage. How it is to be asked; kept in the file.
    """

    model: Any
    class_names: Sequence[str]
    usage: Usage

    def function(self) -> Any:
        """Returns the model as a `tf.function` of any number of clips."""
        size = self.usage.clip.crop_size
        shape = (None, self.usage.clip.num_frames, size, size, 3)
        return tf.function(
            lambda clips: {OUTPUT: self.model(clips, training=False)},
            input_signature=[tf.TensorSpec(shape, tf.uint8, INPUT)],
        )


def write_onnx(source: Source, path: Path) -> None:
    """Writes an ONNX file; names and usage are in its metadata."""
    convert = package("tf2onnx").convert
    onnx = package("onnx")
    function = source.function()
    model, _ = convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    names = json.dumps(list(source.class_names))
    onnx.helper.set_model_props(
        model, {NAMES: names, USAGE: source.usage.text()}
    )
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_openvino(source: Source, path: Path) -> None:
    """Writes an OpenVINO model: `path`, and its weights in a `.bin` file."""
    openvino = package("openvino")
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(source, Path(folder, "model.onnx"))
        # Not `convert_model`, which calls home, and waits for an answer.
        model = openvino.Core().read_model(str(Path(folder, "model.onnx")))
    model.set_rt_info(json.dumps(list(source.class_names)), [NAMES])
    model.set_rt_info(source.usage.text(), [USAGE])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def write_litert(source: Source, path: Path) -> None:
    """Writes a LiteRT file in 32-bit floats."""
    _write_litert(source, path, _converter(source))


def write_litert_int8(source: Source, path: Path) -> None:
    """Writes a LiteRT file whose weights are 8-bit whole numbers.

    What passes between the products stays in floats, and what enters one is
    rounded by its own range at the time. In whole numbers throughout, with
    ranges from training clips, softmax, layer norms and counted gradients
    each gave a seventh of the clips another label; docs/serving.md tells.
    """
    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    _write_litert(source, path, converter)


def _converter(source: Source) -> Any:
    from tensorflow.python.framework import convert_to_constants

    package("ai_edge_litert")
    # Variables would be written without their values.
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        source.function().get_concrete_function()
    )
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


def _write_litert(source: Source, path: Path, converter: Any) -> None:
    path.write_bytes(converter.convert())
    # Names travel as LiteRT's metadata does: in a zip at the file's end.
    with zipfile.ZipFile(path, "a") as end:
        end.writestr(LABELS_FILE, "\n".join(source.class_names))
        end.writestr(USAGE_FILE, source.usage.text())


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Args:
        file: str. Its name in the folder of the format.
        write: Callable that writes it.
        exact: bool. Whether it must answer as Keras does, to 1e-5.
    """

    file: str
    write: Callable[[Source, Path], None]
    exact: bool = True


FORMATS = {
    "onnx": Format("model.onnx", write_onnx),
    "openvino": Format("model.xml", write_openvino),
    "litert": Format("model.tflite", write_litert),
    "litert-int8": Format("model-int8.tflite", write_litert_int8, exact=False),
}


def export_format(
    name: str, source: Source, folder: Path, clips: np.ndarray
) -> tuple[Path, Runtime]:
    """Writes a format, opens it again and compares it with the model.

    Args:
        name: str. One of `FORMATS`.
        source: Source. What to write.
        folder: Path. Where to, such as `RUN/formats`.
        clips: uint8 array `(B, T, crop_size, crop_size, 3)`. To compare on.

    Returns:
        The file and the opened model.

    Raises:
        EnvironmentFault: If it can't be written or run here, or answers
            otherwise than the model. A file of an earlier export then stays.
    """
    kind = FORMATS[name]
    # Some formats are several files, so a folder is written and renamed.
    final = folder / name
    try:
        with whole_file(final) as temporary:
            temporary.mkdir()
            path = temporary / kind.file
            with _quiet():
                kind.write(source, path)
                opened = open_exported(path)
                found = opened.predict_on_batch(clips)
            demand_parity(name, source.model.predict_on_batch(clips), found)
        return final / kind.file, open_exported(final / kind.file)
    except (HarError, OSError):
        raise
    except Exception as error:  # Converters and runtimes raise what they like.
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise EnvironmentFault(
            f"The format {name} was not published: "
            f"{type(error).__name__}: {reason.rstrip('.')}."
        ) from error


def demand_parity(name: str, expected: Any, found: np.ndarray) -> None:
    """Compares the answers of an exported model with those of its source.

    Args:
        name: str. The format.
        expected: Array `(B, K)`. Probabilities of the trained model.
        found: Array `(B, K)`. Those of the exported one.

    Raises:
        EnvironmentFault: If they differ by more than the format may.
    """
    expected = np.asarray(expected)
    difference = float(np.abs(found - expected).max())
    agreement = float((found.argmax(1) == expected.argmax(1)).mean())
    if FORMATS[name].exact:
        if difference <= TOLERANCE:
            return
        what = (
            f"its probabilities differ by {difference:.1e} from the trained "
            f"model's, where {TOLERANCE:.0e} is allowed"
        )
    else:
        if agreement >= MIN_INT8_AGREEMENT and np.isfinite(difference):
            return
        what = (
            f"only {agreement:.0%} of its top labels are the trained model's, "
            f"where {MIN_INT8_AGREEMENT:.0%} is demanded"
        )
    raise EnvironmentFault(f"The format {name} was not published: {what}.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps converters from printing; what fails is raised all the same."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with cli.quiet_libraries(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
