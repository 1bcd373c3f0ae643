"""Names in any language, in plots and on videos."""

import logging

import numpy as np
import pytest
from matplotlib import font_manager

from har_keras.report import fonts, plots

# Letters of no language, which no font but one of boxes has.
NOWHERE = "\U000f0001\U000f0002"


@pytest.fixture
def anew(monkeypatch):
    """Forgets what was found and said before."""
    for function in (fonts._fallbacks, fonts._system_fonts):
        function.cache_clear()
    monkeypatch.setattr(fonts, "_warned", set())
    yield
    for function in (fonts._fallbacks, fonts._system_fonts):
        function.cache_clear()


def test_what_no_font_has_is_said_once(anew, caplog, tmp_path):
    with caplog.at_level(logging.WARNING, "har_keras"):
        for name in ("a.png", "b.png"):
            plots.plot_confusion([[1, 0], [0, 1]], [NOWHERE, "up"],
                                 tmp_path / name)  # fmt: skip
        fonts.drawn_text(NOWHERE, 20)
    (record,) = caplog.records
    assert "No font of this system has these letters" in record.message
    assert "Install a font" in record.message


def test_latin_cyrillic_and_arabic_need_no_other_font(anew, caplog):
    assert fonts.families_for("walk ходьба مشي 5 %") == ["DejaVu Sans"]
    assert caplog.records == []


def test_a_font_that_has_the_letters_is_found(anew, monkeypatch):
    """STIX, of matplotlib, has letters that DejaVu lacks."""
    (stix,) = [
        x.fname
        for x in font_manager.fontManager.ttflist
        if x.name == "STIXNonUnicode"
        and x.weight == 400
        and x.style == "normal"
    ]
    base = fonts._letters_of(fonts._base())
    letter = chr(min(fonts._letters_of(stix) - base))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [stix])
    assert fonts.families_for(f"up {letter}") == [
        "DejaVu Sans",
        "STIXNonUnicode",
    ]
    shown = fonts.drawn_text(letter, 40)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    fonts._fallbacks.cache_clear()
    fonts._system_fonts.cache_clear()
    box = fonts.drawn_text(letter, 40)
    assert shown.shape != box.shape or (shown != box).any()


def test_two_names_of_other_letters_look_different(anew):
    """With a font of the system; where there is none, it was said above."""
    if fonts._fallbacks(frozenset("歩健")) == ():
        pytest.skip("no font of this system has Chinese letters")
    first, second = (fonts.drawn_text(x, 30) for x in ("歩", "健"))
    assert first.shape != second.shape or (first != second).any()


@pytest.mark.parametrize("height", [9, 21, 64])
def test_letters_have_the_height_that_was_asked_for(height):
    mask = fonts.drawn_text("Ég", height)
    rows = np.flatnonzero(mask.max(1) > 128)
    assert len(mask) == round(1.4 * height)
    assert 0.9 * height < rows[-1] - rows[0] + 1 <= len(mask)
    assert rows[0] > 0 or mask[0].max() < 255


def test_a_damaged_font_is_passed_over(anew, monkeypatch, tmp_path):
    bad = tmp_path / "bad.ttf"
    bad.write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(bad)])
    assert fonts.families_for("歩") == ["DejaVu Sans"]


def test_mathematics_is_not_set(tmp_path):
    mask = fonts.drawn_text("$5 x_1$", 30)
    plain = fonts.drawn_text("5 x_1", 30)
    assert mask.shape[1] > plain.shape[1]
