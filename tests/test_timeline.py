import csv
import io
import json
import weakref

import cv2
import numpy as np
import pytest

from har_keras.config import ClipConfig
from har_keras.errors import UsageError
from har_keras.evaluation.fitting import fit_calibration, fit_temperature
from har_keras.inference.calibration import Calibration
from har_keras.inference.timeline import (
    NONE,
    Segment,
    TimelineConfig,
    build_timeline,
    smoothed,
    with_hysteresis,
    without_short,
)
from har_keras.inference.windows import windows
from har_keras.report.timeline_files import srt, webvtt, write_timeline
from har_keras.run import Run
from har_keras.serving.acceptance import apply_temperature

CLIP = ClipConfig(num_frames=4, crop_size=8)


def timeline(labels, names=("gym", "walk"), sure=0.9, **options):
    """Builds a timeline of windows a second apart that are sure of labels."""
    rows = np.full((len(labels), len(names)), (1 - sure) / (len(names) - 1))
    rows[np.arange(len(labels)), labels] = sure
    return build_timeline(
        np.arange(len(labels), dtype=float),
        rows,
        class_names=names,
        seconds=len(labels) + 1.0,
        window_seconds=2.0,
        options=TimelineConfig(**options),
    )


def numbered(count, size=(8, 10)):
    """Yields frames whose picture tells their number."""
    for number in range(count):
        yield np.full((*size, 3), number, np.uint8)


def test_segments_are_what_was_seen_without_gaps():
    found = timeline([0] * 10 + [1] * 10)
    assert [x.label for x in found.segments] == ["gym", "walk"]
    assert found.segments[0].start_seconds == 0
    assert found.segments[0].end_seconds == pytest.approx(10.5, abs=1)
    assert found.segments[1].start_seconds == found.segments[0].end_seconds
    assert found.segments[1].end_seconds == found.seconds == 21


def test_a_flicker_is_no_segment():
    found = timeline([0] * 6 + [1] + [0] * 6)
    assert [x.label for x in found.segments] == ["gym"]


def test_an_unsure_stretch_is_none():
    found = timeline([0, 1] * 6, sure=0.55, smooth_seconds=4.0, threshold=0.6)
    assert [x.label for x in found.segments] == [NONE]
    assert 0.5 <= found.segments[0].score < 0.6


@pytest.mark.parametrize(
    ("row", "expected"),
    [([0.58, 0.42], 0), ([0.42, 0.58], 1), ([0.46, 0.54], 0), ([0.5, 0.5], 0)],
)
def test_another_class_needs_a_lead(row, expected):
    rows = np.array([[0.9, 0.1], row])
    assert with_hysteresis(rows, 0.5, 0.1).tolist() == [0, expected]


def test_a_class_goes_on_a_little_below_the_threshold():
    rows = np.array([[0.61, 0.2, 0.19], [0.52, 0.3, 0.18], [0.45, 0.3, 0.25]])
    assert with_hysteresis(rows, 0.6, 0.1).tolist() == [0, 0, -1]


def test_short_stretches_go_to_the_longer_neighbour():
    labels = np.array([0, 0, 0, 1, 2, 2])
    edges = np.arange(7.0)
    assert without_short(labels, edges, 2).tolist() == [0, 0, 0, 0, 2, 2]
    assert without_short(labels, edges, 9).tolist() == [0] * 6
    assert labels.tolist() == [0, 0, 0, 1, 2, 2]


def test_smoothing_keeps_sums_and_places():
    rows = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    found = smoothed(rows, 5)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_allclose(found[7], rows[5:10].mean(0))
    np.testing.assert_allclose(smoothed(rows, 1), rows)


@pytest.mark.parametrize(
    ("option", "value"),
    [("hop_seconds", 0.0), ("threshold", 1.5), ("min_seconds", -1.0)],
)
def test_options_out_of_range_are_named(option, value):
    with pytest.raises(UsageError, match=option.replace("_", "-")):
        TimelineConfig(**{option: value}).validated()


def test_an_average_over_ages_is_one_over_everything():
    options = TimelineConfig(smooth_seconds=1e300).validated()
    rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert np.ptp(smoothed(rows, options.smooth_windows), axis=0).max() == 0


def test_windows_lie_a_hop_apart_and_reach_the_end():
    # Half a second is 4 frames of a clip.
    found = list(windows(numbered(12), CLIP, 0.5, "raw"))
    assert [start for start, _ in found] == [0, 4, 8]
    for start, clip in found:
        assert clip.shape == (4, 8, 8, 3)
        shown = clip[:, 0, 0, 0].tolist()
        assert shown == [start, start + 1, start + 2, start + 3]


def test_a_last_window_ends_the_video():
    found = list(windows(numbered(10), CLIP, 0.5, "raw"))
    assert [start for start, _ in found] == [0, 4, 6]


def test_a_video_shorter_than_a_window_holds_its_last_frame():
    ((start, clip),) = windows(numbered(3), CLIP, 0.5, "raw")
    assert start == 0
    assert clip[:, 0, 0, 0].tolist() == [0, 1, 2, 2]
    assert list(windows(numbered(0), CLIP, 0.5, "raw")) == []


def test_windows_keep_only_their_own_frames():
    seen = []

    def frames():
        for _ in range(100):
            frame = np.zeros((8, 10, 3), np.uint8)
            seen.append(weakref.ref(frame))
            yield frame

    for _ in windows(frames(), CLIP, 0.5, "raw"):
        assert sum(frame() is not None for frame in seen) <= 6
    assert len(seen) == 100


HOSTILE = ('=cmd|"/C calc"!A0', "<script>alert(1)</script> -->\n\n00:00")


def test_files_hold_hostile_labels_as_text(tmp_path):
    found = timeline([0] * 5 + [1] * 5, names=HOSTILE)
    files = write_timeline(found, "../<b>.mp4", tmp_path / "video")
    assert {file.parent for file in files} == {tmp_path}
    table, as_json, subtitles, web, picture = files
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert rows[0]["class"] == "'" + HOSTILE[0]
    said = json.loads(as_json.read_text())
    assert said["segments"][1]["label"] == HOSTILE[1]
    assert len(said["windows"]["probabilities"]) == 10
    assert "<" not in subtitles.read_text()
    assert "<" not in web.read_text()
    assert web.read_text().count("-->") == 2
    assert cv2.imread(str(picture)).std() > 10


def test_subtitles_have_the_times_of_the_segments():
    found = timeline([0] * 70 + [1] * 5)
    assert srt(found).startswith("1\n00:00:00,000 --> 00:01:1")
    assert webvtt(found).startswith("WEBVTT\n\n00:00:00.000 --> 00:01:1")
    assert "gym (90%)" in srt(found)


def test_nothing_is_said_of_none(tmp_path):
    found = timeline([0, 1] * 6, sure=0.55, smooth_seconds=4.0, threshold=0.6)
    assert srt(found) == ""
    assert webvtt(found) == "WEBVTT\n"
    # Nor is a file without a word written, or an earlier one left.
    write_timeline(timeline([0] * 6), "a.mp4", tmp_path / "a")
    assert (tmp_path / "a.srt").stat().st_size
    files = write_timeline(found, "a.mp4", tmp_path / "a")
    assert [file.suffix for file in files] == [".csv", ".json", ".png"]
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_the_threshold_is_the_models_unless_another_is_given():
    options = TimelineConfig()
    chosen = Calibration(threshold=0.7, accept_errors=0.05)
    none = Calibration(accept_errors=0.05)
    assert options.of_model(chosen).threshold == 0.7
    assert options.of_model(none).threshold == 0  # everything is accepted
    assert options.of_model(Calibration()).threshold == 0.5  # an old run
    given = TimelineConfig(threshold=0.9)
    assert given.of_model(chosen).threshold == 0.9


def test_the_class_of_most_seconds():
    assert timeline([0] * 4 + [1] * 9).longest == "walk"
    unsure = timeline([0, 1] * 6, sure=0.55, smooth_seconds=4, threshold=0.6)
    assert unsure.longest == ""


def test_the_timeline_at_a_time():
    found = timeline([0] * 10 + [1] * 10)
    assert found.at(1.0)[0] == found.segments[0]
    assert found.at(1e9)[0] == found.segments[1]
    assert found.at(0.0)[1].argmax() == 0
    assert found.at(20.9)[1].argmax() == 1
    assert isinstance(found.at(3.0)[0], Segment)


def test_the_temperature_makes_confidence_true():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([1, 1, 1], 4000)
    labels = np.array([rng.choice(3, p=row) for row in truth])
    sure = apply_temperature(truth, 1 / 2.5)  # two and a half times too sure
    assert fit_temperature(labels, sure) == pytest.approx(2.5, rel=0.1)
    np.testing.assert_allclose(apply_temperature(sure, 2.5), truth, atol=1e-9)


def test_softening_keeps_the_order_and_survives_zero():
    row = apply_temperature(np.array([1.0, 0.0, 0.0]), 5.0)
    assert row.argmax() == 0
    assert row.sum() == pytest.approx(1)
    assert np.isfinite(row).all()


def test_calibration_is_kept_in_the_run(tmp_path):
    run = Run(tmp_path)
    assert Calibration.read(run) == Calibration()
    rows = np.random.default_rng(0).dirichlet([1, 1], (30, 4))
    fitted = fit_calibration(
        rows.mean(1).argmax(1), rows, [str(n) for n in range(len(rows))]
    )
    fitted.write(run)
    assert Calibration.read(run) == fitted
    assert fitted.num_videos == 30
    assert fitted.temperature < fitted.window_temperature


def test_without_validation_nothing_is_changed():
    assert (
        fit_calibration(np.empty(0, int), np.empty((0, 4, 2)), []).temperature
        == 1
    )
