"""Options of the training clips: what each changes, and what it leaves."""

import dataclasses

import numpy as np
import pytest
from support.moving_squares import SquaresStore, squares_manifest

from har_keras.clips import dataset
from har_keras.clips.augment import augment_clip, random_speed
from har_keras.clips.batch_memory import BatchMemory
from har_keras.clips.dataset import ClipDataset
from har_keras.clips.sampling import clip_frame_indices
from har_keras.config import Config
from har_keras.errors import EnvironmentFault, UsageError

CONFIG = Config().replace(crop_size=32, batch_size=4, num_frames=8)


@pytest.fixture
def manifest(tmp_path):
    return squares_manifest(tmp_path, num_videos=10)


def clips_of(manifest, training=True, **options):
    config = CONFIG.replace(**CONFIG.flat() | options)
    videos = manifest.usable("train")
    store = SquaresStore(config.clip)
    return ClipDataset(store, manifest, videos, config, training=training)


def as_arrays(batches):
    return [tuple(part.numpy() for part in batch) for batch in batches]


def test_without_options_clips_are_what_they_always_were(manifest):
    clips = clips_of(manifest)
    order = np.arange(10)
    np.random.default_rng((0, 1)).shuffle(order)
    assert clips.order(1).tolist() == order.tolist()
    (first, labels), *_ = as_arrays(clips.batches(epochs=2, epoch=1))
    for clip, label, index in zip(first, labels, order, strict=False):
        rng = np.random.default_rng((0, 1, index))
        start = round(rng.random() * 5)
        video = clips.slots[index].video
        frames = clips.store.frames(
            video.sha256,
            clip_frame_indices(20, num_frames=8, frame_stride=2, start=start),
        )
        assert (clip == augment_clip(frames, rng, crop_size=32)).all()
        assert label == manifest.label(video)


ALL = {
    "augment": "strong", "mixup": 0.8, "cutmix": 1.0, "balance": "weights",
    "speed_jitter": 0.2, "repeats": 2,
}  # fmt: skip


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (1, 3)])
def test_going_on_with_every_option_gives_the_same_batches(
    manifest, epoch, step
):
    clips = clips_of(manifest, **ALL)
    assert clips.steps_per_epoch == 5
    everything = as_arrays(clips.batches(epochs=2))
    rest = as_arrays(
        clips_of(manifest, **ALL).batches(epochs=2, epoch=epoch, step=step)
    )
    expected = everything[epoch * 5 + step :]
    assert len(rest) == len(expected)
    for one, other in zip(expected, rest, strict=True):
        assert len(one) == len(other) == 3
        for a, b in zip(one, other, strict=True):
            assert (a == b).all()
    assert (everything[0][0] != everything[5][0]).any()


def test_mixed_labels_are_shares(manifest):
    plain = clips_of(manifest, augment="none")
    mixed = clips_of(manifest, augment="none", mixup=0.8)
    kinds = set()
    for (clips, labels), (seen, shares) in zip(
        as_arrays(plain.batches()), as_arrays(mixed.batches()), strict=True
    ):
        assert shares.shape == (len(labels), 2)
        assert shares.dtype == np.float32
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
        own = shares[np.arange(len(labels)), labels]
        assert (own > 0).all()
        kinds |= {tuple(np.round(row, 3)) for row in shares}
        assert (clips != seen).any()
    assert len(kinds) > 2
    validation = clips_of(manifest, training=False, mixup=0.8)
    assert all(len(part[1].shape) == 1 for part in validation.batches())


def test_repeats_are_neighbours_that_differ(manifest):
    clips = clips_of(manifest, repeats=2)
    assert clips.num_clips == 20
    order = clips.order(0)
    assert (order[::2] == order[1::2]).all()
    assert sorted(order) == sorted([*range(10)] * 2)
    for batch, labels in as_arrays(clips.batches()):
        assert (labels[::2] == labels[1::2]).all()
        assert (batch[::2] != batch[1::2]).any(axis=(1, 2, 3, 4)).all()
    assert len(clips.videos_of(0, 0)) == 2
    assert clips_of(manifest, training=False, repeats=2).num_clips == 10
    with pytest.raises(UsageError, match="--repeats"):
        clips_of(manifest, repeats=3)


def uneven(manifest):
    """Returns a manifest of five down and two up."""
    down = [v for v in manifest.videos if v.class_name == "down"]
    up = [v for v in manifest.videos if v.class_name == "up"]
    return dataclasses.replace(manifest, videos=(*down, *up[:2]))


def test_sampling_makes_classes_equal_and_augments_anew(manifest):
    clips = clips_of(uneven(manifest), balance="sampling", batch_size=7)
    ((batch, labels),) = as_arrays(clips.batches())
    assert sorted(np.bincount(labels)) == [3, 4]
    assert len({clip.tobytes() for clip in batch}) == 7
    validation = clips_of(uneven(manifest), training=False, balance="sampling")
    assert validation.order(0).tolist() == list(range(7))


def test_weights_come_with_the_batch(manifest):
    clips = clips_of(uneven(manifest), balance="weights", batch_size=7)
    ((_, labels, weights),) = as_arrays(clips.batches())
    assert weights.mean() == pytest.approx(1)
    assert weights[labels == 1].sum() == pytest.approx(3.5)
    validation = clips_of(uneven(manifest), False, balance="weights")
    assert len(next(iter(validation.batches()))) == 2


def test_speed_is_drawn_from_its_range():
    rng = np.random.default_rng(0)
    speeds = [random_speed(rng, 0.2) for _ in range(500)]
    assert min(speeds) == pytest.approx(0.8, abs=0.01)
    assert max(speeds) == pytest.approx(1.25, abs=0.01)
    assert np.median(speeds) == pytest.approx(1.0, abs=0.03)


def test_a_faster_clip_spans_more_of_the_video(manifest):
    long = dataclasses.replace(manifest.videos[0], kept_frames=200)
    manifest = dataclasses.replace(manifest, videos=(long,))
    clips = clips_of(manifest, speed_jitter=0.2, clips_per_video=40)
    for index in range(40):
        clips.read(0, index)
    spans = [int(np.ptp(asked)) for asked in clips.store.asked]
    # Seven steps of two stored frames, at 0.8 to 1.25 times the speed.
    assert 11 <= min(spans) <= 12
    assert 16 <= max(spans) <= 18
    still = clips_of(manifest, training=False, speed_jitter=0.2)
    still.read(0, 0)
    assert np.ptp(still.store.asked[0]) == 14


def test_a_class_keeps_its_sides(manifest, monkeypatch):
    flips = []

    def change(frames, rng, *, crop_size, flip, out):
        flips.append(flip)
        return out

    monkeypatch.setitem(dataset.AUGMENTATIONS, "basic", change)
    clips = clips_of(manifest, no_flip_classes=" up ")
    for index in range(10):
        clips.read(0, index)
    names = [slot.video.class_name for slot in clips.slots]
    assert flips == [name == "down" for name in names]


def test_a_class_that_is_not_there_keeps_no_side(manifest):
    with pytest.raises(UsageError, match="Did you mean 'down'"):
        clips_of(manifest, no_flip_classes="up,donw")


def test_keras_cv_is_asked_for_at_once(manifest, monkeypatch):
    def missing():
        raise EnvironmentFault("har_keras[cv]")

    monkeypatch.setattr(dataset, "keras_cv_layers", missing)
    with pytest.raises(EnvironmentFault):
        clips_of(manifest, augment="keras-cv")
    clips_of(manifest, training=False, augment="keras-cv")


def test_a_batch_that_is_looked_at_keeps_its_memory():
    memory = BatchMemory((2, 3, 4))
    first = memory.take(2)
    first[:] = 7
    address, view = first.ctypes.data, first[1]
    assert address % 64 == 0
    del first
    other = memory.take(2)
    other[:] = 9
    assert (view == 7).all()
    del view
    assert memory.take(1).ctypes.data == address


def test_tensors_that_are_kept_are_not_written_over(manifest):
    clips = clips_of(manifest)
    kept = [batch for batch, _ in clips.batches(epochs=6)]
    again = [batch.numpy() for batch, _ in clips.batches(epochs=6)]
    for one, other in zip(kept, again, strict=True):
        assert (one.numpy() == other).all()
