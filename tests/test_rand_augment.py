import sys

import cv2
import numpy as np
import pytest

from har_keras.clips import keras_cv as keras_cv_clips
from har_keras.clips import rand_augment as strong
from har_keras.clips.rand_augment import (
    OPERATIONS,
    erase,
    is_geometric,
    move,
    random_operations,
    recolor,
    strong_clip,
    warped,
)
from har_keras.errors import EnvironmentFault

RECOLORINGS = [name for name in OPERATIONS if not is_geometric(name)]
MOVES = [name for name in OPERATIONS if is_geometric(name)]


def random_frames(num_frames=4, height=64, width=80, seed=0):
    shape = (num_frames, height, width, 3)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num_frames, 8, 10, 3), dtype=np.uint8)
    frames = [cv2.resize(frame, shape[2:0:-1]) for frame in coarse]
    return np.stack(frames)


def test_identical_frames_stay_identical():
    frames = np.repeat(random_frames(1), 4, axis=0)
    for seed in range(40):
        clip = strong_clip(frames, np.random.default_rng(seed), crop_size=48)
        assert clip.shape == (4, 48, 48, 3)
        assert (clip == clip[:1]).all(), seed


def test_the_same_seed_gives_the_same_clip():
    clips = [
        strong_clip(random_frames(), np.random.default_rng(s), crop_size=32)
        for s in (5, 5, 6)
    ]
    assert (clips[0] == clips[1]).all()
    assert (clips[0] != clips[2]).any()


def test_a_clip_is_written_where_it_is_wanted():
    out = np.zeros((4, 32, 32, 3), np.uint8)
    rng = np.random.default_rng(1)
    assert strong_clip(random_frames(), rng, crop_size=32, out=out) is out
    again = strong_clip(random_frames(), np.random.default_rng(1), crop_size=32)
    assert (out == again).all()


def test_without_flip_nothing_is_mirrored(monkeypatch):
    monkeypatch.setattr(strong, "random_operations", lambda rng: [])
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    frames[:, :, :32] = 200
    sides = []
    for flip in (True, False):
        clips = [
            strong_clip(
                frames, np.random.default_rng(seed), crop_size=32, flip=flip
            )
            for seed in range(60)
        ]
        sides.append(sum(c[:, :, 0].mean() < c[:, :, -1].mean() for c in clips))
    assert 15 <= sides[0] <= 45
    # Noise in an erased corner can be darker than a grey-ish bright half.
    assert sides[1] <= 5


def test_there_are_fourteen_operations_and_all_are_drawn():
    assert len(set(OPERATIONS)) == 14
    drawn = [random_operations(np.random.default_rng(s)) for s in range(200)]
    assert {name for pair in drawn for name, _ in pair} == set(OPERATIONS)
    strengths = np.array([strength for pair in drawn for _, strength in pair])
    assert np.abs(strengths).max() <= 1
    assert (strengths < 0).any()
    assert (strengths > 0).any()


@pytest.mark.parametrize("name", RECOLORINGS)
def test_a_recolouring_changes_all_frames_alike(name):
    clip = np.repeat(random_frames(1, 64, 64), 4, axis=0)
    clip = clip // 2 + 30  # room for contrast
    before = clip.copy()
    recolor(clip, name, 0.9)
    assert (clip == clip[:1]).all()
    assert (clip != before).any() == (name != "identity")
    recolor(before, name, 0.0)


@pytest.mark.parametrize(
    ("name", "strength", "tone", "expected"),
    [
        ("brightness", 1.0, 100, 190),
        ("brightness", -1.0, 100, 10),
        ("contrast", 1.0, 100, 100),
        ("posterize", 1.0, 0x77, 0x70),
        ("posterize", -0.5, 0x77, 0x74),
        ("solarize", 0.5, 127, 127),
        ("solarize", 0.5, 128, 127),
        ("solarize", 1.0, 5, 250),
        ("auto_contrast", 1.0, 100, 100),
        ("sharpness", 1.0, 100, 100),
        ("saturation", 1.0, 100, 100),
    ],
)
def test_what_becomes_of_a_grey_clip(name, strength, tone, expected):
    clip = np.full((2, 16, 16, 3), tone, np.uint8)
    recolor(clip, name, strength)
    assert np.abs(clip.astype(int) - expected).max() <= 1


def test_tones_are_stretched_and_evened_out():
    tones = np.linspace(50, 150, 64).astype(np.uint8)
    clip = np.broadcast_to(tones[:, None], (2, 64, 64, 3)).copy()
    recolor(clip, "auto_contrast", 1.0)
    assert clip.min() == 0
    assert clip.max() == 255
    dark = (np.arange(64) ** 2 // 32).astype(np.uint8)
    clip = np.broadcast_to(dark[:, None], (2, 64, 64, 3)).copy()
    recolor(clip, "equalize", 1.0)
    assert np.median(clip) == pytest.approx(127, abs=12)


@pytest.mark.parametrize("name", MOVES)
def test_no_move_is_the_crop_and_a_move_goes_back(name):
    frames = random_frames(2, 64, 64)
    box, size = (0, 0, 64, 64), 64
    still = warped(frames, box, move(name, 0.0, size), size)
    assert (still == frames).all()
    there = move(name, 0.4, size)
    moved = warped(frames, box, there, size)
    assert (moved != frames).any()
    back = warped(moved, box, np.linalg.inv(there), size)
    middle = np.s_[:, 24:40, 24:40]
    difference = np.abs(back[middle].astype(int) - frames[middle])
    assert difference.mean() < 4


def test_a_warp_without_moves_is_the_resized_crop():
    frames = random_frames(2, 64, 80)
    top, left, height, width = box = (5, 7, 40, 50)
    clip = warped(frames, box, np.eye(3), 48)
    for frame, source in zip(clip, frames, strict=True):
        part = source[top : top + height, left : left + width]
        expected = cv2.resize(part, (48, 48))
        inner = np.s_[2:-2, 2:-2]
        difference = np.abs(frame[inner].astype(int) - expected[inner])
        assert difference.max() <= 4


def test_beyond_the_frame_it_is_grey():
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    clip = warped(frames, (0, 0, 32, 32), move("translate_x", 1.0, 32), 32)
    assert (clip[:, :, -10:] == 128).all()
    assert (clip[:, :, :15] == 0).all()


def test_a_box_is_erased_at_the_same_place_in_all_frames():
    for seed in range(30):
        clip = np.zeros((3, 40, 40, 3), np.uint8)
        erase(clip, np.random.default_rng(seed))
        assert (clip == clip[:1]).all()
        rows, columns = np.nonzero(clip[0].any(-1))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert len(rows) == area
        assert 0.005 < area / 1600 < 0.36


def test_without_keras_cv_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    keras_cv_clips.keras_cv_layers.cache_clear()
    with pytest.raises(EnvironmentFault, match=r"har_keras\[cv\]"):
        keras_cv_clips.keras_cv_layers()


@pytest.mark.filterwarnings("ignore")  # keras-cv's own
def test_keras_cv_changes_all_frames_alike():
    pytest.importorskip("keras_cv", reason="needs the extra cv")
    frames = np.repeat(random_frames(1), 4, axis=0)
    for seed in range(4):
        first, again = (
            keras_cv_clips.keras_cv_clip(
                frames, np.random.default_rng(seed), crop_size=32
            )
            for _ in range(2)
        )
        assert first.shape == (4, 32, 32, 3)
        assert (first == first[:1]).all()
        assert (first == again).all()
