import csv
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from support.moving_squares import SquaresStore, squares_manifest
from support.videos import draw_folder

from har_keras import evaluate as verb
from har_keras.config import Config
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.evaluate import evaluate
from har_keras.export import export
from har_keras.inference.calibration import Calibration
from har_keras.inference.controls import CONTROLS
from har_keras.inference.load import load_model, model_info_of
from har_keras.model.build import build_model
from har_keras.run import Run

CONFIG = Config().replace(
    num_frames=4, crop_size=32, hidden_dim=8, num_layers=1, num_heads=2,
    mlp_dim=8, seed=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run: what is measured need not be good."""
    run = Run(tmp_path_factory.mktemp("runs") / "first")
    run.create(CONFIG)
    splits = ("train", "val", "test")
    manifest = squares_manifest(run.path, num_videos=6, splits=splits)
    manifest.write(run.manifest_file)
    model = build_model(CONFIG.model, CONFIG.clip, num_classes=2, seed=3)
    model.save(run.model_file)
    return run


@pytest.fixture(scope="module")
def figures(run):
    return evaluate(run, store=SquaresStore(CONFIG.clip))


def test_figures_are_those_of_the_table(run, figures):
    with run.videos_file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == figures["num_videos"] == 6
    correct = sum(row["label"] == row["prediction"] for row in rows)
    assert figures["accuracy"] == correct / 6
    for row in rows:
        shares = {name: float(row[name]) for name in ("down", "up")}
        assert row["prediction"] == max(shares, key=shares.get)
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)


def test_the_run_holds_what_a_run_holds(run, figures):
    assert json.loads(run.evaluation_file.read_text("utf-8")) == figures.figures
    for file in (
        run.report_file, run.confusion_file, run.card_file,
        run.samples_file("train"), run.samples_file("test"),
    ):  # fmt: skip
        assert file.stat().st_size > 500
    assert figures["split"] == "test"
    assert figures["views"] == {"num_clips": 4, "num_crops": 3}
    assert set(figures["controls"]) == set(CONTROLS)


def test_twice_is_the_same_to_the_last_digit(run, figures):
    before = run.videos_file.read_bytes()
    assert evaluate(run, store=SquaresStore(CONFIG.clip)) == figures
    assert run.videos_file.read_bytes() == before


def test_another_split_has_its_own_folder(run, figures):
    before = run.evaluation_file.read_bytes()
    found = evaluate(run, split="val", store=SquaresStore(CONFIG.clip))
    assert found["split"] == "val"
    assert (run.evaluations_dir / "val" / "report.html").is_file()
    assert run.evaluation_file.read_bytes() == before


def test_a_run_without_test_videos_is_measured_on_validation(run, caplog):
    other = Run(run.path.parent / "no-test")
    other.create(CONFIG)
    squares_manifest(other.path, num_videos=4, splits=("train", "val")).write(
        other.manifest_file
    )
    other.model_file.write_bytes(run.model_file.read_bytes())
    found = evaluate(other, store=SquaresStore(CONFIG.clip))
    assert found["split"] == "val"
    assert "they are optimistic" in caplog.text


def test_a_run_without_a_model_says_how_to_go_on(run):
    other = Run(run.path.parent / "stopped")
    other.create(CONFIG)
    with pytest.raises(DataError, match="--resume"):
        load_model(other)


def test_a_class_that_the_run_does_not_know_is_named(run, tmp_path):
    for name in ("up", "sideways"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").write_bytes(name.encode())
    with pytest.raises(UsageError, match="not trained on: sideways"):
        evaluate(run, tmp_path)


def test_output_must_be_a_folder(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--output must be a folder"):
        evaluate(run, output=tmp_path / "file", store=SquaresStore(CONFIG.clip))


def test_the_exported_run_answers_as_the_model(run):
    version = export(run)
    assert version == run.saved_model_dir / "1"
    clips = np.random.default_rng(0).integers(
        0, 256, (3, 4, 32, 32, 3), "uint8"
    )
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    found = served(clips=tf.constant(clips))
    expected = load_model(run).predict_on_batch(clips)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert found["class_names"].numpy()[0].tolist() == [b"down", b"up"]


def test_under_another_backend_a_process_with_tensorflow_exports(
    run, monkeypatch
):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    version = export(run)
    assert (version / "saved_model.pb").is_file()
    assert version.parent == run.saved_model_dir


def test_what_fails_in_the_other_process_is_passed_on(run, monkeypatch):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    empty = Run(run.path.parent / "empty")
    empty.create(CONFIG)
    squares_manifest(empty.path, num_videos=2).write(empty.manifest_file)
    with pytest.raises(EnvironmentFault, match=r"has no model\.keras"):
        export(empty)


def test_a_folder_that_is_no_run_is_exit_code_3(tmp_path, capsys):
    assert verb.main([str(tmp_path)]) == 3
    assert "is not a run" in capsys.readouterr().err


def test_worse_pictures_and_calibration_are_measured(run, figures):
    assert figures["robustness"] == []
    assert figures["frames"] == "raw"
    fitted = json.loads(run.calibration_file.read_text("utf-8"))
    assert figures["calibrated"]["temperature"] == fitted["temperature"]
    assert fitted["num_videos"] == 6
    areas = [row["roc_auc"] for row in figures["ranking"]]
    assert areas[0] == pytest.approx(areas[1])  # of two classes
    found = evaluate(
        run,
        split="val",
        output=run.path.parent / "worse",
        store=SquaresStore(CONFIG.clip),
        robustness=True,
    )
    assert len(found["robustness"]) == 7
    assert all(0 <= row["accuracy"] <= 1 for row in found["robustness"])
    page = (run.path.parent / "worse" / "report.html").read_text("utf-8")
    assert "Robustness to corruptions" in page
    assert page.count("Attention on ") == 6
    assert page.count("data:video/mp4;base64,") == 6


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("up-alone", ["up/1.mp4", "up/2.mp4"]),
        ("splits/test/up", ["1.mp4", "deeper/2.mp4"]),
        ("test-alone", ["test/up/1.mp4", "test/up/2.mp4"]),
        ("others", ["val/up/1.mp4", "test/down/2.mp4"]),
    ],
)
def test_on_a_folder_that_none_could_train_on(
    tiny_run, few_videos, tmp_path, folder, files
):
    """One class, the folder of a class, or splits without one to train."""
    root = tmp_path / folder
    if folder.endswith("/up"):  # other folders beside do not matter
        (tmp_path / "splits/train/up").mkdir(parents=True)
    sources = sorted(few_videos.rglob("*.mp4"))
    for number, file in enumerate(files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        os.link(sources[number], root / file)
    found = evaluate(tiny_run, root, output=tmp_path / "out")
    assert found["num_videos"] == 2
    with (tmp_path / "out/videos.csv").open(newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert sorted(labels) == (
        ["down", "up"] if folder == "others" else ["up"] * 2
    )


def test_the_threshold_is_chosen_and_reported(run, tmp_path, caplog):
    def evaluated(**options):
        store = SquaresStore(CONFIG.clip)
        return evaluate(run, output=tmp_path / "out", store=store, **options)

    with caplog.at_level("INFO"):
        found = evaluated()
    assert found["calibrated"]["threshold"] is None
    assert caplog.text.count("Every answer is accepted") == 1
    assert found["acceptance"]["coverage"] == 1
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "Every answer is accepted" in report
    assert "Accuracy against coverage" in report
    # Of six groups, so many errors may be made that a threshold is found.
    lax = evaluated(accept_errors=0.9)
    fitted = Calibration.read(run)
    assert fitted.threshold == lax["calibrated"]["threshold"] > 0
    assert model_info_of(run).threshold == fitted.threshold
    assert len(lax["acceptance"]["curve"]) >= 2
    for row in lax["acceptance"]["curve"]:
        assert all(0 <= share <= 1 for share in row)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accept_errors": 0}, r"must be in \(0, 1\)"),
        ({"accept_errors": 0.1, "videos": "a"}, "on its own validation"),
    ],
)
def test_a_threshold_needs_validation_videos(run, options, words):
    with pytest.raises(UsageError, match=words):
        evaluate(run, **options)


@pytest.mark.parametrize("folder", ["up", "test/up", "test"])
def test_on_the_folder_of_one_class(tiny_run, tmp_path, folder):
    """That of a class by its name, wherever it lies."""
    root = draw_folder(tmp_path / "videos", per_class=2, class_names=("up",))
    place = tmp_path / folder
    place.parent.mkdir(exist_ok=True)
    shutil.copytree(
        root / "up" if folder != "test" else root, place, dirs_exist_ok=True
    )
    found = evaluate(tiny_run, place, output=tmp_path / "out")
    assert (found.num_videos, found["majority_accuracy"]) == (2, 1)
    assert found.per_class["down"].support == 0
