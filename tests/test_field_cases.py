"""Cases from public reports: a folder as people have it, and what must come.

A row of `CASES` is a case, where it was reported, the files of the folder, and
what must come out: the videos as (file, class, split), or the sentence that
refuses them. Add a row for every folder that was read wrongly.
"""

import os
import unicodedata
from dataclasses import dataclass

import pytest

from har_keras.errors import DataError
from har_keras.manifest.folders import find_videos
from har_keras.manifest.manifest import Manifest

OWN = "made up"
NFC = unicodedata.normalize("NFC", "Café")
NFD = unicodedata.normalize("NFD", "Café")


@dataclass(frozen=True)
class Case:
    """A folder, and what must come out of it.

    `files` are paths of videos, and of texts with their content. `out` is a
    list of (file, class, split), or a pattern of the sentence of refusal.
    `said` are words of the notes. With `known`, the folder (or `inside` it) is
    one on which a model of these classes is evaluated.
    """

    name: str
    source: str
    files: tuple
    out: object
    said: tuple = ()
    known: tuple = ()
    inside: str = ""


def videos(*names):
    return tuple((name, None) for name in names)


def four(first="train", second="test"):
    """Two classes in two splits."""
    return videos(*(f"{s}/{c}/1.mp4" for s in (first, second) for c in "ab"))


def four_out(first="train", second="test", splits=("train", "test"), top=""):
    return [
        (f"{top}{folder}/{name}/1.mp4", name, split)
        for folder, split in zip((first, second), splits, strict=True)
        for name in "ab"
    ]


def text(name, content, encoding="utf-8"):
    return ((name, content.encode(encoding)),)


TWO = videos("gym/1.mp4", "walk/2.mp4")
TWO_OUT = [("gym/1.mp4", "gym", ""), ("walk/2.mp4", "walk", "")]

CASES = [
    # 1, 2, 30: splits, or a bin, become classes.
    Case("a Mac's zip", "ultralytics/hub 89",
         (*four(), *videos("__MACOSX/train/a/._1.mp4")), four_out()),
    Case("an empty folder of a Mac", "mne-tools/mne-python 7867",
         (*four(), ("__MACOSX/", None)), four_out()),
    Case("annotations beside splits", OWN,
         (*four(), *text("annotations/notes.txt", "none")), four_out()),
    Case("a preview in annotations", OWN,
         (*four(), *videos("annotations/preview.mp4")), four_out(),
         said=("'annotations' are left out",)),
    Case("a folder README", OWN,
         (*four(), *text("README/readme.md", "hello")), four_out()),
    Case("validate", OWN, four("train", "validate"),
         four_out("train", "validate", ("train", "val"))),
    Case("training_set and test_set", "lovedlim/tensorflow 4",
         four("training_set", "test_set"),
         four_out("training_set", "test_set")),
    Case("Train and Test", OWN, four("Train", "Test"),
         four_out("Train", "Test")),
    Case("TRAIN and DEV", OWN, four("TRAIN", "DEV"),
         four_out("TRAIN", "DEV", ("train", "val"))),
    Case("train and eval", OWN, four("train", "eval"),
         four_out("train", "eval")),
    Case("eval beside test is validation", OWN,
         (*four("eval", "test"), *videos("train/a/2.mp4", "train/b/2.mp4")),
         [*four_out("eval", "test", ("val", "test")),
          ("train/a/2.mp4", "a", "train"), ("train/b/2.mp4", "b", "train")]),
    Case("two names of validation", OWN,
         (*four(), *videos("val/a/1.mp4", "dev/a/2.mp4")),
         "Both 'dev' and 'val' are names of the split val"),
    Case("val and test without train", OWN, four("val", "test"),
         "of the split test and val, and none is for training"),
    Case("a class without a training video", OWN,
         videos("train/a/1.mp4", "train/b/1.mp4", "test/c/1.mp4"),
         "Class 'c' has no training video"),
    Case("videos straight in splits", OWN,
         videos("train/1.mp4", "test/2.mp4"),
         "straight in 'test' and 'train': names of splits, not of classes"),
    Case("a split beside a class", OWN,
         videos("train/1.mp4", "gym/2.mp4", "walk/3.mp4"),
         "straight in 'train', beside 'gym' and 'walk': the name of a split"),
    Case("videos in no split", OWN, (*four(), *videos("raw/1.mp4")),
         r"videos in 'raw', in no split\. Move them"),
    Case("splits in the classes", OWN,
         videos(*(f"{c}/{s}/1.mp4" for c in "ab" for s in ("train", "test"))),
         [(f"{c}/{s}/1.mp4", c, s) for c in "ab" for s in ("test", "train")]),
    Case("splits in one class", OWN,
         videos("a/train/1.mp4", "a/test/1.mp4", "b/1.mp4"),
         "'test' in a class folder is the name of a split, but 'b/1.mp4'"),
    Case("a bin and a drive", OWN,
         (*TWO, *videos("$RECYCLE.BIN/S-1-5/$R1.mp4", "lost+found/3.mp4",
                        "System Volume Information/4.mp4")), TWO_OUT,
         said=("1 video in '$RECYCLE.BIN', a folder of the system",)),
    Case("copies of a storage server", OWN,
         (*TWO, *videos("gym/@eaDir/1.mp4/SYNOVIDEO.mp4",
                        "walk/.thumbnails/2.mp4", "#recycle/gym/9.mp4")),
         TWO_OUT),
    # 29: a zip in a zip.
    Case("a zip in a zip", "kwotsin/create_tfrecords 3",
         videos("UCF-101/a/1.mp4", "UCF-101/b/2.mp4"),
         [("UCF-101/a/1.mp4", "a", ""), ("UCF-101/b/2.mp4", "b", "")],
         said=("The classes are the folders in 'UCF-101'",)),
    Case("twice, with splits", OWN,
         tuple((f"videos/My set/{f}", x) for f, x in four()),
         four_out(top="videos/My set/"),
         said=("the folders in 'videos/My set'",)),
    Case("splits in a folder", OWN,
         tuple((f"holiday/{f}", x) for f, x in four()),
         four_out(top="holiday/")),
    Case("the classes are below", OWN,
         videos("actions/a/1.mp4", "actions/b/2.mp4"),
         r"one class, 'actions'.*If the folders in it \(a, b\) are the "
         r"classes, give '.*/actions' instead"),
    Case("a folder around the classes of each split", OWN,
         videos(*(f"{s}/videos/{c}/1.mp4" for s in ("train", "test")
                  for c in "ab")),
         [(f"{s}/videos/{c}/1.mp4", c, s) for s in ("test", "train")
          for c in "ab"]),
    Case("no folders", OWN, videos("1.mp4", "2.mp4"),
         "no video in a class folder.*2 videos, such as '1.mp4'.*manifest.csv"),
    Case("one class", OWN, videos("gym/1.mp4", "gym/2.mp4"),
         "one class, 'gym'; a classifier needs at least two"),
    # 24: composed and decomposed letters; upper and lower case.
    Case("letters of a Mac", OWN,
         videos(f"train/{NFC}/1.mp4", "train/b/1.mp4", f"val/{NFD}/2.mp4"),
         [(f"train/{NFC}/1.mp4", NFC, "train"), ("train/b/1.mp4", "b", "train"),
          (f"val/{NFD}/2.mp4", NFC, "val")]),
    Case("letters of a Mac in a manifest", OWN,
         (*videos(f"{NFD}.mp4", "b.mp4"),
          *text("manifest.csv", f"file,class\n{NFC}.mp4,{NFD}\nb.mp4,b\n")),
         [(f"{NFD}.mp4", NFC, ""), ("b.mp4", "b", "")]),
    Case("classes that differ by case", OWN,
         videos("train/Walk/1.mp4", "train/gym/1.mp4", "test/walk/2.mp4"),
         "'walk' .* and 'Walk' .* differ by upper and lower case alone"),
    # 5, 6, 27: names and tables that are not UTF-8.
    Case("a class of Windows' zip", "arsenetar/dupeguru 335",
         videos(os.fsdecode(b"pompes \xe0 genoux/1.mp4"), "marche/2.mp4"),
         r"not UTF-8, as zip files from Windows.*as 'pompes à genoux'"),
    Case("a file of Windows' zip", "run-llama/llama_index 10369",
         videos(os.fsdecode(b"a/\xe0.mp4"), "b/2.mp4"),
         [(os.fsdecode(b"a/\xe0.mp4"), "a", ""), ("b/2.mp4", "b", "")]),
    Case("Excel's CSV", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv", "file;class\na.mp4;Übung\nb.mp4;Gehen\n",
                "cp1252")),
         [("a.mp4", "Übung", ""), ("b.mp4", "Gehen", "")],
         said=("not UTF-8 from line 2 on, and read as Windows-1252",)),
    Case("Excel's CSV with names of files", OWN,
         (*videos("über.mp4", os.fsdecode(b"\xfcb.mp4")),
          *text("manifest.csv", "file;class\nüber.mp4;a\nüb.mp4;b\n",
                "cp1252")),
         [("über.mp4", "a", ""), (os.fsdecode(b"\xfcb.mp4"), "b", "")]),
    Case("Excel's Unicode text", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv", "file\tclass\r\na.mp4\tÜbung\r\nb.mp4\tb\r\n",
                "utf-16")),
         [("a.mp4", "Übung", ""), ("b.mp4", "b", "")],
         said=("manifest.csv is in UTF-16",)),
    Case("UTF-16 without a mark", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv", "file,class\na.mp4,a\nb.mp4,b\n", "utf-16-be")),
         [("a.mp4", "a", ""), ("b.mp4", "b", "")]),
    Case("a list in UTF-16", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("train.txt", "a.mp4 0\r\nb.mp4 1\r\n", "utf-16")),
         [("a.mp4", "0", "train"), ("b.mp4", "1", "train")]),
    Case("Excel's sep=", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv", "sep=;\nfile;class\na.mp4;a\nb.mp4;b\n")),
         [("a.mp4", "a", ""), ("b.mp4", "b", "")]),
    # 12, 31: numbers of frames, several labels, folders of frames.
    Case("a count of frames", "mit-han-lab/temporal-shift-module 191",
         (*videos("v1.mp4", "v2.mp4"),
          *text("train.txt", "v1.mp4 60 0\nv2.mp4 67 1\n")),
         "line 1: two numbers after a video are a number of frames and a"),
    Case("several labels", "mzolfaghari/ECO-efficient-video-understanding 7",
         (*videos("v1.mp4", "v2.mp4"),
          *text("train.txt", "v1.mp4 0 3\nv2.mp4 1\n")),
         "line 1: two numbers after a video.*or several labels"),
    Case("several labels in a table", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv",
                'file,class\na.mp4,"[""x"", ""y""]"\nb.mp4,b\n')),
         "line 2: a video has one class"),
    Case("two labels in two lines", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv", "file,class\na.mp4,x\na.mp4,y\nb.mp4,x\n")),
         "line 3: 'a.mp4' is listed a second time, as 'y' after 'x'"),
    Case("a list of folders of frames, with the videos", "TSM",
         (*videos("v/one.avi", "v/two.avi"),
          *text("train_videofolder.txt", "one 60 0\ntwo 67 1\n"),
          *text("category.txt", "gym\nwalk\n")),
         [("v/one.avi", "gym", "train"), ("v/two.avi", "walk", "train")]),
    Case("folders of frames", "mx-mark",
         videos(*(f"{c}/one/{i}.jpg" for c in "ab" for i in range(3))),
         [("a/one", "a", ""), ("b/one", "b", "")],
         said=("2 videos of folders of images",)),
    Case("folders of frames in splits", OWN,
         videos(*(f"{s}/{c}/one/{i}.jpg" for s in ("train", "test")
                  for c in "ab" for i in range(2))),
         [(f"{s}/{c}/one", c, s) for s in ("train", "test") for c in "ab"]),
    Case("a picture beside videos", OWN, (*TWO, *videos("gym/cover.jpg")),
         TWO_OUT),
    Case("images of classes", OWN, videos("gym/1.jpg", "walk/2.jpg"),
         "A folder of images is one video: sort them as"),
    Case("images of classes in splits", OWN,
         videos("train/gym/1.jpg", "train/walk/2.jpg"),
         "A folder of images is one video: sort them as"),
    Case("a list of folders of frames", "TSM",
         (*videos("frames/one/1.jpg", "frames/two/1.jpg"),
          *text("train_videofolder.txt",
                "frames/one 60 0\nframes/two 67 1\n")),
         [("frames/one", "0", "train"), ("frames/two", "1", "train")]),
    # 25: paths of Windows.
    Case("backslashes in a manifest", "pytorch/vision 5123",
         (*TWO, *text("manifest.csv",
                      "file,class\ngym\\1.mp4,gym\nwalk\\2.mp4,walk\n")),
         TWO_OUT),
    Case("backslashes in a list", "microsoft/CNTK 1321",
         (*TWO, *text("train.txt", "gym\\1.mp4 0\nwalk\\2.mp4 1\n"),
          *text("classes.txt", "gym\nwalk\n")),
         [("gym/1.mp4", "gym", "train"), ("walk/2.mp4", "walk", "train")]),
    Case("a backslash in a name", OWN,
         (*videos("a\\b.mp4", "c.mp4"),
          *text("manifest.csv", "file,class\na\\b.mp4,x\nc.mp4,y\n")),
         [("a\\b.mp4", "x", ""), ("c.mp4", "y", "")]),
    Case("paths that begin with the folder", OWN,
         (*TWO, *text("train.txt", "data/gym/1.mp4 0\ndata/walk/2.mp4 1\n")),
         [("gym/1.mp4", "0", "train"), ("walk/2.mp4", "1", "train")]),
    Case("no listed file is there", OWN,
         (*TWO, *text("manifest.csv", "file,class\nx/1.mp4,a\nx/2.mp4,b\n")),
         "None of the listed videos \\(2\\) is in .*, such as 'x/1.mp4'"),
    # 26, 28: tables of other programs.
    Case("keras-io", "keras-team/keras-io 1019",
         (*videos("train/1.avi", "test/2.avi", "train/3.avi"),
          *text("train.csv", "video_name,tag\n1.avi,Punch\n3.avi,Cut\n"),
          *text("test.csv", "video_name,tag\n2.avi,Punch\n")),
         [("test/2.avi", "Punch", "test"), ("train/1.avi", "Punch", "train"),
          ("train/3.avi", "Cut", "train")]),
    Case("keras-io with pandas' index", "keras-team/keras-io 1019",
         (*videos("train/1.avi", "test/2.avi", "train/3.avi"),
          *text("train.csv", ",video_name,tag\n0,1.avi,Punch\n1,3.avi,Cut\n"),
          *text("test.csv", ",video_name,tag\n0,2.avi,Punch\n")),
         [("test/2.avi", "Punch", "test"), ("train/1.avi", "Punch", "train"),
          ("train/3.avi", "Cut", "train")],
         said=("without a name in train.csv is taken for row numbers",)),
    Case("pandas' index in a manifest", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv",
                "Unnamed: 0,file,class\n0,a.mp4,a\n1,b.mp4,b\n")),
         [("a.mp4", "a", ""), ("b.mp4", "b", "")]),
    Case("Hugging Face", OWN,
         (*videos("clips/1.mp4", "clips/2.mp4"),
          *text("metadata.csv",
                "file_name,label\nclips/1.mp4,a\nclips/2.mp4,b\n")),
         [("clips/1.mp4", "a", ""), ("clips/2.mp4", "b", "")]),
    Case("a table without a class", OWN,
         (*videos("1.mp4", "2.mp4"),
          *text("metadata.csv", "file_name,caption\n1.mp4,a man\n2.mp4,it\n")),
         "'metadata.csv' is not read: it has columns caption, file_name"),
    Case("a table without a class beside classes", OWN,
         (*TWO, *text("metadata.csv", "file_name,caption\n1.mp4,a man\n")),
         TWO_OUT, said=("'metadata.csv' is not read",)),
    Case("Excel's empty columns", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv", "file,class,,\na.mp4,a,,\nb.mp4,b,,\n,,,\n")),
         [("a.mp4", "a", ""), ("b.mp4", "b", "")]),
    Case("a column without a name", OWN,
         (*videos("a.mp4", "b.mp4"),
          *text("manifest.csv", "file,class,\na.mp4,a,me\nb.mp4,b,you\n")),
         "a column without a name. Name it in the first line"),
    Case("a table that is no text", OWN,
         (*videos("1.mp4"), *text("labels.xlsx", "PK")),
         "'labels.xlsx' is not read: save it as CSV"),
    Case("an archive", OWN, text("videos.zip", "PK"),
         "no video in .* but an archive, 'videos.zip'. Unpack it first"),
    Case("videos that no list names", OWN,
         (*TWO, *videos("gym/3.mp4"),
          *text("manifest.csv",
                "file,class\ngym/1.mp4,gym\nwalk/2.mp4,walk\n")),
         TWO_OUT, said=("1 video in the folder not listed and left out",)),
    Case("two columns of classes", OWN,
         (*videos("a.mp4"), *text("metadata.csv",
                                  "file_name,label,tag\na.mp4,x,y\n")),
         "two columns that may be the class: 'label' and 'tag'"),
    Case("frames for seconds", OWN,
         (*videos("a.mp4"), *text("manifest.csv",
          "file,class,start_frame,end_frame\na.mp4,x,1,9\n")),
         "columns 'start_frame' and 'end_frame'. If they say which part"),
    Case("an unquoted comma", OWN,
         (*videos("a, b.mp4", "c.mp4"),
          *text("manifest.csv", "file,class\na, b.mp4,x\nc.mp4,y\n")),
         "line 2: it has 3 cells, but the first line names 2"),
    Case("two descriptions", OWN,
         (*TWO, *text("metadata.csv", "file_name,label\ngym/1.mp4,a\n"),
          *text("train.txt", "gym/1.mp4 0\n")),
         r"Both 'metadata.csv' \(a table\) and 'train.txt' \(a list\)"),
    # 19, 20: folders on which a model is evaluated.
    Case("a folder of one class", "facebookresearch/SlowFast 149",
         videos("gym/1.mp4", "gym/2.mp4"),
         [("gym/1.mp4", "gym", ""), ("gym/2.mp4", "gym", "")],
         known=("gym", "walk")),
    Case("the folder of a class itself", OWN,
         videos("test/gym/1.mp4", "test/gym/today/2.mp4"),
         [("1.mp4", "gym", ""), ("today/2.mp4", "gym", "")],
         known=("gym", "walk"), inside="test/gym"),
    Case("test/<class> alone", OWN, videos("test/gym/1.mp4"),
         [("test/gym/1.mp4", "gym", "test")], known=("gym", "walk")),
    Case("val and test alone", OWN, four("val", "test"),
         four_out("val", "test", ("val", "test")), known=("a", "b")),
    Case("known classes in a folder", OWN,
         videos("holiday/gym/1.mp4", "holiday/walk/2.mp4"),
         [("holiday/gym/1.mp4", "gym", ""), ("holiday/walk/2.mp4", "walk", "")],
         known=("gym", "walk")),
    # 49, 50: what was right, and stays so.
    Case("metadata of a Mac", "pytorch/vision 109",
         (*TWO, *videos("gym/._1.mp4", "walk/.DS_Store")), TWO_OUT),
    Case("a file twice", OWN,
         (*videos("a.mp4"), *text("manifest.csv",
                                  "file,class\na.mp4,a\na.mp4,a\n")),
         "line 3: 'a.mp4' is listed a second time"),
]  # fmt: skip


def make(root, case):
    for name, content in case.files:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name) if content is None else content)
    return root / case.inside


def listed(root, case):
    """Lists a folder as `check` does, or as `evaluate` with a model."""
    if case.known:
        Manifest.to_evaluate(root, case.known)
    else:
        Manifest.from_folder(root, val_fraction=0.0, test_fraction=0.0)
    return find_videos(root, case.known)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_folder_as_people_have_it(tmp_path, case):
    root = make(tmp_path / "data", case)
    if isinstance(case.out, str):
        with pytest.raises(DataError, match=case.out):
            listed(root, case)
        return
    found = listed(root, case)
    rows = [(v.file, v.class_name, v.split) for v in found.videos]
    assert sorted(rows) == sorted(case.out)
    assert not [v.reason for v in found.videos if v.reason]
    notes = " ".join(found.notes)
    for words in case.said:
        assert words in notes


def test_links_name_the_way_out(tmp_path):
    """51: a data set of links, as the caches of Hugging Face and DVC."""
    for name in "ab":
        cached = tmp_path / "cache" / name
        cached.parent.mkdir(exist_ok=True)
        cached.write_text(name)
        link = tmp_path / "data" / name / "1.mp4"
        link.parent.mkdir(parents=True)
        link.symlink_to(cached)
    for video in find_videos(tmp_path / "data").videos:
        assert "leads out of the folder; put the file itself" in video.reason


def test_classes_that_are_links_are_why_there_is_no_video(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.mp4").write_text(name)
        (root / name).symlink_to(tmp_path / name)
    with pytest.raises(DataError, match="folder 'a' is a link and is not foll"):
        Manifest.from_folder(root)


def test_unlabelled_videos_in_splits_are_not_mixed(tmp_path):
    for name in ("train/1.mp4", "train/2.mp4", "test/3.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    manifest = Manifest.without_labels(tmp_path, val_fraction=0.0)
    assert [(v.file, v.split) for v in manifest.videos] == [
        ("test/3.mp4", "test"),
        ("train/1.mp4", "train"),
        ("train/2.mp4", "train"),
    ]


def test_a_class_without_a_test_video_is_no_reason_to_refuse(tmp_path):
    files = videos("train/a/1.mp4", "train/b/1.mp4", "test/a/2.mp4")
    root = make(tmp_path / "data", Case("", OWN, files, []))
    assert Manifest.from_folder(root).class_names == ("a", "b")


def test_folders_of_images_need_no_classes(tmp_path):
    """To pretrain on: of one class, or of none."""
    root = tmp_path / "data"
    for name in ("one/a", "one/b/deep"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            (root / name / f"{i}.jpg").write_text(f"{name}{i}")
    manifest = Manifest.without_labels(root, val_fraction=0.0)
    assert [v.file for v in manifest.videos] == ["one/a", "one/b/deep"]
    assert any("--images-fps" in note for note in manifest.notes)
