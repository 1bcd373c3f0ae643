"""The labels of a folder: whole, durable, and merged with what others write."""

import csv
import threading

import pytest
from support.videos import draw_video

from har_keras.errors import DataError, EnvironmentFault
from har_keras.label.labels import Change, Conflict, Labels, class_name_of
from har_keras.label.rows import LabelRow
from har_keras.manifest.folders import find_videos
from har_keras.manifest.manifest import Manifest

NAMES = ('a "b".mp4', "<b>x.mp4", "😀.mp4", "עברית.mp4", "=1+1.mp4", "a,b.mp4")


@pytest.fixture
def folder(tmp_path):
    """A heap of files; the store of labels opens none of them."""
    for name in NAMES:
        (tmp_path / name).write_bytes(b"video")
    return tmp_path.resolve()


def named(labels, file, **values):
    """Changes a row as a page does that has just seen it."""
    times = (values.pop("start", None), values.pop("end", None))
    version = {row.key: row.version for row in labels.rows}
    key = (file, *times)
    labels.apply([Change(key, version.get(key, ""), values)], "ann")


def rows_on_disk(folder):
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_heap_has_no_rows_and_no_manifest(folder):
    labels = Labels(folder)
    assert labels.rows == ()
    assert not (folder / "manifest.csv").exists()


def test_every_name_comes_back(folder):
    labels = Labels(folder)
    for name in NAMES:
        named(labels, name, class_name="walk" if "a" in name else "=gym")
    again = Labels(folder)
    assert [row.file for row in again.rows] == [*NAMES]
    assert {row.labelled_by for row in again.rows} == {"ann"}
    found = {x.file: x.class_name for x in find_videos(folder).videos}
    assert found == {x.file: x.class_name for x in labels.rows}


def test_columns_are_those_of_the_manifest(folder):
    labels = Labels(folder)
    named(labels, "😀.mp4", start=1.0, end=2.5, class_name="walk", note="far")
    (row,) = rows_on_disk(folder)
    assert row == {
        "file": "😀.mp4", "class": "walk", "split": "", "group": "",
        "start": "1.0", "end": "2.5", "labelled_by": "ann", "note": "far",
    }  # fmt: skip


def test_what_is_left_out_or_waits_is_not_trained_on(folder):
    labels = Labels(folder)
    named(labels, NAMES[0], class_name="walk")
    named(labels, NAMES[1], class_name="gym", left_out=True)
    named(labels, NAMES[2], start=0.0, end=1.0)  # a part without a class
    named(labels, NAMES[3], class_name="gym")
    listing = find_videos(folder)
    assert {x.file for x in listing.videos} == {NAMES[0], NAMES[3]}
    notes = " ".join(listing.notes)
    assert "1 line of manifest.csv left out" in notes
    assert "1 line of manifest.csv without a class yet" in notes
    assert "left_out" not in dict(listing.videos[0].others)


def test_a_class_that_is_missing_elsewhere_is_still_a_slip(folder):
    (folder / "manifest.csv").write_text("file,class\n😀.mp4,\n")
    with pytest.raises(DataError, match="file or class is empty"):
        find_videos(folder)


def test_a_manifest_without_any_class_says_what_to_do(folder):
    named(Labels(folder), "😀.mp4", note="later")
    with pytest.raises(DataError, match=r"har-keras label"):
        find_videos(folder)
    assert len(Manifest.without_labels(folder).videos) == len(NAMES)


def test_labels_of_folders_are_kept_when_a_manifest_begins(tmp_path):
    for file in ("walk/1.mp4", "walk/2.mp4", "gym/1.mp4"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"video")
    labels = Labels(tmp_path.resolve())
    assert labels.origin == "folders"
    named(labels, "walk/2.mp4", class_name="gym")
    assert [(x["file"], x["class"], x["labelled_by"])
            for x in rows_on_disk(tmp_path)] == [
        ("gym/1.mp4", "gym", "folders"), ("walk/1.mp4", "walk", "folders"),
        ("walk/2.mp4", "gym", "ann"),
    ]  # fmt: skip
    assert Labels(tmp_path.resolve(), unsorted=True).rows == labels.rows
    (tmp_path / "manifest.csv").unlink()
    assert Labels(tmp_path.resolve(), unsorted=True).rows == ()


def test_other_columns_and_their_names_are_kept(folder):
    (folder / "manifest.csv").write_text(
        "path;label;camera\n😀.mp4;walk;c1\n<b>x.mp4;gym;=c2\n", "utf-8"
    )
    labels = Labels(folder)
    named(labels, "😀.mp4", class_name="gym")
    first, second = rows_on_disk(folder)
    assert [*first][:3] == ["path", "label", "camera"]
    assert (first["label"], first["camera"]) == ("gym", "c1")
    assert (second["label"], second["camera"]) == ("gym", "'=c2")
    assert dict(Labels(folder).rows[1].others) == {"camera": "=c2"}


def test_a_new_label_has_a_split_where_others_have_one(folder):
    (folder / "manifest.csv").write_text(
        "file,class,split,group\n😀.mp4,walk,test,g1\n<b>x.mp4,gym,train,\n",
        "utf-8",
    )
    labels = Labels(folder)
    named(labels, NAMES[0], class_name="walk", group="g1")
    named(labels, NAMES[3], class_name="gym")
    splits = {row.file: row.split for row in labels.rows}
    assert splits[NAMES[0]] == "test"  # as its group
    assert splits[NAMES[3]] == "train"
    assert len(find_videos(folder).videos) == 4


def test_a_row_that_someone_else_changed_is_refused_by_name(folder):
    mine, theirs = Labels(folder), Labels(folder)
    named(theirs, "😀.mp4", class_name="walk")
    with pytest.raises(Conflict, match=r"'😀\.mp4' was changed .* 'walk' now"):
        mine.apply(
            [Change(("😀.mp4", None, None), "", {"class_name": "gym"})], "bob"
        )
    assert rows_on_disk(folder)[0]["class"] == "walk"
    named(mine, "😀.mp4", class_name="gym")  # once it was seen
    assert rows_on_disk(folder)[0]["class"] == "gym"


def test_changes_of_several_rows_are_all_or_none(folder):
    labels = Labels(folder)
    named(labels, "😀.mp4", class_name="walk")
    before = (folder / "manifest.csv").read_bytes()
    changes = [
        Change(("<b>x.mp4", None, None), "", {"class_name": "gym"}),
        Change(("😀.mp4", None, None), "old", {"class_name": "gym"}),
    ]
    with pytest.raises(Conflict):
        labels.apply(changes, "ann")
    assert (folder / "manifest.csv").read_bytes() == before
    assert len(labels.rows) == 1


def test_two_writers_lose_nothing(folder):
    """Two servers label at the same time, each its own videos."""
    for number in range(40):
        (folder / f"{number}.mp4").write_bytes(b"video")
    stores = [Labels(folder), Labels(folder)]

    def work(which):
        for number in range(which, 40, 2):
            named(stores[which], f"{number}.mp4", class_name=f"c{which}")

    threads = [threading.Thread(target=work, args=[x]) for x in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {row["file"]: row["class"] for row in rows_on_disk(folder)}
    assert found == {f"{n}.mp4": f"c{n % 2}" for n in range(40)}


def test_a_change_by_hand_is_merged(folder):
    labels = Labels(folder)
    named(labels, "😀.mp4", class_name="walk")
    text = (folder / "manifest.csv").read_text("utf-8")
    line = text.splitlines()[1].replace("😀", "עברית").replace("walk", "gym")
    (folder / "manifest.csv").write_text(f"{text}{line}\n", "utf-8")
    named(labels, NAMES[0], class_name="walk")
    found = {row["file"]: row["class"] for row in rows_on_disk(folder)}
    assert found == {"😀.mp4": "walk", "עברית.mp4": "gym", NAMES[0]: "walk"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,class\n😀.mp4,walk,x\n", "line 2"),
        ("no,columns\n1,2\n", "no column 'file'"),
        ("file,class\n../x.mp4,walk\n", "lies outside"),
        (
            "file,class,start,end\n😀.mp4,a,0,2\n😀.mp4,b,1,3\n",
            r"'😀\.mp4' overlap",
        ),
        ("file,class\n😀.mp4,a\n😀.mp4,b\n", "a second time"),
        ("file,class\na\0b.mp4,a\n", "no file can have this name"),
    ],
)
def test_a_wrong_change_by_hand_is_named_and_not_written_over(
    folder, text, words
):
    labels = Labels(folder)
    named(labels, "😀.mp4", class_name="walk")
    (folder / "manifest.csv").write_text(text, "utf-8")
    labels.refresh()
    assert labels.fault
    with pytest.raises(DataError, match=words):
        named(labels, NAMES[0], class_name="walk")
    assert (folder / "manifest.csv").read_text("utf-8") == text
    (folder / "manifest.csv").write_text("file,class\n😀.mp4,run\n", "utf-8")
    labels.refresh()
    assert (labels.fault, labels.rows[0].class_name) == ("", "run")


def test_a_manifest_that_is_gone_is_named(folder):
    labels = Labels(folder)
    named(labels, "😀.mp4", class_name="walk")
    (folder / "manifest.csv").unlink()
    with pytest.raises(DataError, match="is gone"):
        named(labels, NAMES[0], class_name="walk")
    assert not (folder / "manifest.csv").exists()


def test_parts_of_a_video_do_not_overlap(folder):
    labels = Labels(folder)
    named(labels, "😀.mp4", start=0.0, end=2.0, class_name="walk")
    with pytest.raises(DataError, match="overlap"):
        named(labels, "😀.mp4", start=1.0, end=3.0)
    with pytest.raises(DataError, match="as a whole and in parts"):
        named(labels, "😀.mp4", class_name="walk")
    named(labels, "😀.mp4", start=2.0, end=3.0)
    assert [(x.start, x.end) for x in labels.rows] == [(0, 2), (2, 3)]


def test_what_says_nothing_more_is_no_row(folder):
    labels = Labels(folder)
    named(labels, "😀.mp4", class_name="walk")
    named(labels, "😀.mp4", class_name="")
    assert labels.rows == ()
    rows, gone = labels.changed_since(0)
    assert (rows, gone) == ([], [("😀.mp4", None, None)])


@pytest.mark.parametrize("name", ["", "  ", "a\x1bb", '["a"]', "x" * 101, 3])
def test_a_name_that_can_be_no_class_is_refused(name):
    with pytest.raises(DataError):
        class_name_of(name)


def test_classes_that_differ_by_case_alone_are_refused(folder):
    labels = Labels(folder)
    named(labels, "😀.mp4", class_name="Walk")
    with pytest.raises(DataError, match="upper and lower case alone"):
        named(labels, NAMES[0], class_name="walk")


def test_a_folder_that_can_not_be_written_to_says_so(folder, monkeypatch):
    labels = Labels(folder)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(EnvironmentFault, match="Nothing was changed"):
        named(labels, "😀.mp4", class_name="walk")
    assert labels.rows == ()


def test_a_version_changes_with_anything_in_a_row():
    rows = [
        LabelRow("a"), LabelRow("a", "b"), LabelRow("a", note="b"),
        LabelRow("a", group="b"), LabelRow("a", left_out=True),
        LabelRow("a", start=0.0), LabelRow("a", end=0.0),
    ]  # fmt: skip
    assert len({row.version for row in rows}) == len(rows)


def test_the_manifest_trains(tmp_path):
    """What is written is read by the readers of training."""
    root = tmp_path.resolve()
    for number in range(3):
        draw_video(root / f"{number}.mp4", num_frames=16)
    labels = Labels(root)
    named(labels, "0.mp4", start=0.0, end=0.5, class_name="up")
    named(labels, "0.mp4", start=0.5, end=1.0, class_name="down")
    named(labels, "1.mp4", class_name="up", group="g")
    manifest = Manifest.from_folder(root)
    assert manifest.class_names == ("down", "up")
    assert len(manifest.videos) == 3
