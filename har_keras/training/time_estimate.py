"""Estimates the duration of training, and suggests faster options."""

import logging
import time
from typing import Any

import keras

from har_keras.config import Config
from har_keras.progress import duration
from har_keras.recipes import RECIPES
from har_keras.training.checkpoint import TrainingState

logger = logging.getLogger("har_keras")

# Minimum steps and seconds of the measurement, within the first epoch. If that
# is too short, whole epochs after it are measured: in the first, a smaller last
# batch and the validation are compiled.
_STEPS, _SECONDS = 3, 3.0
_LONG_SECONDS = 600.0
_MANY_TOKENS = 1000
# A forward pass takes about a third of a training step.
_VALIDATION_COST = 1 / 3


class TimeEstimate(keras.callbacks.Callback):
    """Logs an estimate of the remaining time after a few steps.

    It measures the steps of the training itself, without the first, in which
    the model is compiled.

    Args:
        state: TrainingState. The start of training.
        config: Config. Every option.
        steps: int. Batches in an epoch.
        val_share: float. Validation clips per training clip.
    """

    def __init__(
        self,
        state: TrainingState,
        config: Config,
        *,
        steps: int,
        val_share: float,
    ) -> None:
        super().__init__()
        self.state = state
        self.config = config
        self.steps = steps
        self.val_share = val_share
        self._left = config.training.epochs * steps
        self._left -= state.epoch * steps + state.step
        self._first = state.step
        self._done = self._timed = 0
        self._began: float | None = None
        self._whole = self._said = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._done += 1
        if self._said:
            return
        now = time.monotonic()
        if self._began is None:
            self._began = now
            return
        self._timed += 1
        if self._whole or (self._first + self._done) % self.steps == 0:
            return
        if self._timed >= _STEPS and now - self._began >= _SECONDS:
            each = (now - self._began) / self._timed
            self._say(each, 1 + _VALIDATION_COST * self.val_share)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._said or self._began is None:
            return
        now = time.monotonic()
        if not self._whole:
            self._whole, self._began, self._timed = True, now, 0
        elif now - self._began >= _SECONDS:
            self._say((now - self._began) / self._timed, 1.0)

    def _say(self, each: float, validation: float) -> None:
        self._said = True
        left = self._left - self._done
        seconds = left * each * validation
        if seconds < _SECONDS:
            return
        logger.info(
            "About %s to go: %d steps of %.2g s, and validation.",
            duration(seconds),
            left,
            each,
        )
        if seconds > _LONG_SECONDS:
            total = seconds * self.config.training.epochs * self.steps / left
            for line in faster(self.config, total):
                logger.info("%s", line)


def faster(config: Config, seconds: float) -> list[str]:
    """Returns options that shorten training, with their estimated times.

    Time is assumed proportional to the numbers of tokens and epochs, which
    overestimates it a little for many tokens.

    Args:
        config: Config. The options of the training.
        seconds: float. Estimated duration of the whole training.

    Returns:
        Lines to print; the first is a heading.

    Example:

    >>> for line in faster(Config(), 1800.0): print(line)
    Faster, with other results, from the start:
      --recipe quick     about 2 min 21 s
      --crop-size 64     about 9 min 48 s
      --epochs 50        about 15 min 0 s
    """
    crop, epochs = config.clip.crop_size, config.training.epochs
    patch = config.model.patch_size
    smaller = max(patch, round(crop * 4 / 7 / patch) * patch)
    quick = RECIPES["quick"].options
    shares = {
        "--recipe quick": (quick["crop_size"] / crop) ** 2
        * (quick["epochs"] / epochs),
        f"--crop-size {smaller}": (smaller / crop) ** 2,
        f"--epochs {epochs // 2}": (epochs // 2) / epochs,
    }  # fmt: skip
    lines = [
        f"  {option:18} about {duration(share * seconds)}"
        for option, share in shares.items()
        if 0 < share < 0.7
    ]
    tokens = (crop // patch) ** 2 * (
        config.clip.num_frames // config.model.tubelet_frames
    )
    if tokens >= _MANY_TOKENS and config.model.attention == "joint":
        lines += ["  --attention factorised"]
    return ["Faster, with other results, from the start:", *lines]
