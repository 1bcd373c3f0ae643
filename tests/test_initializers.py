"""Filters and positions that a model on pixels starts from.

It sees edges and motion, and where and when a token is, from its first step.
"""

import keras
import numpy as np
import pytest
from keras import ops

from har_keras.model.initializers import (
    CosineFilters,
    CosinePositions,
    cosines,
    scaled_waves,
    slow_waves,
)
from har_keras.model.layers import PositionEmbedding, TubeletEmbedding
from har_keras.model.vit import VideoViT

SHAPE = (2, 16, 16, 3, 48)
GRID = (4, 3, 5)


def noise(shape):
    """Returns a kernel of random values, the same on every backend."""
    fan_in = np.prod(shape[:-1])
    return np.random.default_rng(0).normal(0, fan_in**-0.5, shape)


def usual_clips(num_clips=64, size=16, shift=1, seed=0):
    """Grey clips of two frames that move, cut from scenes of 1/f noise."""
    rng = np.random.default_rng(seed)
    wide = 8 * size
    cycles = np.fft.fftfreq(wide)
    distance = np.hypot(cycles[:, None], cycles[None])
    distance[0, 0] = 1 / wide
    spectrum = np.fft.fft2(rng.normal(size=(num_clips, wide, wide)))
    scenes = np.fft.ifft2(spectrum / distance).real
    scenes = 127.5 + 50 * scenes / scenes.std()
    ends = size, size + shift
    frames = [scenes[:, end - size : end, end - size : end] for end in ends]
    grey = np.clip(np.stack(frames, 1), 0, 255).astype("uint8")
    return np.repeat(grey[..., None], 3, axis=-1)


def tokens_of(initializer, clips):
    layer = TubeletEmbedding(hidden_dim=48, patch_size=16, seed=0)
    layer.build(clips.shape)
    layer.kernel.assign(initializer(SHAPE))
    return ops.convert_to_numpy(layer(clips))[:, 0]


def num_directions(tokens):
    """Returns in how many directions tokens vary, weighted by how much."""
    variances = np.linalg.svd(tokens - tokens.mean(0), compute_uv=False) ** 2
    return variances.sum() ** 2 / (variances**2).sum()


def test_tokens_say_more_than_how_bright_a_tubelet_is():
    clips = usual_clips()
    of_noise = num_directions(tokens_of(noise, clips))
    assert num_directions(tokens_of(CosineFilters(0), clips)) > 3 * of_noise


def test_motion_moves_a_token_further():
    moving = usual_clips()
    still = np.repeat(moving[:, :1], 2, axis=1)

    def part(initializer):
        there, here = (tokens_of(initializer, x) for x in (moving, still))
        return np.var(there - here) / np.var(here)

    assert part(CosineFilters(0)) > 3 * part(noise)


def test_all_waves_are_there_whatever_the_rotation():
    kernels = [
        ops.convert_to_numpy(CosineFilters(seed)(SHAPE)).reshape(-1, 48)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).max() > 0.01
    gains = np.linalg.norm(scaled_waves(*SHAPE).reshape(-1, 48), axis=0)
    for kernel in kernels:
        found = np.linalg.svd(kernel, compute_uv=False)
        np.testing.assert_allclose(found, np.sort(gains)[::-1], rtol=1e-4)


def test_a_token_may_be_wider_than_a_tubelet_has_values():
    kernel = ops.convert_to_numpy(CosineFilters(0)((2, 2, 2, 1, 20)))
    assert np.linalg.matrix_rank(kernel.reshape(8, 20)) == 8
    gains = np.linalg.norm(scaled_waves(2, 2, 2, 1, 20).reshape(-1, 8), axis=0)
    # As strong in each value as where there are waves for all.
    found = (kernel**2).sum() / 20
    np.testing.assert_allclose(found, (gains**2).sum() / 8, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_waves_are_at_right_angles(size):
    waves = cosines(size)
    np.testing.assert_allclose(waves @ waves.T, np.eye(size), atol=1e-9)


def test_it_is_saved_with_a_model():
    found = keras.initializers.deserialize(
        keras.initializers.serialize(CosineFilters(7))
    )
    assert (type(found), found.seed) == (CosineFilters, 7)


def positions(grid=GRID, seed=0, width=48, extra=0):
    places = int(np.prod(grid))
    start = CosinePositions(grid, seed)((extra + places, width))
    return ops.convert_to_numpy(start)


def test_neighbours_are_alike_and_far_places_are_not():
    near, far = [], []
    vectors = positions().reshape(*GRID, -1)
    for place in np.ndindex(GRID):
        for other in np.ndindex(GRID):
            steps = np.abs(np.subtract(place, other)).sum()
            distance = np.linalg.norm(vectors[place] - vectors[other])
            if steps == 1:
                near.append(distance)
            elif steps > 4:
                far.append(distance)
    assert np.mean(near) < 0.75 * np.mean(far)
    assert min(near) > 0.5  # no two places are the same


def test_every_value_says_something_and_all_are_as_strong():
    vectors = positions((8, 7, 7))
    assert np.sqrt((vectors**2).mean()) == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-6)
    assert vectors.std(0).min() > 0.25


@pytest.mark.parametrize("grid", [(4, 1, 1), (1, 2, 2), (2, 1, 3)])
def test_a_grid_may_have_fewer_waves_than_a_token_is_wide(grid):
    vectors = positions(grid)
    assert np.linalg.matrix_rank(vectors, tol=1e-3) == np.prod(grid) - 1
    assert np.sqrt((vectors**2).mean()) == pytest.approx(0.5, abs=1e-3)


def test_a_single_place_needs_no_position():
    assert slow_waves((1, 1, 1), num_waves=4).shape == (1, 0)
    np.testing.assert_array_equal(positions((1, 1, 1)), np.zeros((1, 48)))


def test_waves_are_at_right_angles_and_slower_ones_stronger():
    waves = slow_waves(GRID, num_waves=59)
    products = waves.T @ waves
    strengths = np.diag(products)
    np.testing.assert_allclose(products, np.diag(strengths), atol=1e-9)
    assert (np.diff(strengths) <= 1e-9).all()
    assert strengths.sum() == pytest.approx(np.prod(GRID))


def test_seeds_turn_them_and_what_is_no_place_stays_faint():
    first, same, other = (positions(seed=s, extra=1) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1
    assert 0 < np.abs(first[0]).max() < 0.1
    # A rotation leaves distances as they are.
    distances = [np.linalg.norm(x[1] - x[2:], axis=-1) for x in (first, other)]
    np.testing.assert_allclose(*distances, rtol=1e-4)


@pytest.mark.parametrize(
    ("attention", "grid"),
    [("joint", (2, 2, 2)), ("divided", (1, 2, 2)), ("factorised", (1, 2, 2))],
)
def test_a_model_starts_from_them(attention, grid):
    model = VideoViT(
        num_classes=2, num_frames=4, crop_size=32, seed=1, attention=attention
    )
    model.build()
    found = ops.convert_to_numpy(model.positions.positions)
    expected = positions(grid, seed=model.positions.seed)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_beside_counts_of_gradients_they_start_from_faint_noise():
    model = VideoViT(
        num_classes=2, num_frames=4, crop_size=32, seed=1, stem="gradients"
    )
    model.build()
    assert np.abs(ops.convert_to_numpy(model.positions.positions)).max() < 0.05


def test_without_a_grid_they_start_from_faint_noise():
    layer = PositionEmbedding(seed=1)
    layer.build((None, 6, 8))
    assert np.abs(ops.convert_to_numpy(layer.positions)).max() < 0.05


def test_they_are_saved_with_a_layer():
    layer = PositionEmbedding(seed=1, grid=GRID)
    found = PositionEmbedding.from_config(layer.get_config())
    assert (found.seed, found.grid) == (1, GRID)
    start = keras.initializers.deserialize(
        keras.initializers.serialize(CosinePositions(GRID, 7))
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(start((60, 8))),
        ops.convert_to_numpy(CosinePositions(GRID, 7)((60, 8))),
    )
