"""Runs side by side on the videos that all of them tested."""

import csv
import json
import shutil

import numpy as np
import pytest

from har_keras.compare.__main__ import main
from har_keras.compare.comparison import by_group, compare, mcnemar
from har_keras.compare.page import comparison_text, verdict
from har_keras.config import Config
from har_keras.errors import DataError
from har_keras.run import Run
from har_keras.toml import write_toml


def edited(run, change):
    """Changes the rows of `videos.csv`."""
    with run.videos_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows = change(rows)
    with run.videos_file.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def answers(right):
    """Returns a change that makes some rows right, and the others wrong."""

    def change(rows):
        names = sorted({row["label"] for row in rows})
        for number, row in enumerate(rows):
            wrong = next(name for name in names if name != row["label"])
            row["prediction"] = row["label"] if number in right else wrong
        return rows

    return change


@pytest.fixture
def two(tiny_run, tmp_path):
    return [
        Run(shutil.copytree(tiny_run.path, tmp_path / name))
        for name in ("first", "second")
    ]


def test_a_difference_by_chance_is_not_said_to_be_real(two):
    edited(two[0], answers({0, 1}))
    edited(two[1], answers({1, 2, 3}))
    found = compare([run.path for run in two])
    (difference,) = found.differences
    assert (difference.better, difference.worse) == (2, 1)
    assert found.accuracy(found.results[0]) == 2 / len(found.shared)
    assert not difference.is_real
    assert "not shown to be real" in verdict(found, difference)
    assert "alone is right on 2 and first alone on 1" in comparison_text(found)


def test_a_difference_over_many_groups_is_real():
    gains = np.ones(12, int)
    groups = [str(number) for number in range(12)]
    assert by_group(gains, groups) < 0.01
    assert mcnemar(12, 0) < 0.01
    # The same twelve videos of two recordings tell nothing.
    assert by_group(gains, [str(number % 2) for number in range(12)]) > 0.4


def test_equal_runs_are_equal(two):
    found = compare([run.path for run in two])
    assert found.differences[0].p_value == 1.0
    assert found.options == {}


def test_options_that_differ_are_listed(two, capsys, tmp_path):
    config = two[1].config().replace(learning_rate=0.5)
    write_toml(config, two[1].config_file)
    paths = [str(run.path) for run in two]
    folder = tmp_path / "page\x1b[2J"
    assert main([*paths, "--output", str(folder)]) == 0
    said = capsys.readouterr().out
    assert r"page\x1b[2J" in said
    assert "\x1b" not in said
    rate = Config().training.learning_rate
    assert f"learning_rate: {rate} | 0.5" in said
    assert all(len(line) <= 80 for line in said.splitlines()[:3])
    written = json.loads((folder / "comparison.json").read_text())
    assert written["options"] == {"learning_rate": [str(rate), "0.5"]}
    page = (folder / "index.html").read_text("utf-8")
    assert "<script" not in page
    assert "learning_rate" in page


def test_test_videos_that_were_trained_on_are_said(two):
    found = compare([run.path for run in two])  # measured on the train split
    assert any("was trained on" in note for note in found.notes)


def test_only_shared_videos_are_compared(two):
    edited(two[0], answers({0, 1}))
    edited(two[1], lambda rows: answers({0})(rows)[:3])
    found = compare([run.path for run in two])
    assert len(found.shared) == 3
    assert any("of which 3 are in all runs" in note for note in found.notes)


def test_without_a_shared_video_nothing_is_compared(two):
    def renamed(rows):
        return [row | {"file": f"other/{row['file']}"} for row in rows]

    edited(two[1], renamed)
    with pytest.raises(DataError, match="no test video in common"):
        compare([run.path for run in two])


def test_a_run_is_not_compared_with_itself(two, capsys):
    path = two[0].path
    assert main([str(path), str(path / ".." / path.name)]) == 2
    assert "is given twice" in capsys.readouterr().err


def test_one_run_is_nothing_to_compare(two, capsys):
    assert main([str(two[0].path)]) == 2
    assert "two runs or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("evaluation.json", '{"accuracy": 0.5, "num_videos": 4}'),
        ("evaluation.json", '{"accuracy": [], "accuracy_interval": 7}'),
        (
            "evaluation.json",
            '{"accuracy": NaN, "accuracy_interval": null, "num_videos": 4, '
            '"num_failed": 0, "balanced_accuracy": 1, "majority_accuracy": 7}',
        ),
        ("history.csv", "epoch,loss\n1,0.5\n"),
        ("history.csv", "epoch,seconds\n1,inf\n"),
        ("videos.csv", "file\na.mp4\n"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(two, capsys, name, content):
    (two[1].path / name).write_text(content)
    assert main([str(run.path) for run in two]) == 3
    assert f"{name}' is damaged" in capsys.readouterr().err


def test_a_link_to_itself_is_no_run(two, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match="is not a run"):
        compare([two[0].path, tmp_path / "loop"])
