"""The report in a real browser, and on paper.

Needs a driver and Chromium: pip install playwright and, on Debian, apt-get
install chromium.
"""

import re

import pytest
from support.tiny_run import untrained_run
from support.videos import draw_folder

NAMES = ("<script>alert(1)</script>".replace("/", "\N{FRACTION SLASH}"), "=cmd")


# Pairs of things that can be seen, of which neither holds the other.
OVERLAPS = """() => {
  const kinds = "h1, h2, p, img, video, figcaption, table";
  const seen = [...document.querySelectorAll(kinds)].filter(
    x => x.checkVisibility() && !x.closest("details"));
  if (seen.length < 30) return ["there is hardly anything"];
  const found = [];
  seen.forEach((x, i) => seen.slice(i + 1).forEach(y => {
    const a = x.getBoundingClientRect(), b = y.getBoundingClientRect();
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 1 && !x.contains(y))
      found.push([x.outerHTML.slice(0, 80), y.outerHTML.slice(0, 80)]);
  }));
  return found;
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    videos = tmp_path_factory.mktemp("videos")
    draw_folder(videos, per_class=4, class_names=NAMES)
    return untrained_run(tmp_path_factory.mktemp("runs"), videos)


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(chromium, run, request):
    width, height = request.param
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.complaints = []
    page.on("console", lambda said: page.complaints.append(said.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: page.complaints.append("a dialog"))
    page.goto(run.report_file.as_uri())
    yield page
    page.close()


def test_pictures_and_clips_load_without_complaint(page):
    page.wait_for_function(
        "[...document.querySelectorAll('video')].every(x => x.readyState > 1)"
    )
    sizes = page.evaluate("[...document.images].map(x => x.naturalWidth)")
    assert len(sizes) > 8
    assert all(sizes)
    assert page.locator("video").count() >= 4
    assert NAMES[0] in page.locator("body").inner_text()
    assert page.complaints == []


def test_nothing_overlaps_or_sticks_out(page):
    assert page.evaluate(
        "document.documentElement.scrollWidth <= window.innerWidth"
    )
    assert page.evaluate(OVERLAPS) == []


def test_on_paper_it_is_numbered_and_shows_every_option(chromium, run, request):
    page = chromium.new_page()
    request.addfinalizer(page.close)
    page.goto(run.report_file.as_uri())
    page.emulate_media(media="print")
    assert page.locator("video").first.is_hidden()
    assert page.get_by_text("learning_rate").is_visible()
    heights = page.evaluate(
        "[...document.querySelectorAll('section > img')].map(x => x.height)"
    )
    assert heights
    assert max(heights) <= 70 / 25.4 * 96 + 1
    pdf = page.pdf(format="A4", prefer_css_page_size=True)
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 3 <= pages <= 8
    assert pdf.count(b"/Subtype /Image") > 8
