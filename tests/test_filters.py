"""A model on pixels sees edges and motion from its first step on."""

import keras
import numpy as np
import pytest
from keras import ops

from har_keras.model.initializers import CosineFilters, cosines, scaled_waves
from har_keras.model.layers import TubeletEmbedding

SHAPE = (2, 16, 16, 3, 48)


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
