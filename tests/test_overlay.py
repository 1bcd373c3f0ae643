import cv2
import numpy as np
import pytest
from support.videos import moving_square, write_video

from har_keras.errors import EnvironmentFault
from har_keras.inference.timeline import Segment, Timeline
from har_keras.report.overlay import Band, write_overlay
from har_keras.video.ffmpeg import VideoError, probe, read_frames
from har_keras.video.writer import VideoWriter, encode_mp4


def timeline(names=("gym", "walk"), seconds=2.0):
    half = seconds / 2
    return Timeline(
        names,
        np.array([0.0, half, seconds]),
        np.array([[0.9, 0.1], [0.25, 0.75]]),
        (
            Segment(0.0, half, names[0], 0.9),
            Segment(half, seconds, names[1], 0.75),
        ),
    )


def read_all(path, fps, side):
    with read_frames(
        path, fps=fps, short_side=side, timeout_seconds=30.0
    ) as reader:
        return np.stack([*reader])


def test_size_rate_length_and_sound_stay(tmp_path):
    source = write_video(
        tmp_path / "a.mp4",
        moving_square(50, height=120, width=214),
        fps=25,
        audio=True,
    )
    write_overlay(
        source, timeline(), tmp_path / "out.mp4", timeout_seconds=30.0
    )
    before, after = probe(source), probe(tmp_path / "out.mp4")
    assert (after.width, after.height) == (214, 120)
    assert after.fps == before.fps == 25
    assert after.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert after.has_audio
    shown = read_all(tmp_path / "out.mp4", 25, 120).astype(int)
    plain = read_all(source, 25, 120).astype(int)
    # The picture above the band is as it was.
    assert np.abs(shown[:50, :80] - plain[:50, :80]).mean() < 4
    assert np.abs(shown[:50, 100:] - plain[:50, 100:]).mean() > 10


def test_an_odd_size_without_sound(tmp_path):
    lossless = ("-c:v", "png", "-pix_fmt", "rgb24")
    source = write_video(
        tmp_path / "a.mov",
        moving_square(10, height=61, width=75),
        options=lossless,
    )
    write_overlay(
        source, timeline(), tmp_path / "out.mp4", timeout_seconds=30.0
    )
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.has_audio) == (74, 60, False)


def draw_pictures(folder, frames):
    folder.mkdir()
    for number, frame in enumerate(frames):
        # Not padded, so that their order is that of people; % is no pattern.
        cv2.imwrite(str(folder / f"100%d-{number}.png"), frame[..., ::-1])
    return folder


def test_pictures_in_a_folder_are_drawn_on(tmp_path):
    frames = moving_square(20, height=120, width=214)
    folder = draw_pictures(tmp_path / "pictures", frames)
    write_overlay(
        folder,
        timeline(),
        tmp_path / "out.mp4",
        timeout_seconds=30.0,
        images_fps=10.0,
    )
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.fps) == (214, 120, 10.0)
    assert info.duration_seconds == pytest.approx(2.0, abs=0.1)
    shown = read_all(tmp_path / "out.mp4", 10, 120).astype(int)
    plain = frames.astype(int)
    assert len(shown) == 20
    assert np.abs(shown[:, :80] - plain[:, :80]).mean() < 4
    assert np.abs(shown[:, 100:] - plain[:, 100:]).mean() > 10


def test_a_folder_without_pictures_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="no image in it"):
        write_overlay(
            tmp_path / "empty",
            timeline(),
            tmp_path / "out.mp4",
            timeout_seconds=30.0,
        )
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("size", [(240, 426), (426, 240), (24, 24), (12, 300)])
def test_the_band_fits_any_frame(size):
    frame = np.full((*size, 3), 128, np.uint8)
    band = Band(timeline(names=("a very long name of a class", "日本")), *size)
    for seconds in (0.0, 1.5, 99.0):
        drawn = band.drawn(frame, seconds)
        assert drawn.shape == frame.shape
        assert (drawn != frame).any()
    assert (frame == 128).all()


def test_the_bar_and_the_playhead_move():
    frame = np.zeros((240, 426, 3), np.uint8)
    band = Band(timeline(), 240, 426)
    early, late = band.drawn(frame, 0.1), band.drawn(frame, 1.9)
    blue, orange = (0, 114, 178), (213, 94, 0)

    def wide(drawn, colour):
        return (drawn[200:220] == colour).all(-1).sum(1).max()

    assert wide(early, blue) == pytest.approx(0.9 * 199, abs=3)
    assert wide(late, orange) == pytest.approx(0.75 * 199, abs=3)
    heads = [
        np.flatnonzero((x[230] == 255).all(-1)).mean() for x in (early, late)
    ]
    assert heads[1] - heads[0] == pytest.approx(0.9 * 412, abs=4)


def test_a_file_that_is_no_video_leaves_nothing(tmp_path):
    (tmp_path / "a.mp4").write_text("this is no video at all")
    with pytest.raises(VideoError):
        write_overlay(
            tmp_path / "a.mp4",
            timeline(),
            tmp_path / "out.mp4",
            timeout_seconds=30.0,
        )
    assert [x.name for x in tmp_path.iterdir()] == ["a.mp4"]


def test_a_small_clip_plays(tmp_path):
    data = encode_mp4(moving_square(16), 8.0)
    assert len(data) < 20_000
    (tmp_path / "clip.mp4").write_bytes(data)
    info = probe(tmp_path / "clip.mp4")
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")
    assert info.duration_seconds == pytest.approx(2.0, abs=0.05)
    # Its index comes first, so that a browser plays it at once.
    assert data.index(b"moov") < data.index(b"mdat")


def write_all(path, frames):
    with VideoWriter(path, (64, 48), 8.0) as writer:
        for frame in frames:
            writer.write(frame)


def test_what_can_not_be_written_is_named(tmp_path):
    path = tmp_path / "none" / "out.mp4"
    with pytest.raises(EnvironmentFault, match=r"out\.mp4' could not be"):
        write_all(path, moving_square(200))


def test_an_exception_ends_ffmpeg(tmp_path):
    def broken():
        yield moving_square(1)[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_all(tmp_path / "out.mp4", broken())
    # Without its index it is no video.
    with pytest.raises(VideoError):
        probe(tmp_path / "out.mp4")


def test_none_of_these_is_written_with_the_nearest_class(monkeypatch):
    written = []
    monkeypatch.setattr(
        "har_keras.report.overlay._letters",
        lambda text, height: (
            written.append(text) or np.zeros((height, 9), "uint8")
        ),
    )
    unsure = Timeline(
        ("gym", "walk"),
        np.array([0.0, 2.0]),
        np.array([[0.4, 0.6]]),
        (Segment(0.0, 2.0, "none", 0.6),),
    )
    Band(unsure, 120, 214).drawn(np.zeros((120, 214, 3), np.uint8), 1.0)
    assert written == ["none of these (nearest: walk)  60 %"]
