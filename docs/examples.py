"""Shows the doctests of docstrings as code.

An extension of griffe, which reads the docstrings for mkdocstrings: Keras
leaves the examples unindented, where Google's style has them indented.
"""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Fences every paragraph that begins with a prompt."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(map(fenced, paragraphs))


def fenced(paragraph: str) -> str:
    """Returns a paragraph, as code if it is a doctest."""
    if not paragraph.startswith(">>>"):
        return paragraph
    return f"```pycon\n{paragraph}\n```"
