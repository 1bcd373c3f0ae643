"""A run directory: the name of every file in it, in one place."""

import contextlib
import dataclasses
import itertools
import logging
import os
import platform
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from har_keras.config import Config
from har_keras.damaged import require_regular_files
from har_keras.errors import (
    DataError,
    EnvironmentFault,
    Interrupted,
    UsageError,
)
from har_keras.files import (
    remove_leftovers,
    warn_of_no_locks,
    whole_file,
)
from har_keras.hub import SCHEME, hub_name, hub_options
from har_keras.terminal import shell_word
from har_keras.toml import read_toml, write_toml

logger = logging.getLogger(__name__)


class ResultFiles:
    """Names of the files of an evaluation, in a run or in any other folder.

    Args:
        path: Path or str. The folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.evaluation_file = self.path / "evaluation.json"
        self.videos_file = self.path / "videos.csv"
        self.report_file = self.path / "report.html"
        self.confusion_file = self.path / "confusion.png"
        self.ranking_file = self.path / "ranking.png"
        self.reliability_file = self.path / "reliability.png"
        self.coverage_file = self.path / "coverage.png"
        self.curves_file = self.path / "curves.png"
        self.segments_file = self.path / "segments.csv"
        self.segments_plot_file = self.path / "segments.png"


class Run(ResultFiles):
    """The folder that one training makes and every later verb reads.

    Args:
        path: Path or str. The run directory.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.config_file = self.path / "config.toml"
        self.manifest_file = self.path / "manifest.csv"
        # In its place in what is on a hub, without the names of the videos.
        self.class_names_file = self.path / "class_names.json"
        self.history_file = self.path / "history.csv"
        self.checkpoint_dir = self.path / "checkpoint"
        # The name that every version gave it.
        self.fingerprint_file = self.checkpoint_dir / "beginning.json"
        self.model_file = self.path / "model.keras"
        self.calibration_file = self.path / "calibration.json"
        self.evaluations_dir = self.path / "evaluations"
        self.card_file = self.path / "README.md"
        self.saved_model_dir = self.path / "saved_model"
        self.serving_dir = self.path / "serving"
        self.formats_dir = self.path / "formats"
        self.formats_file = self.serving_dir / "formats.md"
        self.reconstruction_file = self.path / "reconstruction.png"
        self.events_dir = self.path / "events"
        self.log_file = self.path / "run.log"
        self.phases_file = self.path / "phases.csv"
        self.lock_file = self.path / ".lock"

    def samples_file(self, split: str) -> Path:
        """Returns the image of film strips of a split."""
        return self.path / f"samples_{split}.png"

    @property
    def is_pretraining(self) -> bool:
        """Whether it is a run of `pretrain`, whose model has no classes."""
        return self.config().training.recipe == "pretrain"

    @property
    def resume_command(self) -> str:
        """The command that resumes the run after it was interrupted."""
        verb = "pretrain" if self.is_pretraining else "train"
        return f"har-keras {verb} --resume {shell_word(self.path)}"

    @contextlib.contextmanager
    def resumable(self) -> Iterator[None]:
        """Says how to go on, if what is done to the run is interrupted."""
        try:
            yield
        except (Interrupted, KeyboardInterrupt):
            self.tell_how_to_go_on()
            raise

    def tell_how_to_go_on(self) -> None:
        """Says how a run that was stopped is resumed."""
        logger.info("Stopped. To go on: %s", self.resume_command)

    @classmethod
    def new(cls, path: Path | str | None = None) -> "Run":
        """Chooses the folder of a new run; only a default one is made.

        Args:
            path: Path, str or None. The folder, new or empty. Defaults to
                `runs/<date>-<time>`.

        Returns:
            The `Run`.

        Raises:
            UsageError: If `path` is a file, or a folder with something in it.
        """
        run = cls(path or _fresh_folder(Path("runs")))
        if run.path.exists() and not run.path.is_dir():
            raise UsageError(
                f"--run-dir must be a folder. '{run.path}' is a file."
            )
        if run.path.is_dir() and set(run.path.iterdir()) - {run.lock_file}:
            raise UsageError(
                f"--run-dir '{run.path}' is not empty. Choose a new folder, "
                f"or resume the run in it with --resume {shell_word(run.path)}."
            )
        run._require_writable()
        return run

    def _require_writable(self) -> None:
        """Refuses a folder before videos are decoded for it."""
        places = (self.path, *self.path.parents)
        there = next(filter(Path.exists, places), Path())
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(
                f"--run-dir '{self.path}' can't be made: '{there}' can't be "
                "written to."
            )

    def create(self, config: Config) -> None:
        """Makes the folder, with its config in it.

        Args:
            config: Config. Saved as `config.toml`.

        Raises:
            UsageError: If the folder can't be written to.
            EnvironmentFault: If the disk is full.
        """
        try:
            with whole_file(self.config_file) as file:
                write_toml(config, file)
        except (PermissionError, NotADirectoryError) as error:
            raise UsageError(
                f"--run-dir '{self.path}' can't be made: {error.strerror}."
            ) from error

    def require_there(self) -> None:
        """Raises `EnvironmentFault` if the folder was removed meanwhile."""
        if not self.config_file.is_file():
            raise EnvironmentFault(
                f"The run directory '{self.path}' was removed or moved while "
                "it was being written. Start it again, or go on with --resume "
                "and its new place."
            )

    def require_no_links(self) -> None:
        """Raises `DataError` for a link in it: what is elsewhere is not ours.

        A run of somebody else could lead what is written into it anywhere.
        """
        for item in sorted(self.path.glob("*")):
            if item.is_symlink():
                raise DataError(
                    f"'{item}' is a link, which har_keras never makes. Put "
                    "what it leads to there itself, or remove it."
                )

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Keeps other processes from writing into the run at the same time.

        The lock ends with the process, however that ends. What a killed one had
        half written is removed, and a folder in which nothing was written.

        Raises:
            UsageError: If another process writes into it.
            DataError: If something in it is a link.
            EnvironmentFault: If the clock is too far back for a model's file.
        """
        _require_clock()
        self.require_no_links()
        lock = self._locked()
        try:
            yield
        finally:
            if lock is not None:
                if lock.lock_counter == 1:
                    # Whoever waits for it looks again; Windows does it itself.
                    with contextlib.suppress(OSError):
                        self.lock_file.unlink()
                lock.release()
                self._remove_if_empty(lock.is_locked)

    def _locked(self) -> Any:
        """Returns the lock, taken; None where the disk has no locks."""
        import filelock

        lock = filelock.FileLock(
            self.lock_file, timeout=0, thread_local=False, is_singleton=True
        )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except filelock.Timeout:
            owner = _read(self.lock_file)
            if owner == _process(os.getppid()):
                return None  # which started this process for a part of its work
            raise UsageError(
                f"'{self.path}' is being written by {owner or 'a process'}. "
                "Wait until it ends, or choose another --run-dir."
            ) from None
        except (OSError, NotImplementedError) as error:
            warn_of_no_locks(self.path, error)
            return None
        with contextlib.suppress(OSError):  # on Windows nobody else may
            self.lock_file.write_text(_process(os.getpid()), "utf-8")
        if lock.lock_counter == 1:
            for folder in (
                self.path,
                *filter(Path.is_dir, self.path.iterdir()),
            ):
                remove_leftovers(folder)
        return lock

    def _remove_if_empty(self, is_locked: bool) -> None:
        with contextlib.suppress(OSError):  # it may be gone
            if not is_locked and set(self.path.iterdir()) <= {self.lock_file}:
                self.path.rmdir()

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Opens the run in a folder.

        Raises:
            DataError: If there is no run in it.
            UsageError: If it is an address on a hub.
        """
        require_here(path)
        run = cls(path)
        if not run.config_file.is_file():
            raise DataError(
                f"'{path}' is not a run: it has no {run.config_file.name}. "
                "Give the folder that `har-keras train` made."
            )
        files = vars(run).items()
        require_regular_files(x for name, x in files if name.endswith("_file"))
        return run

    def config(self) -> Config:
        """Returns the options that the run was started with."""
        return Config().replace(**read_toml(self.config_file))

    def config_to_open(self) -> Config:
        """Returns the options for reading a run, maybe somebody else's.

        Its `store_dir` counts where that is a frame store already: nothing is
        made in a folder that only the run names.
        """
        config = self.config()
        folder = config.store.store_dir
        if folder is None or any(folder.glob("*px-*fps-*")):
            return config
        return config.replace(store_dir=None)

    def model_options(self) -> dict[str, Any]:
        """Returns the options that a model shares with its initial weights.

        Those of the clip may differ, but are best the same.
        """
        config = self.config()
        model = dataclasses.asdict(config.model)
        for name in ("weights", "precision", "drop_path_rate"):
            del model[name]
        features = dataclasses.asdict(config.features)
        return model | features | dataclasses.asdict(config.clip)


def require_here(path: Path | str) -> None:
    """Raises `UsageError` for a run on a hub, where a folder is needed."""
    scheme, *name = Path(path).parts or ("",)
    if scheme == SCHEME.rstrip("/"):
        raise UsageError(
            f"Expected a folder on this machine. Received: {SCHEME}"
            f"{'/'.join(name)}, which predict, evaluate, app and "
            "har_keras.load take. To make it a folder: hf download "
            f"{'/'.join(name).partition('@')[0]} --local-dir FOLDER; to serve "
            "that: har-keras export FOLDER"
        )


def with_model_of_weights(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options, their model that of the weights that `weights` names.

    Args:
        options: Mapping. Values by option name; those that are given take
            precedence over those of the run, or of the model on a hub.

    Returns:
        The options; unchanged if `weights` names neither.

    Raises:
        UsageError: If a hub has no such model, or it is of another kind.
        DataError: If its `config.json` is damaged.
        EnvironmentFault: If the hub can't be reached, access is refused, or
            huggingface_hub is missing.
    """
    weights = str(options.get("weights") or "")
    run, on_hub = Run(weights), hub_name(weights)
    if weights and run.config_file.is_file():
        return run.model_options() | dict(options)
    return (hub_options(on_hub) if on_hub else {}) | dict(options)


def _require_clock() -> None:
    """Refuses a date that a ZIP file, as a model is, can't hold.

    A machine without a battery for its clock starts in 1970.
    """
    now = datetime.now()
    if now.year < _FIRST_YEAR:
        raise EnvironmentFault(
            f"The clock of this machine says {now:%Y-%m-%d}, and no model's "
            f"file can be dated before {_FIRST_YEAR}. Set the clock."
        )


_FIRST_YEAR = 1980


def _process(number: int) -> str:
    return f"process {number} on {platform.node()}"


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _fresh_folder(parent: Path) -> Path:
    """Makes `parent/<date>-<time>`, with a number if that is taken."""
    name = datetime.now().strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        folder = parent / (f"{name}-{number}" if number > 1 else name)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            break
    return folder
