import dataclasses

import numpy as np
import pytest
from support.moving_squares import SquaresStore, squares_manifest

from har_keras.clips.dataset import ClipDataset
from har_keras.config import Config

CONFIG = Config().replace(
    crop_size=32, batch_size=4, num_frames=8, augment="none"
)


@pytest.fixture
def manifest(tmp_path):
    return squares_manifest(tmp_path, num_videos=10)


def clips_of(manifest, config=CONFIG, *, training=True):
    videos = manifest.usable("train")
    store = SquaresStore(config.clip)
    return ClipDataset(store, manifest, videos, config, training=training)


def as_arrays(dataset):
    return [(clips.numpy(), labels.numpy()) for clips, labels in dataset]


def test_batches_have_the_stated_shapes(manifest):
    batches = as_arrays(clips_of(manifest).batches())
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    for clips, labels in batches:
        assert clips.shape[1:] == (8, 32, 32, 3)
        assert (clips.dtype, labels.dtype) == (np.uint8, np.int32)


def test_an_epoch_has_every_clip_once_in_an_order_of_its_own(manifest):
    clips = clips_of(manifest)
    orders = [clips.order(epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders == [clips_of(manifest).order(e).tolist() for e in range(3)]


def test_validation_keeps_its_order_and_its_clips(manifest):
    clips = clips_of(manifest, training=False)
    first, second = as_arrays(clips.batches()), as_arrays(clips.batches())
    for (a, labels), (b, again) in zip(first, second, strict=True):
        assert (a == b).all()
        assert (labels == again).all()
    expected = [manifest.label(video) for video in manifest.usable("train")]
    got = np.concatenate([labels for _, labels in first])
    assert got.tolist() == expected


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (1, 2), (2, 1)])
def test_going_on_from_a_point_gives_the_same_batches(manifest, epoch, step):
    config = CONFIG.replace(augment="basic")
    clips = clips_of(manifest, config)
    everything = as_arrays(clips.batches(epochs=3))
    rest = as_arrays(clips.batches(epochs=3, epoch=epoch, step=step))
    expected = everything[epoch * clips.steps_per_epoch + step :]
    assert len(rest) == len(expected)
    for (a, labels), (b, again) in zip(expected, rest, strict=True):
        assert (a == b).all()
        assert (labels == again).all()


def test_epochs_differ_and_seeds_differ(manifest):
    config = CONFIG.replace(augment="basic")
    clip = clips_of(manifest, config).read(0, 3)[0]
    next_epoch = clips_of(manifest, config).read(1, 3)[0]
    other_seed = clips_of(manifest, config.replace(seed=1)).read(0, 3)[0]
    again = clips_of(manifest, config).read(0, 3)[0]
    assert (clip == again).all()
    assert (clip != next_epoch).any()
    assert (clip != other_seed).any()


def test_a_long_video_gives_several_clips_that_cover_it(manifest):
    long = dataclasses.replace(manifest.videos[0], kept_frames=160)
    manifest = dataclasses.replace(manifest, videos=(long,))
    clips = clips_of(manifest)
    # 160 stored frames at 16 a second are 10 s; a clip of 8 at 8/s is 1 s.
    assert clips.num_clips == 10
    for index in range(clips.num_clips):
        clips.read(0, index)
    firsts = [int(indices[0]) for indices in clips.store.asked]
    assert firsts == sorted(firsts)
    assert firsts[0] < 16
    assert firsts[-1] > 128
    fixed = clips_of(manifest, CONFIG.replace(clips_per_video=3))
    assert fixed.num_clips == 3


def test_labels_follow_class_names(manifest):
    clips = clips_of(manifest)
    for index, video in enumerate(manifest.usable("train")):
        label = clips.read(0, index)[1]
        assert manifest.class_names[label] == video.class_name


def test_equal_shares_leave_out_other_clips_each_epoch(manifest):
    clips = ClipDataset(
        SquaresStore(CONFIG.clip),
        manifest,
        manifest.usable("train"),
        CONFIG,
        training=True,
        num_shares=4,
    )
    assert (clips.num_clips, clips.steps_per_epoch) == (8, 2)
    batches = as_arrays(clips.batches(epochs=2))
    assert [len(labels) for _, labels in batches] == [4, 4, 4, 4]
    left_out = [{*range(10)} - {*clips.order(epoch)} for epoch in range(2)]
    assert left_out[0] != left_out[1]
