"""What the frame store takes on disk: shown, pruned, kept within a limit."""

import logging
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import filelock
import numpy as np
import pytest
from support.videos import draw_folder

from har_keras import train
from har_keras.cache import cache, main
from har_keras.config import ClipConfig, StoreConfig
from har_keras.errors import UsageError
from har_keras.manifest.manifest import Manifest
from har_keras.store import limit
from har_keras.store.limit import keep_within_limit, limit_of, parse_size
from har_keras.store.preparation import decode_all, decode_usable

DAY = 24 * 3600


@pytest.fixture
def store_dir(tmp_path):
    """A store with frames, features, and files that are not ours."""
    root = draw_folder(tmp_path / "videos", per_class=2, num_frames=20)
    folder = tmp_path / "store"
    decode_usable(
        Manifest.from_folder(root),
        ClipConfig(crop_size=32),
        StoreConfig(store_dir=folder, cache="jpeg"),
    )
    features = folder / "features" / "net-1"
    features.mkdir(parents=True)
    np.save(features / f"{'0' * 64}-whole.npy", np.zeros(1000))
    for name in (".bashrc", "notes.txt", "photos/a.npy", "features/a.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    return folder


def ours(folder):
    return {x for item in cache(folder) for x in item.files}


def test_it_shows_each_size_and_each_backbone(store_dir, capsys):
    assert main(["--store-dir", str(store_dir)]) == 0
    printed = capsys.readouterr().out
    assert "  frames    37px-16fps-jpeg90-v2\n" in printed
    assert "  features  net-1\n" in printed
    assert time.strftime("%Y-%m-%d") in printed
    assert max(map(len, printed.splitlines()[2:])) <= 80


def test_what_was_not_used_goes_and_the_rest_stays(store_dir, capsys):
    old = next(x for x in ours(store_dir) if x.suffix == ".npy")
    os.utime(old, (time.time() - 40 * DAY,) * 2)
    kept = ours(store_dir) - {old}
    options = ["--store-dir", str(store_dir), "--unused-days", "30"]
    assert main(options) == 0
    assert "Removed 0.0 MiB" in capsys.readouterr().out
    assert ours(store_dir) == kept
    assert not old.parent.exists()


def test_all_goes_but_for_what_is_not_ours(store_dir):
    (store_dir / "64px-8fps-raw-v2").symlink_to(store_dir / "photos")
    assert ours(store_dir)
    assert cache(store_dir, clear=True) == []
    left = {str(x.relative_to(store_dir)) for x in store_dir.rglob("*")}
    assert left == {
        ".bashrc", "notes.txt", "photos", "photos/a.npy", "features",
        "features/a.txt", "64px-8fps-raw-v2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--store-dir", "nowhere"], "'nowhere' is not a folder"),
        (["--unused-days", "0"], "--unused-days must be more than 0"),
        (["--clear", "--unused-days", "3"], "only one of --unused-days"),
        (["--clear", "--limit", "3GB"], "only one of --unused-days, --limit"),
        (["--limit", "much"], "--limit must be a size above 0, such as 20GB"),
    ],
)
def test_wrong_options_are_named(options, sentence, capsys):
    assert main(options) == 2
    assert sentence in capsys.readouterr().err


def test_an_empty_store_is_no_fault(tmp_path, capsys):
    assert main(["--store-dir", str(tmp_path)]) == 0
    assert "It is empty." in capsys.readouterr().out


def age(folder, days=40):
    """Makes a store one that was last used some days ago."""
    for file in files_of(folder):
        os.utime(file, (time.time() - days * DAY,) * 2)


def files_of(folder):
    found = {x for x in folder.rglob("*") if "photos" not in x.parts}
    return {x for x in found if x.suffix in (".bin", ".npz", ".npy")}


def decoded(root, folder, size=32):
    return decode_all(
        Manifest.from_folder(root),
        ClipConfig(crop_size=size),
        StoreConfig(store_dir=folder, cache="jpeg"),
    )


@pytest.fixture
def videos(tmp_path):
    return draw_folder(tmp_path / "own", per_class=2, num_frames=20)


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setenv("HAR_KERAS_STORE_LIMIT", "1kB")


def test_what_is_oldest_goes_beyond_the_limit(
    store_dir, videos, monkeypatch, caplog
):
    age(store_dir)
    features = next(x for x in files_of(store_dir) if x.suffix == ".npy")
    os.utime(features, (time.time() - 9 * DAY,) * 2)
    old = files_of(store_dir) - {features}
    size = features.stat().st_size + 1000
    with caplog.at_level(logging.INFO):
        # What it will take that comes now.
        decoded(videos, store_dir / "elsewhere", size=48)
    size += sum(x.num_bytes for x in cache(store_dir / "elsewhere"))
    assert "1kB" not in caplog.text
    assert f"The frame store '{store_dir / 'elsewhere'}' has " in caplog.text
    shutil.rmtree(store_dir / "elsewhere")
    monkeypatch.setenv("HAR_KERAS_STORE_LIMIT", f"{size}B")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        store, _ = decoded(videos, store_dir, size=48)
    assert not old & files_of(store_dir)
    assert features.is_file()
    assert {x for x in files_of(store_dir) if x.parent == store.folder}
    for name in (".bashrc", "notes.txt", "photos/a.npy", "features/a.txt"):
        assert (store_dir / name).is_file()
    (line,) = [x for x in caplog.messages if x.startswith("Removed ")]
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 40 * DAY))
    assert f"from the frame store '{store_dir}', last used by {day}" in line
    assert "(HAR_KERAS_STORE_LIMIT). What is needed again" in line
    assert "where it may take" not in caplog.text


@pytest.mark.usefixtures("small_limit")
def test_what_was_used_within_a_day_stays_and_it_is_said(
    store_dir, videos, caplog
):
    before = files_of(store_dir)
    decoded(videos, store_dir, size=48)
    assert before <= files_of(store_dir)
    assert "all of it is in use, or was within a day." in caplog.text


@pytest.mark.usefixtures("small_limit")
def test_what_this_process_uses_stays(tmp_path, videos):
    store, manifest = decoded(videos, tmp_path / "store")
    age(tmp_path / "store")
    keep_within_limit(tmp_path / "store")
    for video in manifest.videos:
        assert len(store.frames(video.key, np.arange(3))) == 3
    del store
    age(tmp_path / "store")
    keep_within_limit(tmp_path / "store")
    assert not files_of(tmp_path / "store")
    assert not (tmp_path / "store" / "in-use").exists()


@pytest.mark.usefixtures("small_limit")
def test_features_of_videos_in_use_stay(tmp_path, videos):
    store, manifest = decoded(videos, tmp_path / "store")
    content = manifest.videos[0].sha256
    key = store.spec.key
    folder = tmp_path / "store" / "features"
    kept = folder / f"net-of-{key}-v1" / f"{content}-50.npy"
    others = [
        folder / f"net-of-{key}-v1" / f"{64 * '0'}-50.npy",
        folder / "net-of-64px-8fps-jpeg90-v2-v1" / f"{content}-50.npy",
    ]
    for file in (kept, *others):
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, np.zeros(1000))
    age(tmp_path / "store")
    keep_within_limit(tmp_path / "store")
    assert kept.is_file()
    assert not any(x.exists() for x in others)


HOLDER = """
import sys
from pathlib import Path
from har_keras.config import ClipConfig, StoreConfig
from har_keras.manifest.manifest import Manifest
from har_keras.store.preparation import decode_all
store, manifest = decode_all(
    Manifest.from_folder(Path(sys.argv[1])),
    ClipConfig(crop_size=32),
    StoreConfig(store_dir=Path(sys.argv[2]), cache="jpeg"),
)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_list_of_a_killed_process_goes_at_the_next_start(tmp_path, videos):
    folder = tmp_path / "store"
    command = [sys.executable, "-c", HOLDER, str(videos), str(folder)]
    for _ in range(2):
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "held\n"
            assert len(list((folder / "in-use").iterdir())) == 1
            process.kill()


@pytest.mark.usefixtures("small_limit")
def test_what_another_process_uses_stays_until_it_ends(
    tmp_path, videos, capsys
):
    folder = tmp_path / "store"
    command = [sys.executable, "-c", HOLDER, str(videos), str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        age(folder)
        held = files_of(folder)
        assert held
        keep_within_limit(folder)
        assert main(["--store-dir", str(folder), "--clear"]) == 0
        assert "A running process uses the other" in capsys.readouterr().out
        assert files_of(folder) == held
        process.kill()  # so that it can't say that it ends
    assert list((folder / "in-use").iterdir())
    keep_within_limit(folder)
    assert not files_of(folder)
    assert not (folder / "in-use").exists()


def test_what_was_removed_is_decoded_again_to_the_same_bits(
    tmp_path, videos, monkeypatch
):
    folder = tmp_path / "store"
    store, manifest = decoded(videos, folder)
    before = {x: x.read_bytes() for x in files_of(folder)}
    frames = frames_of(store, manifest)
    del store
    age(folder)
    # Of some of the shards, and then of all.
    for share in (0.5, 0.0):
        total = sum(x.num_bytes for x in cache(folder))
        monkeypatch.setenv("HAR_KERAS_STORE_LIMIT", f"{share * total + 1:.0f}B")
        keep_within_limit(folder)
        assert len(files_of(folder)) < len(before)
        assert bool(files_of(folder)) == bool(share)
        monkeypatch.delenv("HAR_KERAS_STORE_LIMIT")
        store, again = decoded(videos, folder)
        assert again == manifest
        assert {x: x.read_bytes() for x in files_of(folder)} == before
        assert all(map(np.array_equal, frames, frames_of(store, again)))
        del store
        age(folder)


def frames_of(store, manifest):
    return [store.frames(v.key, np.arange(5)) for v in manifest.videos]


def test_what_goes_while_a_store_is_opened_is_decoded_again(
    tmp_path, videos, monkeypatch
):
    """Between its index was read, and the list of what it uses written."""
    folder = tmp_path / "store"
    decoded(videos, folder)
    from har_keras.store import preparation

    hold = preparation.hold

    def hold_late(store, hashes):
        cache(folder, clear=True)
        assert not files_of(folder)
        hold(store, hashes)

    monkeypatch.setattr(preparation, "hold", hold_late)
    store, manifest = decoded(videos, folder)
    assert len(frames_of(store, manifest)) == 4


@pytest.mark.usefixtures("small_limit")
def test_without_locks_nothing_is_removed(
    store_dir, videos, monkeypatch, caplog
):
    """As on a disk that is read-only, or of a network without them."""
    age(store_dir)
    before = files_of(store_dir)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    keep_within_limit(store_dir)
    assert files_of(store_dir) == before
    assert "where it may take" in caplog.text


def test_only_the_usual_store_has_a_limit_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("HAR_KERAS_STORE_LIMIT", raising=False)
    monkeypatch.setattr(limit, "default_store_dir", lambda: tmp_path / "usual")
    usage = namedtuple("usage", "total used free")(5000.0, 0, 0)
    monkeypatch.setattr(limit.shutil, "disk_usage", lambda _: usage)
    assert limit_of(tmp_path / "other").num_bytes is None
    found = limit_of(tmp_path / "usual")
    assert found.num_bytes == 500
    assert found.text == "at most 0.0 MiB (a tenth of its disk)"
    monkeypatch.setenv("HAR_KERAS_STORE_LIMIT", "off")
    assert limit_of(tmp_path / "usual").num_bytes is None
    monkeypatch.setenv("HAR_KERAS_STORE_LIMIT", "2 gib")
    assert limit_of(tmp_path / "other").num_bytes == 2 * 2**30


@pytest.mark.parametrize("text", ["", "lots", "-3GB", "0", "0GB", "3", "3XB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(UsageError, match="must be a size above 0, such as"):
        parse_size(text)


def test_a_wrong_limit_is_refused_before_a_video_is_decoded(
    videos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HAR_KERAS_STORE_LIMIT", "much")
    flags = ["--store-dir", str(tmp_path / "store"), "--wandb", "off"]
    run = ["--run-dir", str(tmp_path / "run")]
    assert train.main([str(videos), *flags, *run]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("Error: HAR_KERAS_STORE_LIMIT must be a size above")
    assert not files_of(tmp_path / "store")


def test_the_verb_shrinks_a_store_to_a_size(store_dir, capsys):
    features = next(x for x in files_of(store_dir) if x.suffix == ".npy")
    total = sum(x.num_bytes for x in cache(store_dir))
    os.utime(features, (time.time() - 3 * DAY,) * 2)
    flags = ["--store-dir", str(store_dir), "--limit", f"{total - 1}B"]
    assert main(flags) == 0
    assert "Removed 0.0 MiB" in capsys.readouterr().out
    assert not features.exists()
    assert files_of(store_dir)
    assert Path(store_dir / "photos/a.npy").is_file()
