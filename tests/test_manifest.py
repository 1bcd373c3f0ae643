import csv
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from har_keras.errors import DataError, UsageError
from har_keras.manifest.groups import (
    group_by_names,
    join_groups,
    split_groups,
)
from har_keras.manifest.manifest import Manifest, Video


def touch(root, *files):
    """Makes files that differ in content, by name."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(file))
    return root


def found(root, **options):
    return Manifest.from_folder(root, **options)


def by_file(manifest):
    return {video.file: video for video in manifest.videos}


def test_class_folders_of_any_depth(tmp_path):
    touch(tmp_path, "b/1.mp4", "b/x/2.AVI", "a/3.mkv", "a/4.txt", "5.mp4")
    manifest = found(tmp_path)
    assert manifest.class_names == ("a", "b")
    assert list(by_file(manifest)) == ["a/3.mkv", "b/1.mp4", "b/x/2.AVI"]
    assert [manifest.label(video) for video in manifest.videos] == [0, 1, 1]
    notes = " ".join(manifest.notes)
    assert "1 .txt" in notes
    assert "'5.mp4'" in notes


def test_split_folders(tmp_path):
    touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "valid/a/3.mp4")
    touch(tmp_path, "test/b/4.mp4")
    manifest = found(tmp_path)
    assert manifest.class_names == ("a", "b")
    splits = {video.file: video.split for video in manifest.videos}
    assert splits == {
        "train/a/1.mp4": "train",
        "train/b/2.mp4": "train",
        "valid/a/3.mp4": "val",
        "test/b/4.mp4": "test",
    }


def test_a_split_name_is_a_class_in_a_table_only(tmp_path):
    touch(tmp_path, "train/1.mp4", "plane/2.mp4")
    with pytest.raises(DataError, match=r"'train'.*not of a class.*manifest"):
        found(tmp_path)
    (tmp_path / "manifest.csv").write_text(
        "file,class\ntrain/1.mp4,train\nplane/2.mp4,plane\n"
    )
    assert found(tmp_path).class_names == ("plane", "train")


def test_only_val_is_cut_where_only_val_is_missing(tmp_path):
    for name in "ab":
        touch(tmp_path, *(f"train/{name}/{i}x.mp4" for i in range(20)))
        touch(tmp_path, f"test/{name}/t.mp4")
    manifest = found(tmp_path, val_fraction=0.2)
    counts = Counter((v.split, v.class_name) for v in manifest.videos)
    assert counts["val", "a"] == counts["val", "b"] == 4
    assert counts["test", "a"] == counts["test", "b"] == 1


def write_csv(root, text, *files):
    touch(root, *(files or ("1.mp4", "2.mp4")))
    (root / "manifest.csv").write_text(text, "utf-8")
    return root


def test_a_manifest_comes_before_folders_and_keeps_other_columns(tmp_path):
    touch(tmp_path, "c/9.mp4")
    write_csv(
        tmp_path,
        "camera,Class,file,split,group\nfront,a,1.mp4,train,g\n"
        "back,b,2.mp4,validation,g\nback,b,3.mp4,train,h\n",
        "1.mp4",
        "2.mp4",
        "3.mp4",
    )
    manifest = found(tmp_path, test_fraction=0)
    first, second, _ = manifest.videos
    assert (first.class_name, first.split, first.group) == ("a", "train", "g")
    assert (second.split, second.others) == ("val", (("camera", "back"),))
    manifest.write(tmp_path / "run.csv")
    assert Manifest.read(tmp_path / "run.csv") == manifest


@pytest.mark.parametrize("text", [
    "file;class\n1.mp4;a\n2.mp4;b\n",
    "\ufefffile,class\r\n1.mp4,a\r\n2.mp4,b\r\n",
    "file\tclass\n1.mp4\ta\n./2.mp4\tb\n",
])  # fmt: skip
def test_tables_as_spreadsheets_save_them(tmp_path, text):
    manifest = found(write_csv(tmp_path, text))
    assert list(by_file(manifest)) == ["1.mp4", "2.mp4"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one,class\n1.mp4,a\n", "no column 'file'"),
        ("file,class\n1.mp4,a\n,b\n", "line 3: file or class is empty"),
        ("file,class\n1.mp4,a\n../2.mp4,b\n", "line 3.*lies outside"),
        ("file,class\n1.mp4,a\n/etc/passwd,b\n", "line 3.*lies outside"),
        ("file,class\n1.mp4,a\n1.mp4,b\n", "line 3.*second time"),
        ("file,class,split\n1.mp4,a,both\n", "line 2.*train, val or test"),
        ("file,class,split\n1.mp4,a,train\n2.mp4,b,\n", "line 3.*is empty"),
        pytest.param('"' * 300_000, "line 1.*not a line of a table", id="cell"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        found(write_csv(tmp_path, text))


def test_a_text_is_no_name_of_a_class(tmp_path):
    text = f"file,class\n1.mp4,{'x' * 1001}\n2.mp4,b\n"
    with pytest.raises(DataError, match="a name of 1001 characters"):
        found(write_csv(tmp_path, text))


def test_more_classes_than_anyone_has_are_refused(tmp_path):
    rows = "".join(f"{n}.mp4,class {n}\n" for n in range(10_001))
    with pytest.raises(DataError, match="10001 classes, such as 'class 0'"):
        found(write_csv(tmp_path, f"file,class\n{rows}"))


def test_a_listed_file_that_is_missing_stays_in_the_list(tmp_path):
    text = "file,class\n1.mp4,a\n2.mp4,b\nnone.mp4,b\n"
    video = by_file(found(write_csv(tmp_path, text)))["none.mp4"]
    assert (video.reason, video.sha256) == ("the file is missing", "")


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ([], DataError, "no video"),
        (["a/1.txt"], DataError, "no video"),
        (["1.mp4", "2.mp4"], DataError, "no video"),
        (["a/1.mp4", "a/2.mp4"], DataError, "one class, 'a'"),
    ],
)
def test_folders_that_cannot_be_learned_from(tmp_path, files, error, words):
    with pytest.raises(error, match=words):
        found(touch(tmp_path, *files))


def test_a_path_that_is_no_folder(tmp_path):
    with pytest.raises(UsageError, match="There is no folder"):
        found(tmp_path / "none")
    touch(tmp_path, "a.mp4")
    with pytest.raises(UsageError, match="is a file"):
        found(tmp_path / "a.mp4")


def test_links_that_lead_out_are_refused_by_name(tmp_path):
    root, outside = tmp_path / "in", tmp_path / "out"
    touch(outside, "c/secret.mp4")
    touch(root, "a/1.mp4", "b/2.mp4")
    (root / "a/out.mp4").symlink_to(outside / "c/secret.mp4")
    (root / "a/in.mp4").symlink_to(root / "b/2.mp4")
    (root / "c").symlink_to(outside / "c")
    manifest = found(root)
    videos = by_file(manifest)
    assert "leads out" in videos["a/out.mp4"].reason
    assert videos["a/out.mp4"].sha256 == ""
    assert videos["a/in.mp4"].reason == ""
    assert manifest.class_names == ("a", "b")
    assert any("'c' is a link" in note for note in manifest.notes)


def test_a_listed_file_in_a_linked_folder_is_refused(tmp_path):
    root, outside = tmp_path / "in", tmp_path / "out"
    touch(outside, "secret.mp4")
    root.mkdir()
    (root / "link").symlink_to(outside)
    text = "file,class\n1.mp4,a\n2.mp4,b\nlink/secret.mp4,a\n"
    video = by_file(found(write_csv(root, text)))["link/secret.mp4"]
    assert "leads out" in video.reason


ODD_NAMES = (
    "a b.mp4", "quote'\"s.mp4", "new\nline.mp4", "-dash.mp4", "=1+1.mp4",
    "'-quoted.mp4", "comma,semi;.mp4", "\r.mp4", "ü.mp4",
    os.fsdecode(b"\xff\xfe.mp4"),
)  # fmt: skip


def test_any_name_survives_the_table(tmp_path):
    touch(tmp_path / "in", *(f"=a/{name}" for name in ODD_NAMES), "@b/2.mp4")
    manifest = found(tmp_path / "in")
    assert len(manifest.videos) == len(ODD_NAMES) + 1
    manifest.write(tmp_path / "run.csv")
    again = Manifest.read(tmp_path / "run.csv")
    assert again == manifest
    assert all(again.path(video).is_file() for video in again.videos)
    with (tmp_path / "run.csv").open(
        encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "-", "+", "@")]


def test_a_moved_folder_can_be_named(tmp_path):
    manifest = Manifest(
        Path("/old"), ("a",), (Video("1.mp4", "a", "test", ""),)
    )
    manifest.write(tmp_path / "run.csv")
    again = Manifest.read(tmp_path / "run.csv", root=Path("/new"))
    assert again.path(again.videos[0]) == Path("/new/1.mp4")


@pytest.mark.parametrize("text", ["", "file,class\n", "file,class\n1,2\n"])
def test_what_is_no_manifest_of_a_run(tmp_path, text):
    (tmp_path / "run.csv").write_text(text)
    with pytest.raises(DataError, match="not the manifest of a run"):
        Manifest.read(tmp_path / "run.csv")


def test_usable_videos_are_those_with_frames():
    good = Video("1.mp4", "a", "test", "", kept_frames=9)
    bad = Video("2.mp4", "a", "test", "", reason="empty file")
    manifest = Manifest(Path("."), ("a",), (good, bad))
    assert manifest.split("test") == (good, bad)
    assert manifest.usable("test") == (good,)
    assert manifest.failed == (bad,)


def test_the_same_content_is_one_group(tmp_path):
    touch(tmp_path, "a/one.mp4", "a/two.mp4", "b/three.mp4")
    shutil.copy(tmp_path / "a/one.mp4", tmp_path / "b/copy.mp4")
    videos = by_file(found(tmp_path))
    assert videos["a/one.mp4"].group == videos["b/copy.mp4"].group
    assert videos["a/one.mp4"].split == videos["b/copy.mp4"].split
    assert videos["a/two.mp4"].group != videos["b/three.mp4"].group


@pytest.mark.parametrize(
    ("names", "groups", "rule"),
    [
        (["v_A_g01_c01", "v_A_g01_c02", "v_B_g01_c01"],
         ["v_A_g01", "v_A_g01", "v_B_g01"], "UCF101"),
        (["person01_walking_d1", "person01_boxing_d2", "person12_x_d1"],
         ["person01", "person01", "person12"], "'person' and number"),
        (["xy-0331-seg00", "xy-0331-seg01-rot90", "z-seg00"],
         ["xy-0331", "xy-0331", "z"], "seg01"),
        ([f"tape{t}-clip{c}" for t in range(6) for c in (1, 2)],
         [f"tape{t:02}" for t in range(6) for _ in (1, 2)], "'tape' and"),
        ([f"squat_{i}" for i in range(8)], None, "each file by itself"),
        (["one", "two"], None, "each file by itself"),
    ],
)  # fmt: skip
def test_groups_are_guessed_from_names(names, groups, rule):
    files = [f"a/{name}.mp4" for name in names]
    guessed = group_by_names([(file, "a") for file in files])
    assert list(guessed.groups) == (groups or files)
    assert rule in guessed.rule


def test_groups_with_a_common_key_are_joined():
    groups = join_groups(["a", "b", "c", "d"], ["1", "2", "2", "1"])
    assert groups == ["a", "b", "b", "a"]
    assert (
        len(set(join_groups(["a", "b", "a", "c"], ["1", "1", "2", "2"]))) == 1
    )


def example_groups():
    """200 videos of 3 uneven classes in groups of 1 to 5; some in two."""
    names, groups = [], []
    for i in range(200):
        names.append("abc"[0 if i < 110 else 1 if i < 170 else 2])
        groups.append(f"g{i % 61}" if i % 7 == 0 else f"g{i // 4}-x")
    return groups, names


@pytest.mark.parametrize("seed", range(5))
def test_splits_keep_groups_whole_and_classes_in_proportion(seed):
    groups, names = example_groups()
    fractions = {"val": 0.15, "test": 0.15}
    splits = split_groups(groups, names, fractions, seed=seed)
    assert splits == split_groups(groups, names, fractions, seed=seed)
    of_group = {}
    for group, split in zip(groups, splits, strict=True):
        assert of_group.setdefault(group, split) == split
    counts = Counter(zip(names, splits, strict=True))
    for name, total in Counter(names).items():
        for split in fractions:
            assert abs(counts[name, split] - 0.15 * total) <= 4


def test_another_seed_gives_another_division():
    groups, names = example_groups()
    first, second = (
        split_groups(groups, names, {"test": 0.3}, seed=seed) for seed in (0, 1)
    )
    assert first != second


def test_three_groups_of_a_class_reach_all_three_splits():
    names = ["a"] * 3 + ["b"] * 50
    groups = [str(i) for i in range(53)]
    splits = split_groups(groups, names, {"val": 0.1, "test": 0.1}, seed=0)
    assert sorted(splits[:3]) == ["test", "train", "val"]


def test_files_without_content_take_no_place_in_the_splits(tmp_path):
    for name in ("gym", "walk"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"good{number}.mp4").write_text(
                f"{name}{number}"
            )
    for number in range(40):
        (tmp_path / "gym" / f"empty{number}.mp4").touch()
    videos = Manifest.from_folder(
        tmp_path, val_fraction=0.2, test_fraction=0.2
    ).videos
    for name in ("gym", "walk"):
        splits = [
            video.split
            for video in videos
            if video.file.startswith(f"{name}/good")
        ]
        assert sorted(splits) == ["test", "train", "val"]


def test_a_class_of_one_group_is_trained_on():
    groups = ["only"] * 4 + [str(i) for i in range(20)]
    splits = split_groups(
        groups, ["a"] * 4 + ["b"] * 20, {"val": 0.15, "test": 0.15}, seed=0
    )
    assert splits[:4] == ["train"] * 4


def test_a_class_folder_without_videos_is_said(video_folder, tmp_path):
    shutil.copytree(video_folder, tmp_path / "v")
    (tmp_path / "v" / "sideways").mkdir()
    manifest = Manifest.from_folder(tmp_path / "v")
    assert manifest.class_names == ("down", "up")
    assert any("No video in 'sideways'" in note for note in manifest.notes)
