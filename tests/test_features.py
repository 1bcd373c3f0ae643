"""A frozen backbone: its features are computed once, and all else follows."""

import csv
import dataclasses
import shutil

import keras
import numpy as np
import pytest

from har_keras import prepare
from har_keras.backbones.catalog import load_backbone
from har_keras.backbones.classifier import build_classifier
from har_keras.backbones.extractor import FeatureExtractor
from har_keras.backbones.pooling import motion_weights
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.evaluation.controls import predict_controls
from har_keras.features import extraction
from har_keras.features.dataset import FeatureDataset, training_views
from har_keras.features.feature_store import View
from har_keras.features.preparation import prepared_features
from har_keras.inference.attention_rollout import attention_rollout
from har_keras.inference.controls import CONTROLS
from har_keras.inference.load import load, load_model, model_info_of
from har_keras.inference.views import view_features
from har_keras.manifest.manifest import Manifest
from har_keras.model.weights import name_in
from har_keras.run import Run
from har_keras.serving.formats import ExportSource, export_format
from har_keras.store.preparation import decode_usable
from har_keras.train import resume, train
from har_keras.training import fit as fitting
from har_keras.training.fingerprint import reopened
from har_keras.training.initial_weights import initialize_weights
from har_keras.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("without_xla", "without_export_check")
SMALL = {
    "recipe": "transfer", "crop_size": 64, "num_frames": 4, "fps": 2.0,
    "epochs": 4, "batch_size": 4, "num_layers": 1, "num_heads": 2,
    "dropout_rate": 0.1, "wandb": "off", "cache": "jpeg", "num_clips": 2,
}  # fmt: skip


def small_config(folder, **options):
    return Config().replace(**SMALL | {"store_dir": folder / "store"} | options)


@pytest.fixture
def untraced(monkeypatch):
    """Trains step by step: a few steps take less than tracing a network."""
    always = property(lambda self: True, lambda self, value: None)
    if keras.backend.backend() == "tensorflow":
        monkeypatch.setattr(Trainer, "run_eagerly", always)


@pytest.fixture(scope="module")
def run(make_once, video_folder):
    def fill(folder):
        train(video_folder, folder / "run", small_config(folder))

    return Run(make_once("features", fill) / "run")


@pytest.fixture(scope="module")
def prepared(run):
    """The run's features, its videos and its options."""
    config = run.config()
    store, manifest = reopened(run, config)
    return prepared_features(store, manifest, config), manifest, config


def test_the_run_says_which_backbone_it_has(run):
    assert run.config().features.backbone == "efficientnet-lite0"
    model = load_model(run)
    assert model.backbone.info.license == "Apache-2.0"
    card = run.card_file.read_text()
    assert "efficientnet-lite0" in card
    assert "Apache-2.0" in card
    assert model.backbone.weights_hash in card


def test_features_are_those_that_the_backbone_computes(prepared):
    store, manifest, config = prepared
    backbone = load_backbone(config.features, config.clip)
    video = manifest.usable("val")[0]
    stored = view_features(store, video, config.evaluation)
    clips = np.stack(
        [
            store.frames(video.sha256, row)
            for row in store.rows(video.kept_frames)
        ]
    )
    expected = keras.ops.convert_to_numpy(backbone.of_clips(clips))
    assert stored.dtype == np.float16
    assert stored.shape == expected.shape
    np.testing.assert_allclose(stored, expected, atol=1e-3, rtol=1e-3)


def test_equal_frames_are_read_once(prepared, monkeypatch):
    _, _, config = prepared
    backbone = load_backbone(config.features, config.clip)
    extractor = FeatureExtractor(backbone, 64)
    read = []
    maps = extractor.maps
    monkeypatch.setattr(
        extractor, "maps", lambda x: read.append(len(x)) or maps(x)
    )
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), "uint8")
    rows = np.array([[0, 1, 2, 3], [1, 2, 3, 4], [4, 4, 0, 0]])
    found = extractor.of_clips(frames[rows])
    assert read == [5]
    np.testing.assert_array_equal(found, extractor.features(frames, rows))
    extractor.num_remembered = 5
    extractor.of_clips(frames[rows[:2]])
    extractor.of_clips(frames[rows[1:2]])
    assert read == [5, 5, 4]  # every second frame, and none of them again


def test_what_is_there_is_not_computed_again(prepared, monkeypatch):
    store, manifest, config = prepared

    def never(*_):
        raise AssertionError("the network ran")

    monkeypatch.setattr(FeatureExtractor, "maps", never)
    again = prepared_features(store, manifest, config)
    assert again.features_dir == store.features_dir


def test_the_controls_are_computed_once(run, prepared, monkeypatch):
    store, manifest, config = prepared
    model = load_model(run)
    for file in store.features_dir.glob("*-shuffled-*.npy"):
        file.unlink()

    def controls():
        return predict_controls(
            model, store, manifest.usable("val"), config.clip, config.evaluation
        )

    first = controls()

    def never(*_):
        raise AssertionError("the network ran")

    monkeypatch.setattr(FeatureExtractor, "maps", never)
    for control, rows in controls().items():
        np.testing.assert_array_equal(rows, first[control])


def test_controls_of_several_videos_share_the_batches_of_the_backbone(
    run, prepared, monkeypatch
):
    store, manifest, config = prepared
    model, read = load_model(run), []
    for file in store.features_dir.glob("*-*-*.npy"):
        file.unlink()
    of_clips = FeatureExtractor.of_clips

    def counted(self, clips):
        read.append(len(clips))
        return of_clips(self, clips)

    monkeypatch.setattr(FeatureExtractor, "of_clips", counted)
    videos = manifest.usable("val")
    views = config.evaluation.num_clips * config.evaluation.num_crops
    predict_controls(model, store, videos, config.clip, config.evaluation)
    assert sum(read) == len(videos) * len(CONTROLS) * views
    assert read[0] == min(32, sum(read))


def test_a_killed_extraction_loses_only_the_video_it_was_at(
    prepared, tmp_path, monkeypatch
):
    _, manifest, config = prepared
    config = config.replace(store_dir=tmp_path / "store")
    store, manifest = decode_usable(manifest, config.clip, config.store)
    write, written = extraction.write_array, []

    def killed(file, features):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(file)
        write(file, features)

    monkeypatch.setattr(extraction, "write_array", killed)
    with pytest.raises(KeyboardInterrupt):
        prepared_features(store, manifest, config)
    monkeypatch.setattr(extraction, "write_array", write)
    assert all(file.is_file() for file in written)
    assert not list(written[0].parent.glob(".*"))
    stamps = [file.stat().st_mtime_ns for file in written]
    found = prepared_features(store, manifest, config)
    assert [file.stat().st_mtime_ns for file in written] == stamps
    for video in manifest.usable("train"):
        for view in training_views(config):
            assert found.has_features(video.sha256, view)


def test_shards_are_together_what_one_machine_computes(
    prepared, video_folder, tmp_path
):
    _, _, config = prepared
    config = config.replace(store_dir=tmp_path / "store")
    for shard in ("1/2", "2/2"):
        store = prepare.prepare(video_folder, config, shard=shard)
    folder = next(store.folder.parent.glob("features/*"))
    halves = {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.rmtree(folder)
    prepare.prepare(video_folder, config)
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert halves == whole


def test_a_damaged_file_of_features_is_named(prepared):
    store, manifest, _ = prepared
    video = manifest.usable("val")[0]
    file = store.feature_file(video.sha256, View(0.123))
    file.write_bytes(b"no array")
    with pytest.raises(DataError, match=file.name):
        store.all_features(video.sha256, View(0.123))
    file.unlink()


def test_batches_are_the_same_each_time(prepared):
    store, manifest, config = prepared
    videos = manifest.usable("train")

    def batches():
        data = FeatureDataset(store, manifest, videos, config, training=True)
        return list(data.batches(epochs=2).as_numpy_iterator())

    first, second = batches(), batches()
    assert len(first) == len(second) > 2
    for a, b in zip(first, second, strict=True):
        assert a[0].dtype == np.float16
        for one, other in zip(a, b, strict=True):
            np.testing.assert_array_equal(one, other)


def test_mixup_mixes_features_and_labels(prepared):
    store, manifest, config = prepared
    videos = manifest.usable("train")

    def batch(**options):
        data = FeatureDataset(
            store, manifest, videos, config.replace(**options), training=True
        )
        return data.read_batch(0, 0)

    plain, labels = batch()
    mixed, targets = batch(mixup=0.4)
    share = float(targets.max(1)[0])
    expected = plain.astype("float32")
    lead = np.eye(2)[labels]
    both = share * lead + (1 - share) * lead[::-1]
    if not np.allclose(both, targets, atol=1e-6):
        share = 1 - share
    expected = share * expected + (1 - share) * expected[::-1]
    np.testing.assert_allclose(mixed, expected, atol=0.01)


def test_predict_answers_as_evaluate(run):
    rows = list(csv.DictReader(run.videos_file.read_text().splitlines()))
    classifier = load(run.path)
    manifest = Manifest.read(run.manifest_file)
    assert rows
    for row in rows:
        prediction = classifier.predict(manifest.root / row["file"])
        for name, value in prediction.probabilities.items():
            assert float(row[name]) == pytest.approx(value, abs=2e-4)


def test_a_timeline_reads_the_same_features(run):
    classifier = load(run.path)
    manifest = Manifest.read(run.manifest_file)
    path = manifest.path(manifest.usable("test")[0])
    found = classifier.predict(path, timeline=True)
    assert found.timeline.probabilities.sum(1) == pytest.approx(1)


def test_resumes_bit_for_bit(run, tmp_path, monkeypatch):
    """A run that is stopped in its third epoch ends as the first one did."""
    config = run.config()
    store, manifest = reopened(run, config)
    features = prepared_features(store, manifest, config)
    new = Run.new(tmp_path / "halves")
    new.create(config)
    manifest.write(new.manifest_file)
    real = fitting.Record.on_epoch_end

    def stopping(self, epoch, logs=None):
        real(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Record, "on_epoch_end", stopping)
        with pytest.raises(KeyboardInterrupt):
            fitting.fit(new, config, features, manifest)
    fitting.fit(new, config, features, manifest)
    whole, halves = last_variables(run), last_variables(new)
    assert set(whole) == set(halves)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, halves[name], err_msg=name)


def last_variables(run):
    """Returns the variables of the newest checkpoint, by name."""
    newest = sorted(run.checkpoint_dir.glob("*.npz"))[-1]
    with np.load(newest) as arrays:
        return {name: arrays[name] for name in arrays if name != "state"}


def test_a_finished_run_is_resumed_without_training(run, monkeypatch):
    monkeypatch.setattr("har_keras.export.export", lambda _: None)
    before = run.history_file.read_text()
    resume(run)
    assert run.history_file.read_text() == before


def test_the_saved_model_answers_as_keras(run):
    exported = load(run.saved_model_dir)
    model = load_model(run)
    clips = np.random.default_rng(0).integers(
        0, 256, (7, 4, 64, 64, 3), "uint8"
    )
    expected = keras.ops.convert_to_numpy(model(clips, training=False))
    found = exported.model.predict_on_batch(clips)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert exported.config.clip == run.config().clip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backbone": "efficientnet-lite9"}, "mean efficientnet-lite"),
        ({"augment": "strong"}, "--augment strong changes pixels"),
        ({"cutmix": 1.0}, "--cutmix changes pixels"),
        ({"stem": "gradients"}, "--stem pixels"),
        ({"speed_jitter": 0.2}, "--speed-jitter changes the frames"),
        ({"micro_batch_size": 4}, "--micro-batch-size is for pixels"),
        ({"num_frames": 2}, "--feature-pooling motion needs --num-frames 4"),
        ({"model": "cnn3d"}, "--model vit"),
        ({"backbone": "none", "unfreeze": 2}, "--unfreeze needs --backbone"),
    ],
)
def test_what_contradicts_a_backbone_is_refused_before_a_video_is_read(
    options, sentence, tmp_path, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("a video was read")

    monkeypatch.setattr(Manifest, "from_folder", never)
    chosen = {"recipe": "transfer"} | options
    with pytest.raises(UsageError, match=sentence):
        train(tmp_path, tmp_path / "run", Config().replace(**chosen))
    assert not (tmp_path / "run").exists()


def test_a_truncated_file_of_weights_is_refused_before_a_video_is_read(
    tmp_path, monkeypatch
):
    wrong = tmp_path / "weights.pth"
    wrong.write_bytes(b"\x80\x02 truncated")
    config = Config().replace(recipe="transfer", backbone_weights=wrong)
    monkeypatch.setattr(Manifest, "from_folder", lambda *_, **__: 1 / 0)
    with pytest.raises(DataError, match="not the published file"):
        train(tmp_path, tmp_path / "run", config)


def test_squeezed_frames_are_squares_of_the_whole_picture(prepared):
    store, manifest, _ = prepared
    assert store.spec.squeeze
    video = manifest.usable("train")[0]
    assert store.frames(video.sha256, np.array([0])).shape == (1, 64, 64, 3)
    assert dataclasses.replace(store.spec, squeeze=False).key != store.spec.key


@pytest.mark.usefixtures("untraced")
def test_the_last_blocks_are_trained_too(run, tmp_path, monkeypatch):
    """And no others; a stopped run goes on bit for bit."""
    if keras.backend.backend() == "jax":
        pytest.skip("XLA takes minutes for the gradients on a CPU")
    config = run.config().replace(unfreeze=2, epochs=2, learning_rate=0.001)
    store, manifest = reopened(run, config)
    store = prepared_features(store, manifest, config)

    new, stopped = Run.new(tmp_path / "whole"), tmp_path / "stopped"
    new.create(config)
    manifest.write(new.manifest_file)
    real = fitting.Record.on_epoch_begin

    def copying(self, epoch, logs=None):
        if epoch == 1:  # what a machine without power would leave
            shutil.copytree(new.path, stopped)
        real(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Record, "on_epoch_begin", copying)
        fitting.fit(new, config, store, manifest)
    assert len(Run(stopped).history_file.read_text().splitlines()) == 2
    fitting.fit(Run(stopped), config, store, manifest)
    ends, again = last_variables(new), last_variables(Run(stopped))
    assert set(ends) == set(again)
    for name, value in ends.items():
        np.testing.assert_array_equal(value, again[name], err_msg=name)
    whole = load_model(new)
    published = load_backbone(config.features, config.clip).network
    trained_network = whole.backbone.network
    changed = {
        layer.name
        for layer, other in zip(
            trained_network.layers, published.layers, strict=True
        )
        for one, two in zip(
            layer.get_weights(), other.get_weights(), strict=True
        )
        if not np.array_equal(one, two)
    }
    assert changed == {"block_15", "head"}


def test_attention_is_spread_over_the_picture(run):
    model = load_model(run)
    clips = np.random.default_rng(0).integers(
        0, 256, (2, 4, 64, 64, 3), "uint8"
    )
    found = attention_rollout(model, clips)
    assert found.shape == (2, 2, 2, 2)  # it reads every second frame
    np.testing.assert_allclose(found.sum((1, 2, 3)), 1, atol=1e-5)
    weights = motion_weights(model.backbone.maps_of(clips))
    np.testing.assert_allclose(
        found.sum(1), keras.ops.convert_to_numpy(weights), atol=1e-5
    )


def test_a_training_starts_from_the_weights_of_another(run):
    config = run.config()
    source = load_model(run).reader
    target = build_classifier(config.replace(seed=5), num_classes=3).reader
    initialize_weights(target, str(run.path))
    theirs = {name_in(source, w): w for w in source.trainable_weights}
    for weight in target.trainable_weights:
        name = name_in(target, weight)
        if weight.shape == theirs[name].shape:
            np.testing.assert_array_equal(weight, theirs[name], err_msg=name)
        else:
            assert name.split("/")[0] in ("head", "linear")


@pytest.mark.parametrize("name", ["onnx", "openvino", "litert", "litert-int8"])
def test_other_formats_answer_as_keras(name, run, tmp_path):
    for package in ("onnx", "tf2onnx", "openvino", "ai_edge_litert"):
        pytest.importorskip(package)
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only the TensorFlow backend writes them")
    model = load_model(run)
    info = model_info_of(run, model)
    source = ExportSource(model, ("down", "up"), info)
    clips = np.random.default_rng(0).integers(
        0, 256, (7, 4, 64, 64, 3), "uint8"
    )
    _, opened = export_format(name, source, tmp_path, clips)
    assert opened.info.backbone["license"] == "Apache-2.0"
    expected = keras.ops.convert_to_numpy(model(clips, training=False))
    tolerance = 0.1 if name == "litert-int8" else 1e-5
    found = opened.predict_on_batch(clips)
    np.testing.assert_allclose(found, expected, atol=tolerance)
