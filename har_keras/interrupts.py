"""Ctrl-C and SIGTERM: in the first moments, and where they would be lost."""

import _thread
import atexit
import contextlib
import os
import signal
import sys
import threading
import weakref
from types import FrameType

_LOOK_SECONDS = 0.1

_WORDS = {signal.SIGINT: b"Stopped by Ctrl-C.\n"}


def is_program() -> bool:
    """Whether this process runs the package, and does not just import it."""
    # A notebook's %run has the names of a program, but the kernel has not.
    words = map(os.path.basename, sys.orig_argv)
    if not any(word.startswith(("har_keras", "har-keras")) for word in words):
        return False
    # While Python looks for the module to run, its name isn't known yet.
    first = sys.argv[0] if sys.argv else ""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return (
        first == "-m"
        or os.path.basename(first).startswith("har-keras")
        or (module is not None and module.name.startswith("har_keras."))
    )


def end_at_once() -> None:
    """Ends the process at a signal, where nothing has been begun."""

    def end(number: int, _: FrameType | None) -> None:
        os.write(2, _WORDS.get(signal.Signals(number), b""))
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        # What a shell ignores for a job in the background stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def end_now(exit_code: int) -> int:
    """Ends the program without the seconds that Python takes to clear up.

    It would give back every object of a backend, one by one, and a signal then
    ends it as if nothing had been caught.

    Args:
        exit_code: int. That of the program.

    Returns:
        int. The same, where the process is not the program's own.
    """
    if is_program():
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(exit_code)
    return exit_code


def insist(
    error: BaseException, number: signal.Signals, ended: threading.Event
) -> BaseException:
    """Returns what a handler raises, which comes again if it is lost.

    Libraries swallow exceptions, and Python those in what it calls while it
    collects garbage. An exception that nobody holds any more was lost; while
    the stack unwinds, it is held.

    Args:
        error: BaseException. The exception; the handler must not keep it.
        number: signal.Signals. The signal, which is then sent to the main
            thread again.
        ended: threading.Event. Set once the program has ended.
    """
    raised = weakref.ref(error)

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            if raised() is None and not ended.wait(_LOOK_SECONDS):
                _thread.interrupt_main(number)
                return

    threading.Thread(target=watch, daemon=True).start()
    return error
