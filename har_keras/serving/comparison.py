"""How exported models compare with Keras: size, time, answers."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_ROUNDS = 15
_BATCH_SIZE = 8


@dataclass(frozen=True)
class Measured:
    """A line of the table.

    Args:
        name: str. The format.
        size_bytes: int. Of all its files.
        latency_ms: float. Median for one clip, in milliseconds.
        clips_per_second: float. In batches of 8, from the median.
        time_ratio: float. Time of a batch of 8 by the first model's, the
            median of the rounds.
        difference: float. Largest, of any probability, from Keras.
        agreement: float. Share of the clips with Keras's top label.
        accuracy: float or None. On the test videos, if there are some.
    """

    name: str
    size_bytes: int
    latency_ms: float
    clips_per_second: float
    time_ratio: float
    difference: float
    agreement: float
    accuracy: float | None


def compare(
    models: Mapping[str, tuple[Path, Any]],
    clips: np.ndarray,
    accuracy_of: Callable[[Any], float | None] | None = None,
) -> list[Measured]:
    """Measures models on the same clips, in turn so that all fare alike.

    Args:
        models: Mapping from a name to its file or folder and the model. The
            first is what the others are compared with.
        clips: uint8 array of shape `(B, T, crop_size, crop_size, 3)`.
        accuracy_of: Callable or None. From a model to its test accuracy.

    Returns:
        A `Measured` for each model.
    """
    batch = np.resize(clips, (_BATCH_SIZE, *clips.shape[1:]))
    singles = _seconds(models, clips[:1])
    batches = _seconds(models, batch)
    first = next(iter(batches.values()))
    answers = {
        name: np.asarray(model.predict_on_batch(clips))
        for name, (_, model) in models.items()
    }
    expected = next(iter(answers.values()))
    return [
        Measured(
            name=name,
            size_bytes=size_of(path),
            latency_ms=1000 * float(np.median(singles[name])),
            clips_per_second=_BATCH_SIZE / float(np.median(batches[name])),
            time_ratio=float(np.median(batches[name] / first)),
            difference=float(np.abs(answers[name] - expected).max()),
            agreement=float(
                (answers[name].argmax(1) == expected.argmax(1)).mean()
            ),
            accuracy=accuracy_of(model) if accuracy_of else None,
        )
        for name, (path, model) in models.items()
    ]


def _seconds(
    models: Mapping[str, tuple[Path, Any]], clips: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the times of each model for some clips, one a round."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for _, model in models.values():
        model.predict_on_batch(clips)
    for _ in range(_ROUNDS):
        for name, (_, model) in models.items():
            began = time.perf_counter()
            model.predict_on_batch(clips)
            times[name].append(time.perf_counter() - began)
    return {name: np.array(taken) for name, taken in times.items()}


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of every file in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def comparison_page(
    rows: Sequence[Measured], machine: str, refused: Sequence[str] = ()
) -> str:
    """Returns `formats.md`: the table, and what its columns mean.

    Args:
        rows: Sequence of Measured. A line each.
        machine: str. Where the times were taken.
        refused: Sequence of str. A sentence for each format that was not
            published.
    """
    lines = [
        "# Formats of this run",
        "",
        "| format | size, MB | 1 clip, ms | 8 clips, clips/s | time of "
        "Keras's | largest difference | same top label | test accuracy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        accuracy = "" if row.accuracy is None else f"{row.accuracy:.3f}"
        lines.append(
            f"| {row.name} | {row.size_bytes / 1e6:.2f} | "
            f"{row.latency_ms:.1f} | {row.clips_per_second:.0f} | "
            f"{row.time_ratio:.2f} | {row.difference:.1e} | "
            f"{row.agreement:.1%} | {accuracy} |"
        )
    lines += [
        "",
        f"Times are medians of {_ROUNDS} rounds in turn, on {machine}; that of "
        "8 clips is also given as a part of the time of Keras's `predict`. "
        "The difference is that of a probability from Keras's, in the same "
        "process.",
        "",
    ]
    if refused:
        lines += ["## Not published", "", *(f"- {x}" for x in refused), ""]
    return "\n".join(lines)
