"""Fits docstrings in the manner of Keras to mkdocstrings, which has Google's.

An extension of griffe. Keras doesn't indent examples, and names an argument's
type in its text, where the signature would have it a second time.
"""

import re
from typing import Any

import griffe

# "    name: Path or str. The folder." in a section of arguments; a type may go
# on in the next line.
_ARGUMENT = re.compile(
    r"^    (\*{0,2}\w+): ([^.:]{1,120})\.(?=\s|$)", re.MULTILINE
)
# "    Path. The folder." after "Returns:"; a type alone stays a sentence.
_RETURNED = re.compile(
    r"^    ((?:Path|[a-z]\w+)\b[^.:]{0,120})\.(?=\s+\S)", re.MULTILINE
)
_SECTIONS = {
    "Args:": _ARGUMENT,
    "Attributes:": _ARGUMENT,
    "Returns:": _RETURNED,
}


class KerasDocstrings(griffe.Extension):
    """Fences each paragraph that begins with a prompt, and has types once."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            paragraphs = obj.docstring.value.split("\n\n")
            shown = [fenced(typed_once(text)) for text in paragraphs]
            obj.docstring.value = "\n\n".join(shown)


def fenced(paragraph: str) -> str:
    """Returns a paragraph, fenced if it is a doctest."""
    if not paragraph.startswith(">>>"):
        return paragraph
    return f"```pycon\n{paragraph}\n```"


def typed_once(paragraph: str) -> str:
    """Returns a section as Google has it: `run (Path): Text`, `Path: Text`."""
    pattern = _SECTIONS.get(paragraph.split("\n", 1)[0])
    if pattern is None:
        return paragraph
    return pattern.sub(_google, paragraph)


def _google(match: re.Match[str]) -> str:
    *name, kind = (re.sub(r"\s+", " ", group) for group in match.groups())
    return f"    {name[0]} ({kind}):" if name else f"    {kind}:"
