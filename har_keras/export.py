"""`har-keras export`: a run into what a server loads."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.environment import run_with_tensorflow, start_backend
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.files import whole_file
from har_keras.progress import ProgressBar
from har_keras.ranges import Metavar
from har_keras.run import Run
from har_keras.terminal import printable

logger = logging.getLogger("har_keras")

FORMATS = ("onnx", "openvino", "litert", "litert-int8")


@dataclass(frozen=True)
class ExportOptions:
    """Exports a run: the next SavedModel version, and other formats."""

    run: Annotated[Path, tyro.conf.Positional, Metavar("RUN")]
    """Folder of the run."""
    formats: Annotated[str, Metavar("FORMAT,...")] = ""
    """Further formats, separated by commas: onnx, openvino, litert,
    litert-int8. Each is verified against the Keras model on the run's videos;
    one whose predictions differ is not published (see serving/formats.md)."""


class RefusedFormats(EnvironmentFault):
    """Some formats were not published; the version and the others were.

    Args:
        version: Path. The version of the SavedModel.
        num_refused: int. Formats that were not published.
        num_formats: int. Formats that were requested.
        page: Path. The page that gives the reasons.
    """

    def __init__(
        self, version: Path, num_refused: int, num_formats: int, page: Path
    ) -> None:
        super().__init__(
            f"{num_refused} of {num_formats} formats not published; the "
            f"reasons are in '{page}'."
        )
        self.version = version


def export(run: Run, formats: Sequence[str] = ()) -> Path:
    """Exports a run's model as the next version for TensorFlow Serving.

    Always through the TensorFlow backend, whose graph any server can load:
    under another backend, a process with TensorFlow does it.

    Args:
        run: Run. A trained one.
        formats: Sequence of str. Those to write into `RUN/formats` as well,
            of "onnx", "openvino", "litert" and "litert-int8".

    Returns:
        `RUN/saved_model/<version>`.

    Raises:
        UsageError: If a format is not known.
        DataError: If the run has no model.
        EnvironmentFault: If the other process fails, or the written model
            does not predict as the trained one. Formats that fail are left
            out; the others are published before it is raised.
    """
    formats = chosen_formats(",".join(formats))
    with run.writing():
        if start_backend() != "tensorflow":
            return _export_in_other_process(run, formats)
        return _export(run, formats)


def _export(run: Run, formats: Sequence[str]) -> Path:
    """Exports a run in this process, which has the TensorFlow backend."""
    from har_keras.inference.load import (
        calibration_of,
        class_names_of,
        load_model,
        model_info_of,
    )
    from har_keras.serving.signatures import export_saved_model
    from har_keras.serving.tensorflow_serving import write_serving_files

    class_names = class_names_of(run)
    model = load_model(run)
    # The comparison of several takes as long as one.
    steps = 1 + len(formats) + bool(formats)
    with ProgressBar("Exporting", steps) as bar:
        version = export_saved_model(
            model,
            class_names,
            model_info_of(run, model),
            run.saved_model_dir,
            calibration_of(run, model).reference,
        )
        write_serving_files(run.serving_dir, run.saved_model_dir)
        bar.advance(text="SavedModel")
        refused = _export_formats(run, version, formats, bar) if formats else []
    if refused:
        raise RefusedFormats(
            version, len(refused), len(formats), run.formats_file
        )
    return version


def _export_formats(
    run: Run, version: Path, formats: Sequence[str], bar: ProgressBar
) -> list[str]:
    """Writes further formats and the page that compares them all."""
    import platform

    from har_keras.evaluation.measure import RunVideos
    from har_keras.inference.load import (
        calibration_of,
        load_model,
        model_info_of,
    )
    from har_keras.serving.formats import (
        ExportSource,
        compare,
        comparison_page,
        export_format,
    )
    from har_keras.serving.runtimes import Predict, open_exported

    model = load_model(run)
    videos = RunVideos(run)
    source = ExportSource(
        model,
        videos.manifest.class_names,
        model_info_of(run, model),
        calibration_of(run, model).reference,
    )
    clips = videos.clips("test", _NUM_COMPARED)
    found = {
        "Keras": (run.model_file, Predict(model)),
        "SavedModel": (version, open_exported(version)),
    }
    refused = []
    for name in formats:
        try:
            path, opened = export_format(
                name,
                source,
                run.formats_dir,
                clips,
                version=int(version.name),
            )
        except EnvironmentFault as error:
            logger.warning("%s", error)
            refused.append(str(error))
        else:
            found[name] = (path.parent, opened)
        bar.advance(text=name)
    rows = compare(found, clips, videos.accuracy_of)
    machine = f"{os.cpu_count()} cores of {platform.machine()}"
    with whole_file(run.formats_file) as file:
        file.write_text(comparison_page(rows, machine, refused), "utf-8")
    bar.advance(text="compared")
    return refused


_NUM_COMPARED = 64


def _export_in_other_process(run: Run, formats: Sequence[str]) -> Path:
    arguments = [str(run.path), "--formats", ",".join(formats)]
    printed = run_with_tensorflow(
        "har_keras.export", arguments, what="The export"
    )
    return Path(printed.strip().splitlines()[-1])


def chosen_formats(text: str) -> list[str]:
    """Returns the formats in a list with commas.

    Raises:
        UsageError: If one is not known.

    Example:

    >>> chosen_formats("onnx,litert-int8")
    ['onnx', 'litert-int8']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            raise UsageError(
                f"--formats must be of {', '.join(FORMATS)}. Received: {name}."
            )
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, exports and prints where the version is."""

    def verb() -> None:
        options = cli.parse(ExportOptions, argv, verb="export")
        run, formats = Run.open(options.run), chosen_formats(options.formats)
        start_backend("tensorflow")
        try:
            version = export(run, formats)
        except RefusedFormats as error:
            _print_result(run, error.version, formats)
            raise
        _print_result(run, version, formats)

    return cli.run_verb(verb)


def _print_result(run: Run, version: Path, formats: Sequence[str]) -> None:
    if formats:
        print(run.formats_file.read_text("utf-8"))
    print(printable(version))


if __name__ == "__main__":
    sys.exit(main())
