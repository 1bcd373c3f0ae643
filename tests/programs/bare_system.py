"""Runs a verb on a system that has less than this one, as Windows has.

Arguments: a verb and its flags. Functions and modules that only Unix has are
taken away before the package is imported; folders can't be synced, and links
can't be made.
"""

import importlib
import os
import signal
import sys
import types

GONE = {
    "fork", "getuid", "geteuid", "getpgid", "killpg", "mkfifo", "O_NONBLOCK",
    "O_NOCTTY", "O_CLOEXEC", "pthread_kill", "register_at_fork",
    "sched_getaffinity", "set_blocking", "setsid", "SIGHUP", "SIGKILL",
    "SIGQUIT", "SIGUSR1", "statvfs", "sysconf", "uname",
}  # fmt: skip


class Bare(types.ModuleType):
    """A module without what is gone, for those who ask from the package."""

    def __getattribute__(self, name):
        if name in GONE:
            asking = sys._getframe(1).f_globals.get("__name__", "")
            if asking.partition(".")[0] == "har_keras":
                raise AttributeError(f"no attribute '{name}'")
        return super().__getattribute__(name)


def main(arguments):
    os.__class__ = signal.__class__ = Bare
    importlib.import_module = without_resource(importlib.import_module)
    os.open = without_folders(os.open)
    os.symlink = refused
    sys.argv[0] = "har-keras"
    from har_keras.__main__ import main as run

    return run(arguments)


def without_folders(opened):
    def open_file(path, *others, **named):
        if not isinstance(path, int) and os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *others, **named)

    return open_file


def without_resource(imported):
    def import_module(name, package=None):
        if name == "resource":
            raise ModuleNotFoundError(name)
        return imported(name, package)

    return import_module


def refused(*_, **__):
    raise OSError(1314, "A required privilege is not held by the client")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
