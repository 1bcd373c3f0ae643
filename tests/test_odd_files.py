"""Every kind of damaged and odd file, through the door and through prepare."""

import multiprocessing
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from support import odd_files
from support.videos import draw_video, truncate

from har_keras.config import ClipConfig, StoreConfig
from har_keras.errors import EnvironmentFault
from har_keras.manifest.manifest import Manifest
from har_keras.store import decoding, store
from har_keras.store.preparation import decode_all
from har_keras.video import commands
from har_keras.video.ffmpeg import (
    VideoError,
    read_frames,
    require_working_ffmpeg,
)

CLIP = ClipConfig(num_frames=8, crop_size=42)  # 48 pixels, clips of 1 s
READ = {"fps": 16.0, "short_side": 48, "timeout_seconds": 60}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, numbered_video):
    """A folder of odd files, and what must come of each."""
    root = tmp_path_factory.mktemp("odd")
    return odd_files.make_all(root / "odd", numbered_video)


def outcome_of(outcomes, name):
    return next((p, o) for p, o in outcomes.items() if p.name == name)


@pytest.mark.parametrize("name", odd_files.FILES, ids=ascii)
def test_what_comes_of_a_file(outcomes, name):
    path, outcome = outcome_of(outcomes, name)
    reader = read_frames(path, **READ)
    if outcome.reason:
        with pytest.raises(VideoError) as caught:
            list(reader)
        assert outcome.reason in caught.value.reason
        assert not caught.value.passing
        return
    frames = list(reader)
    least, most = outcome.frames
    assert least <= len(frames) <= most
    assert {frame.shape for frame in frames} == {(*outcome.shape, 3)}
    assert reader.damage.startswith(outcome.damage)
    assert bool(reader.damage) == bool(outcome.damage)


@pytest.mark.parametrize("name", ["truncated", "flipped", "zeroed"])
def test_frames_before_the_damage_are_the_undamaged_ones(
    outcomes, name, tmp_path
):
    path, _ = outcome_of(outcomes, f"{name}.mp4")
    odd_files.detailed(tmp_path / "good.mp4")
    good = np.stack(list(read_frames(tmp_path / "good.mp4", **READ)))
    kept = np.stack(list(read_frames(path, **READ)))
    np.testing.assert_array_equal(kept, good[: len(kept)])


def test_a_folder_of_odd_files_becomes_a_manifest(outcomes, tmp_path):
    root = next(iter(outcomes)).parent.parent
    draw_video(root / "plain/one.mp4")
    (root / "odd/link.mp4").symlink_to("/etc/hostname")
    config = StoreConfig(cache="jpeg", store_dir=tmp_path / "store")
    store, manifest = decode_all(Manifest.from_folder(root), CLIP, config)
    videos = {video.file: video for video in manifest.videos}
    assert "leads out" in videos["odd/link.mp4"].reason
    for path, outcome in outcomes.items():
        video = videos[f"odd/{path.name}"]
        assert video.class_name == "odd"
        if outcome.reason:
            assert video.kept_frames == 0, video
            assert outcome.reason in video.reason
        elif outcome.damage and video.kept_frames:
            assert video.reason.startswith(outcome.damage)
            assert ", kept " in video.reason
        elif not outcome.damage:
            least, most = outcome.frames
            assert least <= video.kept_frames <= most
            frames = store.frames(video.sha256, np.arange(video.kept_frames))
            assert frames.shape[1:] == (*outcome.shape, 3)
    manifest.write(tmp_path / "manifest.csv")
    assert Manifest.read(tmp_path / "manifest.csv") == manifest


def flip_bytes(data, rng):
    """Returns data with a few to a few hundred bytes changed, or cut off."""
    damaged = bytearray(data)
    count = int(2 ** rng.uniform(0, 9))
    for place in rng.integers(len(data), size=count):
        damaged[place] = rng.integers(256)
    if rng.random() < 0.2:
        del damaged[rng.integers(1, len(damaged)) :]
    return bytes(damaged)


CONTAINERS = {
    "mp4": ("-c:v", "libx264", "-movflags", "+faststart"),
    "avi": ("-c:v", "mpeg4"),
    "webm": ("-c:v", "libvpx-vp9", "-cpu-used", 8, "-deadline", "realtime"),
    "ts": ("-c:v", "libx264"),
    "gif": (),
}


def fuzz(tmp_path, seeds):
    """Decodes damaged files; each must give frames or a reason, in time."""
    sources = {
        kind: draw_video(
            tmp_path / f"good.{kind}", num_frames=32, options=options
        ).read_bytes()
        for kind, options in CONTAINERS.items()
    }
    came = {"frames": 0, "reason": 0}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        kind = list(sources)[seed % len(sources)]
        path = tmp_path / f"bad.{kind}"
        path.write_bytes(flip_bytes(sources[kind], rng))
        began = time.monotonic()
        reader = read_frames(path, **READ | {"timeout_seconds": 20})
        shapes, reason = set(), ""
        try:
            shapes = {frame.shape for frame in reader}
        except VideoError as error:
            reason = error.reason
        # A reason, or frames of one size: never neither, never both.
        assert len(shapes) == (not reason), seed
        assert all(min(shape[:2]) == 48 for shape in shapes), seed
        came["reason" if reason else "frames"] += 1
        assert time.monotonic() - began < 60, seed
        assert reader._process.returncode is not None
    return came


def fuzz_and_measure(tmp_path):
    """Four hundred files, and the peak memory in kB of any one ffmpeg."""
    came = fuzz(tmp_path, range(1000, 1400))
    return came, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def test_damaged_bytes_neither_hang_nor_crash(tmp_path):
    came = fuzz(tmp_path, range(40))
    assert came["frames"] > 5
    assert came["reason"] > 5


@pytest.mark.slow
def test_damaged_bytes_neither_hang_nor_crash_at_length(tmp_path):
    # A process of its own: the peak is of all children that one ever had.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        came, peak = pool.submit(fuzz_and_measure, tmp_path).result()
    assert came["frames"] > 50
    assert came["reason"] > 50
    assert peak < 1.5e6  # kB; an ffmpeg of this size decodes 4K


def test_damaged_videos_keep_their_class(tmp_path):
    """However damaged, a video is of its own class or not used."""
    rng = np.random.default_rng(0)
    for name in ("down", "up"):
        data = draw_video(tmp_path / "v" / name / "0.mp4").read_bytes()
        for number in range(1, 6):
            path = tmp_path / "v" / name / f"{number}.mp4"
            path.write_bytes(flip_bytes(data, rng))
    manifest = Manifest.from_folder(tmp_path / "v")
    config = StoreConfig(cache="off")
    _, manifest = decode_all(manifest, CLIP, config)
    for video in manifest.videos:
        assert video.file.startswith(f"{video.class_name}/")
        assert video.kept_frames or video.reason
        assert video.kept_frames in (0, *range(15, 60))


MEASURE = """
import resource, sys
from pathlib import Path
from har_keras.config import ClipConfig, StoreConfig
from har_keras.manifest.manifest import Manifest
from har_keras.store.preparation import decode_all
root = Path(sys.argv[1])
config = StoreConfig("jpeg", root / "store", workers=1)
manifest = Manifest.from_folder(root / "videos")
_, manifest = decode_all(manifest, ClipConfig(), config)
assert not manifest.failed, manifest.failed
# The peak of this program alone: ru_maxrss counts that of its parent, too.
status = Path("/proc/self/status").read_text()
own = status.partition("VmHWM:")[2].split()[0]
print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
    peaks = []
    for seconds in (4, 120):
        root = tmp_path / str(seconds)
        for name in ("a", "b"):
            path = root / "videos" / name / "1.mp4"
            path.parent.mkdir(parents=True)
            odd_files.ffmpeg(
                *("-f", "lavfi", "-i", f"testsrc=s=320x240:r=16:d={seconds}"),
                *(*odd_files.X264, "-g", 250, path),
            )
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, root],
            capture_output=True,
            check=True,
            text=True,
        )
        peaks.append([int(size) for size in done.stdout.split()])
    (short, short_child), (long, long_child) = peaks
    # 1920 frames of 128 x 171 would be 126 MB.
    assert long - short < 40_000
    assert long_child - short_child < 40_000


MEASURE_READING = """
import resource, sys
from pathlib import Path
from har_keras.video.ffmpeg import read_frames
for _ in read_frames(
    Path(sys.argv[1]), fps=16.0, short_side=128, timeout_seconds=60
):
    pass
# The peak of this program alone: ru_maxrss counts that of its parent, too.
status = Path("/proc/self/status").read_text()
own = status.partition("VmHWM:")[2].split()[0]
print(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def gap(path, seconds):
    """Writes three pictures that are hours or days apart."""
    odd_files.ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=s=160x120:r=1:d=3"),
        *("-vf", f"setpts=N*{seconds}/TB", "-fps_mode", "passthrough"),
        *(*odd_files.X264, "-video_track_timescale", 1000, path),
    )


@pytest.mark.parametrize("hours", [3, 24])
def test_memory_does_not_grow_with_a_gap(tmp_path, hours):
    for name in ("a", "b"):
        draw_video(tmp_path / "videos" / name / "1.mp4")
    gap(tmp_path / "videos/a/gap.mp4", hours * 3600)
    assert (tmp_path / "videos/a/gap.mp4").stat().st_size < 20_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURE_READING, tmp_path / "videos/a/gap.mp4"],
        capture_output=True,
        check=True,
        text=True,
    )
    own, child = (int(size) for size in done.stdout.split())
    assert own < 200_000  # kB
    assert child < 100_000
    # Hours are held; days are where a clock was set.
    config = StoreConfig("jpeg", tmp_path / "store")
    manifest = Manifest.from_folder(tmp_path / "videos")
    _, manifest = decode_all(manifest, ClipConfig(), config)
    video = next(v for v in manifest.videos if v.file == "a/gap.mp4")
    if hours == 3:
        assert video.kept_frames >= 2 * 3 * 3600 * 16
        assert video.reason.startswith("it stands still for 180 minutes at ")
    else:
        assert video.kept_frames == 0
        assert "a gap of 24.0 h at 0.0 s" in video.reason


def test_a_fault_of_the_machine_is_not_kept(tmp_path, monkeypatch):
    for name in ("a", "b"):
        draw_video(tmp_path / "v" / name / "good.mp4")
    config = StoreConfig("jpeg", tmp_path / "store")
    manifest = Manifest.from_folder(tmp_path / "v")
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\necho '[fatal] Unknown option' >&2\nexit 1\n")
    fake.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "ffmpeg_binary", lambda: str(fake))
        require_working_ffmpeg.cache_clear()
        with pytest.raises(EnvironmentFault, match="no video is at fault"):
            decode_all(manifest, CLIP, config)
    _, kept = decode_all(manifest, CLIP, config)
    assert not kept.failed


def test_what_one_ffmpeg_can_not_decode_another_tries(tmp_path, monkeypatch):
    """A codec that is missing is a fault of one ffmpeg, not of the file."""
    for name in ("a", "b"):
        draw_video(tmp_path / "v" / name / "good.mp4")
    config = StoreConfig("jpeg", tmp_path / "store")
    manifest = Manifest.from_folder(tmp_path / "v")

    def fails(path, **options):
        raise VideoError(path, "there is no decoder for its codec")

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_video", fails)
        for module in (decoding, store):
            patch.setattr(module, "ffmpeg_id", lambda: "another ffmpeg")
        _, kept = decode_all(manifest, CLIP, config)
        assert len(kept.failed) == 2
        # The same one is not asked again.
        patch.setattr(decoding, "read_video", None)
        _, kept = decode_all(manifest, CLIP, config)
        assert [v.reason for v in kept.failed] == 2 * [
            "there is no decoder for its codec"
        ]
    for _ in range(2):  # also with both entries in the store
        _, kept = decode_all(manifest, CLIP, config)
        assert not kept.failed


def test_a_change_of_shape_is_told(tmp_path, caplog):
    draw_video(tmp_path / "b/good.mp4")
    path = tmp_path / "a/turned.ts"
    path.parent.mkdir()
    data = b""
    for size in ("64x48", "48x64"):
        part = tmp_path / "part.h264"
        odd_files.ffmpeg(
            *("-f", "lavfi", "-i", f"testsrc=s={size}:r=25:d=2"),
            *(*odd_files.X264, "-bf", 0, part),
        )
        data += part.read_bytes()
    part.write_bytes(data)
    odd_files.ffmpeg("-r", 25, "-i", part, "-c", "copy", path)
    store = StoreConfig("jpeg", tmp_path / "store")
    manifest = Manifest.from_folder(tmp_path)
    for _ in range(2):  # decoded, then from the store
        caplog.clear()
        _, kept = decode_all(manifest, CLIP, store)
        video = next(v for v in kept.videos if v.file == "a/turned.ts")
        assert video.kept_frames == 64
        assert video.reason.startswith("its shape changes at 2.0 s")
        assert "'a/turned.ts': its shape changes" in caplog.text
        assert "in part" not in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_in_the_folder_is_named_at_once(tmp_path):
    for name in ("a", "b"):
        draw_video(tmp_path / name / "good.mp4")
    os.mkfifo(tmp_path / "a/pipe.mp4")
    began = time.monotonic()
    manifest = Manifest.from_folder(tmp_path)
    _, manifest = decode_all(manifest, CLIP, StoreConfig(cache="off"))
    (failed,) = manifest.failed
    assert failed.reason == "refused: it is a named pipe, not a file"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8, 0.9])
def test_a_part_that_does_not_fill_a_clip_is_left_out(tmp_path, share):
    source = draw_video(tmp_path / "source.mp4", num_frames=64)
    for name in ("a", "b"):
        draw_video(tmp_path / "v" / name / "good.mp4")
    truncate(source, tmp_path / "v/a/cut.mp4", share)
    manifest = Manifest.from_folder(tmp_path / "v")
    _, manifest = decode_all(manifest, CLIP, StoreConfig(cache="off"))
    cut = next(v for v in manifest.videos if v.file == "a/cut.mp4")
    if cut.kept_frames:
        assert cut.kept_frames >= 15
        assert ", kept " in cut.reason
    else:
        assert "before one clip is full" in cut.reason


def test_an_unreadable_file_is_named(tmp_path):
    for name in ("a", "b"):
        draw_video(tmp_path / name / "good.mp4")
    path = draw_video(tmp_path / "a/locked.mp4")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    manifest = Manifest.from_folder(tmp_path)
    _, manifest = decode_all(manifest, CLIP, StoreConfig(cache="off"))
    (failed,) = manifest.failed
    assert "ermission" in failed.reason
