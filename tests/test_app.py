"""The page: its server, and the page in a real browser.

Needs the extra; for the browser also a driver and Chromium: pip install
"har_keras[app]" playwright and, on Debian, apt-get install chromium.
"""

import copy
import dataclasses
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.server import form, wait_for
from support.tiny_run import untrained_run
from support.videos import draw_folder, draw_video

from har_keras.app import __main__ as verb

pytest.importorskip("starlette", reason='needs pip install "har_keras[app]"')
pytest.importorskip("uvicorn", reason='needs pip install "har_keras[app]"')

from har_keras.app import jobs, server
from har_keras.app.answers import answer_as_json, in_words
from har_keras.inference.calibration import Calibration
from har_keras.inference.classifier import Prediction
from har_keras.inference.load import load
from har_keras.inference.timeline import (
    TimelineConfig,
    build_timeline,
)
from har_keras.report.timeline_files import timeline_texts
from har_keras.serving.frames import clip_from_images

EVIL = "<img src=x onerror=alert(1)>"
MAX_BYTES = 3_000_000
FILES = ("csv", "json", "srt", "vtt")


@pytest.fixture(scope="module")
def classifier(tiny_run):
    return load(tiny_run.path)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return draw_video(tmp_path_factory.mktemp("drawn") / "a.mp4", seed=7)


class Page:
    """The page, served by this process; requests by a plain client."""

    def __init__(self, address, folder):
        self.address = address
        self.host = address.removeprefix("http://")
        self.folder = folder

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                return response.status, response.headers, response.read()
        finally:
            connection.close()

    def video(self, content, query="", name="a.mp4"):
        kind, body = form(content, name=name)
        path = f"/api/videos{query}"
        status, headers, found = self.ask(
            "POST", path, body, **{"Content-Type": kind}
        )
        return status, headers, [*map(json.loads, found.splitlines())]

    @property
    def uploads(self):
        return [x for x in self.folder.rglob("*") if x.name != "lock"][1:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of temporary files, while the page is served."""
    folder, before = tmp_path_factory.mktemp("temporary"), tempfile.tempdir
    tempfile.tempdir = str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture(scope="module")
def page(tiny_run, folder):
    with server.app(
        str(tiny_run.path), port=0, max_seconds=20, max_waiting=1,
        max_megabytes=MAX_BYTES / 1e6,
    ) as address:  # fmt: skip
        yield Page(address, folder)
    assert [*folder.iterdir()] == []  # nothing is left


def test_the_answer_is_that_of_predict(page, classifier, video):
    status, _, events = page.video(video.read_bytes(), name="<b>.mp4")
    assert status == 200
    expected = classifier.predict(video, timeline=True)
    *before, answer = events
    assert {x["event"] for x in before} == {"progress"}
    assert answer["event"] == "answer"
    assert answer["answer"] == expected.label
    rows = expected.timeline.probabilities
    np.testing.assert_allclose(answer["rows"], rows, atol=1e-3)
    files = timeline_texts(expected.timeline, "<b>.mp4")
    assert sorted(answer["files"]) == sorted(files) == sorted(FILES)
    for kind in ("srt", "vtt"):
        assert answer["files"][kind] == files[kind]
    assert json.loads(answer["files"]["json"])["video"] == "<b>.mp4"
    assert sum(x["share"] for x in answer["times"]) == pytest.approx(1)
    assert len(answer["pictures"]) > 8
    wait_for(lambda: page.uploads == [])


def test_it_says_how_far_it_is(page, tmp_path):
    long = draw_video(tmp_path / "long.mp4", num_frames=16 * 18)
    *events, _ = page.video(long.read_bytes())[2]
    assert events[0]["phase"] == "Reading the video"
    shares = [x["share"] for x in events if x["share"] is not None]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1
    assert re.fullmatch(r"Classifying: \d+ of 18 s", events[-1]["phase"])
    # No estimate from the first batch, which ffmpeg's start is part of.
    assert events[1]["seconds_left"] is None


def test_attention_is_an_mp4_and_comes_last(page, video):
    events = page.video(video.read_bytes(), "?attention=true")[2]
    kinds = [x["event"] for x in events]
    assert kinds.index("answer") < kinds.index("attention") == len(kinds) - 1
    wait_for(lambda: page.uploads == [])


def test_none_of_these_is_the_answer_of_the_timeline(classifier, video):
    strict = copy.copy(classifier)
    strict.calibration = Calibration(threshold=0.999, accept_errors=0.05)
    found = strict.predict(video, timeline=True)
    answer = answer_as_json(found, strict, "a.mp4")
    assert answer["answer"] == "none of these"
    assert [x["label"] for x in answer["times"]] == ["none of these"]
    assert {x["label"] for x in answer["segments"]} == {"none of these"}
    assert f"The nearest class is {found.label}" in answer["words"]
    assert sorted(answer["files"]) == ["csv", "json"]


def test_the_words_are_those_of_the_timeline():
    timeline = build_timeline(
        np.arange(9.0), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 6),
        class_names=("gym", "walk"), seconds=10.0, window_seconds=2.0,
        options=TimelineConfig(threshold=0.85, smooth_seconds=0.0),
    )  # fmt: skip
    half = Prediction("a", "gym", 0.6, {"gym": 0.6}, 10.0, timeline=timeline)
    assert in_words(half) == (
        "For 3.5 of 10.0 s, with a confidence of 90 %. Besides: none of these "
        "for 6.5 s."
    )


def test_what_is_far_is_drawn(classifier, video):
    timeline = build_timeline(
        np.arange(9.0), np.tile([0.9, 0.1], (9, 1)),
        class_names=("gym", "walk"), seconds=10.0, window_seconds=2.0,
        options=TimelineConfig(
            threshold=0.5, smooth_seconds=0.0, max_distance=2.0
        ),
        distances=np.array([1.0] * 3 + [4.0] * 3 + [1.0] * 3),
    )  # fmt: skip
    found = classifier.predict(video, timeline=True)
    found = dataclasses.replace(found, label="gym", timeline=timeline)
    assert answer_as_json(found, classifier, "a.mp4")["far"] == [
        (3.5, 4.5), (4.5, 5.5), (5.5, 6.5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example:80"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/model"])
def test_pages_of_others_are_refused(page, path, headers, status):
    found, _, body = page.ask("GET", path, **headers)
    assert found == status
    if status != 200:
        assert json.loads(body)["error"].endswith(".")


def test_a_video_of_another_site_is_refused_before_it_is_read(page, video):
    kind, body = form(video.read_bytes())
    status, _, _ = page.ask(
        "POST", "/api/videos", body,
        **{"Content-Type": kind, "Origin": "http://evil.example"},
    )  # fmt: skip
    assert status == 403
    wait_for(lambda: page.uploads == [])


def test_its_own_page_may_send(page, video):
    kind, body = form(video.read_bytes())
    headers = {"Content-Type": kind, "Origin": page.address}
    assert page.ask("POST", "/api/videos", body, **headers)[0] == 200


def test_what_says_that_it_is_too_large_is_not_received(page):
    host, port = page.host.split(":")
    with socket.create_connection((host, int(port)), 30) as client:
        head = (
            f"POST /api/videos HTTP/1.1\r\nHost: {page.host}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {2**40}\r\n\r\n"
        )
        client.sendall(head.encode())
        assert b" 413 " in client.recv(4096).split(b"\r\n")[0]
    wait_for(lambda: page.uploads == [])


def test_what_turns_out_too_large_is_never_whole_on_the_disk(page):
    largest, sent = 0, 0
    kind, body = form(bytes(4 * MAX_BYTES))

    def chunks():
        nonlocal largest, sent
        for place in range(0, len(body), 2**16):
            sizes = [x.stat().st_size for x in page.uploads if x.is_file()]
            largest = max(largest, *sizes, 0) if sizes else largest
            sent = place
            yield body[place : place + 2**16]

    headers = {"Content-Type": kind}  # no length: it is sent in chunks
    status, _, found = page.ask("POST", "/api/videos", chunks(), **headers)
    assert status == 413
    assert "up to 3 MB and 20 seconds" in json.loads(found)["error"]
    assert sent > MAX_BYTES
    assert 0 < largest <= MAX_BYTES + 2**17
    wait_for(lambda: page.uploads == [])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"no video at all", "not a video"),
        (b"", "The video is empty"),
        # Its header is read, and no frame.
        (b"GIF89a" + b"\xff" * 4 + b"\x80" + bytes(3000), "can't be used: "),
        (None, "A video may have up to 3 MB and 20 seconds. Received:"),
    ],
)
def test_what_can_not_be_used_is_said_in_one_sentence(
    page, tmp_path, content, sentence
):
    if content is None:
        file = draw_video(tmp_path / "long.mp4", num_frames=16 * 23)
        content = file.read_bytes()
    status, _, events = page.video(content)
    said = [x.get("sentence") or x.get("error") for x in events][-1]
    assert sentence in said
    assert "\n" not in said
    assert "har_keras-app" not in said  # where it was, on this machine
    assert [x.get("event") for x in events].count("error") == (status == 200)
    wait_for(lambda: page.uploads == [])


def test_a_video_waits_for_another_and_a_third_is_refused(
    page, video, monkeypatch
):
    go_on, run = threading.Event(), jobs.VideoJob.run

    def held(self, classifier):
        go_on.wait(60)
        run(self, classifier)

    monkeypatch.setattr(jobs.VideoJob, "run", held)
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(page.video(video.read_bytes()))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(page.uploads) == 2)
    status, headers, (event,) = page.video(video.read_bytes())
    go_on.set()
    for thread in threads:
        thread.join()
    assert (status, headers["Retry-After"]) == (429, "5")
    assert "2 videos are being classified" in event["error"]
    assert [status for status, _, _ in found] == [200, 200]
    phases = [event.get("phase") for _, _, x in found for event in x]
    assert phases.count("Waiting for 1 video") == 1


def test_who_hangs_up_ends_the_work(page, video, monkeypatch):
    begun, cancelled = threading.Event(), []

    def endless(self, classifier):
        begun.set()
        cancelled.append(self.cancelled.wait(60))

    monkeypatch.setattr(jobs.VideoJob, "run", endless)
    kind, body = form(video.read_bytes())
    connection = http.client.HTTPConnection(page.host, timeout=60)
    connection.request("POST", "/api/videos", body, {"Content-Type": kind})
    assert begun.wait(60)
    assert len(page.uploads) == 1
    connection.close()
    wait_for(lambda: page.uploads == [])
    assert cancelled == [True]


def test_nothing_of_elsewhere_may_be_loaded(page):
    for path in ("/", "/live", "/video.js", "/api/model"):
        status, headers, body = page.ask("GET", path)
        assert status == 200
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(rb"""(?:src|href)=["'](?:https?:)?//""", body)
        assert b" style=" not in body
        assert b"innerHTML" not in body
    assert page.ask("GET", "/../../server.py")[0] == 404
    assert page.ask("DELETE", "/")[0] == 405


# A camera.


def images(clip, seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (clip.num_frames, 48, 64, 3), np.uint8)
    return [bytes(cv2.imencode(".jpg", x)[1]) for x in frames]


def body_of(frames):
    return b"".join(len(x).to_bytes(4, "big") + x for x in frames)


def test_a_clip_of_a_camera_is_answered(page, classifier):
    frames = images(classifier.config.clip)
    path = "/api/live?session=first"
    status, _, found = page.ask("POST", path, body_of(frames))
    assert status == 200
    clip = clip_from_images(frames, classifier.config.clip)
    row = classifier.model.predict_on_batch(clip[None])[0]
    shares = json.loads(found)["shares"]
    assert shares == pytest.approx(np.asarray(row), abs=1e-4)


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("?session=a", b"", 400),
        ("?session=a", b"\x00\x00\x00\x02a", 400),
        ("?session=a", b"\x00\x00\x00\x02ab", 400),
        ("", b"\x00\x00\x00\x02ab", 400),
        ("?session=../../x", b"\x00\x00\x00\x02ab", 400),
        ("?session=a", bytes(2**22), 413),
    ],
)
def test_what_is_no_clip_is_refused(page, query, body, status):
    assert page.ask("POST", f"/api/live{query}", body)[0] == status


def test_a_clip_never_waits(page, classifier, monkeypatch):
    """So the delay of a camera is that of one clip, however slow the model."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(labels, frames):
        begun.set()
        go_on.wait(60)
        return {}

    monkeypatch.setattr("har_keras.app.routes.classify_live", slow)
    body, found = body_of(images(classifier.config.clip)), []
    path = "/api/live?session=slow"
    thread = threading.Thread(
        target=lambda: found.append(page.ask("POST", path, body)[0])
    )
    thread.start()
    assert begun.wait(60)
    began = time.monotonic()
    status, _, _ = page.ask("POST", path, body)
    assert status == 429
    assert time.monotonic() - began < 5
    go_on.set()
    thread.join()
    assert found == [200]


def test_cameras_are_forgotten_in_turn(classifier):
    from har_keras.app.state import AppState
    from har_keras.inference.limits import Limits

    state = AppState(copy.copy(classifier), "x", Limits(), False, 1)
    try:
        first = state.camera("0")
        for number in range(16):
            state.camera(str(number))
        assert state.camera("0") is first
        state.camera("another")
        assert len(state.cameras) == 16
        assert "1" not in state.cameras
    finally:
        state.close()


# The verb.


def test_without_its_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert verb.main(["no-run-is-opened"]) == 4
    assert 'pip install "har_keras[app]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag", ["--max-seconds=0", "--max-megabytes=-1", "--port=70000"]
)
def test_limits_are_above_nothing(capsys, flag):
    assert verb.main(["a-run", flag]) == 2
    assert flag.split("=")[0] in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert verb.main(["no-run-is-opened", "--port", str(port)]) == 2
    assert "the port is taken" in capsys.readouterr().err


# In a browser.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a class whose name is an attack on the page."""
    videos = draw_folder(
        tmp_path_factory.mktemp("videos"), per_class=4, class_names=(EVIL, "up")
    )
    return untrained_run(tmp_path_factory.mktemp("runs"), videos)


@pytest.fixture(scope="module")
def address(run, tmp_path_factory):
    """Serves the page by a program of its own, as people do."""
    folder = tmp_path_factory.mktemp("temporary")
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "har_keras.app", str(run.path)),
            *("--port", "0", "--max-seconds", "30"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    words = program.stdout.readline().split()
    if len(words) < 2:
        pytest.fail(program.communicate()[1])
    yield words[1]
    program.send_signal(signal.SIGTERM)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 143, err
    assert "Traceback" not in err
    assert [*folder.iterdir()] == []


WINDOWS = [
    (width, scheme)
    for width in (390, 1280, 1920)
    for scheme in ("light", "dark")
]


@pytest.fixture(params=WINDOWS, ids=lambda x: f"{x[0]}-{x[1]}")
def opened(chromium, address, request):
    """Opens a page; what it complains of or asks elsewhere is a failure."""
    width, scheme = request.param
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        permissions=["camera"],
        accept_downloads=True,
    )
    context.set_default_timeout(120_000)  # a busy machine is slow to answer
    tab = context.new_page()
    complaints = []
    tab.on(
        "console",
        lambda said: (
            complaints.append(said.text) if said.type == "error" else None
        ),
    )
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    tab.on(
        "request",
        lambda sent: (
            None
            if sent.url.startswith((address, "data:", "blob:"))
            else complaints.append(sent.url)
        ),
    )

    def open_page(path="/"):
        tab.goto(address + path)
        return tab

    yield open_page
    cut = tab.evaluate(
        "[...document.querySelectorAll('body *')].filter(x => "
        "x.getBoundingClientRect().right > window.innerWidth + 1)"
        ".map(x => x.outerHTML)"
    )
    assert cut == []
    assert complaints == []
    context.close()


def sent(tab, file):
    tab.set_input_files("#file", file)
    tab.wait_for_selector("#choose:not([disabled])", timeout=90_000)
    return tab


def test_a_video_is_answered(opened, run, video):
    tab = sent(opened(), video)
    expected = load(run.path).predict(video, timeline=True)
    assert tab.inner_text("#answer") == expected.label
    assert tab.locator("#answer img").count() == 0
    rows = tab.locator("#segments tr")
    assert rows.count() == len(expected.segments)
    for row, segment in zip(rows.all(), expected.segments, strict=True):
        assert segment.label in row.inner_text()
    assert EVIL in tab.inner_text("#classes")
    with tab.expect_download() as download:
        tab.click("#downloads a:has-text('SRT')")
    content = download.value.path().read_bytes().decode()
    assert content == timeline_texts(expected.timeline, "a.mp4")["srt"]
    assert download.value.suggested_filename == "a.srt"


def test_the_timeline_moves_the_player(opened):
    tab = opened()
    tab.click("#example")
    tab.wait_for_selector("#result:not([hidden])", timeout=90_000)
    tab.wait_for_selector("#choose:not([disabled])", timeout=90_000)
    slider = tab.get_by_role("slider", name="Moment of the video")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    tab.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + 10)
    time_of = "document.getElementById('player').currentTime"
    seconds = float(slider.get_attribute("aria-valuemax"))
    assert seconds > 15
    assert tab.evaluate(time_of) == pytest.approx(0.75 * seconds, abs=0.3)
    before = tab.evaluate(time_of)
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(time_of) == pytest.approx(before - 1, abs=0.1)
    tab.keyboard.press("Home")
    assert tab.evaluate(time_of) == 0
    assert slider.get_attribute("aria-valuetext").startswith("0:00.0, ")
    tab.locator("#segments button").last.click()
    start = tab.locator("#segments button").last.inner_text().split(" ")[0]
    minutes, rest = start.split(":")
    expected = 60 * int(minutes) + float(rest)
    assert tab.evaluate(time_of) == pytest.approx(expected, abs=0.15)


def test_the_timeline_shows_what_is_far(opened, video):
    tab = opened()
    tab.evaluate(
        "() => { const parse = JSON.parse; JSON.parse = (text) => {"
        " const found = parse(text);"
        " if (found.event === 'answer') found.far.push([0.5, 1.5]);"
        " return found; } }"
    )
    span = sent(tab, video).locator("#timeline rect.far").bounding_box()
    whole = tab.locator("#timeline svg").bounding_box()
    seconds = float(tab.get_by_role("slider").get_attribute("aria-valuemax"))
    begin = (span["x"] - whole["x"]) / whole["width"] * seconds
    assert begin == pytest.approx(0.5, abs=0.02)
    assert span["width"] / whole["width"] * seconds == pytest.approx(
        1.0, abs=0.02
    )
    assert "unlike the training videos" in tab.inner_text("#legend")


def test_a_broken_file_is_one_message(opened, tmp_path):
    file = tmp_path / "<b>video.mp4"
    file.write_text("this is no video at all")
    tab = sent(opened(), file)
    (said,) = tab.locator("[role=alert] p").all_inner_texts()
    assert said == "This video can't be used: not a video."
    assert tab.locator("#result").is_hidden()


def test_a_video_that_the_browser_can_not_play_has_its_frames(
    opened, video, tmp_path
):
    from har_keras.video.commands import ffmpeg_binary

    file = tmp_path / "a.avi"
    command = [ffmpeg_binary(), "-v", "error", "-i", video, "-c:v", "mpeg4"]
    subprocess.run([*command, file], check=True)
    tab = sent(opened(), file)
    tab.wait_for_selector("#unplayable:not([hidden])", timeout=90_000)
    first = tab.get_attribute("#still", "src")
    tab.get_by_role("slider", name="Moment of the video").press("End")
    assert tab.get_attribute("#still", "src") != first


def test_a_player_that_says_nothing_is_not_waited_for(opened, video):
    tab = opened()
    tab.evaluate(
        "Object.defineProperty(HTMLMediaElement.prototype, 'src', {set() {}})"
    )
    sent(tab, video)
    assert tab.is_visible("#player")
    tab.wait_for_selector("#unplayable:not([hidden])", timeout=90_000)


def test_a_camera_is_answered_with_its_delay(opened):
    tab = opened("/live")
    tab.click("#start")
    tab.wait_for_selector("#history span", timeout=90_000)
    delay = float(tab.inner_text("#delay").removesuffix(" s"))
    assert 0 <= delay < 10  # in tenths of a second
    assert int(tab.inner_text("#done")) >= 1
    shown = tab.inner_text("#answer")
    assert shown in (EVIL, "up", "none of these")
    assert tab.evaluate("document.getElementById('camera').videoWidth") > 0
    tab.click("#stop")
    assert tab.locator("#start").is_visible()


def test_a_program_that_ended_is_said(chromium, run, tmp_path):
    """On the page, and not by waiting for ever."""
    shutil.copytree(run.path, tmp_path / "run")
    with server.app(str(tmp_path / "run"), port=0) as address:
        tab = chromium.new_page()
        tab.goto(address)
    tab.set_input_files("#file", Path(__file__))
    tab.wait_for_selector("[role=alert] p", timeout=90_000)
    assert "Is it still running?" in tab.inner_text("[role=alert]")
    tab.close()
