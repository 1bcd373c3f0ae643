import keras
import numpy as np
import pytest
from keras import ops

from har_keras.config import Config, TrainingConfig
from har_keras.model.build import build_model
from har_keras.training.trainer import build_trainer

CLIPS = np.random.default_rng(0).integers(
    0, 256, (5, 4, 32, 32, 3), dtype="uint8"
)
LABELS = np.array([0, 1, 2, 1, 0])
# XLA is slow to compile; without it JAX compiles every operation by itself.
XLA = keras.config.backend() == "jax"


def small_model(name, **options):
    config = Config().replace(
        model=name, num_frames=4, crop_size=32, num_layers=1, **options
    )
    return build_model(config.model, config.clip, num_classes=3)


@pytest.mark.parametrize("name", ["frame-vit", "cnn3d"])
def test_a_baseline_does_what_the_transformer_does(name, tmp_path):
    model = small_model(name)
    y = ops.convert_to_numpy(model(CLIPS))
    np.testing.assert_allclose(y.sum(-1), 1, atol=1e-6)
    logits = ops.convert_to_numpy(model.logits(CLIPS))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(y, shares, atol=1e-6)

    config = model.get_config()
    assert type(model).from_config(config).get_config() == config
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(CLIPS)), y)

    half = small_model(name, precision="bfloat16")
    y = half(CLIPS)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert half.num_tokens == model.num_tokens == 8


@pytest.mark.parametrize("name", ["frame-vit", "cnn3d"])
def test_a_baseline_trains_in_micro_batches_as_in_one(name):
    weights = []
    for micro in (-1, 2):
        options = TrainingConfig(micro_batch_size=micro, learning_rate=1e-3)
        trainer = build_trainer(small_model(name), options, 1)
        sgd = keras.optimizers.SGD(0.1)
        trainer.compile(sgd, trainer.loss, jit_compile=XLA)
        before = trainer.get_weights()
        trainer.fit(CLIPS, LABELS, batch_size=5, verbose=0)
        weights.append(trainer.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert any((a != b).any() for a, b in zip(before, weights[0], strict=True))


def test_frames_in_another_order_are_the_same_to_the_frame_model():
    model = small_model("frame-vit")
    shuffled = CLIPS[:, [2, 1, 0, 3]]  # the frames read are 0 and 2
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(CLIPS)),
        ops.convert_to_numpy(model(shuffled)),
        atol=1e-6,
    )
    other = CLIPS[:, [1, 1, 2, 3]]
    difference = model.logits(CLIPS) - model.logits(other)
    assert np.abs(ops.convert_to_numpy(difference)).max() > 1e-5
