"""Starts programs that never outlive this process; ffmpeg with limits."""

import atexit
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, Any

from har_keras.errors import EnvironmentFault, Interrupted

MAX_BYTES = 2 * 2**30
"""Memory of one ffmpeg; the largest frames that are decoded need half."""


class Overtime(EnvironmentFault):
    """A program did not end within its time limit."""


class Child(subprocess.Popen[bytes]):
    """A child process that ends with this one.

    It is killed when this process ends in any way, also by SIGKILL, also
    while it writes nothing. On Windows, it ends when it next writes to the
    closed pipe.

    Args:
        command: Sequence of str. The program and its arguments.
        stdin: int. As for `subprocess.Popen`, and so are the others.
        stdout: int, a file or None.
        stderr: int or a file.
        env: Mapping from str to str, or None.

    Raises:
        OSError: If the program can't be started.
        Interrupted: If this process is about to end; see `kill_all`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: "int | IO[bytes] | None" = subprocess.PIPE,
        stderr: "int | IO[bytes]" = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
    ) -> None:
        _children.prepare()
        with _Gate(command) as gate:
            super().__init__(
                gate.command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                bufsize=0,
                pass_fds=gate.descriptors,
                # Ctrl-C reaches this process only, which ends its children.
                start_new_session=True,
            )
            self._limit()
            _children.add(self)
            gate.open()

    def _limit(self) -> None:
        """Limits the process before its program begins."""

    def end(self) -> None:
        """Kills the process and its children, if it still runs."""
        if self.poll() is None:
            _kill(self)

    def poll(self) -> int | None:
        status = super().poll()
        if status is not None:
            _children.discard(self)
        return status

    def wait(self, timeout: float | None = None) -> int:
        status = super().wait(timeout)
        _children.discard(self)
        return status


class Process(Child):
    """An ffmpeg, which is bounded and ends with this process.

    Its memory is limited by the system where that is possible (Linux);
    elsewhere `memory_bytes` is for a `Watchdog` to look at.

    Args:
        command: Sequence of str. The program and its arguments.
        **options: As for `Child`.

    Raises:
        EnvironmentFault: If the program can't be started.
        Interrupted: If this process is about to end; see `kill_all`.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        try:
            super().__init__(command, **options)
        except OSError as error:
            raise EnvironmentFault(
                f"ffmpeg could not be started from '{command[0]}': "
                f"{error.strerror}. Install imageio-ffmpeg again, or set "
                "IMAGEIO_FFMPEG_EXE to an ffmpeg."
            ) from error

    def _limit(self) -> None:
        self.limited = _limit_memory(self.pid)

    def memory_bytes(self) -> int:
        """Returns the resident memory; 0 if the process has ended."""
        import psutil

        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0


def run(
    command: Sequence[str], *, data: bytes = b"", timeout_seconds: float
) -> "subprocess.CompletedProcess[bytes]":
    """Runs a program to its end, with the limits of a `Process`.

    Args:
        command: Sequence of str. The program and its arguments.
        data: bytes. Its standard input. Defaults to none.
        timeout_seconds: float. After this it is killed.

    Returns:
        A `subprocess.CompletedProcess`.

    Raises:
        EnvironmentFault: If it can't be started; `Overtime` if it takes too
            long.
    """
    stdin = subprocess.PIPE if data else subprocess.DEVNULL
    with Process(command, stdin=stdin) as process:
        try:
            out, told = process.communicate(data or None, timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise Overtime(
                f"'{command[0]}' did not end within {timeout_seconds:g} s."
            ) from error
        finally:
            process.end()
    return subprocess.CompletedProcess(command, process.returncode, out, told)


def last_word(done: "subprocess.CompletedProcess[bytes]") -> str:
    """Returns why a program failed: its last line, or its exit code."""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"


def kill_all(number: int) -> None:
    """Kills all of them, from a signal handler, and starts no others.

    What waits for a frame then stops waiting, in every thread, so that the
    program can end at once.

    Args:
        number: int. The signal, which `Process` raises from then on.
    """
    _children.close(number)


def start_again() -> None:
    """Allows processes to be started after `kill_all`."""
    _children.open()


def _limit_memory(pid: int) -> bool:
    """Limits the memory of a process; returns whether the system can."""
    try:
        resource: Any = importlib.import_module("resource")
        # Address space would count what threads only reserve.
        resource.prlimit(pid, resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
    except (ImportError, AttributeError, OSError, ValueError):
        return False
    return True


def _kill(process: Child) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


class _Gate:
    """Holds a program back until it is known what ends it.

    A shell waits for a line in a pipe and then becomes the program. If this
    process is killed before, the pipe ends, and so does the shell.

    Args:
        command: Sequence of str. The program and its arguments.
    """

    # By its path, for some shells know no descriptor above 9.
    _SCRIPT = 'read -r _ < "$0" && exec "$@"'

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.descriptors: tuple[int, ...] = ()
        self._writing = -1

    def __enter__(self) -> "_Gate":
        # Without the program, the error is that of starting it.
        if os.path.isdir("/dev/fd") and shutil.which(self.command[0]):
            reading, self._writing = os.pipe()
            self.descriptors = (reading,)
            waiting = ("/bin/sh", "-c", self._SCRIPT, f"/dev/fd/{reading}")
            self.command = [*waiting, *self.command]
        return self

    def open(self) -> None:
        """Lets the program begin."""
        if self.descriptors:
            os.write(self._writing, b"\n")

    def __exit__(self, *exception: object) -> None:
        for descriptor in (*self.descriptors, self._writing):
            if descriptor >= 0:
                os.close(descriptor)


class _Children:
    """The processes that run, and the shell that survives this process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._running: set[Child] = set()
        self._ended_by = 0
        self._guardian = _Guardian()

    def prepare(self) -> None:
        """Gets ready for a process, which is told of as soon as it runs."""
        if self._ended_by:
            raise Interrupted(self._ended_by)
        with self._lock:
            if self._guardian.begin():
                for process in self._running:
                    self._guardian.tell("+", process.pid)

    def add(self, process: Child) -> None:
        with self._lock:
            self._running.add(process)
            self._guardian.tell("+", process.pid)
        if self._ended_by:  # a signal came since `prepare`
            process.end()

    def discard(self, process: Child) -> None:
        with self._lock:
            if process in self._running:
                self._running.discard(process)
                self._guardian.tell("-", process.pid)

    def close(self, number: int) -> None:
        self._ended_by = number
        with self._lock:
            for process in self._running:
                _kill(process)

    def open(self) -> None:
        self._ended_by = 0

    def forget(self) -> None:
        """Lets go of the shell, in a forked child."""
        self._guardian.forget()


class _Guardian:
    """A shell that reads which processes run, and kills them at the end.

    The end is that of its input, whose other end only this process has: the
    system closes it however this process ends. A flag of the system for that
    (PR_SET_PDEATHSIG) would have to be set in the child, between fork and
    exec, and would end it with the thread that started it.
    """

    _SCRIPT = """
running=
while read -r sign pid; do
  kept=
  for one in $running; do [ "$one" = "$pid" ] || kept="$kept $one"; done
  if [ "$sign" = + ]; then kept="$kept $pid"; fi
  running=$kept
done
for one in $running; do kill -s KILL -- "-$one"; done
"""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def begin(self) -> bool:
        """Starts the shell, unless it runs; returns whether it is new."""
        if os.name != "posix" or self._shell is not None:
            return False
        with contextlib.suppress(OSError):
            self._shell = self._started()
        return self._shell is not None

    def tell(self, sign: str, pid: int) -> None:
        """Tells the shell that a process has begun or ended."""
        if self._shell is None or self._shell.stdin is None:
            return
        try:
            self._shell.stdin.write(f"{sign} {pid}\n".encode())
        except OSError:  # It was killed; the next process gets another.
            self.close()
            self._shell = None

    def close(self) -> None:
        """Lets the shell end, which kills what still runs."""
        if self._shell is not None and self._shell.stdin is not None:
            with contextlib.suppress(OSError):
                self._shell.stdin.close()
            self._shell.wait()

    def forget(self) -> None:
        """Closes this copy of the input, so that the end is the parent's."""
        shell, self._shell = self._shell, None
        if shell is not None and shell.stdin is not None:
            shell.stdin.close()
            shell.returncode = 0  # not the child of this process

    def _started(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            ["/bin/sh", "-c", self._SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,
        )


def _forget_the_parents() -> None:
    """Starts anew in a forked child: the processes are not its own."""
    global _children
    _children.forget()
    _children = _Children()


_children = _Children()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents)
