import itertools
import os
import subprocess
import threading
import time

import numpy as np
import pytest
from support.videos import X264, draw_video, ffmpeg, moving_square, write_video

from har_keras.errors import DataError, EnvironmentFault
from har_keras.video import ffmpeg as door
from har_keras.video.ffmpeg import VideoError, probe, read_frames

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


def test_start_and_length_of_a_part(numbered_video):
    whole = decode(numbered_video)
    part = decode(numbered_video, start_seconds=1.0, max_frames=5)
    np.testing.assert_array_equal(part, whole[16:21])


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
        frames = list(read_frames(door.Path(name), fps=16.0, **OPTIONS))
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
    monkeypatch.setattr(door, "ffmpeg_binary", lambda: str(fake))
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
    monkeypatch.setattr(door, "ffmpeg_binary", lambda: str(tmp_path / "no"))
    with pytest.raises(EnvironmentFault, match="could not be started"):
        decode(tmp_path / "a.mp4")


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
            *(door.ffmpeg_binary(), "-v", "verbose", "-i", path),
            *("-map", "0:V:0", "-f", "null", "-"),
        ]
        told = subprocess.run(command, capture_output=True, check=True).stderr
        assert b"; %d frames decoded" % reader.source_frames in told, path
