"""`har_keras.VideoClassifier`, as a program uses it."""

import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest

import har_keras
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.run import Run

pytestmark = pytest.mark.usefixtures("without_xla", "without_export_check")
OPTIONS = dict(
    num_frames=4, crop_size=32, hidden_dim=8, num_layers=1, num_heads=2,
    mlp_dim=8, epochs=1, batch_size=8, cache="jpeg", wandb="off",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(few_videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    return har_keras.VideoClassifier.train(
        str(few_videos), str(folder / "run"),
        store_dir=str(folder / "store"), **OPTIONS,
    )  # fmt: skip


@pytest.fixture
def without_export(monkeypatch):
    """Leaves out the export at the end of a training."""
    monkeypatch.setattr("har_keras.export.export", lambda _: None)


def test_training_leaves_figures_with_names(trained):
    found = trained.evaluation
    assert found.class_names == trained.class_names == ("down", "up")
    assert found.accuracy == found.figures["num_correct"] / found.num_videos
    assert found.interval is None or found.interval[0] <= found.interval[1]
    assert sum(c.support for c in found.per_class.values()) == found.num_videos
    assert found.confusion.sum() == found.num_videos
    assert len(found.videos) == found.num_videos
    assert set(found.controls) >= {"single_frame", "shuffled"}
    assert found.failed == {}
    assert found.report.is_file()
    assert str(found).startswith(f"accuracy {found.accuracy:.3f}")


def test_it_predicts_as_the_loaded_one(trained, few_videos):
    again = har_keras.VideoClassifier.load(trained.run.path)
    video = next(few_videos.rglob("*.mp4"))
    assert trained.predict(video) == again.predict(str(video))
    (found,) = again.predict_all([video])
    assert found.label in again.class_names


@pytest.mark.parametrize("video", [["a.mp4"], b"a.mp4", None])
def test_what_is_no_video_is_named_by_its_type(trained, video):
    with pytest.raises(TypeError, match=f"Received: {type(video).__name__}"):
        trained.predict(video)


def test_it_evaluates_another_folder(trained, few_videos, tmp_path):
    found = trained.evaluate(few_videos, output=str(tmp_path / "all"))
    assert found.num_videos == 8
    assert found.report == tmp_path / "all" / "report.html"


def test_it_exports_what_loads_again(trained, few_videos):
    version = trained.export()
    served = har_keras.VideoClassifier.load(version)
    video = next(few_videos.rglob("*.mp4"))
    ours, theirs = trained.predict(video), served.predict(video)
    assert ours.label == theirs.label
    assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-5)
    for use in (lambda: served.evaluation, served.export, served.clips):
        with pytest.raises(UsageError, match="needs the folder of a run"):
            use()


def test_clips_and_their_attention(trained):
    clips = trained.clips("train", 3)
    assert clips.shape == (3, 4, 32, 32, 3)
    assert clips.dtype == np.uint8
    weights = trained.attention(clips[0])
    assert weights.shape == trained.model.grid
    assert weights.sum() == pytest.approx(1)


def test_an_option_that_does_not_exist_is_refused_first(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'epochs'"):
        har_keras.VideoClassifier.train(tmp_path, epoch=3)


def test_a_run_gives_a_model_its_dimensions(
    trained, few_videos, tmp_path, without_export
):
    tuned = har_keras.VideoClassifier.train(
        few_videos, tmp_path / "run", weights=trained.run.path, epochs=1,
        batch_size=8, wandb="off", store_dir=tmp_path / "store",
    )  # fmt: skip
    assert tuned.model.hidden_dim == 8
    assert Run(tmp_path / "run").config().model.weights == str(trained.run.path)


def test_a_finished_run_is_loaded_and_not_trained_again(
    trained, few_videos, capsys
):
    before = trained.run.model_file.stat().st_mtime_ns
    again = har_keras.VideoClassifier.train(
        few_videos, trained.run.path, resume=True, **OPTIONS
    )
    assert "is finished and is loaded" in capsys.readouterr().out
    assert again.evaluation == trained.evaluation
    assert trained.run.model_file.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="--epochs was 1 and is now 2"):
        har_keras.VideoClassifier.train(
            few_videos, trained.run.path, resume=True, epochs=2
        )
    with pytest.raises(UsageError, match="Choose another run_dir"):
        har_keras.VideoClassifier.train(
            few_videos / "up", trained.run.path, resume=True
        )
    with pytest.raises(UsageError, match="is not empty"):
        har_keras.VideoClassifier.train(few_videos, trained.run.path)


def test_a_run_that_is_not_finished_is_resumed(
    trained, few_videos, tmp_path, without_export
):
    run = Run(shutil.copytree(trained.run.path, tmp_path / "run"))
    for file in (run.phases_file, run.evaluation_file, run.model_file):
        file.unlink()
    shutil.rmtree(run.checkpoint_dir)
    found = har_keras.VideoClassifier.train(
        few_videos, run.path, resume=True, config=Config().replace(**OPTIONS)
    )
    assert found.evaluation.accuracy == trained.evaluation.accuracy
    assert run.phases_file.is_file()


def test_it_watches_frames_as_they_come(trained, few_videos):
    clips = [np.zeros((4, 40, 60, 3), np.uint8)] * 3
    found = list(trained.watch(iter(clips)))
    assert len(found) == 3
    assert {x.label for x in found} <= {"down", "up", "none"}
    times = [x.seconds for x in found]
    assert times == sorted(times)
    assert all(x.delay_seconds >= 0 for x in found)


def test_it_watches_nothing_that_ends_and_no_camera_that_is_not_there(
    trained, few_videos
):
    video = str(next(few_videos.rglob("*.mp4")))
    with pytest.raises(UsageError, match="`predict` for videos"):
        trained.watch(video)
    with pytest.raises(UsageError):
        trained.watch("rtsp://127.0.0.1/x")
    if sys.platform == "linux":
        with pytest.raises(DataError, match="There is no 'camera:97'"):
            trained.watch("camera:97")


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(DataError, match="is not a run"):
        har_keras.VideoClassifier.load(tmp_path)


def test_progress_is_printed_unless_it_is_logged(trained, capsys, caplog):
    quiet = logging.getLogger("har_keras")
    trained.evaluate(split="val")
    assert not quiet.handlers
    assert quiet.propagate
    with caplog.at_level(logging.INFO):
        capsys.readouterr()
        trained.evaluate(split="val")
    assert capsys.readouterr().out == ""


def test_nothing_is_said_on_loading(trained, few_videos):
    """In a fresh process, with the backend's start."""
    video = next(few_videos.rglob("*.mp4"))
    code = (
        "import har_keras\n"
        f"c = har_keras.VideoClassifier.load({str(trained.run.path)!r})\n"
        f"print(c.predict({str(video)!r}).label)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout.split()[0] in ("down", "up")
    assert done.stderr == ""


def test_public_names_are_there():
    for name in har_keras.__all__:
        assert getattr(har_keras, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = har_keras.nothing
