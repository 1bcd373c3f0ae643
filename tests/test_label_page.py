"""The page for labels: its server, and itself in a real browser.

Needs the extra, a driver and Chromium: pip install "har_keras[app]" playwright
and, on Debian, apt-get install chromium.
"""

import csv
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from support.videos import draw_video

from har_keras.label import __main__ as verb
from har_keras.label.assistant import Assistant
from har_keras.label.cache import Notes, PageCache
from har_keras.label.gate import refused
from har_keras.label.labels import Labels
from har_keras.label.media import Media
from har_keras.label.rows import LabelRow
from har_keras.label.training import Training, recipe_for

EVIL = "<img src=x onerror=alert(1)>"
NAMES = (
    f"{EVIL.replace('/', '')}.mp4", "a \"quoted\" 'name'.mp4", "😀 fun.mp4",
    "\u202eevil\u202c עברית.mp4",
)  # fmt: skip
HEADERS = {"X-Har-Keras": "1"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Videos with names that attack a page, and one that browsers don't play.

    Another can't be decoded, and a link leads out of the folder.
    """
    root = tmp_path_factory.mktemp("drawn").resolve()
    for seed, name in enumerate(NAMES):
        draw_video(root / name, num_frames=48, seed=seed)
    draw_video(
        root / "old.avi", num_frames=48, options=("-c:v", "mpeg4", "-q:v", "3")
    )
    (root / "broken.mp4").write_text("no video")
    (root / "link.mp4").symlink_to("/etc/hostname")
    return root


@pytest.fixture
def folder(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "videos", symlinks=True)


@pytest.fixture
def session(folder, tmp_path):
    pytest.importorskip("starlette", reason='needs "har_keras[app]"')
    from har_keras.label.session import Session

    session = Session(
        folder.resolve(), by="ann", store_dir=tmp_path / "store",
        runs=tmp_path / "runs",
    )  # fmt: skip
    yield session
    session.close()


@pytest.fixture
def client(session):
    testclient = pytest.importorskip("starlette.testclient")
    from har_keras.label.web import make_app

    return testclient.TestClient(
        make_app(session), base_url="http://127.0.0.1:7870", headers=HEADERS
    )


def number_of(state, name):
    return next(v for v, shown in state["videos"] if shown.endswith(name))


def set_label(client, state, name, **values):
    change = {"v": number_of(state, name), "s": None, "e": None, "r": ""}
    body = {"changes": [change | values], "since": 0, "number": state["number"]}
    return client.post("/api/labels", json=body)


def manifest_of(folder):
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_a_label_is_on_the_disk_before_it_is_confirmed(client, folder):
    state = client.get("/api/state").json()
    answer = set_label(client, state, "fun.mp4", set={"c": "walk", "n": "far"})
    assert answer.status_code == 200
    row = manifest_of(folder)["😀 fun.mp4"]
    assert (row["class"], row["note"], row["labelled_by"]) == (
        "walk", "far", "ann",
    )  # fmt: skip
    (sent,) = answer.json()["rows"]
    assert (sent["c"], sent["b"]) == ("walk", "ann")
    assert answer.json()["classes"] == ["walk"]


def test_what_another_window_changed_is_said(client, folder):
    state = client.get("/api/state").json()
    first = set_label(client, state, "fun.mp4", set={"c": "walk"})
    second = set_label(client, state, "fun.mp4", set={"c": "gym"})
    assert (first.status_code, second.status_code) == (200, 409)
    assert "'walk' now" in second.json()["error"]
    seen = client.get(f"/api/changes?since={state['revision']}&number=1").json()
    assert [row["c"] for row in seen["rows"]] == ["walk"]


def test_a_change_by_hand_is_seen_and_a_wrong_one_is_named(client, folder):
    state = client.get("/api/state").json()
    set_label(client, state, "fun.mp4", set={"c": "walk"})
    (folder / "manifest.csv").write_text(
        "file,class\n😀 fun.mp4,gym\n", "utf-8"
    )
    seen = client.get(f"/api/changes?since={state['revision']}&number=1").json()
    assert [row["c"] for row in seen["rows"]] == ["gym"]
    (folder / "manifest.csv").write_text("file,class\nx,y,z\n", "utf-8")
    seen = client.get("/api/changes?since=9&number=1").json()
    assert "line 2" in seen["fault"]
    refusal = set_label(client, state, "old.avi", set={"c": "walk"})
    assert refusal.status_code == 422
    assert "line 2" in refusal.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"changes": []}, {"changes": [{}], "since": 0, "number": 0},
        {"changes": [{"v": "x"}], "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": 3}], "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": {"c": 3}}], "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": {"z": 1}}], "since": 0, "number": 0},
        {"changes": [{"v": "%", "s": -1, "set": {}}], "since": 0, "number": 0},
        {"changes": [{"v": "%", "s": "1", "set": {}}], "since": 0, "number": 0},
        {"changes": [{"v": "%", "s": 2, "e": 1, "set": {"c": "a"}}],
         "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": {"c": ["a"]}}], "since": 0, "number": 0},
        {"changes": [{"v": "%", "s": 10**400, "set": {"c": "a"}}],
         "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": {"n": "half a \ud83d"}}],
         "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": {"g": "\udfff"}}],
         "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": {"p": "sideways"}}],
         "since": 0, "number": 0},
        {"changes": [{"v": "%", "set": {"c": "a"}}], "by": "\ud800",
         "since": 0, "number": 0},
    ],
)  # fmt: skip
def test_a_wrong_request_changes_nothing(client, folder, body):
    state = client.get("/api/state").json()
    text = json.dumps(body).replace("%", number_of(state, "fun.mp4"))
    answer = client.post("/api/labels", content=text)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert not (folder / "manifest.csv").exists()


@pytest.mark.parametrize(
    ("method", "headers", "words"),
    [
        ("GET", {b"host": b"evil.example"}, "this machine only"),
        ("GET", {}, "this machine only"),
        ("POST", {b"host": b"localhost:1"}, "must come from the page"),
        (
            "POST",
            {
                b"host": b"localhost:1",
                b"origin": b"http://evil.example",
                b"x-har-keras": b"1",
            },
            "other sites",
        ),
        (
            "GET",
            {b"host": b"127.0.0.1:1", b"sec-fetch-site": b"cross-site"},
            "other sites",
        ),
    ],
)
def test_others_are_kept_out(method, headers, words):
    assert words in refused(method, headers)


def test_every_answer_forbids_what_is_not_ours(client):
    for path in ("/", "/page/main.js", "/api/state", "/nowhere"):
        headers = client.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/page/..%2fweb.py").status_code == 404
    page = client.get("/").text
    assert "http:" not in page
    assert "https:" not in page


def test_no_script_sets_markup():
    page = Path(verb.__file__).parent / "page"
    assert len([*page.glob("*.js")]) > 5
    for script in page.glob("*.js"):
        text = script.read_text("utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval("):
            assert word not in text, script.name


def test_a_video_comes_by_range(client, folder):
    state = client.get("/api/state").json()
    url = f"/video/{number_of(state, 'fun.mp4')}"
    data = (folder / "😀 fun.mp4").read_bytes()
    part = client.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"


def test_what_can_not_be_opened_is_said(client):
    state = client.get("/api/state").json()
    link = client.get(f"/video/{number_of(state, 'link.mp4')}")
    assert link.status_code == 422
    assert "leads out of the folder" in link.json()["error"]
    broken = client.get(f"/api/header/{number_of(state, 'broken.mp4')}").json()
    assert "not a video" in broken["fault"]
    assert client.get("/video/0123").status_code == 422


def test_a_strip_has_ten_pictures_and_is_made_once(client, session):
    import cv2
    import numpy as np

    state = client.get("/api/state").json()
    url = f"/pictures/{number_of(state, 'fun.mp4')}"
    data = client.get(url).content
    strip = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert strip.shape == (160, 2400, 3)
    tiles = np.split(strip.astype(int), 10, axis=1)
    assert all(abs(a - b).max() > 60 for a, b in itertools.pairwise(tiles))
    made = {
        path: path.stat().st_ino
        for path in session.media.cache.folder.rglob("*.jpg")
    }
    assert client.get(f"{url}?s=0.5&e=1.5").content != data
    assert client.get(url).content == data
    assert all(path.stat().st_ino == number for path, number in made.items())


def test_what_browsers_do_not_play_comes_in_pieces(client):
    state = client.get("/api/state").json()
    number = number_of(state, "old.avi")
    assert not client.get(f"/api/header/{number}").json()["playable"]
    assert client.get(f"/api/header/{number_of(state, 'fun.mp4')}").json()[
        "playable"
    ]
    piece = client.get(f"/piece/{number}/0")
    assert piece.status_code == 200
    assert b"avc1" in piece.content
    assert client.get(f"/piece/{number}/5").status_code == 422


def test_a_long_video_is_not_decoded_whole(tmp_path):
    """The pictures of twenty minutes, and a minute of it, come in seconds."""
    draw_video(tmp_path / "short.mp4", num_frames=16 * 20)
    joined = tmp_path / "list.txt"
    joined.write_text("file 'short.mp4'\n" * 60)
    import imageio_ffmpeg

    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "concat", "-i",
         str(joined), "-c", "copy", str(tmp_path / "long.mkv")],
        check=True,
    )  # fmt: skip
    media = Media(tmp_path.resolve(), PageCache(tmp_path / "cache"))
    before = os.times()
    assert media.header("long.mkv").seconds == pytest.approx(1200, abs=2)
    media.pictures("long.mkv", None, None)
    media.piece("long.mkv", 7)
    after = os.times()
    used = after.children_user - before.children_user
    assert used < 20  # CPU seconds; decoding it whole and encoding takes more


def test_the_cache_is_kept_to_its_size(tmp_path):
    cache = PageCache(tmp_path, most_bytes=1000)
    for number in range(10):
        name = f"{number}" * 32
        path = cache.get(name, ".jpg", lambda new: new.write_bytes(b"x" * 300))
        os.utime(path, (number, number))
    cache.prune()
    assert sorted(path.name[0] for path in tmp_path.rglob("*.jpg")) == [
        "7", "8", "9",
    ]  # fmt: skip


def recording(tmp_path, **options):
    """A recording as a browser sends it: WebM without a length or an index."""
    path = draw_video(tmp_path / "made.webm", **options)
    return path.read_bytes()


WEBM = ("-c:v", "libvpx", "-deadline", "realtime", "-live", "1")


def test_a_recording_is_kept_and_labelled(client, folder, tmp_path):
    data = recording(tmp_path, num_frames=32, options=WEBM)
    answer = client.post(f"/api/record?class={'a/../b'}&group=", content=data)
    assert answer.status_code == 200, answer.text
    name = answer.json()["name"]
    assert name.startswith("a_._b/a_._b-") or name.startswith("a_b/"), name
    row = manifest_of(folder)[name]
    assert row["class"] == "a/../b"
    assert (folder / name).resolve().is_relative_to(folder.resolve())
    media = Media(folder.resolve(), PageCache(tmp_path / "cache"))
    assert media.header(name).seconds == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("kind", ["text", "half", "empty"])
def test_a_recording_that_can_not_be_decoded_does_not_count(
    client, folder, tmp_path, kind
):
    data = recording(tmp_path, num_frames=64, options=WEBM)
    data = {"text": b"no video", "half": data[:300], "empty": b""}[kind]
    before = sorted(folder.rglob("*"))
    answer = client.post("/api/record?class=walk", content=data)
    assert answer.status_code == 422
    assert "Record it again" in answer.json()["error"]
    assert sorted(folder.rglob("*")) == before


def test_a_recording_with_a_wrong_group_does_not_stay(client, folder, tmp_path):
    data = recording(tmp_path, num_frames=64, options=WEBM)
    before = sorted(folder.rglob("*"))
    url = f"/api/record?class=walk&group={'x' * 101}"
    assert client.post(url, content=data).status_code == 422
    assert sorted(folder.rglob("*")) == before


def test_export_is_a_download(client):
    state = client.get("/api/state").json()
    assert client.get("/api/export/elan").status_code == 422  # no label yet
    set_label(client, state, "fun.mp4", set={"c": "walk"})
    found = client.get("/api/export/label-studio")
    assert "attachment" in found.headers["content-disposition"]
    assert found.json()[0]["id"] == 1
    assert client.get("/api/export/nothing").status_code == 422


# A training, as far as the page sees it.
TRAINING = """
import sys, time
print("Decoding: 3/4, 2 s left", flush=True)
time.sleep({seconds})
print("Error: {error}", flush=True)
"""


def training(tmp_path, monkeypatch, *, seconds, error="no videos."):
    made = Training(
        tmp_path, Notes(tmp_path / "notes.json"), tmp_path / "train.log",
        tmp_path / "runs",
    )  # fmt: skip
    code = TRAINING.format(seconds=seconds, error=error)
    begin = made._begin

    def instead(command, run):
        assert command[1:3] == ("-m", "har_keras.train")
        assert command[-1] in ("transfer", "small-data")
        begin((sys.executable, "-c", code), run)

    monkeypatch.setattr(made, "_begin", instead)
    return made


def wait_until(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def test_a_training_outlives_the_server_and_is_found(tmp_path, monkeypatch):
    first = training(tmp_path, monkeypatch, seconds=60)
    first.start()
    with pytest.raises(Exception, match="running already"):
        first.start()
    later = Training(  # of a server that was started later
        tmp_path, Notes(tmp_path / "notes.json"), tmp_path / "train.log",
        tmp_path / "runs",
    )  # fmt: skip
    wait_until(lambda: later.status().fraction == 0.75)
    assert later.status().state == "running"
    later.stop()
    wait_until(lambda: later.status().state == "stopped")
    assert first.status().state == "stopped"


def test_a_training_that_fails_says_why(tmp_path, monkeypatch):
    made = training(tmp_path, monkeypatch, seconds=0, error="only one class.")
    made.start()
    wait_until(lambda: made.status().state == "failed")
    assert made.status().text == "only one class."


def test_the_recipe_is_that_of_what_is_here(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert recipe_for() == "small-data"
    assert recipe_for(("--backbone", "other")) == "transfer"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    assert recipe_for() == "transfer"


WORKER = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print("TensorFlow says hello")
    print(json.dumps({"text": "Decoding", "fraction": 0.5}), flush=True)
    if None not in asked["labels"]:
        print(json.dumps({"error": "nothing to do"}), flush=True)
        continue
    likely = [None if x else ["walk", 0.75] for x in asked["labels"]]
    next_ = [i for i, x in enumerate(asked["labels"]) if not x]
    answer = {"likely": likely, "next": next_, "wrong": [], "copies": []}
    print(json.dumps({"answer": answer}), flush=True)
"""


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Another program in place of the one with the network."""
    (tmp_path / "stand_in_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("har_keras.label.assistant._PAUSE_SECONDS", 0.0)
    return "stand_in_worker"


def test_suggestions_follow_the_labels(worker, tmp_path):
    assistant = Assistant(tmp_path, None, "none", worker)
    assistant.ask([LabelRow("a.mp4", "walk"), LabelRow("b.mp4")])
    wait_until(lambda: assistant.help.state == "ready")
    assert assistant.help.answer["likely"] == [None, ["walk", 0.75]]
    number = assistant.help.number
    assistant.ask([LabelRow("a.mp4", "walk"), LabelRow("b.mp4")])
    assert assistant.help.number == number  # nothing is new
    assistant.ask([LabelRow("a.mp4", "walk"), LabelRow("b.mp4", "gym")])
    wait_until(lambda: assistant.help.state == "failed")
    assert assistant.help.text == "nothing to do"
    assistant.stop()
    assert assistant.help.state == "off"


def test_without_its_extra_it_says_what_to_install(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert verb.main([str(tmp_path)]) == 4
    assert 'pip install "har_keras[app]"' in capsys.readouterr().err


def test_a_folder_without_videos_is_said(tmp_path, capsys):
    pytest.importorskip("uvicorn")
    flags = ["--no-open", "--store-dir", str(tmp_path / "store")]
    (tmp_path / "videos").mkdir()
    assert verb.main([str(tmp_path / "videos"), *flags]) == 2
    assert "There is no video" in capsys.readouterr().err
    assert verb.main([str(tmp_path / "nowhere"), *flags]) == 2
    assert verb.main([str(tmp_path), "--run", str(tmp_path), *flags]) == 3


class Program:
    """The verb in a process of its own, as people start it."""

    def __init__(self, folder, store, *flags):
        pytest.importorskip("uvicorn", reason='needs "har_keras[app]"')
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "har_keras.label", str(folder)),
                *("--port", "0", "--no-open", "--by", "ann"),
                *("--store-dir", str(store), *flags),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        words = self.process.stdout.readline().split()
        if len(words) < 2:
            pytest.fail(self.process.communicate()[1])
        self.address = words[1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=30)
        assert "Traceback" not in err


@pytest.fixture
def program(folder, tmp_path):
    made = Program(folder, tmp_path / "store")
    yield made
    made.stop()


def opened(chromium, program, size=(1280, 800)):
    page = chromium.new_page(viewport={"width": size[0], "height": size[1]})
    page.complaints, page.elsewhere = [], []
    page.on(
        "console",
        lambda said: (
            page.complaints.append(said.text) if said.type == "error" else None
        ),
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request",
        lambda sent: (
            None
            if sent.url.startswith((program.address, "data:", "blob:"))
            else page.elsewhere.append(sent.url)
        ),
    )
    page.goto(program.address)
    page.wait_for_selector(".card")
    return page


def until(page, what, argument=None):
    page.wait_for_function(f"x => {what}", arg=argument, timeout=90_000)


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def name_class(page, name):
    """Makes a class by typing, for what is selected."""
    press(page, "c")
    page.locator("dialog input").fill(name)
    press(page, "Enter")
    until(
        page,
        "[...document.querySelectorAll('#bar button.name')].some("
        "b => b.textContent.includes(x))",
        name,
    )


def pills(page):
    return page.locator(".card .pill").all_inner_texts()


def labelled(page, number):
    until(
        page,
        "document.querySelector('#count').textContent.startsWith(x) && "
        "document.querySelector('#saved').textContent === 'Saved'",
        f"{number} of",
    )


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_labelled_by_keys_in_a_browser(chromium, program, folder, size):
    page = opened(chromium, program, size)
    shown = page.locator(".card .name").all_inner_texts()
    assert {*NAMES, "old.avi", "broken.mp4"} <= {*shown} | {
        x.replace("\\u202e", "\u202e").replace("\\u202c", "\u202c")
        for x in shown
    }
    name_class(page, EVIL)
    labelled(page, 1)
    name_class(page, "walk")
    labelled(page, 2)
    press(page, "1")
    labelled(page, 3)
    press(page, "2", "u", "u")  # the last two are taken back
    labelled(page, 2)
    press(page, "Control+Shift+z")
    labelled(page, 3)
    press(page, "End", "x")
    until(page, "document.querySelector('.card.out')")
    found = manifest_of(folder)
    assert [x["class"] for x in found.values()].count(EVIL) == 2
    assert [x["left_out"] for x in found.values()].count("yes") == 1
    page.reload()
    labelled(page, 3)
    assert page.locator(".card img").count() == 0
    assert page.evaluate("() => document.body.scrollWidth <= innerWidth")
    assert page.elsewhere == []
    assert page.complaints == []
    page.close()


def test_a_video_is_cut_in_the_player(chromium, program, folder):
    page = opened(chromium, program)
    page.locator("#search").fill("fun")
    press(page, "Enter")
    press(page, "Enter")
    until(page, "document.querySelector('video').readyState >= 2")
    press(page, " ", "Home", "i")
    for _ in range(16):
        press(page, "ArrowRight")
    press(page, "o")
    until(page, "document.querySelectorAll('.track.whole .span').length === 1")
    name_class(page, "walk")
    press(page, "ArrowRight", "i", *["ArrowRight"] * 10, "o")
    until(page, "document.querySelectorAll('.track.whole .span').length === 2")
    name_class(page, "gym")
    press(page, "Escape")
    until(page, "document.querySelectorAll('.card').length === 2")
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [x["class"] for x in rows] == ["walk", "gym"]
    first, second = ((float(x["start"]), float(x["end"])) for x in rows)
    assert first[0] == 0
    assert first[1] == pytest.approx(17 / 16, abs=0.13)
    assert second[0] >= first[1] - 0.07
    assert second[1] - second[0] == pytest.approx(11 / 16, abs=0.13)
    assert page.complaints == []
    page.close()


def test_what_the_browser_can_not_play_is_shown(chromium, program):
    page = opened(chromium, program)
    page.locator("#search").fill("old.avi")
    press(page, "Enter")
    press(page, "Enter")
    until(page, "document.querySelector('video').videoWidth > 0")
    press(page, "Escape")
    page.close()


def test_two_windows_do_not_lose_each_others_work(chromium, program, folder):
    one, other = opened(chromium, program), opened(chromium, program)
    name_class(one, "walk")
    until(other, "document.querySelector('.card .pill').textContent === 'walk'")
    press(other, "ArrowRight", "1")
    labelled(one, 2)
    labelled(other, 2)
    assert len(manifest_of(folder)) == 2
    one.close()
    other.close()


def test_what_was_confirmed_is_there_after_a_kill(chromium, folder, tmp_path):
    program = Program(folder, tmp_path / "store")
    page = opened(chromium, program)
    name_class(page, "walk")
    labelled(page, 1)
    press(page, "1")
    labelled(page, 2)
    program.process.kill()
    program.process.communicate()
    press(page, "1")
    until(page, "!document.querySelector('#notice').hidden")
    assert "doesn't answer" in page.locator("#notice").inner_text()
    assert len(manifest_of(folder)) == 2
    page.close()


def sent(address, path, body=None):
    """Asks a server, as the page does; returns what it answered."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, HEADERS)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def label_until_killed(program, confirmed, seconds):
    """Names classes as fast as it goes; returns what was under way."""
    state = sent(program.address, "api/state")
    versions = {row["v"]: row["r"] for row in state["rows"]}
    videos = [v for v, _ in state["videos"]]
    threading.Timer(seconds, program.process.kill).start()
    number = max(confirmed.values(), default=0)
    while True:
        number += 1
        video = videos[number % len(videos)]
        change = {"v": video, "r": versions.get(video, ""),
                  "set": {"c": f"c{number}"}}  # fmt: skip
        body = {"changes": [change], "since": 0, "number": 0}
        try:
            answer = sent(program.address, "api/labels", body)
        except (OSError, ValueError, http.client.HTTPException):
            return video, number
        versions = {row["v"]: row["r"] for row in answer["rows"]}
        confirmed[video] = number


@pytest.mark.slow
def test_nothing_confirmed_is_lost_by_kill_9_at_30_moments(folder, tmp_path):
    confirmed = {}
    for moment in range(30):
        program = Program(folder, tmp_path / "store")
        seconds = 0.05 + 0.017 * moment
        video, number = label_until_killed(program, confirmed, seconds)
        program.process.communicate()
        from har_keras.label.session import video_number

        labels = Labels(folder.resolve())
        found = {
            video_number(row.file): int(row.class_name[1:])
            for row in labels.rows
        }
        assert {**found, video: 0} == {**confirmed, video: 0}, moment
        # What was under way is there or not.
        assert found.get(video, 0) in (confirmed.get(video, 0), number)
        confirmed |= found
    assert max(confirmed.values()) > 100


def test_the_camera_records_into_a_class(chromium, program, folder):
    page = opened(chromium, program)
    page.context.grant_permissions(["camera"], origin=program.address)
    press(page, "r")
    until(page, "document.querySelector('video.camera')?.videoWidth > 0")
    page.locator("#record-class").fill("wave")
    page.get_by_label("Length").select_option("2")
    page.locator("dialog .primary").click()
    until(page, "document.querySelector('.countdown').textContent === '3'")
    until(
        page, "document.querySelector('dialog').textContent.includes('Saved')"
    )
    ((file, row),) = manifest_of(folder).items()
    assert row["class"] == "wave"
    assert (folder / file).is_file()
    assert page.complaints == []
    page.close()


def test_only_the_cards_on_the_screen_exist(chromium, tmp_path):
    """A thousand videos: what is not seen is neither drawn nor opened."""
    folder = tmp_path / "many"
    folder.mkdir()
    video = draw_video(tmp_path / "a.mp4", num_frames=16)
    for number in range(1000):
        os.link(video, folder / f"{number:04}.mp4")
    program = Program(folder, tmp_path / "store")
    page = opened(chromium, program)
    for _ in range(5):
        page.evaluate(
            "() => { const g = document.querySelector('#grid');"
            " g.scrollTop += g.scrollHeight / 6; }"
        )
        page.wait_for_timeout(100)
        assert page.locator(".card").count() < 80
    made = [*(tmp_path / "store").rglob("*.jpg")]
    assert len(made) < 500
    page.close()
    program.stop()


@pytest.mark.slow
def test_thirty_real_videos_from_heap_to_model(chromium, real_videos, tmp_path):
    """Labelled by keys, cut, left out, trained; the suggestions are used."""
    pytest.importorskip("har_keras.suggestions")
    folder = tmp_path / "heap"
    folder.mkdir()
    classes = ("gym", "walk", "work")
    truth = {}
    files = {
        name: sorted(real_videos.glob(f"*/{name}/*.mp4")) for name in classes
    }
    for name, found in files.items():
        for number, path in enumerate(found[:: len(found) // 10][:10]):
            new = folder / f"clip{(37 * len(truth) + number) % 991:03}.mp4"
            shutil.copy(path, new)
            truth[new.name] = name
    options = tmp_path / "brief.toml"
    options.write_text(
        'recipe = "transfer"\nepochs = 8\nwandb = "off"\n', "utf-8"
    )
    program = Program(
        folder, tmp_path / "store", "--config", str(options), "--runs",
        str(tmp_path / "runs"),
    )  # fmt: skip
    page = opened(chromium, program)
    order = sorted(truth)
    for name in classes:  # keys 1 to 3
        press(page, "n")
        page.locator("dialog input").fill(name)
        press(page, "Enter")
        until(
            page,
            "document.querySelector('#bar').textContent.includes(x)", name,
        )  # fmt: skip
    press(page, "Home")
    for place, file in enumerate(order[:24], 1):
        press(page, str(1 + classes.index(truth[file])))
        labelled(page, place)
    cut_two(page, order[:2])
    page.locator("#search").fill(order[24])
    press(page, "Enter", "x")
    until(page, "document.querySelector('.card.out')")
    page.locator("#search").fill("")
    press(page, "Enter", "h")
    page.locator(".choice", has_text="No class yet").click()
    until_ready(page)
    waiting = page.locator(".card").count()
    assert page.locator(".pill.maybe").count() == waiting == 5
    press(page, "Home", "y")
    labelled(page, 27)
    page.locator("#train").click()
    page.locator("dialog .primary").click()
    wait_for_training(page)
    assert "Test accuracy" in page.locator("dialog").inner_text()
    page.close()
    program.stop()
    trains_by_the_ordinary_command(folder, tmp_path, options)


def cut_two(page, files):
    """Cuts two videos, which have a class, into two parts each."""
    for file in files:
        page.locator("#search").fill(file)
        press(page, "Enter", "Enter")
        until(page, "document.querySelector('video').readyState >= 2")
        press(page, " ", "Home", "i", *["ArrowRight"] * 12, "o")
        until(page, "document.querySelectorAll('.whole .span').length === 1")
        press(page, *["ArrowRight"] * 12, "o")
        until(page, "document.querySelectorAll('.whole .span').length === 2")
        press(page, "1", "Escape")
        until(page, "document.querySelector('#saved').textContent === 'Saved'")


def until_ready(page):
    page.wait_for_function(
        "() => document.querySelector('#help').textContent === 'Suggest' &&"
        " document.querySelector('.pill.maybe')",
        timeout=900_000,
    )


def wait_for_training(page):
    page.wait_for_function(
        "() => /Done|failed/.test(document.querySelector('dialog')"
        "?.textContent)",
        timeout=1_500_000,
    )


def trains_by_the_ordinary_command(folder, tmp_path, options):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "har_keras.train", str(folder)),
            *("--config", str(options), "--run-dir", str(tmp_path / "again")),
            *("--epochs", "1", "--store-dir", str(tmp_path / "store")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "evaluation.json").is_file()
