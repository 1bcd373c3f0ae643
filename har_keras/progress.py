"""Progress for a person: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger("har_keras")

_SECONDS_BETWEEN_LINES = 20.0


class ProgressBar:
    """Counts steps towards a total, with the time left.

    On a terminal it is one line that moves. Elsewhere, in a log file or a
    notebook's output, it is a plain line after 20 seconds without any. The
    time left is that of the steps after the first, in which a model is
    compiled or a network started.

    Args:
        title: str. What is being done, such as "Decoding".
        total: int. Steps in all.

    Example:

    >>> with ProgressBar("Counting", total=2) as bar:
    ...     bar.advance()
    ...     bar.advance(text="loss 0.5")
    >>> bar.done
    2
    """

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self._said = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=8),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, text="")

    def __enter__(self) -> "ProgressBar":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, steps: int = 1, text: str = "") -> None:
        """Counts finished steps.

        Args:
            steps: int. How many were finished.
            text: str. A few words on how it stands, such as the loss.
        """
        self.done += steps
        if self._first is None:
            self._first = (time.monotonic(), self.done)
        if self._bar:
            self._bar.update(self._task, advance=steps, text=text)
            return
        now = time.monotonic()
        if now - self._said >= _SECONDS_BETWEEN_LINES:
            parts = [f"{self.title}: {self.done}/{self.total}", self.left, text]
            self.say(", ".join(filter(None, parts)))

    def say(self, text: str) -> None:
        """Prints a line that stays, above the bar if there is one."""
        self._said = time.monotonic()
        logger.info("%s", text)

    def restart_clock(self) -> None:
        """Takes the time left from the steps that come now."""
        self._first = (time.monotonic(), self.done)

    @property
    def left(self) -> str:
        """The time left, such as "42 s left"; "" while nobody can tell."""
        if self._first is None or self.done >= self.total:
            return ""
        began, first = self._first
        if self.done == first:
            return ""
        each = (time.monotonic() - began) / (self.done - first)
        return f"{duration(each * (self.total - self.done))} left"


def duration(seconds: float) -> str:
    """Returns a duration as people say it.

    Example:

    >>> duration(42), duration(75), duration(3700)
    ('42 s', '1 min 15 s', '1 h 1 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def plural(number: int, noun: str) -> str:
    """Returns a count with its noun.

    Example:

    >>> plural(1, "file"), plural(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"
