"""Logs metrics to Weights & Biases, on every backend; failures only warn.

W&B's own Keras callbacks are not used: they import TensorFlow, and fail on
JAX, offline or with a learning rate schedule.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras

from har_keras.config import Config
from har_keras.environment import wandb_mode
from har_keras.run import Run
from har_keras.training.callbacks import floats
from har_keras.training.checkpoint import TrainingState
from har_keras.training.hosts import current_hosts

logger = logging.getLogger("har_keras")

# Without a network, W&B would wait 90 s by default.
_INIT_TIMEOUT_SECONDS = 15


class WeightsAndBiases(keras.callbacks.Callback):
    """Logs the metrics of each epoch, and the final ones, to a W&B run.

    Args:
        wandb_run: wandb.Run or None. The run to log to; None disables logging.
    """

    def __init__(self, wandb_run: Any) -> None:
        super().__init__()
        self.wandb_run = wandb_run

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._tried(lambda: self.wandb_run.log(floats(logs), step=epoch + 1))

    def finish(
        self, figures: dict[str, Any], pictures: dict[str, Path]
    ) -> None:
        """Logs the final metrics and images, and closes the W&B run.

        Args:
            figures: dict. Metrics by name.
            pictures: dict. Image files by name.
        """

        def log() -> None:
            import wandb

            self.wandb_run.summary.update(figures)
            self.wandb_run.log(
                {
                    name: wandb.Image(str(file))
                    for name, file in pictures.items()
                    if file.is_file()
                }
            )

        self._tried(log)
        self._tried(lambda: self.wandb_run.finish())

    def _tried(self, log: Callable[[], object]) -> None:
        """Logs, and warns on failure instead of ending the training."""
        if self.wandb_run is None:
            return
        try:
            log()
        except Exception as error:
            logger.warning("Weights & Biases did not log: %s", error)


def start_wandb(
    run: Run,
    config: Config,
    state: TrainingState,
    started: WeightsAndBiases | None = None,
) -> WeightsAndBiases:
    """Starts or resumes the W&B run of a training.

    Args:
        run: Run. W&B writes its files into its folder.
        config: Config. `wandb` and `wandb_project` are used; all options are
            logged.
        state: TrainingState. Its W&B id is resumed, or set.
        started: WeightsAndBiases or None. The callback that this process
            already uses.

    Returns:
        The callback. It logs nothing if `wandb` is "off" or W&B can't start.
    """
    if started is not None:
        if started.wandb_run is not None:
            state.wandb_id = str(started.wandb_run.id)
        return started
    mode: str = config.logging.wandb
    if mode == "auto":
        mode = wandb_mode()
    if mode == "off" or not current_hosts().is_chief:
        return WeightsAndBiases(None)
    _keep_files_in(run)
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            wandb_run = _init(run, config, state, attempt)
        except Exception as error:
            logger.warning("Weights & Biases (%s): %s", attempt, error)
            continue
        state.wandb_id = str(wandb_run.id)
        if attempt == "offline":
            logger.info(
                "Weights & Biases logs offline. Upload later with: wandb sync "
                "%s",
                _as_named(Path(wandb_run.dir).parent, run),
            )
        return WeightsAndBiases(wandb_run)
    return WeightsAndBiases(None)


def _as_named(folder: Path, run: Run) -> Path:
    """Returns a folder in a run by the name that the run was given."""
    whole = run.path.resolve()
    if folder.is_relative_to(whole):
        return run.path / folder.relative_to(whole)
    return folder


_FOLDERS: dict[str, str | None] = dict.fromkeys(
    ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR")
)


def _keep_files_in(run: Run) -> None:
    """Lets W&B write into the run, where the user chose no other folder."""
    for name, ours in _FOLDERS.items():
        if os.environ.get(name) == ours:  # unset, or that of another run
            _FOLDERS[name] = os.environ[name] = str(run.path.resolve())


def _init(run: Run, config: Config, state: TrainingState, mode: Any) -> Any:
    """Starts a W&B run; its variables override what no option chose."""
    import wandb

    said = os.environ.get
    own = {
        "silent": True,
        "console": "off",
        "init_timeout": _INIT_TIMEOUT_SECONDS,
    }
    project = config.logging.wandb_project or said("WANDB_PROJECT")
    with _mode_said(mode):
        return wandb.init(
            project=project or "har_keras",
            name=said("WANDB_NAME") or run.path.name,
            # Else a second run of a process writes into the first.
            dir=said("WANDB_DIR"),
            mode=mode,
            id=state.wandb_id or None,
            resume="allow" if state.wandb_id and mode == "online" else None,
            config={name: str(value) for name, value in config.flat().items()},
            settings=wandb.Settings(
                **{
                    name: value
                    for name, value in own.items()
                    if not said(f"WANDB_{name.upper()}")
                }
            ),
        )


@contextlib.contextmanager
def _mode_said(mode: str) -> Iterator[None]:
    """Has `WANDB_MODE` say a mode: W&B starts in none if it says nonsense."""
    before = os.environ.get("WANDB_MODE")
    os.environ["WANDB_MODE"] = mode
    try:
        yield
    finally:
        del os.environ["WANDB_MODE"]
        if before is not None:
            os.environ["WANDB_MODE"] = before
