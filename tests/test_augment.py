import numpy as np
import pytest

from har_keras.clips.augment import (
    augment_clip,
    random_box,
    random_color,
    resized,
    shift_clip,
)


def random_frames(num_frames=16, height=128, width=170):
    rng = np.random.default_rng(0)
    shape = (num_frames, height, width, 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def test_identical_frames_stay_identical():
    frames = np.repeat(random_frames(1), 16, axis=0)
    clip = augment_clip(frames, np.random.default_rng(1), crop_size=112)
    assert clip.shape == (16, 112, 112, 3)
    assert (clip == clip[:1]).all()


def test_the_same_seed_gives_the_same_clip():
    first, again, other = (
        augment_clip(random_frames(), np.random.default_rng(s), crop_size=64)
        for s in (5, 5, 6)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_about_half_of_the_clips_are_mirrored():
    # Bright on the left: the brighter half tells whether it was mirrored.
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    frames[:, :, :32] = 200
    mirrored = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        clip = augment_clip(frames, rng, crop_size=32)
        mirrored += clip[:, :, :4].mean() < clip[:, :, -4:].mean()
    assert 70 <= mirrored <= 130
    for seed in range(50):
        rng = np.random.default_rng(seed)
        clip = augment_clip(frames, rng, crop_size=32, flip=False)
        assert clip[:, :, :4].mean() >= clip[:, :, -4:].mean()


def test_a_shifted_clip_is_a_part_of_the_frames_or_its_mirror_image():
    frames = random_frames(2, 20, 24)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        clip = shift_clip(frames, rng, crop_size=16)
        places = [
            frames[:, top : top + 16, left : left + 16]
            for top in range(5)
            for left in range(9)
        ]
        assert any(
            (clip == part).all() or (clip == part[:, :, ::-1]).all()
            for part in places
        )


@pytest.mark.parametrize("shape", [(128, 170), (170, 128), (333, 40), (1, 1)])
def test_a_box_lies_in_the_frame(shape):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        top, left, height, width = random_box(*shape, rng)
        assert min(top, left) >= 0
        assert min(height, width) >= 1
        assert top + height <= shape[0]
        assert left + width <= shape[1]


def test_colour_keeps_grey_grey():
    for seed in range(20):
        matrix = random_color(np.random.default_rng(seed))
        red, green, blue = matrix @ [128, 128, 128, 1]
        assert red == pytest.approx(green, abs=1e-3)
        assert green == pytest.approx(blue, abs=1e-3)


def test_resizing_to_the_same_size_changes_nothing():
    frame = random_frames(1, 112, 112)[0]
    assert resized(frame, 112) is frame
