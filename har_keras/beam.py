"""Work spread over machines by Apache Beam, in the place of local threads."""

import contextlib
import functools
import io
import json
import logging
import os
import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from har_keras.errors import DataError, EnvironmentFault, HarError, UsageError
from har_keras.files import passing_file, remove_leftovers

Pool = Literal["local", "beam"]

# Messages of the workers on this machine.
_QUIET = ("--default_sdk_harness_log_level=ERROR",)
# What other machines may still write.
_STALE_SECONDS = 24 * 3600.0
_BY_EXIT_CODE: dict[int, type[HarError]] = {
    kind.exit_code: kind for kind in (UsageError, DataError, EnvironmentFault)
}


def each_by_beam(
    items: Iterable[Any],
    work: Callable[[Any], dict[str, str]],
    folder: Path,
    options: str = "",
) -> dict[str, str]:
    """Does something about each of many items, as an Apache Beam pipeline.

    What the work makes it leaves in files, whole ones, which it makes again
    in the same way if it runs twice; a pipeline may repeat it at any time.

    Args:
        items: Iterable. What is to be done; each can be written as JSON, and
            is read from there, so that there may be any number.
        work: Callable. Does it, and returns what failed with the reason. It
            can be pickled.
        folder: Path. A folder that the machines of the pipeline and this one
            see under the same name.
        options: str. Options of the pipeline, as `pipeline_flags` reads them.

    Returns:
        What failed anywhere, with its reason: the pipeline's side output.

    Raises:
        UsageError: If the pipeline's options are wrong.
        EnvironmentFault: If Beam is missing, or a machine lacks something.
    """
    beam = _beam()
    with passing_file(folder / "pipeline") as side:
        remove_leftovers(folder, older_than_seconds=_STALE_SECONDS)
        side.mkdir()
        file = side / "items"
        with file.open("w", encoding="ascii") as lines:
            lines.writelines(json.dumps(item) + "\n" for item in items)
        if not file.stat().st_size:
            return {}
        with _pipeline(beam, options) as pipeline:
            done = (
                pipeline
                | beam.io.ReadFromText(str(file))
                | beam.Reshuffle()  # else one machine might get all
                | beam.FlatMap(functools.partial(_outcomes, work)).with_outputs(
                    "failed", "faults", main="done"
                )
            )
            for name in ("failed", "faults"):
                _ = done[name] | name >> beam.io.WriteToText(f"{side}/{name}")
        for code, text in _lines(side, "faults"):
            raise _BY_EXIT_CODE[code](text)
        return dict(_lines(side, "failed"))


def pipeline_flags(options: str) -> list[str]:
    """Returns the options of a pipeline as Beam reads them.

    Args:
        options: str. Words such as `runner=FlinkRunner`, with or without
            Beam's two dashes.

    Raises:
        UsageError: If quotes don't match.

    Example:

    >>> pipeline_flags("runner=FlinkRunner --flink_master=host:8081")
    ['--runner=FlinkRunner', '--flink_master=host:8081']
    """
    try:
        words = shlex.split(options)
    except ValueError as error:
        raise UsageError(
            "--beam-options must be words such as runner=FlinkRunner "
            f"({error}). Received: {options}."
        ) from error
    return ["--" + word.removeprefix("--") for word in words]


def require_pool(pool: Pool, options: str) -> None:
    """Refuses options for a pipeline where there is none, or no Beam.

    Raises:
        UsageError: If options are wrong, or given for the local pool.
        EnvironmentFault: If Beam is asked for and missing.
    """
    if pool == "beam":
        _pipeline(_beam(), options)
    elif options:
        raise UsageError("--beam-options is for --pool beam.")


def _beam() -> Any:
    """Imports Beam without its noise."""
    # Else it would print everybody's messages once more, from the root logger.
    logging.root.addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import apache_beam
    except ImportError as error:
        raise EnvironmentFault(
            f"--pool beam needs Apache Beam, which is not installed ({error}). "
            'Install it with: pip install "har_keras[beam]".'
        ) from error
    return apache_beam


def _pipeline(beam: Any, options: str) -> Any:
    """Returns a pipeline that is still empty.

    Raises:
        UsageError: If a value of its options is wrong. Names that Beam doesn't
            know it leaves to the runner.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = pipeline_flags(options)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            read = PipelineOptions([*_QUIET, *flags])
            read.get_all_options()  # reads them all, and complains
            return beam.Pipeline(options=read)
    except (SystemExit, ValueError) as error:
        words = [str(error), *printed.getvalue().splitlines()][-1]
        raise UsageError(
            f"Beam does not take --beam-options {options}: "
            f"{words.rpartition('error: ')[2]}."
        ) from error


def _outcomes(
    work: Callable[[Any], dict[str, str]], item: str
) -> Iterator[Any]:
    """Does something on a machine of the pipeline; yields what went wrong."""
    from apache_beam.pvalue import TaggedOutput

    try:
        failed = work(json.loads(item))
    except HarError as error:
        # Not raised: a runner would try again, and bury the sentence.
        yield TaggedOutput("faults", json.dumps([error.exit_code, str(error)]))
        return
    for name, reason in failed.items():
        yield TaggedOutput("failed", json.dumps([name, reason]))


def _lines(folder: Path, name: str) -> Iterator[Any]:
    """Reads what a pipeline wrote, from all of its machines."""
    for file in sorted(folder.glob(f"{name}-*")):
        for line in file.read_text("utf-8").splitlines():
            yield json.loads(line)


def everywhere(path: Path) -> Path:
    """Returns a path that means the same in other working directories."""
    return Path(os.path.abspath(path))
