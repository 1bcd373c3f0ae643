"""Tokens of gradients: what they say, and what they leave out."""

import keras
import numpy as np
import pytest
from keras import ops

from har_keras.model.gradient_embedding import (
    GradientEmbedding,
    directions,
    gradients,
)
from har_keras.model.vit import VideoViT

RNG = np.random.default_rng(0)


def counts(clips, **options):
    layer = GradientEmbedding(8, seed=0, **options)
    found = ops.convert_to_numpy(layer.counts(ops.convert_to_tensor(clips)))
    return found**2  # strengths


def bars(speed, num_frames=8, side=32):
    """Upright bars that move to the right, `speed` pixels a frame."""
    columns = np.arange(side)[None] - speed * np.arange(num_frames)[:, None]
    wave = 127 + 100 * np.sin(2 * np.pi * columns / 16)
    frames = np.repeat(wave[:, None, :, None], side, axis=1)
    return np.repeat(frames, 3, axis=3).round().astype("uint8")[None]


def test_gradients_are_those_of_numpy():
    x = RNG.normal(size=(2, 5, 6, 7)).astype("float32")
    found = ops.convert_to_numpy(gradients(ops.convert_to_tensor(x)))
    assert found.shape == (3, 2, 5, 6, 7)
    for place, axis in enumerate((3, 2, 1)):
        inner = [slice(None)] * 4
        inner[axis] = slice(1, -1)
        expected = np.gradient(x, axis=axis)[tuple(inner)]
        np.testing.assert_allclose(
            found[place][tuple(inner)], expected, atol=1e-6
        )
        for end in (0, -1):
            assert not np.take(found[place], end, axis).any()


def test_directions_are_spread_evenly():
    bins = directions()
    angles = bins @ bins.T
    assert sorted(np.unique(angles.round(3))) == [-1, -0.447, 0.447, 1]


def test_rest_and_motion_point_elsewhere():
    """Of bars at rest nothing points along time; of moving ones much does."""
    time = directions()[:, 2]

    def share_along_time(speed):
        inner = counts(bars(speed)).reshape(4, 4, 2, 4, 12)[1:3]
        strengths = inner.sum((0, 1, 2, 3))
        return (strengths * np.abs(time)).sum() / strengths.sum()

    assert share_along_time(2) > 1.3 * share_along_time(0)


def test_left_and_right_are_told_apart():
    right, left = counts(bars(2)), counts(bars(-2))
    change = np.abs(right - left).sum() / right.sum()
    assert change > 0.5


def test_colour_and_brightness_are_left_out():
    clips = RNG.integers(60, 180, (1, 4, 32, 32, 1), dtype="uint8")
    grey = np.repeat(clips, 3, axis=-1)
    np.testing.assert_allclose(counts(grey + 40), counts(grey), atol=1e-5)
    tinted = grey.astype(int) + np.array([30, 0, -30])
    np.testing.assert_allclose(
        counts(tinted.astype("uint8")), counts(grey), atol=1e-5
    )


def test_each_tubelet_counts_its_own_cells():
    """A change inside one cell is seen by that cell, in order, alone."""
    clips = np.full((1, 4, 32, 48, 3), 90, "uint8")
    changed = clips.copy()
    changed[0, 2, 19:22, 35:38] = 200  # second tubelet in time, row 1, column 2
    difference = np.abs(counts(changed) - counts(clips))[0]
    token = 6 + 3 + 2
    assert difference[token].max() > 0.005
    cells = difference.reshape(12, 2, 2, 2, 12)  # frame, row, column of cells
    assert cells[token, 0, 0, 0].max() > 0.005
    assert cells[token, :, 1].max() < 1e-6
    assert cells[token, :, :, 1].max() < 1e-6
    others = [t for t in range(12) if t % 6 != 5]
    assert difference[others].max() < 1e-6


def test_short_clips_have_no_slope_in_time():
    found = counts(RNG.integers(0, 256, (1, 2, 16, 16, 3), dtype="uint8"))
    assert np.isfinite(found).all()


def test_cells_must_fit_the_patch():
    with pytest.raises(ValueError, match="must divide `patch_size`"):
        GradientEmbedding(8, cell_size=5)


def test_a_model_of_gradients_is_saved_and_smaller(tmp_path):
    model = VideoViT(3, num_frames=4, crop_size=32, stem="gradients", seed=0)
    model.build()
    plain = VideoViT(3, num_frames=4, crop_size=32, seed=0)
    plain.build()
    assert plain.count_params() - model.count_params() == (1536 - 96) * 48 - 192
    clips = RNG.integers(0, 256, (2, 4, 32, 32, 3), dtype="uint8")
    before = ops.convert_to_numpy(model(clips))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(clips)), before)
