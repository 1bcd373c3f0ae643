"""Ctrl-C and SIGTERM in the first moments, before a verb handles them."""

import os
import signal
import sys
from types import FrameType

_WORDS = {signal.SIGINT: b"Stopped by Ctrl-C.\n"}


def is_program() -> bool:
    """Whether this process runs the package, and does not just import it."""
    # While Python looks for the module to run, its name isn't known yet.
    first = sys.argv[0] if sys.argv else ""
    return first == "-m" or os.path.basename(first).startswith("har-keras")


def end_at_once() -> None:
    """Ends the process at a signal, where nothing has been begun."""

    def end(number: int, _: FrameType | None) -> None:
        os.write(2, _WORDS.get(signal.Signals(number), b""))
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # What a shell ignores for a job in the background stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
