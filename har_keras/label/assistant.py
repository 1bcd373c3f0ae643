"""Suggestions for the page, computed by a process of its own.

The process holds the network and the features; it is told the labels anew
whenever they have changed, and ends with the server.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from har_keras.label.rows import LabelRow

# Not at every key: the next answer counts the labels of some seconds.
_PAUSE_SECONDS = 2.0
_WORKER = "har_keras.label.worker"


@dataclass(frozen=True)
class Help:
    """What the process said last.

    Args:
        state: str. "off", "working", "ready" or "failed".
        text: str. In words.
        fraction: float or None. How much is done, 0 to 1.
        number: int. Counts the answers.
        samples: tuple of LabelRow. What the answer is about, in order.
        answer: dict. Suggestions by index of a sample.
    """

    state: str = "off"
    text: str = ""
    fraction: float | None = None
    number: int = 0
    samples: tuple[LabelRow, ...] = ()
    answer: dict[str, Any] = field(default_factory=dict)


class Assistant:
    """Asks for suggestions, one question at a time.

    Args:
        root: Path. The folder of videos.
        store_dir: Path or None. The store of frames and features.
        backbone: str. The network that sees them.
        worker: str. The module that answers.
    """

    def __init__(
        self,
        root: Path,
        store_dir: Path | None,
        backbone: str,
        worker: str = _WORKER,
    ) -> None:
        self.root, self.store_dir, self.backbone = root, store_dir, backbone
        self.run = ""
        self._worker = worker
        self._lock = threading.RLock()
        self._help = Help()
        self._process: subprocess.Popen[str] | None = None
        self._asked: tuple[object, ...] = ()
        self._asked_at = 0.0
        self._busy = False

    @property
    def help(self) -> Help:
        """What was said last."""
        with self._lock:
            return self._help

    def ask(self, samples: Sequence[LabelRow]) -> None:
        """Asks for suggestions, if the labels are others than at the last.

        Args:
            samples: Sequence of LabelRow. Videos and parts, labelled or not.
        """
        question = (
            self.run,
            *[(*x.key, x.class_name, x.group) for x in samples],
        )
        with self._lock:
            early = time.monotonic() < self._asked_at + _PAUSE_SECONDS
            if self._busy or early or question == self._asked:
                return
            self._asked, self._asked_at = question, time.monotonic()
            self._busy = True
            self._say(state="working", text="Starting", fraction=None)
            try:
                process = self._started()
                assert process.stdin is not None
                process.stdin.write(self._question(samples) + "\n")
                process.stdin.flush()
            except OSError as error:
                self._fail(f"Suggestions can't be computed: {error}.")
                return
            threading.Thread(
                target=self._listen, args=[process, tuple(samples)], daemon=True
            ).start()

    def stop(self) -> None:
        """Ends the process; what it said is kept by nobody."""
        with self._lock:
            process, self._process = self._process, None
            self._asked, self._busy = (), False
            self._help = Help(number=self._help.number + 1)
        if process is not None:
            process.kill()
            process.wait()
            _close(process)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                (sys.executable, "-m", self._worker),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="ascii",  # JSON escapes all else
                start_new_session=True,
            )
        return self._process

    def _question(self, samples: Sequence[LabelRow]) -> str:
        return json.dumps(
            {
                "root": str(self.root),
                "store_dir": str(self.store_dir) if self.store_dir else None,
                "run": self.run or None,
                "backbone": self.backbone,
                "samples": [x.key for x in samples],
                "labels": [x.class_name or None for x in samples],
                "groups": [x.group for x in samples],
            }
        )

    def _listen(
        self, process: subprocess.Popen[str], samples: tuple[LabelRow, ...]
    ) -> None:
        """Reads what the process says until it has answered or ended."""
        assert process.stdout is not None
        for said in _messages(process.stdout):
            with self._lock:
                if process is not self._process:
                    return
                if "answer" in said:
                    self._busy = False
                    self._say(
                        state="ready", text="", fraction=1.0, samples=samples,
                        number=self._help.number + 1, answer=said["answer"],
                    )  # fmt: skip
                    return
                if "error" in said:
                    self._fail(str(said["error"]))
                    return
                self._say(
                    text=str(said.get("text", "")),
                    fraction=said.get("fraction"),
                )
        with self._lock:
            if process is self._process:
                self._fail("Suggestions ended without an answer.")

    def _fail(self, text: str) -> None:
        self._busy = False
        self._say(state="failed", text=text, fraction=None)

    def _say(self, **values: Any) -> None:
        self._help = Help(**{**vars(self._help), **values})


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()


def _messages(stream: IO[str]) -> Any:
    """Yields the JSON objects among the lines of a process."""
    for line in stream:
        try:
            found = json.loads(line)
        except ValueError:
            continue  # what a library printed
        if isinstance(found, dict):
            yield found
