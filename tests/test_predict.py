import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from unicodedata import east_asian_width

import cv2
import numpy as np
import pytest
from support.videos import draw_video, moving_square, truncate

import har_keras
from har_keras import predict as verb
from har_keras.errors import DataError
from har_keras.inference.calibration import Calibration
from har_keras.inference.classifier import Prediction
from har_keras.inference.load import load
from har_keras.inference.timeline import TimelineConfig, build_timeline
from har_keras.report import overlay
from har_keras.report.predictions import PredictRequest
from har_keras.report.printing import PRINTERS, Csv
from har_keras.video.ffmpeg import VideoError, probe


@pytest.fixture(scope="module")
def videos(few_videos):
    return few_videos


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


@pytest.fixture(scope="module")
def classifier(run):
    return load(run.path)


def table_of(run):
    with run.videos_file.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_predict_says_what_evaluate_says(run, classifier, videos):
    rows = table_of(run)
    assert len(rows) == 4
    found = classifier.predict_all([videos / file for file in rows])
    for prediction, row in zip(found, rows.values(), strict=True):
        assert prediction.label == row["prediction"]
        for name, share in prediction.probabilities.items():
            assert share == pytest.approx(float(row[name]), abs=1e-6)


def test_an_answer_is_a_plain_object(classifier, videos):
    found = classifier.predict(videos / "up" / "up-00.mp4")
    assert found.label in ("down", "up")
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.seconds == pytest.approx(3.0, abs=0.1)
    assert found.segments == ()
    # A temperature keeps the order of classes, and is above one half of two.
    assert 0.5 <= found.confidence <= 1


def test_frames_are_answered_as_their_file(classifier, tmp_path):
    lossless = ("-c:v", "png", "-pix_fmt", "rgb24")
    path = draw_video(tmp_path / "a.mov", num_frames=32, options=lossless)
    from_file = classifier.predict(path)
    from_frames = classifier.predict(moving_square(32), fps=16.0)
    for name, share in from_file.probabilities.items():
        assert from_frames.probabilities[name] == pytest.approx(share, abs=1e-6)


def test_a_clip_goes_straight_to_the_model(classifier):
    clip = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    expected = np.asarray(classifier.model.predict_on_batch(clip[None]))[0]
    found = classifier.predict(clip)
    shares = list(found.probabilities.values())
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_a_gif_is_a_video(classifier, tmp_path):
    path = draw_video(tmp_path / "a.gif", num_frames=16, options=())
    assert classifier.predict(path).seconds == pytest.approx(1.0, abs=0.15)


def test_a_bad_file_raises_with_its_reason(classifier, tmp_path):
    (tmp_path / "bad.mp4").write_text("this is no video at all")
    with pytest.raises(DataError, match=r"bad\.mp4' can't be used: not a vid"):
        classifier.predict(tmp_path / "bad.mp4")
    with pytest.raises(DataError, match="missing"):
        classifier.predict(tmp_path / "none.mp4", timeline=True)


def test_damage_is_told(classifier, videos, tmp_path):
    cut = truncate(videos / "up" / "up-01.mp4", tmp_path / "cut.mp4", 0.9)
    found = classifier.predict(cut)
    assert found.reason.startswith("truncated at ")
    assert found.seconds < 3


def test_windows_of_a_timeline_are_the_clips_of_the_video(classifier, videos):
    path = videos / "down" / "down-02.mp4"
    found = classifier.predict(path, timeline=True)
    assert found.segments[0].start_seconds == 0
    assert found.segments[-1].end_seconds == found.seconds == 3.0
    assert len(found.timeline.probabilities) == 4  # at 0, 1, 2 and 2.5 s


def run_verb(capsys, *arguments):
    code = verb.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_bad_file_is_reported_and_the_rest_go_on(
    run, videos, tmp_path, capsys
):
    (tmp_path / "bad.mp4").write_text("this is no video at all")
    good = [videos / "up" / f"up-0{n}.mp4" for n in range(3)]
    code, out, err = run_verb(
        capsys, run.path, tmp_path / "bad.mp4", *good, "--format", "json"
    )
    assert code == 3
    answers = [json.loads(line) for line in out.splitlines()]
    assert [x.get("file") for x in answers[1:]] == [str(x) for x in good]
    assert answers[0]["error"] == "not a video"
    assert "1 of 4 videos could not be used" in err


def test_csv_holds_hostile_names_as_text(run, tmp_path, capsys, monkeypatch):
    draw_video(tmp_path / "=cmd.mp4", num_frames=8)
    (tmp_path / "@bad.mp4").write_text("this is no video at all")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_verb(capsys, run.path, "*.mp4", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 3
    assert [row["file"] for row in rows] == ["'=cmd.mp4", "'@bad.mp4"]
    assert float(rows[0]["down"]) + float(rows[0]["up"]) == pytest.approx(1)
    assert (rows[1]["prediction"], rows[1]["reason"]) == ("", "not a video")


def test_csv_has_no_control_characters_in_its_header(capsys):
    Csv(("\x1b]0;title\x07gym", "wa\nlk"))
    assert "\\x1b]0;title\\x07gym,wa\\nlk" in capsys.readouterr().out


def test_the_table_is_for_people(run, videos, capsys):
    code, out, _ = run_verb(capsys, run.path, videos / "up")
    assert code == 0
    assert len(out.splitlines()) == 4
    assert "up-03.mp4" in out
    assert "%" in out


LONG = "/a/long/way/to/a/folder/of/clips/2024-01-03_ward-7_cam-2_0093.mp4"


@pytest.mark.parametrize("name", [LONG, "a.mp4", "歩く" * 30, "\x1b[31m" * 9])
@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("number", [2, 3, 40])
def test_a_line_fits_80_columns(name, accepted, number, capsys):
    names = [f"class {'long name ' * (n % 5)}{n}" for n in range(number)]
    shares = dict(zip(names, np.full(number, 1 / number), strict=True))
    shares[names[1]] += 0.01
    table = PRINTERS["table"](tuple(names))
    table(Prediction(name, names[1], 0.93, shares, accepted=accepted))
    (line,) = capsys.readouterr().out.splitlines()
    wide = sum(east_asian_width(x) in "WF" for x in line)
    assert len(line) + wide <= 80
    assert "93%" in line
    assert "0093.mp4" in line or name != LONG
    assert ("none of these" in line) != accepted


def test_the_shares_of_a_line_are_calibrated_and_sum_to_100(capsys):
    table = PRINTERS["table"](("gym", "walk", "work"))
    raw = {"gym": 0.5, "walk": 0.3, "work": 0.2}
    calibrated = {"gym": 0.369, "walk": 0.366, "work": 0.265}
    table(Prediction("a.mp4", "gym", 0.369, raw, calibrated=calibrated))
    line = capsys.readouterr().out
    shown = [int(x) for x in re.findall(r"(\d+)%", line)]
    assert shown == [37, 37, 26]


def test_what_is_not_accepted_is_none_of_these(capsys):
    shares = {"gym": 0.3, "walk": 0.32, "work": 0.38}
    found = Prediction("a.mp4", "work", 0.35, shares, accepted=False)
    for kind, words in {
        "table": "none of these",
        "json": '"accepted": false',
        "csv": "a.mp4,work,0.35,0.3,0.32,0.38,,false",
    }.items():
        PRINTERS[kind](("gym", "walk", "work"))(found)
        assert words in capsys.readouterr().out


def test_the_classes_come_by_score(capsys):
    shares = {"gym": 0.02, "walk": 0.05, "work": 0.93}
    table = PRINTERS["table"](("gym", "walk", "work"))
    table(Prediction("a.mp4", "work", 0.93, shares))
    assert "work" in (line := capsys.readouterr().out)
    assert line.rstrip().endswith("walk 5% gym 2%")


def test_a_threshold_refuses_videos_and_segments(run, videos):
    classifier = load(run.path)
    path = videos / "up" / "up-00.mp4"
    sure = classifier.predict(path, timeline=True)
    assert sure.accepted
    classifier.calibration = Calibration(threshold=0.999, accept_errors=0.05)
    for timeline in (False, True):
        found = classifier.predict(path, timeline=timeline)
        assert not found.accepted
        assert found.label in ("down", "up")
        assert sum(found.probabilities.values()) == pytest.approx(1)
        assert {x.label for x in found.segments} <= {"none"}
    # What is asked for has precedence, and the answer is that of the timeline.
    lax = TimelineConfig(threshold=0.01)
    assert classifier.predict(path, timeline=lax).accepted


def test_a_video_of_two_halves_has_the_answer_of_its_timeline(run):
    classifier = load(run.path)
    timeline = build_timeline(
        np.arange(9.0), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 6),
        class_names=("down", "up"), seconds=10.0, window_seconds=2.0,
        options=TimelineConfig(threshold=0.5, smooth_seconds=0.0),
    )  # fmt: skip
    known = Prediction("a.mp4", timeline=timeline)
    found = classifier.with_classes(known, np.array([0.55, 0.45]))
    assert (found.label, found.accepted) == ("up", True)


def test_no_segment_goes_beyond_the_end(run, videos, tmp_path):
    # 35 frames at 16 per second: a window's frames are shown for longer.
    path = draw_video(tmp_path / "a.mp4", num_frames=35)
    found = load(run.path).predict(path, timeline=True)
    length = probe(path).duration_seconds
    assert found.seconds == found.segments[-1].end_seconds <= length
    assert found.seconds == pytest.approx(35 / 16, abs=0.01)


def test_a_camera_that_is_not_there_is_said_at_once(capsys, monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("cameras are files on Linux only")
    code, _, err = run_verb(capsys, "no-run-is-opened", "camera:987")
    assert code == 3
    assert "There is no 'camera:987' on this machine" in err


def test_timelines_are_written_for_each_video(run, videos, tmp_path, capsys):
    code, out, _ = run_verb(
        capsys, run.path, videos / "up" / "up-00.mp4", "--timeline",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert code == 0
    assert " s to " in out
    assert [x.rpartition("/")[2] for x in out.splitlines()[-5:]] == [
        "up-00.csv", "up-00.json", "up-00.png", "up-00.srt", "up-00.vtt",
    ]  # fmt: skip
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [
        ".csv", ".json", ".png", ".srt", ".vtt",
    ]  # fmt: skip


def test_overlay_and_attention_are_written(run, videos, tmp_path, capsys):
    files = sorted((videos / "up").iterdir())[:2]
    code, _, err = run_verb(
        capsys, run.path, *files, "--overlay", tmp_path / "drawn",
        "--attention", "--output", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    drawn = sorted(file.name for file in (tmp_path / "drawn").iterdir())
    assert drawn == ["up-00.mp4", "up-01.mp4"]
    assert probe(tmp_path / "drawn" / "up-00.mp4").duration_seconds == 3.0
    movie = probe(tmp_path / "out" / "up-01.attention.mp4")
    # Two whole frames, and what the colors mean.
    assert (movie.width, movie.height) == (2 * 320, 240 + 28)
    assert (tmp_path / "out" / "up-01.attention.png").stat().st_size > 500


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (VideoError("a", "no video stream in it"), "no video stream in it"),
        (IsADirectoryError(21, "Is a directory", "a"), "'a': Is a directory"),
    ],
)
def test_an_overlay_that_fails_does_not_end_the_batch(
    run, videos, tmp_path, capsys, monkeypatch, error, reason
):
    real = overlay.write_overlay

    def write(video, *arguments, **options):
        if video.name == "up-00.mp4":
            raise error
        return real(video, *arguments, **options)

    monkeypatch.setattr(overlay, "write_overlay", write)
    files = [videos / "up/up-00.mp4", videos / "up/up-01.mp4"]
    code, out, err = run_verb(
        capsys, run.path, *files, "--overlay", tmp_path, "--format", "json"
    )
    assert code == 3
    first, second = (json.loads(line) for line in out.splitlines())
    assert first["prediction"] in ("down", "up")
    assert first["reason"] == reason
    assert second["reason"] == ""
    assert "The files of" in err
    assert "files of 1 of 2 videos are missing" in err
    assert [path.name for path in tmp_path.iterdir()] == ["up-01.mp4"]


def test_a_folder_that_can_not_be_written_ends_the_batch(
    run, videos, tmp_path, capsys, monkeypatch
):
    def write(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", "out")

    monkeypatch.setattr(overlay, "write_overlay", write)
    files = [videos / "up/up-00.mp4", videos / "up/up-01.mp4"]
    code, _, err = run_verb(capsys, run.path, *files, "--overlay", tmp_path)
    assert code == 4
    assert err.endswith("Error: The system refused 'out': Permission denied.\n")


def test_an_exported_file_is_known_by_its_content(tmp_path):
    # A name is no pattern for the files that belong to it.
    for name in ("model [1].onnx", "model 1.onnx"):
        (tmp_path / name).write_bytes(b"a")
    request = PredictRequest(str(tmp_path / "model [1].onnx"))
    before = request.fingerprint()
    (tmp_path / "model 1.onnx").write_bytes(b"b")
    assert request.fingerprint() == before
    (tmp_path / "model [1].onnx").write_bytes(b"b")
    assert request.fingerprint() != before


def test_overlay_draws_on_a_folder_of_pictures(run, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, frame in enumerate(moving_square(30)):
        cv2.imwrite(str(folder / f"{number}.jpg"), frame)
    code, _, err = run_verb(
        capsys, run.path, folder, "--overlay", tmp_path / "out.mp4",
        "--images-fps", "15",
    )  # fmt: skip
    assert code == 0, err
    info = probe(tmp_path / "out.mp4")
    assert (info.fps, info.duration_seconds) == (
        15.0,
        pytest.approx(2, abs=0.1),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.mp4", "b.mp4", "--overlay", "out.mp4"), "Give a folder"),
        (("a.mp4", "--overlay", "a.mp4"), "the video itself"),
        (("camera:0", "a.mp4"), "does not end, so it must be the only"),
        (("camera:0", "--timeline"), "is live"),
        (("camera:0", "--overlay", "out"), "draws on videos that end"),
        (("a.mp4", "--threshold", "7"), "--threshold must be"),
        (("a.mp4", "--output", "out"), "without either"),
        (("a\0.mp4",), "No file can have this name"),
        (("a" * 2**16,), "No file can have this name"),
        (("camera:0", "--max-seconds", "nan"), "--max-seconds must be"),
        (("a", "--images-fps", "0"), "--images-fps must be"),
        (("http://127.0.0.1/a",), "--allow-network"),
    ],
)
def test_what_can_not_work_is_refused_first(arguments, words, capsys):
    code, _, err = run_verb(capsys, "no-run-is-opened", *arguments)
    assert code == 2
    assert words in err


def test_nothing_to_look_at_is_a_slip(run, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, _, err = run_verb(capsys, run.path, "-")
    assert code == 2
    assert "No video was found" in err


def test_the_package_is_light_until_it_is_asked():
    code = "import har_keras, sys; print('numpy' in sys.modules); har_keras.nil"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.stdout == "False\n"
    assert "has no attribute 'nil'" in done.stderr
    assert {"load", "VideoClassifier", "Prediction"} <= set(dir(har_keras))
