"""A run directory has one writer."""

import errno
import os
import platform
import subprocess
import sys
from datetime import datetime
from types import SimpleNamespace

import pytest

from har_keras.config import Config
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.run import Run
from har_keras.train import train
from har_keras.training.callbacks import Record
from har_keras.training.checkpoint import TrainingState

WRITER = (
    "import sys\n"
    "from har_keras.run import Run\n"
    "with Run(sys.argv[1]).writing():\n"
    "    print('writing', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def writer(tmp_path):
    """A process that writes into `tmp_path / "run"`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused(writer, tmp_path):
    said = f"process {writer.pid} on {platform.node()}"
    with pytest.raises(UsageError, match=said), Run(tmp_path / "run").writing():
        pass


def test_a_second_training_is_refused_before_it_reads_a_video(
    writer, tmp_path, monkeypatch
):
    monkeypatch.setattr("har_keras.train._prepared", None)  # would not go on
    with pytest.raises(UsageError, match="is being written by process"):
        train(tmp_path, tmp_path / "run")


def test_a_killed_writer_has_no_lock_any_more(writer, tmp_path):
    writer.kill()
    writer.wait()
    folder = tmp_path / "run"
    (folder / "saved_model").mkdir()
    for name in (".0123abcd-videos.csv", "saved_model/.0123abcd-2"):
        (folder / name).touch()
    with Run(folder).writing():
        (folder / "config.toml").touch()
    left = {path.name for path in folder.rglob("*")}
    assert left == {"config.toml", "saved_model"}


def test_parts_of_the_work_may_write(tmp_path):
    with Run(tmp_path / "run").writing():
        done = subprocess.run(
            [sys.executable, "-c", WRITER, str(tmp_path / "run")], input=b""
        )
        with Run(tmp_path / "run").writing():  # as evaluate and export do
            pass
        assert (tmp_path / "run" / ".lock").exists()
    assert done.returncode == 0
    assert not (tmp_path / "run").exists()


def test_a_failed_start_leaves_no_folder(tmp_path):
    (tmp_path / "videos").mkdir()
    with pytest.raises(DataError):
        train(tmp_path / "videos", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


def test_a_folder_that_can_not_be_written_is_refused_first(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("har_keras.train._prepared", None)  # would not go on
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(UsageError, match="can't be made"):
        train(tmp_path, tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_runs_of_the_same_second_have_folders_of_their_own(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    made = {Run.new().path for _ in range(5)}
    assert len(made) == 5
    assert all(path.is_dir() for path in made)


@pytest.mark.skipif(os.name == "nt", reason="Windows locks names otherwise")
def test_where_the_folder_cant_be_written_there_is_no_lock(tmp_path):
    (tmp_path / "file").touch()
    with Run(tmp_path / "file" / "run").writing():
        pass


@pytest.mark.parametrize(
    "error",
    [NotImplementedError("flock"), OSError(errno.ENOLCK, "No locks available")],
)
def test_a_disk_without_locks_is_named(tmp_path, monkeypatch, caplog, error):
    def acquire(*_):
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with Run(tmp_path / "run").writing():
        (tmp_path / "run/config.toml").touch()
    assert f"The disk of '{tmp_path / 'run'}' has no file locks." in caplog.text


def test_a_run_that_is_opened_makes_no_store_where_it_says(tmp_path):
    named = tmp_path / "home"
    named.mkdir()
    run = Run(tmp_path / "run")
    run.create(Config().replace(store_dir=named))
    assert run.config_to_open().store.store_dir is None
    (named / "128px-16fps-jpeg90-v2").mkdir()
    assert run.config_to_open().store.store_dir == named


def test_a_run_that_is_removed_in_training_is_said_and_not_made_again(tmp_path):
    run = Run(tmp_path / "run")
    run.create(Config())
    record = Record(TrainingState(), run)
    rate = SimpleNamespace(learning_rate=0.1)
    record.set_model(SimpleNamespace(optimizer=rate))
    record.on_epoch_end(0, {"loss": 1.0})

    def end_epoch_after_a_move():
        with run.writing():
            run.path.rename(tmp_path / "moved")
            record.on_epoch_end(1, {"loss": 1.0})

    with pytest.raises(EnvironmentFault, match="was removed or moved"):
        end_epoch_after_a_move()
    assert not run.path.exists()


def test_a_clock_before_the_dates_of_zip_files_is_said(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=lambda: datetime(1970, 1, 2))
    monkeypatch.setattr("har_keras.run.datetime", clock)
    with (
        pytest.raises(EnvironmentFault, match="says 1970-01-02"),
        Run(tmp_path / "run").writing(),
    ):
        pass
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows: links need a right")
@pytest.mark.parametrize("name", [".lock", "run.log", "events"])
def test_a_link_in_a_run_is_not_written_through(name, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    run = Run(tmp_path / "run")
    run.create(Config())
    (run.path / name).symlink_to(outside)
    with pytest.raises(DataError, match="is a link"), run.writing():
        pytest.fail("it was opened")
    assert outside.read_text() == "mine"
