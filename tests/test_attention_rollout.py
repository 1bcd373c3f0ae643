import errno
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from support.videos import moving_square

from har_keras.errors import EnvironmentFault, UsageError
from har_keras.inference import attention_rollout as rollout
from har_keras.model.baselines import CNN3D
from har_keras.model.vit import VideoViT
from har_keras.report import attention_video

FORMS = ("joint", "factorised", "divided")


def model(attention="joint", pooling="mean", **options):
    made = VideoViT(
        num_classes=2, num_frames=6, crop_size=32, patch_size=16, hidden_dim=8,
        num_layers=2, num_heads=2, mlp_dim=8, seed=0, attention=attention,
        pooling=pooling, **options,
    )  # fmt: skip
    made(np.zeros((1, 6, 32, 32, 3), np.uint8))
    rng = np.random.default_rng(0)
    made.set_weights([rng.normal(0, 0.5, w.shape) for w in made.get_weights()])
    return made


def clips(number=2):
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (number, 6, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
@pytest.mark.parametrize("attention", FORMS)
def test_rows_sum_to_one(attention, pooling):
    made = model(attention, pooling)
    first = int(pooling == "class_token")
    for weights in rollout._weights(made, clips(1)):
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-9)
    if attention == "divided":
        time, space = rollout._weights(made, clips(1))[:2]
        for whole in (
            rollout.along_time(time, first),
            rollout.within_frames(space, first),
        ):
            assert whole.shape == (1, first + 12, first + 12)
            np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-9)
    shares = rollout.attention_rollout(made, clips())
    assert shares.shape == (2, 3, 2, 2)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum((1, 2, 3)), 1, atol=1e-9)


@pytest.mark.parametrize("key_bias", [True, False])
def test_the_weights_are_those_that_the_layer_uses(key_bias):
    made = model(key_bias=key_bias)
    with rollout._recorded(made) as calls:
        made.features(clips())
    assert len(calls) == 2
    layer, x = calls[0]
    expected = keras.ops.convert_to_numpy(layer(x))
    query, key, value = rollout.heads(layer, x)
    scores = np.exp(query @ key.swapaxes(-1, -2) / 2)  # heads are 4 wide
    weights = scores / scores.sum(-1, keepdims=True)
    np.testing.assert_allclose(
        rollout.attention_weights(layer, x), weights.mean(1), atol=1e-9
    )
    read = (weights @ value).transpose(0, 2, 1, 3).reshape(2, 12, 8)
    found = keras.ops.convert_to_numpy(layer.output_dense(read))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_watching_leaves_the_model_as_it_was():
    made = model()
    before = np.asarray(made.predict_on_batch(clips()))
    rollout.attention_rollout(made, clips())
    np.testing.assert_array_equal(made.predict_on_batch(clips()), before)
    assert all("call" not in vars(block.attention) for block in made.blocks)


def test_divided_attention_keeps_to_its_axis():
    rng = np.random.default_rng(0)
    time = rng.dirichlet(np.ones(3), (4, 3))  # 4 places, 3 times
    whole = rollout.along_time(time, 0)[0].reshape(3, 4, 3, 4)
    for place in range(4):
        np.testing.assert_allclose(whole[:, place, :, place], time[place])
    assert whole.sum() == pytest.approx(12)
    space = rng.dirichlet(np.ones(4), (3, 4))
    whole = rollout.within_frames(space, 0)[0].reshape(3, 4, 3, 4)
    for frame in range(3):
        np.testing.assert_allclose(whole[frame, :, frame], space[frame])
    assert whole.sum() == pytest.approx(12)


def test_a_token_that_all_layers_read_has_the_largest_share():
    weights = np.full((1, 4, 4), 0.1)
    weights[..., 2] = 0.7
    shares = rollout.pooled(rollout.rolled_out([weights] * 3), 0)[0]
    assert shares.argmax() == 2
    assert shares[2] > 0.6
    assert shares.sum() == pytest.approx(1)


def test_other_models_have_no_rollout():
    with pytest.raises(UsageError, match="needs the model 'vit'"):
        rollout.attention_rollout(CNN3D(num_classes=2), clips())


def test_the_glow_is_where_it_was_looked():
    clip = np.full((6, 32, 32, 3), 100, np.uint8)
    shares = np.full((3, 2, 2), 0.01)
    shares[1, 0, 1] = 0.89
    lit = rollout.overlay_heatmap(clip, shares).astype(int)
    glow = lit[..., 0] - lit[..., 2]  # red beyond blue: no grey
    assert glow[2, 4, 28] == glow[3, 4, 28] > 50
    assert glow[2, 28, 4] == glow[0].max() == 0


def squares(number, seed):
    """Draws clips of a square that moves down or up, and where it is."""
    drawn = [
        moving_square(8, height=32, width=32, direction=way, seed=seed + n)
        for n in range(number)
        for way in (1, -1)
    ]
    found = np.stack(drawn)
    return found, np.tile([0, 1], number), found.max(-1) >= 160


@pytest.mark.slow
@pytest.mark.parametrize("attention", FORMS)
def test_what_moves_gets_more_attention_than_the_rest(attention):
    keras.utils.set_random_seed(0)
    made = VideoViT(
        num_classes=2, num_frames=8, crop_size=32, patch_size=8, hidden_dim=32,
        num_layers=2, num_heads=2, mlp_dim=64, seed=0, attention=attention,
    )  # fmt: skip
    made.compile(
        keras.optimizers.Adam(4e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    seen, labels, _ = squares(256, seed=0)
    made.fit(seen, labels, batch_size=32, epochs=12, verbose=0)
    unseen, labels, moving = squares(32, seed=1000)
    assert made.evaluate(unseen, labels, verbose=0)[1] > 0.9
    shares = rollout.attention_rollout(made, unseen)  # (B, 4, 4, 4)
    pixels = shares.repeat(2, 1).repeat(8, 2).repeat(8, 3)
    times = pixels[moving].mean() / pixels[~moving].mean()
    print(f"{attention}: {times:.2f} times the attention of the rest")
    assert times > 1.5


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    frames = np.zeros((24, 32, 3), np.uint8)
    with pytest.raises(EnvironmentFault, match="disk is full"):
        attention_video._write_strip([(frames,) * 2], "a", tmp_path / "a.png")
    assert not [*tmp_path.iterdir()]
