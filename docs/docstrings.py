"""Fits docstrings in the manner of Keras to mkdocstrings, which has Google's.

An extension of griffe. Keras doesn't indent examples, and names an argument's
type in its text, where the signature would have it a second time.
"""

import re
from typing import Any

import griffe

# "    name: Path or str. The folder." in a section of arguments.
_TYPED = re.compile(r"^(    \*{0,2}\w+): ([^.:]{1,70})\.(?=\s|$)")
_SECTIONS = ("Args:", "Attributes:")


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
    """Returns a section of arguments as Google has it: `run (Path): Text`."""
    if not paragraph.startswith(_SECTIONS):
        return paragraph
    lines = [_TYPED.sub(r"\1 (\2):", line) for line in paragraph.split("\n")]
    return "\n".join(lines)
