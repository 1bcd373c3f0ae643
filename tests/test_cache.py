"""The verb that shows and prunes the frame store."""

import os
import time

import numpy as np
import pytest
from support.videos import draw_folder

from har_keras.cache import cache, main
from har_keras.config import ClipConfig, StoreConfig
from har_keras.manifest.manifest import Manifest
from har_keras.store.preparation import decode_usable

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
        (["--clear", "--unused-days", "3"], "either --clear or --unused-days"),
    ],
)
def test_wrong_options_are_named(options, sentence, capsys):
    assert main(options) == 2
    assert sentence in capsys.readouterr().err


def test_an_empty_store_is_no_fault(tmp_path, capsys):
    assert main(["--store-dir", str(tmp_path)]) == 0
    assert "It is empty." in capsys.readouterr().out
