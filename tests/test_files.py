import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from har_keras import files
from har_keras.errors import EnvironmentFault
from har_keras.files import full_disk_named, whole_file
from har_keras.label.labels import Labels


def test_a_file_appears_whole(tmp_path):
    with whole_file(tmp_path / "deep" / "a.txt") as file:
        file.write_text("new")
        assert file.suffix == ".txt"
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def write():
        with whole_file(tmp_path / "a.txt") as file:
            file.write_text("half")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("first", "second"):
        with whole_file(tmp_path / "out") as folder:
            folder.mkdir()
            (folder / content).write_text(content)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        # As TensorFlow's ResourceExhaustedError, which is no OSError.
        RuntimeError("saved_model.pb.tmp1; No space left on device [Op:Save]"),
    ],
)
def test_a_full_disk_is_said_in_words(tmp_path, error):
    with (
        pytest.raises(EnvironmentFault, match=r"disk is full.*model\.keras"),
        full_disk_named(tmp_path / "model.keras"),
    ):
        raise error


def test_other_errors_pass_through(tmp_path):
    with (
        pytest.raises(PermissionError),
        full_disk_named(tmp_path / "model.keras"),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_temporary_folders_of_killed_processes_go(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._remove_temporary_folders.cache_clear()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own = f"{os.getpid():08x}"
    mark = files.temporary_prefix()
    assert own in mark
    left = tmp_path / f"{mark.replace(own, f'{ended.pid:08x}')}abc"
    kept = [
        tmp_path / f"{mark}abc",
        tmp_path / "har_keras-notes",
        tmp_path / left.name.replace(mark[10:16], "0" * 6),
    ]
    for folder in (left, *kept):
        folder.mkdir()
        (folder / "file").touch()
    files._remove_temporary_folders.cache_clear()
    files.temporary_prefix()
    assert not left.exists()
    assert all((folder / "file").exists() for folder in kept)


@pytest.mark.parametrize("begin", ["file", "labels"])
def test_what_a_killed_process_half_wrote_goes(tmp_path, begin):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    machine = files.machine_mark()
    left = tmp_path / f".{machine}{ended.pid:08x}12ab-manifest.csv"
    kept = [
        tmp_path / f".{machine}{os.getpid():08x}12ab-manifest.csv",
        tmp_path / f".{'0' * 6}{ended.pid:08x}12ab-manifest.csv",
        tmp_path / ".12345678-notes.txt",  # of the user
    ]
    for path in (left, *kept):
        path.write_text("half")
        os.utime(path, (0, 0))
    if begin == "file":
        with whole_file(tmp_path / "a.txt") as file:
            file.write_text("new")
    else:
        Labels(tmp_path)
    assert not left.exists()
    assert all(path.read_text() == "half" for path in kept)


def test_a_disk_that_syncs_no_folder_is_written_to(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(number):
        if os.path.isdir(f"/proc/self/fd/{number}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with whole_file(tmp_path / "a.txt") as file:
        file.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"

    def broken(number):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        files.sync(tmp_path)


PROGRAM = """
import os, sys, tempfile
from har_keras.cli import run_verb
from har_keras.environment import start_backend

def verb():
    start_backend("tensorflow")
    import keras
    import tensorflow as tf

    @tf.function
    def double(x):
        return x + x

    double(1)
    tempfile.mkdtemp()  # as Keras does where it saves a model
    print(*os.listdir(os.environ["TMPDIR"]), flush=True)
    if {killed}:
        os.kill(os.getpid(), 9)

sys.exit(run_verb(verb))
"""


@pytest.mark.parametrize("killed", [False, True])
def test_what_libraries_leave_is_in_a_folder_that_goes(
    killed, tmp_path, monkeypatch
):
    program = tmp_path / "program.py"  # AutoGraph reads the source
    program.write_text(PROGRAM.format(killed=killed))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, str(program)],
        # Compiled programs have a folder beside it, unless the flag of another
        # is inherited.
        env=os.environ
        | {"TMPDIR": str(temporary), "HAR_KERAS_COMPILED": "off"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    (folder,) = done.stdout.split()
    assert folder.startswith("har_keras-")
    assert done.returncode == (-9 if killed else 0)
    left = [path.name for path in temporary.glob("*/*")]
    assert len(left) >= 2 if killed else not left
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    files._remove_temporary_folders.cache_clear()
    files.temporary_prefix()
    assert not list(temporary.iterdir())


LATE_PROGRAM = """
import atexit, shutil, sys, tempfile
from har_keras.cli import run_verb

def verb():
    # As matplotlib does where it can't write its settings.
    atexit.register(shutil.rmtree, tempfile.mkdtemp())

sys.exit(run_verb(verb))
"""


def test_what_libraries_remove_at_the_end_is_there_till_then(tmp_path):
    program = tmp_path / "har-keras.py"
    program.write_text(LATE_PROGRAM)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, str(program)],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(temporary.iterdir())


def test_a_cleaned_folder_of_temporary_files_is_made_again(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with files.own_temporary_folder():
        own = Path(tempfile.mkdtemp()).parent
        assert own.parent == files.temporary_folder() == tmp_path
        files.remove(own)
        with whole_file(tmp_path / "a.txt") as file:
            file.write_text(tempfile.mkdtemp())
    assert tempfile.gettempdir() == str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
