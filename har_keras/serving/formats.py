"""A trained model in the files of other runtimes, each held against Keras."""

import contextlib
import io
import json
import logging
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from har_keras.environment import quiet_libraries
from har_keras.errors import EnvironmentFault, HarError
from har_keras.files import whole_file
from har_keras.serving.model_info import ModelInfo
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
class ExportSource:
    """What a file is written from.

    Args:
        model: `keras.Model` from uint8 clips to probabilities.
        class_names: Names in label order.
        usage: ModelInfo. How it is to be asked; kept in the file.
    """

    model: Any
    class_names: Sequence[str]
    usage: ModelInfo

    def function(self) -> Any:
        """Returns the model as a `tf.function` of any number of clips."""
        size = self.usage.clip.crop_size
        shape = (None, self.usage.clip.num_frames, size, size, 3)
        return tf.function(
            lambda clips: {OUTPUT: self.model(clips, training=False)},
            input_signature=[tf.TensorSpec(shape, tf.uint8, INPUT)],
        )


def write_onnx(source: ExportSource, path: Path) -> None:
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


def write_openvino(source: ExportSource, path: Path) -> None:
    """Writes an OpenVINO model: `path`, and its weights in a `.bin` file."""
    openvino = package("openvino")
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(source, Path(folder, "model.onnx"))
        # Not `convert_model`, which calls home, and waits for an answer.
        model = openvino.Core().read_model(str(Path(folder, "model.onnx")))
    model.set_rt_info(json.dumps(list(source.class_names)), [NAMES])
    model.set_rt_info(source.usage.text(), [USAGE])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def write_litert(source: ExportSource, path: Path) -> None:
    """Writes a LiteRT file in 32-bit floats."""
    _write_litert(source, path, _converter(source))


def write_litert_int8(source: ExportSource, path: Path) -> None:
    """Writes a LiteRT file whose weights are 8-bit whole numbers.

    What passes between the products stays in floats, and what enters one is
    rounded by its own range at the time. In whole numbers throughout, with
    ranges from training clips, softmax, layer norms and counted gradients
    each gave a seventh of the clips another label; docs/serving.md tells.
    """
    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    _write_litert(source, path, converter)


def _converter(source: ExportSource) -> Any:
    from tensorflow.python.framework import convert_to_constants

    package("ai_edge_litert")
    # Variables would be written without their values.
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        source.function().get_concrete_function()
    )
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


def _write_litert(source: ExportSource, path: Path, converter: Any) -> None:
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
    write: Callable[[ExportSource, Path], None]
    exact: bool = True


FORMATS = {
    "onnx": Format("model.onnx", write_onnx),
    "openvino": Format("model.xml", write_openvino),
    "litert": Format("model.tflite", write_litert),
    "litert-int8": Format("model-int8.tflite", write_litert_int8, exact=False),
}


def export_format(
    name: str, source: ExportSource, folder: Path, clips: np.ndarray
) -> tuple[Path, Runtime]:
    """Writes a format, opens it again and compares it with the model.

    Args:
        name: str. One of `FORMATS`.
        source: ExportSource. What to write.
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
            require_parity(name, source.model.predict_on_batch(clips), found)
        return final / kind.file, open_exported(final / kind.file)
    except (HarError, OSError):
        raise
    except Exception as error:  # Converters and runtimes raise what they like.
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise EnvironmentFault(
            f"The format {name} was not published: "
            f"{type(error).__name__}: {reason.rstrip('.')}."
        ) from error


def require_parity(name: str, expected: Any, found: np.ndarray) -> None:
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
        with quiet_libraries(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


_ROUNDS = 15
_BATCH_SIZE = 8


@dataclass(frozen=True)
class Measured:
    """A line of the table.

    Args:
        name: str. The format.
        size_bytes: int. Of all its files.
        latency_ms: float. Median for one clip, in milliseconds.
        clips_per_second: float. In batches of 8, from the median.
        time_ratio: float. Time of a batch of 8 by the first model's, the
            median of the rounds.
        difference: float. Largest, of any probability, from Keras.
        agreement: float. Share of the clips with Keras's top label.
        accuracy: float or None. On the test videos, if there are some.
    """

    name: str
    size_bytes: int
    latency_ms: float
    clips_per_second: float
    time_ratio: float
    difference: float
    agreement: float
    accuracy: float | None


def compare(
    models: Mapping[str, tuple[Path, Any]],
    clips: np.ndarray,
    accuracy_of: Callable[[Any], float | None] | None = None,
) -> list[Measured]:
    """Measures models on the same clips, in turn so that all fare alike.

    Args:
        models: Mapping from a name to its file or folder and the model. The
            first is what the others are compared with.
        clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`.
        accuracy_of: Callable or None. From a model to its test accuracy.

    Returns:
        A `Measured` for each model.
    """
    batch = np.resize(clips, (_BATCH_SIZE, *clips.shape[1:]))
    singles = _seconds(models, clips[:1])
    batches = _seconds(models, batch)
    first = next(iter(batches.values()))
    answers = {
        name: np.asarray(model.predict_on_batch(clips))
        for name, (_, model) in models.items()
    }
    expected = next(iter(answers.values()))
    return [
        Measured(
            name=name,
            size_bytes=size_of(path),
            latency_ms=1000 * float(np.median(singles[name])),
            clips_per_second=_BATCH_SIZE / float(np.median(batches[name])),
            time_ratio=float(np.median(batches[name] / first)),
            difference=float(np.abs(answers[name] - expected).max()),
            agreement=float(
                (answers[name].argmax(1) == expected.argmax(1)).mean()
            ),
            accuracy=accuracy_of(model) if accuracy_of else None,
        )
        for name, (path, model) in models.items()
    ]


def _seconds(
    models: Mapping[str, tuple[Path, Any]], clips: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the times of each model for some clips, one a round."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for _, model in models.values():
        model.predict_on_batch(clips)
    for _ in range(_ROUNDS):
        for name, (_, model) in models.items():
            began = time.perf_counter()
            model.predict_on_batch(clips)
            times[name].append(time.perf_counter() - began)
    return {name: np.array(taken) for name, taken in times.items()}


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of every file in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def comparison_page(
    rows: Sequence[Measured], machine: str, refused: Sequence[str] = ()
) -> str:
    """Returns `formats.md`: the table, and what its columns mean.

    Args:
        rows: Sequence of Measured. A line each.
        machine: str. Where the times were taken.
        refused: Sequence of str. A sentence for each format that was not
            published.
    """
    lines = [
        "# Formats of this run",
        "",
        "| format | size, MB | 1 clip, ms | 8 clips, clips/s | time of "
        "Keras's | largest difference | same top label | test accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.3f}"
        lines.append(
            f"| {row.name} | {row.size_bytes / 1e6:.2f} | "
            f"{row.latency_ms:.1f} | {row.clips_per_second:.0f} | "
            f"{row.time_ratio:.2f} | {row.difference:.1e} | "
            f"{row.agreement:.1%} | {accuracy} |"
        )
    lines += [
        "",
        f"Times are medians of {_ROUNDS} rounds in turn, on {machine}; that of "
        "8 clips is also given as a part of the time of Keras's `predict`. "
        "The difference is that of a probability from Keras's, in the same "
        "process.",
        "",
    ]
    if refused:
        lines += ["## Not published", "", *(f"- {x}" for x in refused), ""]
    return "\n".join(lines)
