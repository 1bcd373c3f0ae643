import shutil

import numpy as np
import pytest
from support.videos import X264, ffmpeg, scene, write_video

from har_keras.config import ClipConfig, StoreConfig
from har_keras.errors import DataError
from har_keras.manifest.manifest import Manifest, Video
from har_keras.store import motion
from har_keras.store.duplicates import (
    Duplicate,
    _is_still,
    find_duplicates,
    leaking_groups,
    report_leaks,
)
from har_keras.store.motion import Footage, signals
from har_keras.store.preparation import decode_all
from har_keras.store.scenes import group_by_look
from har_keras.store.store import Store

CLIP = ClipConfig(num_frames=8, crop_size=56)


def decoded(root, tmp_path, **options):
    manifest = Manifest.from_folder(root, **options)
    config = StoreConfig(cache="jpeg", store_dir=tmp_path / "store")
    return decode_all(manifest, CLIP, config)


def pairs(root, tmp_path):
    store, manifest = decoded(root, tmp_path)
    found = find_duplicates(store, manifest)
    return {(pair.first.file, pair.second.file): pair for pair in found}


ALTERED = {
    "encoded": ("-crf", 35),
    "small": ("-vf", "scale=64:-2"),
    "cropped": ("-vf", "crop=iw*0.94:ih*0.94"),
    "cropped more": ("-vf", "crop=iw*0.8:ih*0.8"),
    "faster": ("-vf", "setpts=PTS/1.25", "-r", 25),
    "border": ("-vf", "pad=iw*1.2:ih*1.2:iw*0.1:ih*0.1:white"),
    "letterbox": ("-vf", "pad=iw:ih*4/3:0:ih/6"),
    "banner": ("-vf", "drawbox=y=ih-ih/5:h=ih/5:color=white:t=fill"),
    "grey": ("-vf", "hue=s=0"),
    "bright": ("-vf", "eq=brightness=0.1:contrast=0.8"),
    "rate": ("-r", 12),
    "part": ("-ss", 1.3, "-t", 3),
}


@pytest.mark.parametrize("change", ALTERED)
def test_altered_copies_are_found(tmp_path, change):
    root = tmp_path / "v"
    source = scene(root / "a/source.mp4")
    scene(root / "b/other.mp4", place=1, movement=1)
    copy = root / "b" / f"{change}.mp4"
    ffmpeg("-i", source, *ALTERED[change], *X264, copy)
    found = pairs(root, tmp_path)
    assert list(found) == [("a/source.mp4", f"b/{change}.mp4")]
    (pair,) = found.values()
    assert pair.agreement > 0.65
    assert "mirrored" not in pair.kind
    shift = 1.3 if change == "part" else 0.0
    assert pair.shift_seconds == pytest.approx(shift, abs=0.13)


def test_a_mirrored_copy_is_found(tmp_path):
    root = tmp_path / "v"
    source = scene(root / "a/source.mp4")
    (root / "b").mkdir()
    ffmpeg("-i", source, "-vf", "hflip", *X264, root / "b/mirrored.mp4")
    (pair,) = pairs(root, tmp_path).values()
    assert pair.kind.endswith("mirrored")


def test_other_people_in_the_same_place_are_no_duplicates(tmp_path):
    root = tmp_path / "v"
    for movement in range(4):
        name = "ab"[movement % 2]
        scene(root / name / f"{movement}.mp4", movement=movement)
    assert pairs(root, tmp_path) == {}


def test_copies_of_a_file_are_one_line_each(tmp_path):
    root = tmp_path / "v"
    source = scene(root / "a/0.mp4")
    scene(root / "b/other.mp4", place=1, movement=1)
    for number in range(1, 6):
        shutil.copy(source, root / f"a/{number}.mp4")
    found = pairs(root, tmp_path)
    assert list(found) == [("a/0.mp4", f"a/{n}.mp4") for n in range(1, 6)]
    assert {pair.kind for pair in found.values()} == {"same file"}


def test_files_that_cannot_be_used_are_no_duplicates(tmp_path):
    root = tmp_path / "v"
    scene(root / "a/1.mp4")
    scene(root / "b/2.mp4", place=1, movement=1)
    for name in ("a/x.mp4", "b/y.mp4"):
        (root / name).write_text("no video")
    assert pairs(root, tmp_path) == {}


def test_still_pictures_are_the_same_if_they_look_it(tmp_path):
    still = np.tile(np.arange(96, dtype=np.uint8)[:, None, None], (1, 128, 3))
    for name in ("a/1.mp4", "b/2.mp4"):
        write_video(tmp_path / "v" / name, np.stack([still] * 32))
    write_video(tmp_path / "v/b/3.mp4", np.stack([still[::-1]] * 32))
    assert list(pairs(tmp_path / "v", tmp_path)) == [("a/1.mp4", "b/2.mp4")]


def leaking_folder(root):
    """Makes splits of which train and test share one video, encoded anew."""
    for number, split in enumerate(("train", "val", "test")):
        for label, name in enumerate("ab"):
            seed = 10 * number + label
            scene(
                root / split / name / f"{seed}.mp4", place=seed, movement=seed
            )
    ffmpeg(
        *("-i", root / "train/a/0.mp4", "-crf", 33, *X264),
        root / "test/a/copy.mp4",
    )
    return root


def test_leaks_are_warned_of_by_name_and_refused_if_strict(tmp_path, caplog):
    root = leaking_folder(tmp_path / "v")
    store, manifest = decoded(root, tmp_path)
    duplicates = find_duplicates(store, manifest)
    (leak,) = report_leaks(duplicates, manifest)
    assert leak.is_leak
    assert "'test/a/copy.mp4' (test) and 'train/a/0.mp4' (train)" in caplog.text
    with pytest.raises(DataError, match=r"copy\.mp4.*--strict"):
        report_leaks(duplicates, manifest, strict=True)


def test_many_leaks_are_counted_and_the_gravest_named(tmp_path, caplog):
    videos = [
        Video(f"{place}.mp4", "a", split, group=str(place))
        for place, split in enumerate(["train", "val", "val", "val", "test"])
    ]
    leaks = [
        Duplicate(videos[0], video, "nearly the same") for video in videos[1:]
    ]
    leaks.append(Duplicate(videos[1], videos[4], "same file"))
    manifest = Manifest(tmp_path, ("a",), tuple(videos))
    assert len(report_leaks(leaks, manifest)) == 5
    first, second, third, rest = caplog.messages
    assert first.startswith("A leak between splits: '1.mp4' (val) and '4.mp4'")
    assert "'0.mp4' (train) and '4.mp4' (test)" in second
    assert "'0.mp4' (train) and '1.mp4' (val)" in third
    assert rest == "And 2 more leaks. har-keras check lists all of them."


def test_a_group_in_two_splits_is_a_leak(tmp_path, caplog):
    root = tmp_path / "v"
    for split in ("train", "val", "test"):
        for label, name in enumerate("ab"):
            person = 1 if name == "a" else f"{label}{split}"
            seed = 7 * len(split) + label + ord(split[0])
            path = root / split / name / f"{person}.mp4"
            scene(path, place=seed, movement=seed)
    text = ["file,class,split,group"]
    text += [
        f"{p.relative_to(root)},{p.parent.name},{p.parts[-3]},{p.stem}"
        for p in sorted(root.rglob("*.mp4"))
    ]
    (root / "manifest.csv").write_text("\n".join(text))
    _, manifest = decoded(root, tmp_path)
    assert leaking_groups(manifest) == {"1": ["train", "val", "test"]}
    with pytest.raises(DataError, match="group '1'"):
        report_leaks([], manifest, strict=True)
    assert "Group '1' is in train and val and test" in caplog.text


def test_thumbnails_are_read_once(tmp_path, monkeypatch):
    store, manifest = decoded(leaking_folder(tmp_path / "v"), tmp_path)
    read, thumbnails = [], Store.thumbnails
    monkeypatch.setattr(
        Store,
        "thumbnails",
        lambda self, hashes: read.extend(hashes) or thumbnails(self, hashes),
    )
    assert group_by_look(store, manifest).duplicates
    assert len(read) == len(set(read)) == len(manifest.videos)


@pytest.mark.slow
def test_real_recordings_do_not_leak_into_each_other(real_videos, tmp_path):
    store, manifest = decode_all(
        Manifest.from_folder(real_videos),
        ClipConfig(),
        StoreConfig(cache="jpeg", store_dir=tmp_path),
    )
    found = find_duplicates(store, manifest)
    others = [pair for pair in found if pair.first.group != pair.second.group]
    # Of 29,632 pairs of two groups: two are one person's footage at several
    # sizes, two are people who do push-ups in the same rhythm.
    assert len(found) > 10
    assert len(others) <= 4


def test_a_video_of_one_frame_is_compared_like_any_other():
    """Its thumbnails have no change in them; it counts as still."""
    for number in (1, 2):
        frames = np.zeros((number, 16, 16), np.uint8)
        video = Footage(frames, signals(frames, 8.0), 8.0)
        assert _is_still(video)


def test_windows_that_are_cut_in_blocks_are_the_same(monkeypatch):
    found = np.random.default_rng(0).normal(size=(400, motion.NUM_SIGNALS))
    found[100:300] = 0  # nothing moves
    whole = motion.windows(found.astype("float32"), 8.0, 1.0, 2)
    monkeypatch.setattr(motion, "_BLOCK", 7)
    blocks = motion.windows(found.astype("float32"), 8.0, 1.0, 2)
    assert 50 < len(whole.starts) < 150
    np.testing.assert_array_equal(blocks.starts, whole.starts)
    np.testing.assert_array_equal(blocks.mirrored, whole.mirrored)
    np.testing.assert_allclose(blocks.vectors, whole.vectors, atol=1e-6)
