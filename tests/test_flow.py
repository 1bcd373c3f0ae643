"""From a folder of videos to a served model, on the real path throughout."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from support.videos import draw_folder, truncate

from har_keras import train
from har_keras.run import Run

# Small enough for a minute on a CPU; large enough to learn up from down.
OPTIONS = (
    *("--crop-size", "32", "--num-frames", "8", "--batch-size", "8"),
    *("--hidden-dim", "32", "--num-layers", "2", "--mlp-dim", "64"),
    *("--epochs", "16", "--learning-rate", "0.003", "--augment", "light"),
    *("--wandb", "off", "--clips-per-video", "2", "--test-fraction", "0.3"),
    # What is drawn looks alike, and would share a group.
    *("--group-by", "file"),
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = draw_folder(tmp_path_factory.mktemp("flow"), per_class=30)
    (folder / "up" / "broken.mp4").write_text("this is not a video")
    truncate(folder / "up" / "up-00.mp4", folder / "up" / "cut.mp4", 0.02)
    return folder


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    arguments = [str(videos), "--run-dir", str(folder / "run"), *OPTIONS]
    store = ["--store-dir", str(folder / "store")]
    assert train.main([*arguments, *store]) == 0
    return Run(folder / "run")


def evaluation_of(run):
    return json.loads(run.evaluation_file.read_text())


def test_the_run_directory_is_whole(run):
    for file in (
        run.config_file,
        run.manifest_file,
        run.history_file,
        run.curves_file,
        run.model_file,
        run.evaluation_file,
        run.videos_file,
        run.report_file,
        run.confusion_file,
        run.samples_file("train"),
        run.samples_file("test"),
        run.card_file,
        run.saved_model_dir / "1" / "saved_model.pb",
    ):
        assert file.stat().st_size > 0, file.name
    assert len(list(run.checkpoint_dir.glob("*.npz"))) == 2
    assert not list(run.path.rglob(".*-*"))  # nothing half-written


def test_it_learned_what_only_motion_tells(run):
    evaluation = evaluation_of(run)
    assert evaluation["accuracy"] >= 0.8
    assert evaluation["controls"]["single_frame"] <= 0.7
    assert evaluation["controls"]["reversed"] <= 0.3


def test_no_video_is_lost_in_silence(run, videos):
    rows = list(csv.DictReader(run.manifest_file.read_text().splitlines()))
    named = {row["file"] for row in rows}
    there = {str(p.relative_to(videos)) for p in videos.rglob("*.mp4")}
    assert named == there
    unusable = {row["file"] for row in rows if row["kept_frames"] == "0"}
    assert unusable == {"up/broken.mp4", "up/cut.mp4"}
    for row in rows:
        assert bool(row["reason"]) == (row["file"] in unusable)


def test_accuracy_is_that_of_the_table_of_videos(run):
    rows = list(csv.DictReader(run.videos_file.read_text().splitlines()))
    right = sum(row["label"] == row["prediction"] for row in rows)
    evaluation = evaluation_of(run)
    assert len(rows) == evaluation["num_videos"]
    assert evaluation["accuracy"] == right / len(rows)


def test_the_report_is_one_page_of_its_own(run):
    text = run.report_file.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    for tag in ("<script", "<link", "<iframe", 'src="http'):
        assert tag not in text
    assert "2 of 19 videos could not be scored" in text


def test_the_saved_model_answers_as_the_trained_one(run, tmp_path):
    import keras

    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (3, 8, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "clips.npy", clips)
    model = keras.saving.load_model(run.model_file)
    expected = np.asarray(model.predict_on_batch(clips))
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1])\n"
        "signature = served.signatures['serving_default']\n"
        "(name,) = signature.structured_input_signature[1]\n"
        "answer = signature(**{name: tf.constant(np.load(sys.argv[2]))})\n"
        "np.save(sys.argv[3], answer['probabilities'].numpy())\n"
    )
    folder = run.saved_model_dir / "1"
    files = [str(tmp_path / name) for name in ("clips.npy", "answer.npy")]
    subprocess.run(
        [sys.executable, "-c", code, str(folder), *files], check=True
    )
    answer = np.load(tmp_path / "answer.npy")
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_a_finished_run_resumes_to_the_same_figures(run):
    before = evaluation_of(run)
    assert train.main(["--resume", str(run.path)]) == 0
    assert evaluation_of(run) == before
