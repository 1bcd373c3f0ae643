"""Annotations of other programs and data sets, as their makers describe them.

Each test writes a file by the description of the format, beside drawn videos,
and compares the videos and parts that are read.
"""

import csv
import json
import os

import pytest
from support.videos import draw_video, ffmpeg

from har_keras.check import check, main, write_listing
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.manifest.folders import find_videos
from har_keras.manifest.formats.catalog import FORMATS
from har_keras.manifest.manifest import Manifest


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A video of 3 s at 20 frames/s."""
    path = tmp_path_factory.mktemp("drawn") / "video.mp4"
    return draw_video(path, num_frames=60, fps=20)


@pytest.fixture
def folder(tmp_path, drawn):
    """Makes a folder of videos, with texts beside them."""

    def make(videos, **texts):
        root = tmp_path / "data"
        for name in videos:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(drawn, root / name)
        for name, content in texts.items():
            write(root, name.replace("__", "/"), content)
        return root

    return make


def write(root, name, content):
    stem, _, ending = name.rpartition("_")
    path = root / f"{stem}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, "utf-8")


def rows(root):
    return [
        (v.file, v.class_name, v.split, v.start, v.end)
        for v in find_videos(root).videos
    ]


def whole(*videos):
    return [(*video, None, None) for video in videos]


def notes(root):
    return " ".join(find_videos(root).notes)


# --- Data sets ----------------------------------------------------------------


def test_ucf101_as_it_is_unpacked(folder):
    names = ["ApplyEyeMakeup", "YoYo"]
    root = folder(
        [
            f"UCF-101/{name}/v_{name}_g0{g}_c01.avi"
            for name in names
            for g in (1, 2)
        ],
        ucfTrainTestlist__classInd_txt="1 ApplyEyeMakeup\r\n2 YoYo\r\n",
        ucfTrainTestlist__trainlist01_txt="".join(
            f"{name}/v_{name}_g02_c01.avi {i}\r\n"
            for i, name in enumerate(names, 1)
        ),
        ucfTrainTestlist__testlist01_txt="".join(
            f"{name}/v_{name}_g01_c01.avi\r\n" for name in names
        ),
        ucfTrainTestlist__trainlist02_txt="YoYo/v_YoYo_g01_c01.avi 2\n",
        ucfTrainTestlist__testlist02_txt="YoYo/v_YoYo_g02_c01.avi\n",
    )
    assert rows(root) == whole(
        *(
            (f"UCF-101/{n}/v_{n}_g0{g}_c01.avi", n, s)
            for n in names
            for g, s in ((1, "test"), (2, "train"))
        )
    )
    assert "trainlist01.txt is the first of 2 lists" in notes(root)
    (root / "ucfTrainTestlist/testlist01.txt").unlink()
    with pytest.raises(DataError, match="of two divisions into splits"):
        rows(root)


def test_hmdb51_with_its_split_files(folder):
    root = folder(
        ["hmdb51_org/wave/a_#1.avi", "hmdb51_org/wave/b.avi",
         "hmdb51_org/walk/c.avi", "hmdb51_org/walk/d.avi"],
        testTrainMulti_7030_splits__wave_test_split1_txt=(
            "a_#1.avi 1 \nb.avi 2 \n"
        ),
        testTrainMulti_7030_splits__walk_test_split1_txt="c.avi 1 \nd.avi 0 \n",
        testTrainMulti_7030_splits__walk_test_split2_txt="c.avi 2 \nd.avi 1 \n",
    )  # fmt: skip
    assert rows(root) == whole(
        ("hmdb51_org/walk/c.avi", "walk", "train"),
        ("hmdb51_org/wave/a_#1.avi", "wave", "train"),
        ("hmdb51_org/wave/b.avi", "wave", "test"),
    )
    assert "Division 1 of 2 is read" in notes(root)
    assert "1 video marked 0" in notes(root)
    write(root, "testTrainMulti_7030_splits/wave_test_split1_txt",
          "a_#1.avi 1\nb.avi x\n")  # fmt: skip
    with pytest.raises(DataError, match=r"line 2: expected .* 1 \(train\)"):
        rows(root)


KINETICS = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics_csv(folder):
    root = folder(
        ["train/playing chess/aaaaaaaaaaa_000010_000020.mp4",
         "train/aaaaaaaaaaa_000020_000030.mp4", "val/-_bbbbbbbbb.mp4"],
        train_csv=f"{KINETICS}playing chess,aaaaaaaaaaa,10,20,train\n"
        "yoga,aaaaaaaaaaa,20,30,train\nyoga,gone1234567,0,10,train\n",
        validate_csv=f"{KINETICS}yoga,-_bbbbbbbbb,1,2,validate\n",
        test_csv="youtube_id,time_start,time_end,split\n"
        "ccccccccccc,0,10,test\n",
    )  # fmt: skip
    assert rows(root) == [
        ("train/aaaaaaaaaaa_000020_000030.mp4", "yoga", "train", None, None),
        ("train/playing chess/aaaaaaaaaaa_000010_000020.mp4", "playing chess",
         "train", None, None),
        ("val/-_bbbbbbbbb.mp4", "yoga", "val", 1.0, 2.0),
    ]  # fmt: skip
    groups = {v.group for v in find_videos(root).videos}
    assert groups == {"aaaaaaaaaaa", "-_bbbbbbbbb"}
    assert "1 of 4 labelled videos" in notes(root)
    assert "such as 'gone1234567_000000_000010'" in notes(root)
    assert "1 video without a label" in notes(root)


def test_kinetics_clips_under_the_name_of_the_video(folder):
    """A file of 3 s can't be the video of which 10 to 13 s are the label."""
    root = folder(
        ["aaaaaaaaaaa.mp4"], k400_csv=f"{KINETICS}yoga,aaaaaaaaaaa,10,13,train"
    )
    assert rows(root) == whole(("aaaaaaaaaaa.mp4", "yoga", "train"))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("yoga,aaaaaaaaaaa,20,10,train", "before its end"),
        ("yoga,aaaaaaaaaaa,x,10,train", "a time must be in seconds"),
        ("yoga,aaaaaaaaaaa,0,10,both", "must be train, val or test"),
        ("yoga,,0,10,train", "the id, the start or the end is empty"),
        ("yoga,zzzzzzzzzzz,0,10,train", "None of the videos .* \\(1\\)"),
    ],
)
def test_a_wrong_row_of_kinetics(folder, row, words):
    root = folder(["aaaaaaaaaaa.mp4"], train_csv=KINETICS + row)
    with pytest.raises(DataError, match=words):
        rows(root)


def test_kinetics_and_activitynet_json(folder):
    root = folder(
        ["aaaaaaaaaaa.mp4", "bbbbbbbbbbb_000000_000010.mp4"],
        k_json={
            "aaaaaaaaaaa": {
                "annotations": {"label": "yoga", "segment": [0.5, 2.5]},
                "duration": 2.0, "subset": "train", "url": "https://x",
            },
            "bbbbbbbbbbb": {
                "annotations": {"label": "chess", "segment": [0.0, 10.0]},
                "duration": 10.0, "subset": "validation", "url": "https://y",
            },
        },
    )  # fmt: skip
    assert rows(root) == [
        ("aaaaaaaaaaa.mp4", "yoga", "train", 0.5, 2.5),
        ("bbbbbbbbbbb_000000_000010.mp4", "chess", "val", None, None),
    ]


def test_activitynet(folder):
    root = folder(
        ["v_one.mp4", "two.mp4"],
        activity_net_v1_3_json={
            "version": "VERSION 1.3",
            "taxonomy": [],
            "database": {
                "one": {"subset": "training", "duration": 3.0, "annotations": [
                    {"segment": [0.25, 1.0], "label": "Surfing"},
                    {"segment": [1.5, 2.0], "label": "Rowing"},
                ]},
                "two": {"subset": "testing", "annotations": []},
            },
        },
    )  # fmt: skip
    assert rows(root) == [
        ("v_one.mp4", "Surfing", "train", 0.25, 1.0),
        ("v_one.mp4", "Rowing", "train", 1.5, 2.0),
    ]


def test_something_something(folder):
    root = folder(
        ["20bn-something-something-v2/1.webm",
         "20bn-something-something-v2/2.webm",
         "20bn-something-something-v2/3.webm"],
        something_v2_train_json=[
            {"id": "1", "label": "holding a pen", "placeholders": ["a pen"],
             "template": "Holding [something]"},
            {"id": "3", "label": "closing a box", "placeholders": ["a box"],
             "template": "Closing [something]"},
        ],
        something_v2_validation_json=[
            {"id": "2", "label": "holding it", "placeholders": ["it"],
             "template": "Holding [something]"},
        ],
        something_v2_test_json=[{"id": "9"}],
        something_v2_labels_json={"Holding something": "0"},
    )  # fmt: skip
    top = "20bn-something-something-v2"
    assert rows(root) == whole(
        (f"{top}/1.webm", "Holding something", "train"),
        (f"{top}/2.webm", "Holding something", "val"),
        (f"{top}/3.webm", "Closing something", "train"),
    )
    assert "1 video without a label" in notes(root)


def test_jester_with_semicolons(folder):
    root = folder(
        ["v/1.webm", "v/2.webm"],
        jester_v1_train_csv="1;Swiping Left\n",
        jester_v1_validation_csv="2;No gesture\n",
    )
    assert rows(root) == whole(
        ("v/1.webm", "Swiping Left", "train"),
        ("v/2.webm", "No gesture", "val"),
    )


# --- Tables -------------------------------------------------------------------


def test_hugging_face_in_folders_of_splits(folder):
    root = folder(
        ["train/1.mp4", "train/2.mp4", "test/1.mp4"],
        train__metadata_csv="file_name,label,caption\n1.mp4,a,x\n2.mp4,b,y\n",
        test__metadata_jsonl='{"file_name": "1.mp4", "label": "a"}\n',
    )
    assert rows(root) == whole(
        ("test/1.mp4", "a", "test"),
        ("train/1.mp4", "a", "train"),
        ("train/2.mp4", "b", "train"),
    )
    assert "kept and not used: caption" in notes(root)
    assert find_videos(root).videos[1].others == (("caption", "x"),)


def test_hugging_face_at_the_top(folder):
    root = folder(
        ["train/1.mp4", "test/2.mp4"],
        metadata_csv="file_name,label\ntrain/1.mp4,a\ntest/2.mp4,b\n",
    )
    assert rows(root) == whole(
        ("test/2.mp4", "b", "test"), ("train/1.mp4", "a", "train")
    )
    assert "Splits are the folders" in notes(root)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("annotations_csv", "video,label,start,end\na.mp4,jab,0,1.5\n"
         "a.mp4,cross,1.5,3\nb.mp4,jab,,\n"),
        ("annotations_json", [
            {"video": "a.mp4", "label": "jab", "start": 0, "end": 1.5},
            {"video": "a.mp4", "label": "cross", "start": 1.5, "end": 3},
            {"video": "b.mp4", "label": "jab"},
        ]),
        ("annotations_csv", "video;label;start;end\na.mp4;jab;0;1,5\n"
         "a.mp4;cross;00:00:01,5;3\nb.mp4;jab;;\n"),
    ],
)  # fmt: skip
def test_apple_create_ml(folder, name, content):
    root = folder(["a.mp4", "b.mp4"], **{name: content})
    assert rows(root) == [
        ("a.mp4", "jab", "", 0.0, 1.5),
        ("a.mp4", "cross", "", 1.5, 3.0),
        ("b.mp4", "jab", "", None, None),
    ]


@pytest.mark.parametrize(
    ("rows_of", "words"),
    [
        ("a.mp4,x,1,1\n", "before its end"),
        ("a.mp4,x,-1,1\n", "not negative"),
        ("a.mp4,x,2,1\n", "before its end"),
        ("a.mp4,x,nan,1\n", "a time must be in seconds"),
        ("a.mp4,x,0,1\na.mp4,x,,\n", "as a whole and in parts"),
        ("a.mp4,x,0,1\na.mp4,y,0,1\n", "a second time, as 'y' after 'x'"),
    ],
)
def test_a_wrong_part_is_named(folder, rows_of, words):
    root = folder(["a.mp4"], manifest_csv=f"file,class,start,end\n{rows_of}")
    with pytest.raises(DataError, match=f"line .*{words}"):
        rows(root)


def test_a_part_may_begin_or_end_with_the_video(folder):
    root = folder(
        ["a.mp4"], manifest_csv="file,class,start,end\na.mp4,x,,1\na.mp4,y,1,\n"
    )
    assert rows(root) == [
        ("a.mp4", "x", "", None, 1.0),
        ("a.mp4", "y", "", 1.0, None),
    ]


@pytest.mark.parametrize(
    "columns",
    ["start_time,end_time", "time_start,time_end", "start_frame,end_frame",
     "Begin,Stop", "start_ms,end_ms"],
)  # fmt: skip
def test_times_under_other_names_are_refused(folder, columns):
    """They may be those of a longer video, from which this one was cut."""
    root = folder(
        ["a.mp4"], manifest_csv=f"file,class,{columns}\na.mp4,x,1,2\n"
    )
    with pytest.raises(
        DataError, match="give them in seconds as start and end"
    ):
        rows(root)


def test_where_a_clip_was_cut_is_kept(folder):
    root = folder(
        ["a.mp4"], manifest_csv="file,class,start_s,length_s\na.mp4,x,1,2\n"
    )
    assert rows(root) == whole(("a.mp4", "x", ""))
    assert "kept and not used: start_s, length_s" in notes(root)


def test_a_column_of_people_is_named(folder):
    root = folder(
        ["a.mp4", "b.mp4"],
        manifest_csv="file,class,subject\na.mp4,x,1\nb.mp4,y,2\n",
    )
    assert "rename the column 'subject' to group" in notes(root)


def test_mmaction2_lists_under_their_own_names(folder):
    root = folder(
        ["videos/x/1.avi", "videos/y/2.avi", "videos/x/3.avi"],
        ucf101_train_split_1_videos_txt="x/1.avi 0\ny/2.avi 1\n",
        ucf101_val_split_1_videos_txt="x/3.avi 0\n",
        ucf101_train_split_1_rawframes_txt="x/1 120 0\ny/2 120 1\n",
        label_map_txt="jump\nrun\n",
    )
    assert rows(root) == whole(
        ("videos/x/1.avi", "jump", "train"),
        ("videos/x/3.avi", "jump", "val"),
        ("videos/y/2.avi", "run", "train"),
    )


# --- Programs for labelling ---------------------------------------------------


def task(number, name, *results, **annotation):
    return {
        "id": number,
        "data": {"video": f"/data/upload/1/0a1b2c3d-{name}"},
        "annotations": [{"result": [*results], **annotation}],
        "predictions": [],
    }


def choice(*names):
    return {"type": "choices", "from_name": "c", "to_name": "video",
            "value": {"choices": [*names]}}  # fmt: skip


def timeline(name, first, last):
    return {
        "type": "timelinelabels", "from_name": "l", "to_name": "video",
        "value": {"ranges": [{"start": first, "end": last}],
                  "timelinelabels": [name]},
    }  # fmt: skip


def test_label_studio(folder):
    sound = {"type": "labels", "original_length": 3.0,
             "value": {"start": 0.5, "end": 1.5, "labels": ["walk"],
                       "channel": 0}}  # fmt: skip
    other = task(3, "c.mp4", timeline("gym", 1, 20))
    other["data"]["fps"] = 20
    root = folder(
        ["a.mp4", "b.mp4", "c.mp4", "0a1b2c3d-d.mp4"],
        project_1_at_2024_json=[
            task(1, "a.mp4", choice("gym")),
            task(2, "b.mp4", timeline("walk", 1, 24), timeline("gym", 25, 48)),
            other,
            task(4, "d.mp4", sound),
            task(5, "e.mp4", choice("gym")),
            task(6, "a.mp4", choice("walk"), was_cancelled=True),
        ],
    )
    assert rows(root) == [
        ("0a1b2c3d-d.mp4", "walk", "", 0.5, 1.5),
        ("a.mp4", "gym", "", None, None),
        ("b.mp4", "walk", "", 0.0, 1.0),
        ("b.mp4", "gym", "", 1.0, 2.0),
        ("c.mp4", "gym", "", 0.0, 1.0),
    ]
    said = notes(root)
    assert "24/s is taken" in said
    assert "1 task without a label" in said
    assert "1 of 5 labelled videos are not in the folder" in said


def test_label_studio_json_min(folder):
    root = folder(
        ["a.mp4", "b.mp4"],
        export_json=[
            {"video": "/data/local-files/?d=set/a.mp4", "id": 1,
             "choice": "gym", "annotator": 1, "annotation_id": 1,
             "lead_time": 2.5},
            {"video": "s3://bucket/b.mp4", "id": 2, "annotation_id": 2,
             "label": [{"ranges": [{"start": 1, "end": 12}],
                        "timelinelabels": ["walk"]}]},
        ],
    )  # fmt: skip
    assert rows(root) == [
        ("a.mp4", "gym", "", None, None),
        ("b.mp4", "walk", "", 0.0, 0.5),
    ]


def test_label_studio_csv(folder):
    ranges = [{"ranges": [{"start": 1, "end": 12}],
               "timelinelabels": ["walk"]}]  # fmt: skip
    cell = json.dumps(ranges).replace('"', '""')
    root = folder(
        ["a.mp4", "b.mp4"],
        project_csv="annotation_id,annotator,choice,id,lead_time,label,video\n"
        "1,1,gym,1,2.5,,/data/upload/1/0a1b2c3d-a.mp4\n"
        f'2,1,,2,3.5,"{cell}",/data/upload/1/0a1b2c3d-b.mp4\n',
    )
    assert rows(root) == [
        ("a.mp4", "gym", "", None, None),
        ("b.mp4", "walk", "", 0.0, 0.5),
    ]


def test_a_task_of_label_studio_without_a_list(folder):
    broken = {"id": 1, "data": {"video": "a.mp4"}, "annotations": 1}
    root = folder(["a.mp4"], x_json=[broken])
    with pytest.raises(DataError, match="task 1: expected a list of objects"):
        rows(root)


def test_label_studio_with_two_people(folder):
    both = task(1, "a.mp4", choice("gym"))
    both["annotations"] += [{"result": [choice("walk")]}]
    root = folder(["a.mp4"], x_json=[both])
    with pytest.raises(DataError, match="task 1: its 2 annotations differ"):
        rows(root)
    both["annotations"][1]["ground_truth"] = True
    write(root, "x_json", [both])
    assert rows(root) == whole(("a.mp4", "walk", ""))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (choice("gym", "walk"), "has one class"),
        ({"type": "videorectangle", "value": {}}, "'videorectangle' is not"),
        ({"type": "choices"}, "expected an object named 'value'"),
        (timeline("gym", None, 3), "a range has a start and an end"),
    ],
)
def test_what_is_not_understood_of_label_studio(folder, result, words):
    root = folder(["a.mp4"], x_json=[task(1, "a.mp4", result)])
    with pytest.raises(DataError, match=words):
        rows(root)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task><id>7</id><name>first</name><size>60</size>
      <mode>interpolation</mode><start_frame>0</start_frame>
      <stop_frame>59</stop_frame><frame_filter></frame_filter>
      <subset>Train</subset><source>a.mp4</source></task>
    <dumped>2024-01-01 00:00:00</dumped>
  </meta>
  {content}
</annotations>
"""


def box(frame, outside=0):
    return (
        f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" '
        'xtl="1" ytl="1" xbr="9" ybr="9" z_order="0"></box>'
    )


def test_cvat_for_video(folder):
    tracks = (
        f'<track id="0" label="walk" source="manual">{box(0)}{box(10)}'
        f"{box(20, outside=1)}</track>"
        f'<track id="1" label="walk" source="manual">{box(15)}'
        f"{box(30, outside=1)}</track>"
        f'<track id="2" label="gym" source="manual">{box(40)}{box(59)}</track>'
    )
    root = folder(["a.mp4"], annotations_xml=CVAT.format(content=tracks))
    assert rows(root) == [  # at 20 frames/s
        ("a.mp4", "walk", "train", 0.0, 1.5),
        ("a.mp4", "gym", "train", 2.0, 3.0),
    ]
    assert "whatever its place" in notes(root)


def test_cvat_for_images_has_tags_of_frames(folder):
    images = "".join(
        f'<image id="{i}" name="frame_{i:06d}" width="64" height="48">'
        + (f'<tag label="{label}" source="manual"></tag>' if label else "")
        + "</image>"
        for i, label in enumerate(["a"] * 20 + [""] * 10 + ["b"] * 30)
    )
    root = folder(["a.mp4"], annotations_xml=CVAT.format(content=images))
    assert rows(root) == [
        ("a.mp4", "a", "train", 0.0, 1.0),
        ("a.mp4", "b", "train", 1.5, 3.0),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('<track id="0" task_id="9" label="x"></track>', "of task '9'"),
        (f'<track id="0">{box(1)}</track>', "<track> without a label"),
        (f'<track id="0" label="x">{box("x")}</track>', "no number of a frame"),
    ],
)
def test_what_is_not_understood_of_cvat(folder, content, words):
    root = folder(["a.mp4"], annotations_xml=CVAT.format(content=content))
    with pytest.raises(DataError, match=words):
        rows(root)


def test_xml_with_entities_is_not_opened(folder):
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]><annotations><meta/></annotations>'
    root = folder(["a/1.mp4", "b/2.mp4"], annotations_xml=bomb)
    assert len(rows(root)) == 2
    assert "'annotations.xml' is not read" in notes(root)


def via(metadata, **attribute):
    known = {"aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0",
             "type": 4, "desc": "", "options": {"1": "Walk", "2": "Run"},
             "default_option_id": ""}  # fmt: skip
    return {
        "project": {"pid": "x", "rev": "1", "data_format_version": "3.1.1"},
        "config": {},
        "attribute": {"1": known, **attribute},
        "file": {"1": {"fid": "1", "fname": "a.mp4", "type": 4, "loc": 1,
                       "src": ""},
                 "2": {"fid": "2", "fname": "b.mp4", "type": 4, "loc": 1,
                       "src": ""}},
        "metadata": metadata,
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    }  # fmt: skip


def segment(value, z, vid="1", xy=(), key="1"):
    return {"vid": vid, "flg": 0, "z": z, "xy": [*xy], "av": {key: value}}


def test_via_3(folder):
    root = folder(
        ["a.mp4", "b.mp4"],
        via_project_json=via({
            "1_a": segment("1", [0.5, 1.25]),
            "1_b": segment("Jump", [1.5, 2.0]),
            "1_c": segment("_DEFAULT", [2.0, 2.5]),
            "1_d": segment("1", [2.0]),
            "1_e": segment("1", [2.0], xy=[2, 1, 1, 5, 5]),
            "2_f": segment("2", [], vid="2"),
        }),
    )  # fmt: skip
    assert rows(root) == [
        ("a.mp4", "Walk", "", 0.5, 1.25),
        ("a.mp4", "Jump", "", 1.5, 2.0),
        ("b.mp4", "Run", "", None, None),
    ]
    assert "3 segments of VIA without a label" in notes(root)


def test_via_3_with_two_attributes(folder):
    quality = {"aname": "Quality", "type": 1, "options": {}}
    metadata = {
        "1_a": segment("1", [0, 1]),
        "1_b": segment("ok", [0, 1], key="2"),
    }
    root = folder(["a.mp4", "b.mp4"], v_json=via(metadata, **{"2": quality}))
    with pytest.raises(DataError, match="several attributes of segments"):
        rows(root)
    named = via(metadata, **{"2": quality})
    named["attribute"]["1"]["aname"] = "class"
    write(root, "v_json", named)
    assert rows(root) == [("a.mp4", "Walk", "", 0.0, 1.0)]


def test_other_files_of_via_are_refused(folder):
    root = folder(
        ["a.mp4"],
        via_csv="# Exported using VIA\n# CSV_HEADER = metadata_id,file_list,"
        'flags\n"1_x","[""a.mp4""]",0\n',
    )
    with pytest.raises(DataError, match="save the project"):
        rows(root)


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+01:00" FORMAT="3.0"
    VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/Users/x/a%20b.mp4"
        MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="" />
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/Users/x/a.wav"
        MIME_TYPE="audio/x-wav" RELATIVE_MEDIA_URL="./a.wav"/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="250"/>
    <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1500"/>
    <TIME_SLOT TIME_SLOT_ID="ts3"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="2750"/>
  </TIME_ORDER>
  {tiers}
</ANNOTATION_DOCUMENT>
"""


def tier(name, *annotations):
    found = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{i}" '
        f'TIME_SLOT_REF1="ts{first}" TIME_SLOT_REF2="ts{last}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>"
        "</ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i, (value, first, last) in enumerate(annotations)
    )
    return (
        f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{name}">{found}'
        "</TIER>"
    )


def test_elan(folder):
    tiers = tier("x", ("walk", 1, 2), ("gym", 2, 4), ("gym", 3, 4)) + tier("y")
    root = folder(["deep/a b.mp4"], deep__a_eaf=EAF.format(tiers=tiers))
    assert rows(root) == [
        ("deep/a b.mp4", "walk", "", 0.25, 1.5),
        ("deep/a b.mp4", "gym", "", 1.5, 2.75),
    ]
    assert "1 annotation of ELAN without a value or a time" in notes(root)


def test_elan_with_two_tiers(folder):
    tiers = tier("left", ("a", 1, 2)) + tier("right", ("b", 1, 2))
    root = folder(["a b.mp4"], a_eaf=EAF.format(tiers=tiers))
    with pytest.raises(DataError, match=r"several tiers \(left, right\)"):
        rows(root)
    write(root, "a_eaf", EAF.format(tiers=tiers.replace("left", "Action")))
    assert rows(root) == [("a b.mp4", "a", "", 0.25, 1.5)]


def test_fiftyone_data_set(folder):
    events = {"_cls": "TemporalDetections", "detections": [
        {"_cls": "TemporalDetection", "label": "jump", "support": [1, 20]},
        {"_cls": "TemporalDetection", "label": "run", "support": [41, 60]},
    ]}  # fmt: skip
    root = folder(
        ["data/a.mp4", "data/b.mp4"],
        metadata_json={"name": "x", "media_type": "video"},
        samples_json={"samples": [
            {"filepath": "data/a.mp4", "tags": ["train"], "events": events,
             "metadata": {"_cls": "VideoMetadata", "frame_rate": 40.0}},
            {"filepath": "data/b.mp4", "tags": ["validation", "x"],
             "metadata": None, "events": events},
        ]},
    )  # fmt: skip
    assert rows(root) == [
        ("data/a.mp4", "jump", "train", 0.0, 0.5),
        ("data/a.mp4", "run", "train", 1.0, 1.5),
        ("data/b.mp4", "jump", "val", 0.0, 1.0),
        ("data/b.mp4", "run", "val", 2.0, 3.0),
    ]


def test_fiftyone_classification(folder):
    sample = {"filepath": "/home/x/a.mp4", "tags": [],
              "ground_truth": {"_cls": "Classification", "label": "run"},
              "model": {"_cls": "Classification", "label": "jump"}}  # fmt: skip
    root = folder(["a.mp4"], samples_json={"samples": [sample]})
    assert rows(root) == whole(("a.mp4", "run", ""))
    del sample["ground_truth"], sample["model"]
    write(root, "samples_json", {"samples": [sample]})
    with pytest.raises(DataError, match="one field must hold labels"):
        rows(root)


def test_fiftyone_temporal_detections(folder):
    root = folder(
        ["data/a.mp4", "data/b.mp4"],
        labels_json={
            "classes": ["jump", "run"],
            "labels": {
                "a": [{"label": 0, "support": [1, 20]},
                      {"label": 1, "timestamps": [1.5, 2.5]}],
                "b": None,
            },
        },
    )  # fmt: skip
    assert rows(root) == [
        ("data/a.mp4", "jump", "", 0.0, 1.0),
        ("data/a.mp4", "run", "", 1.5, 2.5),
    ]
    assert "1 video without a label" in notes(root)


# --- Folders of images --------------------------------------------------------


@pytest.mark.parametrize(("rate", "seconds"), [(25, 2.4), (20, 3.0)])
def test_folders_of_images_are_decoded(tmp_path, drawn, rate, seconds):
    root = tmp_path / "data"
    for name in ("up/a", "up/b", "down/a", "down/b"):
        (root / name).mkdir(parents=True)
        ffmpeg("-ss", len(name) / 50 * (name[-1] == "b"), "-i", drawn,
               root / name / f"{name[0]}%03d.jpg")  # fmt: skip
    config = Config().replace(cache="jpeg", store_dir=tmp_path / "s",
                              images_fps=rate)  # fmt: skip
    report = check(root, None, config)
    lengths = {v.file: v.kept_frames / 16 for v in report.manifest.videos}
    assert set(lengths) == {"up/a", "up/b", "down/a", "down/b"}
    assert abs(lengths["up/a"] - seconds) <= 1 / 16
    assert len({v.sha256 for v in report.manifest.videos}) == 4
    image = root / "up/a/u001.jpg"
    before = Manifest.from_folder(root).videos
    image.write_bytes((root / "down/b/d009.jpg").read_bytes())
    after = Manifest.from_folder(root).videos
    changed = [
        new.file
        for old, new in zip(before, after, strict=True)
        if old.sha256 != new.sha256
    ]
    assert changed == ["up/a"]


# --- All of them --------------------------------------------------------------


def test_a_name_that_may_be_two_videos(folder):
    root = folder(["x/a.mp4", "y/a.mp4"], labels_json={"labels": {"a": "run"}})
    with pytest.raises(DataError, match=r"'a' may be 'x/a.mp4' or 'y/a.mp4'"):
        rows(root)
    write(root, "labels_json", {"labels": {"y/a": "run"}})
    assert rows(root) == whole(("y/a.mp4", "run", ""))


def test_two_formats_are_refused(folder):
    root = folder(
        ["a.mp4"], labels_json={"labels": {"a": "run"}}, x_json=via({})
    )
    with pytest.raises(DataError, match="Leave one of them in the folder"):
        rows(root)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "[1]", '"x"', "null", "[{}]", '{"samples": 1}',
     '{"labels": []}', '{"database": []}', '[{"id": 1}]', "[" * 3000,
     "<annotations/>", "\0"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["notes_json", "notes_xml", "notes_csv"])
def test_other_texts_do_not_disturb(folder, name, text):
    root = folder(["a/1.mp4", "b/2.mp4"])
    write(root, name, text)
    assert len(rows(root)) == 2


def test_every_format_is_on_the_page():
    from pathlib import Path

    page = Path(__file__).parents[1] / "docs" / "formats.md"
    text = page.read_text("utf-8")
    for kind in FORMATS:
        assert kind.name.partition(" (")[0].removeprefix("a ") in text


def test_eval_beside_test_is_validation_in_annotations(folder):
    names = ("train", "eval", "test")
    root = folder(
        [f"{name}.mp4" for name in names],
        samples_json={
            "samples": [
                {
                    "filepath": f"{name}.mp4",
                    "tags": [name],
                    "ground_truth": {"_cls": "Classification", "label": "x"},
                }
                for name in names
            ]
        },
    )
    splits = {v.file: v.split for v in find_videos(root).videos}
    assert splits == {
        "train.mp4": "train", "eval.mp4": "val", "test.mp4": "test",
    }  # fmt: skip


def test_groups_of_readers_are_not_the_users(folder):
    text = f"{KINETICS}yoga,aaaaaaaaaaa,0,1,\nchess,bbbbbbbbbbb,0,1,\n"
    root = folder(["aaaaaaaaaaa.mp4", "bbbbbbbbbbb.mp4"], all_csv=text)
    manifest = Manifest.from_folder(root)
    assert not manifest.division.chosen
    # Both are one file: copies are joined.
    assert {video.group for video in manifest.videos} == {"aaaaaaaaaaa"}
    write_listing(find_videos(root), root / "manifest.csv")
    assert Manifest.from_folder(root).division.chosen


def test_any_of_them_becomes_a_manifest(folder, tmp_path):
    tracks = (
        f'<track id="0" label="=walk" source="manual">{box(0)}'
        f'{box(20, outside=1)}</track><track id="1" label="gym" '
        f'source="manual">{box(40)}{box(59)}</track>'
    )
    root = folder(["a.mp4"], annotations_xml=CVAT.format(content=tracks))
    before = rows(root)
    write_listing(find_videos(root), tmp_path / "new.csv")
    with (tmp_path / "new.csv").open(newline="") as file:
        first = next(csv.reader(file))
    assert first == ["file", "class", "split", "group", "start", "end"]
    write_listing(find_videos(root), root / "manifest.csv")
    assert rows(root) == before
    with pytest.raises(UsageError, match="--to must name a new file"):
        write_listing(find_videos(root), root / "manifest.csv")


def test_the_command_writes_a_manifest(folder, tmp_path, capsys):
    root = folder(
        [f"{i}.mp4" for i in range(4)],
        metadata_csv="file_name,label,camera\n"
        + "".join(f"{i}.mp4,{'ab'[i % 2]},c{i}\n" for i in range(4)),
    )
    out = tmp_path / "out" / "manifest.csv"
    options = ["--cache", "off", "--output", str(tmp_path / "check")]
    assert main([str(root), *options, "--to", str(out)]) == 0
    said = capsys.readouterr()
    assert f"(to be read: {root / 'manifest.csv'})" in said.out
    assert "kept and not used: camera" in said.err
    (root / "metadata.csv").unlink()
    out.rename(root / "manifest.csv")
    manifest = Manifest.from_folder(root)
    assert manifest.class_names == ("a", "b")
    assert manifest.videos[0].others == (("camera", "c0"),)
    assert main([str(root), *options, "--to", str(root / "manifest.csv")]) == 2
