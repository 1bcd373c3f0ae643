"""Every family of backbones does the whole job, from training to serving."""

import keras
import numpy as np
import pytest
from support.backbones import MAKERS, as_array, random_clips

from har_keras.config import Config
from har_keras.features.preparation import prepared_features
from har_keras.inference.load import load, load_model, model_info_of
from har_keras.manifest.manifest import Manifest
from har_keras.run import Run
from har_keras.serving.signatures import export_saved_model
from har_keras.store.preparation import decode_usable
from har_keras.training import fit as fitting

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]
SMALL = {
    "num_frames": 4, "crop_size": 32, "fps": 2.0, "epochs": 3,
    "batch_size": 4, "num_layers": 1, "hidden_dim": 8, "num_heads": 2,
    "mlp_dim": 8, "patch_size": 16, "tubelet_frames": 1, "augment": "none",
    "dropout_rate": 0.1, "wandb": "off", "cache": "jpeg", "num_clips": 1,
    "num_crops": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def videos(video_folder, tmp_path_factory):
    """The decoded videos, which no backbone changes."""
    config = Config().replace(
        **SMALL, store_dir=tmp_path_factory.mktemp("families") / "store"
    )
    manifest = Manifest.from_folder(video_folder)
    return config, *decode_usable(manifest, config.clip, config.decoding)


def fitted(run, config, store, manifest, monkeypatch, stop_after=None):
    """Trains a run, or goes on; returns its checkpoint."""
    real = fitting.Record.on_epoch_end

    def stopping(self, epoch, logs=None):
        real(self, epoch, logs)
        if epoch == stop_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Record, "on_epoch_end", stopping)
        if stop_after is None:
            fitting.fit(run, config, store, manifest)
        else:
            with pytest.raises(KeyboardInterrupt):
                fitting.fit(run, config, store, manifest)
    newest = sorted(run.checkpoint_dir.glob("*.npz"))[-1]
    with np.load(newest) as arrays:
        return {name: arrays[name] for name in arrays if name != "state"}


@pytest.mark.parametrize("flow", [False, True], ids=["", "flow"])
@pytest.mark.parametrize("kind", MAKERS)
def test_trains_resumes_bit_for_bit_and_answers_alike_when_served(
    kind, flow, videos, tmp_path, monkeypatch
):
    if flow and kind != "application":
        pytest.skip("the flow is the same for all; one is enough")
    config, store, manifest = videos
    (tmp_path / "weights").mkdir()
    options = MAKERS[kind][0](tmp_path / "weights")
    config = config.replace(**config.flat() | options | {"optical_flow": flow})
    store = prepared_features(store, manifest, config)
    runs = [Run.new(tmp_path / name) for name in ("whole", "halves")]
    for run in runs:
        run.create(config)
        manifest.write(run.manifest_file)
    whole = fitted(runs[0], config, store, manifest, monkeypatch)
    fitted(runs[1], config, store, manifest, monkeypatch, stop_after=0)
    halves = fitted(runs[1], config, store, manifest, monkeypatch)
    assert set(whole) == set(halves)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, halves[name], err_msg=name)
    model = load_model(runs[0])
    clips = random_clips(3)
    expected = as_array(model(clips, training=False))
    assert expected.std(0).max() > 0  # the clip decides
    # Stored features are float16.
    np.testing.assert_allclose(
        model.predict_on_batch(clips), expected, atol=2e-3
    )
    if keras.backend.backend() == "tensorflow":
        info = model_info_of(runs[0], model)
        export_saved_model(model, ("down", "up"), info, tmp_path / "exported")
        found = load(tmp_path / "exported").model.predict_on_batch(clips)
        np.testing.assert_allclose(found, expected, atol=1e-5)
