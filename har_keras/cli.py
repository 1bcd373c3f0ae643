"""The command line: flags, exit codes, the backend, what is printed where.

`run_verb` and `parse` are all a verb needs. Neither imports keras, so that
`--help` answers at once; `start_backend` does, when the options are known.
"""

import argparse
import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from har_keras.config import Config
from har_keras.errors import HarError, Interrupted
from har_keras.recipes import PRESETS, RECIPES
from har_keras.run import Run
from har_keras.toml import read_toml

Options = TypeVar("Options")

logger = logging.getLogger("har_keras")

EXIT_CODES = (
    "Exit codes: 0 done, 2 usage, 3 data, 4 environment, 130 Ctrl-C, "
    "143 SIGTERM."
)


def run_verb(verb: Callable[[], object]) -> int:
    """Runs a verb and returns the exit code of what became of it.

    Errors that people make or meet are printed as one sentence; any other
    exception is a bug and keeps its traceback.

    Args:
        verb: Callable without arguments.

    Returns:
        int. The exit code: 0, or that of the error.

    Example:

    >>> run_verb(lambda: None)
    0
    """
    with _messages_on_stderr(), _terminable():
        try:
            verb()
        except HarError as error:
            print(f"Error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("Stopped by Ctrl-C.", file=sys.stderr)
            return 130
        except Interrupted as interrupted:
            return interrupted.exit_code
        except BrokenPipeError:
            # The reader of our output went away, as `| head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
    return 0


def parse(
    options: type[Options], argv: Sequence[str] | None, *, verb: str
) -> Options:
    """Reads the flags of a verb into its dataclass.

    A field of type `Config` gives the flags of all its sections. `--recipe`,
    `--preset` and `--config FILE` are read first: flags have the last word.

    Args:
        options: dataclass type. Its docstring is the description in `--help`.
        argv: Sequence of str or None. The arguments; None is the shell's.
        verb: str. The name of the verb.

    Returns:
        An instance of `options`.

    Raises:
        UsageError: If a value is out of its range. A flag that does not
            exist ends the program with exit code 2, naming the nearest.
    """
    import tyro

    arguments = sys.argv[1:] if argv is None else list(argv)
    parsed = tyro.cli(
        options,
        args=arguments,
        prog=f"python -m har_keras.{verb}",
        default=_default(options, arguments),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
        compact_help=False,
    )
    for value in vars(parsed).values():
        if isinstance(value, Config):
            value.validated()
    return parsed


def _default(options: Any, arguments: list[str]) -> Any:
    """Returns the options with a run's, a file's, a recipe's as defaults."""
    if "settings" not in {field.name for field in dataclasses.fields(options)}:
        return None
    reader = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reader.add_argument("--config", type=Path)
    reader.add_argument("--init", type=Path)
    reader.add_argument("--preset")
    reader.add_argument("--recipe")
    reader.add_argument("--resume", type=Path)
    known = reader.parse_known_args(arguments)[0]
    # A run that goes on keeps its options; what is given is a change to them.
    given = Run.open(known.resume).config().flat() if known.resume else {}
    given |= read_toml(known.config) if known.config else {}
    init = known.init or given.get("init")
    if init and not known.resume:
        given = _model_of(Run.open(Path(init))) | given
    if known.preset in PRESETS:
        given["preset"] = known.preset
    if known.recipe in RECIPES:
        given["recipe"] = known.recipe
    if not given:
        return None
    return options(settings=options().settings.replace(**given))


def _model_of(run: Run) -> dict[str, Any]:
    """Returns the options that a model must share with the one it starts from.

    Clips may be others, but are best the same.
    """
    config = run.config()
    model = dataclasses.asdict(config.model)
    for name in ("init", "weights", "start", "precision", "drop_path_rate"):
        del model[name]
    return model | dataclasses.asdict(config.clip)


@contextlib.contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Prints the package's messages as plain lines while a verb runs."""
    handler = _Stderr()
    handler.setFormatter(_Sentence())
    handler.setLevel(logging.INFO)
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)  # the rest is for `log_file`
    others = _of_others()
    try:
        yield
    finally:
        logging.root.removeHandler(others)
        logger.removeHandler(handler)
        logger.setLevel(level)


def _of_others() -> logging.Handler:
    """Adds the handler of other packages' warnings, if there is none yet.

    TensorFlow would add one when it saves a model, and that would print the
    messages of this package a second time.
    """
    handler = _Stderr()
    handler.setLevel(logging.WARNING)
    handler.addFilter(lambda record: not record.name.startswith(logger.name))
    if not logging.root.handlers:
        logging.root.addHandler(handler)
    return handler


@contextlib.contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Adds the package's messages to a file, with the time of each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is the standard error now.

    While a progress bar moves that is another stream, which puts lines above
    the bar.
    """

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Sentence(logging.Formatter):
    """A message as it is; a warning says that it is one."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            return f"Warning: {text}"
        return text


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Lets SIGTERM unwind the stack, so that half-written files are removed."""

    def interrupt(number: int, _: Any) -> None:
        raise Interrupted(number)

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # Not the main thread: its owner handles signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
