"""The main job on a system without the functions that only Unix has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "bare_system.py"
SMALL = [
    "--recipe", "quick", "--epochs", "1", "--crop-size", "32", "--num-frames",
    "4", "--batch-size", "4", "--num-clips", "1", "--num-crops", "1",
    "--wandb", "off", "--patch-size", "16",
]  # fmt: skip


@pytest.mark.slow
def test_the_main_job_needs_nothing_that_only_unix_has(video_folder, tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "Traceback" not in done.stderr
        return done.stdout

    videos, folder = video_folder, tmp_path / "run"
    store = ("--store-dir", tmp_path / "store")
    run("check", videos, "--output", tmp_path / "check", *store)
    assert "Test accuracy" in run(
        "train", videos, "--run-dir", folder, *SMALL, *store
    )
    assert "Accuracy" in run("evaluate", folder, "--split", "train")
    video = next(videos.rglob("*.mp4"))
    output = ("--output", tmp_path / "predictions")
    assert "%" in run("predict", folder, video, "--timeline", *output)
    assert run("export", folder).strip().endswith("2")
