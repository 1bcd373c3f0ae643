import keras
import numpy as np
import pytest

from har_keras.model.vit import VideoViT
from har_keras.reporting.long import CompiledLater

CLIPS = np.random.default_rng(0).integers(
    0, 256, (3, 4, 32, 32, 3), dtype="uint8"
)


def test_answers_stay_the_same():
    model = VideoViT(3, num_frames=4, crop_size=32, num_layers=1, seed=0)
    expected = np.asarray(model.predict_on_batch(CLIPS))
    later = CompiledLater(model, batches_before=1)
    for _ in range(3):
        found = later.predict_on_batch(CLIPS)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="TensorFlow alone needs it"
)
def test_the_model_s_own_way_is_left_after_some_batches():
    model = VideoViT(3, num_frames=4, crop_size=32, num_layers=1, seed=0)
    asked = []
    plain = model.predict_on_batch
    model.predict_on_batch = lambda clips: asked.append(1) or plain(clips)
    later = CompiledLater(model, batches_before=2)
    for _ in range(4):
        later.predict_on_batch(CLIPS)
    assert len(asked) == 2


def test_what_is_no_keras_model_answers_itself():
    class Model:
        def predict_on_batch(self, clips):
            return np.full((len(clips), 2), 0.5)

    later = CompiledLater(Model(), batches_before=0)
    assert later.predict_on_batch(CLIPS).shape == (3, 2)
