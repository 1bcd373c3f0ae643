"""A small file of each format of annotations, and what can go wrong in it."""

import json
import math
from xml.etree import ElementTree

VIDEOS = ("a.mp4", "b.mp4", "clips/7.mp4")

JSON = {
    "label_studio.json": [
        {
            "id": 1,
            "data": {"video": "/data/upload/1/0123abcd-a.mp4", "fps": 25},
            "annotations": [
                {
                    "was_cancelled": False,
                    "ground_truth": False,
                    "result": [
                        {
                            "type": "timelinelabels",
                            "value": {
                                "timelinelabels": ["walk"],
                                "ranges": [{"start": 1, "end": 20}],
                            },
                        },
                        {
                            "type": "labels",
                            "value": {"labels": ["gym"], "start": 1, "end": 2},
                        },
                        {"type": "rating", "value": {"rating": 3}},
                    ],
                }
            ],
        },
        {
            "id": 2,
            "data": {"video": "b.mp4"},
            "annotations": [
                {
                    "result": [
                        {"type": "choices", "value": {"choices": ["gym"]}}
                    ]
                }
            ],
        },
    ],
    "label_studio_min.json": [
        {
            "id": 1, "annotator": 1, "annotation_id": 3, "lead_time": 2.5,
            "video": "a.mp4", "choice": "walk",
        },
        {
            "id": 2, "annotator": 1, "annotation_id": 4, "lead_time": 2.5,
            "video": "b.mp4",
            "tricks": [
                {"start": 0.5, "end": 1.5, "labels": ["gym"]},
                {
                    "ranges": [{"start": 50, "end": 60}],
                    "timelinelabels": ["walk"],
                },
            ],
        },
    ],
    "via_project.json": {
        "project": {"pid": "x"},
        "config": {},
        "attribute": {
            "1": {"aname": "class", "type": 4, "options": {"1": "walk"}},
            "2": {"aname": "where", "type": 2, "options": {}},
        },
        "file": {"1": {"fname": "a.mp4"}, "2": {"fname": "b.mp4"}},
        "metadata": {
            "1_a": {"vid": "1", "z": [0.5, 1.25], "xy": [], "av": {"1": "1"}},
            "1_b": {"vid": "2", "z": [], "xy": [], "av": {"1": "gym"}},
            "1_c": {"vid": "1", "z": [2.0], "xy": [1], "av": {"2": "x"}},
        },
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    },
    "samples.json": {
        "name": "mine",
        "samples": [
            {
                "filepath": "a.mp4", "tags": ["train"],
                "metadata": {"_cls": "VideoMetadata", "frame_rate": 25.0},
                "ground_truth": {
                    "_cls": "TemporalDetections",
                    "detections": [{"label": "walk", "support": [1, 20]}],
                },
                "other": {"_cls": "Regression", "value": 1.0},
            },
            {
                "filepath": "b.mp4", "tags": ["test"],
                "ground_truth": {"_cls": "Classification", "label": "gym"},
            },
        ],
    },
    "labels.json": {
        "classes": ["walk", "gym"],
        "labels": {
            "a": [
                {"label": 0, "support": [1, 20]},
                {"label": 1, "timestamps": [1.5, 2.0]},
            ],
            "b": "gym",
        },
    },
    "kinetics_train.json": {
        "a": {
            "annotations": {"label": "walk", "segment": [0.0, 2.0]},
            "subset": "train", "duration": 2.0, "url": "",
        },
        "b": {
            "annotations": {"label": "gym", "segment": [1.0, 2.0]},
            "subset": "validate",
        },
    },
    "activitynet.json": {
        "version": "1.3",
        "database": {
            "a": {
                "subset": "training",
                "annotations": [{"label": "walk", "segment": [0.0, 2.0]}],
            },
            "b": {
                "subset": "testing",
                "annotations": [{"label": "gym", "segment": [1.0, 2.0]}],
            },
        },
    },
    "something-train.json": [
        {"id": "7", "label": "holding a pen", "template": "Holding [x]",
         "placeholders": ["a pen"]},
        {"id": "a", "label": "walk", "template": "Walk", "placeholders": []},
    ],
    "metadata.json": [
        {"file_name": "a.mp4", "label": "walk", "split": "train"},
        {"file_name": "b.mp4", "label": "gym", "split": "val", "end": 1.0},
    ],
}  # fmt: skip

XML = {
    "cvat.xml": """<annotations><version>1.1</version><meta>
<task><id>7</id><name>first</name><frame_filter>step=2</frame_filter>
<subset>Train</subset><source>a.mp4</source></task></meta>
<track id="0" label="walk" source="manual">
<box frame="0" outside="0"><attribute name="n">x</attribute></box>
<box frame="20" outside="1"/></track>
<image id="30" name="x"><tag label="gym"/></image></annotations>""",
    "a.eaf": """<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/a.mp4" TIME_ORIGIN="100"/>
<MEDIA_DESCRIPTOR RELATIVE_MEDIA_URL="./b.mp4"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="1" TIME_VALUE="250"/>
<TIME_SLOT TIME_SLOT_ID="2" TIME_VALUE="900"/></TIME_ORDER>
<TIER TIER_ID="class"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="x"
TIME_SLOT_REF1="1" TIME_SLOT_REF2="2"><ANNOTATION_VALUE>walk</ANNOTATION_VALUE>
</ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="other"><X/></TIER></ANNOTATION_DOCUMENT>""",
}

TABLES = {
    "manifest.csv": [
        ["file", "class", "split", "group", "start", "end"],
        ["a.mp4", "walk", "train", "x", "0", "1.5"],
        ["b.mp4", "gym", "val", "y", "", ""],
    ],
    "kinetics_val.csv": [
        ["label", "youtube_id", "time_start", "time_end", "split"],
        ["walk", "a", "0", "2", "validate"],
        ["gym", "b", "1", "2", "test"],
    ],
    "metadata.csv": [
        ["", "file_name", "label"],
        ["0", "a.mp4", "walk"],
        ["1", "b.mp4", "['gym']"],
    ],
    "studio.csv": [
        ["annotation_id", "lead_time", "id", "video", "choice", "tricks"],
        ["1", "2.5", "7", "a.mp4", "walk", ""],
        ["2", "2.5", "8", "b.mp4", "",
         '"[{""start"":1,""end"":2,""labels"":[""x""]}]"'],
    ],
    "train.csv": [["path", "label"], ["a.mp4", "0"], ["b.mp4", "1"]],
    "classes.txt": [["0 walk"], ["1 gym"]],
    "jester-v1-train.csv": [["7;Walk"], ["a;Gym"]],
    "trainlist01.txt": [["a.mp4 1"], ["b.mp4 2"], ["clips/7 30 1"]],
    "walk_test_split1.txt": [["a.mp4 1 "], ["b.mp4 2 "]],
}  # fmt: skip

WRONG_TEXTS = (
    "", " ", "\0", "\x01", "x" * 300, "x/" * 300, "../../x", "/etc/passwd",
    "a.mp4", ".", "//", "-1", "1e999", "nan", "inf", "9" * 5000, "1" + "0" * 20,
    "²", "٣", "0x10", "1:2:3:4", "::", "1_0", "true", "[1]", "{", "'", '"',
    "=1+1", "\ud800", "é", "e\u0301", "a\nb", "[[1], 2]", "[" * 3000,
    "train", "eval", "http://x/a.mp4?d=1", "?d=%00",
)  # fmt: skip
WRONG_VALUES = (
    None, True, False, 0, 1, -1, 2**70, 1.5, -0.5, 1e308, math.inf, math.nan,
    [], {}, [[]], [None], [{}], [1], [1, 2], [1, 2, 3], ["1", "2"], {"a": 1},
    {"": {}}, [True, False], [[1], [2]], [math.nan, 1], [0, math.inf],
    [{"start": [1], "end": {}}], *WRONG_TEXTS,
)  # fmt: skip


def places(value, at=()):
    """Yields the way to every value of a JSON document."""
    yield at
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    for key, item in inner:
        yield from places(item, (*at, key))


def with_value(value, at, new):
    """Returns a JSON document with another value at one place."""
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = with_value(value[at[0]], at[1:], new)
    return copy


def xml_places(text):
    """Yields the number of each element, and an attribute or None for text."""
    for number, item in enumerate(ElementTree.fromstring(text).iter()):
        yield number, None
        for name in item.attrib:
            yield number, name


def xml_with(text, place, new):
    """Returns an XML document with another text at one place."""
    root = ElementTree.fromstring(text)
    number, name = place
    item = list(root.iter())[number]
    new = "".join(x for x in new if x in "\t\n" or "\x20" <= x < "\ud800")
    if name is None:
        item.text = new
    else:
        item.set(name, new)
    return ElementTree.tostring(root, "unicode")


def table_text(rows):
    return "\n".join(",".join(row) for row in rows) + "\n"


def table_places(rows):
    return [(i, j) for i, row in enumerate(rows) for j in range(len(row))]


def table_with(rows, place, new):
    """Returns a table with another cell; unquoted, as people write it."""
    i, j = place
    changed = [list(row) for row in rows]
    changed[i][j] = new
    return changed


def write_folder(root, name, content):
    """Writes videos that can't be decoded, and one file of annotations."""
    root.mkdir(parents=True, exist_ok=True)
    for video in VIDEOS:
        (root / video).parent.mkdir(exist_ok=True)
        (root / video).write_text(video)
    if not isinstance(content, str):
        content = json.dumps(content)
    (root / name).write_text(content, "utf-8", "surrogatepass")
