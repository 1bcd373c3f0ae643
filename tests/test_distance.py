"""What is too far from the training videos is "none of these", everywhere."""

import base64
import dataclasses
import json
import shutil

import numpy as np
import pytest
from support.moving_squares import SquaresStore, squares_manifest
from support.tiny_serving import NAMES, random_clips, smooth_clips

from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.evaluation.fitting import (
    distance_limit,
    fit_calibration,
    fit_reference,
    shrunk_covariance,
)
from har_keras.evaluation.measure import fit_on_validation
from har_keras.export import export
from har_keras.inference.calibration import Calibration
from har_keras.inference.distance import Measured, answer_on_batch
from har_keras.inference.forward import BATCH_SIZE, answers_of
from har_keras.inference.live import LiveLabels
from har_keras.inference.load import load, load_model, model_info_of
from har_keras.inference.timeline import TimelineConfig
from har_keras.inference.views import view_clips
from har_keras.model.build import build_model
from har_keras.report.printing import PRINTERS
from har_keras.run import Run
from har_keras.serving.acceptance import Reference
from har_keras.serving.client import ServingClient
from har_keras.serving.model_info import ModelInfo
from har_keras.serving.runtimes import open_exported
from har_keras.serving.signatures import serving_module

NEEDED = ("onnx", "tf2onnx", "onnxruntime", "openvino", "ai_edge_litert")


@pytest.fixture(scope="module")
def run(tiny_run, few_videos, tmp_path_factory):
    """A run that knows squares that move, and nothing else."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    run = Run(shutil.copytree(tiny_run.path, folder))
    classifier = load(run.path)
    files = sorted(few_videos.rglob("*.mp4"))
    clips = [np.stack(classifier.read_views(x, 8.0)[0]) for x in files]
    measured = Measured(classifier.model)
    rows = np.stack([measured.features_on_batch(x) for x in clips])
    labels = np.array([x.parent.name == "up" for x in files], int)
    reference = fit_reference(rows[..., 2:], labels)
    views = reference.distances(rows[..., 2:].reshape(-1, rows.shape[-1] - 2))
    limit = 1.2 * float(views.max())
    Calibration(
        num_groups=12, num_known_groups=12, accept_errors=0.05,
        limit=limit, window_limit=limit, far_share=0.1, reference=reference,
    ).write(run)  # fmt: skip
    return run


@pytest.fixture(scope="module")
def known(few_videos):
    return few_videos / "up" / "up-00.mp4"


def noise(num_frames=24):
    """Frames of what no video of the run shows."""
    return random_clips(num_frames, 48, 64, 3, seed=3)


def test_what_is_far_is_none_of_these_and_says_why(run, known, capsys):
    classifier = load(run.path)
    near, far = classifier.predict(known), classifier.predict(noise())
    assert (near.accepted, near.refusal) == (True, "")
    assert (far.accepted, far.refusal) == (False, "far")
    assert near.distance < classifier.calibration.limit < far.distance
    assert sum(far.probabilities.values()) == pytest.approx(1)
    for name, words in {
        "table": "none of these     far  nearest: ",
        "json": '"accepted": false, "refusal": "far", "distance": ',
        "csv": ",false,far\n",
    }.items():
        printer = PRINTERS[name](classifier.class_names)
        printer(far)
        printer.close()
        said = capsys.readouterr().out
        assert words in said
        assert all(len(x) <= 80 for x in said.splitlines()) or name == "json"
    assert "too far from the training videos" not in said


def test_a_timeline_has_no_class_where_it_is_far(run, known):
    classifier = load(run.path)
    frames = np.concatenate([noise(40), noise(40)])
    far = classifier.predict(frames, timeline=True)
    assert {x.label for x in far.segments} == {"none"}
    assert (far.accepted, far.refusal) == (False, "far")
    near = classifier.predict(known, timeline=True)
    assert (near.accepted, near.refusal) == (True, "")
    wide = TimelineConfig(max_distance=1e6)
    assert classifier.predict(frames, timeline=wide).accepted
    with pytest.raises(UsageError, match="--max-distance must be"):
        TimelineConfig(max_distance=-1.0).validated()


def test_half_a_video_may_be_far(run, known):
    classifier = load(run.path)
    with classifier.open(known) as reader:
        shown = np.stack([*reader])
    tall, wide = shown.shape[1:3]
    other = random_clips(len(shown) * 2, tall, wide, 3, seed=5)
    found = classifier.predict(
        np.concatenate([shown, shown, other]),
        timeline=TimelineConfig(smooth_seconds=1.0, min_seconds=0.5),
    )
    labels = [x.label for x in found.segments]
    assert labels[-1] == "none"
    assert labels[0] != "none"


def test_a_live_source_is_held_to_it(run, known):
    classifier = load(run.path)
    size = classifier.config.clip.crop_size
    labels = LiveLabels(classifier, "camera", TimelineConfig())
    clip = random_clips(4, size, size, 3)
    far = labels.next(clip)
    assert (far.label, far.refusal) == ("none", "far")
    views, _ = classifier.read_views(known, 8.0)
    labels.forget()
    near = labels.next(views[0])
    assert near.accepted
    assert near.distance < far.distance


def test_a_run_without_it_is_as_before(run, tiny_run, known):
    before, after = load(tiny_run.path), load(run.path)
    assert before.calibration.limit is None
    shown = noise()
    far = before.predict(shown)
    assert far.accepted
    assert far.distance is None
    again = after.predict(shown)
    assert far.probabilities == pytest.approx(again.probabilities, abs=1e-6)
    with pytest.raises(UsageError, match="knows its training videos"):
        before.predict(known, timeline=TimelineConfig(max_distance=3.0))


@pytest.mark.parametrize(
    "change",
    [
        {"reference": None},
        {"reference": {"shape": [2, 8], "centers": "AAAA", "whitening": ""}},
        {"reference": {"shape": [2, 8]}},
        {"reference": {"shape": "no", "centers": 1, "whitening": []}},
        {"reference": [1]},
        {"limit": None},
        {"limit": -1},
        {"limit": "wide"},
        {"window_limit": None},
        {"whitening": float("nan")},
    ],
)
def test_what_is_damaged_is_refused_in_a_sentence(run, tmp_path, change):
    copy = Run(tmp_path)
    found = json.loads(run.calibration_file.read_text("utf-8"))
    if value := change.pop("whitening", None):
        rows = np.full(64, value, "<f4").tobytes()
        found["reference"]["whitening"] = base64.b64encode(rows).decode()
    copy.calibration_file.write_text(json.dumps({**found, **change}), "utf-8")
    with pytest.raises(DataError, match=r"Make it again with: .*evaluate"):
        Calibration.read(copy)


def test_that_of_another_model_is_refused(run, tmp_path):
    copy = Run(shutil.copytree(run.path, tmp_path / "run"))
    found = Calibration.read(copy)
    wider = Reference(np.ones((2, 9), "f"), np.eye(9, dtype="f"))
    dataclasses.replace(found, reference=wider).write(copy)
    with pytest.raises(DataError, match="fitted to another model"):
        load(copy.path)


@pytest.fixture(scope="module")
def exported(run):
    for package in NEEDED:
        pytest.importorskip(package, reason='needs "har_keras[export]"')
    export(run, ["onnx", "openvino", "litert"])
    return run


@pytest.mark.parametrize(
    "where",
    [
        "saved_model/1",
        "formats/onnx/model.onnx",
        "formats/openvino/model.xml",
        "formats/litert/model.tflite",
    ],
)
def test_every_export_accepts_what_the_run_does(exported, known, where):
    classifier = load(exported.path)
    path = exported.path / where
    opened = load(path)
    assert opened.calibration.limit == classifier.calibration.limit
    for video, accepts in ((known, True), (noise(), False)):
        expected, found = classifier.predict(video), opened.predict(video)
        assert found.accepted == expected.accepted == accepts
        assert found.distance == pytest.approx(expected.distance, rel=1e-3)
        assert found.probabilities == pytest.approx(
            expected.probabilities, abs=1e-5
        )


def test_the_graph_and_a_client_tell_it(exported):
    pytest.importorskip("fastapi", reason='needs "har_keras[serve]"')
    from support.server import served

    model = open_exported(exported.path / "saved_model" / "1")
    clips = np.concatenate([smooth_clips(3), random_clips(3, 4, 32, 32, 3)])
    rows = model.answer_on_batch(clips)
    limit = model.info.window_limit
    for runtime in ("saved_model", "onnx", "openvino"):
        with (
            served(exported.path, runtime=runtime) as server,
            ServingClient(server.url(), frames="raw") as client,
        ):
            found = client.predict(clips)
            np.testing.assert_allclose(found.distance, rows[:, -1], rtol=1e-3)
            expected = rows[:, -1] <= limit
            assert found.accepted.tolist() == expected.tolist()
            assert not expected.all()
            np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-5)
            _, _, told = server.get("/v1/models/har/metadata")
            signatures = told["metadata"]["signature_def"]["signature_def"]
            outputs = signatures["serving_default"]["outputs"]
            assert outputs["distance"]["dtype"] == "DT_FLOAT"
            remote = load(server.url())
            assert remote.predict(noise()).refusal == "far"


def test_a_limit_without_what_it_is_of_is_not_exported(run):
    info = ModelInfo(limit=1.0, window_limit=1.0)
    with pytest.raises(ValueError, match="go together"):
        serving_module(load_model(run), NAMES[:2], info)
    assert ModelInfo.read(model_info_of(run).text(), "a").has_distance


def test_many_clips_are_measured_as_few(run):
    model = load(run.path).model
    clips = random_clips(BATCH_SIZE, 4, 32, 32, 3)
    np.testing.assert_allclose(
        answers_of(model, 1e5)(clips),
        answer_on_batch(model, clips),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("model", ["vit", "frame-vit", "cnn3d"])
def test_every_network_gives_its_features_in_the_same_pass(model):
    config = Config().replace(
        model=model, num_frames=4, crop_size=32, num_layers=1, hidden_dim=8,
        num_heads=2, mlp_dim=8,
    )  # fmt: skip
    network = build_model(config.model, config.clip, num_classes=3, seed=0)
    clips = random_clips(3, 4, 32, 32, 3)
    rows = Measured(network).features_on_batch(clips)
    np.testing.assert_allclose(
        rows[:, :3], network.predict_on_batch(clips), atol=1e-6
    )
    assert rows.shape[1] > 3
    assert rows[:, 3:].std() > 0


@pytest.mark.parametrize("num_videos", [8, 9])
def test_nine_known_groups_are_the_least(run, tmp_path, num_videos):
    config = run.config().replace(backbone="efficientnet-lite0")
    model = load_model(run)
    manifest = squares_manifest(
        tmp_path, num_videos=num_videos, splits=("train", "val")
    )
    copy = Run(shutil.copytree(run.path, tmp_path / "run"))
    store = SquaresStore(config.clip)
    found = fit_on_validation(copy, model, store, manifest, config)
    assert (found.limit is not None) == (num_videos == 9)
    assert ("needs 9 known groups" in found.verdict) == (num_videos == 8)
    assert (load(copy.path).calibration.reference is None) == (num_videos == 8)
    if num_videos == 9:
        videos = manifest.usable("val")
        rows = [
            answer_on_batch(
                Measured(model, found.reference),
                view_clips(store, x, config.clip, config.evaluation),
            )
            for x in videos
        ]
        assert all(x[:, -1].mean() <= found.limit for x in rows)
        assert "unlike the training videos (distance over" in found.verdict


def test_features_of_pixels_alone_give_no_limit(run, tmp_path):
    config = run.config()
    manifest = squares_manifest(tmp_path, num_videos=9, splits=("train", "val"))
    copy = Run(shutil.copytree(run.path, tmp_path / "run"))
    found = fit_on_validation(
        copy, load_model(run), SquaresStore(config.clip), manifest, config
    )
    assert (found.limit, found.reference) == (None, None)
    assert "unlike" not in found.verdict


def test_at_most_a_tenth_of_new_groups_is_beyond():
    rng = np.random.default_rng(0)
    beyond = []
    for _ in range(400):
        rows = rng.gamma(3.0, size=130)
        limit = distance_limit(rows[:30], range(30))
        beyond.append((rows[30:] > limit).mean())
    assert 0.05 < np.mean(beyond) <= 0.1


def test_a_group_counts_once():
    many = np.r_[np.arange(1.0, 20.0), np.full(50, 30.0)]
    groups = [*range(19), *[99] * 50]
    assert distance_limit(many, groups) == distance_limit(
        np.r_[np.arange(1.0, 20.0), 30.0], range(20)
    )


def test_the_covariance_is_that_of_ledoit_and_wolf():
    covariance = pytest.importorskip("sklearn.covariance")
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 12)) * np.linspace(0.1, 3, 12)
    rows -= rows.mean(0)
    expected, share = covariance.ledoit_wolf(rows, assume_centered=True)
    np.testing.assert_allclose(shrunk_covariance(rows), expected, rtol=1e-6)
    assert 0.01 < share < 0.99
    # Views that say the same are no further videos.
    again = shrunk_covariance(rows.repeat(4, 0), 4)
    np.testing.assert_allclose(again, expected, rtol=1e-6)


def test_a_reference_of_one_video_or_equal_ones_is_finite():
    for rows in (np.zeros((1, 2, 3)), np.ones((4, 2, 3))):
        found = fit_reference(rows, np.arange(len(rows)) % 2)
        assert np.isfinite(found.distances(rows[0].astype("f"))).all()


def test_the_figures_are_of_both_criteria():
    labels = np.zeros(40, int)
    views = np.full((40, 1, 2), (0.9, 0.1))
    distances = np.r_[np.ones(38), 9, 9][:, None]
    reference = Reference(np.zeros((2, 2), "f"), np.eye(2, dtype="f"))
    found = fit_calibration(
        labels, views, [*map(str, range(40))], accept_errors=0.1,
        distances=distances, reference=reference,
    )  # fmt: skip
    assert found.threshold is not None
    assert found.limit == pytest.approx(1)
    assert found.coverage == pytest.approx(0.95)
    assert "95 % of 40 groups are accepted" in found.verdict
    assert found.accepts(views[:, 0], distances[:, 0]).sum() == 38
