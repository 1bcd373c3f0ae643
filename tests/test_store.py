import contextlib
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from support.videos import draw_folder, draw_video, truncate

from har_keras.config import ClipConfig, StoreConfig
from har_keras.errors import DataError, EnvironmentFault, UsageError
from har_keras.files import passing_file
from har_keras.manifest.manifest import Manifest, content_hash
from har_keras.prepare import _shard, main
from har_keras.store import decoding as filling
from har_keras.store import preparation as forms
from har_keras.store.decoding import Task, fill
from har_keras.store.preparation import decode_usable
from har_keras.store.store import Store, StoreSpec
from har_keras.video.ffmpeg import read_frames
from har_keras.video.images import read_video

CLIP = ClipConfig(num_frames=8, crop_size=56)  # 64 pixels, clips of 1 s


def config(tmp_path, cache="jpeg", **options):
    return StoreConfig(cache=cache, store_dir=tmp_path / "store", **options)


def task(path):
    return Task(content_hash(path), path)


def filled(folder, *paths, form="jpeg", **options):
    store = Store(folder, StoreSpec(64, 16.0, form))
    passing = fill(store, [*map(task, paths)], timeout_seconds=60, **options)
    return store, passing


def decoded(path):
    return np.stack(
        [*read_frames(path, fps=16.0, short_side=64, timeout_seconds=60)]
    )


def test_raw_frames_are_those_that_were_decoded(tmp_path):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path, form="raw")
    frames = store.frames(content_hash(path), np.arange(48))
    np.testing.assert_array_equal(frames, decoded(path))


def test_jpeg_frames_are_near_and_in_the_same_colours(tmp_path):
    path = draw_video(tmp_path / "a.mp4", height=64, width=96, seed=5)
    store, _ = filled(tmp_path / "s", path)
    frames = store.frames(content_hash(path), np.arange(48))
    error = frames.astype(float) - decoded(path)
    assert np.abs(error.mean((0, 1, 2))).max() < 1.0
    assert 10 * np.log10(255**2 / (error**2).mean()) > 30


@pytest.mark.parametrize("form", ["jpeg", "raw"])
@pytest.mark.parametrize("indices", [[5], [47, 0], [3, 3, 3, 9, 3], []])
def test_frames_are_read_in_any_order(tmp_path, form, indices):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path, form=form)
    every = store.frames(content_hash(path), np.arange(48))
    some = store.frames(content_hash(path), np.array(indices, np.int64))
    np.testing.assert_array_equal(some, every[indices])


@pytest.mark.parametrize("index", [-1, 48])
def test_a_frame_that_is_not_there_is_refused(tmp_path, index):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path)
    with pytest.raises(IndexError):
        store.frames(content_hash(path), np.array([index]))


def test_a_picture_that_stands_still_is_stored_once(tmp_path):
    path = draw_video(
        tmp_path / "a.avi",
        num_frames=8,
        fps=4,
        options=("-c:v", "mjpeg", "-q:v", 2),
    )
    store, _ = filled(tmp_path / "s", path)
    video = store.video(content_hash(path))
    assert video.num_frames == 32
    assert len(set(video.offsets.tolist())) == 8


def test_threads_read_the_same_frames(tmp_path):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path)
    every = store.frames(content_hash(path), np.arange(48))
    wrong = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            indices = rng.integers(48, size=8)
            found = store.frames(content_hash(path), indices)
            wrong.extend([seed] * (not np.array_equal(found, every[indices])))

    threads = [threading.Thread(target=read, args=[i]) for i in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_prepare_fills_in_the_manifest(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=5)
    truncate(root / "up/up-00.mp4", root / "up/cut.mp4", share=0.75)
    truncate(root / "up/up-00.mp4", root / "up/stub.mp4", share=0.65)
    draw_video(root / "down/short.mp4", num_frames=6)
    (root / "down/text.mp4").write_text("no video")
    manifest = Manifest.from_folder(root)
    store, manifest = decode_usable(manifest, CLIP, config(tmp_path))
    videos = {video.file: video for video in manifest.videos}
    assert videos["up/up-00.mp4"].kept_frames == 48
    assert videos["up/up-00.mp4"].reason == ""
    assert 15 <= videos["up/cut.mp4"].kept_frames < 48
    assert "truncated" in videos["up/cut.mp4"].reason
    assert ", kept " in videos["up/cut.mp4"].reason
    assert videos["up/stub.mp4"].kept_frames == 0
    assert "before one clip is full" in videos["up/stub.mp4"].reason
    assert videos["down/short.mp4"].kept_frames == 6
    assert "last frame is repeated" in videos["down/short.mp4"].reason
    assert videos["down/text.mp4"].kept_frames == 0
    assert videos["down/text.mp4"].reason == "not a video"
    assert len(store) == len(manifest.videos)


def test_nothing_is_decoded_twice(tmp_path, monkeypatch):
    root = draw_folder(tmp_path / "videos", per_class=3)
    (root / "up/text.mp4").write_text("no video")
    options = CLIP, config(tmp_path)
    decode_usable(Manifest.from_folder(root), *options)
    (root / "up/up-00.mp4").rename(root / "up/renamed.mp4")
    shutil.copy(root / "up/up-01.mp4", root / "up/copy.mp4")

    def refuse(*arguments, **options):
        raise AssertionError("a video was decoded again")

    monkeypatch.setattr(filling, "read_video", refuse)
    _, manifest = decode_usable(Manifest.from_folder(root), *options)
    assert len(manifest.failed) == 1


def test_a_changed_file_is_decoded_anew(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=3)
    options = CLIP, config(tmp_path)
    decode_usable(Manifest.from_folder(root), *options)
    draw_video(root / "up/up-00.mp4", num_frames=20, seed=77)
    _, manifest = decode_usable(Manifest.from_folder(root), *options)
    frames = {video.file: video.kept_frames for video in manifest.videos}
    assert frames["up/up-00.mp4"] == 20


def test_a_file_that_changed_since_it_was_listed_is_not_used(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=6)
    manifest = Manifest.from_folder(root)
    draw_video(root / "up/up-00.mp4", num_frames=20, seed=77)
    _, manifest = decode_usable(manifest, CLIP, config(tmp_path))
    (failed,) = manifest.failed
    assert failed.file == "up/up-00.mp4"
    assert "content changed" in failed.reason


def test_a_file_that_changes_while_it_is_decoded_is_not_used(
    tmp_path, monkeypatch
):
    """What it was before would else have the frames of what it is now."""
    path, other = (draw_video(tmp_path / f"{x}.mp4", seed=x) for x in (1, 2))

    @contextlib.contextmanager
    def replaced(*arguments, **options):
        path.write_bytes(other.read_bytes())
        with read_video(*arguments, **options) as reader:
            yield reader

    monkeypatch.setattr(filling, "read_video", replaced)
    before = task(path)
    store = Store(tmp_path / "s", StoreSpec(64, 16.0, "jpeg"))
    reasons = fill(store, [before], timeout_seconds=60)
    assert "content changed" in reasons[before.sha256]
    assert before.sha256 not in store


def test_other_sizes_rates_and_forms_are_other_stores():
    specs = [
        StoreSpec(64, 16.0, "jpeg"), StoreSpec(128, 16.0, "jpeg"),
        StoreSpec(64, 16.5, "jpeg"), StoreSpec(64, 16.0, "raw"),
    ]  # fmt: skip
    assert len({spec.key for spec in specs}) == len(specs)


def test_a_time_out_is_tried_again_another_time(tmp_path, monkeypatch):
    root = draw_folder(tmp_path / "videos", per_class=6)
    manifest = Manifest.from_folder(root)

    def time_out(path, **options):
        if path.name == "up-00.mp4":
            raise filling.VideoError(path, "timed out after 1 s", passing=True)
        return read_video(path, **options)

    monkeypatch.setattr(filling, "read_video", time_out)
    _, first = decode_usable(manifest, CLIP, config(tmp_path))
    assert [video.reason for video in first.failed] == ["timed out after 1 s"]
    monkeypatch.undo()
    _, second = decode_usable(manifest, CLIP, config(tmp_path))
    assert not second.failed


def test_a_class_without_a_usable_video_is_named(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=3)
    for path in (root / "up").iterdir():
        path.write_text("no video")
    with pytest.raises(DataError, match=r"class 'up'.*not a video"):
        decode_usable(Manifest.from_folder(root), CLIP, config(tmp_path))


def test_a_full_disk_says_so_and_leaves_no_halves(tmp_path, monkeypatch):
    path = draw_video(tmp_path / "a.mp4")

    def full(frame):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filling, "encode_jpeg", full)
    with pytest.raises(EnvironmentFault, match="The disk is full"):
        filled(tmp_path / "s", path)
    assert list((tmp_path / "s").iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").touch()
    path = draw_video(tmp_path / "a.mp4")
    with pytest.raises(EnvironmentFault, match="--store-dir"):
        filled(tmp_path / "file" / "s", path)


def test_one_failing_worker_stops_the_others(tmp_path, monkeypatch):
    paths = [draw_video(tmp_path / f"{i}.mp4", seed=i) for i in range(6)]
    started = []

    def fail_once(path, **options):
        started.append(path)
        raise RuntimeError("a bug")

    monkeypatch.setattr(filling, "read_video", fail_once)
    with pytest.raises(RuntimeError, match="a bug"):
        filled(tmp_path / "s", *paths, workers=2)
    assert len(started) <= 2
    assert list((tmp_path / "s").iterdir()) == []


def test_shards_are_closed_when_full(tmp_path, monkeypatch):
    monkeypatch.setattr(filling, "_SHARD_BYTES", 1)
    paths = [draw_video(tmp_path / f"{i}.mp4", seed=i) for i in range(4)]
    store, _ = filled(tmp_path / "s", *paths)
    assert len(list((tmp_path / "s").glob("*.npz"))) == 4
    for path in paths:
        assert store.num_frames(content_hash(path)) == 48


def test_a_damaged_shard_is_left_out_with_a_warning(tmp_path, caplog):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path)
    (shard,) = store.folder.glob("*.bin")
    shard.write_bytes(shard.read_bytes()[:-9])
    assert len(Store(store.folder, store.spec)) == 0
    assert "too short" in caplog.text
    (index,) = store.folder.glob("*.npz")
    index.write_bytes(index.read_bytes()[:200])
    assert len(Store(store.folder, store.spec)) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"num_frames": -5}, {"num_frames": "x"}, {"height": 0},
        {"height": -3}, {"height": "x"}, {"width": 2**40}, {"reason": [1]},
        {"num_thumbnails": 1.5}, {"zzz": 1}, {"info": {"x": 1}},
        {"num_thumbnails": 3}, {"source_frames": "x"}, {"variable_rate": "x"},
        {"info": {"fps": "x"}}, {"info": {"fps": float("nan")}},
        {"info": {"duration_seconds": 1e308}}, {"info": {"has_audio": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_an_index_that_makes_no_sense_is_left_out(changes, tmp_path, caplog):
    store, _ = filled(tmp_path / "s", draw_video(tmp_path / "a.mp4"))
    change_words(store, changes)
    assert len(Store(store.folder, store.spec)) == 0
    assert "is left out of the store" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"", b"nested", b"negative", b"no thumbnails", "a pipe", "compressed",
        "flat thumbnails", "float thumbnails", "places in 2-d", "too few sizes",
    ],
)  # fmt: skip
def test_an_index_of_somebody_else_is_left_out(content, tmp_path, caplog):
    store, _ = filled(tmp_path / "s", draw_video(tmp_path / "a.mp4"))
    (index,) = store.folder.glob("*.npz")
    with np.load(index) as arrays:
        held = dict(arrays)
    if content == b"nested":
        held["videos"] = np.frombuffer(b"[" * 100_000, np.uint8)
    if content == b"negative":
        held["offsets"] = held["offsets"] - 10**6
    if content == b"no thumbnails":
        del held["thumbnails"]
    if content == "flat thumbnails":
        held["thumbnails"] = held["thumbnails"].ravel()
    if content == "float thumbnails":
        held["thumbnails"] = held["thumbnails"] / 2
    if content == "places in 2-d":
        held["offsets"] = held["offsets"][:, None]
    if content == "too few sizes":
        held["sizes"] = held["sizes"][:1]
    save = np.savez_compressed if content == "compressed" else np.savez
    save(index, **held)
    if content == b"":
        index.write_bytes(content)
    if content == "a pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("no named pipes here")
        index.unlink()
        os.mkfifo(index)
    assert len(Store(store.folder, store.spec)) == 0
    assert "is left out of the store" in caplog.text


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_frames_of_another_size_than_said_are_not_used(form, tmp_path):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path, form=form)
    change_words(store, {"width": 7})
    store = Store(store.folder, store.spec)
    if form == "raw":
        assert len(store) == 0
    else:  # known once they are read
        with pytest.raises(OSError, match="stored frame is damaged"):
            store.frames(content_hash(path), np.arange(2))


def test_what_an_index_says_is_printable(tmp_path):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path)
    change_words(store, {"note": "\x1b[2J\n", "info": {"codec": "\x07"}})
    video = Store(store.folder, store.spec).video(content_hash(path))
    assert (video.note, video.info.codec) == (r"\x1b[2J\n", r"\x07")


def test_damaged_thumbnails_are_said(tmp_path):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path)
    (index,) = store.folder.glob("*.npz")
    data = bytearray(index.read_bytes())
    data[-2000] ^= 255  # of the last array, the thumbnails
    index.write_bytes(data)
    with pytest.raises(DataError, match="of the frame store is damaged"):
        Store(store.folder, store.spec).thumbnails([content_hash(path)])


def change_words(store, changes):
    (index,) = store.folder.glob("*.npz")
    with np.load(index) as arrays:
        held = dict(arrays)
    words = [x | changes for x in json.loads(held["videos"].tobytes())]
    held["videos"] = np.frombuffer(json.dumps(words).encode(), np.uint8)
    np.savez(index, **held)


def test_a_store_that_is_removed_while_it_is_read_is_said(tmp_path):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path)
    (key,) = store
    store.frames(key, np.arange(2))
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(EnvironmentFault, match="was removed while"):
        store.frames(key, np.arange(2))
    with pytest.raises(EnvironmentFault, match="was removed while"):
        store.thumbnails([key])


@pytest.mark.parametrize("when", ["_append", "write_index", "publish"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_that_is_removed_while_it_is_written_is_said(
    when, workers, tmp_path, monkeypatch
):
    paths = [draw_video(tmp_path / f"{x}.mp4", seed=x) for x in range(4)]
    real = getattr(filling, when)
    calls = itertools.count()

    def removing(*arguments, **options):
        found = real(*arguments, **options)
        if next(calls) == 1:  # at once, while others write
            (tmp_path / "s").rename(tmp_path / "gone")
        return found

    monkeypatch.setattr(filling, when, removing)
    with pytest.raises(EnvironmentFault, match="was removed while"):
        filled(tmp_path / "s", *paths, workers=workers)
    monkeypatch.undo()
    store, reasons = filled(tmp_path / "s", *paths)
    assert len(store) == 4
    assert not reasons


def test_frames_that_were_lost_are_decoded_again(tmp_path, caplog):
    path = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", path)
    (shard,) = store.folder.glob("*.bin")
    frames = shard.read_bytes()
    shard.unlink()
    again, reasons = filled(tmp_path / "s", path)
    assert not reasons
    assert len(again) == 1
    assert shard.read_bytes() == frames
    assert "is left out of the store" in caplog.text


def test_a_store_that_is_a_link_is_refused_and_keeps_what_is_there(tmp_path):
    """A shared store folder may be somebody else's work."""
    home, shared = tmp_path / "home", tmp_path / "shared"
    home.mkdir()
    shared.mkdir()
    for name in (".bashrc", ".netrc"):
        (home / name).write_text("mine")
        os.utime(home / name, (0, 0))
    options = StoreConfig(cache="jpeg", store_dir=shared)
    store = forms.open_store(ClipConfig(), options, [])
    (shared / store.spec.key).symlink_to(home)
    with pytest.raises(EnvironmentFault, match="is a link"):
        forms.open_store(ClipConfig(), options, [])
    assert {path.name for path in home.iterdir()} == {".bashrc", ".netrc"}


@pytest.mark.parametrize("complete", [False, True])
def test_only_names_of_ours_are_removed(complete, tmp_path):
    video = draw_video(tmp_path / "a.mp4")
    store, _ = filled(tmp_path / "s", *([video] if complete else []))
    store.folder.mkdir(parents=True, exist_ok=True)
    names = (".bashrc", ".0123abcd-shard.bin", ".0123-long-name")
    for name in names:
        (store.folder / name).touch()
        os.utime(store.folder / name, (0, 0))
    filled(tmp_path / "s", video)
    left = {path.name for path in store.folder.glob(".*")}
    assert left == {".bashrc", ".0123-long-name"}


def test_leftovers_of_killed_programs_go_after_a_day(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    old, new = folder / ".00000001-old.bin", folder / ".00000002-new.bin"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    filled(folder, draw_video(tmp_path / "a.mp4"))
    assert not old.exists()
    assert new.exists()


def test_what_a_killed_process_of_this_machine_left_goes_at_once(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    with passing_file(folder / "now.bin") as mine:
        mine.touch()
        own = f"{os.getpid():08x}"
        assert own in mine.name
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        left = folder / mine.name.replace(own, f"{ended.pid:08x}")
        machine = mine.name[1:7]
        other = folder / left.name.replace(machine, "0" * 6)
        left.touch()
        other.touch()
        filled(folder, draw_video(tmp_path / "a.mp4"))
        assert not left.exists()
        assert mine.exists()
        assert other.exists()  # of another machine, and of today


PROGRAM = """
import sys
from pathlib import Path
from har_keras.prepare import main
from har_keras.store import decoding as filling
filling._SHARD_BYTES = 1
sys.exit(main(sys.argv[1:]))
"""


def start(root, tmp_path):
    options = ("--store-dir", tmp_path / "store", "--cache", "jpeg")
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, root, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_killed_program_leaves_whole_shards(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=8, num_frames=160)
    program = start(root, tmp_path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and program.poll() is None:
        if len(list(tmp_path.glob("store/*/[!.]*.npz"))) > 2:
            program.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    (folder,) = tmp_path.glob("store/*px*")
    store = Store(folder, StoreSpec(128, 16.0, "jpeg"))
    assert len(store) >= 3
    for sha256 in store:
        assert store.frames(sha256, np.arange(160)).shape[0] == 160
    clip = ClipConfig()
    _, manifest = decode_usable(
        Manifest.from_folder(root), clip, config(tmp_path)
    )
    assert not manifest.failed


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def test_a_store_is_the_same_bytes_whoever_fills_it(tmp_path, monkeypatch):
    monkeypatch.setattr(filling, "_FEWEST_SHARDS", 3)
    paths = [draw_video(tmp_path / f"{i}.mp4", seed=i) for i in range(8)]
    (tmp_path / "bad.mp4").write_text("no video")
    paths.append(tmp_path / "bad.mp4")
    filled(tmp_path / "one", *paths, workers=1)
    filled(tmp_path / "many", *reversed(paths), workers=4)
    assert 4 < len(bytes_of(tmp_path / "one")) < 2 * len(paths)
    assert bytes_of(tmp_path / "many") == bytes_of(tmp_path / "one")
    # What a killed program left out is made again as it would have been.
    (shard, *_) = sorted((tmp_path / "many").glob("*.bin"))
    shard.with_suffix(".npz").unlink()
    shard.unlink()
    filled(tmp_path / "many", *paths)
    assert bytes_of(tmp_path / "many") == bytes_of(tmp_path / "one")


def test_two_programs_at_once_do_no_harm(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=4)
    programs = [start(root, tmp_path) for _ in range(2)]
    assert [program.wait(120) for program in programs] == [0, 0]
    (folder,) = tmp_path.glob("store/*px*")
    store = Store(folder, StoreSpec(128, 16.0, "jpeg"))
    assert len(store) == 8
    for sha256 in store:
        assert store.frames(sha256, np.arange(48)).std() > 1


def test_shards_of_many_machines_make_up_the_whole(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=4)
    for part in (1, 2, 3):
        options = ("--store-dir", str(tmp_path / f"{part}"), "--cache", "jpeg")
        assert main([str(root), "--shard", f"{part}/3", *options]) == 0
    (folder,) = {path.name for path in tmp_path.glob("[123]/*")}
    stores = [
        Store(tmp_path / str(part) / folder, StoreSpec(128, 16.0, "jpeg"))
        for part in (1, 2, 3)
    ]
    assert sum(map(len, stores)) == 8
    merged = tmp_path / "store" / folder
    for store in stores:
        shutil.copytree(store.folder, merged, dirs_exist_ok=True)
    assert len(Store(merged, stores[0].spec)) == 8


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "a/b", "1", "-1/2", "1/", f"1/{'9' * 5000}"]
)
def test_a_wrong_part_is_refused(text):
    with pytest.raises(UsageError, match="--shard must be i/n"):
        _shard(text)


def test_auto_takes_raw_where_it_fits_a_quarter(tmp_path, monkeypatch):
    paths = [draw_video(tmp_path / f"{i}.mp4", seed=i) for i in range(3)]
    tasks = [*map(task, paths)]
    needed = forms.raw_bytes(CLIP, paths, 25.0)
    # 3 videos of 48 frames of 64 x 85 pixels of 3 bytes.
    assert needed == pytest.approx(3 * 48 * 64 * 85 * 3, rel=0.05)
    for room, form in ((4.1, "raw"), (3.9, "jpeg")):
        monkeypatch.setattr(
            forms, "free_memory_bytes", lambda room=room: room * needed
        )
        config = StoreConfig(store_dir=tmp_path / "none")
        assert forms.choose_form(CLIP, config, tasks) == form


def test_the_estimate_knows_the_rate_of_images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(30):
        cv2.imwrite(str(folder / f"{i}.png"), np.zeros((48, 64, 3), np.uint8))
    slow, fast = (forms.raw_bytes(CLIP, [folder], x) for x in (5.0, 30.0))
    assert slow == pytest.approx(6 * fast)


def test_auto_stays_with_the_form_that_is_there(tmp_path, monkeypatch):
    path = draw_video(tmp_path / "a.mp4")
    tasks = [task(path)]
    monkeypatch.setattr(forms, "free_memory_bytes", lambda: 1)
    store = forms.open_store(CLIP, config(tmp_path, "auto"), tasks)
    assert store.spec.form == "jpeg"
    fill(store, tasks, timeout_seconds=60)
    monkeypatch.undo()
    store = forms.open_store(CLIP, config(tmp_path, "auto"), tasks)
    assert store.spec.form == "jpeg"


def test_off_keeps_nothing(tmp_path):
    root = draw_folder(tmp_path / "videos", per_class=3)
    store, manifest = decode_usable(
        Manifest.from_folder(root), CLIP, config(tmp_path, "off")
    )
    video = manifest.usable("train")[0]
    assert store.frames(video.sha256, np.arange(4)).shape == (4, 64, 85, 3)
    folder = store.folder
    assert folder.is_dir()
    del store
    assert not folder.exists()
    assert not (tmp_path / "store").exists()


def test_memory_and_disk_that_are_free_are_known():
    assert forms.free_memory_bytes() > 2**20
