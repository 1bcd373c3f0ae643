import numpy as np
import pytest
from support.videos import X264, ffmpeg, write_video

from har_keras.config import ClipConfig, StoreConfig
from har_keras.errors import DataError
from har_keras.manifest.manifest import Manifest
from har_keras.store.duplicates import (
    Fingerprint,
    _diagonal_sums,
    agreement,
    find_duplicates,
    leaking_groups,
    report_leaks,
)
from har_keras.store.preparation import decode_all

CLIP = ClipConfig(num_frames=8, crop_size=56)


def scene(path, *, place=0, movement=0, num_frames=96):
    """Draws a patterned place in which blobs move about, each by a seed."""
    rng = np.random.default_rng(place)
    background = np.kron(rng.integers(30, 160, (6, 8, 3)), np.ones((16, 16, 1)))
    rng = np.random.default_rng(1000 + movement)
    speed, phase = rng.uniform(0.5, 3, (3, 2)), rng.uniform(0, 6.3, (3, 2))
    colours = rng.integers(0, 256, (3, 3))
    y, x = np.mgrid[:96, :128]
    frames = np.empty((num_frames, 96, 128, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:] = background
        sway = np.sin(speed * index / 16 + phase)
        for (down, across), colour in zip(sway, colours, strict=True):
            near = np.hypot(y - 48 - 40 * down, x - 64 - 56 * across) < 16
            frame[near] = colour
    return write_video(path, frames)


def decoded(root, tmp_path, **options):
    manifest = Manifest.from_folder(root, **options)
    config = StoreConfig(cache="jpeg", store_dir=tmp_path / "store")
    return decode_all(manifest, CLIP, config)


def pairs(root, tmp_path, **options):
    store, manifest = decoded(root, tmp_path)
    found = find_duplicates(store, manifest, **options)
    return {(pair.first.file, pair.second.file): pair for pair in found}


ALTERED = {
    "encoded": ("-crf", 35),
    "small": ("-vf", "scale=64:-2"),
    "cropped": ("-vf", "crop=iw*0.94:ih*0.94"),
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


def test_the_same_file_is_found_even_if_it_cannot_be_decoded(tmp_path):
    root = tmp_path / "v"
    scene(root / "a/1.mp4")
    scene(root / "b/2.mp4", place=1, movement=1)
    for name in ("a/x.mp4", "b/y.mp4"):
        (root / name).write_text("no video")
    found = pairs(root, tmp_path)
    assert [pair.kind for pair in found.values()] == ["same file"]


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
    (leak,) = report_leaks(store, manifest)
    assert leak.is_leak
    assert "'test/a/copy.mp4' (test) and 'train/a/0.mp4' (train)" in caplog.text
    with pytest.raises(DataError, match=r"copy\.mp4.*--strict"):
        report_leaks(store, manifest, strict=True)


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
    store, manifest = decoded(root, tmp_path)
    assert leaking_groups(manifest) == {"1": ["train", "val", "test"]}
    with pytest.raises(DataError, match="group '1'"):
        report_leaks(store, manifest, strict=True)
    assert "Group '1' is in train and val and test" in caplog.text


def test_leaks_only_leaves_duplicates_within_a_split_out(tmp_path):
    root = leaking_folder(tmp_path / "v")
    ffmpeg("-i", root / "val/b/11.mp4", *X264, root / "val/b/again.mp4")
    assert len(pairs(root, tmp_path)) == 2
    assert len(pairs(root, tmp_path, leaks_only=True)) == 1


def test_diagonals_are_summed():
    matrix = np.arange(6.0).reshape(2, 3)  # [[0, 1, 2], [3, 4, 5]]
    assert _diagonal_sums(matrix).tolist() == [2, 6, 4, 3]
    assert _diagonal_sums(matrix.T).tolist() == [3, 4, 6, 2]


@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_very_short_videos_can_be_compared(length):
    rng = np.random.default_rng(0)
    pictures = rng.integers(256, size=(20, 16, 16)).astype(np.uint8)
    short = Fingerprint(pictures[4 : 4 + length], 8.0)
    match = agreement(Fingerprint(pictures, 8.0), short)
    assert match is None if length < 3 else match[1] == 4


@pytest.mark.slow
def test_real_recordings_do_not_leak_into_each_other(real_videos, tmp_path):
    store, manifest = decode_all(
        Manifest.from_folder(real_videos),
        ClipConfig(),
        StoreConfig(cache="jpeg", store_dir=tmp_path),
    )
    found = find_duplicates(store, manifest)
    assert all(pair.first.group == pair.second.group for pair in found)
    assert find_duplicates(store, manifest, leaks_only=True) == []
