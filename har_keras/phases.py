"""What the phases of a training take, in time and processor time."""

import contextlib
import csv
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from har_keras.files import whole_file
from har_keras.progress import duration

logger = logging.getLogger("har_keras")

_SHORT_SECONDS = 1.0


@dataclass(frozen=True)
class Phase:
    """A phase that ended.

    Args:
        name: str. What was done, such as "decoding".
        began: float. When it began, in seconds since 1970.
        wall_seconds: float. How long it took.
        cpu_seconds: float. Processor time of this process and of the ended
            ones that it started.
    """

    name: str
    began: float
    wall_seconds: float
    cpu_seconds: float

    @property
    def ended(self) -> float:
        """When it ended, in seconds since 1970."""
        return self.began + self.wall_seconds


class Phases:
    """Times the phases of a training, one after the other.

    Example:

    >>> phases = Phases()
    >>> with phases("decoding"):
    ...     pass
    >>> [phase.name for phase in phases.ended]
    ['decoding']
    """

    def __init__(self) -> None:
        self.ended: list[Phase] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Times what is done inside.

        Args:
            name: str. What that is, in a word or two.
        """
        began, wall, cpu = time.time(), time.monotonic(), _cpu_seconds()
        yield
        took = time.monotonic() - wall
        self.ended.append(Phase(name, began, took, _cpu_seconds() - cpu))

    def __str__(self) -> str:
        """A sentence for people; phases of less than a second are left out."""
        total = sum(phase.wall_seconds for phase in self.ended)
        long = ", ".join(
            f"{phase.name} {duration(phase.wall_seconds)}"
            for phase in self.ended
            if phase.wall_seconds >= _SHORT_SECONDS
        )
        return f"Took {duration(total)}" + (f": {long}." if long else ".")

    def write(self, file: Path) -> None:
        """Writes a CSV file of the phases, a row each."""
        with whole_file(file) as new, new.open("w", newline="") as out:
            writer = csv.DictWriter(out, [x.name for x in fields(Phase)])
            writer.writeheader()
            writer.writerows(map(asdict, self.ended))

    @classmethod
    def read(cls, file: Path) -> "Phases":
        """Reads what `write` wrote."""
        phases = cls()
        with file.open(newline="") as rows:
            for row in csv.DictReader(rows):
                name, *numbers = row.values()
                phases.ended.append(Phase(name, *map(float, numbers)))
        return phases


def _cpu_seconds() -> float:
    """Returns processor time, with that of ended child processes."""
    times = os.times()
    return sum(times[:4])
