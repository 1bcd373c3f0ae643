import itertools
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support.videos import X264, draw_video, ffmpeg, moving_square, write_video

from har_keras.errors import DataError, EnvironmentFault
from har_keras.files import SpecialFileError, open_regular
from har_keras.manifest.manifest import content_hash
from har_keras.video import commands
from har_keras.video import ffmpeg as door
from har_keras.video.ffmpeg import VideoError, probe, read_frames
from har_keras.video.ffmpeg_log import reason_from_content
from har_keras.video.mov import is_mirrored

OPTIONS = {"short_side": 48, "timeout_seconds": 60}


def levels(reader):
    """Returns the frame numbers that a `numbered_video` shows."""
    # Brightness comes out exact or one too low, for video has 220 levels.
    return [int(np.ceil((frame.mean() - 20) / 2 - 0.1)) for frame in reader]


def decode(path, fps=16.0, **options):
    return list(read_frames(path, fps=fps, **OPTIONS | options))


@pytest.mark.parametrize("fps", [5.0, 16.0, 25.0, 60.0])
def test_frame_k_is_on_show_k_ticks_after_the_first(numbered_video, fps):
    shown = levels(read_frames(numbered_video, fps=fps, **OPTIONS))
    ticks = np.arange(len(shown)) / fps
    assert shown == np.floor(ticks * 25 + 1e-6).astype(int).tolist()
    assert len(shown) == np.ceil(4 * fps)


def test_a_variable_rate_is_read_by_time(numbered_video, tmp_path):
    slow = tmp_path / "vfr.mp4"  # from 2 s on each picture stays twice as long
    times = "settb=1/50,setpts='if(lt(N,50),N*2,100+(N-50)*4)'"
    ffmpeg(
        *("-i", numbered_video, "-vf", times, "-fps_mode", "passthrough"),
        *("-enc_time_base", "1:50", *X264, "-qp", 0, slow),
    )
    reader = read_frames(slow, fps=12.5, **OPTIONS)
    shown = levels(reader)
    assert shown[:25] == list(range(0, 50, 2))
    assert shown[25:75] == list(range(50, 100))
    assert reader.variable_rate


@pytest.mark.parametrize("rate", [8, 60])
def test_rates_below_and_above_the_grid_take_the_same_time(tmp_path, rate):
    path = draw_video(tmp_path / "rate.mp4", num_frames=2 * rate, fps=rate)
    reader = read_frames(path, fps=16.0, **OPTIONS)
    assert len(list(reader)) == 32
    assert reader.source_frames == 2 * rate
    assert not reader.variable_rate


def test_a_slow_gif_is_held(tmp_path):
    path = draw_video(tmp_path / "a.gif", num_frames=20, fps=10, options=())
    frames = decode(path, fps=20.0)
    held = [np.array_equal(a, b) for a, b in itertools.pairwise(frames)]
    assert held[:37] == [True, False] * 18 + [True]


def test_a_stream_that_starts_late_is_read_from_its_first_frame(
    numbered_video, tmp_path
):
    path = tmp_path / "late.ts"
    ffmpeg(
        *("-i", numbered_video, "-c", "copy"),
        *("-output_ts_offset", 5, "-f", "mpegts", path),
    )
    assert levels(read_frames(path, fps=16.0, **OPTIONS)) == levels(
        read_frames(numbered_video, fps=16.0, **OPTIONS)
    )


@pytest.mark.parametrize(("turn", "corner"), [(90, 1), (180, 2), (270, 3)])
def test_rotated_videos_stand_upright(tmp_path, turn, corner):
    # One white corner: top left, and counter-clockwise from there.
    frames = np.zeros((20, 48, 64, 3), np.uint8)
    frames[:, :16, :16] = 255
    path = write_video(tmp_path / "upright.mp4", frames)
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", turn, "-i", path, "-c", "copy", turned)
    frame = decode(turned)[0]
    assert frame.shape == ((64, 48, 3) if turn in (90, 270) else (48, 64, 3))
    corners = [frame[:9, :9], frame[-9:, :9], frame[-9:, -9:], frame[:9, -9:]]
    assert np.argmax([part.mean() for part in corners]) == corner
    assert probe(turned).rotation == (-turn) % 360


@pytest.mark.parametrize(
    ("options", "corner", "rotation"),
    [
        (("-display_hflip",), "top right", 0),
        (("-display_vflip",), "bottom left", 180),
        (("-display_rotation", 90, "-display_hflip"), None, None),
    ],
)
def test_a_mirrored_video_is_shown_as_players_show_it(
    tmp_path, options, corner, rotation
):
    frames = np.zeros((4, 48, 64, 3), np.uint8)
    frames[:, :16, :16] = 255
    path = write_video(tmp_path / "plain.mp4", frames)
    mirrored = tmp_path / "mirrored.mp4"
    ffmpeg(*options, "-i", path, "-c", "copy", mirrored)
    frame, info = decode(mirrored)[0], probe(mirrored)
    corners = {
        "top left": frame[:9, :9], "top right": frame[:9, -9:],
        "bottom left": frame[-9:, :9], "bottom right": frame[-9:, -9:],
    }  # fmt: skip
    bright = max(corners, key=lambda x: corners[x].mean())
    assert info.mirrored
    assert not probe(path).mirrored
    # What `info` says, done to the stored frame, gives what is shown.
    turned = np.rot90(frames[0][:, ::-1], -info.rotation // 90)
    assert np.abs(turned.mean((0, 1)) - frame.mean((0, 1))).max() < 5
    assert turned.shape == frame.shape
    assert np.abs(turned.astype(int) - frame).mean() < 8
    if corner:
        assert (bright, info.rotation) == (corner, rotation)


def test_boxes_that_lie_about_their_size_end_the_search(tmp_path):
    data = bytearray(draw_video(tmp_path / "a.mp4").read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "bad.mp4"
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 60):
            damaged[place] = rng.choice([0, 1, 0xFF])
        path.write_bytes(damaged[: rng.integers(1, len(data))])
        assert is_mirrored(path, int(rng.integers(3))) in (True, False)


def test_a_track_of_timecodes_does_not_hide_the_video(tmp_path):
    # ffmpeg shows both as a group, and its streams further to the right.
    path = tmp_path / "camera.mov"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=s=160x120:r=25:d=1"),
        *("-f", "lavfi", "-i", "sine=duration=1", "-shortest"),
        *("-timecode", "01:00:00:00", *X264, path),
    )
    info = probe(path)
    assert (info.codec, info.width, info.height) == ("h264", 160, 120)
    assert info.fps == 25
    assert info.has_audio
    reader = read_frames(path, fps=16.0, **OPTIONS)
    assert len(list(reader)) == 16
    assert reader.info == info


def joined_tracks(path, *parts):
    inputs = [x for part in parts for x in ("-i", part)]
    maps = [x for i in range(len(parts)) for x in ("-map", i)]
    ffmpeg(*inputs, *maps, "-c", "copy", path)
    return path


def test_of_several_video_tracks_the_film_is_read(tmp_path):
    film = draw_video(tmp_path / "film.mp4", height=96, width=128)
    preview = draw_video(tmp_path / "preview.mp4", height=24, width=32)
    first = joined_tracks(tmp_path / "preview-first.mp4", preview, film)
    np.testing.assert_array_equal(decode(first), decode(film))
    assert probe(first).width == 128
    last = joined_tracks(tmp_path / "preview-last.mp4", film, preview)
    np.testing.assert_array_equal(decode(last), decode(film))


def test_a_thumbnail_of_one_picture_is_not_the_film(tmp_path):
    # Larger than the film, and no cover by its flags.
    film = draw_video(tmp_path / "film.mp4")
    picture = draw_video(
        tmp_path / "picture.mp4", num_frames=1, height=96, width=160
    )
    path = joined_tracks(tmp_path / "thumbnail-first.mov", picture, film)
    reader = read_frames(path, fps=16.0, **OPTIONS)
    np.testing.assert_array_equal(list(reader), decode(film))
    assert reader.info.width == probe(path).width == 64


def turning(path, sizes, seconds=2):
    """Writes a stream whose pictures change their size, as calls do."""
    data = b""
    for height, width in sizes:
        frames = np.zeros((25 * seconds, height, width, 3), np.uint8)
        middle = np.s_[height // 2 - 20 : height // 2 + 20]
        frames[:, middle, width // 2 - 20 : width // 2 + 20] = 255
        part = path.with_suffix(".h264")
        write_video(part, frames, fps=25, options=(*X264, "-bf", 0))
        data += part.read_bytes()
    part.write_bytes(data)
    ffmpeg("-r", 25, "-i", part, "-c", "copy", path)
    return path


@pytest.mark.parametrize("after", [(160, 120), (120, 214), (240, 320)])
def test_proportions_are_kept_where_the_shape_changes(tmp_path, after):
    path = turning(tmp_path / "turning.ts", [(120, 160), after])
    reader = read_frames(path, fps=16.0, short_side=120, timeout_seconds=60)
    frames = list(reader)
    assert len(frames) == 64
    assert {frame.shape for frame in frames} == {(120, 160, 3)}
    side = 20 if after == (240, 320) else 40
    for frame, expected in ((frames[8], 40), (frames[56], side)):
        white = frame[..., 0] > 128
        rows, columns = white.any(1).sum(), white.any(0).sum()
        assert abs(rows - expected) <= 2
        assert abs(columns - expected) <= 2
        center = np.argwhere(white).mean(0)
        np.testing.assert_allclose(center, (59.5, 79.5), atol=1.5)
    same_shape = after == (240, 320)
    assert (reader.changed_seconds is None) == same_shape
    assert ("its shape changes at 2.0 s" in reader.note) != same_shape


def test_every_change_of_size_keeps_the_time(tmp_path):
    sizes = [(48, 64), (64, 48)] * 4
    path = turning(tmp_path / "often.ts", sizes, seconds=1)
    assert abs(len(decode(path)) - 8 * 16) <= 1


def with_a_gap(path, seconds):
    """Writes a second of video, a gap, and another second."""
    times = f"setpts='if(lt(N,25),N/25/TB,({seconds}+N/25)/TB)'"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=s=160x120:r=25:d=2", "-vf", times),
        *("-fps_mode", "passthrough", *X264),
        *("-video_track_timescale", 1000, path),
    )
    return path


def test_a_frame_is_held_over_a_gap(tmp_path):
    path = with_a_gap(tmp_path / "gap.mp4", 3 * 3600)
    reader = read_frames(path, fps=16.0, **OPTIONS)
    began = time.monotonic()
    before, count = None, 0
    changes = []
    for count, frame in enumerate(reader, 1):
        if frame is not before:
            changes.append(count - 1)
        before = frame
    assert count == 16 * (3 * 3600 + 2)
    assert changes == [*range(17), *range(16 * 10801, 16 * 10802)]
    assert time.monotonic() - began < 20
    assert reader.damage == ""
    assert reader.note == "it stands still for 180 minutes at 1.0 s"
    assert reader.variable_rate


def test_a_gap_of_a_day_is_damage(tmp_path):
    path = with_a_gap(tmp_path / "gap.mp4", 24 * 3600)
    reader = read_frames(path, fps=16.0, **OPTIONS)
    assert len(list(reader)) == 17
    assert reader.damage == "a gap of 24.0 h at 1.0 s"
    assert reader._process.returncode is not None


def test_many_gaps_are_damage_too(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "_LONGEST_HOLDS_SECONDS", 100.0)
    path = tmp_path / "gaps.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=s=160x120:r=1:d=10"),
        *("-vf", "setpts=40*N/TB", "-fps_mode", "passthrough", *X264, path),
    )
    reader = read_frames(path, fps=16.0, **OPTIONS)
    assert len(list(reader)) == 2 * 40 * 16 + 1
    assert "gaps of 0.0 h in all at 80.0 s" in reader.damage


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(48, 64, (48, 64)), (251, 333, (48, 64)), (90, 50, (86, 48))],
)
def test_the_short_side_is_exact_and_proportions_are_kept(
    tmp_path, height, width, expected
):
    frames = moving_square(4, height=height, width=width)
    options = ("-c:v", "mjpeg", "-q:v", 2)
    path = write_video(tmp_path / "odd.avi", frames, options=options)
    assert decode(path)[0].shape == (*expected, 3)


def test_pixels_that_are_not_square_are_shown_as_they_should_be(tmp_path):
    frames = moving_square(4, height=48, width=64)
    path = write_video(
        tmp_path / "wide.mp4", frames, options=("-aspect", "2:1", *X264)
    )
    assert decode(path)[0].shape == (48, 96, 3)


def test_a_picture_much_longer_than_wide_is_refused(tmp_path):
    frames = np.zeros((4, 16, 400, 3), np.uint8)
    path = write_video(tmp_path / "thin.mp4", frames)
    with pytest.raises(VideoError, match="8 times"):
        decode(path)


def test_the_header_is_read_without_decoding(tmp_path):
    frames = moving_square(32, height=48, width=80)
    path = write_video(tmp_path / "a.mp4", frames, audio=True)
    info = probe(path)
    assert (info.codec, info.container) == ("h264", "mov")
    assert (info.width, info.height, info.fps) == (80, 48, 16.0)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert info.has_audio
    assert info.rotation == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"just some words " * 200, "not a video"),
        (b"<html>404 not found</html>", "web page"),
        (bytes(5000), "only zeros"),
        (b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n", "playlist"),
        (b"ffconcat version 1.0\nfile good.mp4\n", "playlist"),
    ],
)
@pytest.mark.parametrize("read", [decode, probe])
def test_what_is_no_video_is_named(tmp_path, content, reason, read):
    draw_video(tmp_path / "good.mp4")
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=reason) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, DataError)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VideoError, match="missing"):
        decode(tmp_path / "none.mp4")


def test_a_playlist_does_not_open_the_files_it_names(tmp_path):
    draw_video(tmp_path / "good.mp4")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ngood.mp4\n#EXT-X-ENDLIST"
    )
    with pytest.raises(VideoError, match="refused: a playlist"):
        decode(playlist)


def test_names_are_never_options_or_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = draw_video(tmp_path / "plain.mp4", num_frames=16)
    names = (
        "-i.mp4", "concat:a|b.mp4", "a b'\"c\n.mp4", "http:x.mp4", "%03d.mp4",
        os.fsdecode(b"\xff\xfe.mp4"),
    )  # fmt: skip
    for name in names:
        os.link(source, name)
        frames = list(read_frames(Path(name), fps=16.0, **OPTIONS))
        assert len(frames) == 16, name


def test_a_truncated_video_gives_its_first_part(tmp_path, numbered_video):
    from support.videos import truncate

    path = truncate(numbered_video, tmp_path / "cut.mp4")
    reader = read_frames(path, fps=16.0, **OPTIONS)
    kept = list(reader)
    assert 8 < len(kept) < 64
    assert reader.damage.startswith("truncated at ")
    np.testing.assert_array_equal(kept, decode(numbered_video)[: len(kept)])


def test_a_hanging_decoder_is_killed(tmp_path, monkeypatch):
    path = draw_video(tmp_path / "a.mp4")
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nsleep 60 &\nsleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setattr(commands, "ffmpeg_binary", lambda: str(fake))
    began = time.monotonic()
    with pytest.raises(VideoError, match=r"timed out after 0\.5 s") as caught:
        decode(path, timeout_seconds=0.5)
    assert caught.value.passing
    assert time.monotonic() - began < 20


def test_time_spent_by_the_caller_is_not_the_decoders(numbered_video):
    reader = read_frames(
        numbered_video, fps=16.0, short_side=48, timeout_seconds=20
    )
    reader._watchdog.timeout_seconds = 0.3
    next(reader)
    time.sleep(0.8)
    assert len(list(reader)) == 63


def test_leaving_early_ends_ffmpeg_and_its_threads(numbered_video):
    before = threading.active_count()
    with read_frames(numbered_video, fps=16.0, **OPTIONS) as reader:
        next(reader)
        process = reader._process
    assert process.returncode is not None
    assert threading.active_count() == before
    dropped = read_frames(numbered_video, fps=16.0, **OPTIONS)
    process = dropped._process
    del dropped
    assert process.returncode is not None
    assert threading.active_count() == before


def test_asking_on_after_the_end_stays_at_the_end(numbered_video):
    reader = read_frames(numbered_video, fps=16.0, **OPTIONS)
    assert len(list(reader)) == 64
    assert list(reader) == []
    assert reader.damage == ""


def test_a_missing_ffmpeg_is_a_fault_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "ffmpeg_binary", lambda: str(tmp_path / "no"))
    with pytest.raises(EnvironmentFault, match="could not be started"):
        decode(tmp_path / "a.mp4")


def test_an_ffmpeg_that_decodes_nothing_is_a_fault_of_the_machine(
    tmp_path, monkeypatch
):
    path = draw_video(tmp_path / "a.mp4")
    fake = tmp_path / "ffmpeg"
    fake.write_text('#!/bin/sh\necho "[fatal] Unknown option" >&2\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setattr(commands, "ffmpeg_binary", lambda: str(fake))
    door.require_working_ffmpeg.cache_clear()
    with pytest.raises(EnvironmentFault, match=r"Unknown option.*no video is"):
        decode(path)
    # A file that is no video is known without ffmpeg.
    path.write_bytes(b"")
    with pytest.raises(VideoError, match="empty file"):
        decode(path)


def special_files(folder):
    pipe, link = folder / "pipe.mp4", folder / "device.mp4"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    (folder / "folder.mp4").mkdir()
    name = str(folder / "socket.mp4")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(name))
    return {
        "pipe.mp4": "a named pipe",
        "device.mp4": "a device",
        "folder.mp4": "a folder",
        "socket.mp4": "a socket",
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_only_regular_files_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kinds = special_files(tmp_path)
    began = time.monotonic()
    for name, kind in kinds.items():
        path = tmp_path / name
        for read in (decode, probe):
            with pytest.raises(VideoError, match=f"refused: it is {kind}"):
                read(path)
        assert content_hash(path) == ""
        assert kind in reason_from_content(path)
        with pytest.raises(SpecialFileError, match=kind):
            open_regular(path)
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_stopping_at_damage_does_not_cut_healthy_videos(real_videos):
    from har_keras.video.extensions import EXTENSIONS

    paths = [p for p in real_videos.rglob("*") if p.suffix in EXTENSIONS]
    assert len(paths) > 200
    for path in paths:
        reader = read_frames(path, fps=16.0, **OPTIONS)
        list(reader)
        assert reader.damage == "", path
        command = [
            *(commands.ffmpeg_binary(), "-v", "verbose", "-i", path),
            *("-map", "0:V:0", "-f", "null", "-"),
        ]
        told = subprocess.run(command, capture_output=True, check=True).stderr
        assert b"; %d frames decoded" % reader.source_frames in told, path
