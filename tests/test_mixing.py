import numpy as np
import pytest

from har_keras.clips.balance import balanced_order, class_weights, occurrences
from har_keras.clips.mixing import Mix, draw_mix, mix_clips, mix_rows


def plain_clips(number=5):
    """Returns clips of one tone each: 0, 10, 20, ..."""
    tones = 10 * np.arange(number, dtype=np.uint8)
    return np.broadcast_to(tones[:, None, None, None, None],
                           (number, 2, 8, 8, 3)).copy()  # fmt: skip


def test_blending_rounds_and_leaves_the_middle_clip():
    clips = plain_clips()
    mix_clips(clips, Mix(0.74))
    tones = clips[:, 0, 0, 0, 0].tolist()
    # 0.74 * 0 + 0.26 * 40, 0.74 * 10 + 0.26 * 30, 20, ...
    assert tones == [10, 15, 20, 25, 30]
    assert (clips == clips[:, :1, :1, :1, :1]).all()


def test_cutmix_exchanges_a_box_in_all_frames():
    clips = plain_clips(4)
    mix_clips(clips, Mix(0.75, (2, 4, 4, 4)))
    expected = plain_clips(4)
    for i, j in ((0, 3), (1, 2), (2, 1), (3, 0)):
        expected[i, :, 2:6, 4:8] = 10 * j
    assert (clips == expected).all()


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0), (0, 1.0), (0.8, 1.0)])
def test_labels_weigh_what_is_seen(mixup, cutmix):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        mix = draw_mix(rng, mixup=mixup, cutmix=cutmix, size=8)
        clips = np.zeros((2, 2, 8, 8, 3), np.uint8)
        clips[1] = 200
        mix_clips(clips, mix)
        shares = mix_rows(np.eye(2, dtype="float32"), mix)
        assert shares.dtype == np.float32
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
        seen = clips.mean(axis=(1, 2, 3, 4)) / 200
        np.testing.assert_allclose(shares[:, 1], seen, atol=0.5 / 200)


def test_both_mixes_occur_and_each_can_be_had_alone():
    def boxes(**alphas):
        return {
            draw_mix(np.random.default_rng(s), size=16, **alphas).box is None
            for s in range(30)
        }

    assert boxes(mixup=0.8, cutmix=1.0) == {True, False}
    assert boxes(mixup=0.8, cutmix=0) == {True}
    assert boxes(mixup=0, cutmix=1.0) == {False}


def test_weights_have_a_mean_of_one_and_make_classes_equal():
    labels = np.array([0] * 6 + [2] * 2)
    weights = class_weights(labels, 4)
    assert weights[labels].mean() == pytest.approx(1)
    assert 6 * weights[0] == pytest.approx(2 * weights[2])
    assert weights[1] == weights[3] == 0


def test_a_balanced_epoch_has_as_many_clips_of_each_class():
    labels = np.array([0] * 70 + [1] * 20 + [3] * 11)
    order = balanced_order(labels, np.random.default_rng(0))
    counts = np.bincount(labels[order], minlength=4)
    assert sorted(counts) == [0, 33, 34, 34]
    # Of a small class all come before any comes once more.
    often = np.bincount(order)
    assert np.ptp(often[labels == 1]) <= 1
    assert np.ptp(often[labels == 3]) <= 1
    assert often[:70].max() == 1
    again = balanced_order(labels, np.random.default_rng(0))
    other = balanced_order(labels, np.random.default_rng(1))
    assert (order == again).all()
    assert (order != other).any()


def test_no_clips_are_balanced_too():
    none = np.empty(0, np.int64)
    assert len(balanced_order(none, np.random.default_rng(0))) == 0
    assert len(occurrences(none)) == 0
    assert class_weights(none, 2).tolist() == [0, 0]
