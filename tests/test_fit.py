"""Training as a whole: it learns, it stops, it goes on exactly."""

import csv
import json

import keras
import numpy as np
import pytest
from moving_squares import SquaresStore, squares_manifest

from har_keras.cli import Interrupted
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.run import Run
from har_keras.training import callbacks
from har_keras.training.fit import fit

CONFIG = Config().replace(
    crop_size=32,
    num_frames=8,
    hidden_dim=16,
    num_layers=1,
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


def history_of(run):
    return list(csv.DictReader(run.history_file.read_text().splitlines()))


def last_weights(run):
    """Returns the variables of the newest checkpoint, by name."""
    newest = sorted(run.checkpoint_dir.iterdir())[-1]
    with np.load(newest) as arrays:
        return {name: arrays[name] for name in arrays if name != "state"}


def assert_same_weights(first, second):
    first, second = last_weights(first), last_weights(second)
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    return train(tmp_path_factory.mktemp("fit") / "whole")


def test_it_learns_the_direction_of_motion(tmp_path):
    config = CONFIG.replace(epochs=25, augment="none", dropout_rate=0.0)
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
    whole, tmp_path, stop_after, monkeypatch
):
    steps = 0
    after_batch = callbacks.Checkpoints.on_train_batch_end

    def stop(self, batch, logs=None):
        nonlocal steps
        steps += 1
        if steps == stop_after:
            self.interrupt(15, None)
        after_batch(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_train_batch_end", stop)
        with pytest.raises(Interrupted):
            train(tmp_path / "run")
    run = train(tmp_path / "run")
    assert_same_weights(whole, run)
    rows = [
        {key: row[key] for key in row if key != "seconds"}
        for row in history_of(run)
    ]
    expected = [
        {key: row[key] for key in row if key != "seconds"}
        for row in history_of(whole)
    ]
    assert rows == expected


def test_other_options_are_refused(whole, tmp_path):
    manifest = squares_manifest(
        whole.path, num_videos=20, splits=("train", "val")
    )
    store = SquaresStore(CONFIG.clip)
    with pytest.raises(UsageError, match="other options or other videos"):
        fit(whole, CONFIG.replace(seed=1), store, manifest)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    config = CONFIG.replace(learning_rate=1e30)
    with pytest.raises(DataError, match="Try a lower --learning-rate"):
        train(tmp_path / "run", config)


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    config = CONFIG.replace(epochs=1, wandb="offline")
    run = new_run(tmp_path / "run", config)
    manifest = squares_manifest(tmp_path, num_videos=8, splits=("train", "val"))
    log = fit(run, config, SquaresStore(config.clip), manifest)
    log.finish({"test_accuracy": 0.5}, {"curves": run.curves_file})
    assert list(run.wandb_dir.glob("offline-run-*/run-*.wandb"))
    newest = sorted(run.checkpoint_dir.iterdir())[-1]
    with np.load(newest) as arrays:
        state = json.loads(arrays["state"].tobytes())
    assert state["wandb_id"]
