import dataclasses
import os
import typing

import pytest

from har_keras.config import Config
from har_keras.errors import UsageError
from har_keras.recipes import RECIPES
from har_keras.toml import read_toml, write_toml
from har_keras.train import recommend_recipe

# The numbers that the project is built around.
STATED = {
    "patch_size": 16,
    "tubelet_frames": 2,
    "hidden_dim": 48,
    "num_layers": 4,
    "num_heads": 4,
    "mlp_dim": 192,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
    "batch_size": 128,
    "epochs": 100,
    "learning_rate": 0.001,
    "num_frames": 16,
    "fps": 8.0,
    "crop_size": 112,
}


@pytest.mark.parametrize(("name", "value"), STATED.items())
def test_default_is_the_stated_one(name, value):
    assert Config().flat()[name] == value


def test_derived_sizes():
    clip = Config().clip
    assert (clip.short_side, clip.store_fps, clip.span_seconds) == (128, 16, 2)


def test_no_option_name_occurs_twice():
    names = [
        field.name
        for section in dataclasses.fields(Config)
        for field in dataclasses.fields(getattr(Config(), section.name))
    ]
    assert len(names) == len(set(names))


def test_every_option_has_a_value_of_its_type():
    for section in dataclasses.fields(Config):
        part = getattr(Config(), section.name)
        hints = typing.get_type_hints(type(part))
        assert set(hints) == {field.name for field in dataclasses.fields(part)}


def test_toml_round_trip(tmp_path):
    config = Config().replace(epochs=3, crop_size=224, flip=False)
    write_toml(config, tmp_path / "config.toml")
    assert Config().replace(**read_toml(tmp_path / "config.toml")) == config


@pytest.mark.parametrize(
    "text",
    ["epochs = " + "9" * 5000, 'store_dir = "\\u0000"', "#" * 2**26 + "\n"],
    ids=["digits", "null", "large"],
)
def test_toml_that_no_editor_wrote_is_one_sentence(text, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError) as error:
        read_toml(file)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_toml_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.toml")
    with pytest.raises(UsageError, match="it is a named pipe, not a file"):
        read_toml(tmp_path / "config.toml")


def test_toml_without_sections(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("epochs = 7\nfps = 4\n")
    assert read_toml(file) == {"epochs": 7, "fps": 4.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch = 3", "Did you mean 'epochs'?"),
        ("epochs = '3'", "epochs must be a value of type int"),
        ("epochs = true", "epochs must be a value of type int"),
        ("cache = 'zip'", "cache must be one of auto, jpeg, raw, off"),
        ("epochs 3", "could not be read as a TOML file"),
        ("a" + ".a" * 65 + " = 1", "A line has more than 64 dots"),
    ],
)
def test_a_wrong_file_is_refused_in_words(tmp_path, text, words):
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        read_toml(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no config file .*none\.toml"):
        read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crop_size": 100}, "--crop-size must be a multiple of --patch-size"),
        ({"crop_size": 4112, "num_clips": 1}, "--crop-size must be from 1 to"),
        ({"num_frames": 4098, "crop_size": 16}, "--num-frames must be from 1"),
        ({"num_frames": 5}, "--num-frames must be a multiple of"),
        ({"num_heads": 5}, "--hidden-dim must be a multiple of --num-heads"),
        ({"epochs": 0}, "--epochs must be at least 1"),
        ({"learning_rate": 0.0}, "--learning-rate must be above 0"),
        ({"dropout_rate": 1.0}, r"--dropout-rate must be in \[0, 1\)"),
        ({"weight_decay": -1.0}, "--weight-decay must be 0 or more"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave some videos"),
        ({"seed": 2**32}, "--seed must be from 0 to 4294967295"),
        ({"mlp_dim": 10**9}, "--mlp-dim must be from 1 to 32768"),
        ({"decoder_dim": 10**9}, "--decoder-dim must be at most 32768"),
        ({"num_layers": 10**6}, "--num-layers must be from 1 to 1000"),
        ({"num_layers": 999}, "--num-layers plus --num-temporal-layers must"),
        ({"micro_batch_size": -2}, "--micro-batch-size must be -1"),
        ({"batchsize": 3}, "Did you mean 'batch_size'"),
    ],
)
def test_a_wrong_value_is_refused_in_words(options, words):
    with pytest.raises(UsageError, match=words):
        Config().replace(**options)


def test_a_preset_gives_way_to_what_is_named():
    config = Config().replace(preset="vivit-b-16x2-fe", crop_size=112)
    assert config.model.hidden_dim == 768
    assert config.model.attention == "factorised"
    assert config.clip.num_frames == 32
    assert config.clip.crop_size == 112


def test_the_options_of_a_preset_survive_a_file(tmp_path):
    config = Config().replace(preset="timesformer-b", num_layers=2)
    write_toml(config, tmp_path / "config.toml")
    assert Config().replace(**read_toml(tmp_path / "config.toml")) == config


def test_a_recipe_changes_what_is_not_named():
    config = Config().replace(recipe="quick", epochs=3)
    assert config.clip.crop_size == 64
    assert config.training.batch_size == 32
    assert config.training.epochs == 3
    assert Config().training.recipe == "plain"
    assert Config().replace(recipe="plain") == Config()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_options_that_exist_and_go_together(name):
    config = Config().replace(recipe=name)
    assert config.training.recipe == name
    flat = config.flat()
    for option, value in RECIPES[name].options.items():
        assert flat[option] == value


def test_recipes_leave_the_stated_dimensions_alone():
    names = (
        "patch_size", "hidden_dim", "num_layers", "num_heads", "mlp_dim",
        "dropout_rate", "attention_dropout_rate",
    )  # fmt: skip
    for recipe in RECIPES.values():
        assert not set(names) & set(recipe.options)


@pytest.mark.parametrize(
    ("options", "num_videos", "said"),
    [
        ({}, 100, True),
        ({}, 5000, False),
        ({"recipe": "small-data"}, 100, False),
        ({"stem": "gradients"}, 100, False),
    ],
)
def test_few_videos_are_told_of_their_recipe(options, num_videos, said, caplog):
    caplog.set_level("INFO")
    recommend_recipe(Config().replace(**options), num_videos)
    assert ("--recipe transfer" in caplog.text) is said


OLD_CONFIG = """
[model]
model = "vit"
# weights is not set
{lines}
stem = "gradients"

[training]
keep_side = "walk"
"""


@pytest.mark.parametrize(
    ("lines", "weights"),
    [
        ('start = "random"', "random"),
        ('start = "drawn-actions"', "synthetic-actions"),
        ('init = "runs/first"\nstart = "drawn-actions"', "runs/first"),
        ('weights = "vit.safetensors"\nstart = "random"', "vit.safetensors"),
        ('weights = "a.safetensors"\ninit = "runs/b"', "runs/b"),
    ],
)
def test_a_config_of_version_0_1_opens(tmp_path, lines, weights):
    file = tmp_path / "config.toml"
    file.write_text(OLD_CONFIG.format(lines=lines))
    config = Config().replace(**read_toml(file))
    assert config.model.weights == weights
    assert config.training.no_flip_classes == "walk"


def test_any_text_survives_the_file(tmp_path):
    text = 'a "quoted" \\ name with \N{RUNNER} and\ttab'
    config = Config().replace(wandb_project=text, store_dir=tmp_path / text)
    write_toml(config, tmp_path / "config.toml")
    assert Config().replace(**read_toml(tmp_path / "config.toml")) == config


def test_a_path_may_be_given_as_text_and_the_other_way_round(tmp_path):
    config = Config().replace(store_dir=str(tmp_path), weights=tmp_path)
    assert config.store.store_dir == tmp_path
    assert config.model.weights == str(tmp_path)


def test_every_number_has_a_range():
    """But for the index of a host, where -1 asks for it."""
    for section in dataclasses.fields(Config):
        part = type(getattr(Config(), section.name))
        hints = typing.get_type_hints(part, include_extras=True)
        for name, hint in hints.items():
            if hint in (int, float):
                assert name == "host_index"
