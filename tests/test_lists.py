import os

import pytest

from har_keras.errors import DataError
from har_keras.manifest.folders import find_videos
from har_keras.manifest.formats import document
from har_keras.manifest.manifest import Manifest

CLASSES = "gym\nwalk\n"


def folder(root, files, **texts):
    """Makes files that differ in content, and texts by `name_ending`."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(file))
    for name, text in texts.items():
        stem, _, ending = name.rpartition("_")
        (root / f"{stem}.{ending}").write_text(text)
    return root


def rows(manifest):
    return [(v.file, v.class_name, v.split) for v in manifest.videos]


def test_lists_as_mmaction2_has_them(tmp_path):
    # Videos in folders of their own, as its data preparation leaves them.
    root = folder(
        tmp_path,
        ["videos_train/a.mp4", "videos_train/b b.mp4", "videos_val/c.mp4"],
        train_txt="a.mp4 0\nb b.mp4 1\n",
        val_txt="c.mp4 1\n",
        label_map_k2_txt="reading a book\nwalking the dog\n",
    )
    manifest = Manifest.from_folder(root, test_fraction=0.0)
    assert rows(manifest) == [
        ("videos_train/a.mp4", "reading a book", "train"),
        ("videos_train/b b.mp4", "walking the dog", "train"),
        ("videos_val/c.mp4", "walking the dog", "val"),
    ]
    notes = " ".join(manifest.notes)
    assert "Listed in train.txt, val.txt." in notes
    assert "Paths of the val list start from videos_val/." in notes
    assert "label_map_k2.txt" in notes


@pytest.mark.parametrize("apart", [" ", ",", ", ", "\t"])
def test_lists_as_pyslowfast_has_them(tmp_path, apart):
    files = ["a.mp4", "deep/b.mp4", "c.mp4"]
    root = folder(tmp_path, files)
    lines = [f"{root / file}{apart}{i % 2}" for i, file in enumerate(files)]
    folder(root, [], train_csv="\n".join(lines[:2]), test_csv=lines[2])
    manifest = Manifest.from_folder(root, val_fraction=0.0)
    assert rows(manifest) == [
        ("a.mp4", "0", "train"),
        ("c.mp4", "0", "test"),
        ("deep/b.mp4", "1", "train"),
    ]


def test_lists_as_ucf101_has_them(tmp_path):
    root = folder(
        tmp_path,
        [f"Walk/v_Walk_g0{g}_c01.avi" for g in (1, 2)]
        + [f"Gym/v_Gym_g0{g}_c01.avi" for g in (1, 2)],
        train_txt="Gym/v_Gym_g01_c01.avi 1\r\nWalk/v_Walk_g01_c01.avi 2\r\n",
        test_txt="Gym/v_Gym_g02_c01.avi\r\nWalk/v_Walk_g02_c01.avi\r\n",
        classInd_txt="1 Gym\r\n2 Walk\r\n",
    )
    manifest = Manifest.from_folder(root, val_fraction=0.0)
    assert rows(manifest) == [
        ("Gym/v_Gym_g01_c01.avi", "Gym", "train"),
        ("Gym/v_Gym_g02_c01.avi", "Gym", "test"),
        ("Walk/v_Walk_g01_c01.avi", "Walk", "train"),
        ("Walk/v_Walk_g02_c01.avi", "Walk", "test"),
    ]
    groups = {video.file: video.group for video in manifest.videos}
    assert groups["Gym/v_Gym_g01_c01.avi"] == "v_Gym_g01"


def test_labels_may_be_words_and_a_header_is_skipped(tmp_path):
    root = folder(
        tmp_path,
        ["a.mp4", "b, c.mp4"],
        train_csv='path,label\n"a.mp4",clean and jerk\nb, c.mp4,walk\n',
    )
    manifest = Manifest.from_folder(root, val_fraction=0, test_fraction=0)
    assert rows(manifest) == [
        ("a.mp4", "clean and jerk", "train"),
        ("b, c.mp4", "walk", "train"),
    ]


@pytest.mark.parametrize(
    "lines",
    [
        "label,path\nwalk,w/a.mp4\ngym,g/b.mp4\n",
        "video_name,tag\nw/a,walk\nb,gym\n",
        '# mine\n"file";"class"\nw/a.mp4;walk\ng/b.mp4;gym\n',
        "file\tclass\nw/a.mp4\twalk\ng/b.mp4\tgym\n",
        "path label\nw/a.mp4 walk\ng/b.mp4 gym\n",
    ],
)
def test_two_columns_may_have_names(tmp_path, lines):
    root = folder(tmp_path, ["w/a.mp4", "g/b.mp4"], train_csv=lines)
    found = Manifest.from_folder(root, val_fraction=0, test_fraction=0)
    assert rows(found) == [
        ("g/b.mp4", "gym", "train"), ("w/a.mp4", "walk", "train"),
    ]  # fmt: skip


def test_the_split_of_eval_is_told_by_the_names_beside_it(tmp_path):
    names = ("train", "eval", "test")
    lists = {f"{name}_txt": f"{name}.mp4 0" for name in names}
    root = folder(tmp_path, [f"{name}.mp4" for name in names], **lists)
    splits = {v.file: v.split for v in find_videos(root).videos}
    assert splits["eval.mp4"] == "val"
    (root / "test.txt").unlink()
    splits = {v.file: v.split for v in find_videos(root).videos}
    assert splits == {"train.mp4": "train", "eval.mp4": "test"}


def test_the_split_of_eval_is_told_by_the_folders_beside_it(tmp_path):
    files = [f"{name}/{name}.mp4" for name in ("train", "eval", "test")]
    lines = "".join(f"{file},walk\n" for file in files)
    root = folder(tmp_path, files, manifest_csv=f"file,class\n{lines}")
    splits = {v.file: v.split for v in find_videos(root).videos}
    assert splits["eval/eval.mp4"] == "val"


def test_a_line_with_a_cell_too_many_hides_no_table(tmp_path):
    root = folder(
        tmp_path,
        ["walk/a.mp4", "gym/b.mp4"],
        metadata_csv="file_name,label\nwalk/a.mp4,walk,left\ngym/b.mp4,gym\n",
    )
    with pytest.raises(DataError, match="line 2: it has 3 cells"):
        Manifest.from_folder(root)


def test_every_text_is_read_once(tmp_path, monkeypatch):
    files = ["a.mp4", "b.mp4"]
    root = folder(
        tmp_path, files, train_csv="path,label\na.mp4,x\n",
        test_csv="path,label\nb.mp4,y\n", notes_csv="who,what\n1,2\n",
    )  # fmt: skip
    read, read_text = [], document.read_text
    monkeypatch.setattr(
        document, "read_text", lambda path: read.append(path) or read_text(path)
    )
    find_videos(root)
    names = sorted(path.name for path in read)
    assert names == ["notes.csv", "test.csv", "train.csv"]


def test_missing_splits_are_cut_from_the_training_list(tmp_path):
    files = [f"{i}.mp4" for i in range(40)]
    lines = [f"{file} {i % 2}" for i, file in enumerate(files)]
    root = folder(tmp_path, files, train_txt="\n".join(lines))
    splits = {video.split for video in Manifest.from_folder(root).videos}
    assert splits == {"train", "val", "test"}


def test_a_listed_file_that_is_missing_is_kept_with_the_reason(tmp_path):
    root = folder(tmp_path, ["a.mp4"], train_txt="a.mp4 0\nb.mp4 1\n")
    videos = Manifest.from_folder(root, val_fraction=0, test_fraction=0).videos
    assert [video.reason for video in videos] == ["", "the file is missing"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.mp4 0\nb.mp4 2\n", ["line 2", "class '2'", "0 to 1"]),
        ("a.mp4 0\na.mp4 1\n", ["line 2", "second time"]),
        ("a.mp4 0\nb.mp4 300 1\n", ["line 2", "number of frames"]),
        ("a.mp4 0\nframes/b 300 1 0\n", ["line 2", "several labels"]),
        ("a.mp4 0\nframes/a 1\n", ["line 2", "expected the path"]),
        ("a.mp4 0\nb.mp4\n", ["line 2", "no label"]),
        ("a.mp4 0\n../b.mp4 1\n", ["line 2", "lies outside"]),
        ("a.mp4 0\n/etc/b.mp4 1\n", ["line 2", "lies outside"]),
        ("a.mp4 0\nb\0.mp4 1\n", ["line 2", "expected the path"]),
        # In no time, though every blank may begin what follows the path.
        (f"a.mp4 0\na{' ' * 80_000}b\n", ["line 2", "expected the path"]),
        (f"a.mp4 0\n{'1 ' * 40_000}x\n", ["line 2", "expected the path"]),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, words):
    root = folder(tmp_path, ["a.mp4"], train_txt=text, classes_txt=CLASSES)
    with pytest.raises(DataError) as error:
        Manifest.from_folder(root)
    for word in ["train.txt", *words]:
        assert word in str(error.value)


def test_numbers_and_folders_do_not_mix(tmp_path):
    root = folder(
        tmp_path,
        ["gym/a.mp4"],
        train_txt="gym/a.mp4 1\n",
        test_txt="# the test\n\ngym/b.mp4\n",
    )
    with pytest.raises(DataError, match=r"test\.txt', line 3.*classInd\.txt"):
        Manifest.from_folder(root)


def test_a_link_that_leads_out_is_refused_by_name(tmp_path):
    outside = folder(tmp_path / "outside", ["a.mp4"])
    root = folder(tmp_path / "root", ["b.mp4"], train_txt="a.mp4 0\nb.mp4 1\n")
    (root / "a.mp4").symlink_to(outside / "a.mp4")
    videos = Manifest.from_folder(root, val_fraction=0, test_fraction=0).videos
    assert "leads out" in videos[0].reason
    assert videos[0].sha256 == ""


def test_a_manifest_comes_before_lists(tmp_path):
    root = folder(
        tmp_path,
        ["a.mp4", "b.mp4"],
        manifest_csv="file,class\na.mp4,gym\nb.mp4,walk\n",
        train_txt="not a list",
    )
    manifest = Manifest.from_folder(root, val_fraction=0, test_fraction=0)
    assert manifest.class_names == ("gym", "walk")


def test_check_reads_lists(video_folder, tmp_path):
    from har_keras.check import check
    from har_keras.config import Config

    videos = sorted(video_folder.rglob("*.mp4"))
    for video in videos:
        os.link(video, tmp_path / video.name)
    lines = [f"{v.name} {int(v.parent.name == 'up')}" for v in videos]
    folder(tmp_path, [], train_txt="\n".join(lines), classes_txt="down\nup\n")
    config = Config().replace(crop_size=32, store_dir=tmp_path / "store")
    report = check(tmp_path, None, config)
    assert report.manifest.class_names == ("down", "up")
    assert not report.manifest.failed
