"""Self-contained HTML pages: one file, no scripts, no external resources.

They are made of the templates beside this file, which escape all text: it may
be the name of a folder or file. Control characters in it are shown as escapes.
"""

import base64
import functools
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from har_keras.terminal import printable


@functools.cache
def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("har_keras.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    found.filters["base64"] = _base64
    return found


def _shown(value: Any) -> Any:
    r"""Returns what a template shows of a value, without control characters.

    Example:

    >>> _shown("a\x1b[31m\nb"), _shown(3)
    ('a\\x1b[31m\nb', 3)
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))


def parts(name: str) -> Any:
    """Returns the macros of a template, as functions that return markup.

    Args:
        name: str. The template, such as "check.html".

    Example:

    >>> print(parts("parts.html").details("<b>", "text"))
    <details><summary>&lt;b&gt;</summary>
    text</details>
    """
    return _environment().get_template(name).module


def page(title: str, content: Sequence[Markup]) -> str:
    """Returns a page made of parts; empty parts are skipped."""
    template = _environment().get_template("page.html")
    return template.render(title=title, parts=content)


def section(heading: str, content: Markup | str) -> Markup:
    """Returns a section with a heading; nothing if it has no content."""
    if not content:
        return Markup()
    made: Markup = parts("parts.html").section(
        _anchor(heading), heading, content
    )
    return made


def contents_list(headings: Sequence[str]) -> Markup:
    """Returns links to the sections of a page."""
    links = [(_anchor(heading), heading) for heading in headings]
    made: Markup = parts("parts.html").contents(links)
    return made


def _anchor(heading: str) -> str:
    """Returns the name of a section in links.

    Example:

    >>> _anchor("Mistakes: the 8 most confident of 12")
    'mistakes-the-8-most-confident-of-12'
    """
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Returns a table of plain text; numeric columns are right-aligned."""
    kinds = [
        "number"
        if rows and all(_is_number(row[column]) for row in rows)
        else "text"
        for column in range(len(header))
    ]
    name = f"Table of {', '.join(header)}"
    made: Markup = parts("parts.html").table(header, rows, kinds, name)
    return made


def paragraphs(texts: Sequence[str], kind: str = "") -> Markup:
    """Returns a paragraph for each text; `kind` is their class in CSS."""
    made: Markup = parts("parts.html").paragraphs(texts, kind)
    return made


def image(content: bytes, kind: str, text: str) -> Markup:
    """Returns a picture, with what is said where it can't be seen."""
    made: Markup = parts("parts.html").image(content, kind, text)
    return made


def _is_number(cell: str) -> bool:
    number = cell.removesuffix(" %").replace(".", "", 1)
    return number.isdigit()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
