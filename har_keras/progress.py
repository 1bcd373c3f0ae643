"""Progress for a person: a bar on a terminal and in a notebook, else lines."""

import html
import logging
import sys
import time
from types import TracebackType
from typing import Any

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
_SECONDS_BETWEEN_BARS = 0.2
_IN_BAR = "in_bar"


class ProgressBar:
    """Counts steps towards a total, with the time left.

    On a terminal it is one line that moves, and in a notebook a bar in the
    output of the cell. Elsewhere, as in a log file, it is a plain line after 20
    seconds without any. The time left is that of the steps after the first, in
    which a model is compiled or a network started.

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
        self._output = _Output() if in_notebook() else None
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
        if self._output:
            self._output.show(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        if self._output:
            self._output.show(self)

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
        elif self._output:
            self._output.show_sometimes(self, text)
        elif time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self.say(self.line(text))

    def say(self, text: str) -> None:
        """Prints a line that stays, above the bar if there is one."""
        self._said = time.monotonic()
        logger.info("%s", text)

    def note(self, text: str) -> None:
        """Prints a line that stays; in a notebook, below the bar and folded."""
        if not self._output:
            self.say(text)
            return
        self._output.notes.append(text)
        self._output.show(self)
        logger.info("%s", text, extra={_IN_BAR: True})

    def line(self, text: str = "") -> str:
        """Returns how it stands, such as "Decoding: 3/7, 42 s left"."""
        parts = [f"{self.title}: {self.done}/{self.total}", self.left, text]
        return ", ".join(filter(None, parts))

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


class _Output:
    """A bar in the output of a notebook's cell, drawn anew in its place.

    As HTML, which every kind of notebook shows; widgets need a package, and a
    saved notebook loses them.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._handle: Any = None
        self._shown = 0.0

    def show_sometimes(self, bar: ProgressBar, text: str) -> None:
        """Draws the bar if that is due: each time is a message."""
        if time.monotonic() - self._shown >= _SECONDS_BETWEEN_BARS:
            self.show(bar, text)

    def show(self, bar: ProgressBar, text: str = "") -> None:
        """Draws the bar as it stands."""
        from IPython.display import display

        line = bar.line(text)
        bundle = {
            "text/plain": "\n".join([line, *self.notes[-1:]]),
            "text/html": f'<progress max="{bar.total}" value="{bar.done}" '
            f'style="width: 12em"></progress> {html.escape(line)}'
            f"{self._folded()}",
        }
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        self._shown = time.monotonic()

    def _folded(self) -> str:
        """Returns the newest note; the others unfold at a click."""
        if not self.notes:
            return ""
        *earlier, newest = map(html.escape, self.notes)
        lines = "<br>".join(earlier)
        return f"<details><summary>{newest}</summary>{lines}</details>"


def is_unseen(record: logging.LogRecord) -> bool:
    """Whether a message is not in a bar already; filters those to print."""
    return not getattr(record, _IN_BAR, False)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel")


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
