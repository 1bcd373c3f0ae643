import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from support.moving_squares import squares_manifest

from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.manifest.manifest import content_hash
from har_keras.training import fingerprint
from har_keras.training.fingerprint import RunFingerprint


@pytest.fixture
def manifest(tmp_path):
    """Four files with hashes, as a manifest has them."""
    listed = squares_manifest(tmp_path, num_videos=4)
    videos = []
    for video in listed.videos:
        path = listed.path(video)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(video.file)
        videos.append(replace(video, sha256=content_hash(path)))
    return listed.with_videos(videos)


def test_it_is_the_same_when_read_again(manifest, tmp_path):
    began = RunFingerprint.of(Config(), manifest)
    began.write(tmp_path / "beginning.json")
    read = RunFingerprint.read(tmp_path / "beginning.json")
    assert vars(read) == vars(began)
    read.refuse_changes(RunFingerprint.of(Config(), manifest), tmp_path)
    assert read.digest == began.digest


def test_a_run_of_the_same_options_and_videos_has_another_digest(manifest):
    """Its checkpoints, put into this run, are refused."""
    one, twin = (RunFingerprint.of(Config(), manifest) for _ in range(2))
    assert one.digest != twin.digest
    one.refuse_changes(twin, Path("runs/first"))


def test_the_digest_of_a_run_of_before_stays(manifest, tmp_path):
    """It has no token, and its checkpoints hold the digest."""
    now = RunFingerprint.of(Config(), manifest)
    content = {"options": now.options, "videos": now.videos, "versions": {}}
    (tmp_path / "beginning.json").write_text(json.dumps(content))
    read = RunFingerprint.read(tmp_path / "beginning.json")
    rows = [
        [name, *(row[key] for key in ("sha256", "class", "split", "frames"))]
        for name, row in now.videos.items()
    ]
    words = json.dumps([now.options, rows]).encode()
    assert read.digest == hashlib.sha256(words).hexdigest()


def test_a_changed_option_is_named(manifest, tmp_path):
    began = RunFingerprint.of(Config(), manifest)
    now = RunFingerprint.of(Config().replace(epochs=5), manifest)
    with pytest.raises(UsageError, match="--epochs was 100 and is now 5"):
        began.refuse_changes(now, tmp_path)


def test_options_that_change_no_number_are_free(manifest, tmp_path):
    began = RunFingerprint.of(Config(), manifest)
    config = Config().replace(workers=3, wandb="off", checkpoint_minutes=1.0)
    began.refuse_changes(RunFingerprint.of(config, manifest), tmp_path)


def test_another_order_of_the_videos_is_refused(manifest, tmp_path):
    began = RunFingerprint.of(Config(), manifest)
    other = manifest.with_videos(reversed(manifest.videos))
    with pytest.raises(DataError, match="in another order"):
        began.refuse_changes(RunFingerprint.of(Config(), other), tmp_path)


def test_many_changes_are_counted(manifest, tmp_path):
    began = RunFingerprint.of(Config(), manifest)
    other = manifest.with_videos(
        replace(video, kept_frames=1) for video in manifest.videos
    )
    with pytest.raises(DataError, match="frames and gives now 1; and 1 more"):
        began.refuse_changes(RunFingerprint.of(Config(), other), tmp_path)


def test_a_file_with_other_content_is_named(manifest):
    began = RunFingerprint.of(Config(), manifest)
    changed = manifest.videos[1]
    manifest.path(changed).write_text("something else")
    with pytest.raises(DataError, match=f"'{changed.file}' has other content"):
        began.refuse_touched(manifest)


def test_a_file_replaced_before_the_record_is_named(manifest):
    """Its stamp is that of the other file, and says nothing."""
    changed = manifest.videos[1]
    manifest.path(changed).write_text("something else")
    began = RunFingerprint.of(Config(), manifest)
    with pytest.raises(DataError, match=f"'{changed.file}' has other content"):
        began.refuse_touched(manifest)


def test_a_file_of_before_the_program_is_not_read_again(manifest, monkeypatch):
    later = time.time() + 60
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: later)
    began = RunFingerprint.of(Config(), manifest)
    monkeypatch.setattr(fingerprint, "content_hash", None)
    began.refuse_touched(manifest)


def test_a_copied_or_missing_file_is_no_change(manifest):
    began = RunFingerprint.of(Config(), manifest)
    copied, missing = map(manifest.path, manifest.videos[:2])
    copied.write_text(copied.read_text())
    missing.unlink()
    began.refuse_touched(manifest)


def test_other_versions_are_said(manifest, tmp_path, caplog):
    began = RunFingerprint.of(Config(), manifest)
    began.versions["keras"] = "3.0.0"
    began.refuse_changes(RunFingerprint.of(Config(), manifest), tmp_path)
    assert "began with keras 3.0.0 and resumes with" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "[" * 100_000, '{"options": {}}',
        '{"options": "x", "videos": "y", "versions": "z"}',
        '{"options": {}, "videos": {"a": 1}, "versions": {}}',
    ],
    ids=lambda text: text[:20],
)  # fmt: skip
def test_a_damaged_file_is_one_sentence(text, tmp_path):
    (tmp_path / "beginning.json").write_text(text)
    with pytest.raises(DataError, match="can't be read"):
        RunFingerprint.read(tmp_path / "beginning.json")


def test_a_run_of_version_0_1_is_resumed(manifest, tmp_path):
    """Its options have other names, and its checkpoint the hash of those."""
    now = RunFingerprint.of(Config().replace(weights="runs/a"), manifest)
    options = dict(now.options)
    del options["no_flip_classes"]
    options |= {"weights": "None", "init": "runs/a", "start": "random"}
    options["keep_side"] = ""
    content = {
        "options": options,
        "videos": now.videos,
        "versions": now.versions,
    }
    (tmp_path / "beginning.json").write_text(json.dumps(content))
    began = RunFingerprint.read(tmp_path / "beginning.json")
    began.refuse_changes(now, tmp_path)
    rows = [
        (file, *(row[key] for key in ("sha256", "class", "split", "frames")))
        for file, row in now.videos.items()
    ]
    text = json.dumps([options, rows])
    assert began.digest == hashlib.sha256(text.encode()).hexdigest()
    assert began.digest != now.digest
