"""Real video, odd ones among it, through every way that a model is asked."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tiny_serving import gif, jpegs

from har_keras.config import Config, EvaluationConfig
from har_keras.model.build import build_model
from har_keras.prepare import prepare
from har_keras.reporting.views import view_clips
from har_keras.serving.client import ServingClient
from har_keras.serving.signatures import export_saved_model
from har_keras.serving.usage import Usage
from har_keras.video.manifest import Manifest

NAMES = ("gym", "walk", "work")
NUM_CLIPS = 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips(real_videos, tmp_path_factory):
    """The middle clips of rotated, variable-rate and ordinary videos."""
    config = Config().replace(
        cache="jpeg", store_dir=tmp_path_factory.mktemp("store")
    )
    listed = Manifest.from_folder(real_videos).split("test")
    odd = [v for v in listed if "-rot" in v.file or "-vfr" in v.file]
    others = [video for video in listed if video not in odd]
    chosen = [*odd[:8], *others][: NUM_CLIPS - 2]
    chosen += others[-2:]
    train = [dataclasses.replace(video, split="train") for video in chosen]
    names = tuple(sorted({video.class_name for video in train}))
    manifest = Manifest(real_videos, names, tuple(train))
    store, manifest = prepare(manifest, config.clip, config.store)
    one = EvaluationConfig(num_clips=1, num_crops=1)
    return np.concatenate(
        [view_clips(store, v, config.clip, one) for v in manifest.videos]
    )


@pytest.fixture(scope="module")
def model():
    config = Config()
    model = build_model(config.model, config.clip, num_classes=3, seed=0)
    # Untrained, all classes are nearly alike; a steeper head tells them apart.
    kernel = model.layers[-1].kernel
    kernel.assign(np.random.default_rng(0).normal(0, 0.25, kernel.shape))
    return model


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("run") / "saved_model"
    export_saved_model(model, NAMES, Usage(), base)
    return base


@pytest.fixture(scope="module")
def expected(model, clips):
    assert clips.shape == (NUM_CLIPS, 16, 112, 112, 3)
    found = model.predict_on_batch(clips)
    assert found.std() > 0.02  # Else any answer would do.
    return found


def test_every_signature_agrees(base, clips, expected):
    served = tf.saved_model.load(str(base / "1")).signatures
    raw = served["serving_default"](clips=tf.constant(clips))
    np.testing.assert_allclose(raw["probabilities"], expected, atol=1e-5)
    pictures = tf.constant([jpegs(clip) for clip in clips])
    found = served["serving_jpeg"](frames_bytes=pictures)["probabilities"]
    assert_nearly(found.numpy(), expected, 0.02)
    found = served["serving_gif"](gif_bytes=tf.constant([*map(gif, clips)]))
    # 256 colours a frame are not what a camera saw.
    assert_nearly(found["probabilities"].numpy(), expected, 0.1)


@pytest.mark.parametrize("way", ["rest", "grpc"])
@pytest.mark.parametrize("frames", ["raw", "jpeg"])
def test_the_client_agrees(base, clips, expected, way, frames):
    pytest.importorskip(
        "tensorflow_serving",
        reason="needs `pip install --no-deps tensorflow-serving-api`",
    )
    from stand_in_server import StandIn

    server = StandIn(base)
    try:
        with ServingClient(getattr(server, way), frames=frames) as client:
            found = np.concatenate(
                [client.predict(clip[None]).probabilities for clip in clips]
            )
    finally:
        server.close()
    assert_nearly(found, expected, 1e-5 if frames == "raw" else 0.02)


def assert_nearly(found, expected, tolerance):
    """Probabilities within a tolerance; the same label unless it is a tie."""
    np.testing.assert_allclose(found, expected, atol=tolerance)
    best = np.sort(expected)[:, -2:]
    clear = best[:, 1] - best[:, 0] > 2 * tolerance
    same = found.argmax(1) == expected.argmax(1)
    assert same[clear].all()
