"""Training as a whole: it learns, it stops, it goes on exactly."""

import csv
import json
import os
import signal
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from support.moving_squares import SquaresStore, squares_manifest

from har_keras.config import Config
from har_keras.errors import (
    DataError,
    EnvironmentFault,
    Interrupted,
    UsageError,
)
from har_keras.files import own_temporary_folder
from har_keras.run import Run
from har_keras.training import callbacks, guards, wandb_log
from har_keras.training.callbacks import KeepBest
from har_keras.training.checkpoint import TrainingState
from har_keras.training.fit import fit
from har_keras.training.guards import stop_signals
from har_keras.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("without_xla")
CONFIG = Config().replace(
    crop_size=32,
    num_frames=8,
    hidden_dim=16,
    num_layers=1,
    num_heads=2,
    mlp_dim=32,
    batch_size=8,
    epochs=3,
    dropout_rate=0.1,
    learning_rate=0.003,
    wandb="off",
)


def new_run(path, config):
    run = Run.new(path)
    run.create(config)
    return run


def train(path, config=CONFIG, *, num_videos=20):
    run = Run(path) if path.exists() else new_run(path, config)
    manifest = squares_manifest(
        path, num_videos=num_videos, splits=("train", "val")
    )
    fit(run, config, SquaresStore(config.clip), manifest)
    return run


class GoneStore(SquaresStore):
    """A store that is removed after some reads."""

    def frames(self, sha256, indices):
        if len(self.asked) > 20:
            raise EnvironmentFault("The store was removed.")
        return super().frames(sha256, indices)

    lazy_frames = frames


def test_what_makes_reading_fail_is_said_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SquaresStore", GoneStore)
    with pytest.raises(EnvironmentFault, match=r"^The store was removed\.$"):
        train(tmp_path / "run")


def history_of(run):
    return list(csv.DictReader(run.history_file.read_text().splitlines()))


def last_weights(run):
    """Returns the variables of the newest checkpoint, by name."""
    newest = sorted(run.checkpoint_dir.glob("*.npz"))[-1]
    with np.load(newest) as arrays:
        return {name: arrays[name] for name in arrays if name != "state"}


def last_state(run):
    newest = sorted(run.checkpoint_dir.glob("*.npz"))[-1]
    with np.load(newest) as arrays:
        return json.loads(arrays["state"].tobytes())


def assert_same_weights(first, second):
    first, second = last_weights(first), last_weights(second)
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def assert_same_run(first, second):
    assert_same_weights(first, second)
    rows, expected = (
        [{k: row[k] for k in row if k != "seconds"} for row in history_of(run)]
        for run in (first, second)
    )
    assert rows == expected


def manifest_of(run):
    return squares_manifest(run.path, num_videos=20, splits=("train", "val"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    return train(tmp_path_factory.mktemp("fit") / "whole")


def test_it_learns_the_direction_of_motion(tmp_path):
    config = CONFIG.replace(
        epochs=25, augment="none", dropout_rate=0.0, keep="last"
    )
    run = train(tmp_path / "run", config, num_videos=48)
    history = history_of(run)
    assert float(history[-1]["accuracy"]) >= 0.9
    assert max(float(row["val_accuracy"]) for row in history) >= 0.8


def test_the_history_has_a_line_an_epoch(whole):
    history = history_of(whole)
    assert [int(row["epoch"]) for row in history] == [1, 2, 3]
    wanted = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert wanted <= set(history[0])


def test_the_best_model_loads_in_safe_mode(whole):
    model = keras.saving.load_model(whole.model_file, safe_mode=True)
    clips = np.zeros((2, 8, 32, 32, 3), "uint8")
    probabilities = np.asarray(model.predict_on_batch(clips))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def test_events_are_written(whole):
    assert list(whole.events_dir.glob("events.*"))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(whole, tmp_path):
    assert_same_weights(whole, train(tmp_path / "again"))


@pytest.mark.parametrize(
    "stop_after",
    [
        pytest.param(2, id="within an epoch"),
        pytest.param(3, id="at its end", marks=pytest.mark.slow),
        pytest.param(7, id="in the last one", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_exactly(
    whole, tmp_path, stop_after, monkeypatch, caplog
):
    steps = 0
    after_batch = callbacks.Checkpoints.on_train_batch_end

    def stop(self, batch, logs=None):
        nonlocal steps
        steps += 1
        if steps == stop_after:
            self.interrupt(15)
        after_batch(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_train_batch_end", stop)
        with pytest.raises(Interrupted), caplog.at_level("INFO"):
            train(tmp_path / "run")
    assert f"train --resume {tmp_path / 'run'}" in caplog.text
    assert_same_run(whole, train(tmp_path / "run"))


@pytest.mark.slow
def test_mixed_and_weighted_clips_go_on_exactly(tmp_path, monkeypatch):
    config = CONFIG.replace(
        **CONFIG.flat()
        | {"mixup": 0.8, "cutmix": 1.0, "balance": "weights", "epochs": 2}
    )
    expected = train(tmp_path / "whole", config)
    whole_step = callbacks.Checkpoints.on_train_batch_end

    def stopping(self, batch, logs=None):
        if (self.state.epoch, self.state.step) == (1, 0):
            self.interrupt(15)
        whole_step(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_train_batch_end", stopping)
        with pytest.raises(Interrupted):
            train(tmp_path / "stopped", config)
    assert last_state(Run(tmp_path / "stopped"))["step"] == 1
    assert_same_run(train(tmp_path / "stopped", config), expected)


@pytest.mark.slow
def test_a_stop_during_validation_goes_on_exactly(whole, tmp_path, monkeypatch):
    after_batch = callbacks.Checkpoints.on_test_batch_end

    def stop(self, batch, logs=None):
        if self.state.epoch == 1:
            self.interrupt(2)
        after_batch(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_test_batch_end", stop)
        with pytest.raises(Interrupted) as stopped:
            train(tmp_path / "run")
    assert stopped.value.exit_code == 130
    assert_same_run(whole, train(tmp_path / "run"))


def test_other_options_are_refused_by_name(whole):
    manifest = manifest_of(whole)
    config = CONFIG.replace(seed=1, learning_rate=0.1, wandb="offline")
    with pytest.raises(UsageError) as refused:
        fit(whole, config, SquaresStore(config.clip), manifest)
    assert "--learning-rate was 0.003 and is now 0.1" in str(refused.value)
    assert "--seed was 0 and is now 1" in str(refused.value)
    assert "wandb" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "up-else"}, "has other content"),
        ({"split": "val"}, "is in another split"),
        ({"class_name": "up"}, "is of another class"),
        ({"kept_frames": 7}, "gave 20 frames and gives now 7"),
        ({"file": "train/down/new.mp4"}, "is gone from the manifest"),
    ],
)
def test_other_videos_are_refused_by_name(whole, change, words):
    manifest = manifest_of(whole)
    first, *others = manifest.videos
    changed = manifest.with_videos([replace(first, **change), *others])
    with pytest.raises(DataError, match=f"'{first.file}' {words}"):
        fit(whole, CONFIG, SquaresStore(CONFIG.clip), changed)


def test_a_loss_that_is_no_number_stops_at_the_last_good_step(
    tmp_path,
):
    config = CONFIG.replace(learning_rate=1e30, weight_decay=0, epochs=2)
    with pytest.raises(DataError) as stopped:
        train(tmp_path / "run", config)
    sentence = str(stopped.value)
    assert "The loss became nan in epoch 1, step 2 of 3" in sentence
    assert "at a learning rate of 1e+30, in the batch with 'train/" in sentence
    assert "Try a lower --learning-rate" in sentence
    weights = last_weights(Run(tmp_path / "run"))
    assert all(np.isfinite(value).all() for value in weights.values())


class FullMemory:
    """Stands in for a step on a device that is full with over two clips."""

    def __init__(self):
        self.tried = []
        self.step = Trainer.train_step

    def __call__(self, trainer, *args):
        clips = trainer.micro_batch_size or CONFIG.training.batch_size
        self.tried.append(clips)
        if clips > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
        return self.step(trainer, *args)


def test_full_memory_halves_the_micro_batch(tmp_path, monkeypatch, caplog):
    full = FullMemory()
    monkeypatch.setattr(
        Trainer, "train_step", lambda self, *args: full(self, *args)
    )
    config = CONFIG.replace(micro_batch_size=8, epochs=1)
    run = train(tmp_path / "run", config)
    assert list(dict.fromkeys(full.tried)) == [8, 4, 2]
    said = [m for m in caplog.messages if "Out of memory" in m]
    assert len(said) == 2
    assert (
        "resuming from the last checkpoint with 2. The batch is still 8"
        in (said[1])
    )
    assert len(history_of(run)) == 1
    assert last_state(run)["micro_batch_size"] == 2


def test_memory_full_with_one_clip_is_said(tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Trainer, "train_step", full)
    with pytest.raises(EnvironmentFault, match="a micro-batch of one clip"):
        train(tmp_path / "run", CONFIG.replace(micro_batch_size=2))


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    config = CONFIG.replace(epochs=1, wandb="offline")
    run = new_run(tmp_path / "run", config)
    manifest = squares_manifest(tmp_path, num_videos=8, splits=("train", "val"))
    log = fit(run, config, SquaresStore(config.clip), manifest)
    log.finish({"test_accuracy": 0.5}, {"curves": run.curves_file})
    assert list((run.path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert last_state(run)["wandb_id"]
    # A second one of this process has its files in its own folder.
    other = new_run(tmp_path / "other", config)
    wandb_log.start_wandb(other, config, TrainingState()).finish({}, {})
    assert list((other.path / "wandb").glob("offline-run-*/run-*.wandb"))


def test_what_wandb_wrote_is_named_as_the_run_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run("runs/first")
    inside = tmp_path / "runs" / "first" / "wandb" / "offline-run-1"
    assert wandb_log._as_named(inside, run) == Path(
        "runs/first/wandb/offline-run-1"
    )
    assert wandb_log._as_named(tmp_path / "other", run) == tmp_path / "other"


def test_every_epoch_is_a_line_that_stays(tmp_path, caplog):
    run = new_run(tmp_path / "run", CONFIG)
    manifest = squares_manifest(tmp_path, num_videos=8, splits=("train", "val"))
    with caplog.at_level("INFO", "har_keras"):
        fit(run, CONFIG, SquaresStore(CONFIG.clip), manifest)
    said = [record.getMessage() for record in caplog.records]
    epochs = [line for line in said if line.startswith("Epoch ")]
    assert len(epochs) == CONFIG.training.epochs
    assert "val_accuracy" in epochs[0]
    assert "best so far" in epochs[0]
    best = last_state(run)["best"]["epoch"]
    assert f"Kept the model of epoch {best:g} of {len(epochs)}: " in said[-1]


def test_where_the_last_epoch_is_kept_none_is_called_the_best(tmp_path, caplog):
    config = CONFIG.changed({"keep": "last"})
    run = new_run(tmp_path / "run", config)
    manifest = squares_manifest(tmp_path, num_videos=8, splits=("train", "val"))
    with caplog.at_level("INFO", "har_keras"):
        fit(run, config, SquaresStore(config.clip), manifest)
    said = [record.getMessage() for record in caplog.records]
    epochs = config.training.epochs
    assert sum(line.startswith("Epoch ") for line in said) == epochs
    assert not any("best so far" in line for line in said)
    assert f"Kept the model of epoch {epochs} of {epochs}: " in said[-1]


@pytest.mark.parametrize(
    ("variables", "options", "expected"),
    [
        ({}, {}, {"mode": "offline", "project": "har_keras", "name": "run"}),
        ({"WANDB_API_KEY": "k"}, {}, {"mode": "online"}),
        (
            {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"},
            {},
            {"mode": "offline"},
        ),
        ({"WANDB_MODE": "offline"}, {"wandb": "online"}, {"mode": "online"}),
        ({"WANDB_MODE": "disabled"}, {}, None),
        (
            {"WANDB_API_KEY": "k", "WANDB_MODE": "dryrun"},
            {},
            {"mode": "offline"},
        ),
        (
            {"WANDB_API_KEY": "k", "WANDB_MODE": "ofline"},
            {},
            {"mode": "offline", "said": "offline"},
        ),
        ({"WANDB_DISABLED": "true"}, {}, None),
        (
            {"WANDB_PROJECT": "squares", "WANDB_NAME": "first"},
            {},
            {"project": "squares", "name": "first"},
        ),
        (
            {"WANDB_PROJECT": "squares"},
            {"wandb_project": "mine"},
            {"project": "mine"},
        ),
    ],
)
def test_weights_and_biases_hears_its_variables(
    variables, options, expected, tmp_path, monkeypatch
):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wandb_log, "_FOLDERS", {})
    monkeypatch.setenv("HOME", str(tmp_path))  # no .netrc
    asked = []

    def init(**given):
        asked.append(given | {"said": os.environ["WANDB_MODE"]})
        return SimpleNamespace(id="1", dir=str(tmp_path))

    monkeypatch.setattr("wandb.init", init)
    config = CONFIG.replace(wandb="auto").replace(**options)
    said = os.environ.get("WANDB_MODE")
    wandb_log.start_wandb(Run(tmp_path / "run"), config, TrainingState())
    assert os.environ.get("WANDB_MODE") == said
    if expected is None:
        assert asked == []
    else:
        (given,) = asked
        assert given | expected == given


@pytest.mark.parametrize(
    ("options", "saved"),
    [
        ({}, [1, 3]),  # the best so far
        ({"last": 5}, [1, 2, 3, 4, 5]),
        ({"last": 5, "minutes": 5.0}, [1, 5]),
    ],
)
def test_a_model_is_saved_no_oftener_than_is_wanted(tmp_path, options, saved):
    state, found = TrainingState(), []

    def save(file):
        found.append(epoch + 1)
        file.touch()

    keep = KeepBest(state, tmp_path / "model.keras", **options)
    keep.set_model(SimpleNamespace(save=save))
    for epoch, accuracy in enumerate((0.5, 0.4, 0.6, 0.5, 0.1)):
        keep.on_epoch_end(epoch, {"val_accuracy": accuracy})
    assert found == saved
    assert state.best["epoch"] == saved[-1]


def test_a_signal_that_the_parent_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = []
    try:
        with stop_signals(asked.append):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert not asked


@pytest.mark.parametrize(
    ("batches", "is_alone", "ends"),
    [(0, True, True), (1, True, False), (0, False, False)],
)
def test_a_stop_before_the_first_batch_ends_at_once(
    monkeypatch, batches, is_alone, ends
):
    ended, told = [], []
    monkeypatch.setattr(callbacks, "is_program", lambda: True)
    monkeypatch.setattr(callbacks, "end_without_unwinding", ended.append)
    hosts = SimpleNamespace(are_several=not is_alone)
    monkeypatch.setattr(callbacks, "current_hosts", lambda: hosts)
    run = SimpleNamespace(tell_how_to_go_on=lambda: told.append("how"))
    saved = callbacks.Checkpoints(run, TrainingState(), 5.0, list)
    for batch in range(batches):
        saved.on_train_batch_end(batch)
    saved.interrupt(15)
    assert ended == [15] * ends
    assert told == ["how"] * ends
    assert saved.stop_signal == 15


def test_a_second_signal_leaves_no_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = threading.Event()
    codes = []

    def end(code):
        codes.append(code)
        ended.set()

    monkeypatch.setattr(guards.os, "_exit", end)
    with own_temporary_folder():
        own = Path(tempfile.tempdir)
        with stop_signals(lambda _: None):
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            assert ended.wait(10)
            assert not own.exists()
    assert codes == [143]
