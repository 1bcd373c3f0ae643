"""Labels in time: parts of a video, what lies between, and segments."""

import csv
import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from support.videos import draw_video, moving_square, truncate, write_video

from har_keras import check, prepare
from har_keras import evaluate as evaluate_verb
from har_keras.clips.dataset import ClipDataset
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.evaluate import evaluate
from har_keras.evaluation import measure as measuring
from har_keras.evaluation.segments import (
    VideoSegments,
    average_precision,
    edit_score,
    evaluate_segments,
    f1,
    f1_interval,
    frame_labels,
    matches,
)
from har_keras.features.dataset import FeatureDataset
from har_keras.features.preparation import prepared_features, wanted_features
from har_keras.inference.load import load
from har_keras.inference.timeline import Segment, TimelineConfig
from har_keras.inference.views import view_clips
from har_keras.manifest.entries import FoundVideo
from har_keras.manifest.folds import folds
from har_keras.manifest.manifest import Manifest, Video
from har_keras.manifest.parts import require_parts
from har_keras.model.build import build_model
from har_keras.report.film_strips import read_strip
from har_keras.run import Run
from har_keras.store import decoding, scenes
from har_keras.store.duplicates import find_duplicates
from har_keras.store.parts import with_background
from har_keras.store.preparation import decode_all, decode_usable
from har_keras.train import _summary, recommend_rate
from har_keras.training.fingerprint import RunFingerprint

SMALL = {
    "num_frames": 4, "crop_size": 32, "hidden_dim": 8, "num_layers": 1,
    "num_heads": 2, "mlp_dim": 8, "cache": "raw", "num_clips": 2,
    "num_crops": 1, "batch_size": 4, "wandb": "off",
}  # fmt: skip


def table(root, rows, header="file,class,start,end"):
    """Writes a manifest of some rows, and empty files where there are none."""
    (root / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        file = root / row.split(",")[0]
        if not file.exists():
            file.write_bytes(file.name.encode())
    return root


def listed(root, rows, **options):
    options = {"val_fraction": 0.0, "test_fraction": 0.0} | options
    return Manifest.from_folder(table(root, rows), **options)


def small(root, **options):
    return Config().replace(**SMALL | {"store_dir": root / "store"} | options)


def decoded(root, rows, **options):
    """Returns the store and the manifest of a folder, and its config."""
    background = options.pop("background", "none")
    config = small(root, **options)
    manifest = listed(root, rows, background=background)
    return (*decode_all(manifest, config.clip, config.store), config)


@pytest.fixture
def numbered(numbered_video, tmp_path):
    """A folder with one video whose picture tells the number of its frame."""
    (tmp_path / "a.mp4").write_bytes(numbered_video.read_bytes())
    return tmp_path


def seconds_of(frames):
    """Returns the time that each frame of the numbered video shows."""
    levels = np.asarray(frames, float).mean(axis=(-1, -2, -3))
    return (levels - 20) / 2 / 25


# The table.


def test_each_part_is_a_sample_of_one_group(tmp_path):
    rows = [
        "a.mp4,walk,0,2.5",
        "a.mp4,gym,2.5,7",
        "b.mp4,walk,1,",
        "c.mp4,gym,,",
    ]
    manifest = listed(tmp_path, rows)
    found = [(v.file, v.class_name, v.start, v.end) for v in manifest.videos]
    assert found == [
        ("a.mp4", "walk", 0.0, 2.5),
        ("a.mp4", "gym", 2.5, 7.0),
        ("b.mp4", "walk", 1.0, None),
        ("c.mp4", "gym", None, None),
    ]
    first, second, third, whole = manifest.videos
    assert first.group == second.group != third.group
    assert first.sha256 == second.sha256
    assert [v.name for v in (first, third, whole)] == [
        "a.mp4 (0 to 2.5 s)",
        "b.mp4 (from 1 s)",
        "c.mp4",
    ]
    assert "4 parts of 3 videos in 3 groups" in " ".join(manifest.notes)


def test_a_file_of_many_parts_is_read_once(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "har_keras.manifest.manifest.content_hash",
        lambda path: read.append(path) or "hash",
    )
    listed(tmp_path, [f"a.mp4,{'ab'[i % 2]},{i},{i + 1}" for i in range(9)])
    assert len(read) == 1


def test_parts_of_a_video_are_one_group_whatever_the_column_says(tmp_path):
    rows = ["a.mp4,walk,0,1,x", "a.mp4,gym,1,2,y", "b.mp4,gym,0,1,z"]
    table(tmp_path, rows, "file,class,start,end,group")
    videos = Manifest.from_folder(tmp_path).videos
    assert videos[0].group == videos[1].group != videos[2].group


def test_splits_and_folds_keep_the_parts_of_a_video_together(tmp_path):
    rows = [
        f"{name}.mp4,{kind},{2 * i},{2 * i + 2}"
        for name in "abcdefgh"
        for i, kind in enumerate(("walk", "gym", "walk"))
    ]
    whole = listed(tmp_path, rows, val_fraction=0.2, test_fraction=0.2)
    parts = [whole, *folds(listed(tmp_path, rows), 3, seed=1)]
    for manifest in parts:
        places = {(v.file, v.split) for v in manifest.videos}
        assert len(places) == 8
        assert {v.split for v in manifest.videos} >= {"train", "test"}


def test_the_manifest_of_a_run_is_read_as_it_was_written(tmp_path):
    rows = ["a.mp4,walk,0.1,2.5,x", "a.mp4,gym,2.5,,y", "b.mp4,gym,,,z"]
    table(tmp_path, rows, "file,class,start,end,note")
    manifest = Manifest.from_folder(tmp_path)
    manifest = manifest.with_videos(
        dataclasses.replace(v, kept_frames=7, first_frame=3)
        for v in manifest.videos
    )
    manifest.write(tmp_path / "run.csv")
    assert Manifest.read(tmp_path / "run.csv") == manifest


OLD = (
    "file,class,split,group,sha256,kept_frames,reason,root,start\r\n"
    "a.mp4,walk,train,a.mp4,h,9,,/old,monday\r\n"
)


def test_without_times_the_manifest_of_a_run_is_as_before(tmp_path):
    (tmp_path / "old.csv").write_bytes(OLD.encode())
    manifest = Manifest.read(tmp_path / "old.csv")
    (video,) = manifest.videos
    assert not video.is_part
    assert video.key == "h"
    assert video.others == (("start", "monday"),)
    manifest.write(tmp_path / "new.csv")
    assert (tmp_path / "new.csv").read_bytes() == OLD.encode()
    made = listed(tmp_path, ["a.mp4,walk,,", "b.mp4,gym,,"])
    made.write(tmp_path / "made.csv")
    header = (tmp_path / "made.csv").read_text().splitlines()[0]
    assert header == "file,class,split,group,sha256,kept_frames,reason,root"


@pytest.mark.parametrize("cell", ["soon", "4_5 s", '"4,5"'])
def test_a_time_that_is_no_number_is_refused_with_its_line(tmp_path, cell):
    with pytest.raises(DataError, match=r"line 3: .*seconds"):
        listed(tmp_path, ["b.mp4,gym,,", f"a.mp4,walk,1,{cell}"])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([("walk", -1.0, 4.0)], "start and end are seconds"),
        ([("walk", float("nan"), 4.0)], "has the times nan and 4.0"),
        ([("walk", 4.0, 4.0)], "ends at 4 s and begins at 4 s"),
        ([("walk", 5.0, 4.0)], "ends at 4 s and begins at 5 s"),
        (
            [("walk", 1.0, 4.0), ("gym", 3.0, 9.0)],
            "'walk', 1 to 4 s, and 'gym', 3 to 9 s.",
        ),
        ([("walk", 1.0, 4.0), ("walk", 3.0, 9.0)], "Labels of 'a.mp4' overlap"),
        (
            [("walk", 1.0, 9.0), ("gym", 2.0, 3.0), ("gym", 5.0, 6.0)],
            "(the first of 2 such pairs)",
        ),
        ([("walk", None, None), ("gym", 2.0, 3.0)], "'walk', the whole video"),
        ([("walk", 2.0, None), ("gym", 5.0, 6.0)], "'walk', from 2 s"),
    ],
)
def test_times_that_contradict_are_refused(labels, words):
    videos = [
        FoundVideo("a.mp4", name, start=start, end=end)
        for name, start, end in labels
    ]
    with pytest.raises(DataError, match=re.escape(words)):
        require_parts(videos)


def test_a_part_is_listed_once(tmp_path):
    with pytest.raises(DataError, match=r"line 3: .*listed a second time"):
        listed(tmp_path, ["a.mp4,walk,1,4", "a.mp4,gym,1,4"])


def test_many_parts_are_not_compared_each_with_each(tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr(
        "har_keras.manifest.collecting.require_other_part",
        lambda *pair: compared.append(pair),
    )
    rows = [f"a.mp4,{'walk' if n % 2 else 'gym'},{n},{n + 1}" for n in range(9)]
    assert len(listed(tmp_path, rows).videos) == 9
    assert not compared


def test_a_whole_video_beside_parts_is_refused(tmp_path):
    for rows in (
        ["a.mp4,walk,,", "a.mp4,gym,1,4"],
        ["a.mp4,walk,1,4", "a.mp4,gym,,"],
    ):
        with pytest.raises(DataError, match="as a whole and in parts"):
            listed(tmp_path, rows)


def test_labels_that_touch_do_not_overlap(tmp_path):
    rows = ["a.mp4,walk,0,5.05", "a.mp4,gym,5,7", "a.mp4,walk,7.1,9"]
    assert len(listed(tmp_path, rows).videos) == 3


def test_parts_of_a_video_in_two_splits_are_refused(tmp_path):
    rows = ["a.mp4,walk,0,2,train", "a.mp4,gym,2,4,test", "b.mp4,gym,,,train"]
    table(tmp_path, rows, "file,class,start,end,split")
    with pytest.raises(DataError, match=r"'a\.mp4' are in test and train"):
        Manifest.from_folder(tmp_path)


# The store.


def test_a_video_is_decoded_once_and_a_part_has_its_own_frames(numbered):
    rows = ["a.mp4,walk,0.5,1.5", "a.mp4,gym,1.5,3"]
    store, manifest, _ = decoded(numbered, rows)
    first, second = manifest.videos
    assert len(store) == 1
    assert (first.first_frame, first.kept_frames) == (8, 16)
    assert (second.first_frame, second.kept_frames) == (24, 24)
    shown = seconds_of(store.frames(second.key, np.arange(24)))
    np.testing.assert_allclose(shown, 1.5 + np.arange(24) / 16, atol=0.06)
    whole = store.frames(second.sha256, np.arange(24, 48))
    np.testing.assert_array_equal(
        whole, store.frames(second.key, np.arange(24))
    )
    with pytest.raises(IndexError):
        store.frames(second.key, np.array([24]))


@pytest.mark.parametrize("augment", ["none", "light", "strong"])
def test_clips_never_leave_their_part(numbered, augment):
    rows = ["a.mp4,walk,0.5,1.5", "a.mp4,gym,1.5,3"]
    store, manifest, config = decoded(
        numbered, rows, augment=augment, speed_jitter=0.5, clips_per_video=3
    )
    if augment == "strong":  # changes the pictures; only that it reads
        config = config.replace(**config.flat() | {"augment": "light"})
    clips = ClipDataset(store, manifest, manifest.videos, config, training=True)
    for epoch in range(4):
        for index, slot in enumerate(clips.slots):
            times = seconds_of(clips.read(epoch, index)[0])
            assert times.min() > slot.video.start - 0.06
            assert times.max() < slot.video.end + 0.01
    views = view_clips(store, second := manifest.videos[1], config.clip,
                       config.evaluation)  # fmt: skip
    assert 1.44 < seconds_of(views).min() < seconds_of(views).max() < 3.01
    strip = read_strip(store, second, config.clip)
    assert strip.file == "a.mp4 (1.5 to 3 s)"
    assert 1.44 < seconds_of(strip.frames).min()


def test_parts_that_do_not_fit_are_named(numbered, caplog):
    caplog.set_level("INFO", "har_keras")
    rows = [
        "a.mp4,walk,0,1", "a.mp4,gym,1,1.2", "a.mp4,walk,2.01,2.03",
        "a.mp4,gym,3,9", "a.mp4,walk,12,14",
    ]  # fmt: skip
    _, manifest, _ = decoded(numbered, rows)
    _, short, instant, cut, beyond = manifest.videos
    assert short.kept_frames == 4
    assert short.reason.startswith("0.2 s long, shorter than a clip")
    assert not instant.kept_frames
    assert "shorter than 0.06 s" in instant.reason
    assert cut.kept_frames == 16
    assert "ends at 9 s, the video at 4.0 s" in cut.reason
    assert not beyond.kept_frames
    assert beyond.reason == "it begins at 12 s, the video ends at 4.0 s"
    text = caplog.text
    assert "'a.mp4 (12 to 14 s)' is not used: it begins at 12 s" in text
    assert "'a.mp4 (3 to 9 s)' is used in part: its label ends" in text
    assert "1 part of 1 video shorter than a clip" in text
    assert "3 of 5 parts of 1 video can be used" in text


def test_times_in_another_unit_are_refused_before_decoding(
    numbered, monkeypatch
):
    monkeypatch.setattr(decoding, "write_shard", lambda *_, **__: 1 / 0)
    rows = ["a.mp4,walk,0,1000", "a.mp4,gym,1000,2500", "a.mp4,walk,2500,4000"]
    with pytest.raises(DataError, match="in seconds, not in milliseconds"):
        decoded(numbered, rows)


def test_damage_counts_for_the_parts_that_it_is_in(tmp_path):
    draw_video(tmp_path / "whole.mp4", num_frames=160)
    truncate(tmp_path / "whole.mp4", tmp_path / "a.mp4", share=0.8)
    rows = ["a.mp4,walk,0,2", "a.mp4,gym,2,9.5", "a.mp4,walk,9.5,10"]
    _, manifest, _ = decoded(tmp_path, rows)
    first, second, third = manifest.videos
    assert first.reason == ""
    assert first.kept_frames == 32
    assert 0 < second.kept_frames < 120
    assert second.reason.startswith("truncated at")
    assert not third.kept_frames
    assert "the video is truncated at" in third.reason


def test_copies_are_one_pair_and_parts_none(numbered):
    (numbered / "b.mp4").write_bytes((numbered / "a.mp4").read_bytes())
    rows = [f"{x}.mp4,{c},{t},{t + 1}" for x in "ab" for t, c in
            ((0, "walk"), (1, "gym"), (2, "walk"))]  # fmt: skip
    store, manifest, _ = decoded(numbered, rows)
    found = find_duplicates(store, manifest)
    assert [(x.first.file, x.second.file) for x in found] == [
        ("a.mp4", "b.mp4")
    ]
    assert len({v.group for v in manifest.videos}) == 1
    alone = manifest.with_videos(v for v in manifest.videos if v.file < "b")
    assert find_duplicates(store, alone) == []


# What no label covers.


def test_what_no_label_covers_is_a_class(numbered, caplog):
    caplog.set_level("INFO", "har_keras")
    rows = ["a.mp4,walk,1,1.5", "a.mp4,walk,1.7,2.5", "b.mp4,walk,0,"]
    (numbered / "b.mp4").write_bytes(b"not a video")
    store, manifest, config = decoded(numbered, rows, background="class")
    found = [v for v in manifest.videos if v.class_name == "background"]
    assert [(v.start, v.end) for v in found] == [(0.0, 1.0), (2.5, 4.0)]
    assert [v.kept_frames for v in found] == [16, 24]
    assert {v.group for v in found} == {manifest.videos[0].group}
    assert manifest.class_names == ("background", "walk")
    assert "2 parts without a label" in caplog.text
    assert "1 shorter than a clip left out" in caplog.text
    assert "--balance sampling" in caplog.text
    again = with_background(manifest, store, config.clip)
    assert again.videos == manifest.videos
    manifest.write(numbered / "run.csv")
    assert Manifest.read(numbered / "run.csv").videos == manifest.videos


def test_one_class_and_the_background_are_two(numbered):
    rows = ["a.mp4,walk,1,2.5"]
    with pytest.raises(DataError, match="at least two"):
        listed(numbered, rows)
    config = small(numbered)
    manifest = listed(numbered, rows, background="class")
    _, manifest = decode_usable(manifest, config.clip, config.store)
    assert manifest.class_names == ("background", "walk")
    assert not manifest.background


def test_background_without_times_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no start or end"):
        listed(tmp_path, ["a.mp4,walk,,", "b.mp4,gym,,"], background="class")


def test_no_background_is_refused(numbered):
    config = small(numbered)
    rows = ["a.mp4,walk,0,2", "a.mp4,gym,2,"]
    manifest = listed(numbered, rows, background="class")
    with pytest.raises(DataError, match="--background class found nothing"):
        decode_usable(manifest, config.clip, config.store)


def test_a_class_of_that_name_is_said(numbered):
    rows = ["a.mp4,walk,0,2", "a.mp4,background,2,3"]
    _, manifest, _ = decoded(numbered, rows, background="class")
    found = [v for v in manifest.videos if v.class_name == "background"]
    assert [(v.start, v.end) for v in found] == [(2.0, 3.0), (3.0, 4.0)]
    assert "labels already (1 part of 1 video)" in " ".join(manifest.notes)


def test_pretraining_takes_videos_whole(tmp_path):
    table(tmp_path, ["a.mp4,walk,0,2", "a.mp4,gym,2,3", "b.mp4,gym,1,2"])
    manifest = Manifest.without_labels(tmp_path)
    assert [v.name for v in manifest.videos] == ["a.mp4", "b.mp4"]
    assert "Labels in time are not used" in " ".join(manifest.notes)


# Features, resuming, checking.


def test_features_are_those_of_the_part(numbered):
    rows = ["a.mp4,walk,0,2", "a.mp4,gym,2,4"]
    store, manifest, config = decoded(
        numbered, rows, recipe="transfer", crop_size=64, cache="jpeg",
        num_crops=1, num_clips=2,
    )  # fmt: skip
    found = prepared_features(store, manifest, config)
    data = FeatureDataset(
        found, manifest, manifest.videos, config, training=False
    )
    rows = data.all_features()
    assert len(rows) >= 2
    for video in manifest.videos:
        key = video.key
        assert "@" in key
        stored = found.all_features(key, data._views[0])
        assert len(stored) == len(found.rows(video.kept_frames))
    first, second = (
        found.all_features(v.key, data._views[0]) for v in manifest.videos
    )
    assert np.abs(first.astype(float) - second.astype(float)).max() > 0.01
    assert len(found) == 1  # one video, decoded once


def test_shards_divide_videos_and_keep_their_parts(tmp_path):
    rows = [f"{x}.mp4,{c},{t},{t + 1}" for x in "abcde" for t, c in
            ((0, "walk"), (1, "gym"))]  # fmt: skip
    manifest = listed(tmp_path, rows)
    manifest = manifest.with_videos(
        dataclasses.replace(v, kept_frames=16, first_frame=int(16 * v.start))
        for v in manifest.videos
    )
    config = small(tmp_path, recipe="transfer")
    shares = [
        [w.sha256 for w in wanted_features(manifest, config, (i, 2))]
        for i in (1, 2)
    ]
    assert sorted([*shares[0], *shares[1]]) == sorted(
        v.key for v in manifest.videos
    )
    files = [{key.partition("@")[0] for key in share} for share in shares]
    assert not files[0] & files[1]


def test_a_run_is_not_resumed_with_other_times(numbered):
    rows = ["a.mp4,walk,0,2", "a.mp4,gym,2,4"]
    _, manifest, config = decoded(numbered, rows)
    before = RunFingerprint.of(config, manifest)
    before.refuse_changes(RunFingerprint.of(config, manifest), numbered)
    before.refuse_touched(manifest)
    _, other, _ = decoded(numbered, ["a.mp4,walk,0,2", "a.mp4,gym,2,3"])
    with pytest.raises(DataError, match=r"'a\.mp4 \(2 to 4 s\)' is gone"):
        before.refuse_changes(RunFingerprint.of(config, other), numbered)


def test_check_and_prepare_know_parts(numbered, capsys):
    rows = ["a.mp4,walk,0,1.5", "a.mp4,gym,1.5,2.5", "b.mp4,gym,0,30"]
    write_video(numbered / "b.mp4", moving_square(32))
    table(numbered, rows)
    flags = ["--store-dir", str(numbered / "store"), "--background", "class",
             "--num-frames", "4", "--crop-size", "32"]  # fmt: skip
    out = numbered / "out"
    assert check.main([str(numbered), "--output", str(out), *flags]) == 0
    said = capsys.readouterr()
    assert "4 of 4 parts of 2 videos can be used" in said.out
    assert "its label ends at 30 s, the video at 2.0 s" in said.err
    with (out / "videos.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["file"], row["start"], row["end"]) for row in found] == [
        ("a.mp4", "0.0", "1.5"), ("a.mp4", "1.5", "2.5"),
        ("a.mp4", "2.5", "4.0"), ("b.mp4", "0.0", "30.0"),
    ]  # fmt: skip
    page = (out / "report.html").read_text()
    assert "b.mp4 (0 to 30 s)" in page
    prepare.main([str(numbered), *flags, "--manifest", str(out / "m.csv")])
    kept = Manifest.read(out / "m.csv")
    assert [v.kept_frames for v in kept.videos] == [24, 16, 24, 32]


# Segments, against the definitions that the literature publishes as code.


def segments(*items):
    return tuple(Segment(*item) for item in items)


def runs(labels):
    """Returns the segments of labels of frames: label, start, end."""
    ends = [i for i in range(1, len(labels) + 1)
            if i == len(labels) or labels[i] != labels[i - 1]]  # fmt: skip
    return [
        (labels[b - 1], a, b)
        for a, b in zip([0, *ends[:-1]], ends, strict=True)
    ]


def published_f1(predicted, truth, overlap):
    """As `f_score` of MS-TCN (Farha and Gall, 2019), for labels of frames."""
    p = [x for x in runs(predicted) if x[0] != "none"]
    y = [x for x in runs(truth) if x[0] != "none"]
    hits = np.zeros(len(y))
    tp = fp = 0
    for label, start, end in p:
        if not y:
            fp += 1
            continue
        inter = np.minimum(end, [x[2] for x in y]) - np.maximum(
            start, [x[1] for x in y]
        )
        union = np.maximum(end, [x[2] for x in y]) - np.minimum(
            start, [x[1] for x in y]
        )
        iou = inter / union * [label == x[0] for x in y]
        best = iou.argmax()
        if iou[best] >= overlap and not hits[best]:
            tp, hits[best] = tp + 1, 1
        else:
            fp += 1
    return tp, fp, len(y) - int(hits.sum())


def published_edit(predicted, truth):
    """As `levenstein` of MS-TCN, normalized."""
    p = [x[0] for x in runs(predicted) if x[0] != "none"]
    y = [x[0] for x in runs(truth) if x[0] != "none"]
    d = np.zeros((len(p) + 1, len(y) + 1))
    d[:, 0], d[0, :] = np.arange(len(p) + 1), np.arange(len(y) + 1)
    for j in range(1, len(y) + 1):
        for i in range(1, len(p) + 1):
            d[i, j] = (
                d[i - 1, j - 1]
                if y[j - 1] == p[i - 1]
                else 1 + min(d[i - 1, j], d[i, j - 1], d[i - 1, j - 1])
            )
    return 1 - d[-1, -1] / max(len(p), len(y))


def published_ap(videos, name, overlap):
    """As ActivityNet's evaluation: interpolated average precision."""
    y = [(i, s) for i, v in enumerate(videos) for s in v.truth
         if s.label == name]  # fmt: skip
    p = sorted(((i, s) for i, v in enumerate(videos) for s in v.predicted
                if s.label == name), key=lambda x: -x[1].score)  # fmt: skip
    locked, tp = set(), np.zeros(len(p))
    for rank, (i, s) in enumerate(p):
        mine = [(k, t) for k, (j, t) in enumerate(y) if i == j]
        inter = [
            max(0, min(s.end_seconds, t.end_seconds)
                - max(s.start_seconds, t.start_seconds)) for _, t in mine
        ]  # fmt: skip
        ious = [
            n / (s.end_seconds - s.start_seconds + t.end_seconds
                 - t.start_seconds - n)
            for n, (_, t) in zip(inter, mine, strict=True)
        ]  # fmt: skip
        for place in np.argsort(ious)[::-1]:
            if ious[place] < overlap:
                break
            if mine[place][0] not in locked:
                locked.add(mine[place][0])
                tp[rank] = 1
                break
    recall = tp.cumsum() / len(y)
    precision = tp.cumsum() / np.arange(1, len(p) + 1)
    precision = np.hstack([[0], precision, [0]])
    recall = np.hstack([[0], recall, [1]])
    for i in range(len(precision) - 1)[::-1]:
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.where(recall[1:] != recall[:-1])[0] + 1
    return np.sum((recall[steps] - recall[steps - 1]) * precision[steps])


def random_video(rng, number):
    """Returns labels of 60 frames, and the same as segments at 10 frames/s."""

    def labels():
        names = rng.choice(["gym", "walk", "work", "none"], 8)
        return np.repeat(names, rng.multinomial(52, [1 / 8] * 8) + 1)

    def as_segments(labels):
        return tuple(
            Segment(a / 10, b / 10, name, float(rng.uniform(0.3, 1)))
            for name, a, b in runs(list(labels))
        )

    truth, predicted = labels(), labels()
    # Half of what is predicted is right, or nothing would ever match.
    predicted = np.where(rng.random() < 0.5, truth, predicted)
    predicted[20:30] = truth[20:30]
    video = VideoSegments(
        f"{number}.mp4", f"group {number // 2}", len(truth), 10.0,
        as_segments(truth), as_segments(predicted),
    )  # fmt: skip
    return list(truth), list(predicted), video


@pytest.fixture(scope="module")
def random_videos():
    rng = np.random.default_rng(4)
    return [random_video(rng, number) for number in range(12)]


def test_segments_are_measured_as_published(random_videos):
    videos = [video for *_, video in random_videos]
    found = evaluate_segments(videos, ("gym", "none", "walk", "work"))
    for overlap in (0.1, 0.25, 0.5):
        sums = np.sum(
            [published_f1(p, y, overlap) for y, p, _ in random_videos], 0
        )
        assert found["f1"][str(overlap)] == pytest.approx(f1(*sums))
        assert found["num_matched"][str(overlap)] == sums[0]
        precisions = [
            published_ap(videos, name, overlap)
            for name in ("gym", "walk", "work")
        ]
        assert found["mean_average_precision"][str(overlap)] == pytest.approx(
            np.mean(precisions)
        )
    edits = [published_edit(p, y) for y, p, _ in random_videos]
    assert found["edit_score"] == pytest.approx(np.mean(edits))
    right = np.concatenate([np.array(y) == p for y, p, _ in random_videos])
    truth = np.concatenate([y for y, *_ in random_videos])
    assert found["frame_accuracy"] == pytest.approx(right.mean())
    assert found["labelled_frame_accuracy"] == pytest.approx(
        right[truth != "none"].mean()
    )
    assert 0.2 < found["f1"]["0.5"] < 0.95
    assert found["num_groups"] == 6
    low, high = found["f1_interval"]["0.5"]
    assert low < found["f1"]["0.5"] < high
    assert [row["class"] for row in found["per_class"]] == [
        "gym", "walk", "work",
    ]  # fmt: skip
    json.dumps(found, allow_nan=False)


def test_segments_have_no_interval_where_groups_are_unknown(random_videos):
    videos = [
        dataclasses.replace(video, group=video.file, is_group_known=i < 5)
        for i, (*_, video) in enumerate(random_videos)
    ]
    found = evaluate_segments(videos, ("gym", "none", "walk", "work"))
    assert found["num_unknown_groups"] == 7
    assert set(found["f1_interval"].values()) == {None}


def test_a_label_is_found_once():
    truth = segments((0, 10, "gym", 1.0))
    halves = segments((0, 6, "gym", 0.9), (6.5, 10, "gym", 0.8))
    assert matches(truth, halves, 0.25) == (1, 1, 0)
    assert matches(truth, halves, 0.7) == (0, 2, 1)
    assert matches((), halves, 0.1) == (0, 2, 0)
    assert matches(truth, (), 0.1) == (0, 0, 1)


def test_labels_of_one_class_that_touch_are_one_segment():
    truth = segments((0, 4, "gym", 1.0), (4.05, 8, "gym", 1.0))
    video = VideoSegments(
        "a", "a", 80, 10.0, truth, segments((0, 8, "gym", 0.7))
    )
    found = evaluate_segments([video], ("gym", "walk"))
    assert found["f1"]["0.5"] == 1
    assert found["num_segments"] == 1
    assert found["f1_interval"]["0.5"] is None
    walk = found["per_class"][1]
    assert walk["f1"] is None
    assert walk["average_precision"]["0.5"] is None
    assert found["mean_average_precision"]["0.5:0.95"] == 1


def test_the_background_is_no_segment_and_counts_for_frames():
    truth = segments((2, 6, "gym", 1.0), (6, 8, "background", 1.0))
    predicted = segments(
        (0, 2, "background", 0.7), (2, 6, "gym", 0.8), (6, 10, "none", 0.4)
    )
    video = VideoSegments("a", "a", 100, 10.0, truth, predicted)
    found = evaluate_segments([video], ("background", "gym"))
    assert found["num_predicted"] == found["num_segments"] == 1
    assert found["frame_accuracy"] == found["labelled_frame_accuracy"] == 1
    assert (found["num_frames"], found["num_labelled_frames"]) == (100, 40)
    assert found["edit_score"] == 1


def test_nothing_predicted_and_nothing_labelled():
    assert edit_score([], []) == 1
    assert edit_score(["gym"], []) == 0
    video = VideoSegments("a", "a", 10, 10.0, segments((0, 1, "gym", 1.0)), ())
    assert average_precision([video], "gym", 0.5) == 0
    assert average_precision([video], "walk", 0.5) is None
    assert frame_labels(video.truth, video, ["gym"]).tolist() == [0] * 10
    assert f1_interval(np.zeros((1, 3)), ["a"]) is None


# The evaluation of a run.


@pytest.fixture(scope="module")
def timed_run(make_once):
    """An untrained run on long videos with labels in time."""

    def fill(folder):
        rows = []
        for number, split in enumerate(
            ["train", "train", "val", "test", "test"]
        ):
            pieces = [
                moving_square(48, direction=d, seed=number) for d in (1, -1, 1)
            ]
            file = f"long{number}.mp4"
            write_video(folder / "videos" / file, np.concatenate(pieces))
            rows += [f"{file},down,0,3,{split}", f"{file},up,3,6,{split}"]
        table(folder / "videos", rows, "file,class,start,end,split")
        config = small(folder, background="class")
        run = Run(folder / "run")
        manifest = Manifest.from_folder(folder / "videos", background="class")
        _, manifest = decode_usable(manifest, config.clip, config.store)
        run.create(config)
        manifest.write(run.manifest_file)
        names = manifest.class_names
        model = build_model(
            config.model, config.clip, num_classes=len(names), seed=3
        )
        weights = np.random.default_rng(0)
        model.set_weights(
            [weights.normal(0, 0.4, w.shape) for w in model.get_weights()]
        )
        model.save(run.model_file)

    return Run(make_once("timed", fill) / "run")


@pytest.fixture(scope="module")
def measured(timed_run):
    return evaluate(timed_run)


def test_a_run_is_evaluated_over_whole_videos(timed_run, measured):
    found = measured.segments
    assert measured["unit"] == "parts"
    assert measured.num_videos == 6  # two labels and the background of each
    assert found["num_videos"] == 2
    assert found["num_segments"] == 4
    assert found["num_frames"] == 2 * 9 * 16
    # Too few groups for one: everything is accepted.
    assert found["timeline"]["threshold"] == 0
    assert "parts" in str(measured)
    page = timed_run.report_file.read_text("utf-8")
    assert "Segments in time" in page
    assert "F1@0.25" in page
    assert timed_run.segments_plot_file.stat().st_size > 2000


def test_the_tables_name_the_parts(timed_run, measured):
    assert {(r["file"], r["start"], r["end"]) for r in measured.videos} == {
        (f"long{n}.mp4", a, b)
        for n in (3, 4)
        for a, b in (("0.0", "3.0"), ("3.0", "6.0"), ("6.0", "9.0"))
    }
    with timed_run.segments_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [row for row in rows if row["what"] == "label"]
    assert [row["class"] for row in labels] == ["down", "up", "background"] * 2
    assert all(0 <= float(row["overlap"]) <= 1 for row in rows)


def test_segments_are_those_of_predict(timed_run, measured):
    (path,) = timed_run.path.parent.glob("videos/long3.mp4")
    options = TimelineConfig()
    (found,) = load(timed_run.path).predict_all([path], timeline=options)
    with timed_run.segments_file.open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file)
            if row["what"] == "prediction" and row["file"] == "long3.mp4"
        ]  # fmt: skip
    expected = [
        (x.label, f"{x.start_seconds:.3f}", f"{x.end_seconds:.3f}")
        for x in found.segments
    ]
    shown = [(r["class"], r["start_seconds"], r["end_seconds"]) for r in rows]
    assert shown == expected


def test_the_next_step_after_parts_is_a_timeline(timed_run, measured):
    last = _summary(timed_run)
    assert f"har-keras predict {timed_run.path} VIDEO.mp4 --timeline" in last


def test_options_of_the_timeline_are_obeyed(timed_run, tmp_path, capsys):
    flags = ["--threshold", "1.0", "--output", str(tmp_path / "out")]
    assert evaluate_verb.main([str(timed_run.path), *flags]) == 0
    assert "Segments, 4 labelled and 0 predicted" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert figures["segments"]["timeline"]["threshold"] == 1.0
    assert figures["segments"]["f1"]["0.1"] == 0


def test_options_of_a_timeline_need_labels_in_time(
    tiny_run, capsys, tmp_path, monkeypatch
):
    # Said before a video is decoded, or a model is asked.
    monkeypatch.setattr(measuring, "decode_usable", None)
    flags = ["--threshold", "0.9", "--output", str(tmp_path / "out")]
    assert evaluate_verb.main([str(tiny_run.path), *flags]) == 2
    assert "labels in time, and there are none" in capsys.readouterr().err
    folder = Manifest.read(tiny_run.manifest_file).root
    flags += ["--videos", str(folder)]
    assert evaluate_verb.main([str(tiny_run.path), *flags]) == 2
    assert "labels in time, and there are none" in capsys.readouterr().err
    with pytest.raises(UsageError, match="--threshold must be above 0"):
        evaluate_verb.evaluate(tiny_run, timeline=TimelineConfig(threshold=2.0))


def test_other_videos_are_not_searched_for_copies(
    timed_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(scenes, "find_duplicates", None)
    folder = Manifest.read(timed_run.manifest_file).root
    evaluate_verb.evaluate(timed_run, folder, output=tmp_path / "out")


def test_another_folder_has_its_background_too(timed_run, measured, tmp_path):
    found = evaluate(
        timed_run, timed_run.path.parent / "videos", output=tmp_path / "out"
    )
    assert found.num_videos == 15
    assert found.segments["num_videos"] == 5


def test_without_times_there_are_no_segments(tiny_run):
    figures = json.loads(tiny_run.evaluation_file.read_text())
    assert "segments" not in figures
    assert "unit" not in figures
    assert not tiny_run.segments_file.exists()


@pytest.mark.parametrize(
    ("fps", "recommended"), [(8.0, None), (1.0, "--fps 8 finds segments")]
)
def test_a_rate_is_recommended_where_clips_are_longer_than_labels(
    fps, recommended, caplog
):
    times = [(0.0, 2.0), (2.0, 4.0), (4.0, 9.0)]
    videos = [
        Video("a.mp4", "walk", "train", "", "a", 16, start=start, end=end)
        for start, end in times
    ]
    manifest = SimpleNamespace(usable=lambda split: videos)
    with caplog.at_level("INFO", "har_keras"):
        recommend_rate(Config().replace(num_frames=16, fps=fps), manifest)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert (recommended or "") in said
    assert bool(said) == bool(recommended)
