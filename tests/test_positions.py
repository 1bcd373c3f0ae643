"""A model knows from its first step on where and when a token is."""

import keras
import numpy as np
import pytest
from keras import ops

from har_keras.model.initializers import CosinePositions, slow_waves
from har_keras.model.layers import PositionEmbedding
from har_keras.model.vit import VideoViT

GRID = (4, 3, 5)


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
