"""What people get wrong: one sentence, the right exit code, nothing left."""

import resource
import shutil
import subprocess
import sys

import pytest
from support.videos import draw_folder, draw_video

from har_keras import train


def empty_folder(root):
    root.mkdir()
    return root


def missing_path(root):
    return root / "nowhere"


def a_file(root):
    root.write_text("x")
    return root


def one_class(root):
    return draw_folder(root, per_class=2, class_names=("down",))


def only_text_files(root):
    for name in ("down", "up"):
        (root / name).mkdir(parents=True)
        (root / name / "notes.mp4").write_text("not a video")
    return root


def a_class_of_broken_files(root):
    draw_folder(root, per_class=3, class_names=("down",))
    (root / "up").mkdir()
    for number in range(3):
        (root / "up" / f"{number}.mp4").write_bytes(bytes(1000))
    return root


def a_class_without_videos(root):
    draw_folder(root, per_class=3, class_names=("down",))
    (root / "up").mkdir()
    (root / "up" / "readme.txt").write_text("soon")
    return root


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (empty_folder, 3, ["empty"]),
        (missing_path, 2, ["nowhere"]),
        (a_file, 2, ["folder"]),
        (one_class, 3, ["down", "class"]),
        (only_text_files, 3, ["notes.mp4"]),
        (a_class_of_broken_files, 3, ["up"]),
        (a_class_without_videos, 3, ["down", "class"]),
    ],
)
def test_one_sentence_and_nothing_left(make, code, words, tmp_path, capsys):
    videos = make(
        tmp_path / "empty" if make is empty_folder else tmp_path / "v"
    )
    arguments = [str(videos), "--run-dir", str(tmp_path / "run")]
    store = ["--store-dir", str(tmp_path / "store")]
    assert train.main([*arguments, *store]) == code
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    assert len(errors) == 1
    assert "Traceback" not in said
    for word in words:
        assert word in said
    assert not (tmp_path / "run").exists()


def test_a_run_directory_in_use_is_refused(video_folder, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    code = train.main([str(video_folder), "--run-dir", str(tmp_path)])
    assert code == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_resuming_what_is_no_run(tmp_path, capsys):
    assert train.main(["--resume", str(tmp_path)]) == 3
    assert "is not a run" in capsys.readouterr().err


def test_a_leak_is_refused_when_strict(tmp_path, capsys):
    for split in ("train", "test"):
        draw_folder(tmp_path / "v" / split, per_class=2)
    same = tmp_path / "v" / "train" / "up" / "up-00.mp4"
    draw_video(same, seed=1000)
    shutil.copy(same, tmp_path / "v" / "test" / "up" / "again.mp4")
    arguments = [str(tmp_path / "v"), "--run-dir", str(tmp_path / "run")]
    store = ["--store-dir", str(tmp_path / "store"), "--strict"]
    assert train.main([*arguments, *store]) == 3
    said = capsys.readouterr().err
    assert "again.mp4" in said
    assert "up-00.mp4" in said
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_one_sentence(tmp_path):
    """A limit on file size stands in for a disk without space."""
    for name in ("down", "up"):
        for number in range(3):
            path = tmp_path / "v" / name / f"{number}.mp4"
            draw_video(path, num_frames=160, height=240, width=320)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "har_keras.train", str(tmp_path / "v")),
            *("--run-dir", str(tmp_path / "run"), "--wandb", "off"),
            *("--store-dir", str(tmp_path / "store")),
        ],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (60_000, 60_000)
        ),
    )
    assert done.returncode == 4, done.stderr
    assert "Error: The disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not left
