"""Groups: from names, as the user chooses them, and by look."""

import random
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from support.videos import scene

from har_keras.config import ClipConfig, StoreConfig
from har_keras.errors import UsageError
from har_keras.manifest import groups
from har_keras.manifest.division import (
    Division,
    grouping_of,
    has_known_group,
)
from har_keras.manifest.entries import FoundVideo
from har_keras.manifest.groups import (
    BY_ITSELF,
    group_by_names,
    merge_groups,
    split_groups,
)
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store import scenes
from har_keras.store.preparation import decode_all
from har_keras.store.scenes import find_scenes, group_by_look, group_warnings

CLASSES = ("squat", "walk", "work")
PEOPLE = "alice bob carl dora emil fred gina hans".split()
ROOMS = "kitchen hall office garden lab yard roof".split()
RANDOM = random.Random(0)
IDS = ["".join(RANDOM.choices("abcXYZ0189-_kq", k=11)) for _ in range(36)]
UUIDS = [str(uuid.UUID(int=RANDOM.getrandbits(128))) for _ in range(12)]

# A name by class, source and number; sources; how many of each source.
SCHEMES = {
    "p01_clip1": ("{c}/p{s:02}_clip{k}", range(10), 5),
    "walk_p01_1": ("{c}/{c}_p{s:02}_{k}", range(10), 5),
    "cam1_p01": ("{c}/cam{k}_p{s:02}", range(25), 2),
    "NTU": ("{c}/S001C00{k}P{s:03}R001A001", range(1, 10), 3),
    "KTH": ("{c}/person{s:02}_{c}ing_d{k}_uncomp", range(1, 26), 4),
    "UTD": ("{c}/a1_s{s}_t{k}_color", range(1, 9), 4),
    "signer": ("{c}/signer{s}_sample{k}", range(8), 5),
    "joined words": ("{c}/Subject{s}Activity1Trial{k}Camera2", range(9), 3),
    "sub-01_ses-1": ("{c}/sub-{s:02}_ses-{k}", range(1, 9), 3),
    "letter of group": ("{c}/HC{s:02}-{k}", range(1, 9), 3),
    "names": ("{c}/{s}_{k}", PEOPLE, 5),
    "class, name": ("{c}/{c}_{s}_{k}", PEOPLE, 5),
    "CamelCase": ("{c}/{s}{C}{k:02}", PEOPLE, 5),
    "number, name": ("{c}/000{k}_{s}", PEOPLE, 5),
    "Weizmann": ("{c}/{s}_{c}", PEOPLE, 1),
    "folder": ("{c}/subj{s:02}/take{k}", range(8), 5),
    "folder of names": ("train/{c}/{s}/{k}", PEOPLE, 5),
    "folder of numbers": ("{c}/{s}/{k:04}", range(1, 9), 5),
    "recording01a": ("{c}/recording{s:02}{k:c}", range(10), 3),
    "session, take": ("{c}/session{s}-take{k}", range(6), 6),
    "number pairs": ("{c}/{s:02}_{k:02}", range(10), 5),
    "date": ("{c}/2024{s:02}01_12{k:02}01", range(1, 9), 5),
    "date with dashes": ("{c}/2024-01-0{s}_12-0{k}-01", range(1, 9), 5),
    "phone": ("{c}/VID_2024{s:02}01_12{k:02}01", range(1, 9), 5),
    "Pixel": ("{c}/PXL_2024{s:02}02_1{k}3456789", range(1, 9), 4),
    "WhatsApp": ("{c}/WhatsApp Video 2024-0{s}-02 at 1{k}.34", range(1, 9), 5),
    "drone": ("{c}/DJI_20240{s}021{k}3456_000{k}_D", range(1, 9), 5),
    "dashcam": ("{c}/FILE24010{s}-12{k}456F", range(1, 9), 4),
    "surveillance": ("{c}/ch01_2024010{s}1{k}0000_2024010{s}1{k}1500",
                     range(1, 9), 4),
    "GoPro": ("{c}/GX{k:02}{s:04}", range(12), 3),
    "Kinetics": ("{c}/{s}_0000{k}0_0000{k}5", IDS[:12], 3),
    "ID and number": ("{c}/{s}_{k:05}", IDS[12:24], 3),
    "ActivityNet": ("{c}/v_{s}_{k}.0_{k}.5", IDS[24:], 3),
    "UUID": ("{c}/{s}_{k}", UUIDS, 3),
    "stock author": ("{c}/pexels-{s}-9{k}123", PEOPLE, 5),
    "rooms": ("{c}/{s}_{k:02}", ROOMS, 5),
    "HMDB51": ("{c}/{s}_{c}_u_cm_np1_fr_med_{k}", PEOPLE, 4),
}  # fmt: skip


def guess_groups(files):
    found = group_by_names(files)
    return list(found.groups), found.rule


def listed(pattern, sources, number):
    """Returns files with their class, and the true source of each."""
    files, truth = [], []
    for c in CLASSES:
        for s in sources:
            for k in range(1, number + 1):
                letter = ord("a") + k if ":c}" in pattern else k
                name = pattern.format(c=c, C=c.title(), s=s, k=letter)
                files.append((f"{name}.mp4", c))
                truth.append(str(s))
    return files, truth


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_source_is_in_training_and_test(scheme):
    files, truth = listed(*SCHEMES[scheme])
    groups, how = guess_groups(files)
    assert BY_ITSELF not in how
    class_names = [name for _, name in files]
    fractions = {"val": 0.15, "test": 0.15}
    splits = split_groups(groups, class_names, fractions, seed=0)
    of_split = {
        split: {s for s, at in zip(truth, splits, strict=True) if at == split}
        for split in ("train", "test")
    }
    assert of_split["test"]
    assert not of_split["train"] & of_split["test"]
    # No coarser than it has to be: every class reaches every split.
    assert {*zip(class_names, splits, strict=True)} == {
        (name, split) for name in CLASSES for split in ("train", "val", "test")
    }


@pytest.mark.parametrize(
    "pattern",
    [
        "{c}/{k}", "{c}/img_{k:04}", "{c}/{c}{k}", "{c}/{c} ({k})",
        "{c}/DJI_{k:04}", "{c}/cam1/{c}{k:04}", "{c}/1{k:02}4567",
        "{c}/1{k:02}4567-hd_1920_1080_25fps", "{c}/{c}_{k:02}_720p",
    ],
)  # fmt: skip
def test_running_numbers_are_no_sources(pattern):
    files, _ = listed(pattern, ["all"], 40)
    groups, how = guess_groups(files)
    assert groups == [file for file, _ in files]
    assert how == BY_ITSELF


def test_views_are_no_sources():
    files = [
        (f"{c}/{view}_{k}.mp4", c)
        for c in CLASSES
        for view in ("front", "back", "left", "right")
        for k in range(10)
    ]
    assert guess_groups(files)[1] == BY_ITSELF


def test_each_class_is_decided_by_itself():
    files, _ = listed("{c}/p{s:02}_clip{k}", range(10), 5)
    few = [file for file in files if file[1] != "work" or file[0] < "work/p04"]
    one = [file for file in files if file[1] != "work"]
    one += [(f"work/rec1_clip{k}.mp4", "work") for k in range(40)]
    assert "by itself" not in guess_groups(few)[1]
    groups, how = guess_groups(one)
    assert how == (
        "'p' and number (person) in squat, walk; 'rec' and number (recording) "
        "in work"
    )
    assert len(set(groups)) == 11


def test_one_source_a_class_is_no_split():
    files = [
        (f"{c}/{c}film-seg{k:02}.mp4", c) for c in CLASSES for k in range(9)
    ]
    assert guess_groups(files)[1] == BY_ITSELF


def test_copies_by_name_are_one_group():
    names = ("v1", "v1 - Copy", "v1 - Copy (2)", "v1_edited", "IMG_0007",
             "IMG_E0007", "w (1)", "w (2)")  # fmt: skip
    groups, _ = guess_groups([(f"a/{name}.mp4", "a") for name in names])
    assert groups[:4] == ["a/v1.mp4"] * 4
    assert groups[4] == groups[5]
    assert groups[6] != groups[7]


def test_the_table_says_what_was_seen():
    files, _ = listed("{c}/p{s:02}_{k}", range(4), 5)
    rows = group_by_names(files).rows
    assert [row.class_name for row in rows] == list(CLASSES)
    first = rows[0]
    assert (first.meaning, first.example, first.videos) == ("person", "p00", 20)
    assert (first.groups, first.largest) == (4, 5)


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("file", ["w/ann/a-1-x.mp4", "w/ann/b-1-y.mp4", "w/bob/c-2-x.mp4"]),
        ("folder", ["ann", "ann", "bob"]),
        ("2", ["1", "1", "2"]),
        ("-1", ["x", "y", "x"]),
        ("^[ab]", ["a", "b", "w/bob/c-2-x.mp4"]),
        (r"/(\w)\w+/", ["a", "a", "b"]),
    ],
)
def test_groups_are_what_the_user_says(group_by, groups):
    names = ("ann/a-1-x", "ann/b-1-y", "bob/c-2-x")
    files = [(f"w/{name}.mp4", "w") for name in names]
    assert list(group_by_names(files, group_by).groups) == groups


@pytest.mark.parametrize(
    ("group_by", "message"),
    [("person(", "no regular expression"), ("xyz", r"matches none of the 1 n")],
)
def test_what_matches_nothing_is_refused(group_by, message):
    with pytest.raises(UsageError, match=message):
        group_by_names([("w/a.mp4", "w")], group_by)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(.*)(.*)(.*)(.*)(.*)(.*)b{9}$"])
def test_an_endless_expression_is_refused(pattern, monkeypatch):
    monkeypatch.setattr(groups, "_MATCHING_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(UsageError, match="with the 2 names within"):
        group_by_names(
            [("w/" + 200 * "a" + f"{x}!.mp4", "w") for x in "bc"], pattern
        )
    assert time.monotonic() - began < 5


def test_groups_are_merged_through_others():
    pairs = [("a", "b"), ("b", "c"), ("e", "d")]
    assert merge_groups(list("abcdef"), pairs) == list("aaaeef")


def test_a_class_that_is_not_tested_is_said():
    videos = [Video(f"a/{k}", "a", "train", "one") for k in range(4)]
    videos += [
        Video(f"b/{k}", "b", split, str(k))
        for k, split in enumerate(("train", "val", "test"))
    ]
    (warning,) = Division(fractions={"val": 0.2}).warnings(videos)
    assert "'a' has no val or test video and is not tested" in warning
    assert "4 videos in 1 group" in warning
    (warning,) = Division().warnings(videos)
    assert "group" not in warning


def test_what_is_by_itself_is_not_known_however_many_parts_are_labelled():
    one, two = Video("1", "a", "test", "1"), Video("2", "a", "test", "ann")
    copy = Video("3", "a", "train", "1")
    assert has_known_group([one, two], [one, two]) == [False, True]
    assert has_known_group([one, two, copy], [one]) == [True]
    parts = [
        Video("1", "a", "test", "1", start=x, end=x + 1.0) for x in (0.0, 2.0)
    ]
    assert has_known_group(parts, parts) == [False, False]
    (warning,) = group_warnings(Manifest(Path(), ("a",), tuple(parts)))
    assert "of 1 of 1 test videos nothing tells" in warning


@pytest.mark.parametrize("group_by", ["auto", "1", "^(p..)"])
def test_a_file_is_one_name_and_one_group_however_many_parts(group_by):
    videos = [
        FoundVideo(f"p{s:02}_{k}.mp4", name, start=2.0 * i, end=2.0 * i + 2)
        for s in range(6)
        for k in range(2)
        for i, name in enumerate(("walk", "sit", "walk"))
    ]
    found = grouping_of(videos, group_by)
    persons = [video.file[:3] for video in videos]
    pairs = {*zip(found.groups, persons, strict=True)}
    assert len(found.groups) == 36
    assert len(pairs) == len({*persons}) == 6
    assert [(row.class_name, row.videos) for row in found.rows] == [
        ("walk", 12)
    ]


def test_parts_of_a_file_are_one_group_whatever_is_given():
    names = ("ann", "bob", "", "ann")
    files = ("1.mp4", "1.mp4", "2.mp4", "3.mp4")
    videos = [
        FoundVideo(
            file, "walk", group=name, start=float(i), is_group_chosen=True
        )
        for i, (file, name) in enumerate(zip(files, names, strict=True))
    ]
    found = grouping_of(videos, "auto")
    assert found.groups == ("ann", "ann", "2.mp4", "ann")
    assert found.is_chosen


def test_groups_of_annotations_are_joined_with_those_of_names():
    people = [
        FoundVideo(f"p{s}_v{k}.mp4", "walk", group=f"rec{s}{k // 2}")
        for s in range(1, 5)
        for k in range(4)
    ]
    found = grouping_of(people, "auto")
    assert found.groups == tuple(f"p{v.file[1]:0>2}" for v in people)
    assert not found.is_chosen
    views = [FoundVideo(f"{x}.mp4", "walk", group="both") for x in ("a", "zz")]
    found = grouping_of([*views, FoundVideo("q.mp4", "walk")], "auto")
    assert found.groups == ("both", "both", "q.mp4")
    assert [row.seen for row in found.rows] == [BY_ITSELF, "the annotations"]
    # What the user chooses takes precedence.
    assert grouping_of(views, "file").groups == ("a.mp4", "zz.mp4")


def test_parts_are_counted_where_a_class_is_not_tested():
    videos = [
        Video("1", "a", "train", "x", start=0.0, end=1.0),
        Video("1", "a", "train", "x", start=1.0, end=2.0),
        Video("2", "b", "test", "y"),
    ]
    (warning,) = Division(fractions={"test": 0.2}).warnings(videos)
    assert "it has 2 parts of 1 video in 1 group" in warning


def test_a_scene_has_the_classes_of_all_parts_of_its_videos():
    parts = [Video("1", name, "train", "x", start=0.0) for name in "ab"]
    others = [Video("2", "b", "train", "y"), Video("3", "c", "train", "z")]
    manifest = Manifest(Path(), ("a", "b", "c"), (*parts, *others))
    assert scenes.classes_of(manifest, [parts[0], others[0]]) == {"a", "b"}


def thumbnails(place, seed, number=24, noise=3.0):
    """Draws a place in which something moves, 16 x 16 pixels."""
    rng = np.random.default_rng(place)
    picture = rng.uniform(20, 235, (16, 16))
    rng = np.random.default_rng(1000 + seed)
    frames = picture + rng.normal(0, noise, (number, 16, 16))
    for index, frame in enumerate(frames):
        y, x = (8 + 6 * np.sin(index / 5 + rng.uniform(0, 1, 2))).astype(int)
        frame[y : y + 3, x : x + 3] = 128
    return frames.clip(0, 255).astype(np.uint8)


def test_a_place_is_found_whoever_is_in_it():
    found = {
        f"{p}-{s}": thumbnails(p, 10 * p + s) for p in range(30) for s in (1, 2)
    }
    clusters = find_scenes(found, list(found))
    assert clusters == [[2 * p, 2 * p + 1] for p in range(30)]


def test_a_chain_does_not_run_away():
    rng = np.random.default_rng(0)
    ends = rng.uniform(20, 235, (40, 16, 16))
    chain = {}
    for step in range(40):
        # Each picture shares most of its look with the next, none with others.
        mixed = sum(
            ends[(step + k) % 40] * w for k, w in enumerate((0.3, 1, 1, 0.3))
        )
        chain[str(step)] = np.repeat(mixed[None] / 2.6, 9, 0).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "_SAME_SCENE", 0.6)
        patch.setattr(scenes, "_LIKE_THE_REST", 0.6)
        clusters = find_scenes(chain, list(chain))
    assert clusters
    assert max(map(len, clusters)) <= 4


def looked_at(root, tmp_path, **options):
    manifest = Manifest.from_folder(root, **options)
    store, manifest = decode_all(
        manifest,
        ClipConfig(num_frames=8, crop_size=56),
        StoreConfig(cache="jpeg", store_dir=tmp_path / "store"),
    )
    return group_by_look(store, manifest)


@pytest.fixture(scope="module")
def places(make_once):
    """Two classes of eight videos: four places, each in two videos."""

    def draw(folder):
        for number in range(16):
            name = f"{'ab'[number % 2]}/{number * 7919 % 1009}.mp4"
            scene(
                folder / name,
                place=number % 8,
                movement=number,
            )

    return make_once("places", draw)


def test_videos_of_one_place_are_one_group(places, tmp_path):
    found = looked_at(places, tmp_path)
    assert len(found.scenes) == 8
    assert all(scene.is_joined for scene in found.scenes)
    groups = {video.group for video in found.manifest.videos}
    assert len(groups) == 8
    splits = {(video.group, video.split) for video in found.manifest.videos}
    assert len(splits) == 8
    assert {split for _, split in splits} == {"train", "val", "test"}
    assert not group_warnings(found.manifest)


def test_chosen_groups_stay_as_they_are(places, tmp_path):
    found = looked_at(places, tmp_path, group_by="file")
    assert len({video.group for video in found.manifest.videos}) == 16
    assert not any(scene.is_joined for scene in found.scenes)


def test_where_all_is_one_place_no_class_is_lost(tmp_path):
    for number in range(8):
        name = f"{'ab'[number % 2]}/{number * 7919 % 1009}.mp4"
        scene(tmp_path / "v" / name, movement=number, num_frames=48)
    found = looked_at(tmp_path / "v", tmp_path)
    (place,) = found.scenes
    assert not place.is_joined
    assert len(place.videos) == 8
    splits = {(v.class_name, v.split) for v in found.manifest.videos}
    assert len(splits) == 6
    assert any("may flatter" in text for text in group_warnings(found.manifest))
