"""axe-core finds no serious fault on any page; nothing is cut or overlaps.

Needs Chromium, its driver and axe-core; see `support/axe.py`.
"""

import shutil

import pytest
from support.axe import axe_source, serious_faults
from support.videos import draw_folder, draw_video

from har_keras.check import check
from har_keras.compare.comparison import compare
from har_keras.compare.page import write_comparison
from har_keras.config import Config

WIDTHS = (390, 1280, 1920)
# What a page is wider than; what scrolls by itself is meant to.
CUT = """[...document.querySelectorAll('body *')].filter(x =>
    !x.closest('.scroll') && x.getClientRects().length &&
    x.getBoundingClientRect().right > window.innerWidth + 1)
    .map(x => x.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def pages(tiny_run, tmp_path_factory):
    """Pages of files: that of a run, of a folder and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    videos = folder / "videos"
    for split in ("train", "val", "test"):
        draw_folder(videos / split, per_class=2)
    long = "a very long name of a video " * 4
    draw_video(videos / "train/up" / f"{long}.mp4", seed=5)
    (videos / "train/up/broken.mp4").write_text("no video")
    shutil.copy(videos / "train/up/up-00.mp4", videos / "test/up/copy.mp4")
    config = Config().replace(cache="jpeg", store_dir=folder / "store")
    check(videos, folder / "check", config)
    other = shutil.copytree(tiny_run.path, folder / "other")
    found = compare([tiny_run.path, other])
    return {
        "report": tiny_run.report_file,
        "check": folder / "check/report.html",
        "compare": write_comparison(found, folder / "compare"),
    }


@pytest.fixture(params=["light", "dark"])
def tab(chromium, request):
    context = chromium.new_context(color_scheme=request.param)
    tab = context.new_page()
    tab.complaints = []
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    yield tab
    assert tab.complaints == []
    context.close()


def require_good(tab):
    source = axe_source()
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate(CUT) == []
        assert serious_faults(tab, source) == []


@pytest.mark.parametrize("name", ["report", "check", "compare"])
def test_a_page_of_a_file(pages, tab, name):
    tab.goto(pages[name].as_uri())
    require_good(tab)


def test_the_page_of_the_api(request, tab):
    for package in ("fastapi", "onnx", "openvino", "tf2onnx"):
        pytest.importorskip(
            package, reason='needs pip install "har_keras[serve,export]"'
        )
    from support.server import served

    # Made only where the packages are there, which the export itself needs.
    exported_run = request.getfixturevalue("exported_run")

    with served(exported_run / "saved_model") as server:
        tab.goto(f"{server.server.url}/docs")
        require_good(tab)


def test_the_app(tiny_run, tab, tmp_path):
    pytest.importorskip(
        "starlette", reason='needs pip install "har_keras[app]"'
    )
    from har_keras.app.server import app

    video = draw_video(tmp_path / "a.mp4", num_frames=16 * 8)
    with app(str(tiny_run.path), port=0) as address:
        tab.goto(address)
        require_good(tab)
        tab.set_input_files("#file", video)
        tab.wait_for_selector("#result:not([hidden])", timeout=90_000)
        require_good(tab)
        tab.goto(f"{address}/live")
        tab.click("#start")
        tab.wait_for_selector("#history span", timeout=90_000)
        require_good(tab)


def test_a_fault_is_found(tab):
    tab.set_content("<html><body><img src='data:,'></body></html>")
    found = serious_faults(tab, axe_source())
    assert "image-alt" in {name for name, _, _ in found}
