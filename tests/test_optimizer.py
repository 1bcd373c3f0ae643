import keras
import numpy as np
import pytest

from har_keras.config import TrainingConfig
from har_keras.model.vit import VideoViT
from har_keras.training.optimizer import build_optimizer


def rates(steps_per_epoch=10, **options):
    optimizer = build_optimizer(TrainingConfig(**options), steps_per_epoch)
    found = []
    for step in range(31):
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return np.array(found)


def test_a_constant_rate_can_be_set_by_a_callback():
    optimizer = build_optimizer(TrainingConfig(), 10)
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    assert optimizer.weight_decay == TrainingConfig().weight_decay
    optimizer.learning_rate = 0.5
    assert float(optimizer.learning_rate) == 0.5


def test_warm_up_rises_in_a_line_and_stays():
    found = rates(epochs=3, warmup_epochs=1)
    np.testing.assert_allclose(found[:11], np.linspace(0, 1e-3, 11), atol=1e-9)
    np.testing.assert_allclose(found[10:], 1e-3)


def test_a_cosine_ends_at_zero():
    found = rates(epochs=3, schedule="cosine")
    steps = np.arange(31)
    expected = 1e-3 * (1 + np.cos(np.pi * steps / 30)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_warm_up_and_cosine_meet_at_the_peak():
    found = rates(epochs=3, schedule="cosine", warmup_epochs=0.5)
    assert found.argmax() == 5
    assert found[5] == pytest.approx(1e-3)
    assert found[30] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_weight_decay_is_for_kernels_alone(pooling):
    model = VideoViT(3, 4, 32, num_layers=2, pooling=pooling, seed=0)
    model.build()
    for weight in model.trainable_variables:
        weight.assign(np.ones(weight.shape))
    options = TrainingConfig(learning_rate=0.5, weight_decay=0.1)
    optimizer = build_optimizer(options, 1)
    variables = model.trainable_variables
    optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    for weight in variables:
        value = keras.ops.convert_to_numpy(weight)
        kept = 0.95 if weight.name == "kernel" else 1.0
        np.testing.assert_allclose(value, kept, rtol=1e-6)
    names = {weight.name for weight in variables}
    known = {"kernel", "bias", "gamma", "beta", "positions"}
    assert names - {"class_token"} == known


def test_layers_near_the_pixels_change_less():
    model = VideoViT(3, num_frames=2, crop_size=16, num_layers=2, seed=0)
    model.build()
    training = TrainingConfig(layer_decay=0.5, weight_decay=0.0)
    optimizer = build_optimizer(training, 10)
    variables = model.trainable_variables
    optimizer.build(variables)
    before = [keras.ops.convert_to_numpy(v.value) for v in variables]
    # Adam's first step is the rate itself, whatever the gradient.
    gradients = [keras.ops.ones_like(v.value) for v in variables]
    optimizer.apply(gradients, variables)
    expected = {"embedding": 3, "positions": 3, "block_0": 2, "block_1": 1}
    for variable, old in zip(variables, before, strict=True):
        change = old - keras.ops.convert_to_numpy(variable.value)
        layer = variable.path.split("/")[1]
        rate = 1e-3 * 0.5 ** expected.get(layer, 0)
        np.testing.assert_allclose(change, rate, rtol=1e-2, err_msg=layer)
    assert {v.path.split("/")[1] for v in variables} == {
        *expected, "norm", "head",
    }  # fmt: skip


def test_a_layerwise_optimizer_is_saved_with_its_decay():
    optimizer = build_optimizer(TrainingConfig(layer_decay=0.7), 10)
    config = keras.saving.serialize_keras_object(optimizer)
    loaded = keras.saving.deserialize_keras_object(config)
    assert loaded.layer_decay == 0.7
