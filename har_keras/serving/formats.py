"""Export to ONNX, OpenVINO and LiteRT, verified against the Keras model."""

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
from har_keras.files import temporary_prefix, whole_file
from har_keras.serving.acceptance import Reference, parted
from har_keras.serving.checksums import write_checksums
from har_keras.serving.model_info import DISTANCE, INFO, ModelInfo
from har_keras.serving.runtimes import (
    INFO_FILE,
    INPUT,
    LABELS_FILE,
    NAMES,
    NAMES_FILE,
    OUTPUT,
    VERSION_FILE,
    Predict,
    Runtime,
    in_slices,
    open_exported,
    package,
)
from har_keras.serving.signatures import (
    answers_in_graph,
    distances_of,
    require_same_distances,
)
from har_keras.terminal import printable

TOLERANCE = 1e-5
# Quantization is lossy: this fraction of the top labels must agree.
MIN_INT8_AGREEMENT = 0.95
_OPSET = 17


@dataclass(frozen=True)
class ExportSource:
    """The model to export, with its metadata.

    Args:
        model: `keras.Model` from uint8 clips to probabilities.
        class_names: Names in label order.
        info: ModelInfo. Clip, views and calibration; stored in the file.
        reference: Reference or None. What distances are from, if there is a
            limit for them in `info`; then they are a second output.
    """

    model: Any
    class_names: Sequence[str]
    info: ModelInfo
    reference: Reference | None = None

    def function(self) -> Any:
        """Returns the model as a `tf.function` with a free batch size."""
        size = self.info.clip.crop_size
        shape = (None, self.info.clip.num_frames, size, size, 3)
        return tf.function(
            self._outputs,
            input_signature=[tf.TensorSpec(shape, tf.uint8, INPUT)],
            autograph=False,
        )

    def _outputs(self, clips: Any) -> dict[str, Any]:
        if self.reference is None:
            return {OUTPUT: self.model(clips, training=False)}
        probabilities, distances = answers_in_graph(
            self.model, clips, self.info, self.reference
        )
        return {OUTPUT: probabilities, DISTANCE: distances}


def write_onnx(source: ExportSource, path: Path) -> None:
    """Writes an ONNX file; class names and model info are its metadata."""
    convert = package("tf2onnx").convert
    onnx = package("onnx")
    function = source.function()
    model, _ = convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    names = json.dumps(list(source.class_names))
    onnx.helper.set_model_props(model, {NAMES: names, INFO: source.info.text()})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def write_openvino(source: ExportSource, path: Path) -> None:
    """Writes an OpenVINO model: `path`, and the weights in a `.bin` file."""
    openvino = package("openvino")
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        write_onnx(source, Path(folder, "model.onnx"))
        # `convert_model` sends telemetry and waits for a response.
        model = openvino.Core().read_model(str(Path(folder, "model.onnx")))
    model.set_rt_info(json.dumps(list(source.class_names)), [NAMES])
    model.set_rt_info(source.info.text(), [INFO])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def write_litert(source: ExportSource, path: Path) -> None:
    """Writes a LiteRT file in float32."""
    _write_litert(source, path, _converter(source))


def write_litert_int8(source: ExportSource, path: Path) -> None:
    """Writes a LiteRT file with int8 weights (dynamic range quantization).

    Activations stay in float32 and are quantized per matrix product, by their
    range at run time. Full integer quantization, with ranges from training
    clips, changed the label of a seventh of the clips in each of softmax,
    layer normalization and HOG3D features; see docs/serving.md.
    """
    converter = _converter(source)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    _write_litert(source, path, converter)


def _converter(source: ExportSource) -> Any:
    from tensorflow.python.framework import convert_to_constants

    package("ai_edge_litert")
    # The converter would drop the values of variables.
    frozen = convert_to_constants.convert_variables_to_constants_v2(
        source.function().get_concrete_function()
    )
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen])


def _write_litert(source: ExportSource, path: Path, converter: Any) -> None:
    path.write_bytes(converter.convert())
    # LiteRT metadata is a zip archive appended to the file.
    with zipfile.ZipFile(path, "a") as archive:
        labels = map(printable, source.class_names)  # a line each
        archive.writestr(LABELS_FILE, "\n".join(labels))
        archive.writestr(NAMES_FILE, json.dumps(source.class_names))
        archive.writestr(INFO_FILE, source.info.text())


@dataclass(frozen=True)
class Format:
    """An export format.

    Args:
        file: str. Name of the file in the folder of the format.
        write: Callable. Writes an `ExportSource` to a path.
        exact: bool. Whether probabilities must equal Keras's within 1e-5.
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
    name: str,
    source: ExportSource,
    folder: Path,
    clips: np.ndarray,
    *,
    version: int | None = None,
) -> tuple[Path, Runtime]:
    """Exports a model, loads the export and verifies its predictions.

    Args:
        name: str. A key of `FORMATS`.
        source: ExportSource. The model to export.
        folder: Path. Parent folder, such as `RUN/formats`.
        clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`. The
            clips to verify on.
        version: int or None. The version of the SavedModel that is exported
            with it, which a server needs to know. Defaults to none.

    Returns:
        The file and the loaded `Runtime`.

    Raises:
        EnvironmentFault: If it can't be written or loaded, or its predictions
            differ from the model's. An earlier export is then kept.
    """
    kind = FORMATS[name]
    # Some formats are several files, so the whole folder is renamed.
    final = folder / name
    try:
        with whole_file(final) as temporary:
            temporary.mkdir()
            path = temporary / kind.file
            with _quiet():
                kind.write(source, path)
                opened = open_exported(path)
                found = opened.predict_on_batch(clips)
            expected = Predict(source.model).predict_on_batch(clips)
            require_parity(name, expected, found)
            if source.reference is not None and kind.exact:
                _require_distances(name, source, opened, clips)
            if version is not None:
                (temporary / VERSION_FILE).write_text(f"{version}\n", "ascii")
            write_checksums(temporary)
        return final / kind.file, open_exported(final / kind.file)
    except (HarError, OSError):
        raise
    except Exception as error:  # Converters raise exceptions of any type.
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise EnvironmentFault(
            f"The format {name} was not published: "
            f"{type(error).__name__}: {reason.rstrip('.')}."
        ) from error


def require_parity(name: str, expected: Any, found: np.ndarray) -> None:
    """Compares the predictions of an export with those of its model.

    Args:
        name: str. A key of `FORMATS`.
        expected: float array of shape `(B, K)`. Probabilities of the model.
        found: float array of shape `(B, K)`. Probabilities of the export.

    Raises:
        EnvironmentFault: If they differ by more than the format's tolerance.
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
            f"where {MIN_INT8_AGREEMENT:.0%} is required"
        )
    raise EnvironmentFault(f"The format {name} was not published: {what}.")


def _require_distances(
    name: str, source: ExportSource, opened: Runtime, clips: np.ndarray
) -> None:
    """Raises `EnvironmentFault` if distances are not those of the model."""
    known = source.reference
    assert known is not None
    expected = in_slices(lambda x: distances_of(source.model, x, known), clips)
    _, found = parted(opened.answer_on_batch(clips))
    require_same_distances(found, expected, f"the format {name}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the output of converters; exceptions pass through."""
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
class FormatMetrics:
    """Size, speed and agreement of an exported model.

    Args:
        name: str. The format.
        size_bytes: int. Size of all files of the format.
        latency_ms: float. Median latency of one clip, in milliseconds.
        clips_per_second: float. Throughput in batches of 8, from the median.
        time_ratio: float. Time of a batch of 8 relative to the first model,
            the median over rounds.
        difference: float. Largest absolute difference of a probability from
            the first model's.
        agreement: float. Fraction of the clips with the first model's label.
        accuracy: float or None. Accuracy on the test videos, if there are
            any.
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
) -> list[FormatMetrics]:
    """Measures exported models on the same clips, in interleaved rounds.

    Args:
        models: Mapping from a name to the path and the model. The first
            entry is the reference.
        clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`.
        accuracy_of: Callable or None. Returns the test accuracy of a model.

    Returns:
        A list of `FormatMetrics`, one per model.
    """
    batch = np.resize(clips, (_BATCH_SIZE, *clips.shape[1:]))
    singles = _seconds(models, clips[:1])
    batches = _seconds(models, batch)
    first = next(iter(batches.values()))
    outputs = {
        name: np.asarray(model.predict_on_batch(clips))
        for name, (_, model) in models.items()
    }
    expected = next(iter(outputs.values()))
    return [
        FormatMetrics(
            name=name,
            size_bytes=size_of(path),
            latency_ms=1000 * float(np.median(singles[name])),
            clips_per_second=_BATCH_SIZE / float(np.median(batches[name])),
            time_ratio=float(np.median(batches[name] / first)),
            difference=float(np.abs(outputs[name] - expected).max()),
            agreement=float(
                (outputs[name].argmax(1) == expected.argmax(1)).mean()
            ),
            accuracy=accuracy_of(model) if accuracy_of else None,
        )
        for name, (path, model) in models.items()
    ]


def _seconds(
    models: Mapping[str, tuple[Path, Any]], clips: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the seconds that each model takes per round, `(rounds,)`."""
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
    """Returns the size of a file, or of all files in a folder, in bytes."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def comparison_page(
    rows: Sequence[FormatMetrics], machine: str, refused: Sequence[str] = ()
) -> str:
    """Renders `formats.md`: the comparison table and its legend.

    Args:
        rows: Sequence of FormatMetrics. One row per model.
        machine: str. Description of the machine.
        refused: Sequence of str. The error message of each format that was
            not published.

    Returns:
        str. Markdown.
    """
    lines = [
        "# Formats of this run",
        "",
        "| format | size, MB | 1 clip, ms | 8 clips, clips/s | time / "
        "Keras | largest difference | same top label | test accuracy |",
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
        f"Times are medians of {_ROUNDS} interleaved rounds on {machine}; "
        "*time / Keras* is the time of 8 clips relative to Keras's `predict`. "
        "The difference is the largest absolute difference of a probability "
        "from Keras's.",
        "",
    ]
    if refused:
        lines += ["## Not published", "", *(f"- {x}" for x in refused), ""]
    return "\n".join(lines)
