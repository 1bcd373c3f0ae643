import keras
import numpy as np
import pytest
from keras import ops

from har_keras.config import ClipConfig, Config, ModelConfig
from har_keras.errors import UsageError
from har_keras.model.build import build_model
from har_keras.model.vit import VideoViT
from har_keras.recipes import PRESETS

SMALL = {
    "num_classes": 3,
    "num_frames": 4,
    "crop_size": 32,
    "hidden_dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "mlp_dim": 32,
    "seed": 1,
}
CLIPS = np.random.default_rng(0).integers(
    0, 256, (5, 4, 32, 32, 3), dtype="uint8"
)


def small_model(**changes):
    model = VideoViT(**SMALL | changes)
    model.build()
    rng = np.random.default_rng(2)  # biases and class tokens start at zero
    for weight in model.trainable_variables:
        noise = rng.normal(scale=0.1, size=weight.shape)
        weight.assign(ops.convert_to_numpy(weight) + noise)
    return model


@pytest.mark.parametrize(
    ("pooling", "num_weights"), [("mean", 205_923), ("class_token", 206_019)]
)
def test_default_dimensions(pooling, num_weights):
    model = build_model(ModelConfig(pooling=pooling), ClipConfig(), 3)
    assert model.count_params() == num_weights
    assert model.num_tokens == 8 * 7 * 7
    config = model.get_config()
    assert config["patch_size"] == 16
    assert config["tubelet_frames"] == 2
    assert config["hidden_dim"] == 48
    assert config["num_layers"] == 4
    assert config["num_heads"] == 4
    assert config["mlp_dim"] == 192
    assert config["dropout_rate"] == 0.0
    assert config["attention_dropout_rate"] == 0.0


def test_the_class_and_the_options_have_the_same_defaults():
    by_option = build_model(Config().model, Config().clip, 3).get_config()
    by_class = VideoViT(3).get_config()
    unlike = {k for k in by_class if by_class[k] != by_option[k]}
    assert unlike == {"seed", "name"}


@pytest.mark.usefixtures("without_waves")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_what_the_option_gives(preset):
    config = Config().replace(preset=preset, num_layers=1, crop_size=32)
    by_option = build_model(config.model, config.clip, 3).get_config()
    model = VideoViT.from_preset(
        preset, num_classes=3, num_layers=1, crop_size=32
    )
    assert model.built
    by_name = model.get_config()
    unlike = {k for k in by_name if by_name[k] != by_option[k]}
    assert unlike == {"seed", "name"}


def test_options_take_precedence_over_a_preset():
    model = VideoViT.from_preset(
        "tiny", num_classes=3, hidden_dim=16, num_frames=4, seed=1
    )
    assert (model.hidden_dim, model.num_frames, model.seed) == (16, 4, 1)
    assert model.mlp_dim == 192


def test_an_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'videomae-b'"):
        VideoViT.from_preset("videomae_b", num_classes=3)


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
def test_config_and_file_round_trip(pooling, tmp_path):
    model = small_model(pooling=pooling)
    config = model.get_config()
    assert VideoViT.from_config(config).get_config() == config
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert isinstance(loaded, VideoViT)
    np.testing.assert_array_equal(probabilities(loaded), probabilities(model))


def probabilities(model, clips=CLIPS, **kwargs):
    return ops.convert_to_numpy(model(clips, **kwargs))


def test_probabilities_are_the_softmax_of_the_logits():
    model = small_model()
    logits = ops.convert_to_numpy(model.logits(CLIPS))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities(model), shares, atol=1e-6)
    assert np.ptp(logits, axis=0).max() > 1e-3  # the clips matter


def test_a_clip_does_not_depend_on_the_rest_of_its_batch():
    model = small_model(pooling="class_token")
    alone = probabilities(model, CLIPS[2:3])
    np.testing.assert_allclose(probabilities(model)[2:3], alone, atol=1e-6)


def test_the_order_of_frames_matters():
    model = small_model()
    backwards = probabilities(model, CLIPS[:, ::-1])
    assert np.abs(probabilities(model) - backwards).max() > 1e-4


def test_a_seed_gives_the_same_weights_and_another_one_others():
    first, again, other = (VideoViT(**SMALL | {"seed": s}) for s in (1, 1, 2))
    for model in (first, again, other):
        model.build()
    for a, b in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    kernels = [m.blocks[0].mlp.hidden.kernel for m in (first, other)]
    assert np.abs(np.subtract(*map(ops.convert_to_numpy, kernels))).max() > 0.1
    of_one_model = [block.mlp.hidden.kernel for block in first.blocks]
    assert np.abs(np.subtract(*map(ops.convert_to_numpy, of_one_model))).max()


def test_dropout_is_on_in_training_alone():
    model = small_model(dropout_rate=0.5)
    np.testing.assert_array_equal(probabilities(model), probabilities(model))
    trained = probabilities(model, training=True)
    assert np.abs(trained - probabilities(model)).max() > 1e-3


def test_bfloat16_keeps_float32_weights_and_probabilities():
    exact = small_model()
    model = VideoViT(**SMALL, dtype="mixed_bfloat16")
    model.build()
    model.set_weights(exact.get_weights())
    y = model(CLIPS)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    np.testing.assert_allclose(
        ops.convert_to_numpy(y), probabilities(exact), atol=0.03
    )
    assert model.blocks[1].attention.compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 1}, "num_classes=1"),
        ({"pooling": "max"}, "pooling='max'"),
        ({"attention": "none"}, "attention='none'"),
        ({"num_heads": 3}, "num_heads=3"),
    ],
)
def test_dimensions_that_cannot_work_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        VideoViT(**SMALL | changes).build()


@pytest.mark.parametrize("pooling", ["mean", "mean_norm", "class_token"])
@pytest.mark.parametrize("attention", ["factorised", "divided"])
def test_attention_forms(attention, pooling, tmp_path):
    model = small_model(attention=attention, pooling=pooling)
    config = model.get_config()
    assert VideoViT.from_config(config).get_config() == config
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(probabilities(loaded), probabilities(model))
    alone = probabilities(model, CLIPS[1:2])
    np.testing.assert_allclose(probabilities(model)[1:2], alone, atol=1e-6)
    backwards = probabilities(model, CLIPS[:, ::-1])
    assert np.abs(probabilities(model) - backwards).max() > 1e-5


def test_divided_attention_begins_as_that_of_each_frame():
    """The layers along time start at zero: other frames change nothing."""
    model = VideoViT(**SMALL | {"attention": "divided"})
    model.build()
    other = CLIPS.copy()
    other[:, 2:] = 255 - other[:, 2:]
    tokens = []
    for clips in (CLIPS, other):
        x = model.embedding(clips)
        x = model._add_times(
            model.positions(ops.reshape(x, (-1, 4, 16))), False
        )
        tokens.append(ops.convert_to_numpy(model.blocks[0](x)))
    np.testing.assert_allclose(tokens[0][:, :4], tokens[1][:, :4], atol=1e-6)
    assert np.abs(tokens[0][:, 4:] - tokens[1][:, 4:]).max() > 1e-3
    change = np.random.default_rng(0).normal(size=(16, 16))
    model.blocks[0].temporal_dense.kernel.assign(change)
    x = model.embedding(other)
    x = model._add_times(model.positions(ops.reshape(x, (-1, 4, 16))), False)
    changed = ops.convert_to_numpy(model.blocks[0](x))
    assert np.abs(changed[:, :4] - tokens[0][:, :4]).max() > 1e-3
