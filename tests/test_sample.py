import csv
import errno
import itertools
import os
import subprocess

import cv2
import numpy as np
import pytest

from har_keras.manifest.manifest import Manifest
from har_keras.sample import __main__ as sample_verb
from har_keras.sample import samples
from har_keras.sample.actions import ACTIONS
from har_keras.sample.camera import Camera
from har_keras.sample.figures import Person, bend, skeleton
from har_keras.sample.samples import draw_sample, draw_samples
from har_keras.sample.videos import Scene, draw_video

EVERY_ACTION = [
    (name, action.__name__) for name in ACTIONS for action in ACTIONS[name]
]


def read_mp4(file):
    video = cv2.VideoCapture(str(file))
    frames = []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    video.release()
    return np.stack(frames)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "drawn"
    return draw_samples(path, videos_per_class=4, seed=7)


def manifest(folder):
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("class_name", "action"), EVERY_ACTION)
def test_every_action_moves_a_figure_that_stays_in_sight(class_name, action):
    rng = np.random.default_rng(3)
    video = draw_video(rng, class_name, action=action, seconds=2.0)
    assert video.frames.dtype == np.uint8
    assert (video.class_name, video.action) == (class_name, action)
    height, width = video.frames.shape[1:3]
    left, top, right, bottom = video.boxes.T
    assert (0 <= left).all()
    assert (right <= width).all()
    assert (right - left > 0.1 * width).all()
    assert (bottom - top > 0.2 * height).all()
    assert (bottom <= height).all()
    assert np.abs(np.diff(video.frames[..., 1].astype(int), axis=0)).max() > 40


@pytest.mark.parametrize(("class_name", "action"), EVERY_ACTION)
def test_bones_keep_their_length_and_feet_stay_above_the_ground(
    class_name, action
):
    t = np.linspace(0, 3, 40)
    moves = {move.__name__: move for move in ACTIONS[class_name]}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        person = Person.draw(rng)
        joints = skeleton(person, moves[action](t, rng))
        for side in ("left", "right"):
            hip, knee, ankle = (
                joints[f"{part}_{side}"] for part in ("hip", "knee", "ankle")
            )
            shin = np.linalg.norm(ankle - knee, axis=-1)
            thigh = np.linalg.norm(knee - hip, axis=-1)
            np.testing.assert_allclose(shin, person.leg / 2, atol=2e-3)
            np.testing.assert_allclose(thigh, person.leg / 2, atol=2e-3)
            assert ankle[:, 2].min() > 0.02
        for points in joints.values():
            assert points.shape == (40, 3)
            assert np.isfinite(points).all()


def test_a_limb_bends_to_the_side_of_its_hint():
    root, tip = np.array([[0.0, 0, 1]]), np.array([[0.0, 0, 0.4]])
    joint, end = bend(root, tip, 0.5, 0.5, np.array([1.0, 0, 0]))
    np.testing.assert_allclose(joint, [[0.4, 0, 0.7]], atol=1e-6)
    np.testing.assert_allclose(end, tip, atol=1e-6)


def test_a_limb_stretches_towards_what_it_cannot_reach():
    root, tip = np.array([[0.0, 0, 1]]), np.array([[0.0, 0, -3.0]])
    _, end = bend(root, tip, 0.25, 0.25, np.array([1.0, 0, 0]))
    np.testing.assert_allclose(end, [[0, 0, 0.5]], atol=1e-3)


def test_the_camera_sees_near_things_larger_and_up_above():
    camera = Camera(160, 120, distance=4.0, eye=0.48, focal=320.0)
    points = np.array(
        [[0, 0, 0.48], [0.5, 0, 0.48], [0.5, -2, 0.48], [0, 0, 1]]
    )
    pixels, depth = camera.project(points)
    np.testing.assert_allclose(pixels[:3], [[80, 60], [120, 60], [160, 60]])
    assert pixels[3, 1] < 60
    np.testing.assert_allclose(depth, [4, 4, 2, 4])


def test_the_box_holds_what_moves_before_a_camera_on_a_stand():
    video = draw_sample(seed=1, index=0)
    change = np.ptp(video.frames.astype(int), axis=0).sum(-1)
    left, top = video.boxes[:, :2].min(0).astype(int)
    right, bottom = np.ceil(video.boxes[:, 2:].max(0)).astype(int)
    inside = np.zeros(change.shape, bool)
    inside[top:bottom, left:right] = True
    assert change[inside].mean() > 1.5 * change[~inside].mean()


def test_a_video_is_a_function_of_seed_and_index():
    first, again = draw_sample(5, 8), draw_sample(5, 8)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    other = draw_sample(6, 8)
    assert (
        first.frames.shape != other.frames.shape
        or (first.frames != other.frames).any()
    )


def test_a_group_is_one_scene_in_every_class():
    videos = [draw_sample(2, 3 * 4 + label) for label in range(3)]
    assert [video.class_name for video in videos] == ["gym", "walk", "work"]
    assert len({video.fps for video in videos}) == 1
    assert len({video.frames.shape for video in videos}) == 1


def test_four_groups_show_every_action():
    actions = {draw_sample(0, index).action for index in range(12)}
    assert actions == {action for _, action in EVERY_ACTION}


def test_a_scene_can_be_drawn_again_with_another_action():
    scene = Scene.draw(np.random.default_rng(0))
    videos = [
        draw_video(np.random.default_rng(1), name, scene=scene, seconds=1.0)
        for name in ACTIONS
    ]
    assert {video.frames.shape for video in videos} == {videos[0].frames.shape}


def test_files_are_real_videos_of_what_the_manifest_says(folder):
    rows = manifest(folder)
    assert len(rows) == 12
    for row in rows:
        assert row["file"].startswith(f"{row['split']}/{row['class']}/")
    drawn = draw_sample(7, 0)
    (row,) = [r for r in rows if r["group"] == "g0000" and r["class"] == "gym"]
    frames = read_mp4(folder / row["file"])
    assert frames.shape == drawn.frames.shape
    assert np.abs(frames.astype(int) - drawn.frames).mean() < 12


def test_no_group_is_in_two_splits_and_each_split_has_every_class(folder):
    rows = manifest(folder)
    splits = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    pairs = {(row["split"], row["class"]) for row in rows}
    assert len(pairs) == 9


def test_files_are_the_same_bytes_again(folder, tmp_path):
    again = draw_samples(tmp_path / "again", videos_per_class=3, seed=7)
    same = folder / "train/gym"
    name = next(file.name for file in same.iterdir() if "_g0000" in file.name)
    assert (again / "train/gym" / name).read_bytes() == (
        same / name
    ).read_bytes()


def test_the_same_videos_can_be_sorted_by_action(folder, tmp_path):
    again = draw_samples(
        tmp_path / "again", videos_per_class=4, seed=7, by_action=True
    )
    rows = manifest(again)
    assert all(row["class"] == row["action"] for row in rows)
    assert {row["class"] for row in rows} == {
        row["action"] for row in manifest(folder)
    }
    names = {path.name: path.read_bytes() for path in again.rglob("*.mp4")}
    assert names == {
        path.name: path.read_bytes() for path in folder.rglob("*.mp4")
    }


def test_progress_counts_every_video(tmp_path):
    told = []
    draw_samples(
        tmp_path / "d", videos_per_class=3, seed=0, progress=told.append
    )
    assert sum(told) == 9


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--num-videos", "2"], "--num-videos"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_the_verb_names_a_wrong_number(tmp_path, capsys, flags, word):
    assert sample_verb.main([str(tmp_path / "d"), *flags]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "d").exists()


def test_the_verb_does_not_write_over_what_is_there(tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("mine")
    assert sample_verb.main([str(tmp_path), "--num-videos", "3"]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_a_full_disk_is_said(tmp_path, capsys, monkeypatch):
    said = f"[out#0/mp4 @ 0x55] Error: {os.strerror(errno.ENOSPC)}\n"
    said = f"{said}[out#0/mp4 @ 0x55] Nothing was written.".encode()
    full = subprocess.CompletedProcess([], 1, b"", said)
    monkeypatch.setattr(samples, "run", lambda *_, **__: full)
    code = sample_verb.main([str(tmp_path / "s"), "--num-videos", "3"])
    assert (code, [*tmp_path.iterdir()]) == (4, [])
    assert "Error: The disk is full: " in capsys.readouterr().err


def test_the_verb_draws_into_a_new_folder(tmp_path, capsys):
    assert sample_verb.main([str(tmp_path / "d"), "--num-videos", "3"]) == 0
    assert len(list((tmp_path / "d").rglob("*.mp4"))) == 9
    assert str(tmp_path / "d") in capsys.readouterr().out


def test_untrimmed_videos_have_their_actions_one_after_the_other(tmp_path):
    folder = draw_samples(
        tmp_path / "long", videos_per_class=3, seed=7, untrimmed=True
    )
    rows = manifest(folder)
    assert len(rows) == 9
    by_file = {}
    for row in rows:
        by_file.setdefault(row["file"], []).append(row)
    assert sorted(by_file) == [
        "test/g0002.mp4", "train/g0000.mp4", "val/g0001.mp4",
    ]  # fmt: skip
    for file, parts in by_file.items():
        assert {row["class"] for row in parts} == set(ACTIONS)
        assert parts[0]["start"] == "0.00"
        for row, after in itertools.pairwise(parts):
            start, end, begins = map(
                float, (row["start"], row["end"], after["start"])
            )
            assert begins == end
            assert 3.9 <= end - start <= 8.1
        video = cv2.VideoCapture(str(folder / file))
        frames = video.get(cv2.CAP_PROP_FRAME_COUNT)
        seconds = frames / video.get(cv2.CAP_PROP_FPS)
        assert float(parts[-1]["end"]) == pytest.approx(seconds, abs=0.01)


def test_untrimmed_videos_train_as_labels_in_time(tmp_path):
    folder = draw_samples(
        tmp_path / "long", videos_per_class=3, seed=7, untrimmed=True
    )
    found = Manifest.from_folder(folder)
    assert len(found.videos) == 9
    assert all(video.end is not None for video in found.videos)
