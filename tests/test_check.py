import base64
import csv
import html.parser
import re
import shutil

import cv2
import numpy as np
import pytest
from support.videos import (
    draw_folder,
    draw_video,
    ffmpeg,
    truncate,
    write_video,
)

from har_keras.check import check, main
from har_keras.config import Config
from har_keras.errors import UsageError
from har_keras.report import check_page
from har_keras.report.check_page import remarks
from har_keras.store.shards import StoredVideo
from har_keras.video.ffmpeg_log import VideoInfo


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory):
    """Splits with good, damaged, black, frozen and doubled videos."""
    root = tmp_path_factory.mktemp("check") / "mixed"
    for split in ("train", "val", "test"):
        draw_folder(root / split, per_class=2)
        for number, path in enumerate(sorted((root / split).rglob("*.mp4"))):
            seed = 50 + number + 10 * len(split)
            draw_video(path, seed=seed, height=96, width=128)
    up, down = root / "train/up", root / "train/down"
    truncate(draw_video(root / "x.mp4", num_frames=96), up / "cut.mp4", 0.75)
    (root / "x.mp4").unlink()
    (up / "<b>text.mp4").write_text("no video")
    write_video(down / "black.mp4", np.zeros((40, 48, 64, 3), np.uint8))
    still = np.zeros((40, 48, 64, 3), np.uint8)
    still[:, ::2, :20] = 200
    write_video(down / "frozen.mp4", still)
    shutil.copy(root / "train/up/up-00.mp4", root / "test/up/again.mp4")
    ffmpeg("-display_rotation", 90, "-i", up / "up-01.mp4", "-c", "copy",
           root / "val/up/turned.mp4")  # fmt: skip
    return root


def options(tmp_path):
    return Config().replace(cache="jpeg", store_dir=tmp_path / "store")


def test_everything_is_named(mixed_folder, tmp_path):
    before = sorted(p.stat().st_mtime_ns for p in mixed_folder.rglob("*"))
    report = check(mixed_folder, tmp_path / "out", options(tmp_path))
    after = sorted(p.stat().st_mtime_ns for p in mixed_folder.rglob("*"))
    assert after == before
    with (tmp_path / "out/videos.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == len(report.manifest.videos) == 18
    assert rows["train/up/up-00.mp4"]["verdict"] == "used"
    assert rows["train/up/up-00.mp4"]["width"] == "128"
    assert rows["train/up/cut.mp4"]["verdict"] == "used in part"
    assert "truncated at" in rows["train/up/cut.mp4"]["reason"]
    assert rows["train/up/<b>text.mp4"]["verdict"] == "not used"
    assert rows["train/down/black.mp4"]["remarks"] == "black throughout"
    assert rows["train/down/frozen.mp4"]["remarks"] == "frozen throughout"
    assert rows["val/up/turned.mp4"]["rotation"] == "270"
    with (tmp_path / "out/duplicates.csv").open(newline="") as file:
        pairs = [
            (row["first"], row["second"])
            for row in csv.DictReader(file)
            if row["leak"] == "yes" and row["kind"] == "same file"
        ]
    assert pairs == [("test/up/again.mp4", "train/up/up-00.mp4")]


def test_the_page_names_everything_and_runs_nothing(mixed_folder, tmp_path):
    check(mixed_folder, tmp_path / "out", options(tmp_path))
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "&lt;b&gt;text.mp4" in page
    assert "<b>text" not in page
    assert "<script" not in page
    for words in ("truncated at", "black throughout", "again.mp4", "17 of 18"):
        assert words in page


def test_names_with_control_characters_are_escaped(tmp_path, capsys):
    root = draw_folder(tmp_path / "v", per_class=2, num_frames=8)
    (root / "up/up-00.mp4").rename(root / "up/a\x1b]0;x\x07\u202e\x9b.mp4")
    (root / "down/b\x1b[2J.mp4").write_text("no video")
    check(root, tmp_path / "out", options(tmp_path))
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert r"b\x1b[2J.mp4" in page
    assert not set(page) & set("\x1b\x07\x9b\u202e")
    out, to = tmp_path / "o\x1b[31m", tmp_path / "m\x1b[2J.csv"
    flags = ["--store-dir", str(tmp_path / "store"), "--to", str(to)]
    assert main([str(root), "--output", str(out), *flags]) == 0
    said = capsys.readouterr().out
    assert r"o\x1b[31m" in said
    assert r"m\x1b[2J.csv" in said
    assert "\x1b" not in said


class Pictures(html.parser.HTMLParser):
    """The pictures of a page by what is said of them."""

    def __init__(self, page):
        super().__init__()
        self.found = {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if tag == "img":
            head, _, data = known["src"].partition(",")
            assert head == "data:image/jpeg;base64"
            coded = np.frombuffer(base64.b64decode(data), np.uint8)
            self.found[known["alt"]] = cv2.imdecode(coded, 1)


def test_the_page_shows_every_class_and_duplicates_side_by_side(
    mixed_folder, tmp_path
):
    report = check(mixed_folder, tmp_path / "out", options(tmp_path))
    page = (tmp_path / "out/report.html").read_text("utf-8")
    pictures = Pictures(page).found
    usable = [x for x in report.manifest.videos if x.kept_frames]
    assert {f"Frames of {x.name}" for x in usable} == set(pictures)
    assert pictures["Frames of train/down/black.mp4"].max() < 40
    # A leak comes first, both videos below the words.
    pair = page[page.index("Leak between splits") :]
    first, second = (pair.index(x) for x in ("again.mp4", "train/up/up-00.mp4"))
    assert first < second
    shown = page.count('class="pair"')
    assert shown == min(40, len(report.duplicates))
    assert f"And {len(report.duplicates) - shown} more, in" in page
    assert '<section id="class-up">' in page
    assert '<a href="#class-up">' in page
    groups = page[page.index("<h2>Groups: ") :]
    assert groups.index("such as") < groups.index("</table>")


def test_of_many_videos_some_are_shown_and_the_rest_counted(
    mixed_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(check_page, "_MOST_OF_CLASS", 4)
    monkeypatch.setattr(check_page, "_MOST_GROUPS", 3)
    check(mixed_folder, tmp_path / "out", options(tmp_path))
    page = (tmp_path / "out/report.html").read_text("utf-8")
    sheet = page[page.index('id="class-up"') :]
    assert sheet.count("<img") == 4
    assert re.search(r"And \d+ more\.", sheet)
    assert re.search(r"Groups: the 3 largest of \d+", page)


def test_the_terminal_says_it_too(mixed_folder, tmp_path, capsys):
    arguments = ["--store-dir", str(tmp_path / "s"), "--cache", "jpeg"]
    arguments += ["--output", str(tmp_path / "out")]
    assert main([str(mixed_folder), *arguments]) == 0
    said = capsys.readouterr()
    row = re.search(r"^up +train +(\d+) +(\d+)", said.out, re.MULTILINE)
    assert row.groups() == ("4", "3")
    assert "frozen throughout" in said.out
    assert re.search(r"^up: sizes \d+x\d+ \(\d+\)", said.out, re.MULTILINE)
    last = said.out.splitlines()[-1]
    assert (
        last == f"Next         har-keras train {mixed_folder} --recipe transfer"
    )
    assert "'train/up/<b>text.mp4' is not used: not a video" in said.err
    assert "A leak between splits: 'test/up/again.mp4' (test)" in said.err
    assert main([str(mixed_folder), *arguments, "--strict"]) == 3
    assert "The split leaks" in capsys.readouterr().err


def test_a_class_with_nothing_usable_ends_with_3(tmp_path, capsys):
    root = draw_folder(tmp_path / "v", per_class=2)
    for path in (root / "up").iterdir():
        path.write_text("no video")
    arguments = ["--cache", "off", "--output", str(tmp_path / "out")]
    assert main([str(root), *arguments]) == 3
    said = capsys.readouterr()
    assert "class 'up' can be used (2: not a video)" in said.err
    assert "Next" not in said.out
    # The report is there all the same: it is needed most now.
    assert (tmp_path / "out/report.html").is_file()
    assert "down" in said.out


def test_a_missing_folder_is_a_slip(tmp_path):
    with pytest.raises(UsageError):
        check(tmp_path / "none")


def stored(source_frames, **info):
    declared = VideoInfo(fps=25.0, duration_seconds=10.0)
    return StoredVideo("x", source_frames=source_frames, info=declared, **info)


@pytest.mark.parametrize(
    ("video", "expected"),
    [
        (stored(250), []),
        (stored(249), []),
        (stored(167), ["declares 250 frames but 167 decode"]),
        (stored(167, damage="truncated at 6.7 s"), []),
    ],
)
def test_headers_that_promise_more_are_named(video, expected):
    rng = np.random.default_rng(0)
    pictures = rng.integers(256, size=(9, 16, 16)).astype(np.uint8)
    assert remarks(video, pictures) == expected
