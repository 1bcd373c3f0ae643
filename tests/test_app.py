"""The page in a real browser.

Needs the extra, a driver and Chromium: pip install "har_keras[app]" playwright
and, on Debian, apt-get install chromium.
"""

import copy
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from support.tiny_run import untrained_run
from support.videos import draw_folder, draw_video

import har_keras
from har_keras.app import __main__ as verb
from har_keras.app.page import classify, in_words
from har_keras.errors import DataError
from har_keras.inference.calibration import Calibration
from har_keras.inference.classifier import Prediction
from har_keras.inference.limits import Limits
from har_keras.inference.load import load
from har_keras.inference.timeline import TimelineConfig, build_timeline

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def classifier(tiny_run):
    return load(tiny_run.path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a class whose name is an attack on the page."""
    videos = draw_folder(
        tmp_path_factory.mktemp("videos"), per_class=4, class_names=(EVIL, "up")
    )
    return untrained_run(tmp_path_factory.mktemp("runs"), videos)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return draw_video(tmp_path_factory.mktemp("drawn") / "a.mp4", seed=7)


def test_classes_come_first_and_attention_later(classifier, video, tmp_path):
    first, second = classify(
        classifier, video, tmp_path, limits=Limits(), attention=True
    )
    expected = classifier.predict(video, timeline=True)
    assert first.probabilities == expected.probabilities
    assert first.note.startswith(expected.label)
    assert first.attention is None
    assert second.probabilities == first.probabilities
    assert first.timeline.stat().st_size > 1000
    assert second.attention.stat().st_size > 1000


def test_the_answer_is_that_of_the_timeline(classifier, video, tmp_path):
    strict = copy.copy(classifier)
    strict.calibration = Calibration(threshold=0.999, accept_errors=0.05)
    (found,) = classify(
        strict, video, tmp_path, limits=Limits(), attention=False
    )
    nearest = strict.predict(video, timeline=True)
    assert {segment.label for segment in nearest.segments} == {"none"}
    assert found.answer == "none of these"
    assert f"The nearest class is {nearest.label}" in found.note
    timeline = build_timeline(
        np.arange(9.0), np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 6),
        class_names=("gym", "walk"), seconds=10.0, window_seconds=2.0,
        options=TimelineConfig(threshold=0.85, smooth_seconds=0.0),
    )  # fmt: skip
    half = Prediction("a", "gym", 0.6, {}, 10.0, timeline=timeline)
    assert "In time: none of these for 6.5 s, gym for 3.5 s." in in_words(half)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (
            Limits(max_seconds=2),
            "200 MB and 2 seconds. Received: 0 MB and 3",
        ),
        (Limits(max_megabytes=0.001), "may have up to 0.001 MB"),
    ],
)
def test_what_is_too_much_is_refused(
    classifier, video, tmp_path, limits, words
):
    with pytest.raises(DataError, match=re.escape(words)):
        next(
            classify(
                classifier, video, tmp_path, limits=limits, attention=False
            )
        )


def test_without_its_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert verb.main(["no-run-is-opened"]) == 4
    assert 'pip install "har_keras[app]"' in capsys.readouterr().err


def test_limits_are_above_nothing(capsys):
    assert verb.main(["a-run", "--max-seconds", "0"]) == 2
    assert "must be above 0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def address(run):
    """Serves the page by a program of its own, as people do."""
    pytest.importorskip("gradio", reason='needs pip install "har_keras[app]"')
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "har_keras.app", str(run.path)),
            *("--port", "0", "--max-seconds", "20"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    words = program.stdout.readline().split()
    if len(words) < 2:
        pytest.fail(program.communicate()[1])
    yield words[1]
    program.send_signal(signal.SIGTERM)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 143, err
    assert "Traceback" not in err


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(chromium, address, request):
    """The page as it opens, and what it complained of or asked elsewhere."""
    width, height = request.param
    page = chromium.new_page(viewport={"width": width, "height": height})
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
            if sent.url.startswith((address, "data:", "blob:"))
            else page.elsewhere.append(sent.url)
        ),
    )
    page.goto(address)
    yield page
    page.close()


def wait_for(page, what):
    page.wait_for_function(what, timeout=60_000)


def picture_of(page, path):
    page.screenshot(path=path, full_page=True)
    return cv2.imread(str(path))


def test_a_video_is_dropped_and_answered(page, run, video, tmp_path):
    expected = har_keras.load(run.path).predict(video, timeline=True)
    before = picture_of(page, tmp_path / "before.png")
    page.locator("input[type=file]").first.set_input_files(video)
    wait_for(page, "[...document.images].some(x => x.naturalWidth > 300)")
    wait_for(
        page,
        "[...document.querySelectorAll('video')].filter("
        "x => x.videoWidth > 0).length == 2",
    )
    heading = page.locator("[data-testid=label-output-value]").inner_text()
    assert heading.strip() == expected.label
    shown = page.locator("body").inner_text()
    for name, share in expected.probabilities.items():
        assert re.search(rf"{re.escape(name)}\s+{round(100 * share)}%", shown)
    assert (
        f"{expected.label}, with a confidence of"
        in page.get_by_label("In words").input_value()
    )
    after = picture_of(page, tmp_path / "after.png")
    assert after.shape[1] == before.shape[1] == page.viewport_size["width"]
    # Half of the rows have something in them, and it is not what was there.
    assert (after.std((1, 2)) > 2).mean() > 0.5
    height = min(len(after), len(before))
    changed = np.abs(after[:height].astype(int) - before[:height])
    assert (changed.max(2) > 40).mean() > 0.05
    assert page.evaluate("document.body.scrollWidth <= window.innerWidth")
    assert page.complaints == []
    assert page.elsewhere == []


@pytest.mark.parametrize("kind", ["bad", "long"])
def test_what_can_not_be_used_is_said_in_a_sentence(page, tmp_path, kind):
    file = tmp_path / "<b>video.mp4"
    if kind == "bad":
        file.write_text("this is no video at all")
        sentence = "This video can't be used: not a video."
    else:
        draw_video(file, num_frames=25 * 16)
        sentence = "can't be used: A video may have up to 200 MB and 20 sec"
    page.locator("input[type=file]").first.set_input_files(file)
    toast = page.get_by_test_id("toast-body").filter(has_text=sentence)
    toast.wait_for(timeout=60_000)
    assert "Error\n" in toast.inner_text()
    assert page.elsewhere == []
