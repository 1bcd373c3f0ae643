"""`python -m har_keras.export`: a run into what a server loads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from har_keras import cli
from har_keras.errors import EnvironmentFault
from har_keras.run import Run


@dataclass(frozen=True)
class ExportOptions:
    """Writes the next version of a run for TensorFlow Serving."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""


def export(run: Run) -> Path:
    """Writes the next version of a run's model for TensorFlow Serving.

    Always through the TensorFlow backend, whose graph any server can load:
    under another backend, a process with TensorFlow does it.

    Args:
        run: Run. A trained one.

    Returns:
        `RUN/saved_model/<version>`.

    Raises:
        DataError: If the run has no model.
        EnvironmentFault: If the other process fails, or the written model
            does not answer as the trained one.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return _export_in_other_process(run)
    from har_keras.evaluate import load_model
    from har_keras.serving.signatures import export_saved_model
    from har_keras.serving.tensorflow_serving import write_serving_files
    from har_keras.video.manifest import Manifest

    class_names = Manifest.read(run.manifest_file).class_names
    version = export_saved_model(
        load_model(run), class_names, run.config(), run.saved_model_dir
    )
    write_serving_files(run.serving_dir, run.saved_model_dir)
    return version


def _export_in_other_process(run: Run) -> Path:
    done = subprocess.run(
        [sys.executable, "-m", "har_keras.export", str(run.path)],
        # The graph is small; the accelerator belongs to this process.
        env=os.environ
        | {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise EnvironmentFault(
            "The export through the TensorFlow backend failed: "
            f"{reason.removeprefix('Error: ')}"
        )
    return Path(done.stdout.strip().splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, exports and prints where the version is."""

    def verb() -> None:
        options = cli.parse(ExportOptions, argv, verb="export")
        run = Run.open(options.run)
        cli.start_backend("tensorflow")
        print(export(run))

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())
