"""Pre-training: masks, learning, going on, and starting from it."""

import csv

import keras
import numpy as np
import pytest
from keras import ops
from support.moving_squares import SquaresStore, squares_manifest
from support.videos import draw_folder, draw_video

from har_keras import pretrain, train
from har_keras.clips.masking import MaskedClips
from har_keras.config import Config
from har_keras.errors import DataError, Interrupted, UsageError
from har_keras.inference.load import load_any_model, load_model
from har_keras.manifest.manifest import Manifest
from har_keras.model.build import build_model
from har_keras.report.film_strips import (
    reconstruction_strips,
    shown_and_guessed,
)
from har_keras.run import Run
from har_keras.training import callbacks
from har_keras.training.checkpoint import array_of
from har_keras.training.fit import fit
from har_keras.training.initial_weights import copy_run_weights
from har_keras.training.pretraining import (
    PRETRAINING,
    build_autoencoder,
    compiled_autoencoder,
)

pytestmark = pytest.mark.usefixtures("without_xla", "without_export_check")
CONFIG = Config().replace(
    recipe="pretrain", crop_size=64, num_frames=4, hidden_dim=16,
    num_layers=1, num_heads=2, mlp_dim=32, batch_size=8, epochs=3,
    mask_ratio=0.5, learning_rate=0.003, warmup_epochs=0.0, decoder_layers=1,
    wandb="off", clips_per_video=1,
)  # fmt: skip


def pretrained(path, config=CONFIG):
    run = Run(path)
    if not path.exists():
        run.create(config)
    manifest = squares_manifest(path, num_videos=20, splits=("train", "val"))
    fit(run, config, SquaresStore(config.clip), manifest, PRETRAINING)
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("pretraining") / "whole")


@pytest.fixture
def clips(tmp_path):
    manifest = squares_manifest(tmp_path, num_videos=20)
    return MaskedClips(
        SquaresStore(CONFIG.clip), manifest, manifest.videos, CONFIG,
        training=True,
    )  # fmt: skip


def test_each_clip_has_a_mask_of_its_own(clips):
    batches = list(clips.batches())
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    (pixels, places), _ = batches[0]
    assert pixels.shape == (8, 4, 64, 64, 3)
    assert places.shape == (8, 16)
    for row in places.numpy():
        assert sorted(row) == list(range(16))
    assert len({tuple(row) for row in places.numpy()}) == 8


def test_masks_go_on_from_any_step(clips):
    whole = [places.numpy() for (_, places), _ in clips.batches(epochs=2)]
    rest = clips.batches(epochs=2, epoch=1, step=1)
    rest = [places.numpy() for (_, places), _ in rest]
    assert len(rest) == 2
    for expected, found in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(expected, found)
    assert (whole[0] != whole[3]).any()


def test_micro_batches_have_the_gradient_of_the_whole_batch(clips):
    (pixels, places), labels = next(iter(clips.batches()))
    found = []
    for size in (-1, 3):
        config = CONFIG.replace(micro_batch_size=size)
        trainer = compiled_autoencoder(config, None, 3)
        # A plain step shows the gradient itself.
        trainer.compile(keras.optimizers.SGD(1.0), trainer.loss)
        before = [array_of(w) for w in trainer.trainable_variables]
        trainer.fit((pixels, places), labels, batch_size=8, verbose=0)
        after = [array_of(w) for w in trainer.trainable_variables]
        found.append([b - a for a, b in zip(after, before, strict=True)])
    assert max(np.abs(x).max() for x in found[0]) > 1e-3
    for expected, value in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)


class PatternStore(SquaresStore):
    """Every tubelet of every video shows the same pattern."""

    def frames(self, sha256, indices):
        rng = np.random.default_rng(0)
        tile = rng.integers(0, 256, (16, 16, 3), "uint8")
        times = -(-self.side // 16)
        frame = np.tile(tile, (times, times, 1))[: self.side, : self.side]
        return np.repeat(frame[None], len(indices), axis=0)

    lazy_frames = frames


def test_the_hidden_pixels_are_learned(tmp_path):
    config = CONFIG.replace(
        epochs=20, augment="none", learning_rate=0.01, keep="last"
    )
    run = Run(tmp_path / "run")
    run.create(config)
    manifest = squares_manifest(
        run.path, num_videos=20, splits=("train", "val")
    )
    fit(run, config, PatternStore(config.clip), manifest, PRETRAINING)
    rows = list(csv.DictReader(run.history_file.read_text().splitlines()))
    losses = [float(row["val_loss"]) for row in rows]
    assert losses[-1] < 0.4 * losses[0]
    assert "accuracy" not in rows[0]


@pytest.mark.slow
def test_one_that_was_stopped_ends_with_the_same_weights(
    whole, tmp_path, monkeypatch
):
    class Stop(callbacks.Checkpoints):
        def on_train_batch_end(self, batch, logs=None):
            if self.state.epoch == 1:
                self.interrupt(15)
            super().on_train_batch_end(batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr("har_keras.training.fit.Checkpoints", Stop)
        with pytest.raises(Interrupted):
            pretrained(tmp_path / "run")
    again = pretrained(tmp_path / "run")
    newest = [
        sorted(run.checkpoint_dir.glob("*.npz"))[-1] for run in (whole, again)
    ]
    with np.load(newest[0]) as expected, np.load(newest[1]) as found:
        names = [name for name in expected if name != "state"]
        assert len(names) > 20
        for name in names:
            np.testing.assert_array_equal(expected[name], found[name])


def test_training_starts_from_the_encoder(whole):
    config = CONFIG.replace(recipe="plain", crop_size=32)
    model = build_model(config.model, config.clip, 3, seed=9)
    head = array_of(model.head.kernel)
    copy_run_weights(model, whole)
    source = load_any_model(whole).encoder
    for name in ("embedding.kernel", "norm.gamma"):
        layer, weight = name.split(".")
        np.testing.assert_array_equal(
            array_of(getattr(getattr(model, layer), weight)),
            array_of(getattr(getattr(source, layer), weight)),
        )
    assert model.positions.positions.shape == (8, 16)
    np.testing.assert_array_equal(array_of(model.head.kernel), head)


def test_another_model_can_not_start_from_it(whole):
    config = CONFIG.replace(recipe="plain", hidden_dim=8)
    model = build_model(config.model, config.clip, 3)
    with pytest.raises(UsageError, match="does not fit"):
        copy_run_weights(model, whole)
    config = CONFIG.replace(recipe="plain", model="cnn3d")
    with pytest.raises(UsageError, match="--weights RUN needs --model vit"):
        copy_run_weights(build_model(config.model, config.clip, 3), whole)
    stopped = Run(whole.path / "stopped")
    stopped.create(whole.config())
    with pytest.raises(DataError, match=r"has no model\.keras yet"):
        copy_run_weights(model, stopped)


def test_it_is_no_classifier(whole):
    with pytest.raises(DataError, match="has no classes"):
        load_model(whole)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "divided"}, "--attention joint"),
        ({"model": "frame-vit"}, "--model vit"),
        ({"pooling": "class_token"}, "no class token"),
        ({"decoder_heads": 3}, "--decoder-heads must divide"),
    ],
)
def test_options_that_can_not_be_masked_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        build_autoencoder(CONFIG.replace(**options))


def test_train_and_pretrain_keep_their_options_apart(tmp_path):
    with pytest.raises(UsageError, match="--recipe pretrain is for"):
        train.train(tmp_path, config=CONFIG)
    with pytest.raises(UsageError, match=r"options of .*pretrain"):
        train.train(tmp_path, config=Config().replace(mask_ratio=0.5))
    with pytest.raises(UsageError, match="has one recipe"):
        pretrain.pretrain(tmp_path, config=Config())


def test_pictures_show_what_was_hidden(whole):
    model = load_any_model(whole)
    clip = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), "uint8")
    places = np.arange(16, dtype="int32")
    shown, guessed = shown_and_guessed(model, clip, places)
    # Eight places are shown: the upper half of every frame.
    for picture in (shown, guessed):
        np.testing.assert_array_equal(picture[:, :32], clip[:, :32])
    assert (shown[:, 32:] == 127).all()
    assert (guessed[:, 32:] != 127).any()
    manifest = squares_manifest(whole.path, num_videos=4)
    strips = reconstruction_strips(
        model, SquaresStore(CONFIG.clip), manifest, CONFIG
    )
    assert [strip.truth for strip in strips[:3]] == [
        "original", "masked", "reconstruction",
    ]  # fmt: skip
    assert len(strips) == 9


def test_videos_without_classes_are_found_wherever_they_lie(tmp_path):
    for name in ("one.mp4", "2026/march/two.mp4", "2026/three.mp4"):
        draw_video(tmp_path / name, num_frames=20, seed=len(name))
    manifest = Manifest.without_labels(tmp_path)
    assert len(manifest.videos) == 3
    assert manifest.class_names == ("unlabelled",)
    assert not manifest.split("test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no video"):
        Manifest.without_labels(tmp_path / "empty")


def test_sorted_videos_are_divided_as_for_training(tmp_path):
    root = draw_folder(tmp_path / "v", per_class=8, num_frames=20)
    expected = Manifest.from_folder(root)
    assert Manifest.without_labels(root) == expected
    assert expected.split("test")


def test_a_list_of_one_class_names_the_videos_to_take(tmp_path):
    for name in ("x/a.mp4", "x/b.mp4", "y/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    text = "file,class,split\nx/a.mp4,x,train\nx/b.mp4,x,test\n"
    (tmp_path / "manifest.csv").write_text(text)
    found = Manifest.without_labels(tmp_path, val_fraction=0.0)
    splits = {video.file: video.split for video in found.videos}
    assert splits == {"x/a.mp4": "train", "x/b.mp4": "test"}


@pytest.mark.slow
def test_from_the_shell(tmp_path, capsys):
    root = draw_folder(tmp_path / "v", per_class=8)
    small = [
        "--crop-size", "32", "--num-frames", "4", "--hidden-dim", "16",
        "--num-layers", "1", "--batch-size", "8", "--epochs", "2",
        "--wandb", "off",
    ]  # fmt: skip
    views = ["--num-clips", "1", "--num-crops", "1"]
    first = tmp_path / "first"
    assert pretrain.main([str(root), "--run-dir", str(first), *small]) == 0
    said = capsys.readouterr()
    assert f"--weights {first}" in said.out
    assert "test videos left out" in said.err
    listed = Manifest.read(Run(first).manifest_file)
    assert not listed.split("test")
    assert Run(first).reconstruction_file.is_file()

    assert pretrain.main(["--resume", str(first)]) == 0
    assert train.main(["--resume", str(first)]) == 2
    second = tmp_path / "second"
    options = ["--weights", str(first), "--run-dir", str(second)]
    assert train.main([str(root), *options, *small[8:], *views]) == 0
    assert "Initial weights: those of the run" in capsys.readouterr().err
    config = Run(second).config()
    assert config.model.hidden_dim == 16
    assert config.clip.crop_size == 32
    assert pretrain.main(["--resume", str(second)]) == 2
    clips = ops.zeros((1, 4, 32, 32, 3), "uint8")
    assert load_model(Run(second))(clips).shape == (1, 2)


def test_the_loss_is_told_before_the_first_batch_of_a_resumed_run():
    """A run may be resumed where only the validation of an epoch is left."""
    trainer = compiled_autoencoder(CONFIG, None, 3)
    assert "loss" in trainer.get_metrics_result()
