import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from har_keras.config import TrainingConfig
from har_keras.model.vit import VideoViT
from har_keras.training.trainer import (
    TOKENS_AT_ONCE,
    Trainer,
    build_loss,
    build_trainer,
    micro_batch_size,
)

RNG = np.random.default_rng(3)
CLIPS = RNG.integers(0, 256, (13, 4, 32, 32, 3), dtype="uint8")
LABELS = RNG.integers(0, 3, 13).astype("int32")
WEIGHTS = RNG.uniform(0, 2, 13).astype("float32")
SHARES = RNG.dirichlet([0.5] * 3, 13).astype("float32")
# XLA is slow to compile; without it JAX compiles every operation by itself.
XLA = keras.config.backend() == "jax"
TOKENS = TOKENS_AT_ONCE[keras.config.backend()]


def small_model(**changes):
    options = {
        "num_frames": 4, "crop_size": 32, "hidden_dim": 8, "num_layers": 1,
        "num_heads": 2, "mlp_dim": 8, "seed": 1,
    }  # fmt: skip
    model = VideoViT(3, **options | changes)
    model.build()
    return model


def small_trainer(model=None, xla=False, eager=True, **options):
    """Returns a trainer; tracing takes longer than a few steps without it."""
    options = {"weight_decay": 0.0, "epochs": 2} | options
    model = model or small_model()
    trainer = build_trainer(model, TrainingConfig(**options), 2)
    if keras.config.backend() == "tensorflow" and xla is not None:
        trainer.jit_compile = xla
        trainer.run_eagerly = eager and not xla
    return trainer


def batches(size, *arrays):
    """Yields batches as `fit` wants them, from any backend."""
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays).batch(size)


def fitted(micro, size=8, arrays=(CLIPS, LABELS), epochs=2, **changes):
    """Returns weights and history after training on batches of 8 and 5."""
    trainer = small_trainer(micro_batch_size=micro, **changes)
    history = trainer.fit(
        batches(size, *arrays), epochs=epochs, verbose=0, shuffle=False
    )
    return trainer.get_weights(), history.history


@pytest.fixture(scope="module")
def whole():
    return fitted(-1, eager=False)


@pytest.mark.parametrize(
    ("micro", "xla"), [(1, False), (2, False), (3, True), (20, False)]
)
def test_micro_batches_train_as_the_whole_batch_does(micro, xla, whole):
    # XLA rounds otherwise: it is compared with itself, in one batch.
    size = len(CLIPS) if xla else 8
    whole = fitted(-1, size, xla=True) if xla else whole
    weights, history = fitted(micro, size, xla=xla)
    for a, b in zip(weights, whole[0], strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    np.testing.assert_allclose(history["loss"], whole[1]["loss"], atol=1e-5)
    assert history["accuracy"] == pytest.approx(whole[1]["accuracy"])


def gradient_of(micro, arrays, **options):
    """Returns what plain descent at rate 1 takes off the weights."""
    mixed = arrays[1].ndim == 2
    options = {"mixup": float(mixed)} | options
    trainer = small_trainer(micro_batch_size=micro, **options)
    loss = build_loss(mixed=mixed)
    trainer.compile(keras.optimizers.SGD(1.0), loss, jit_compile=XLA)
    before = trainer.get_weights()
    trainer.fit(batches(len(CLIPS), *arrays), verbose=0, shuffle=False)
    return [a - b for a, b in zip(before, trainer.get_weights(), strict=True)]


@pytest.mark.parametrize(
    "arrays",
    [
        (CLIPS, LABELS),
        (CLIPS, LABELS, WEIGHTS),
        (CLIPS, SHARES),
        (CLIPS, SHARES, WEIGHTS),
    ],
)
def test_the_gradient_is_the_one_of_keras(arrays):
    model = small_model()
    plain = Trainer(model, None)
    loss = build_loss(mixed=arrays[1].ndim == 2)
    # What is compared with is not traced, which takes longer than to run it.
    plain.compile(
        keras.optimizers.SGD(1.0), loss, jit_compile=XLA, run_eagerly=not XLA
    )
    before = plain.get_weights()
    step = super(Trainer, plain).train_step
    object.__setattr__(plain, "train_step", step)
    plain.fit(batches(len(CLIPS), *arrays), verbose=0, shuffle=False)
    expected = [a - b for a, b in zip(before, plain.get_weights(), strict=True)]
    for micro in (-1, 4):
        found = gradient_of(micro, arrays)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert max(np.abs(x).max() for x in expected) > 1e-2


def test_the_loss_of_an_epoch_is_the_mean_over_clips():
    trainer = small_trainer(micro_batch_size=3, learning_rate=1e-12)
    history = trainer.fit(
        batches(8, CLIPS, LABELS), verbose=0, shuffle=False
    ).history
    logits = ops.convert_to_numpy(trainer.classifier.logits(CLIPS))
    loss = keras.losses.sparse_categorical_crossentropy(
        LABELS, logits, from_logits=True
    )
    expected = ops.convert_to_numpy(loss).mean()
    assert history["loss"] == [pytest.approx(expected, abs=1e-5)]
    right = (logits.argmax(-1) == LABELS).mean()
    assert history["accuracy"] == [pytest.approx(right)]
    result = trainer.evaluate(
        batches(8, CLIPS, LABELS), verbose=0, return_dict=True
    )
    assert result["loss"] == pytest.approx(expected, abs=1e-5)


def test_a_confident_mistake_still_has_a_gradient():
    model = small_model()
    model.head.bias.assign([200.0, 0.0, 0.0])
    trainer = small_trainer(model, micro_batch_size=4, learning_rate=0.5)
    labels = np.full(13, 1, "int32")
    history = trainer.fit(batches(13, CLIPS, labels), verbose=0, shuffle=False)
    assert history.history["loss"][0] == pytest.approx(200, abs=2)
    bias = ops.convert_to_numpy(model.head.bias)
    np.testing.assert_allclose(bias[:2], [199.5, 0.5], atol=1e-3)


def test_dropout_draws_anew_in_every_micro_batch():
    model = small_model(dropout_rate=0.5)
    trainer = small_trainer(model, micro_batch_size=1, learning_rate=0.01)
    clips = np.repeat(CLIPS[:1], 8, axis=0)
    seeds = [v for v in model.variables if "seed" in v.name]
    before = [ops.convert_to_numpy(v) for v in seeds]
    trainer.fit(batches(8, clips, LABELS[:8]), verbose=0, shuffle=False)
    for a, b in zip(before, seeds, strict=True):
        assert (ops.convert_to_numpy(b) != a).any()


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="only TensorFlow computes halves",
)
def test_both_halves_draw_as_if_one_came_after_the_other():
    """The same weights each time; and the count of what was drawn goes on."""
    found = []
    for _ in range(2):
        model = small_model(dropout_rate=0.5)
        trainer = small_trainer(model, xla=True, micro_batch_size=2)
        assert trainer.runs_in_halves
        states = [v for v in model.variables if "seed" in v.name]
        before = [int(ops.convert_to_numpy(state)[1]) for state in states]
        trainer.fit(
            batches(13, CLIPS, LABELS), epochs=1, verbose=0, shuffle=False
        )
        after = [int(ops.convert_to_numpy(state)[1]) for state in states]
        # Eight micro-batches of two, one of them padding.
        assert {b - a for a, b in zip(before, after, strict=True)} == {8 * 64}
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="PyTorch traces nothing"
)
def test_a_short_last_batch_is_traced_once():
    trainer = build_trainer(
        small_model(), TrainingConfig(micro_batch_size=2), 2
    )
    assert trainer.jit_compile is True
    trainer.jit_compile = XLA  # what is traced is the same
    calls = []
    step = trainer.train_step

    def counted(*args):
        calls.append(len(calls))
        return step(*args)

    object.__setattr__(trainer, "train_step", counted)
    data = batches(8, CLIPS, LABELS)
    trainer.fit(data, epochs=4, verbose=0, shuffle=False)
    assert len(calls) <= 2


def test_label_smoothing_equals_its_formula():
    logits = RNG.normal(size=(4, 3)).astype("float32")
    labels = np.array([0, 2, 1, 1])
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    targets = np.eye(3)[labels] * 0.7 + 0.1
    expected = -(targets * np.log(shares)).sum(-1)
    found = build_loss(0.3)(labels, ops.convert_to_tensor(logits))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-5)
    _, history = fitted(3, label_smoothing=0.3)
    assert np.isfinite(history["loss"]).all()


def test_what_is_saved_is_the_classifier(tmp_path):
    trainer = small_trainer()
    trainer.fit(batches(8, CLIPS, LABELS), verbose=0, shuffle=False)
    trainer.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, VideoViT)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded(CLIPS)),
        ops.convert_to_numpy(trainer.classifier(CLIPS)),
    )


def test_micro_batches_of_no_clips_are_refused():
    with pytest.raises(ValueError, match="micro_batch_size=0"):
        Trainer(small_model(), 0)


@pytest.mark.parametrize(
    ("requested", "tokens", "accelerated", "expected"),
    [
        (0, 392, False, TOKENS // 392),
        (0, 196, False, TOKENS // 196),
        (0, 50_000, False, 1),
        (0, 392, True, None),
        (-1, 392, False, None),
        (16, 1568, True, 16),
    ],
)
def test_size_of_micro_batches(requested, tokens, accelerated, expected):
    found = micro_batch_size(
        requested, num_tokens=tokens, accelerated=accelerated
    )
    assert found == expected


TWO_REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)
from test_trainer import CLIPS, LABELS, batches, small_trainer
for micro in (-1, 3):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        trainer = small_trainer(micro_batch_size=micro, xla=None)
    assert trainer.jit_compile is False
    data = batches(8, CLIPS, LABELS)
    history = trainer.fit(data, epochs=2, verbose=0, shuffle=False).history
    trainer.evaluate(data, verbose=0)
    file = f"{sys.argv[1]}/{micro}.npz"
    np.savez(file, *trainer.get_weights(), loss=history["loss"])
"""


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute"
)
def test_two_replicas_train_as_one_device_does(whole, tmp_path):
    subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS, str(tmp_path)],
        cwd=Path(__file__).parent,
        check=True,
        timeout=300,
    )
    files = sorted(tmp_path.glob("*.npz"))
    assert len(files) == 2
    for file in files:
        found = dict(np.load(file))
        loss = found.pop("loss")
        np.testing.assert_allclose(loss, whole[1]["loss"], atol=1e-5)
        for a, b in zip(found.values(), whole[0], strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
