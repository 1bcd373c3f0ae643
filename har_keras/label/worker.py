"""Answers the page's questions about labels, in a process of its own.

A line of JSON on the standard input is a question, and lines on the standard
output are how far it is, and its answer. It ends with its input, that is, with
the server.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from har_keras.errors import HarError

Question = dict[str, Any]


def main() -> None:
    """Answers questions until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what libraries print is no answer
    for question in _questions(sys.stdin):
        try:
            _say(out, answer=answer(question, lambda **x: _say(out, **x)))
        except HarError as error:
            _say(out, error=str(error))
        except Exception as error:  # the page says it; the next may succeed
            _say(out, error=f"Suggestions failed: {error!r}")


_saying = threading.Lock()  # videos are decoded by several threads


def _say(out: IO[str], **message: Any) -> None:
    with _saying:
        out.write(json.dumps(message) + "\n")
        out.flush()


def _questions(stream: IO[str]) -> Iterator[Question]:
    """Yields questions; ends the process with the input, whatever it does."""
    waiting: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            waiting.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(waiting.get())


Say = Callable[..., None]


def answer(question: Question, say: Say) -> dict[str, Any]:
    """Returns suggestions for the samples of a question.

    Args:
        question: dict. As `Assistant` sends it.
        say: Callable. Is told `text` and `fraction`.
    """
    from har_keras.suggestions.suggest import suggest

    seen = _seen(json.dumps(_without_labels(question)), say)
    say(text="Comparing", fraction=None)
    found = suggest(seen.features, question["labels"], seen.groups)
    return {
        "likely": seen.likely or found.likely,
        "next": found.label_next,
        "wrong": found.look_wrong,
        "copies": seen.copies,
    }


@dataclass(frozen=True)
class _Seen:
    """What does not change with the labels: one set of samples is kept."""

    features: Any
    groups: list[str]
    likely: list[tuple[str, float] | None]
    copies: list[tuple[int, int, float]]


_kept: dict[str, _Seen] = {}


def _without_labels(question: Question) -> Question:
    return {k: v for k, v in question.items() if k != "labels"}


def _seen(asked: str, say: Say) -> _Seen:
    if asked not in _kept:
        _kept.clear()
        _kept[asked] = _look(json.loads(asked), say)
    return _kept[asked]


def _look(question: Question, say: Say) -> _Seen:
    """Decodes the samples, and asks the networks about them."""
    from har_keras.suggestions.answers import run_answers
    from har_keras.suggestions.copies import copies, scene_groups
    from har_keras.suggestions.features import sample_features
    from har_keras.suggestions.samples import Sample

    def progress(text: str, done: int, total: int) -> None:
        say(text=text, fraction=done / total if total else None)

    root, run = Path(question["root"]), question["run"]
    store_dir = Path(question["store_dir"]) if question["store_dir"] else None
    samples = [Sample(root / f, s, e) for f, s, e in question["samples"]]
    say(text="Starting the network", fraction=None)
    features = sample_features(
        samples, store_dir, run=run, backbone=question["backbone"],
        progress=progress,
    )  # fmt: skip
    likely: list[tuple[str, float] | None] = []
    if run:
        found = run_answers(samples, store_dir, run, progress=progress)
        likely = found.likely
    say(text="Looking for copies and scenes", fraction=None)
    groups = scene_groups(samples, question["groups"], store_dir)
    return _Seen(features, groups, likely, copies(samples, store_dir))


if __name__ == "__main__":
    main()
