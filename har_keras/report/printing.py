"""Prints predictions: a table for people, JSON lines or CSV."""

import csv
import json
import sys
from dataclasses import asdict
from typing import Any

from har_keras.inference.classifier import Prediction
from har_keras.manifest.formats.cells import guarded
from har_keras.terminal import printable


class Table:
    """Prints a line per video, and its segments below it."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names

    def __call__(self, found: Prediction) -> None:
        if found.failed:
            return
        assert found.probabilities is not None
        shares = "  ".join(
            f"{printable(name)} {share:.3f}"
            for name, share in found.probabilities.items()
        )
        print(
            f"{printable(found.label):12} {found.confidence:4.0%}  "
            f"{printable(found.name)}  [{shares}]{_delay(found)}"
        )
        for segment in found.segments:
            print(
                f"    {segment.start_seconds:8.1f} s to "
                f"{segment.end_seconds:8.1f} s  "
                f"{printable(segment.label):12} {segment.score:4.0%}"
            )
        sys.stdout.flush()


class JsonLines:
    """Prints a JSON object per video, one per line."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names

    def __call__(self, found: Prediction) -> None:
        print(json.dumps(_as_json(found), allow_nan=False), flush=True)


class Csv:
    """Prints CSV that is safe to open in a spreadsheet."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.writer = csv.writer(sys.stdout, lineterminator="\n")
        header = ["file", "prediction", "confidence", *class_names, "reason"]
        self.writer.writerow(map(guarded, header))

    def __call__(self, found: Prediction) -> None:
        shares = found.probabilities or {}
        row = [
            guarded(printable(found.name)),
            guarded(printable(found.label)),
        ]
        row += [] if found.failed else [str(found.confidence)]
        row += [""] * found.failed
        row += [str(shares.get(name, "")) for name in self.class_names]
        self.writer.writerow([*row, guarded(printable(_reason(found)))])
        sys.stdout.flush()


def _delay(found: Prediction) -> str:
    """Returns the time and the delay of a live prediction."""
    if found.delay_seconds is None:
        return ""
    return f"  at {found.seconds:.1f} s, {found.delay_seconds:.2f} s behind"


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
    }


PRINTERS: dict[str, type[Table] | type[JsonLines] | type[Csv]] = {
    "table": Table,
    "json": JsonLines,
    "csv": Csv,
}
"""The output formats of `predict`."""
