import keras
import numpy as np
import pytest
from keras import ops

from har_keras.model.attention import SelfAttention
from har_keras.model.blocks import MLP, DividedBlock, EncoderBlock, gelu
from har_keras.model.layers import (
    ClassToken,
    PositionEmbedding,
    TubeletEmbedding,
)
from har_keras.model.vit import VideoViT

RNG = np.random.default_rng(7)
TOKENS = RNG.normal(size=(2, 6, 8)).astype("float32")
CLIPS = RNG.integers(0, 256, (2, 4, 32, 48, 3), dtype="uint8")

LAYERS = [
    (TubeletEmbedding, {"hidden_dim": 8, "seed": 1}, CLIPS, (2, 12, 8), 12296),
    (ClassToken, {}, TOKENS, (2, 7, 8), 8),
    (PositionEmbedding, {"seed": 1}, TOKENS, (2, 6, 8), 48),
    (PositionEmbedding, {"kind": "sinusoid"}, TOKENS, (2, 6, 8), 0),
    (SelfAttention, {"num_heads": 2, "seed": 1}, TOKENS, (2, 6, 8), 288),
    (
        SelfAttention,
        {"num_heads": 2, "key_bias": False, "seed": 1},
        TOKENS,
        (2, 6, 8),
        280,
    ),
    (MLP, {"mlp_dim": 16, "seed": 1}, TOKENS, (2, 6, 8), 280),
    (
        EncoderBlock,
        {"num_heads": 2, "mlp_dim": 16, "dropout_rate": 0.1, "seed": 1},
        TOKENS,
        (2, 6, 8),
        288 + 32 + 144 + 136,
    ),
    (
        DividedBlock,
        {
            "num_frames": 5,
            "class_token": True,
            "num_heads": 2,
            "mlp_dim": 16,
            "activation": "gelu_tanh",
            "seed": 1,
        },
        TOKENS,
        (2, 6, 8),
        2 * 288 + 48 + 144 + 136 + 72,
    ),
    (
        DividedBlock,
        {
            "num_frames": 3,
            "class_token": False,
            "num_heads": 2,
            "mlp_dim": 16,
            "seed": 1,
        },
        TOKENS,
        (2, 6, 8),
        2 * 288 + 48 + 144 + 136 + 72,
    ),
]
IDS = [row[0].__name__ for row in LAYERS]


def check_layer(cls, arguments, x, shape, num_weights, tmp_path):
    """Holds for every layer: shape, dtype, weights, round trip, file."""
    layer = cls(**arguments)
    y = layer(x)
    assert tuple(y.shape) == shape
    assert layer.compute_output_shape(x.shape) == shape
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert layer.count_params() == num_weights
    assert np.isfinite(ops.convert_to_numpy(y)).all()

    config = layer.get_config()
    assert arguments.items() <= config.items()
    assert cls.from_config(config).get_config() == config

    again = cls(**arguments)(x)
    if arguments.get("seed"):
        np.testing.assert_array_equal(to_numpy(again), to_numpy(y))

    inputs = keras.Input(x.shape[1:], dtype=x.dtype)
    keras.Model(inputs, layer(inputs)).save(tmp_path / "layer.keras")
    loaded = keras.saving.load_model(tmp_path / "layer.keras")
    np.testing.assert_array_equal(to_numpy(loaded(x)), to_numpy(y))

    half = cls(**arguments, dtype="mixed_bfloat16")
    y = half(x)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    assert {w.dtype for w in half.weights} <= {"float32", "uint32", "int64"}


def to_numpy(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize(
    ("cls", "arguments", "x", "shape", "num_weights"), LAYERS, ids=IDS
)
def test_layer(cls, arguments, x, shape, num_weights, tmp_path):
    check_layer(cls, arguments, x, shape, num_weights, tmp_path)


def test_a_token_sees_the_pixels_of_its_tubelet_and_no_others():
    layer = TubeletEmbedding(hidden_dim=1, patch_size=4, tubelet_frames=2)
    shape = (1, 6, 8, 12, 3)
    layer.build(shape)
    layer.kernel.assign(np.ones(layer.kernel.shape))
    black = to_numpy(layer(np.zeros(shape, "uint8")))[0, :, 0]
    for t, y, x in np.ndindex(6, 8, 12):
        clip = np.zeros(shape, "uint8")
        clip[0, t, y, x, :] = 255
        changed = to_numpy(layer(clip))[0, :, 0] - black
        token = (t // 2) * (2 * 3) + (y // 4) * 3 + x // 4
        assert np.flatnonzero(np.abs(changed) > 1) == [token]
        assert changed[token] == pytest.approx(3 * 2, abs=1e-3)


def test_embedding_equals_a_conv3d_with_the_same_weights():
    layer = TubeletEmbedding(hidden_dim=8, seed=3)
    layer.build(CLIPS.shape)
    layer.kernel.assign(RNG.normal(0, 0.02, layer.kernel.shape))
    layer.bias.assign(RNG.normal(size=8))
    conv = keras.layers.Conv3D(8, (2, 16, 16), strides=(2, 16, 16))
    conv.build(CLIPS.shape)
    conv.set_weights(layer.get_weights())
    expected = to_numpy(conv(CLIPS.astype("float32") / 127.5 - 1))
    np.testing.assert_allclose(
        to_numpy(layer(CLIPS)), expected.reshape(2, 12, 8), atol=2e-5
    )


def test_clips_that_leave_a_rest_are_refused():
    with pytest.raises(ValueError, match="tubelets of"):
        TubeletEmbedding(hidden_dim=8).build((None, 5, 32, 32, 3))


def test_heads_that_leave_a_rest_are_refused():
    with pytest.raises(ValueError, match="num_heads=3"):
        SelfAttention(num_heads=3).build((None, 6, 8))


def test_attention_equals_its_formula_in_every_way():
    layer = SelfAttention(num_heads=2, seed=5)
    y = to_numpy(layer(TOKENS))
    qkv = to_numpy(layer.query_key_value(TOKENS)).reshape(2, 6, 3, 2, 4)
    q, k, v = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    scores = np.exp(q @ k.swapaxes(-1, -2) / 4**0.5)
    values = scores / scores.sum(-1, keepdims=True) @ v
    values = values.transpose(0, 2, 1, 3)
    np.testing.assert_allclose(
        to_numpy(layer.output_dense(values.reshape(2, 6, 8))), y, atol=1e-5
    )
    qkv = ops.convert_to_tensor(qkv)
    for way in (layer.keys_by_queries, layer.head_by_head):
        np.testing.assert_allclose(to_numpy(way(qkv, None)), values, atol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.fused(qkv)), values, atol=1e-5)


def test_attention_is_finite_for_scores_beyond_the_range_of_exp():
    layer = SelfAttention(num_heads=2, seed=5)
    qkv = np.full((1, 6, 3, 2, 4), 1e3, "float32")
    y = to_numpy(layer.keys_by_queries(ops.convert_to_tensor(qkv), None))
    np.testing.assert_allclose(y, 1e3, rtol=1e-6)


def test_attention_drops_in_training_alone_and_keeps_the_mean():
    layer = SelfAttention(num_heads=2, dropout_rate=0.5, seed=5)
    qkv = ops.convert_to_tensor(np.ones((64, 6, 3, 2, 4), "float32"))
    for way in (layer.keys_by_queries, layer.head_by_head):
        np.testing.assert_allclose(to_numpy(way(qkv, False)), 1, atol=1e-6)
        dropped = to_numpy(way(qkv, True))
        assert dropped.std() > 0.1
        assert dropped.mean() == pytest.approx(1, abs=0.1)


def test_gelu_equals_the_one_of_keras():
    x = np.linspace(-6, 6, 101, dtype="float32")
    expected = ops.gelu(x, approximate=False)
    np.testing.assert_allclose(
        to_numpy(gelu(ops.convert_to_tensor(x))), to_numpy(expected), atol=1e-6
    )


@pytest.mark.parametrize("attention", ["joint", "divided", "factorised"])
def test_paths_are_dropped_in_training_alone(attention):
    options = {
        "num_frames": 4, "crop_size": 32, "hidden_dim": 8, "num_heads": 2,
        "num_layers": 3, "attention": attention, "seed": 0,
    }  # fmt: skip
    clips = np.random.default_rng(0).integers(
        0, 256, (8, 4, 32, 32, 3), dtype="uint8"
    )
    plain = VideoViT(2, **options)
    dropping = VideoViT(2, **options, drop_path_rate=0.9)
    expected, found, trained = (
        ops.convert_to_numpy(x)
        for x in (
            plain.logits(clips),
            dropping.logits(clips),
            dropping.logits(clips, training=True),
        )
    )
    np.testing.assert_array_equal(expected, found)
    assert np.abs(trained - found).max() > 1e-4
    assert dropping.blocks[0].drop_path.rate == 0
    last = (
        dropping.temporal_blocks
        if attention == "factorised"
        else dropping.blocks
    )[-1]
    assert last.drop_path.rate == pytest.approx(0.9)


def test_a_dropped_path_leaves_the_sequence_as_it_was():
    block = EncoderBlock(2, 8, drop_path_rate=0.999, seed=0)
    x = np.random.default_rng(0).normal(size=(4, 3, 8)).astype("float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(block(x, training=True)), x
    )
