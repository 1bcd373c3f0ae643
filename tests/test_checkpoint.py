import hashlib
import io
import json
import os

import keras
import numpy as np
import pytest

from har_keras.errors import DataError, EnvironmentFault
from har_keras.training import checkpoint
from har_keras.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def model():
    """A model with dropout, so that the state of its seed matters."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(2),
        ]
    )
    model.compile("adamw", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def take_steps(model, number):
    x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    for _ in range(number):
        model.train_on_batch(x, x[:, :2])


def weights_of(model):
    return np.concatenate([w.ravel() for w in model.get_weights()])


def test_steps_after_a_restore_are_the_same_steps(model, tmp_path):
    take_steps(model, 3)
    save_checkpoint(tmp_path, model, TrainingState(epoch=1, step=3))
    take_steps(model, 4)
    uninterrupted = weights_of(model)
    state = load_checkpoint(tmp_path, model)
    take_steps(model, 4)
    assert (state.epoch, state.step) == (1, 3)
    np.testing.assert_array_equal(weights_of(model), uninterrupted)


def test_the_state_comes_back_whole(model, tmp_path):
    state = TrainingState(
        epoch=2,
        step=1,
        history=[{"epoch": 1, "loss": 0.5}],
        best={"val_accuracy": 0.7},
        fingerprint="abc",
        wandb_id="xyz",
    )
    save_checkpoint(tmp_path, model, state)
    assert load_checkpoint(tmp_path, model) == state


def test_two_are_kept(model, tmp_path):
    for step in range(5):
        save_checkpoint(tmp_path, model, TrainingState(step=step))
    kept = sorted(path.name[:12] for path in tmp_path.iterdir())
    assert kept == ["00000-000003", "00000-000004"]


def damaged(data):
    yield "empty", b""
    yield "truncated", data[: len(data) // 2]
    yield "zeroed", data[:100] + bytes(200) + data[300:]
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 1
    yield "one bit flipped", bytes(flipped)


def test_a_damaged_newest_falls_back_to_the_older(model, tmp_path, caplog):
    save_checkpoint(tmp_path, model, TrainingState(step=1))
    newest = save_checkpoint(tmp_path, model, TrainingState(step=2))
    for name, data in damaged(newest.read_bytes()):
        newest.write_bytes(data)
        assert load_checkpoint(tmp_path, model).step == 1, name
        assert newest.name in caplog.text


def test_nothing_usable_is_said_in_words(model, tmp_path):
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_checkpoint(tmp_path, model)
    save_checkpoint(tmp_path, model, TrainingState()).write_bytes(b"")
    with pytest.raises(DataError, match="no usable checkpoint"):
        load_checkpoint(tmp_path, model)


def test_another_model_is_refused(model, tmp_path):
    save_checkpoint(tmp_path, model, TrainingState())
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.compile("adamw", "mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(DataError, match="other variables"):
        load_checkpoint(tmp_path, other)


def rewritten(file, change):
    """Writes a checkpoint anew, under the name of its new content."""
    with np.load(file) as arrays:
        held = dict(arrays)
    state = json.loads(held.pop("state").tobytes())
    change(held, state)
    held["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, **held)
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    file.unlink()
    file.with_name(f"00009-000000-{digest}.npz").write_bytes(content.getvalue())


ARRAYS = {
    "another shape": np.zeros((4, 7), "float32"),
    "a number": np.float32(1),
    "texts": np.array([["x"] * 8] * 4),
    "an object": np.array([[{}] * 8] * 4),
    "complex": np.zeros((4, 8), "complex64"),
    "not finite": np.full((4, 8), np.nan, "float32"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_of_another_kind_is_refused(kind, model, tmp_path):
    before = weights_of(model)
    file = save_checkpoint(tmp_path, model, TrainingState())
    rewritten(file, lambda held, _: held.update({"model/0000": ARRAYS[kind]}))
    with pytest.raises(DataError, match=r"other variables|is damaged"):
        load_checkpoint(tmp_path, model)
    np.testing.assert_array_equal(weights_of(model), before)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "x"), ("epoch", -5), ("epoch", None), ("epoch", 1.5),
        ("step", -1), ("step", True), ("micro_batch_size", "x"),
        ("history", "x"), ("history", [1]), ("history", {}),
        ("history", [{"loss": "x"}]), ("history", None), ("best", [1]),
        ("best", {"val_loss": "x"}), ("fingerprint", None), ("wandb_id", 5),
    ],
)  # fmt: skip
def test_a_state_of_another_kind_is_refused(name, value, model, tmp_path):
    file = save_checkpoint(tmp_path, model, TrainingState())
    rewritten(file, lambda _, state: state.update({name: value}))
    with pytest.raises(DataError, match="is damaged"):
        load_checkpoint(tmp_path, model)


def test_a_link_to_another_folder_is_refused_and_that_is_kept(model, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "123.npz").write_text("mine")
    (tmp_path / "checkpoint").symlink_to(other)
    with pytest.raises(DataError, match="is a link"):
        load_checkpoint(tmp_path / "checkpoint", model)
    for step in range(3):
        save_checkpoint(other, model, TrainingState(step=step))
    assert (other / "123.npz").read_text() == "mine"


def test_a_compressed_checkpoint_is_refused(model, tmp_path):
    """A few kilobytes could be gigabytes in memory."""
    file = save_checkpoint(tmp_path, model, TrainingState())
    with np.load(file) as arrays:
        held = dict(arrays) | {"model/0000": np.zeros(10**6, "float32")}
    content = io.BytesIO()
    np.savez_compressed(content, **held)
    digest = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    file.unlink()
    file.with_name(f"00009-000000-{digest}.npz").write_bytes(content.getvalue())
    with pytest.raises(DataError, match="is damaged"):
        load_checkpoint(tmp_path, model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_among_checkpoints_is_not_waited_for(model, tmp_path):
    save_checkpoint(tmp_path, model, TrainingState(step=3))
    os.mkfifo(tmp_path / "99999-000000-0123456789abcdef.npz")
    assert load_checkpoint(tmp_path, model).step == 3


def test_a_full_disk_keeps_the_last_checkpoint(model, tmp_path, monkeypatch):
    save_checkpoint(tmp_path, model, TrainingState(step=1))

    def no_space(path, data):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.Path, "write_bytes", no_space)
    with pytest.raises(EnvironmentFault, match="disk is full"):
        save_checkpoint(tmp_path, model, TrainingState(step=2))
    assert load_checkpoint(tmp_path, model).step == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_after_a_damaged_one_takes_its_place(model, tmp_path):
    for step in (1, 9):
        newest = save_checkpoint(tmp_path, model, TrainingState(step=step))
    newest.write_bytes(b"")
    load_checkpoint(tmp_path, model)
    save_checkpoint(tmp_path, model, TrainingState(step=2))
    kept = sorted(path.name[:12] for path in tmp_path.iterdir())
    assert kept == ["00000-000001", "00000-000002"]


def test_what_a_kill_left_half_written_is_removed(model, tmp_path):
    save_checkpoint(tmp_path, model, TrainingState())
    half = tmp_path / ".0123abcd-00000-000007-0011223344556677.npz"
    half.write_bytes(b"half")
    mine = tmp_path / ".mine-notes"
    mine.touch()
    load_checkpoint(tmp_path, model)
    assert not half.exists()
    assert mine.exists()
