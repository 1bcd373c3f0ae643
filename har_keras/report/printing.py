"""Prints predictions: a table for people, JSON lines or CSV."""

import csv
import json
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from har_keras.inference.classifier import Prediction
from har_keras.inference.timeline import NONE
from har_keras.manifest.formats.cells import guarded
from har_keras.serving.acceptance import FAR
from har_keras.terminal import printable

NONE_OF_THESE = "none of these"
"""What people read where no class is accepted."""

_FAR_NOTE = (
    f'"{FAR}": too far from the training videos for any confidence to count;\n'
    "nine in ten groups of validation videos are nearer."
)
_ACCEPTED, _REFUSAL = "accepted", "refusal"
_WIDTH = 80
_NAME, _LABEL = 30, 16
_MOST_FILES = 12


class Table:
    """Prints a line per video, and its segments below it, in 80 columns.

    Args:
        class_names: tuple of str. Classes in label order.
    """

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.files: list[str] = []
        self.has_far = False

    def __call__(self, found: Prediction) -> None:
        if found.failed:
            return
        self.has_far |= found.refusal == FAR
        self.files += found.files
        print(_line(found))
        for segment in found.segments:
            label = segment.label if segment.label != NONE else NONE_OF_THESE
            print(
                f"    {segment.start_seconds:8.1f} s to "
                f"{segment.end_seconds:8.1f} s  "
                f"{fitted(label, _LABEL)} {segment.score:4.0%}"
            )
        sys.stdout.flush()

    def close(self) -> None:
        """Names the files that were written; of many, their folders."""
        if self.has_far:
            print(_FAR_NOTE, flush=True)
        if not self.files:
            return
        named = sorted(map(printable, self.files))
        if len(named) > _MOST_FILES:
            folders = Counter(printable(Path(x).parent) for x in self.files)
            named = [f"{n} files in {where}" for where, n in folders.items()]
        print("Written:", *named, sep="\n    ", flush=True)


def fitted(name: str, width: int) -> str:
    """Returns a name in a column: padded, or shortened in the middle.

    Args:
        name: str. Any text; of control characters, the escapes count.
        width: int. Columns, at least 3.

    Example:

    >>> fitted("walk", 6), fitted("videos/test/walk-0093.mp4", 16)
    ('walk  ', 'videos/…0093.mp4')
    """
    text = printable(name)
    if _columns(text) <= width:
        return text + " " * (width - _columns(text))
    head, tail = text, text
    while _columns(head) > (width - 1) // 2:
        head = head[:-1]
    while _columns(head) + 1 + _columns(tail) > width:
        tail = tail[1:]
    short = f"{head}…{tail}"
    return short + " " * (width - _columns(short))


def _columns(text: str) -> int:
    """Returns how many columns of a terminal a text takes.

    Example:

    >>> _columns("walk"), _columns("歩く")
    (4, 4)
    """
    return sum(
        0
        if unicodedata.combining(letter)
        else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def _line(found: Prediction) -> str:
    """Returns the line of a video: name, answer, the other classes."""
    shares = whole_percents(found.calibrated or found.probabilities or {})
    label = found.label if found.accepted else NONE_OF_THESE
    confidence = f"{found.confidence:4.0%}"
    if found.calibrated and found.label in shares:
        confidence = f"{shares[found.label]:3d}%"
    if found.refusal == FAR:  # However sure, it does not count.
        confidence = f" {FAR}"
    if found.accepted:
        shares.pop(found.label, None)
    ranked = sorted(shares, key=shares.__getitem__, reverse=True)
    line = f"{fitted(found.name, _NAME)}  {fitted(label, _LABEL)} {confidence} "
    if found.delay_seconds is not None:  # Of a live source.
        return (
            f"{line} {found.seconds:.1f} s, {found.delay_seconds:.2f} s behind"
        )
    rest = ""
    if not found.accepted:  # Its share is the confidence, once calibrated.
        rest = f" nearest: {fitted(ranked.pop(0), _LABEL).rstrip()}"
    for name in ranked:
        item = f" {fitted(name, _LABEL).rstrip()} {shares[name]}%"
        if _columns(line + rest + item) > _WIDTH - 2 * (name != ranked[-1]):
            rest += " …" if _columns(line + rest) <= _WIDTH - 2 else ""
            break
        rest += item
    return line + rest


def whole_percents(shares: Mapping[str, float]) -> dict[str, int]:
    """Rounds shares so that they still sum to 100.

    Those that lose most by rounding down are rounded up.

    Example:

    >>> whole_percents({"gym": 0.369, "walk": 0.366, "work": 0.265})
    {'gym': 37, 'walk': 37, 'work': 26}
    """
    whole = {name: int(100 * share) for name, share in shares.items()}
    lost = {name: 100 * share - whole[name] for name, share in shares.items()}
    missing = round(100 * sum(shares.values())) - sum(whole.values())
    for name in sorted(lost, key=lambda x: -lost[x])[: max(0, missing)]:
        whole[name] += 1
    return whole


class JsonLines:
    """Prints a JSON object per video, one per line."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names

    def close(self) -> None:
        """Does nothing: every line is by itself."""

    def __call__(self, found: Prediction) -> None:
        print(json.dumps(_as_json(found), allow_nan=False), flush=True)


class Csv:
    """Prints CSV that is safe to open in a spreadsheet."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        header = ["file", "prediction", "confidence", *class_names, "reason"]
        columns = map(printable, [*header, _ACCEPTED, _REFUSAL])
        self.writer.writerow(map(guarded, columns))

    def close(self) -> None:
        """Does nothing: every row is by itself."""

    def __call__(self, found: Prediction) -> None:
        shares = found.probabilities or {}
        row = [
            guarded(printable(found.name)),
            guarded(printable(found.label)),
        ]
        row += [] if found.failed else [str(found.confidence)]
        row += [""] * found.failed
        row += [str(shares.get(name, "")) for name in self.class_names]
        accepted = "" if found.failed else str(found.accepted).lower()
        row += [guarded(printable(_reason(found))), accepted, found.refusal]
        self.writer.writerow(row)
        sys.stdout.flush()


def _reason(found: Prediction) -> str:
    """Returns what is to be said of a video, and of what wasn't written."""
    return "; ".join(filter(None, (found.reason, found.unwritten)))


def _as_json(found: Prediction) -> dict[str, Any]:
    if found.failed:
        return {"file": printable(found.name), "error": found.reason}
    delay = {"delay_seconds": found.delay_seconds}
    return {
        **(delay if found.delay_seconds is not None else {}),
        "file": printable(found.name),
        "prediction": found.label,
        "confidence": found.confidence,
        "probabilities": found.probabilities,
        "seconds": found.seconds,
        "segments": [asdict(segment) for segment in found.segments],
        "reason": _reason(found),
        _ACCEPTED: found.accepted,
        _REFUSAL: found.refusal,
        "distance": found.distance,
    }


PRINTERS: dict[str, type[Table] | type[JsonLines] | type[Csv]] = {
    "table": Table,
    "json": JsonLines,
    "csv": Csv,
}
"""The output formats of `predict`."""
