"""Weights to start from that come with the package."""

import logging

import keras
import numpy as np
import pytest

from har_keras.config import Config
from har_keras.errors import UsageError
from har_keras.model.build import build_model
from har_keras.sample.actions import ACTIONS
from har_keras.training.initial_weights import DRAWN_ACTIONS, initialize_weights

# What small-data has, in a smaller picture.
DRAWN = Config().replace(start="drawn-actions", stem="gradients", crop_size=32)


def weights_of(model):
    """Returns every weight by its name, without the model's own."""
    return {
        weight.path.split("/", 1)[1]: keras.ops.convert_to_numpy(weight.value)
        for weight in model.trainable_weights
    }


@pytest.fixture(scope="module")
def shipped():
    return keras.models.load_model(DRAWN_ACTIONS, compile=False)


def started(config, num_classes=3):
    model = build_model(config.model, config.clip, num_classes, seed=0)
    initialize_weights(model, config.model)
    return model


def test_the_file_is_small_and_tells_the_drawn_actions_apart(shipped):
    assert DRAWN_ACTIONS.stat().st_size < 1e6
    assert shipped.num_classes == sum(map(len, ACTIONS.values()))


def test_all_but_the_head_and_the_size_of_the_picture_is_taken_over(shipped):
    random = weights_of(build_model(DRAWN.model, DRAWN.clip, 3, seed=0))
    mine, theirs = weights_of(started(DRAWN)), weights_of(shipped)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if name.startswith("head/"):
            np.testing.assert_array_equal(value, random[name])
        elif name == "positions/positions":
            assert len(value) < len(theirs[name])  # fewer tokens, between them
            assert np.abs(value).max() <= np.abs(theirs[name]).max()
        else:
            np.testing.assert_array_equal(value, theirs[name])


def test_a_random_start_is_left_alone():
    config = DRAWN.replace(start="random")
    random = build_model(config.model, config.clip, 3, seed=0)
    for name, value in weights_of(started(config)).items():
        np.testing.assert_array_equal(value, weights_of(random)[name])


def test_it_is_said(caplog):
    with caplog.at_level(logging.INFO):
        started(DRAWN)
    assert "Starting from weights that know drawn actions." in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stem": "pixels"}, "is for --stem gradients. Received: pixels"),
        ({"hidden_dim": 96}, "is for --hidden-dim 48. Received: 96"),
        ({"model": "cnn3d"}, "is for --model vit. Received: cnn3d"),
    ],
)
def test_another_model_is_refused_and_the_way_out_named(options, words):
    with pytest.raises(UsageError, match=words) as caught:
        Config().replace(recipe="small-data", **options)
    assert "--start random" in str(caught.value)
    Config().replace(recipe="small-data", start="random", **options)


def test_weights_and_runs_come_first(tmp_path):
    for name in ("init", "weights"):
        config = Config().replace(
            recipe="small-data", stem="pixels", **{name: tmp_path}
        )
        assert config.model.start == "drawn-actions"  # and is not looked at
