"""What can go wrong for a person, each with the exit code of its kind."""


class HarError(Exception):
    """An error whose text is one sentence for the person at the keyboard.

    The sentence says what came, what was expected and how to fix it. A verb
    prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 1


class UsageError(HarError):
    """An option, a config file or a path on the command line is wrong."""

    exit_code = 2


class DataError(HarError):
    """The videos, or a run directory, can't be used as they are."""

    exit_code = 3


class EnvironmentFault(HarError):
    """The machine lacks something: an extra, disk space, a device."""

    exit_code = 4


class Stopped(KeyboardInterrupt):
    """Ctrl-C.

    A class of its own, for Python ends itself by the signal, without an exit
    code, once a KeyboardInterrupt has passed through `exec`, however it was
    handled after that.
    """


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C, once what was under way has been put in order."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number


def reason_of(error: Exception) -> str:
    """Returns what failed; of a system's error, without its number and file.

    Example:

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.mp4"))
    'No such file or directory'
    """
    return getattr(error, "strerror", None) or str(error)
