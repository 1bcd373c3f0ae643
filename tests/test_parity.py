"""Real video, odd ones among it, through every way that a model is asked."""

import dataclasses

import keras
import numpy as np
import pytest
from programs import parity_table

from har_keras.config import Config
from har_keras.manifest.manifest import Manifest
from har_keras.model.build import build_model
from har_keras.serving.model_info import ModelInfo
from har_keras.store.preparation import decode_usable

NAMES = ("gym", "walk", "work")
WAYS = [
    "serving_default", "serving_jpeg", "serving_jpeg, PNG", "serving_gif",
    "onnx", "openvino", "litert", "litert-int8",
    "client, REST, raw", "client, REST, png", "client, REST, jpeg",
    "client, gRPC, raw", "client, gRPC, png", "client, gRPC, jpeg",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(real_videos, tmp_path_factory):
    """The middle clips of rotated, variable-rate and ordinary videos."""
    config = Config().replace(
        cache="jpeg", store_dir=tmp_path_factory.mktemp("store")
    )
    listed = Manifest.from_folder(real_videos)
    chosen = parity_table.odd_videos(listed.videos)
    names = tuple(sorted({video.class_name for video in chosen}))
    train = [dataclasses.replace(video, split="train") for video in chosen]
    manifest = Manifest(real_videos, names, tuple(train))
    store, manifest = decode_usable(manifest, config.clip, config.store)
    shown = parity_table.middle_clips(store, manifest.videos, config.clip)
    labels = [manifest.label(video) for video in manifest.videos]
    return shown, np.eye(len(NAMES))[labels]


@pytest.fixture(scope="module", params=["pixels", "gradients"])
def stem(request):
    return request.param


@pytest.fixture(scope="module")
def model(stem, clips):
    """A model that is sure of the clips, as a trained one is.

    Where two classes are nearly alike, eight bits swap them, and which clips
    that happens to depends on the processor.
    """
    config = Config().replace(stem=stem)
    keras.utils.set_random_seed(0)
    model = build_model(config.model, config.clip, num_classes=3, seed=0)
    # Smoothed, so that no probability is next to 0 or 1, where all agree.
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.3)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(*clips, batch_size=10, epochs=40, verbose=0)
    return model


def test_every_way_agrees(model, stem, clips, tmp_path):
    clips, _ = clips
    assert clips.shape == (parity_table.NUM_CLIPS, 16, 112, 112, 3)
    # Else any answer would do, or any noise swap two.
    expected = model.predict_on_batch(clips)
    assert expected.std() > 0.02
    assert set(expected.argmax(1)) == {0, 1, 2}
    first, second = np.sort(expected)[:, :-3:-1].T
    assert (first - second).min() > 0.2
    assert first.max() < 0.95
    usage = ModelInfo(lossless=stem == "gradients")
    ways = parity_table.parity(model, NAMES, usage, clips, tmp_path)
    print(parity_table.table(ways))
    assert [way for way in ways if not way.holds] == []
    missing = set(WAYS) - {way.name for way in ways}
    for name in missing:
        kind = "client" if "client" in name else name
        assert not parity_table.installed(kind), name


def test_what_differs_does_not_hold():
    expected = np.array([[0.51, 0.49], [0.49, 0.51]])
    compared = parity_table.compared
    assert compared("onnx", expected, expected).holds
    assert not compared("onnx", expected, expected + 2e-5).holds
    assert compared("serving_jpeg", expected, expected + 2e-5).holds
    shown = compared(
        "client, REST, jpeg", expected, expected + 1, lossless=True
    )
    assert (shown.tolerance, shown.holds) == (None, True)
    other = compared("litert-int8", expected, expected - [0.03, 0])
    assert (other.agreement, other.holds) == (0.5, False)
