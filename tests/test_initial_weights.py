"""Initial weights: those that come with the package, runs and files."""

import logging
from pathlib import Path

import keras
import numpy as np
import pytest

from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.model.build import build_model
from har_keras.run import Run
from har_keras.sample.actions import ACTIONS
from har_keras.train import train
from har_keras.training.initial_weights import (
    SYNTHETIC_ACTIONS,
    initialize_weights,
    require_weights,
)

# What small-data has, in a smaller picture.
SYNTHETIC = Config().replace(
    weights="synthetic-actions", stem="gradients", crop_size=32
)


def weights_of(model):
    """Returns every weight by its name, without the model's own."""
    return {
        weight.path.split("/", 1)[1]: keras.ops.convert_to_numpy(weight.value)
        for weight in model.trainable_weights
    }


@pytest.fixture(scope="module")
def shipped():
    return keras.models.load_model(SYNTHETIC_ACTIONS, compile=False)


def started(config, num_classes=3):
    model = build_model(config.model, config.clip, num_classes, seed=0)
    initialize_weights(model, config.model.weights)
    return model


def test_the_file_is_small_and_knows_the_synthetic_actions(shipped):
    assert SYNTHETIC_ACTIONS.stat().st_size < 1e6
    assert shipped.num_classes == sum(map(len, ACTIONS.values()))


def test_all_but_the_head_and_the_size_of_the_picture_is_taken_over(shipped):
    random = weights_of(build_model(SYNTHETIC.model, SYNTHETIC.clip, 3, seed=0))
    mine, theirs = weights_of(started(SYNTHETIC)), weights_of(shipped)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if name.startswith("head/"):
            np.testing.assert_array_equal(value, random[name])
        elif name == "positions/positions":
            assert len(value) < len(theirs[name])  # fewer tokens, between them
            assert np.abs(value).max() <= np.abs(theirs[name]).max()
        else:
            np.testing.assert_array_equal(value, theirs[name])


def test_random_weights_are_left_alone():
    config = SYNTHETIC.replace(weights="random")
    random = build_model(config.model, config.clip, 3, seed=0)
    for name, value in weights_of(started(config)).items():
        np.testing.assert_array_equal(value, weights_of(random)[name])


def test_it_is_said(caplog):
    with caplog.at_level(logging.INFO):
        started(SYNTHETIC)
    assert "Initial weights: pretrained on synthetic actions." in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stem": "pixels"}, "needs --stem gradients. Received: pixels"),
        ({"hidden_dim": 96}, "needs --hidden-dim 48. Received: 96"),
        ({"model": "cnn3d"}, "needs --model vit. Received: cnn3d"),
    ],
)
def test_another_model_is_refused_and_the_way_out_named(options, words):
    with pytest.raises(UsageError, match=words) as caught:
        Config().replace(recipe="small-data", **options)
    assert "--weights random" in str(caught.value)
    Config().replace(recipe="small-data", weights="random", **options)


def test_a_run_or_a_file_takes_the_place_of_the_recipes_weights(tmp_path):
    for weights in (str(tmp_path), "model.safetensors"):
        config = Config().replace(
            recipe="small-data", stem="pixels", weights=weights
        )
        assert config.model.weights == weights


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ("nothing", UsageError, "no file or folder of that name"),
        ("drawn-actions", UsageError, "must be random, synthetic-actions"),
        ("folder", UsageError, "neither the folder of a run"),
        ("notes.txt", UsageError, "nor a .safetensors file"),
        ("stopped", DataError, "train --resume .*stopped"),
    ],
)
def test_weights_that_do_not_exist_are_refused(
    weights, error, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("notes.txt").touch()
    Run("stopped").create(Config())
    with pytest.raises(error, match=words):
        require_weights(weights)


def test_they_are_refused_before_a_video_is_read(tmp_path):
    with pytest.raises(UsageError, match="Received: runs/old/typo"):
        train(
            tmp_path / "no such folder",
            tmp_path / "run",
            Config().replace(weights="runs/old/typo"),
        )
    assert not (tmp_path / "run").exists()


def test_a_file_is_told_by_its_name(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    assert require_weights(str(file)) == "file"
