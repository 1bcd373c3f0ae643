"""What a verb prints: messages on stderr and in a log, and safe names."""

import contextlib
import io
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from har_keras.progress import in_notebook, is_unseen

logger = logging.getLogger("har_keras")

_FEWEST_COLUMNS = 20
# Join letters and emoji, and steer nothing.
_JOINERS = "\u200c\u200d"


def printable(value: object) -> str:
    r"""Returns a text for people, with control characters as escapes.

    Names of files and classes, the words of a server and errors that quote
    them could else steer the terminal, or add a line that looks like ours.

    Args:
        value: object. A name, a path, an error.

    Example:

    >>> printable("a\x1b[31m\nb")
    'a\\x1b[31m\\nb'
    >>> printable("walk ходьба 歩く")
    'walk ходьба 歩く'
    """
    return "".join(
        x
        if x.isprintable() or x in _JOINERS
        else x.encode("unicode_escape", "backslashreplace").decode("ascii")
        for x in str(value)
    )


_LONGEST = 1000


def sentence(value: object) -> str:
    """Returns a printable text for people, without the middle of a long one.

    A name in it may have a million characters. What came stands at the start
    and how to mend it at the end.

    Args:
        value: object. A message or an error.
    """
    return _without_middle(printable(_without_middle(str(value))))


def _without_middle(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[: 2 * _LONGEST // 3]} ... {text[-_LONGEST // 4 :]}"


def shell_word(path: Path | str) -> str:
    """Returns a path for a command that is printed, to be copied.

    A shell takes it as one word, whatever is in the name.

    Args:
        path: Path or str. The path.

    Example:

    >>> shell_word("runs/first"), shell_word("my videos; ls"), shell_word("-a")
    ('runs/first', "'my videos; ls'", './-a')
    """
    text = str(path)
    text = os.path.join(".", text) if text.startswith("-") else text
    if os.name == "nt":
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


def open_streams() -> None:
    """Makes the standard streams safe to write to.

    One that is closed would give its number to the next file that is opened,
    into which libraries then write their messages. Names that the encoding of
    the output lacks are printed as escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # as names of files


def widen() -> None:
    """Has help laid out for some columns at least: for few it has no end."""
    if shutil.get_terminal_size().columns < _FEWEST_COLUMNS:
        os.environ["COLUMNS"] = str(_FEWEST_COLUMNS)


def flush() -> None:
    """Writes what is printed; if that fails, drops it and raises OSError."""
    _flush(sys.stdout)


def last_words(text: str) -> None:
    """Prints what ended a program on stderr, if that can be written to."""
    with contextlib.suppress(OSError):
        flush()
    with contextlib.suppress(OSError):
        try:
            print(text, file=sys.stderr)
        finally:
            _flush(sys.stderr)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:
        # Or it is tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


@contextlib.contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Prints the package's messages as plain lines while a verb runs."""
    handler = _Stderr()
    handler.setFormatter(_Sentence())
    handler.setLevel(logging.INFO)
    handler.addFilter(is_unseen)
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
    handler = logging.FileHandler(
        path, encoding="utf-8", errors="backslashreplace"
    )
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


# Only its stub is generic.
class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what is the standard error now.

    While a progress bar moves that is another stream, which puts lines above
    the bar. A notebook shows what is on it as a fault, and has the standard
    output instead.
    """

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stdout if in_notebook() else sys.stderr
        super().emit(record)


class _Printable(logging.Formatter):
    """Prints a message on one line, whatever names it quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = sentence(record.getMessage())
        return super().formatMessage(record)


class _Sentence(_Printable):
    """Prints a message as it is, and a warning as one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record)
        return f"Warning: {text}" if record.levelno >= logging.WARNING else text
