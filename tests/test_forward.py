"""The fast forward pass of many clips."""

import gc
import weakref

import numpy as np
import pytest
from support.videos import draw_video
from test_views import MeanModel

from har_keras.config import Config
from har_keras.inference import forward
from har_keras.inference.classifier import Classifier
from har_keras.inference.forward import BATCH_SIZE, forward_of
from har_keras.model.vit import VideoViT


def tiny():
    model = VideoViT(
        num_classes=3, num_frames=4, crop_size=32, hidden_dim=16, num_layers=1,
        num_heads=2, mlp_dim=16,
    )  # fmt: skip
    model.build()
    return model


@pytest.fixture
def clips():
    shape = (BATCH_SIZE, 4, 32, 32, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")


@pytest.mark.parametrize("number", [0, 10, float("nan")])
def test_few_clips_are_not_worth_compiling_for(clips, number, monkeypatch):
    monkeypatch.setattr(forward, "_by_micro_batches", lambda _: 1 / 0)
    model = tiny()
    np.testing.assert_array_equal(
        forward_of(model, number)(clips), model.predict_on_batch(clips)
    )


def test_what_was_compiled_answers_as_the_model_and_is_kept(clips):
    model = tiny()
    fast = forward_of(model, 1e5)
    np.testing.assert_allclose(
        fast(clips), model.predict_on_batch(clips), atol=1e-6
    )
    assert forward_of(model) is fast


def test_the_windows_of_a_long_timeline_are_many_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(forward, "_MANY_CLIPS", 5)
    model = tiny()
    config = Config().replace(num_frames=4, fps=4.0, crop_size=32)
    classifier = Classifier(model, ("a", "b", "c"), config)
    short = draw_video(tmp_path / "short.mp4", num_frames=16 * 3)
    classifier.predict(short, timeline=True)
    assert model not in forward._compiled
    long = draw_video(tmp_path / "long.mp4", num_frames=16 * 8)
    found = classifier.predict(long, timeline=True)
    assert model in forward._compiled
    monkeypatch.setattr(forward, "_compiled", {})
    monkeypatch.setattr(forward, "_MANY_CLIPS", 1e9)
    np.testing.assert_allclose(
        found.timeline.probabilities,
        classifier.predict(long, timeline=True).timeline.probabilities,
        atol=1e-6,
    )


def test_a_model_is_forgotten_with_what_was_compiled_of_it(clips):
    model = tiny()
    forward_of(model, 1e5)(clips)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_what_is_no_model_of_keras_is_called_as_it_is():
    black = np.zeros((BATCH_SIZE, 4, 8, 8, 3), "uint8")
    assert forward_of(MeanModel(), 1e5)(black)[0].tolist() == [0, 1]
