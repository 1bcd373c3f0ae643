import errno
import os
import tempfile

import cv2
import numpy as np
import pytest
from PIL import Image
from support.videos import draw_video, moving_square

from har_keras.errors import EnvironmentFault, UsageError
from har_keras.manifest.manifest import Manifest
from har_keras.store.spool import FrameSpool
from har_keras.video.ffmpeg import VideoError, read_frames
from har_keras.video.images import images_in, read_array, read_images
from har_keras.video.sources import Source, find_sources, own_names

OPTIONS = {"fps": 16.0, "short_side": 24, "timeout_seconds": 30.0}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "sub/b.MOV", "sub/notes.txt", ".hidden/c.mp4"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    return tmp_path


def write_pictures(folder, frames, kind=".png"):
    folder.mkdir(exist_ok=True, parents=True)
    for number, frame in enumerate(frames):
        name = str(folder / f"f{number}{kind}")
        cv2.imwrite(name, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def names(*arguments, **options):
    return [source.name for source in find_sources(arguments, **options)]


def test_a_folder_gives_its_videos(folder):
    found = names(str(folder))
    assert found == [str(folder / "a.mp4"), str(folder / "sub" / "b.MOV")]


def refuse_reading(monkeypatch, folder):
    """As of another user: root, who runs tests in containers, may read all."""
    scandir = os.scandir

    def refused(path):
        if str(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)


def test_a_folder_that_can_not_be_read_is_not_left_out(folder, monkeypatch):
    refuse_reading(monkeypatch, folder / "sub")
    said = r"sub' can't be read: Permission denied\."
    with pytest.raises(EnvironmentFault, match=said):
        names(str(folder))
    with pytest.raises(EnvironmentFault, match=said):
        Manifest.from_folder(folder, val_fraction=0, test_fraction=0, seed=0)


def test_a_glob_and_a_file_name_each_video_once(folder):
    pattern = str(folder / "**" / "*.m*")
    found = names(str(folder / "a.mp4"), pattern)
    assert found == [str(folder / "a.mp4")]
    assert str(folder / "sub" / "b.MOV") in names(str(folder / "*" / "*.MOV"))


def test_a_dash_reads_a_list():
    lines = ["one.mp4\n", "\n", "two words.mp4\r\n"]
    assert names("-", lines=lines) == ["one.mp4", "two words.mp4"]


def test_a_missing_file_is_left_to_be_reported():
    (source,) = find_sources(["no-such.mp4"])
    assert source == Source("no-such.mp4", "file", "no-such.mp4")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("http://127.0.0.1/a.mp4", "--allow-network"),
        ("rtsp://me:secret@127.0.0.1/a", "--allow-network"),
        ("ftp://127.0.0.1/a", "start with http"),
        ("concat://a", "start with http"),
        ("camera:front", "by its number"),
        ("nothing-*.mp4", "No file matches"),
    ],
)
def test_what_can_not_be_looked_at(argument, words):
    with pytest.raises(UsageError, match=words) as caught:
        find_sources([argument])
    assert "secret" not in str(caught.value)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(UsageError, match="no video"):
        find_sources([str(tmp_path)])


def test_live_sources_hide_their_passwords():
    found = find_sources(
        ["camera:1", "rtsp://me:secret@host/a?key=1"], allow_network=True
    )
    assert [x.kind for x in found] == ["live", "live"]
    assert [x.name for x in found] == ["camera:1", "rtsp://host/a"]
    assert found[1].address.endswith("me:secret@host/a?key=1")


def test_names_of_files_are_plain_and_differ():
    paths = ["../=cmd.mp4", "a/../../x.mp4", "b/x.avi", ".mp4"]
    found = own_names([Source(x, "file", x) for x in paths])
    assert found == ["cmd", "x", "x-2", "mp4"]


def read_pictures(folder, **options):
    options = {"images_fps": 16.0} | OPTIONS | options
    with read_images(folder, **options) as reader:
        return np.stack([*reader]), reader


def test_pictures_of_two_sizes_are_all_shown_in_proportion(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(20):
        shape = (48, 64, 3) if number < 10 else (64, 48, 3)
        picture = np.full(shape, 10 * number, np.uint8)
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture)
    frames, reader = read_pictures(folder)
    middle = frames[:, :, 12:20].mean((1, 2, 3))
    np.testing.assert_allclose(middle, 10.0 * np.arange(20), atol=2)
    # A picture that is higher than wide has black sides, and is not wider.
    assert frames[15, :, :3].max() == frames[15, :, -3:].max() == 0
    assert "its shape changes at 0.6 s" in reader.note


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_pictures_of_a_phone_stand_upright(tmp_path, kind):
    folder = tmp_path / "pictures"
    folder.mkdir()
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:16, :16] = 255  # top left as stored, top right as shown
    tags = Image.Exif()
    tags[0x0112] = 6
    for number in range(3):
        file = folder / f"{number}.{kind}"
        Image.fromarray(stored).save(file, exif=tags.tobytes())
    frames, _ = read_pictures(folder)
    assert frames.shape == (3, 32, 24, 3)
    assert frames[1, :6, -6:].mean() > 200
    assert frames[1, :6, :6].mean() < 50


@pytest.mark.parametrize("links", [True, False])
def test_no_folder_of_temporary_files_is_a_pattern(
    tmp_path, monkeypatch, links
):
    frames = moving_square(4)
    folder = write_pictures(tmp_path / "100% [1] %d é" / "pictures", frames)
    expected, _ = read_pictures(folder)
    temporary = tmp_path / "50% %03d [2]"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    if not links:  # as on Windows, for most people

        def refused(*arguments, **options):
            raise OSError("A required privilege is not held by the client")

        monkeypatch.setattr(os, "symlink", refused)
    found, reader = read_pictures(folder)
    np.testing.assert_array_equal(found, expected)
    del reader
    assert not list(temporary.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_pictures_is_not_opened(tmp_path):
    folder = write_pictures(tmp_path / "pictures", moving_square(3))
    os.mkfifo(folder / "f9.png")
    with pytest.raises(VideoError, match="refused: it is a named pipe"):
        read_pictures(folder)


def test_pictures_are_read_in_the_order_people_count(tmp_path):
    frames = moving_square(12)
    folder = write_pictures(tmp_path / "pictures", frames)
    assert [x.name for x in images_in(folder)][:3] == [
        "f0.png", "f1.png", "f2.png",
    ]  # fmt: skip
    (source,) = find_sources([str(folder)])
    assert source.kind == "images"
    with read_images(folder, images_fps=16.0, **OPTIONS) as reader:
        found = np.stack([*reader])
    with read_array(frames, frames_fps=16.0, **OPTIONS) as reader:
        expected = np.stack([*reader])
    assert found.shape == (12, 24, 32, 3)
    np.testing.assert_array_equal(found, expected)


def test_frames_in_memory_are_those_of_the_video(tmp_path):
    frames = moving_square(32)
    path = draw_video(tmp_path / "a.mp4", num_frames=32)
    with read_array(frames, frames_fps=16.0, **OPTIONS) as reader:
        found = np.stack([*reader]).astype(int)
    with read_frames(path, **OPTIONS) as reader:
        video = np.stack([*reader]).astype(int)
    assert found.shape == video.shape
    assert np.abs(found - video).mean() < 4


def test_a_rate_is_a_rate(tmp_path):
    frames = moving_square(20)
    with read_array(frames, frames_fps=8.0, **OPTIONS) as reader:
        assert len([*reader]) == pytest.approx(40, abs=1)


def test_a_folder_of_several_kinds_is_refused(tmp_path):
    frames = moving_square(2)
    write_pictures(tmp_path / "two", frames)
    write_pictures(tmp_path / "two", frames, ".jpg")
    with pytest.raises(VideoError, match=r"one suffix; found: \.jpg, \.png"):
        read_images(tmp_path / "two", images_fps=8.0, **OPTIONS)


@pytest.mark.parametrize(
    "frames",
    [np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8, 3)),
     np.zeros((0, 8, 8, 3), np.uint8)],
)  # fmt: skip
def test_arrays_that_are_no_frames(frames):
    with pytest.raises(ValueError, match="Frames must be"):
        read_array(frames, frames_fps=8.0, **OPTIONS)


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_a_spool_gives_frames_as_the_store_would(form, monkeypatch):
    monkeypatch.setattr("har_keras.store.spool._BYTES_IN_MEMORY", 9000)
    frames = moving_square(10)
    spool = FrameSpool(frames, form)
    found = spool.frames(np.array([7, 0, 7]))
    assert spool.num_frames == 10
    difference = np.abs(found.astype(int) - frames[[7, 0, 7]])
    assert difference.mean() < (0.1 if form == "raw" else 6)
    spool.close()
