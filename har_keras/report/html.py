"""Self-contained HTML pages: one file, no scripts, no external resources.

All text is escaped, because it may be the name of a folder or file.
"""

import re
from collections.abc import Sequence
from html import escape

_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; "
    "style-src 'unsafe-inline'"
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff;
  --faint: #555; --line: #ddd; --link: #0b5cad; --good: #0072B2;
  --bad: #B34700; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #161616; --faint: #b0b0b0; --line: #3a3a3a;
    --link: #8ab8f0; --good: #6cb8ec; --bad: #f0945a; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper);
  max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem;
  border-bottom: 1px solid var(--line); }
p { margin: .4rem 0; }
.headline { font-size: 2.4rem; font-weight: 700; line-height: 1.2; }
.note { color: var(--faint); }
a { color: var(--link); }
.verdict { display: grid; grid-template-columns: max-content 1fr;
  gap: .35rem 1rem; margin: .8rem 0; font-size: 1.05rem; }
.verdict dt { font-weight: 700; }
.verdict dd { margin: 0; }
.verdict ol { margin: 0; padding-left: 1.2rem; }
nav ul { list-style: none; padding: 0; margin: 1rem 0 0; display: flex;
  flex-wrap: wrap; gap: .2rem 1rem; font-size: .95rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
th { white-space: nowrap; }
td.number, th.number { text-align: right; overflow-wrap: normal; }
img { max-width: 100%; height: auto; display: block; background: #fff; }
figure { margin: 0 0 1rem; break-inside: avoid; }
figcaption { font-size: .95rem; }
.clip { display: flex; gap: .5rem; align-items: flex-start; }
.clip video { width: 9rem; flex: none; background: #eee; }
.clip img { min-width: 0; }
@media (max-width: 40rem) {
  .clip { display: block; }
  .clip video { width: 100%; max-width: 20rem; }
  .headline { font-size: 2rem; }
  .verdict { grid-template-columns: 1fr; gap: 0; }
  .verdict dd { margin-bottom: .6rem; } }
.right { color: var(--good); font-weight: 700; }
.wrong { color: var(--bad); font-weight: 700; }
code { font-size: .9em; }
details > summary { cursor: pointer; }
@media print {
  :root { --ink: #1a1a1a; --paper: #fff; --faint: #333; --line: #ddd;
    --good: #0072B2; --bad: #B34700; }
  nav { display: none; }
  @page { margin: 15mm 15mm 18mm;
    @bottom-right { content: counter(page) " / " counter(pages);
      font: 9pt system-ui, sans-serif; color: #555; } }
  video, summary { display: none; }
  body { font-size: 10.5pt; max-width: none; padding: 0; orphans: 3;
    widows: 3; }
  h1 { font-size: 16pt; margin: 0; }
  h2 { font-size: 12.5pt; margin: 1.4rem 0 .4rem; break-after: avoid; }
  .headline { font-size: 24pt; }
  .scroll { overflow: visible; }
  table, tr, figure, section > img { break-inside: avoid; }
  th, td { padding-top: .12rem; padding-bottom: .12rem; }
  thead { display: table-header-group; }
  section > img { max-height: 70mm; width: auto; }
  figure { margin-bottom: .7rem; }
  figcaption { font-size: 9.5pt; }
  details { columns: 2; column-gap: 8mm; font-size: 8.5pt; }
  details table { break-inside: auto; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""


def page(title: str, parts: Sequence[str]) -> str:
    """Returns a page made of HTML parts; empty parts are skipped."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n'
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def section(heading: str, content: str) -> str:
    """Returns a section with a heading; "" if it has no content."""
    if not content:
        return ""
    return (
        f'<section id="{_anchor(heading)}">\n<h2>{escape(heading)}</h2>\n'
        f"{content}\n</section>"
    )


def contents_list(headings: Sequence[str]) -> str:
    """Returns links to the sections of a page."""
    items = "".join(
        f'<li><a href="#{_anchor(heading)}">{escape(heading)}</a></li>'
        for heading in headings
    )
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _anchor(heading: str) -> str:
    """Returns the name of a section in links.

    Example:

    >>> _anchor("Mistakes: the 8 most confident of 12")
    'mistakes-the-8-most-confident-of-12'
    """
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of plain text; numeric columns are right-aligned."""
    right = [
        bool(rows) and all(_is_number(row[column]) for row in rows)
        for column in range(len(header))
    ]
    head = _row("th", header, right)
    body = "".join(_row("td", row, right) for row in rows)
    return (
        '<div class="scroll"><table>\n'
        f"<thead>{head}</thead>\n<tbody>{body}</tbody></table></div>"
    )


def _is_number(cell: str) -> bool:
    number = cell.removesuffix(" %").replace(".", "", 1)
    return number.isdigit()


def _row(tag: str, cells: Sequence[str], right: Sequence[bool]) -> str:
    kinds = ["number" if number else "text" for number in right]
    written = "".join(
        f'<{tag} class="{kind}">{escape(cell)}</{tag}>'
        for cell, kind in zip(cells, kinds, strict=True)
    )
    return f"<tr>{written}</tr>\n"
