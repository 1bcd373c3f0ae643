"""Letters of any language in pictures: fonts of the system that have them."""

import contextlib
import functools
import logging
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from har_keras.terminal import printable

logger = logging.getLogger("har_keras")

_BASE = "DejaVu Sans"  # comes with matplotlib
# Those that look best beside it; others are taken where these are missing.
_LIKED = (
    "notosanscjk", "sourcehansans", "pingfang", "hiragino", "msyh", "yugoth",
    "meiryo", "malgun", "applesdgothic", "notosans", "segoeui", "seguisym",
    "seguiemj", "notoemoji", "symbola", "droidsans", "wqy", "arialuni",
)  # fmt: skip
# It has a box for every letter.
_BOXES = ("lastresort", "last resort", "adobeblank")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")
_MAX_FONTS = 600
_EXAMPLES = 8
_warned: set[str] = set()


def families_for(text: str) -> list[str]:
    """Returns the fonts to draw a text with; the first that has a letter.

    Letters that no font of the system has are drawn as boxes, which is said
    once.

    Args:
        text: str. Any text.

    Example:

    >>> families_for("walk")
    ['DejaVu Sans']
    """
    missing = frozenset(x for x in text if ord(x) not in _letters_of(_base()))
    missing = frozenset(x for x in missing if not unicodedata.combining(x))
    missing -= {x for x in missing if unicodedata.category(x) in _UNSEEN}
    return [_BASE, *(_fallbacks(missing) if missing else ())]


def drawn_text(text: str, height: int) -> np.ndarray:
    """Draws a line of text in bold letters.

    Args:
        text: str. The text.
        height: int. Of its letters, in pixels.

    Returns:
        A mask, `uint8` array of shape `(rows, columns)`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = round(1.4 * height), round(1.5 * height) * (len(text) + 1)
    figure = Figure((columns / 72, rows / 72), dpi=72)
    canvas = FigureCanvasAgg(figure)
    figure.text(
        0,
        0.28,
        text,
        fontsize=0.95 * height,
        fontweight="bold",
        fontfamily=families_for(text),
        parse_math=False,
    )
    with without_glyph_warnings():
        canvas.draw()
    mask = 255 - np.asarray(canvas.buffer_rgba())[..., 0]
    used = np.flatnonzero(mask.any(0))
    return mask[:, : int(used[-1]) + 2 if len(used) else 1]


@contextlib.contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Has matplotlib say nothing of boxes, and of fonts that have no bold."""
    spoken = logging.getLogger("matplotlib.font_manager")
    level = spoken.level
    spoken.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            yield
    finally:
        spoken.setLevel(level)


@functools.lru_cache(256)
def _fallbacks(missing: frozenset[str]) -> tuple[str, ...]:
    """Returns fonts that have letters, each added to those of matplotlib."""
    from matplotlib import font_manager

    left, families = set(missing), []
    for file in _system_fonts():
        mine = {x for x in left if ord(x) in _letters_of(file)}
        if not mine or not _can_draw(file, sorted(mine)[0]):
            continue
        font_manager.fontManager.addfont(file)
        families.append(font_manager.fontManager.ttflist[-1].name)
        left -= mine
        if not left:
            break
    _warn(left)
    return tuple(dict.fromkeys(families))


def _warn(left: set[str]) -> None:
    """Says once which letters are boxes."""
    new = sorted(left - _warned)
    _warned.update(left)
    if not new:
        return
    shown = " ".join(map(printable, new[:_EXAMPLES]))
    more = " …" if len(new) > _EXAMPLES else ""
    logger.warning(
        "No font of this system has these letters, so pictures have boxes in "
        "their place: %s%s. Install a font that has them, such as Noto Sans "
        "CJK or Noto Emoji.",
        shown,
        more,
    )


@functools.cache
def _base() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont(_BASE))


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """Returns the files of the system's fonts, the liked ones first.

    matplotlib's own list may be older than a font.
    """
    from matplotlib import font_manager

    def rank(file: str) -> tuple[int, int, str]:
        name = Path(file).name.lower().replace("-", "").replace("_", "")
        place = [name.startswith(x) for x in _LIKED]
        plain = "regular" in name or not any(
            x in name for x in ("bold", "light", "thin", "italic", "black")
        )
        first = place.index(True) if any(place) else len(_LIKED)
        return first, not plain, file

    found = map(str, font_manager.findSystemFonts())
    named = [x for x in found if not any(y in x.lower() for y in _BOXES)]
    return tuple(sorted(named, key=rank)[:_MAX_FONTS])


@functools.lru_cache(_MAX_FONTS)
def _letters_of(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError):  # damaged, or of a format it can't read
        return frozenset()


def _can_draw(file: str, letter: str) -> bool:
    """Whether a font has outlines, and not only colored pictures."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        font.set_size(12, 72)
        font.set_text(letter)
        font.draw_glyphs_to_bitmap()
        return bool(np.asarray(font.get_image()).any())
    except (OSError, RuntimeError, ValueError):
        return False
