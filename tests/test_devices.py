"""Several devices give what one does: weights, figures and curves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from har_keras.errors import UsageError
from har_keras.training.devices import chosen_devices

# 21 clips in batches of 8: the last has 5, and 3 + 2 for two devices.
TRAIN = """
import json
import sys
from pathlib import Path
backend, devices, folder = sys.argv[1:]
import os
os.environ["KERAS_BACKEND"] = backend
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import numpy as np
if backend == "tensorflow":
    import tensorflow as tf
    one = tf.config.LogicalDeviceConfiguration()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [one, one])
import keras
from support.moving_squares import SquaresStore, squares_manifest
from har_keras.config import Config
from har_keras.run import Run
from har_keras.training.fit import fit
config = Config().replace(
    num_frames=4, crop_size=16, hidden_dim=8, num_heads=2, num_layers=1,
    mlp_dim=16, batch_size=8, micro_batch_size=int(os.environ["MICRO"]),
    epochs=3, wandb="off", devices=devices,
    **json.loads(os.environ["OPTIONS"]),
)
run = Run(Path(folder))
run.create(config)
manifest = squares_manifest(
    run.path, num_videos=int(os.environ["CLIPS"]), splits=("train", "val")
)
fit(run, config, SquaresStore(config.clip), manifest)
"""


# What recipes add to the plain one and is no dropout, which each device draws
# for itself.
RECIPE = {
    "mixup": 0.4, "label_smoothing": 0.1, "layer_decay": 0.8,
    "balance": "weights", "schedule": "cosine", "warmup_epochs": 1.0,
    "stem": "gradients", "weight_decay": 0.05,
}  # fmt: skip


def train(folder, backend, devices, *, clips=21, micro=4, options=None):
    environment = {
        "CLIPS": str(clips),
        "MICRO": str(micro),
        "OPTIONS": json.dumps(options or {}),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), str(Path(__file__).parents[1])]
        ),
    }
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, backend, devices, str(folder)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folder.with_suffix(".txt").write_text(done.stderr)
    newest = sorted((folder / "checkpoint").glob("*.npz"))[-1]
    with np.load(newest) as arrays:
        weights = {x: arrays[x] for x in arrays if x.startswith("model/")}
        state = json.loads(arrays["state"].tobytes())
    return weights, state["history"]


def assert_same(one, two):
    for before, after in zip(one[1], two[1], strict=True):
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert after[name] == pytest.approx(before[name], abs=1e-4), name
    for name, value in one[0].items():
        np.testing.assert_allclose(two[0][name], value, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "clips", "micro"),
    [
        pytest.param("tensorflow", 21, 4, id="unequal halves"),
        pytest.param("tensorflow", 17, 4, id="a device without a clip"),
        pytest.param("tensorflow", 17, -1, id="whole batches"),
        pytest.param("jax", 24, 4, id="jax"),
        pytest.param("jax", 22, -1, id="jax, last batch smaller"),
    ],
)
def test_two_devices_are_one(tmp_path, backend, clips, micro):
    pytest.importorskip(backend, reason=f"needs the extra {backend}")
    shape = {"clips": clips, "micro": micro}
    one = train(tmp_path / "one", backend, "cpu:0", **shape)
    two = train(tmp_path / "two", backend, "cpu:0,cpu:1", **shape)
    assert_same(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "clips"), [("tensorflow", 21), ("jax", 22)]
)
def test_two_devices_are_one_under_a_recipe(tmp_path, backend, clips):
    pytest.importorskip(backend, reason=f"needs the extra {backend}")
    shape = {"clips": clips, "options": RECIPE}
    one = train(tmp_path / "one", backend, "cpu:0", **shape)
    two = train(tmp_path / "two", backend, "cpu:0,cpu:1", **shape)
    plain = train(tmp_path / "plain", backend, "cpu:0", clips=clips)
    assert_same(one, two)
    assert one[1][-1]["loss"] != pytest.approx(plain[1][-1]["loss"], abs=1e-3)


@pytest.mark.slow
def test_clips_that_jax_cannot_share_are_told(tmp_path):
    pytest.importorskip("jax", reason="needs the extra jax")
    folder, devices = tmp_path / "two", "cpu:0,cpu:1"
    one_each = {"clips_per_video": 1}  # by length each would give two
    _, history = train(folder, "jax", devices, clips=21, options=one_each)
    assert len(history) == 3
    said = (tmp_path / "two.txt").read_text()
    assert "1 of 21 training clips left out of each epoch" in said


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="there is no 'gpu:7' on"):
        chosen_devices("gpu:7")


def test_a_device_named_twice_is_refused():
    with pytest.raises(UsageError, match="names one twice"):
        chosen_devices("cpu:0,cpu:0")
