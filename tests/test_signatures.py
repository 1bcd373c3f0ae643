import dataclasses
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from support.tiny_serving import (
    CONFIG,
    INFO,
    NAMES,
    meta_graph_of,
    random_clips,
    signatures_of,
    tiny_model,
)
from support.videos import saved_model_cli

from har_keras.clips.sampling import clip_frame_indices, crop_clip
from har_keras.config import ClipConfig
from har_keras.errors import EnvironmentFault
from har_keras.inference.calibration import Calibration
from har_keras.model.build import build_model
from har_keras.serving import preprocessing, signatures
from har_keras.serving.runtimes import open_exported


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def served(tiny_version):
    return tf.saved_model.load(str(tiny_version))


@pytest.fixture
def unverified(monkeypatch):
    """Leaves out what asks every signature of an export, a second or two."""
    monkeypatch.setattr(signatures, "require_same_predictions", lambda *_: None)


def test_clips_of_the_right_size_give_the_models_probabilities(model, served):
    clips = random_clips(5, 4, 32, 32, 3)
    found = served.signatures["serving_default"](clips=tf.constant(clips))
    expected = keras.ops.convert_to_numpy(model(clips, training=False))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


def test_labels_come_with_their_scores(served):
    clips = random_clips(3, 4, 32, 32, 3, seed=1)
    found = served.signatures["serving_default"](clips=tf.constant(clips))
    probabilities = found["probabilities"].numpy()
    order = np.argsort(-probabilities, axis=1)
    names = np.array(NAMES, "S")
    assert found["top_labels"].numpy().astype("S").tolist() == (
        names[order].tolist()
    )
    np.testing.assert_array_equal(
        found["top_scores"], np.take_along_axis(probabilities, order, 1)
    )
    assert found["class_names"].numpy().astype("S").tolist() == (
        np.tile(names, (3, 1)).tolist()
    )


@pytest.mark.parametrize("threshold", [None, 0.4, 0.5, 1.0])
def test_the_graph_accepts_what_the_calibration_does(model, threshold):
    info = dataclasses.replace(
        INFO, window_temperature=0.6, threshold=threshold, accept_errors=0.05
    )
    _, found = signatures.serving_module(model, NAMES, info)
    clips = random_clips(16, 4, 32, 32, 3)
    outputs = found["serving_default"](clips=tf.constant(clips))
    rule = Calibration(temperature=0.6, threshold=threshold)
    expected = rule.accepts(outputs["probabilities"].numpy().astype("float64"))
    assert outputs["accepted"].dtype == tf.bool
    np.testing.assert_array_equal(outputs["accepted"], expected)
    assert expected.all() == (threshold is None) or threshold == 0.4
    assert threshold != 1.0 or not expected.any()


@pytest.mark.parametrize(
    ("num_given", "expected"),
    [
        (1, [0, 0, 0, 0]),
        (3, [0, 1, 2, 2]),
        (4, [0, 1, 2, 3]),
        (5, [0, 1, 2, 4]),
        (13, [0, 4, 8, 12]),
    ],
)
def test_frames_are_held_or_thinned_out(num_given, expected):
    found = preprocessing.spread_frame_indices(tf.constant(num_given), 4)
    assert found.numpy().tolist() == expected


@pytest.mark.parametrize("num_frames", [2, 7, 16])
def test_frames_are_chosen_in_graph_as_in_training(num_frames):
    for num_given in (*range(1, 70), 500, preprocessing.MAX_FRAMES):
        found = preprocessing.spread_frame_indices(num_given, num_frames)
        expected = clip_frame_indices(
            num_given,
            num_frames=num_frames,
            frame_stride=max(1, (num_given - 1) / (num_frames - 1)),
        )
        assert found.numpy().tolist() == expected.tolist()


def test_stored_frames_are_cropped_in_the_middle_without_a_change():
    clip = ClipConfig()
    frames = random_clips(1, 16, 128, 171, 3)
    found = preprocessing.clips_from_frames(tf.constant(frames), clip)
    # (171 - 112) // 2 = 29: an odd margin leaves one pixel more on the right.
    np.testing.assert_array_equal(found, frames[:, :, 8:120, 29:141])
    np.testing.assert_array_equal(found[0], crop_clip(frames[0], 112))


@pytest.mark.parametrize("size", [(32, 48), (50, 37), (1, 1), (1, 200)])
def test_any_size_is_taken(served, size):
    clips = random_clips(2, 7, *size, 3)
    found = served.signatures["serving_default"](clips=tf.constant(clips))
    assert found["probabilities"].shape == (2, 3)


def test_scaling_keeps_shape_and_brightness():
    clip = ClipConfig(num_frames=1)
    frames = np.zeros((1, 1, 480, 640, 3), "uint8")
    frames[..., 320:, :] = 200
    found = preprocessing.clips_from_frames(tf.constant(frames), clip).numpy()
    assert found.shape == (1, 1, 112, 112, 3)
    assert (found[..., :54, :] == 0).all()
    assert (found[..., 58:, :] == 200).all()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 0, 8, 8, 3), "at least one frame"),
        ((1, 4, 0, 8, 3), "at least one pixel"),
        ((1, 1025, 1, 1, 3), "at most 1024 frames"),
        ((1, 1, 4097, 4097, 3), "at most 16777216 pixels"),
    ],
)
def test_requests_outside_the_limits_are_refused_in_words(
    served, shape, sentence
):
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        served.signatures["serving_default"](
            clips=tf.zeros(shape, dtype=tf.uint8)
        )


def test_no_clip_is_no_answer(served):
    found = served.signatures["serving_default"](
        clips=tf.zeros((0, 4, 32, 32, 3), tf.uint8)
    )
    assert found["probabilities"].shape == (0, 3)


def test_the_next_free_version_is_taken_and_nothing_else_left(
    unverified, model, tmp_path
):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes.txt").write_text("hand-made")
    version = signatures.export_saved_model(model, NAMES, INFO, tmp_path)
    assert version == tmp_path / "8"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "7",
        "8",
        "notes.txt",
    ]
    assert (version / "saved_model.pb").is_file()


@pytest.mark.parametrize("links", [True, False])
def test_no_name_of_a_folder_is_a_pattern(model, tmp_path, monkeypatch, links):
    if not links:  # as on Windows, for most people

        def refused(*arguments, **options):
            raise OSError("A required privilege is not held by the client")

        monkeypatch.setattr(os, "symlink", refused)
    base = tmp_path / "run [1] {a} 100% 'é' \N{GRINNING FACE}" / "saved_model"
    version = signatures.export_saved_model(model, NAMES, INFO, base)
    opened = open_exported(version)
    clips = random_clips(2, 4, 32, 32, 3)
    np.testing.assert_allclose(
        opened.predict_on_batch(clips),
        keras.ops.convert_to_numpy(model(clips, training=False)),
        atol=1e-6,
    )
    assert not version.is_symlink()
    assert (version / "variables/variables.index").is_file()
    assert sorted(path.name for path in base.iterdir()) == ["1"]


def test_a_model_that_answers_otherwise_is_not_published(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(signatures, "_TOLERANCE", -1.0)
    with pytest.raises(EnvironmentFault, match="was not published"):
        signatures.export_saved_model(model, NAMES, INFO, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["default", "jpeg", "gif"])
def test_one_signature_that_answers_otherwise_is_enough(
    model, tiny_version, monkeypatch, name
):
    made_up = signatures.example_requests

    def brighter(clip):
        requests = made_up(clip)
        inputs, clips = requests[f"serving_{name}"]
        requests[f"serving_{name}"] = inputs, clips // 2 + 128
        return requests

    monkeypatch.setattr(signatures, "example_requests", brighter)
    with pytest.raises(EnvironmentFault, match=f"of serving_{name} differ"):
        signatures.require_same_predictions(tiny_version, model, INFO.clip)


def graph_ops(version):
    """Every op of a SavedModel, of its graph and of its functions."""
    graph = meta_graph_of(version).graph_def
    nodes = [*graph.node]
    for function in graph.library.function:
        nodes += function.node_def
    return {node.op for node in nodes}


def test_the_graph_holds_only_what_a_server_has(tiny_version):
    ops = graph_ops(tiny_version)
    assert "Conv3D" in ops
    assert not [op for op in ops if "PyFunc" in op or "Random" in op]
    assert not ops & {"XlaCallModule", "ReadFile", "WriteFile", "PrintV2"}


@pytest.mark.parametrize("stem", ["pixels", "gradients"])
def test_neither_does_that_of_the_transformer(unverified, tmp_path, stem):
    config = CONFIG.replace(
        hidden_dim=8, num_layers=1, num_heads=2, mlp_dim=8, stem=stem,
        dropout_rate=0.1, attention_dropout_rate=0.1, drop_path_rate=0.1,
    )  # fmt: skip
    model = build_model(config.model, config.clip, num_classes=3, seed=0)
    ops = graph_ops(signatures.export_saved_model(model, NAMES, INFO, tmp_path))
    assert "BatchMatMulV2" in ops
    assert not [op for op in ops if "PyFunc" in op or "Random" in op]
    assert not ops & {"XlaCallModule", "ReadFile", "WriteFile", "PrintV2"}


def test_the_checkpoint_holds_the_weights_and_no_optimizer(
    unverified, tmp_path
):
    trained = tiny_model()
    trained.compile("adamw", "sparse_categorical_crossentropy")
    trained.train_on_batch(random_clips(2, 4, 32, 32, 3), np.array([0, 1]))
    version = signatures.export_saved_model(trained, NAMES, INFO, tmp_path)
    saved = tf.train.list_variables(str(version / "variables" / "variables"))
    names = {name for name, _ in saved} - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    assert len(names) == len(trained.weights)
    assert all(name.startswith("weights/") for name in names)


def test_saved_model_cli_gives_the_trained_probabilities(
    model, tiny_version, tmp_path
):
    clips = random_clips(3, 4, 32, 32, 3, seed=2)
    np.save(tmp_path / "clips.npy", clips)
    here = ["--dir", tiny_version, "--tag_set", "serve"]
    here_default = [*here, "--signature_def", "serving_default"]
    printed = saved_model_cli(
        ["run", *here_default, "--inputs", f"clips={tmp_path / 'clips.npy'}",
         "--outdir", tmp_path],
        ["show", *here_default],
        ["scan", *here],
    )  # fmt: skip
    found = np.load(tmp_path / "probabilities.npy")
    expected = keras.ops.convert_to_numpy(model(clips, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    signature = signatures_of(tiny_version)["serving_default"]
    for tensor in (signature.inputs["clips"], signature.outputs["top_labels"]):
        assert f"name: {tensor.name}\n" in printed
    assert "does not contain the default denylisted ops" in printed
