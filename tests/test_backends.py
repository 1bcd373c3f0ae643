"""TensorFlow, JAX and PyTorch give one answer."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ["tensorflow", "jax", "torch"]

STEP = """
import sys
import keras
import numpy as np
from har_keras.config import Config
from har_keras.model.build import build_model
from har_keras.training.trainer import build_trainer

folder, backend = sys.argv[1:]
config = Config().replace(
    num_frames=4, crop_size=32, num_layers=2, pooling="class_token",
    micro_batch_size=2, learning_rate=1e-3,
)
if backend == "tensorflow":
    model = build_model(config.model, config.clip, num_classes=3, seed=1)
    model.save(f"{folder}/first.keras")
model = keras.saving.load_model(f"{folder}/first.keras")
with np.load(f"{folder}/batch.npz") as batch:
    clips, labels = batch["clips"], batch["labels"]
logits = keras.ops.convert_to_numpy(model.logits(clips))
trainer = build_trainer(model, config.training, 1)
# One step as a batch of five; the clips of fit are shuffled by nobody.
trainer.fit(clips, labels, batch_size=5, shuffle=False, verbose=0)
model.save(f"{folder}/{backend}.keras")
np.savez(f"{folder}/{backend}.npz", *model.get_weights(), logits=logits)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Steps of every installed backend from the same file."""
    if not any(importlib.util.find_spec(name) for name in BACKENDS[1:]):
        pytest.skip("needs the extra jax or torch")
    folder = tmp_path_factory.mktemp("backends")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "batch.npz",
        clips=rng.integers(0, 256, (5, 4, 32, 32, 3), dtype="uint8"),
        labels=np.array([0, 1, 2, 1, 0]),
    )
    for backend in BACKENDS:
        if importlib.util.find_spec(backend):
            subprocess.run(
                [sys.executable, "-c", STEP, str(folder), backend],
                env=os.environ | {"KERAS_BACKEND": backend},
                cwd=Path(__file__).parents[1],
                check=True,
                timeout=600,
            )
    return folder


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_one_file_one_answer_and_one_step(backend, folder):
    pytest.importorskip(backend, reason=f"needs the extra {backend}")
    expected = dict(np.load(folder / "tensorflow.npz"))
    found = dict(np.load(folder / f"{backend}.npz"))
    np.testing.assert_allclose(
        found.pop("logits"), expected.pop("logits"), atol=1e-5
    )
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_file_moves_back(backend, folder):
    pytest.importorskip(backend, reason=f"needs the extra {backend}")
    import keras

    import har_keras.model.build  # noqa: F401

    model = keras.saving.load_model(folder / f"{backend}.keras")
    found = dict(np.load(folder / f"{backend}.npz"))
    del found["logits"]
    for ours, theirs in zip(model.get_weights(), found.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
