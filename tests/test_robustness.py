import cv2
import numpy as np
import pytest

from har_keras.evaluation.robustness import CORRUPTIONS


@pytest.mark.parametrize("damage", CORRUPTIONS, ids=lambda damage: damage.name)
def test_worse_pictures_are_the_same_clip_made_worse(damage):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 8, 10, 3), np.uint8)
    clip = np.stack([cv2.resize(frame, (80, 64)) for frame in coarse])
    before = clip.copy()
    found = damage.change(clip, np.random.default_rng(1))
    assert (found.shape, found.dtype) == (clip.shape, np.uint8)
    assert (found != clip).any()
    np.testing.assert_array_equal(clip, before)
    again = damage.change(clip, np.random.default_rng(1))
    np.testing.assert_array_equal(found, again)
    assert damage.text


def test_compression_keeps_colours_in_their_order():
    clip = np.zeros((1, 64, 64, 3), np.uint8)
    clip[..., 0] = 200
    (compressed,) = [x for x in CORRUPTIONS if x.name == "compressed"]
    found = compressed.change(clip, np.random.default_rng(0))
    assert found[..., 0].mean() > 150
    assert found[..., 2].mean() < 50
