"""Training of a run, new or resumed: model, data, callbacks, `model.fit`."""

import functools
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from har_keras.backbones.classifier import build_classifier
from har_keras.clips.dataset import ClipDataset, reading_failures
from har_keras.config import Config
from har_keras.errors import DataError, EnvironmentFault
from har_keras.features.dataset import FeatureDataset
from har_keras.files import remove_leftovers
from har_keras.manifest.manifest import Manifest
from har_keras.run import Run
from har_keras.store.store import Store
from har_keras.training.callbacks import (
    Checkpoints,
    Events,
    KeepBest,
    Progress,
    Record,
    RestoreMetrics,
    floats,
    kept_epoch,
)
from har_keras.training.checkpoint import (
    TrainingState,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from har_keras.training.devices import device_scope, num_shares
from har_keras.training.fingerprint import RunFingerprint
from har_keras.training.guards import (
    KeepFinite,
    LossGuard,
    NonFiniteLossError,
    is_out_of_memory,
    stop_signals,
)
from har_keras.training.hosts import current_hosts
from har_keras.training.initial_weights import initialize_weights
from har_keras.training.time_estimate import TimeEstimate
from har_keras.training.trainer import build_trainer
from har_keras.training.wandb_log import WeightsAndBiases, start_wandb

logger = logging.getLogger("har_keras")

_NAMED_VIDEOS = 3


@dataclass(frozen=True)
class Objective:
    """A training objective: classification or pre-training.

    Args:
        dataset: type of ClipDataset. The data set of its batches.
        compiled_model: Callable. Returns the compiled model for a config, a
            manifest and the steps per epoch.
    """

    dataset: type[ClipDataset]
    compiled_model: Callable[[Config, Manifest, int], keras.Model]


def fit(
    run: Run,
    config: Config,
    store: Store,
    manifest: Manifest,
    objective: Objective | None = None,
) -> WeightsAndBiases:
    """Trains the model of a run, from the start or from its checkpoint.

    If memory runs out, training resumes from the last checkpoint with half the
    micro-batch; the batch and its gradient do not change.

    Args:
        run: Run. Receives history, checkpoints, events and the best model.
        config: Config. Every option.
        store: Store. The decoded frames.
        manifest: Manifest. The videos; "train" and "val" are used.
        objective: Objective or None. Defaults to classification, of features
            where a backbone is frozen.

    Returns:
        The W&B callback, still open for the final metrics.

    Raises:
        UsageError: If the run was started with other options.
        DataError: If it was started with other videos, or the loss became NaN.
        EnvironmentFault: If the disk is full, or memory too small for a clip.
    """
    objective = objective or classification(config)
    wandb: WeightsAndBiases | None = None
    clips_at_once = 0
    with device_scope(config.training.devices):
        while True:
            training = Training(
                run, config, store, manifest, clips_at_once, objective
            )
            wandb = start_wandb(run, config, training.state, wandb)
            try:
                with reading_failures(training.train_clips, training.val_clips):
                    training.fit(wandb)
                return wandb
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if current_hosts().are_several:
                    raise _too_much_at_once(training) from error
                clips_at_once = _fewer(training, config)
            # Free the device's memory before the next attempt.
            del training
            keras.utils.clear_session(free_memory=True)


class Training:
    """The model, the data and the state of a run in training.

    Args:
        run: Run. Receives all files.
        config: Config. Every option.
        store: Store. The decoded frames.
        manifest: Manifest. The videos.
        clips_at_once: int. Micro-batch size after memory ran out; `0` takes it
            from the config and the checkpoint. Defaults to `0`.
        objective: Objective or None. Defaults to classification.
    """

    def __init__(
        self,
        run: Run,
        config: Config,
        store: Store,
        manifest: Manifest,
        clips_at_once: int = 0,
        objective: Objective | None = None,
    ) -> None:
        objective = objective or classification(config)
        keras.utils.set_random_seed(config.training.seed)
        self.run = run
        self.config = config
        self.hosts = current_hosts()
        data = functools.partial(
            objective.dataset,
            store,
            manifest,
            num_shares=num_shares(
                config.training.devices, config.training.batch_size
            ),
            host_shard=(self.hosts.index, self.hosts.number),
        )
        self.train_clips = data(manifest.usable("train"), config, training=True)
        self.steps = self.train_clips.steps_per_epoch
        # What is resumed has its weights from the checkpoint.
        start = (
            {"weights": "random"} if has_checkpoint(run.checkpoint_dir) else {}
        )
        self.model = objective.compiled_model(
            config.changed(start), manifest, self.steps
        )
        if config.features.backbone != "none":
            # Of what is resumed, the checkpoint has it, too.
            adapt(self.model.classifier, self.train_clips)
        self.state = self._start_or_resume(manifest)
        self.state.micro_batch_size = (
            clips_at_once or self.state.micro_batch_size
        )
        val_batch_size = config.training.batch_size
        if self.state.micro_batch_size:
            self.model.micro_batch_size = self.state.micro_batch_size
            shares = self.train_clips.num_shares
            val_batch_size = max(
                shares, self.state.micro_batch_size // shares * shares
            )
        self.val_clips = data(
            manifest.usable("val"),
            config,
            training=False,
            batch_size=val_batch_size,
        )
        _say_what_is_left_out(self.train_clips, "training", "others each time")
        _say_what_is_left_out(self.val_clips, "validation", "the last ones")

    @property
    def clips_at_once(self) -> int:
        """Clips in a micro-batch."""
        whole = self.config.training.batch_size
        return int(self.model.micro_batch_size or whole)

    def fit(self, *callbacks: keras.callbacks.Callback) -> None:
        """Trains from the current state to the last epoch.

        Args:
            *callbacks: keras.callbacks.Callback. Additional callbacks.

        Raises:
            Interrupted: After a signal; a checkpoint is saved.
            DataError: If the loss became NaN or infinite.
        """
        told = self.run.resumable if self.hosts.is_chief else nullcontext
        try:
            with told():
                self._all_epochs(callbacks)
        except NonFiniteLossError as found:
            raise self._explained(found) from None
        if self.hosts.is_chief:
            logger.info(
                "%s", kept_epoch(self.state, self.config.training.epochs)
            )

    def _start_or_resume(self, manifest: Manifest) -> TrainingState:
        folder = self.run.checkpoint_dir
        now = RunFingerprint.of(self.config, manifest)
        state = self._begun(now) if self.hosts.is_chief else None
        if state is None or self.hosts.are_several:
            state = load_checkpoint(folder, self.model)
        began = RunFingerprint.read(self.run.fingerprint_file)
        within = state.is_within(self.config.training, self.steps)
        if state.fingerprint != began.digest or not within:
            raise DataError(
                f"The checkpoint in '{folder}' is not of this run. Put its own "
                "back, or start the run again in a new folder."
            )
        return state

    def _begun(self, now: RunFingerprint) -> TrainingState | None:
        """Initializes a new run; checks the fingerprint of an existing one."""
        folder = self.run.checkpoint_dir
        remove_leftovers(self.run.path)
        if has_checkpoint(folder):
            began = RunFingerprint.read(self.run.fingerprint_file)
            began.refuse_changes(now, self.run.path)
            return None
        now.write(self.run.fingerprint_file)
        state = TrainingState(fingerprint=now.digest)
        save_checkpoint(folder, self.model, state)
        return state

    def _all_epochs(
        self, callbacks: tuple[keras.callbacks.Callback, ...]
    ) -> None:
        state, epochs = self.state, self.config.training.epochs
        guard = LossGuard(state)
        checkpoints = Checkpoints(
            self.run,
            state,
            self.config.training.checkpoint_minutes,
            guard.check,
        )
        progress = Progress(
            state, epochs, self.steps, names_best=not self._keeps_last
        )
        all_callbacks = [
            guard,
            self._time_estimate(),
            *callbacks,
            *self._records(),
            progress,
            checkpoints,
        ]
        with progress.bar, stop_signals(checkpoints.interrupt):
            if state.step == self.steps:
                self._finish_epoch(all_callbacks)
            if state.step:
                self._fit(self.steps - state.step, all_callbacks)
            if state.epoch < epochs:
                self._fit(self.steps, all_callbacks, epochs=epochs)

    @property
    def _keeps_last(self) -> bool:
        return (
            self.config.training.keep == "last" or not self.val_clips.num_clips
        )

    def _records(self) -> list[keras.callbacks.Callback]:
        if not self.hosts.is_chief:
            return [Record(self.state, None)]
        training = self.config.training
        return [
            Record(self.state, self.run),
            KeepBest(
                self.state,
                self.run.model_file,
                last=training.epochs if self._keeps_last else 0,
                minutes=training.checkpoint_minutes,
            ),
            Events(self.run.events_dir),
        ]

    def _fit(
        self,
        num_steps: int,
        callbacks: list[keras.callbacks.Callback],
        *,
        epochs: int = 0,
        validate: bool = True,
    ) -> None:
        """Calls `model.fit`, for the current epoch or for all epochs."""
        state = self.state
        epochs = epochs or state.epoch + 1
        first = [RestoreMetrics(self.model)] if state.step else []
        self.model.fit(
            self.train_clips.batches(
                epochs=epochs, epoch=state.epoch, step=state.step
            ),
            validation_data=self._validation() if validate else None,
            initial_epoch=state.epoch,
            epochs=epochs,
            steps_per_epoch=num_steps,
            callbacks=[*first, *callbacks],
            shuffle=False,  # the data set has its own order
            verbose=0,
        )

    def _finish_epoch(self, callbacks: list[keras.callbacks.Callback]) -> None:
        """Validates an epoch that was interrupted after its last batch."""
        everyone = keras.callbacks.CallbackList(callbacks, model=self.model)
        logs = floats(self.model.get_metrics_result())
        figures = self.model.evaluate(
            self._validation(), callbacks=everyone, return_dict=True, verbose=0
        )
        logs |= {f"val_{name}": value for name, value in figures.items()}
        everyone.on_epoch_end(self.state.epoch, logs)

    def _time_estimate(self) -> TimeEstimate:
        share = self.val_clips.num_clips / self.train_clips.num_clips
        return TimeEstimate(
            self.state, self.config, steps=self.steps, val_share=share
        )

    def _validation(self) -> Any:
        return self.val_clips.batches() if self.val_clips.num_clips else None

    def _explained(self, found: NonFiniteLossError) -> DataError:
        """Restores the last finite step; returns the error to raise."""
        folder = self.run.checkpoint_dir
        vars(self.state).update(vars(load_checkpoint(folder, self.model)))
        if found.step > self.state.step:
            keep = KeepFinite(folder, self.state, found.step)
            steps = found.step - self.state.step
            self._fit(steps, [keep], validate=False)
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        videos = self.train_clips.videos_of(found.epoch, found.step)
        names = [f"'{video.name}'" for video in videos]
        logger.debug("Videos of the batch: %s.", ", ".join(names))
        more = len(names) - _NAMED_VIDEOS
        rest = f" and {more} more, named in run.log" if more > 0 else ""
        return DataError(
            f"The loss became {found.loss} in epoch {found.epoch + 1}, step "
            f"{found.step + 1} of {self.steps}, at a learning rate of "
            f"{float(rate):.3g}, in the batch with "
            f"{', '.join(names[:_NAMED_VIDEOS])}{rest}. The checkpoint has the "
            "last finite weights. Try a lower --learning-rate or "
            "--warmup-epochs 5."
        )


def adapt(classifier: keras.Model, clips: ClipDataset) -> None:
    """Sets the standardization of features by those of training clips.

    Args:
        classifier: keras.Model. A `FeatureViT`, or a `BackboneClassifier`
            whose backbone is trained, too.
        clips: ClipDataset. The clips to train on.
    """
    if isinstance(clips, FeatureDataset):
        classifier.adapt(clips.all_features())
        return
    rows = [classifier.extractor.of_clips(x[None]) for x in clips.middles()]
    classifier.reader.adapt(np.concatenate(rows))


def compiled_model(
    config: Config, manifest: Manifest, steps_per_epoch: int
) -> keras.Model:
    """Returns the compiled model of a config, with its optimizer built."""
    whole = build_classifier(config, len(manifest.class_names))
    trained = whole.reader if config.reads_features else whole
    initialize_weights(trained, config.model.weights)
    model = build_trainer(
        trained,
        config.training,
        steps_per_epoch,
        whole=whole,
        factor=getattr(whole, "rate_factor", None),
    )
    model.optimizer.build(model.trainable_variables)
    # Metrics create their variables at first use; checkpoints include them.
    labels = keras.ops.zeros((1,), "int32")
    model.compute_metrics(
        None, labels, keras.ops.zeros((1, len(manifest.class_names)))
    )
    model.reset_metrics()
    return model


def classification(config: Config) -> Objective:
    """Returns the objective of a classifier, of features or of pixels."""
    dataset = FeatureDataset if config.reads_features else ClipDataset
    return Objective(dataset, compiled_model)


def _say_what_is_left_out(clips: ClipDataset, name: str, which: str) -> None:
    left_out = clips.num_left_out
    if left_out:
        logger.warning(
            "%d devices need equal shares of a batch under JAX: %d of %d %s "
            "clips left out of each epoch (%s).",
            clips.num_shares,
            left_out,
            clips.num_clips + left_out,
            name,
            which,
        )


def _too_much_at_once(training: Training) -> EnvironmentFault:
    """Returns the error for several hosts, which can't recover."""
    tried = training.clips_at_once
    return EnvironmentFault(
        f"Out of memory on host {training.hosts.index} with a micro-batch of "
        f"{tried} clips. Start again with --micro-batch-size "
        f"{max(1, tried // 2)}; the batch and its gradient do not change."
    )


def _fewer(training: Training, config: Config) -> int:
    """Returns half the micro-batch size, and logs it."""
    tried = training.clips_at_once
    if tried == 1:
        raise EnvironmentFault(
            "Out of memory with a micro-batch of one clip. Lower --crop-size, "
            "--num-frames or --hidden-dim, or use a device with more memory."
        )
    logger.warning(
        "Out of memory with a micro-batch of %d clips: resuming from the last "
        "checkpoint with %d. The batch is still %d clips.",
        tried,
        tried // 2,
        config.training.batch_size,
    )
    return tried // 2
