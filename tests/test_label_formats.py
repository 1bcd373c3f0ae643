"""Labels for other programs: what is written is read back."""

import json
import shutil
from xml.etree import ElementTree

import pytest
from support.videos import draw_video

from har_keras.errors import DataError, UsageError
from har_keras.label import __main__ as verb
from har_keras.manifest.entries import FoundVideo
from har_keras.manifest.folders import find_videos
from har_keras.manifest.formats.writing import (
    FORMAT_NAMES,
    annotations_of,
    write_annotations,
)

LABELS = (
    FoundVideo("in/<b> & é.mp4", "push ups & <more>", start=0.0, end=1.0),
    FoundVideo("in/<b> & é.mp4", "walk", start=1.0, end=2.5),
    FoundVideo("whole.mp4", "walk"),
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn").resolve()
    (root / "in").mkdir()
    draw_video(root / "in" / "<b> & é.mp4", num_frames=48)
    draw_video(root / "whole.mp4", num_frames=32)
    return root


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_what_is_written_is_read_back(drawn, tmp_path, name):
    root = shutil.copytree(drawn, tmp_path / "videos").resolve()
    for file, text in annotations_of(LABELS, root, name).items():
        (root / file).write_text(text, "utf-8")
    found = find_videos(root)
    if name != "manifest":
        assert "annotations are of" in found.notes[0]
    assert [(x.file, x.class_name) for x in found.videos] == [
        (x.file, x.class_name) for x in LABELS
    ]
    ends = [1.0, 2.5, 2.0]  # in whole frames, at 16/s
    for video, label, end in zip(found.videos, LABELS, ends, strict=True):
        if label.end is None and video.end is None:
            continue  # a label of the whole
        assert video.start == pytest.approx(label.start or 0.0, abs=1 / 32)
        assert video.end == pytest.approx(end, abs=1 / 32)


def test_tasks_name_their_rate_and_their_video(drawn):
    text = annotations_of(LABELS, drawn, "label-studio")["label_studio.json"]
    first, second = json.loads(text)
    assert first["data"]["fps"] == 16
    assert first["data"]["video"].endswith("?d=in/%3Cb%3E%20%26%20%C3%A9.mp4")
    assert "fps" not in second["data"]
    (result,) = second["annotations"][0]["result"]
    assert result["value"] == {"choices": ["walk"]}


def test_a_track_of_cvat_ends_after_its_last_frame(drawn):
    files = annotations_of(LABELS, drawn, "cvat")
    root = ElementTree.fromstring(files["in__<b> & é.mp4.xml"])
    boxes = root.findall("track/box")
    assert [(x.get("frame"), x.get("outside")) for x in boxes] == [
        ("0", "0"), ("16", "1"), ("16", "0"), ("40", "1"),
    ]  # fmt: skip


def test_nothing_to_write_is_said(drawn):
    with pytest.raises(DataError, match="no label"):
        annotations_of([], drawn, "elan")


def test_a_video_that_can_not_be_read_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"a\.mp4"):
        annotations_of([FoundVideo("a.mp4", "walk")], tmp_path, "elan")


def test_no_file_is_written_over(drawn, tmp_path):
    to = tmp_path / "labels.json"
    write_annotations(LABELS, drawn, to, "fiftyone")
    with pytest.raises(UsageError, match="exists"):
        write_annotations(LABELS, drawn, to, "fiftyone")


def test_the_verb_writes_a_file_for_each_video(drawn, tmp_path, capsys):
    root = shutil.copytree(drawn, tmp_path / "videos")
    (root / "manifest.csv").write_text(
        "file,class,labelled_by,left_out\nwhole.mp4,walk,ann,\n"
        "in/<b> & é.mp4,gym,ann,yes\n"
    )
    flags = ["--to", str(tmp_path / "out"), "--format", "elan"]
    assert verb.main([str(root), *flags]) == 0
    assert [x.name for x in (tmp_path / "out").iterdir()] == ["whole.mp4.eaf"]
    assert "whole.mp4.eaf" in capsys.readouterr().out
