import keras
import numpy as np
import pytest

from har_keras.config import Config
from har_keras.training.trainer import build_accuracy, build_loss, build_trainer

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 3)).astype("float32")
LABELS = np.array([0, 2, 1, 1, 0, 2], "int32")


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


def cross_entropy(shares):
    log_sum = np.log(np.exp(LOGITS).sum(1, keepdims=True))
    return (shares * (log_sum - LOGITS)).sum(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_whole_share_is_the_label(smoothing):
    loss = build_loss(smoothing, mixed=True)
    of_labels = value(loss(LABELS, LOGITS))
    of_shares = value(loss(np.eye(3, dtype="float32")[LABELS], LOGITS))
    np.testing.assert_allclose(of_labels, of_shares)
    plain = value(build_loss(smoothing)(LABELS, LOGITS))
    assert plain.mean() == pytest.approx(of_labels.mean(), rel=1e-6)


def test_the_loss_of_shares_is_shared():
    shares = RNG.dirichlet([1, 1, 1], 6).astype("float32")
    found = value(build_loss(mixed=True)(shares, LOGITS))
    np.testing.assert_allclose(found, cross_entropy(shares), rtol=1e-5)


def test_without_mixing_loss_and_metric_are_those_of_keras():
    loss, accuracy = build_loss(), build_accuracy()
    assert isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    assert isinstance(accuracy, keras.metrics.SparseCategoricalAccuracy)


def test_accuracy_counts_the_larger_share():
    accuracy = build_accuracy(mixed=True)
    shares = np.array([[0.6, 0.4, 0], [0.3, 0.7, 0]], "float32")
    logits = np.array([[9, 1, 0], [9, 1, 0]], "float32")
    accuracy.update_state(shares, logits)
    assert value(accuracy.result()) == pytest.approx(0.5)
    # Validation goes on with labels.
    accuracy.update_state(np.array([0, 0], "int32"), logits)
    assert value(accuracy.result()) == pytest.approx(0.75)


def test_a_trainer_is_made_for_the_labels_it_gets():
    class Linear(keras.layers.Layer):
        num_tokens = 1

    for changes, mixed in (({}, False), ({"cutmix": 1.0}, True)):
        training = Config().replace(**changes).training
        trainer = build_trainer(Linear(), training, 1)
        is_sparse = isinstance(
            trainer.loss, keras.losses.SparseCategoricalCrossentropy
        )
        assert is_sparse is not mixed
