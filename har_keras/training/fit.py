"""One training: model, data, callbacks and `model.fit`, new or resumed."""

import hashlib
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from har_keras.config import Config
from har_keras.errors import UsageError
from har_keras.model.build import build_model
from har_keras.model.weights import load_weights
from har_keras.run import Run
from har_keras.training.callbacks import (
    Checkpoints,
    Events,
    KeepBest,
    Progress,
    Record,
)
from har_keras.training.checkpoint import TrainingState, load_checkpoint
from har_keras.training.distribution import device_scope
from har_keras.training.steps import build_trainer
from har_keras.training.wandb_log import WeightsAndBiases, start_wandb
from har_keras.video.dataset import ClipDataset
from har_keras.video.manifest import Manifest
from har_keras.video.store import Store


def fit(
    run: Run, config: Config, store: Store, manifest: Manifest
) -> WeightsAndBiases:
    """Trains a model into a run, from the start or from its checkpoint.

    Args:
        run: Run. Receives history, checkpoints, events and the best model.
        config: Config. Every option.
        store: Store. The decoded frames.
        manifest: Manifest. The videos; "train" and "val" are used.

    Returns:
        The W&B callback, still open for the final figures.
    """
    keras.utils.set_random_seed(config.training.seed)
    train_clips = ClipDataset(
        store, manifest, manifest.usable("train"), config, training=True
    )
    val_clips = ClipDataset(
        store, manifest, manifest.usable("val"), config, training=False
    )
    with device_scope(config.training.devices):
        model = compiled_model(config, manifest, train_clips.steps_per_epoch)
        state = _start_or_resume(run, model, _fingerprint(config, manifest))
        wandb = start_wandb(run, config, state)
        callbacks = [
            wandb,
            Record(state, run.history_file),
            KeepBest(state, run.model_file),
            Events(run.events_dir),
        ]
        _fit_epochs(
            model, config, run, state, train_clips, val_clips, callbacks
        )
    return wandb


def compiled_model(
    config: Config, manifest: Manifest, steps_per_epoch: int
) -> keras.Model:
    """Returns the model of a config, its weights and optimizer made."""
    classifier = build_model(
        config.model,
        config.clip,
        num_classes=len(manifest.class_names),
        seed=config.training.seed,
    )
    if config.model.weights:
        load_weights(classifier, config.model.weights)
    model = build_trainer(classifier, config.training, steps_per_epoch)
    model.optimizer.build(model.trainable_variables)
    # Metrics make their variables at first use; a checkpoint needs them now.
    labels = keras.ops.zeros((1,), "int32")
    model.compute_metrics(
        None, labels, keras.ops.zeros((1, len(manifest.class_names)))
    )
    model.reset_metrics()
    return model


def _fit_epochs(
    model: keras.Model,
    config: Config,
    run: Run,
    state: TrainingState,
    train_clips: ClipDataset,
    val_clips: ClipDataset,
    callbacks: list[Any],
) -> None:
    """Calls `fit`: first for the rest of an epoch that was cut, if one was."""
    epochs = config.training.epochs
    steps = train_clips.steps_per_epoch
    progress = Progress(state, epochs, steps)
    checkpoints = Checkpoints(
        run.checkpoint_dir, state, config.training.checkpoint_minutes
    )
    everything = [progress, *callbacks, checkpoints]
    validation = val_clips.batches() if val_clips.num_clips else None

    def fit_until(last_epoch: int, num_steps: int, *more: Any) -> None:
        model.fit(
            train_clips.batches(
                epochs=last_epoch, epoch=state.epoch, step=state.step
            ),
            validation_data=validation,
            initial_epoch=state.epoch,
            epochs=last_epoch,
            steps_per_epoch=num_steps,
            callbacks=[*more, *everything],
            shuffle=False,  # the data set has its own order
            verbose=0,
        )

    with progress.bar, _signals_to(checkpoints):
        if state.step:
            metrics = _RestoreMetrics(model)
            fit_until(state.epoch + 1, steps - state.step, metrics)
        if state.epoch < epochs:
            fit_until(epochs, steps)


class _RestoreMetrics(keras.callbacks.Callback):
    """Puts back the running metrics of a cut epoch, which `fit` resets."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.values = [variable.numpy() for variable in model.metrics_variables]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for variable, value in zip(
            self.model.metrics_variables, self.values, strict=True
        ):
            variable.assign(value)


def _start_or_resume(
    run: Run, model: keras.Model, fingerprint: str
) -> TrainingState:
    if not run.checkpoint_dir.is_dir():
        return TrainingState(fingerprint=fingerprint)
    state = load_checkpoint(run.checkpoint_dir, model)
    if state.fingerprint != fingerprint:
        raise UsageError(
            f"The run in '{run.path}' was made with other options or other "
            "videos, so it can't go on. Put them back, or start a new run."
        )
    return state


def _fingerprint(config: Config, manifest: Manifest) -> str:
    """Returns a hash of what must not change between stop and resume."""
    options = {name: str(value) for name, value in config.flat().items()}
    free = ("cache", "store_dir", "workers", "timeout_seconds", "wandb")
    kept = {name: v for name, v in options.items() if name not in free}
    videos = [(v.sha256, v.split, v.class_name) for v in manifest.videos]
    text = json.dumps([kept, sorted(videos)])
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _signals_to(checkpoints: Checkpoints) -> Iterator[None]:
    """Lets SIGTERM and Ctrl-C finish the batch and save, within the block."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    try:
        before = [signal.signal(n, checkpoints.interrupt) for n in numbers]
    except ValueError:  # Not the main thread: its owner handles signals.
        yield
        return
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
