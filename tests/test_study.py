import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter

import numpy as np
import psutil
import pytest
from support.server import wait_for
from support.videos import draw_video

from har_keras.benchmark.__main__ import main
from har_keras.benchmark.study import plot_study, study_rows, study_table
from har_keras.errors import DataError, UsageError
from har_keras.manifest.folds import drawn, folds
from har_keras.manifest.manifest import Manifest, Video


@pytest.fixture
def manifest(tmp_path):
    """Thirty videos in ten groups, and six for the test."""
    videos = [
        Video(
            f"{name}/{number}.mp4",
            name,
            "test" if number >= 15 else ("train", "val")[number % 2],
            group=f"{name}-{number // 3}",
        )
        for name in ("gym", "walk")
        for number in range(18)
    ]
    return Manifest(tmp_path, ("gym", "walk"), tuple(videos))


@pytest.mark.parametrize("num_folds", [2, 3, 5])
def test_every_video_is_tested_once_and_groups_stay_whole(manifest, num_folds):
    parts = folds(manifest, num_folds, val_fraction=0.2, seed=1)
    tested = [video.file for part in parts for video in part.split("test")]
    pool = [v.file for v in manifest.videos if v.split != "test"]
    assert sorted(tested) == sorted(pool)
    for part in parts:
        splits = {}
        for video in part.videos:
            splits.setdefault(video.group, set()).add(video.split)
        assert all(len(found) == 1 for found in splits.values())
        assert Counter(v.split for v in part.videos).keys() == {
            "train", "val", "test",
        }  # fmt: skip


def test_more_folds_than_groups_are_refused(manifest):
    with pytest.raises(DataError, match="there are 10"):
        folds(manifest, 11)
    with pytest.raises(UsageError, match="--folds"):
        folds(manifest, 1)


def result(recipe, seed, fold, right):
    """Two videos of a group each, of which `right` are recognised."""
    videos = [
        {
            "file": f"{fold}-{i}.mp4",
            "group": f"{fold}-{i}",
            "label": i,
            "probabilities": np.eye(2)[i if i < right else 1 - i].tolist(),
        }
        for i in range(2)
    ]
    return {
        "recipe": recipe, "seed": seed, "fold": fold, "cpu_seconds": 30.0,
        "videos": videos,
    }  # fmt: skip


ENDLESS = """
import os, sys, tempfile, time
from pathlib import Path
from har_keras import cli
from har_keras.benchmark import cross_validation

def endless(trial, predict):  # stands in for a training of hours
    tempfile.mkdtemp("of a library")
    (trial.folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)

def study():
    cross_validation.run_trial = endless
    trial = cross_validation.Trial("a", "0", None, None, Path(sys.argv[1]))
    list(cross_validation.run_trials([trial], None))

if __name__ == "__main__":
    sys.exit(cli.run_verb(study))
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of Unix")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, 9])
def test_a_study_that_is_stopped_ends_its_trials(tmp_path, number):
    (tmp_path / "program.py").write_text(ENDLESS)
    (tmp_path / "temporary").mkdir()
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path)],
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    file = tmp_path / "pid"
    try:
        wait_for(lambda: file.is_file() and file.read_text())
        if number == signal.SIGINT:  # a terminal sends it to all of them
            os.killpg(program.pid, number)
        else:
            program.send_signal(number)
        wait_for(lambda: not psutil.pid_exists(int(file.read_text())), 5)
        said = program.communicate(timeout=5)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
    killed = number == 9
    assert program.returncode == (-9 if killed else 128 + number)
    assert "Traceback" not in said
    assert killed or not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("per_class", [2, 5])
def test_a_draw_has_as_many_of_each_class_and_whole_groups(manifest, per_class):
    one, same, other = (
        drawn(manifest, per_class, val_fraction=0.3, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one == same
    assert {v.file for v in one.videos} != {v.file for v in other.videos}
    assert one.split("test") == manifest.split("test")
    trained = [v for v in one.videos if v.split != "test"]
    names = [v.class_name for v in trained]
    assert [names.count(n) for n in one.class_names] == [per_class] * len(
        one.class_names
    )
    val, train = ({v.group for v in one.split(n)} for n in ("val", "train"))
    assert not val & train


def test_a_draw_of_more_videos_than_there_are_is_refused(manifest):
    with pytest.raises(DataError, match="of --videos-per-class"):
        drawn(manifest, 1000)
    with pytest.raises(UsageError, match=r"at least 2\. Received: 1"):
        drawn(manifest, 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--videos-per-class", "5"], "needs --test"),
        (["--videos-per-class", "5;6", "--test"], "separated by commas"),
    ],
)
def test_wrong_sizes_of_a_learning_curve(flags, message, tmp_path, capsys):
    assert main(["recipes", str(tmp_path), *flags]) == 2
    assert message in capsys.readouterr().err


def test_videos_of_all_folds_count_together():
    rows = study_rows(
        [
            result("a", 0, "0", 2),
            result("a", 0, "1", 1),
            result("a", 1, "0", 2),
            result("a", 1, "1", 2),
            result("b", 0, "0", 0),
        ],
        num_classes=2,
    )
    found = {(row["recipe"], row["seed"]): row for row in rows}
    assert found["a", 0]["accuracy"] == 0.75
    assert found["a", 1]["accuracy"] == 1.0
    assert found["a", "all"]["accuracy"] == 0.875
    assert found["a", "all"]["num_videos"] == 4
    assert found["a", "all"]["cpu_minutes"] == 2.0
    assert found["b", "all"]["accuracy"] == 0.0
    assert found["a", "all"]["low"] < 0.875 < found["a", "all"]["high"]


def test_the_table_fits_a_terminal_and_the_picture_is_one(tmp_path):
    rows = study_rows([result("small-data", 0, "0", 1)], num_classes=2)
    assert max(map(len, study_table(rows).splitlines())) <= 80
    plot_study(rows, 0.5, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_a_study_from_the_shell(tmp_path, capsys):
    """Also that one which was stopped goes on, and that the test is apart."""
    for name, direction in (("down", 1), ("up", -1)):
        for number in range(6):
            split = "test" if number == 5 else "train"
            draw_video(
                tmp_path / "v" / split / name / f"{name}{number}.mp4",
                direction=direction,
                seed=number,
            )
    (tmp_path / "fast.toml").write_text("learning_rate = 0.01\n")
    arguments = [
        "recipes", str(tmp_path / "v"),
        "--recipes", f"plain,{tmp_path / 'fast.toml'}",
        "--folds", "2", "--seeds", "1", "--epochs", "1",
        "--output", str(tmp_path / "s"), "--crop-size", "42",
        "--patch-size", "14", "--num-frames", "4", "--num-layers", "1",
        "--batch-size", "8", "--num-clips", "1", "--num-crops", "1",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "fast " in capsys.readouterr().out
    with (tmp_path / "s/study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["recipe"], row["seed"]) for row in rows] == [
        ("plain", "0"), ("plain", "all"), ("fast", "0"), ("fast", "all"),
    ]  # fmt: skip
    assert {row["num_videos"] for row in rows} == {"10"}
    results = sorted(tmp_path.glob("s/trials/*/trial.json"))
    assert len(results) == 4
    tested = [
        video["file"]
        for file in results
        for video in json.loads(file.read_text())["videos"]
    ]
    assert not any(name.startswith("test/") for name in tested)
    results[0].unlink()
    before = results[1].stat().st_mtime_ns
    assert main(arguments) == 0
    assert results[0].is_file()
    assert results[1].stat().st_mtime_ns == before
    assert main([*arguments, "--test"]) == 0
    assert (tmp_path / "s/test.csv").is_file()
