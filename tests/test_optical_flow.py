"""Statistics of optical flow: what moves, which way, and how steadily."""

import keras
import numpy as np
import pytest

from har_keras.backbones.catalog import load_backbone
from har_keras.backbones.classifier import build_classifier
from har_keras.backbones.extractor import FeatureExtractor
from har_keras.backbones.feature_vit import statistics, statistics_weights
from har_keras.backbones.optical_flow import (
    NUM_FLOW_STATISTICS,
    area_weights,
    flow,
    flow_statistics,
    gray_frames,
)
from har_keras.config import Config
from har_keras.errors import UsageError

SIZE = 160


def as_array(x):
    return np.asarray(keras.ops.convert_to_numpy(x))


def texture(height=2 * SIZE, width=2 * SIZE, seed=0):
    """A smooth random picture, as gradients need."""
    small = np.random.default_rng(seed).random((height // 20, width // 20))
    rows = np.linspace(0, len(small) - 1, height)
    columns = np.linspace(0, small.shape[1] - 1, width)
    along = np.stack([np.interp(columns, range(small.shape[1]), row)
                      for row in small])  # fmt: skip
    return np.stack([np.interp(rows, range(len(small)), column)
                     for column in along.T], axis=1)  # fmt: skip


def clip_of(picture, shifts):
    """Returns a window of a picture that moves by some pixels a frame."""
    frames = []
    for right, down in shifts:
        y, x = 40 + down, 40 + right
        frames.append(picture[y : y + SIZE, x : x + SIZE])
    gray = np.round(255 * np.stack(frames)).astype("uint8")
    return np.repeat(gray[None, ..., None], 3, axis=-1)


def walker(paths, background):
    """Returns clips of a textured square that takes a path, `(right, down)`."""
    square = texture(40, 40, seed=1)
    frames = []
    for right, down in paths:
        frame = background.copy()
        frame[60 + down : 100 + down, 60 + right : 100 + right] = square
        frames.append(frame)
    gray = np.round(255 * np.stack(frames)).astype("uint8")
    return np.repeat(gray[None, ..., None], 3, axis=-1)


def test_the_flow_is_that_of_a_picture_that_moves():
    shifts = [(-2 * t, -t) for t in range(8)]  # the content moves right, down
    clip = clip_of(texture(), shifts)
    right, down = flow(gray_frames(clip, 80))
    # 2 of 160 pixels a step, over eight steps; the ridge takes some of it.
    assert np.median(as_array(right)) == pytest.approx(0.1, rel=0.3)
    assert np.median(as_array(down)) == pytest.approx(0.05, rel=0.3)


def test_the_motion_of_the_camera_is_left_out():
    """A person seen by a camera that pans, and by one that stands still."""
    still, pans = [
        flow(gray_frames(clip_of(texture(), shifts), 80))
        for shifts in ([(0, 0)] * 8, [(t, 0) for t in range(8)])
    ]
    assert np.abs(as_array(still[0])).max() < 1e-4
    assert np.abs(as_array(pans[0])).mean() > 0.03
    clips = [clip_of(texture(), [(t, 0) for t in range(8)]),
             clip_of(texture(), [(0, 0)] * 8)]  # fmt: skip
    pans, still = as_array(flow_statistics(np.concatenate(clips)))
    size = 3  # the logarithm of the mean speed
    moved = walker([(2 * t, 0) for t in range(8)], texture(SIZE, SIZE))
    moves = as_array(flow_statistics(moved))[0]
    assert still[size] < pans[size] < moves[size]


def test_to_and_fro_is_told_from_going():
    background = np.full((SIZE, SIZE), 0.4)
    going = [(2 * t, 0) for t in range(16)]
    to_and_fro = [(2 * (t % 2), 0) for t in range(16)]
    up_and_down = [(0, 2 * (t % 2)) for t in range(16)]
    steady, shakes, jumps = (
        as_array(flow_statistics(walker(path, background)))[0]
        for path in (going, to_and_fro, up_and_down)
    )
    vertical, coherence, autocorrelation = 22, 18, 12
    assert steady[coherence] > 0.7 > 0.2 > shakes[coherence]
    assert shakes[autocorrelation] < -0.8
    assert jumps[vertical] > 0.9 > 0.1 > shakes[vertical]


def test_a_mirrored_clip_has_the_same_statistics():
    clip = walker([(3 * t, t % 3) for t in range(10)], texture(SIZE, SIZE))
    mirrored = clip[:, :, :, ::-1]
    np.testing.assert_allclose(
        as_array(flow_statistics(mirrored)), as_array(flow_statistics(clip)),
        atol=1e-3,
    )  # fmt: skip


def test_a_clip_without_motion_or_light_has_finite_statistics():
    clips = np.zeros((2, 4, 48, 64, 3), "uint8")
    clips[1] = np.random.default_rng(0).integers(0, 256, clips[1].shape)
    found = as_array(flow_statistics(clips))
    assert found.shape == (2, NUM_FLOW_STATISTICS)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("size", [32, 80, 112, 160])
def test_gray_frames_are_means_of_squares(size):
    clip = np.random.default_rng(0).integers(
        0, 256, (1, 2, size, size, 3), "uint8"
    )
    found = as_array(gray_frames(clip, 40))
    luma = clip @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(found.mean(), luma.mean(), rtol=1e-5)
    if size % 40 == 0:
        side = size // 40
        wanted = luma.reshape(1, 2, 40, side, 40, side).mean((3, 5))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(area_weights(size, 40).sum(1), 1, rtol=1e-5)


FLOW = {
    "recipe": "transfer", "crop_size": 64, "num_frames": 8, "num_layers": 1,
}  # fmt: skip


@pytest.mark.parametrize("pooling", ["grid", "motion"])
def test_the_network_reads_every_second_frame_and_the_flow_all(pooling):
    config = Config().replace(**FLOW, feature_pooling=pooling)
    backbone = load_backbone(config.features, config.clip)
    clips = np.random.default_rng(0).integers(
        0, 256, (2, 8, 64, 64, 3), "uint8"
    )
    features = as_array(backbone.of_clips(clips))
    assert features.shape[1:] == backbone.feature_shape(8, 64)
    assert features.shape[1] == 4
    expected = as_array(flow_statistics(clips))[:, None, None, None]
    last = features[..., -NUM_FLOW_STATISTICS:]
    np.testing.assert_allclose(
        last, np.broadcast_to(expected, last.shape), atol=1e-5
    )
    changed = clips.copy()
    changed[:, 1::2] = 255 - changed[:, 1::2]
    again = as_array(backbone.of_clips(changed))
    np.testing.assert_array_equal(
        again[..., :-NUM_FLOW_STATISTICS],
        features[..., :-NUM_FLOW_STATISTICS],
    )
    assert np.abs(again - features).max() > 0.1
    extractor = FeatureExtractor(backbone, 64)
    rows = np.stack([np.arange(8), np.arange(4, 12)])
    frames = np.concatenate([clips[0], clips[1, 4:]])
    by_rows = extractor.features(frames, rows)
    np.testing.assert_array_equal(extractor.of_clips(frames[rows]), by_rows)
    np.testing.assert_allclose(
        by_rows, as_array(backbone.of_clips(frames[rows])),
        atol=2e-3, rtol=2e-3,
    )  # fmt: skip


def test_the_linear_layer_reads_the_flow():
    model = build_classifier(Config().replace(**FLOW), 3)
    shape = (2, *model.reader.feature_shape)
    features = np.random.default_rng(0).random(shape, "float32")
    rows = as_array(statistics(features, 1280, NUM_FLOW_STATISTICS))
    weights = statistics_weights(shape[-1], 1280, NUM_FLOW_STATISTICS)
    assert model.reader.linear.kernel.shape[0] == rows.shape[1] == len(weights)
    np.testing.assert_allclose(
        rows[:, -NUM_FLOW_STATISTICS:],
        features[:, 0, 0, 0, -NUM_FLOW_STATISTICS:],
    )
    assert set(weights[-NUM_FLOW_STATISTICS:]) == {3.0}


def test_the_linear_layer_learns_faster_than_the_transformer_beside_it():
    both, alone = (
        build_classifier(Config().replace(**FLOW, linear_path=linear), 3)
        for linear in (True, False)
    )
    factors = {v.path: both.rate_factor(v) for v in both.trainable_variables}
    assert sorted(set(factors.values())) == [0.01, 1.0]
    assert [name for name, f in factors.items() if f == 1] == [
        both.reader.linear.kernel.path
    ]
    found = {alone.rate_factor(v) for v in alone.trainable_variables}
    assert found == {1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optical_flow": True}, "--optical-flow needs --backbone NAME"),
        ({"backbone_stride": 2}, "--backbone-stride needs --backbone NAME"),
        (
            {"recipe": "transfer", "num_frames": 2, "backbone_stride": 1},
            "--optical-flow needs --num-frames 4 or more. Received: 2.",
        ),
        (
            {"recipe": "transfer", "num_frames": 4, "backbone_stride": 4},
            "--feature-pooling motion needs --num-frames 8 or more",
        ),
        (
            {"recipe": "transfer", "num_frames": 9},
            "--num-frames must be a multiple of --backbone-stride",
        ),
    ],
)  # fmt: skip
def test_options_that_can_not_be_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Config().replace(**options)
