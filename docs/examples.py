"""Renders the doctests of docstrings as code blocks.

An extension of griffe, which reads docstrings for mkdocstrings. Keras doesn't
indent examples, Google's style does.
"""

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Fences each paragraph that begins with a prompt."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            paragraphs = obj.docstring.value.split("\n\n")
            obj.docstring.value = "\n\n".join(map(fenced, paragraphs))


def fenced(paragraph: str) -> str:
    """Returns a paragraph, fenced if it is a doctest."""
    if not paragraph.startswith(">>>"):
        return paragraph
    return f"```pycon\n{paragraph}\n```"
