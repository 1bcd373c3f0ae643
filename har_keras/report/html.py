"""Self-contained HTML pages: one file, no scripts, no external resources.

All text is escaped, because it may be the name of a folder or file.
"""

from collections.abc import Sequence
from html import escape

_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; "
    "style-src 'unsafe-inline'"
)
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem;
  border-bottom: 1px solid #ddd; }
p { margin: .4rem 0; }
.headline { font-size: 2.4rem; font-weight: 700; line-height: 1.2; }
.note { color: #555; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left;
  vertical-align: top; border-bottom: 1px solid #eee;
  overflow-wrap: break-word; }
th { white-space: nowrap; }
td.number, th.number { text-align: right; overflow-wrap: normal; }
img { max-width: 100%; height: auto; display: block; }
figure { margin: 0 0 1rem; break-inside: avoid; }
figcaption { font-size: .95rem; }
.clip { display: flex; gap: .5rem; align-items: flex-start; }
.clip video { width: 9rem; flex: none; background: #eee; }
.clip img { min-width: 0; }
@media (max-width: 40rem) { .clip { display: block; } }
.right { color: #0072B2; font-weight: 700; }
.wrong { color: #B34700; font-weight: 700; }
code { font-size: .9em; }
details > summary { cursor: pointer; }
@media print {
  @page { margin: 15mm 15mm 18mm;
    @bottom-right { content: counter(page) " / " counter(pages);
      font: 9pt system-ui, sans-serif; color: #555; } }
  video, summary { display: none; }
  body { font-size: 10.5pt; max-width: none; padding: 0; orphans: 3;
    widows: 3; }
  h1 { font-size: 16pt; margin: 0; }
  h2 { font-size: 12.5pt; margin: 1.4rem 0 .4rem; break-after: avoid; }
  .headline { font-size: 24pt; }
  .note { color: #333; }
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
    return f"<section>\n<h2>{escape(heading)}</h2>\n{content}\n</section>"


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
